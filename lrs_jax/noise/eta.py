r"""Eta, the price at which a prediction may flip, for every family of noise (host).

=========  ===========================  =====================================================
family     from votes, q > 1/2          from scores of mean mu > 1/2 and variance v, bounded
=========  ===========================  =====================================================
gaussian   :math:`\Phi^{-1}(q)^2`       :math:`\max(\Phi^{-1}(\mu)^2, V)`
uniform    :math:`2q - 1`               :math:`2\mu - 1`
laplace    :math:`-\ln(2(1-q))`         :math:`\max(-\ln(2(1-\mu)), V)`
ablation   :math:`-\ln(3/2 - q)`        :math:`-\ln(3/2 - \mu)`
flips      :math:`-\ln(4q(1-q))`        :math:`V = \ln(1 + (\mu - 1/2)^2 / v)`
=========  ===========================  =====================================================

Elsewhere eta is 0: the smoothed model abstains. NumPy's and SciPy's functions are good to a few
units in the last place here, which `round_up` and `round_down` exceed.
"""

from collections.abc import Callable

import numpy as np
from jax.typing import ArrayLike
from scipy import special


def round_up(value: np.ndarray) -> np.ndarray:
  """A number above what was meant, if `value` >= 0 is good to 16 units in the last place.

  Example:
    >>> round_up(1.0) > 1
    True
  """
  return value * (1 + 2.0**-48)


def round_down(value: np.ndarray) -> np.ndarray:
  """A number below what was meant, if `value` >= 0 is good to 16 units in the last place.

  Example:
    >>> round_down(1.0) < 1
    True
  """
  return value * (1 - 2.0**-48)


def gaussian(q_lower: ArrayLike) -> np.ndarray:
  """Cohen et al. 2019 (arXiv 1902.02918), theorem 1, squared and in units of the scale.

  Example:
    >>> gaussian([0.5, 0.9]).round(4)
    array([0.    , 1.6424])
  """
  return _majority(q_lower, lambda q: special.ndtri(q) ** 2)


def gaussian_margin(q_lower: ArrayLike, others_lower: ArrayLike) -> np.ndarray:
  r"""The probability whose `gaussian` is that of a margin, rounded down.

  :math:`\Phi\left( \tfrac12 (\Phi^{-1}(q) - \Phi^{-1}(u)) \right)`, if the label has probability q
  at least, and every other class u at most: `others_lower` is 1 - u. Cohen et al. 2019 (arXiv
  1902.02918), theorem 1.

  Example:
    >>> gaussian_margin([0.5, 0.9], [0.7, 0.9]).round(4)  # the others: 0.3 and 0.1 at most
    array([0.6034, 0.9   ])
  """
  q, others = (np.clip(of, 0.0, 1.0) for of in (q_lower, others_lower))
  middle = special.ndtri(np.minimum(q, others)) / 2 + special.ndtri(np.maximum(q, others)) / 2
  return round_down(special.ndtr(middle))


def uniform(q_lower: ArrayLike) -> np.ndarray:
  """Yang et al. 2020 (arXiv 2002.08118), in units of the half-width.

  Example:
    >>> uniform([0.5, 0.9]).round(4)
    array([0. , 0.8])
  """
  return _majority(q_lower, lambda q: 2 * q - 1)


def laplace(q_lower: ArrayLike) -> np.ndarray:
  """Teng et al. 2020, theorem 1, in units of the scale.

  Example:
    >>> laplace([0.5, 0.9]).round(4)
    array([0.    , 1.6094])
  """
  return _majority(q_lower, lambda q: -np.log(2 * (1 - q)))


def ablation(q_lower: ArrayLike) -> np.ndarray:
  """Levine & Feizi 2020 (arXiv 1911.09272), theorem 1, in logarithms.

  Example:
    >>> ablation([0.5, 0.9]).round(4)
    array([0.    , 0.5108])
  """
  return _majority(q_lower, lambda q: -np.log(1.5 - q))


def flips(q_lower: ArrayLike) -> np.ndarray:
  """`variance` of a vote, an indicator, whose variance is q (1 - q).

  Example:
    >>> flips([0.5, 0.9]).round(4), variance(0.9, 0.09).round(4)
    (array([0.    , 1.0217]), np.float64(1.0217))
  """

  def eta(q: np.ndarray) -> np.ndarray:
    low, high = np.minimum(q, 0.75), np.maximum(q, 0.75)  # each formula where it does not cancel
    return np.where(q < 0.75, -np.log1p(-((2 * low - 1) ** 2)), -np.log(4 * high * (1 - q)))

  return _majority(q_lower, eta)


def variance(mean_lower: ArrayLike, variance_upper: ArrayLike) -> np.ndarray:
  """Schuchardt et al. 2023 (arXiv 2210.16140), appendix F: by Cauchy & Schwarz's inequality.

  Example:
    >>> variance([0.5, 0.9], [0.01, 0.01]).round(4)
    array([0.    , 2.8332])
  """

  def eta(mean: np.ndarray) -> np.ndarray:
    # Scores in [0, 1] of mean m >= mean > 1/2 have variance m (1 - m) <= mean (1 - mean) at most.
    least = np.minimum(np.asarray(variance_upper, np.float64), mean * (1 - mean))
    return np.log1p((mean - 0.5) ** 2 / np.where(np.isnan(least), np.inf, least))

  return _majority(mean_lower, eta)


def better(of_votes: Callable, mean_lower: ArrayLike, variance_upper: ArrayLike) -> np.ndarray:
  """The greater of a formula for votes, with the mean in the place of q, and `variance`.

  Example:
    >>> better(gaussian, [0.9, 0.9], [0.01, 0.09]).round(4)
    array([2.8332, 1.6424])
  """
  return np.maximum(of_votes(mean_lower), variance(mean_lower, variance_upper))


def mean_alone(of_votes: Callable, mean_lower: ArrayLike, variance_upper: ArrayLike) -> np.ndarray:
  """A formula for votes with the mean in the place of q; the variance is of no use.

  Example:
    >>> mean_alone(uniform, [0.9], [0.01]).round(4)
    array([0.8])
  """
  return of_votes(mean_lower)


def _majority(q_lower: ArrayLike, eta: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
  """Rounds eta(q) down, and abstains, eta = 0, where q <= 1/2 or is not a number."""
  q = np.asarray(q_lower, np.float64)
  certified = q > 0.5
  with np.errstate(divide="ignore", over="ignore"):
    value = eta(np.where(certified, np.minimum(q, 1.0), 1.0))
  return np.where(certified, np.maximum(round_down(value), 0.0), 0.0)
