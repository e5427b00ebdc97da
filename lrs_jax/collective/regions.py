r"""How many outputs survive flips at the same time, from exact regions (host).

Budgets of flips are small integers, and cells are few: all ways in which an adversary can split one
over the cells are enumerated, and under each of them every output falls or not by the exact
certificate of its group, `noise.regions`. Nothing is linear here, no relaxation, and no solver.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np
from jax.typing import ArrayLike

from lrs_jax.noise import regions

MOST_SPLITS = 10_000
"""Splits that are looked at, of all budgets together: of one kind first, and of small ones."""


def certified_flips(
  theta_plus: ArrayLike,
  theta_minus: ArrayLike,
  groups: ArrayLike,
  q_lower: ArrayLike,
  budgets: ArrayLike,
  *,
  most_splits: int = MOST_SPLITS,
) -> np.ndarray:
  r"""Lower bounds on the number of outputs that survive flips, int64 [B].

  .. math:: N - \max_{a, d} \#\{ n : q_n \le q^*_{g(n)}(a, d) \} \quad \text{over} \quad
    \textstyle\sum_c a_c = A , \; \sum_c d_c = D ,

  with :math:`q^*` of `regions.required_probability`, which never falls as flips are added: so
  budgets are spent whole. Where no output of a smaller budget survives, none does; where there are
  more splits than `most_splits` leaves, the answer is 0, which is true of any budget.

  Args:
    theta_plus: [G, C], as of `noise.flips`.
    theta_minus: [G, C].
    groups: int [N].
    q_lower: [N], lower bounds on the predictions' probabilities; of 1/2 and less, none survives.
    budgets: [B, 2], additions and deletions, which are rounded up.
    most_splits: of all budgets together.

  Example:
    >>> q, budgets = [0.9, 0.9, 0.9], [[0, 0], [1, 0], [2, 0]]
    >>> near_and_far = [[0.2, 0.45], [0.45, 0.2]]  # one addition breaks only what is near it
    >>> certified_flips(near_and_far, near_and_far, [0, 0, 1], q, budgets)
    array([3, 3, 1])

  References: Schuchardt et al. 2023 (arXiv 2210.16140), section 4, for one budget and all outputs.
  """
  plus, minus = np.asarray(theta_plus, np.float64), np.asarray(theta_minus, np.float64)
  groups, q_lower = np.asarray(groups), np.asarray(q_lower, np.float64)
  num_cells = plus.shape[1]
  ordered = {g: np.sort(q_lower[groups == g]) for g in np.unique(groups).tolist()}
  whole = np.ceil(np.asarray(budgets, np.float64)).astype(np.int64)
  numbers = [
    math.prod(math.comb(int(b) + num_cells - 1, num_cells - 1) for b in bs) for bs in whole
  ]
  certified, lost = np.zeros(len(whole), np.int64), list[np.ndarray]()
  for i in np.lexsort((numbers, np.count_nonzero(whole, axis=1))):
    if any((whole[i] >= budget).all() for budget in lost):
      continue
    most_splits -= numbers[i]
    if most_splits < 0:
      break
    most = 0
    for split in itertools.product(*(_splits(int(b), num_cells) for b in whole[i])):
      fallen = 0
      for g, q in ordered.items():
        required = regions.required_probability(plus[g], minus[g], *split)
        fallen += int(np.searchsorted(q, required, side="right"))
      most = max(most, fallen)
    certified[i] = q_lower.size - most
    if most == q_lower.size:
      lost.append(whole[i])
  return certified


def _splits(budget: int, num_cells: int) -> Iterator[tuple[int, ...]]:
  """All ways to spend a budget on cells.

  Example:
    >>> list(_splits(2, 2))
    [(0, 2), (1, 1), (2, 0)]
  """
  for bars in itertools.combinations(range(budget + num_cells - 1), num_cells - 1):
    ends = (-1, *bars, budget + num_cells - 1)
    yield tuple(end - start - 1 for start, end in itertools.pairwise(ends))
