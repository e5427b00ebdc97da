"""What a certificate is worth: accuracy with abstention, certified fraction and radius (host).

An abstaining output counts as wrong everywhere; a void one, whose label is outside [0, K), nowhere.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

ABSTAIN = -1
"""What a prediction is where the smoothed model abstains."""


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, num_classes: int) -> np.ndarray:
  """Counts pairs of label and prediction; the last column counts abstentions.

  Args:
    labels: int, any shape; outside [0, K) is void.
    predictions: int, shaped like `labels`; in [0, K), or `ABSTAIN`.
    num_classes: K.

  Returns:
    int64 [K, K + 1].

  Example:
    >>> confusion_matrix([0, 1, 1, 2], [0, 1, ABSTAIN, 0], num_classes=2)
    array([[1, 0, 0],
           [0, 1, 1]])
  """
  labels, predictions = np.asarray(labels), np.asarray(predictions)
  known = (labels >= 0) & (labels < num_classes)
  columns = np.where(predictions == ABSTAIN, num_classes, predictions)[known]
  pairs = labels[known].astype(np.int64) * (num_classes + 1) + columns
  return np.bincount(pairs, minlength=num_classes * (num_classes + 1)).reshape(num_classes, -1)


def accuracy(confusion: ArrayLike) -> float:
  """Fraction of the labelled outputs that are predicted right; NaN if nothing is labelled.

  Example:
    >>> accuracy([[1, 0, 0], [0, 1, 2]])
    0.5
  """
  confusion = np.asarray(confusion)
  total = confusion.sum()
  return float(np.trace(confusion) / total) if total else float("nan")


def mean_iou(confusion: ArrayLike) -> float:
  r"""Mean over classes of :math:`\mathrm{TP}_k / (\mathrm{TP}_k + \mathrm{FP}_k + \mathrm{FN}_k)`.

  An abstention is a false negative of its label. Classes in neither labels nor predictions are left
  out of the mean, not counted as perfect; NaN if no class is left.

  Example:
    >>> mean_iou([[1, 0, 1], [0, 0, 0]])
    0.5
  """
  confusion = np.asarray(confusion)
  true_positive = np.diagonal(confusion)
  union = confusion.sum(axis=1) + confusion[:, :-1].sum(axis=0) - true_positive
  present = union > 0
  return float((true_positive[present] / union[present]).mean()) if present.any() else float("nan")


def certified_fraction(certified: ArrayLike, num_outputs: int) -> np.ndarray:
  """Certified outputs over all labelled ones, at every budget; NaN if there are none.

  Example:
    >>> certified_fraction([8, 4, 0], 8)
    array([1. , 0.5, 0. ])
  """
  return np.asarray(certified, np.float64) / (num_outputs or np.nan)


def average_certifiable_radius(radii: ArrayLike, fraction: ArrayLike) -> float:
  r"""Area under a falling curve of certified fraction against radius, by right-endpoint sums.

  :math:`\sum_b (\varepsilon_{b+1} - \varepsilon_b) f(\varepsilon_{b+1})`, which for a falling curve
  is at most the integral: what is certified at a radius is certified at all smaller ones.

  Args:
    radii: [B], rising, the first one 0 (or the sum starts there).
    fraction: [B], certified fraction at each radius.

  Returns:
    The area, in the units of the radii.

  Example:
    >>> average_certifiable_radius([0, 1, 2], [1.0, 0.5, 0.25])
    0.75
  """
  return float(np.sum(np.diff(np.asarray(radii, np.float64)) * np.asarray(fraction)[1:]))


class RadiusSums(NamedTuple):
  """Three sums for the area under one curve; for a falling one, right <= area <= left."""

  right: float  # `average_certifiable_radius`, the one that is proven
  trapezoid: float
  left: float


def radius_sums(radii: ArrayLike, fraction: ArrayLike) -> RadiusSums:
  r"""The area under a curve by right, trapezoid and left sums, to compare with what others report.

  :math:`\sum_b (\varepsilon_{b+1} - \varepsilon_b) f`, with :math:`f(\varepsilon_{b+1})`, the mean
  of both ends, and :math:`f(\varepsilon_b)`.

  Args:
    radii: [B], rising.
    fraction: [B], certified fraction at each radius.

  Returns:
    `RadiusSums`, in the units of the radii.

  Example:
    >>> radius_sums([0, 1, 2], [1.0, 0.5, 0.25])
    RadiusSums(right=0.75, trapezoid=1.125, left=1.5)
  """
  right = average_certifiable_radius(radii, fraction)
  left = float(np.sum(np.diff(np.asarray(radii, np.float64)) * np.asarray(fraction)[:-1]))
  return RadiusSums(right, (left + right) / 2, left)


def pareto_front(points: ArrayLike) -> np.ndarray:
  """Which points no other one beats, where more is better in every coordinate.

  A point beats another if it is at least as good in all coordinates and better in one; equal points
  do not beat each other. A point with a NaN is on no front, and beats none.

  Args:
    points: [P, coordinates].

  Returns:
    bool [P].

  Raises:
    ValueError: points that are no matrix.

  Example:
    >>> pareto_front([[0.3, 0.9], [0.5, 0.5], [0.4, 0.5]])
    array([ True,  True, False])
  """
  points = np.asarray(points, np.float64)
  if points.ndim != 2:
    raise ValueError(f"`points` must have shape [P, coordinates], but it is {points.shape}.")
  as_good = (points[:, None] >= points[None]).all(axis=-1)  # [p, q]: p at least as good as q
  beaten = (as_good & ~as_good.T).any(axis=0)
  return np.logical_not(beaten | np.isnan(points).any(axis=1))
