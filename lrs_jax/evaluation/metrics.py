"""What a certificate is worth: accuracy with abstention, certified fraction and radius (host).

An abstaining output counts as wrong everywhere; a void one, whose label is outside [0, K), nowhere.
"""

import numpy as np
from jax.typing import ArrayLike

ABSTAIN = -1
"""What a prediction is where the smoothed model abstains."""


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, num_classes: int) -> np.ndarray:
  """Counts pairs of label and prediction; the last column counts abstentions.

  `labels`, int of any shape, are void outside [0, K), K being `num_classes`; `predictions`, of the
  same shape, lie in [0, K), or are `ABSTAIN`. The counts are int64 [K, K + 1].

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


def round_down(number: ArrayLike, digits: int = 3, decimals: int | None = None) -> np.ndarray:
  """Numbers rounded down, to be shown: what is certified must not grow in print.

  `number`, of any shape, is at least 0, or NaN. What is returned, float64, is at most that but for
  a relative 1e-12: such a decimal but for its last bits stays what it is. Kept are so many `digits`
  from the first one that is not 0, or instead `decimals` after the point.

  Example:
    >>> round_down([0.2587, 1239.9, 0.3]).tolist()
    [0.258, 1230.0, 0.3]
    >>> round_down(0.7999, decimals=2).item()
    0.79
  """
  number = np.asarray(number, np.float64)
  places = np.full(number.shape, float(decimals or 0))
  if decimals is None:
    places = digits - 1 - np.floor(np.log10(np.where(number > 0, number, 1.0)))
  unit = 10.0 ** np.abs(places)
  scaled = np.where(places >= 0, number * unit, number / unit)
  whole = np.floor(scaled * (1 + 1e-12))
  return np.where(places >= 0, whole / unit, whole * unit)


def average_certifiable_radius(radii: ArrayLike, fraction: ArrayLike) -> float:
  r"""Area under a curve of certified fraction against radius, as far as it is proven.

  :math:`\sum_b (\varepsilon_b - \varepsilon_{b-1}) f(\varepsilon_b)` with
  :math:`\varepsilon_{-1} = 0`, in the units of the radii: what is certified at a radius is
  certified at all smaller ones, so that this is at most the integral of what is true. Few radii, or
  radii that end before nothing is certified, make it smaller: compare areas over the same radii.

  Args:
    radii: [B], rising from 0 or more, else a `ValueError`.
    fraction: [B], certified fraction at each radius; a `ValueError` if there are more or fewer.

  Example:
    >>> average_certifiable_radius([0, 1, 2], [1.0, 0.5, 0.25])
    0.75
    >>> average_certifiable_radius([2], [0.25])
    0.5
  """
  radii, fraction = _curve(radii, fraction)
  return float(np.sum(np.diff(radii, prepend=0.0) * fraction))


def pareto_front(points: ArrayLike) -> np.ndarray:
  """Which points no other one beats, where more is better in every coordinate.

  A point beats another if it is at least as good in all coordinates and better in one; equal points
  do not beat each other. A point with a NaN is on no front, and beats none. `points` are a matrix
  [P, coordinates], else a `ValueError`; the result is bool [P].

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


def _curve(radii: ArrayLike, fraction: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  radii, fraction = np.asarray(radii, np.float64), np.asarray(fraction, np.float64)
  if radii.ndim != 1 or radii.shape != fraction.shape:
    raise ValueError(
      "`radii` and `fraction` must both have shape [B], but their shapes are "
      f"{radii.shape} and {fraction.shape}."
    )
  if not (np.isfinite(radii).all() and (np.diff(radii, prepend=0.0) >= 0).all()):
    raise ValueError(f"`radii` must be finite and rise, from 0 or more, but they are {radii}.")
  return radii, fraction
