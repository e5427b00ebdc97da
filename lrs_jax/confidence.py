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
    float64, broadcast over the arguments.

  Example:
    >>> clopper_pearson_lower([0, 100], 100, alpha=0.05)
    array([0.        , 0.97048695])

  References:
    Clopper & Pearson 1934, Biometrika 26(4).
  """
  k, trials, alpha = np.broadcast_arrays(successes, trials, np.asarray(alpha, np.float64))
  lower = special.betaincinv(np.maximum(k, 1), trials - k + 1, alpha)
  return np.where(k > 0, lower, 0.0)
