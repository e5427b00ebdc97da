r"""How many outputs survive flips at the same time, from exact regions (host).

Budgets of flips are small integers, and cells are few: all ways in which an adversary can split one
over the cells are enumerated, as far as any group can tell them apart, and under each of them every
output falls or not by the exact certificate of its group, `noise.regions`. Nothing is linear here,
no relaxation, and no solver.
"""

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
from jax.typing import ArrayLike

from lrs_jax.noise import regions

MOST_SPLITS = 20_000
"""Splits that are looked at, of all budgets together, beginning with those that have the fewest."""


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
  budgets are spent whole. A group sees of a split how many flips there are at each of its levels;
  splits that are the same to all groups are one. Where no output of a smaller budget survives, none
  does; where there are more splits than `most_splits` leaves, the answer is 0, true of any budget.

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
  if not q_lower.size:
    return np.zeros(np.shape(budgets)[:1], np.int64)
  ordered = {g: np.sort(q_lower[groups == g]) for g in np.unique(groups).tolist()}
  levels = {
    g: np.unique(np.stack([plus[g], minus[g]]), axis=1, return_inverse=True) for g in ordered
  }
  whole = np.ceil(np.asarray(budgets, np.float64)).astype(np.int64)
  # what a group sees of a split is how many flips there are at each of its levels
  cells = [np.eye(pairs.shape[1], dtype=np.int64)[i.ravel()] for pairs, i in levels.values()]
  parts = np.cumsum([len(pairs[0]) for pairs, _ in levels.values()])[:-1]
  seen = _sums(np.concatenate(cells, axis=1), most_splits)
  numbers = [math.prod(len(seen(b)) or math.inf for b in bs) for bs in whole.tolist()]
  certified, lost = np.zeros(len(whole), np.int64), list[np.ndarray]()
  for i in np.argsort(numbers, kind="stable"):
    if any((whole[i] >= budget).all() for budget in lost):
      continue
    most_splits -= numbers[i]
    if most_splits < 0:
      break
    fallen = np.zeros([len(seen(b)) for b in whole[i].tolist()], np.int64)
    splits = [np.split(seen(b), parts, axis=1) for b in whole[i].tolist()]
    for (g, q), *flips in zip(ordered.items(), *splits, strict=True):
      fallen += _fallen(q, levels[g][0], *flips)
    most = int(fallen.max(initial=0))
    certified[i] = q_lower.size - most
    if most == q_lower.size:
      lost.append(whole[i])
  return certified


def _fallen(
  q: np.ndarray, levels: np.ndarray, additions: np.ndarray, deletions: np.ndarray
) -> np.ndarray:
  """How many outputs of a group fall under all pairs of splits, as the group sees them.

  Args:
    q: lower bounds, sorted.
    levels: [2, L], probabilities of flips.
    additions: [R, L], numbers of flips at these levels.
    deletions: [T, L].

  Returns:
    int64 [R, T].
  """
  (additions, a), (deletions, d) = (
    np.unique(flips, axis=0, return_inverse=True) for flips in (additions, deletions)
  )
  thetas = tuple(map(tuple, levels.tolist()))
  pairs = itertools.product(map(tuple, additions.tolist()), map(tuple, deletions.tolist()))
  required = [_required(*thetas, *pair) for pair in pairs]
  fallen = np.searchsorted(q, required, side="right").reshape(len(additions), len(deletions))
  return fallen[a.reshape(-1, 1), d.reshape(1, -1)]


_required = functools.lru_cache(maxsize=100_000)(regions.required_probability)


def _sums(rows: np.ndarray, most: int) -> Callable[[int], np.ndarray]:
  """All different sums of b of the rows [C, L], by b: int [R, L]; no rows if there are too many.

  Example:
    >>> _sums(np.array([[1, 0], [1, 0], [0, 1]]), 9)(2)
    array([[0, 2],
           [1, 1],
           [2, 0]])
  """
  rows = np.unique(rows, axis=0)
  found = [np.zeros((1, rows.shape[1]), np.int64)]

  def sums(number: int) -> np.ndarray:
    while len(found) <= number:
      every = (found[-1][:, None] + rows).reshape(-1, rows.shape[1])
      found.append(np.unique(every, axis=0)[: 0 if len(every) > most * len(rows) else None])
      if len(found[-1]) > most:
        found[-1] = found[-1][:0]
    return found[number]

  return sums
