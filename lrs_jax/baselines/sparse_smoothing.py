r"""Isotropic sparsity-aware smoothing with its exact certificate, in integer arithmetic (host).

Bojchevski et al. 2020 flip every binary entry of the input alike. Against an attack of a additions
and d deletions the space of noisy inputs falls into a + d + 1 regions of constant likelihood ratio,
and the worst-case classifier fills them in the order of that ratio (Neyman–Pearson): the tightest
certificate there is for a probability q. It is a certificate for one output at a time; outputs that
share an input are then counted as if each had an adversary of its own.
"""

from fractions import Fraction

import numpy as np
from jax.typing import ArrayLike


def required_probability(
  theta_plus: float, theta_minus: float, max_additions: int, max_deletions: int
) -> np.ndarray:
  r"""The probability that a prediction must exceed to survive a additions and d deletions.

  Let i count the added entries that the noise on x shows as 1 and the deleted ones that it shows as
  0. With :math:`P_q = P_x(i = q)`, a sum of :math:`\mathrm{Bin}(a, \theta_+)` and
  :math:`\mathrm{Bin}(d, \theta_-)`, and :math:`P'_q = P_{x'}(i = q)`, a sum of
  :math:`\mathrm{Bin}(a, 1 - \theta_-)` and :math:`\mathrm{Bin}(d, 1 - \theta_+)`, the likelihood
  ratio is constant on :math:`\{i = q\}`,

  .. math:: P_x / P_{x'} = \Big(\frac{\theta_+}{1 - \theta_-}\Big)^{q - d}
    \Big(\frac{1 - \theta_+}{\theta_-}\Big)^{a - q} .

  Regions are filled from the largest ratio on until they hold :math:`P' = 1/2`; what they then hold
  of P is the probability that is returned: an output of :math:`q_n` greater than that keeps more
  than 1/2 under the attack, and one of less may not. The flip probabilities are the dyadic
  rationals that their floats are: all of this is exact until the result is rounded up.

  Args:
    theta_plus: probability of 0 to 1, in [0, 1).
    theta_minus: probability of 1 to 0, in [0, 1).
    max_additions: A.
    max_deletions: D.

  Returns:
    float64 [A + 1, D + 1], rounded up, in [1/2, 1]; 1 can not be exceeded.

  Raises:
    ValueError: a probability outside [0, 1), or a negative number of flips.

  Example:
    >>> required_probability(0.5, 0.0, 1, 0)
    array([[0.5 ],
           [0.75]])
    >>> required_probability(0.25, 0.25, 1, 1).round(4)
    array([[0.5   , 0.8333],
           [0.8333, 0.9444]])

  References: Bojchevski, Gasteiger & Günnemann 2020 (arXiv 2008.12952), section 4, proposition 1.
  """
  for name, theta in (("theta_plus", theta_plus), ("theta_minus", theta_minus)):
    if not 0 <= theta < 1:
      raise ValueError(f"`{name}` must lie in [0, 1), but it is {theta}.")
  for name, most in (("max_additions", max_additions), ("max_deletions", max_deletions)):
    if most < 0:
      raise ValueError(f"`{name}` must be at least 0, but it is {most}.")
  plus, minus = Fraction(theta_plus), Fraction(theta_minus)
  unit = max(plus.denominator, minus.denominator)  # powers of 2
  p, m = int(plus * unit), int(minus * unit)
  required = np.empty((max_additions + 1, max_deletions + 1))
  clean, attacked = [1], [1]  # P_q and P'_q in units of unit^-(a + d)
  for a in range(max_additions + 1):
    if a:
      clean, attacked = _with_trial(clean, p, unit), _with_trial(attacked, unit - m, unit)
    row, row_attacked = clean, attacked
    for d in range(max_deletions + 1):
      if d:
        row, row_attacked = _with_trial(row, m, unit), _with_trial(row_attacked, unit - p, unit)
      required[a, d] = _filled(row, row_attacked, unit ** (a + d), descending=p + m > unit)
  return required


def certified_grid(
  q_lower: ArrayLike,
  theta_plus: float,
  theta_minus: float,
  max_additions: int,
  max_deletions: int,
) -> np.ndarray:
  """How many outputs survive every attack of a additions and d deletions, each on its own.

  Returns int64 [A + 1, D + 1] for `q_lower` [N], lower bounds on the predictions' probabilities.
  The other arguments are those of `required_probability`.

  Example:
    >>> certified_grid([0.4, 0.7, 0.99], 0.25, 0.25, 1, 0)
    array([[2],
           [1]])
  """
  required = required_probability(theta_plus, theta_minus, max_additions, max_deletions)
  ordered = np.sort(np.asarray(q_lower, np.float64))
  return ordered.size - np.searchsorted(ordered, required, side="right")


def _with_trial(masses: list[int], success: int, unit: int) -> list[int]:
  """Masses of a sum of Bernoullis after one more of probability success / unit."""
  pairs = zip([*masses, 0], [0, *masses], strict=True)
  return [stay * (unit - success) + move * success for stay, move in pairs]


def _filled(clean: list[int], attacked: list[int], whole: int, *, descending: bool) -> float:
  """P of the regions of largest P / P' that hold P' = 1/2, rounded up.

  The ratio falls in q while theta_plus + theta_minus < 1 and rises beyond; at 1 it is constant.
  """
  left, held = Fraction(whole, 2), Fraction(0)
  for q in range(len(clean))[:: -1 if descending else 1]:
    if attacked[q] >= left:  # which is positive
      held += clean[q] * left / attacked[q]
      break
    left -= attacked[q]
    held += clean[q]
  exact = held / whole
  rounded = float(exact)
  return rounded if rounded >= exact else float(np.nextafter(rounded, np.inf))
