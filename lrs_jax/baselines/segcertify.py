r"""SegCertify: isotropic Gaussian smoothing of a segmentation, each pixel tested alone (host).

Under noise :math:`\mathcal{N}(0, \sigma^2 I)` on the whole image, pixel n keeps its label
:math:`y_n` for all perturbations of norm :math:`\|\delta\|_2 < \sigma \Phi^{-1}(q_n)`, where
:math:`q_n` is the label's probability (Cohen et al. 2019, theorem 1). SegCertify tests
:math:`q_n \le \tau` for all pixels at one threshold, fixed as such (`fixed_threshold`, as
published) or by a radius (`at_radius`), and what is not rejected abstains: with probability
:math:`1 - \alpha` all others survive :math:`\|\delta\|_2 < R = \sigma \Phi^{-1}(\tau)` at the same
time. Every pixel, certified on its own, is granted an adversary of its own.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy import special

from lrs_jax.confidence.bounds import binomial_p_value
from lrs_jax.confidence.certificates import number_of_samples
from lrs_jax.confidence.corrections import holm
from lrs_jax.evaluation.metrics import ABSTAIN
from lrs_jax.noise.eta import round_down, round_up

Reject = Callable[[ArrayLike, float], np.ndarray]
"""(p-values [N], alpha) -> bool [N], rejected hypotheses: `corrections.holm`."""


class Segmentation(NamedTuple):
  """What survives every perturbation of a norm below one radius, jointly."""

  labels: np.ndarray  # int [N], the smoothed prediction; `ABSTAIN` where it is not certified
  radius: float  # in the units of the input


def fixed_threshold(
  selection_counts: ArrayLike,
  counts: ArrayLike,
  std: float,
  *,
  alpha: float,
  tau: float = 0.75,
  reject: Reject = holm,
  num_samples: int | None = None,
) -> Segmentation:
  r"""Tests :math:`q_n \le \tau` for every pixel; what is rejected survives one radius.

  :math:`R = \sigma \Phi^{-1}(\tau)`. A pixel is attacked where :math:`\|\delta\|_2 \ge R`.

  Args:
    selection_counts: int [N, K], votes from one key; they choose the labels.
    counts: int [N, K], votes from another key.
    std: sigma of the isotropic noise that both were drawn under.
    alpha: joint error probability over all N pixels, in (0, 1).
    tau: threshold in [1/2, 1), fixed before sampling.
    reject: the correction for N tests.
    num_samples: S of `counts`, see `certificates.from_votes`.

  Raises:
    ValueError: tau outside [1/2, 1), a std that is not positive, or counts of two shapes.

  Example:
    >>> votes = [[100, 0], [90, 10], [45, 55]]
    >>> fixed_threshold(votes, votes, 0.5, alpha=0.01)  # two keys in earnest
    Segmentation(labels=array([ 0,  0, -1]), radius=0.33724...)

  References: Fischer, Baader & Vechev 2021 (arXiv 2107.00228), algorithm 2 and section 4.2.
  """
  if not 0.5 <= tau < 1:
    raise ValueError(f"`tau` must lie in [1/2, 1), but it is {tau}.")
  labels = _tested(selection_counts, counts, tau, alpha, reject, num_samples)
  return Segmentation(labels, float(round_down(_checked(std) * special.ndtri(tau))))


def at_radius(
  selection_counts: ArrayLike,
  counts: ArrayLike,
  std: float,
  radius: float,
  *,
  alpha: float,
  reject: Reject = holm,
  num_samples: int | None = None,
  distance: float = 0.0,
) -> Segmentation:
  r"""Tests :math:`q_n \le \Phi(\varepsilon / \sigma)`: what survives one radius, fixed beforehand.

  With probability :math:`1 - \alpha` all that does not abstain survives every
  :math:`\|\delta\|_2 \le \varepsilon`. That holds at the *one* radius asked for: answers at several
  radii, a curve of them or the best of them do not hold together. `naive.naive_holm` is the
  same for other noise.

  Arguments, errors and source are those of `fixed_threshold`, with a radius, epsilon >= 0, fixed
  before sampling, in the place of tau. `distance` is that of the noise's family, between what was
  drawn and Gaussian noise: the threshold is raised by it.

  Example:
    >>> votes = [[100, 0], [90, 10], [45, 55]]
    >>> at_radius(votes, votes, 0.5, 0.7, alpha=0.01).labels  # two keys in earnest
    array([ 0, -1, -1])
  """
  if not radius >= 0:
    raise ValueError(f"`radius` must be at least 0, but it is {radius}.")
  tau = min(float(round_up(special.ndtr(radius / _checked(std)) + distance)), 1.0)
  return Segmentation(_tested(selection_counts, counts, tau, alpha, reject, num_samples), radius)


def _tested(
  selection_counts: ArrayLike,
  counts: ArrayLike,
  tau: float,
  alpha: float,
  reject: Reject,
  num_samples: int | None,
) -> np.ndarray:
  """Labels, and `ABSTAIN` where it is not rejected that the label's probability is at most tau."""
  selection_counts, counts = np.asarray(selection_counts), np.asarray(counts)
  if selection_counts.shape != counts.shape or counts.ndim != 2:
    raise ValueError(
      "`selection_counts` and `counts` must have one shape [N, K], but theirs are "
      f"{selection_counts.shape} and {counts.shape}."
    )
  labels = selection_counts.argmax(axis=1)
  successes = np.take_along_axis(counts, labels[:, None], axis=1)[:, 0]
  p_values = binomial_p_value(successes, number_of_samples(counts, num_samples), tau)
  # No number of votes rejects q <= 1, but rounding might.
  return np.where(reject(p_values, alpha) & (tau < 1), labels, ABSTAIN)


def _checked(std: float) -> float:
  if not 0 < std < np.inf:
    raise ValueError(f"`std` must be positive, but it is {std}.")
  return std
