"""Confidence bounds on what was sampled, in float64 on the host, rounded towards the sound side."""

import numpy as np
from jax.typing import ArrayLike
from scipy import special


def clopper_pearson_lower(successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike) -> np.ndarray:
  r"""One-sided lower confidence bound on a binomial probability (host).

  :math:`\underline{p} = \mathrm{BetaInv}(\alpha;\, k,\, S - k + 1)`, and 0 for k = 0: the smallest
  p for which :math:`P[\mathrm{Bin}(S, p) \ge k] \ge \alpha`.

  Args:
    successes: k, integers in [0, S].
    trials: S.
    alpha: one-sided probability that the bound exceeds the truth, in (0, 1).

  Returns:
    float64, broadcast over the arguments, rounded down.

  Raises:
    ValueError: successes that are not integers in [0, S], or alpha outside (0, 1).

  Example:
    >>> clopper_pearson_lower([0, 100], 100, alpha=0.05)
    array([0.        , 0.97048695])

  References:
    Clopper & Pearson 1934, Biometrika 26(4).
  """
  k, trials, alpha = np.broadcast_arrays(successes, trials, np.asarray(alpha, np.float64))
  if not ((k >= 0) & (k <= trials) & (k == np.floor(k))).all():
    raise ValueError(
      "`successes` must be integers between 0 and `trials`, "
      f"but they range from {k.min()} to {k.max()} of {trials.min()} to {trials.max()} trials."
    )
  if not ((alpha > 0) & (alpha < 1)).all():
    raise ValueError(f"`alpha` must lie in (0, 1), but it ranges from {alpha.min()}.")
  lower = special.betaincinv(np.maximum(k, 1), trials - k + 1, alpha)
  # betaincinv is good to 4e-13 at S = 1e7 and to 1e-15 at S = 1e4, relatively.
  lower = np.maximum(lower * (1 - 1e-15 * (16 + np.sqrt(trials))), 0.0)
  return np.where(k > 0, lower, 0.0)


def bonferroni(alpha: float, num_outputs: int) -> float:
  r"""The level at which each of N bounds must hold for all to hold together (host).

  :math:`\alpha' = \alpha / N`, rounded down: valid under any dependence between the outputs.

  Args:
    alpha: joint error probability, in (0, 1).
    num_outputs: N.

  Returns:
    The level of each bound.

  Example:
    >>> f"{bonferroni(0.01, 100):.1e}"
    '1.0e-04'
  """
  return float(np.nextafter(alpha / max(num_outputs, 1), 0.0))
