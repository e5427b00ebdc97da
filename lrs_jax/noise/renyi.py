r"""Base certificates of flips by Rényi divergences of any order (host).

The variance-constrained certificate of hard votes is a bound by the divergence of order 2, since
:math:`\ln E_x[L^2] = D_2(P_{x'} \| P_x)`. The divergence of independent flips is a sum over
entries, and no test h changes its expectation from q to 1/2 or less at a smaller divergence than
the binary one:

.. math:: \sum_a \sum_c W_{a,g,c}\, b_{a,c} = D_\alpha(P_{x'} \| P_x) < \eta_n =
   d_\alpha(\tfrac12 \| q_n) .

Orders near 1 are better against flips that are rare in the noise, large ones against frequent
flips. All orders follow from the same bound on q: certificates of several orders hold together at
no cost in alpha, so that each budget may take the best of them.
"""

import numpy as np
from jax.typing import ArrayLike


def flip_weights(theta_plus: ArrayLike, theta_minus: ArrayLike, order: float) -> np.ndarray:
  r"""Divergence that one flip causes, :math:`D_\alpha(P_{x'} \| P_x)` of an entry, rounded up.

  With p the probability that the noise shows a 1 at x and a the same at x', it is
  :math:`\frac{1}{\alpha - 1} \ln(a^\alpha p^{1-\alpha} + (1-a)^\alpha (1-p)^{1-\alpha})`. For an
  addition :math:`p = \theta_+, a = 1 - \theta_-`, for a deletion the other way round: [2, G, C].

  The probabilities [G, C] are those of `flips` (a hidden cell has weight 0). Of orders alpha > 0,
  else `ValueError`, 1 is the Kullback–Leibler divergence, inf the largest log-ratio.

  Example:
    >>> flip_weights([[0.1]], [[0.1]], 2.0).round(6).ravel()  # ln(0.81 / 0.1 + 0.01 / 0.9)
    array([2.093235, 2.093235])

  References:
    van Erven & Harremoës 2014 (arXiv 1206.2459), theorems 1, 9 (data processing) and 28
    (additivity).
  """
  plus, minus = np.asarray(theta_plus, np.float64), np.asarray(theta_minus, np.float64)
  additions = _divergence(1 - minus, minus, plus, 1 - plus, order, 1)
  deletions = _divergence(plus, 1 - plus, 1 - minus, minus, order, 1)
  return np.where((plus == 0) & (minus == 1), 0.0, np.stack([additions, deletions]))


def eta(q_lower: ArrayLike, order: float) -> np.ndarray:
  r"""Divergence at which a prediction of probability q may fall, :math:`d_\alpha(1/2 \| q)`.

  It is rounded down, and 0 where q <= 1/2. `q_lower` [N] are lower bounds on the probabilities, or
  on the means of scores in [0, 1], which are the probabilities of randomized votes; the order, and
  what is an error, are as in `flip_weights`.

  Example:
    >>> eta([0.4, 0.9], 2.0).round(6)  # -ln(4 q (1 - q))
    array([0.      , 1.021651])
  """
  q = np.clip(np.asarray(q_lower, np.float64), 0.5, 1.0)
  half = np.full(q.shape, 0.5)
  return np.where(q > 0.5, _divergence(half, half, q, 1 - q, order, -1), 0.0)


def _divergence(
  a: np.ndarray, not_a: np.ndarray, p: np.ndarray, not_p: np.ndarray, order: float, side: int
) -> np.ndarray:
  """Of order `order` from Bernoulli(p) to Bernoulli(a), rounded up (side 1) or down (-1).

  The logarithms' sum is good to some units in the last place of its terms, of which the division by
  order - 1 leaves `unit`; a side away from the result lies further than that.
  """
  if not order > 0:
    raise ValueError(f"`order` must be greater than 0, but it is {order}.")
  with np.errstate(divide="ignore", invalid="ignore"):
    pairs = [(np.log(a), np.log(p)), (np.log(not_a), np.log(not_p))]
    size = 1 + sum(np.where(np.isinf(part), 0.0, abs(part)) for pair in pairs for part in pair)
    unit = 2.0**-50 * size
    if order == 1:
      terms = [np.where(np.isneginf(x), 0.0, np.exp(x) * (x - y)) for x, y in pairs]
      value = terms[0] + terms[1]
    elif np.isinf(order):
      terms = [np.where(np.isneginf(x), -np.inf, x - y) for x, y in pairs]
      value = np.maximum(*terms)
    else:
      terms = [np.where(np.isneginf(x), -np.inf, order * x + (1 - order) * y) for x, y in pairs]
      value = np.logaddexp(*terms) / (order - 1)
      unit = unit * (1 + order) / abs(order - 1)
  return np.maximum(value + side * unit, 0.0)
