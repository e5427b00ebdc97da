"""Joint guarantees: one error probability alpha divided among N outputs (host)."""

import math
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike


class Levels(NamedTuple):
  """How a joint guarantee is divided among N bounds.

  With probability 1 - alpha, at most `forfeit` of the bounds fail: a collective certificate holds
  with so many of them given up, `collective.certify(..., forfeit=levels.forfeit)`.
  """

  alpha: np.ndarray  # float64 [N], the level of every bound
  forfeit: int  # so many of the bounds may fail


def bonferroni(alpha: float, num_outputs: int) -> Levels:
  r"""All bounds hold with probability :math:`1 - \alpha`, under any dependence (host).

  :math:`\alpha_n = \alpha / N`, and nothing is forfeited.

  Args:
    alpha: joint error probability, in (0, 1), else `ValueError`.
    num_outputs: N.

  Example:
    >>> bonferroni(0.01, 2)
    Levels(alpha=array([0.005, 0.005]), forfeit=0)
  """
  return k_fwer(alpha, num_outputs, 1)


def k_fwer(alpha: float, num_outputs: int, m: int) -> Levels:
  r"""Fewer than m bounds fail with probability :math:`1 - \alpha`, under any dependence (host).

  :math:`\alpha_n = \alpha m / N`: the expected number of failures is at most :math:`\alpha m`, so m
  or more have probability at most :math:`\alpha` by Markov's inequality. Any m - 1 outputs may be
  among the failures, so m - 1 must be subtracted from a certified count, as `collective.certify`
  does if it is given the `forfeit` that base certificates keep. Without that, it claims too much.

  Args:
    alpha: joint error probability, in (0, 1), else `ValueError`.
    num_outputs: N.
    m: in [1, N], else `ValueError`, fixed before the samples that are bounded; 1 is Bonferroni.

  Example:
    >>> k_fwer(0.01, 4, 2)
    Levels(alpha=array([0.005, 0.005, 0.005, 0.005]), forfeit=1)

  References: Lehmann & Romano 2005 (arXiv math/0507420), theorem 2.1.
  """
  if not isinstance(m, int | np.integer) or not 1 <= m <= max(num_outputs, 1):
    raise ValueError(f"`m` must be an integer in [1, N] = [1, {num_outputs}], but it is {m!r}.")
  level = np.nextafter(_checked_joint(alpha) * m / max(num_outputs, 1) * (1 - 2.0**-52), 0.0)
  return Levels(np.full(num_outputs, level), m - 1)


def levels(alpha: float, num_outputs: int, fraction: float = 0.0) -> Levels:
  """`k_fwer` if a `fraction` of the bounds, rounded down, may fail; `bonferroni` at 0 (host).

  A `ValueError` is raised by fractions outside [0, 1), and as in `k_fwer`.

  Example:
    >>> levels(0.01, 4, 0.25)
    Levels(alpha=array([0.005, 0.005, 0.005, 0.005]), forfeit=1)
  """
  if not 0 <= fraction < 1:
    raise ValueError(f"`k_fwer` must be a part of the outputs, in [0, 1), but it is {fraction}.")
  m = min(1 + math.floor(fraction * num_outputs), max(num_outputs, 1))
  return k_fwer(alpha, num_outputs, m)


def looks(num_samples: int) -> list[int]:
  """Numbers of samples at which sampling may stop, as soon as they suffice (host).

  Bounds at alpha / L at each of the L looks hold at all of them with probability 1 - alpha, so that
  what the votes say may decide at which look to stop.

  Example:
    >>> looks(1000), looks(4), looks(0)
    ([125, 250, 500, 1000], [1, 2, 4], [0])
  """
  return sorted({num_samples >> i for i in range(4)} - {0}) or [num_samples]


def holm(p_values: ArrayLike, alpha: float) -> np.ndarray:
  r"""Holm's step-down test of N *fixed* hypotheses (host).

  With the p-values in increasing order, hypothesis i (from 1) is rejected, True in the result, if
  :math:`p_{(j)} \le \alpha / (N - j + 1)` for all :math:`j \le i`: with probability
  :math:`1 - \alpha` no true hypothesis is rejected, under any dependence.

  The levels are no levels for confidence bounds: which output is tested at which depends on the
  samples. For the collective certificate, which needs N bounds that hold together, use Bonferroni.

  Args:
    p_values: [N], of hypotheses fixed before sampling, say that the label's probability is at most
      what the naive certificate needs at one budget.
    alpha: joint error probability, in (0, 1), else `ValueError`.

  Example:
    >>> holm([0.02, 0.005, 0.4], 0.05)
    array([ True,  True, False])

  References: Holm 1979, Scandinavian Journal of Statistics 6(2); Fischer et al. 2021 (arXiv
    2107.00228) for segmentation.
  """
  p_values = np.asarray(p_values, np.float64)
  order = np.argsort(p_values, kind="stable")
  levels = _checked_joint(alpha) / np.arange(p_values.size, 0, -1) * (1 - 2.0**-52)
  passed = np.logical_and.accumulate(p_values[order] <= levels)
  return passed[np.argsort(order)]


def _checked_joint(alpha: float) -> float:
  if not 0 < alpha < 1:
    raise ValueError(f"`alpha` must lie in (0, 1), but it is {alpha}.")
  return alpha
