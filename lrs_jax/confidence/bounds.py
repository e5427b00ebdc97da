r"""Confidence bounds on what was sampled, in float64 on the host, rounded towards the sound side.

Votes have Clopper & Pearson's bound. Scores, multiples of 1/255 in [0, 1], have four bounds on
their mean (from below) and their variance (from above), which hold together with probability
:math:`1 - \alpha`: *kl*, *bernstein* and *mixed* of the sums of x and x^2, *dkw* of a histogram.

Of 510 settings of `benchmarks/results/bounds.md` in which scores certify anything, *mixed* gives
the greatest eta in 366, *kl* in 138 (scores that are mostly 0 or 1, and S = 100), *dkw* in 6 and
*bernstein*, always behind *mixed*, in none. Votes are better than any of these as long as the score
stays above 1/2 and they agree. Hence the default of `certificates.from_scores`: votes, kl or mixed,
by the selection samples.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy import special

LEVELS = 255
"""Scores are multiples of 1 / LEVELS."""


def clopper_pearson_lower(successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike) -> np.ndarray:
  r"""One-sided lower confidence bound on a binomial probability, rounded down (host).

  :math:`\underline{p} = \mathrm{BetaInv}(\alpha;\, k,\, S - k + 1)`, and 0 for k = 0: the smallest
  p for which :math:`P[\mathrm{Bin}(S, p) \ge k] \ge \alpha`.

  Args:
    successes: k, integers in [0, S], else `ValueError`.
    trials: S.
    alpha: one-sided probability that the bound exceeds the truth, in [0, 1), else `ValueError`; at
      0 the bound is 0. The arguments are broadcast; the bound is float64.

  Example:
    >>> clopper_pearson_lower([0, 100], 100, alpha=0.05)
    array([0.        , 0.97048695])

  References: Clopper & Pearson 1934, Biometrika 26(4).
  """
  k, trials, alpha = np.broadcast_arrays(successes, trials, _checked(alpha))
  _check_counts("successes", k, trials)
  lower = special.betaincinv(np.maximum(k, 1), trials - k + 1, alpha)
  # betaincinv was found good to 6e-14 for S under 1e4 and 2e-11 at S = 1e7 (k = 30), relatively.
  lower = lower * (1 - 1e-12 * (1 + np.sqrt(trials) / 50))
  return np.where(k > 0, lower, 0.0)


def binomial_p_value(successes: ArrayLike, trials: ArrayLike, threshold: ArrayLike) -> np.ndarray:
  r"""P-value of the hypothesis that a binomial probability is at most a fixed threshold (host).

  :math:`P[\mathrm{Bin}(S, t) \ge k] = I_t(k, S - k + 1)`, rounded up.

  Args:
    successes: k, integers in [0, S], else `ValueError`.
    trials: S.
    threshold: t in [0, 1], fixed before sampling.

  Example:
    >>> f"{binomial_p_value(8, 10, 0.5):.4f}"
    '0.0547'
  """
  k, trials, t = np.broadcast_arrays(successes, trials, np.asarray(threshold, np.float64))
  _check_counts("successes", k, trials)
  p_value = special.betainc(np.maximum(k, 1), trials - k + 1, t)
  # betainc is good to 1e-9, relatively, but may be zero where the truth is as large as 1e-243.
  return np.where(k > 0, np.minimum(p_value * (1 + 1e-6) + 1e-100, 1.0), 1.0)


class ScoreBounds(NamedTuple):
  """What holds of a score together, with probability 1 - alpha."""

  mean: np.ndarray  # float64 [N]: lower bound on the expectation
  variance: np.ndarray  # float64 [N]: upper bound on the variance, 1/4 at most


def score_bounds_kl(
  total: ArrayLike,
  squares: ArrayLike,
  trials: ArrayLike,
  alpha: ArrayLike,
  *,
  center: ArrayLike,
  mean_share: float = 0.5,
) -> ScoreBounds:
  r"""Chernoff–KL bounds on the mean and the variance of scores (host).

  The mean is at least the p under the sample mean :math:`\hat m` at which
  :math:`S\,\mathrm{kl}(\hat m, p) = \ln(1/\alpha_1)`. For any fixed c, the variance is at most
  :math:`E(x - c)^2 = M^2 (1 - E y)` with :math:`M = \max(c, 1 - c)` and
  :math:`y = 1 - (x - c)^2 / M^2 \in [0, 1]`, whose mean is bounded from below alike, at
  :math:`\alpha_2 = \alpha - \alpha_1`.

  Args:
    total: sum of x [N], in units of 1/255.
    squares: sum of x^2 [N], in units of 1/255^2.
    trials: S.
    alpha: probability that a bound fails, scalar or [N], in [0, 1).
    center: c [N], integers in [0, 255], fixed before these samples: from the selection samples.
    mean_share: the part of alpha that the mean gets; at 1 the variance is left at 1/4.

  Raises:
    ValueError: sums that are no sums of S scores, or alpha outside [0, 1).

  Example:
    >>> score_bounds_kl([230 * 100], [230**2 * 100], 100, 1e-3, center=[230])
    ScoreBounds(mean=array([0.74831138]), variance=array([0.05954425]))

  References: Hoeffding 1963, JASA 58(301), theorem 1, equation 2.1.
  """
  total, squares, trials, alpha = _checked_sums(total, squares, trials, alpha)
  center = np.broadcast_to(np.asarray(center, np.int64), total.shape)
  if not ((center >= 0) & (center <= LEVELS)).all():
    raise ValueError(f"`center` must lie in [0, {LEVELS}], but it is {center}.")
  mean = _kl_lower(total, trials * LEVELS, trials, alpha * mean_share)
  reach = np.maximum(center, LEVELS - center) ** 2
  scattered = squares - 2 * center * total + trials * center**2
  close = _kl_lower(trials * reach - scattered, trials * reach, trials, alpha * (1 - mean_share))
  variance = (1 - close) * (reach / LEVELS**2) * (1 + 1e-14)
  return ScoreBounds(mean, np.minimum(variance, 0.25))


def score_bounds_bernstein(
  total: ArrayLike, squares: ArrayLike, trials: ArrayLike, alpha: ArrayLike
) -> ScoreBounds:
  r"""Empirical Bernstein bounds on the mean and the variance of scores (host).

  With the sample variance V and :math:`L = \ln(2/\alpha)`, both of :math:`\sigma \le \sqrt{V} +
  \sqrt{2L/(S-1)} =: \bar\sigma` (1/2 at most) and :math:`m \ge \hat m - \sigma\sqrt{2L/S} -
  L/(3S)` fail with probability :math:`\alpha/2`, so that :math:`\bar\sigma^2` bounds the variance
  and :math:`\hat m - \bar\sigma\sqrt{2L/S} - L/(3S)` the mean.

  Arguments and errors are those of `score_bounds_kl`.

  Example:
    >>> score_bounds_bernstein([230 * 100], [230**2 * 100], 100, 1e-3)
    ScoreBounds(mean=array([0.72384055]), variance=array([0.15355359]))

  References:
    Maurer & Pontil 2009 (arXiv 0907.3740), theorems 3, 4 and 10; the bound on the mean is theorem 4
    before its last simplification.
  """
  total, squares, trials, alpha = _checked_sums(total, squares, trials, alpha)
  # In Python's integers: S squares - total^2 needs more than 64 bits from about S = 1e7.
  exact = trials.astype(object) * squares.astype(object) - total.astype(object) ** 2
  scatter = np.asarray(exact, np.float64)
  with np.errstate(divide="ignore", invalid="ignore"):
    sample_std = np.sqrt(scatter / (trials * (trials - 1.0))) / LEVELS
    std = (sample_std + np.sqrt(-2 * np.log(alpha / 2) / (trials - 1.0))) * (1 + 1e-14)
  std = np.where(trials > 1, np.minimum(std, 0.5), 0.5)
  variance = np.minimum(std**2 * (1 + 1e-15), 0.25)
  return ScoreBounds(_bernstein_lower(total, trials, alpha, std), variance)


def score_bounds_mixed(
  total: ArrayLike, squares: ArrayLike, trials: ArrayLike, alpha: ArrayLike, *, center: ArrayLike
) -> ScoreBounds:
  r"""The variance as in `score_bounds_kl`, and with it Bernstein's inequality for the mean (host).

  :math:`m \ge \hat m - \sqrt{2 \bar v L / S} - L / (3S)` with :math:`L = \ln(2/\alpha)`, where
  :math:`\bar v` bounds the variance; each of the two fails with probability :math:`\alpha/2`.

  Arguments and errors are those of `score_bounds_kl`.

  Example:
    >>> score_bounds_mixed([230 * 100], [230**2 * 100], 100, 1e-3, center=[230])
    ScoreBounds(mean=array([0.78148349]), variance=array([0.05954425]))

  References: Maurer & Pontil 2009 (arXiv 0907.3740), theorem 3; Hoeffding 1963, theorem 1.
  """
  variance = score_bounds_kl(total, squares, trials, alpha, center=center).variance
  total, _, trials, alpha = _checked_sums(total, squares, trials, alpha)
  return ScoreBounds(_bernstein_lower(total, trials, alpha, np.sqrt(variance)), variance)


def score_bounds_dkw(histogram: ArrayLike, alpha: ArrayLike) -> ScoreBounds:
  r"""Bounds on the mean and the variance of scores from a band around their distribution (host).

  With probability :math:`1 - \alpha` the distribution function stays within :math:`\varepsilon =
  \sqrt{\ln(2/\alpha) / 2S}` of the empirical one, :math:`\hat F - \varepsilon \le F \le \hat F +
  \varepsilon`, so that :math:`m \ge \frac{1}{255} \sum_{j < 255} (1 - \min(\hat F_j + \varepsilon,
  1))`, and for every c at once

  .. math:: v \le \frac{1}{255^2} \Big( \sum_{j < c} (2(c - j) - 1) \min(\hat F_j + \varepsilon, 1)
     + \sum_{j \ge c} (2(j - c) + 1) (1 - \max(\hat F_j - \varepsilon, 0)) \Big),

  the greatest :math:`E(x - c)^2` in the band, of which the least over c in 0, ..., 255 is taken.

  Args:
    histogram: samples of each score [N, 256], else `ValueError`.
    alpha: probability that the band is left, scalar or [N], in [0, 1), else `ValueError`.

  Example:
    >>> score_bounds_dkw(np.eye(256)[230:231] * 100, 1e-3)
    ScoreBounds(mean=array([0.72612582]), variance=array([0.13991882]))

  References:
    Massart 1990, Annals of Probability 18(3), corollary 1; Schuchardt et al. 2023 (arXiv
    2210.16140), appendix on Monte Carlo certification, use the same band.
  """
  histogram = np.asarray(histogram)
  if histogram.ndim != 2 or histogram.shape[1] != LEVELS + 1:
    raise ValueError(f"`histogram` must have shape [N, 256], but its shape is {histogram.shape}.")
  trials = histogram.sum(axis=1)
  alpha = np.broadcast_to(_checked(alpha), trials.shape)
  with np.errstate(divide="ignore", invalid="ignore"):
    half_width = np.sqrt(-np.log(alpha / 2) / (2 * trials)) * (1 + 1e-14)
    empirical = np.cumsum(histogram, axis=1)[:, :-1] / trials[:, None]
  half_width = np.where((trials > 0) & (alpha > 0), half_width, 2.0)
  empirical = np.where(trials[:, None] > 0, empirical, 0.0)
  upper = np.minimum(empirical + half_width[:, None], 1.0)
  survival = np.minimum(1 - empirical + half_width[:, None], 1.0)
  mean = (1 - upper).sum(axis=1) / LEVELS - 1e-14
  score, center = np.arange(LEVELS)[:, None], np.arange(LEVELS + 1)
  left = np.maximum(2 * (center - score) - 1, 0).astype(np.float64)
  right = np.maximum(2 * (score - center) + 1, 0).astype(np.float64)
  variance = (upper @ left + survival @ right).min(axis=1) / LEVELS**2 + 1e-13
  return ScoreBounds(np.maximum(mean, 0.0), np.minimum(variance, 0.25))


def _bernstein_lower(
  total: np.ndarray, trials: np.ndarray, alpha: np.ndarray, std: np.ndarray
) -> np.ndarray:
  """Lower bound on the mean of scores by Bernstein's inequality at alpha / 2, given their std."""
  with np.errstate(divide="ignore", invalid="ignore"):
    log_term = -np.log(alpha / 2) / trials
    mean = total / (trials * LEVELS) * (1 - 1e-15)
    lower = mean - (std * np.sqrt(2 * log_term) + log_term / 3) * (1 + 1e-14)
  return np.where((trials > 0) & (alpha > 0), np.maximum(lower, 0.0), 0.0)


def _kl_lower(
  total: np.ndarray, size: np.ndarray, trials: np.ndarray, alpha: np.ndarray
) -> np.ndarray:
  """Lower bound on the mean of variables in [0, 1] whose sample mean is total / size."""
  safe = np.maximum(size, 1)
  mean, rest = total / safe, (size - total) / safe
  with np.errstate(divide="ignore"):
    needed = -np.log(alpha) / np.maximum(trials, 1)
  low, high = np.zeros(mean.shape), mean
  for _ in range(60):
    middle = (low + high) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
      one = np.where(mean > 0, mean * np.log(mean / middle), 0.0)
      other = np.where(rest > 0, rest * np.log(rest / (1 - middle)), 0.0)
    sure = one + other - 1e-15 * (1 + np.abs(one) + np.abs(other)) >= needed
    low, high = np.where(sure, middle, low), np.where(sure, high, middle)
  return np.where(trials > 0, low, 0.0)


def _checked(alpha: ArrayLike) -> np.ndarray:
  alpha = np.asarray(alpha, np.float64)
  if not ((alpha >= 0) & (alpha < 1)).all():
    raise ValueError(
      f"`alpha` must lie in [0, 1), but it ranges from {alpha.min()} to {alpha.max()}."
    )
  return alpha


def _check_counts(name: str, count: np.ndarray, trials: np.ndarray) -> None:
  if not ((count >= 0) & (count <= trials) & (count == np.floor(count))).all():
    raise ValueError(
      f"`{name}` must be integers in [0, S], but they range from {count.min()} to {count.max()}, "
      f"and S from {trials.min()} to {trials.max()}."
    )


def _checked_sums(
  total: ArrayLike, squares: ArrayLike, trials: ArrayLike, alpha: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  sums = (np.asarray(part, np.int64) for part in (total, squares, trials))
  total, squares, trials, alpha = np.broadcast_arrays(*sums, _checked(alpha))
  _check_counts("total", total, trials * LEVELS)
  _check_counts("squares", squares, np.minimum(trials * LEVELS**2, total * LEVELS))
  return total, squares, trials, alpha
