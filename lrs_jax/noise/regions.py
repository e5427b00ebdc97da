r"""What a prediction under flips must exceed to survive an attack, exactly (host).

An attack adds :math:`a_c` and deletes :math:`d_c` entries in every cell c. In each cell the noise
shows some of the added entries as 1 and of the deleted ones as 0; the likelihood of a noisy input
at x, over that at x', depends on these numbers :math:`i_c \in \{0, \dots, a_c + d_c\}` alone, and
is a product over the cells. So the space of noisy inputs falls into :math:`\prod_c (a_c + d_c + 1)`
regions of constant ratio, which the worst classifier fills from the largest ratio on (Neyman and
Pearson). With one cell, these are the regions of isotropic smoothing, `baselines.sparse_smoothing`.
"""

import functools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np


def required_probability(
  theta_plus: Sequence[float],
  theta_minus: Sequence[float],
  additions: Sequence[int],
  deletions: Sequence[int],
) -> float:
  r"""The probability that a prediction must exceed to survive an attack on several cells.

  With :math:`P(i) = \prod_c P_c(i_c)` the masses of the regions at x, and P' those at x', it is the
  largest mass at x of what holds one half at x'. That is a linear program; each t >= 0 bounds it
  from above,

  .. math:: \max_{0 \le h \le 1} \Big\{ \sum_i P(i) h_i : \sum_i P'(i) h_i \le \tfrac12 \Big\} =
    \min_{t \ge 0} \; \tfrac t2 + \sum_i \max(P(i) - t P'(i), 0) ,

  and the ratio of the region where the half is reached attains it.

  Args:
    theta_plus: probability of 0 to 1 in every cell, C numbers.
    theta_minus: probability of 1 to 0.
    additions: entries that are added in every cell, C integers >= 0.
    deletions: entries that are deleted.

  Returns:
    A number in [1/2, 1], rounded up: of the masses, products and sums, by what floats can lose.

  Example:
    >>> required_probability([0.25], [0.25], [1], [0])  # one is added: 5/6
    0.83333...
    >>> required_probability([0.25, 0.25], [0.25, 0.4], [1, 0], [0, 1])  # and one deleted
    0.91111...

  References:
    Bojchevski, Gasteiger & Günnemann 2020 (arXiv 2008.12952), section 4, for one cell, and lemma 1
    of Lee et al. 2019 (arXiv 1906.04948) for regions of constant ratio.
  """
  clean = attacked = np.ones(1)
  for numbers in zip(theta_plus, theta_minus, additions, deletions, strict=True):
    if numbers[2] or numbers[3]:
      mass, other = _masses(*map(float, numbers[:2]), *map(int, numbers[2:]))
      clean, attacked = np.outer(clean, mass).ravel(), np.outer(attacked, other).ravel()
  with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
    ratio = np.nan_to_num(clean / attacked, nan=0.0, posinf=np.inf)
  order = np.argsort(-ratio)
  half = np.searchsorted(attacked[order].cumsum(), 0.5)
  t = ratio[order[min(int(half), order.size - 1)]]
  if not np.isfinite(t):
    return 1.0
  found = t / 2 + np.maximum(clean - t * attacked, 0.0).sum()
  return float(min(1.0, found + (clean.size + 64) * 2.0**-52))


@functools.lru_cache(maxsize=100_000)
def _masses(plus: float, minus: float, a: int, d: int) -> tuple[np.ndarray, np.ndarray]:
  """P and P' of the regions of one cell, each the nearest float of what is exact."""
  p, m = Fraction(plus), Fraction(minus)
  trials = [*[(p, 1 - m)] * a, *[(m, 1 - p)] * d]
  sides = []
  for successes in zip(*trials, strict=True):
    masses = [Fraction(1)]
    for success in successes:
      pairs = zip([*masses, Fraction(0)], [Fraction(0), *masses], strict=True)
      masses = [stay * (1 - success) + move * success for stay, move in pairs]
    sides.append(np.array([float(mass) for mass in masses]))
  clean, attacked = sides
  return clean, attacked
