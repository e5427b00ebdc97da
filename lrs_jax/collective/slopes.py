r"""Slopes: linear lower bounds on IoUs, and what every pixel is worth under them (host).

The derivation is that of `iou.jointly`: for slopes :math:`\alpha, \kappa \ge 0`, whole numbers of
one unit, :math:`u / v \ge \gamma + \alpha u - \kappa v` where u true positives and a union of v are
possible, so that a pixel that keeps its prediction is worth :math:`w_n`.
"""

import math
from typing import NamedTuple

import numpy as np

from lrs_jax.collective.certificate import CollectiveCertificate
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.confidence.naive import naive_price
from lrs_jax.noise.eta import round_down, round_up


class Pixels(NamedTuple):
  """Labels and predictions as positions among the classes of the truth; -1 for others."""

  label: np.ndarray  # int [N]
  prediction: np.ndarray  # int [N]
  sizes: np.ndarray  # int64 [K'], pixels of every class


class Box(NamedTuple):
  """What true positives and union of every class can be, float64 [K'] each."""

  u_lower: np.ndarray
  u_upper: np.ndarray
  v_lower: np.ndarray
  v_upper: np.ndarray


def make_pixels(
  truth: np.ndarray, labels: np.ndarray, classes: np.ndarray, sizes: np.ndarray
) -> Pixels:
  """Pixels by the positions of their label and prediction among the classes, int [K'], sorted."""

  def positions(values: np.ndarray) -> np.ndarray:
    nearest = np.minimum(np.searchsorted(classes, values), classes.size - 1)
    return np.where(classes[nearest] == values, nearest, -1)

  return Pixels(positions(truth), positions(labels), sizes)


def _least(box: Box, u: np.ndarray, kappa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The minimum over v of u / v + kappa v, and where it is: float64 [K'] each."""
  with np.errstate(divide="ignore", invalid="ignore"):
    v = np.where(kappa > 0, np.sqrt(u / kappa), np.inf)
  v = np.clip(v, box.v_lower, box.v_upper)
  return u / v + kappa * v, v


def offset(box: Box, alpha: np.ndarray, kappa: np.ndarray) -> np.ndarray:
  """Gamma for any slopes, rounded down: float64 [K']."""
  ends = [
    round_down(_least(box, u, kappa)[0]) - round_up(alpha * u) for u in (box.u_lower, box.u_upper)
  ]
  return np.minimum(*ends)


def supporting(box: Box, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Slopes whose linear bound is the largest at (u, v): alpha and kappa, float64 [K'] each.

  For given kappa the best alpha is that of the chord of a concave function of u; what it then
  bounds at (u, v) is concave in kappa, and its derivative, a mean of minimizing v less v, falls.
  """
  width = box.u_upper - box.u_lower
  share = np.where(width > 0, (u - box.u_lower) / np.maximum(width, 1), 0.0)
  low = np.full(width.shape, -64.0)  # logarithms of kappa, which is at most u / v^2
  high = np.log(np.maximum(box.u_upper, 1) / box.v_lower**2)
  for _ in range(50):
    kappa = np.exp((low + high) / 2)
    at_lower, at_upper = (_least(box, end, kappa)[1] for end in (box.u_lower, box.u_upper))
    rises = (1 - share) * at_lower + share * at_upper > v
    low, high = np.where(rises, np.log(kappa), low), np.where(rises, high, np.log(kappa))
  kappa = np.exp(high)
  rise = _least(box, box.u_upper, kappa)[0] - _least(box, box.u_lower, kappa)[0]
  return np.where(width > 0, rise / np.maximum(width, 1), 0.0), kappa


def whole(pixels: Pixels, alpha: np.ndarray, kappa: np.ndarray) -> tuple[np.ndarray, float]:
  """Slopes as whole numbers, int64 [2, K'], of a unit that lets all worths sum to about 2^50."""
  total = float(pixels.sizes @ (alpha + kappa + _elsewhere(kappa)[0]))
  unit = 2.0 ** (math.ceil(math.log2(max(total, 2.0**-100))) - 50)
  return np.rint(np.stack([alpha, kappa]) / unit).astype(np.int64), unit


def _elsewhere(kappa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The largest kappa of another class (0 if there is none), and which it is: [K'] each."""
  if kappa.size == 1:
    return np.zeros_like(kappa), np.full(1, -1)
  second, first = np.argsort(kappa)[-2:]
  which = np.where(np.arange(kappa.size) == first, second, first)
  return kappa[which], which


def worth(pixels: Pixels, slopes: np.ndarray) -> np.ndarray:
  """What it is worth that a pixel keeps its prediction: int64 [N]."""
  alpha, kappa = slopes
  lost = _elsewhere(kappa)[0][pixels.label]
  own = np.where(pixels.prediction < 0, 0, kappa[pixels.prediction])
  kept = np.where(pixels.prediction == pixels.label, alpha[pixels.label] + lost, lost - own)
  return np.where(pixels.label < 0, 0, kept)


def mean_bound(
  pixels: Pixels, box: Box, slopes: np.ndarray, unit: float, certificate: CollectiveCertificate
) -> float:
  """The bound on the mean IoU that slopes and a certificate of their worths prove."""
  most = slopes[1] + _elsewhere(slopes[1])[0]
  lost = pixels.sizes.astype(object) @ most.astype(object)  # Python's integers do not overflow
  terms = [*offset(box, *slopes * unit).tolist(), (int(certificate.certified[0]) - lost) * unit]
  margin = 2.0**-48 * sum(map(abs, terms))
  return (math.fsum(terms) - margin) / pixels.sizes.size


def left(
  base: BaseCertificates, pixels: Pixels, slopes: np.ndarray, certificate: CollectiveCertificate
) -> tuple[np.ndarray, np.ndarray]:
  """True positives and unions, about, after the attack that the certificate deems the worst.

  In every group, what falls is where worth less price is largest; false positives go to the class
  that they hurt most. It guides the search, no bound rests on it.
  """
  fallen = base.eta <= 0
  reach = naive_price(base.weights, certificate.budgets[0])
  for g, price in enumerate(certificate.witness.multipliers[0]):
    mine = np.flatnonzero((base.groups == g) & (base.eta > 0) & (base.eta <= reach[g]))
    mine = mine[np.argsort(base.eta[mine])]
    gain = np.cumsum(certificate.targets[mine]) - price * base.eta[mine]
    if gain.size and gain.max() > 0:
      fallen[mine[: gain.size - int(gain[::-1].argmax())]] = True
  size, known, is_hit = pixels.sizes.size, pixels.label >= 0, pixels.prediction == pixels.label
  hit = known & ~fallen & is_hit
  wrong = known & ~fallen & ~is_hit & (pixels.prediction >= 0)
  victims = _elsewhere(slopes[1])[1][pixels.label[known & fallen]]
  union = pixels.sizes + np.bincount(pixels.prediction[wrong], minlength=size)
  union = union + np.bincount(victims[victims >= 0], minlength=size)
  return np.bincount(pixels.label[hit], minlength=size), union
