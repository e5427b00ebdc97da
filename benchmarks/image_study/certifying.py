"""What the counts certify: curves over one grid of budgets for all methods."""

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.image_study import counting
from benchmarks.image_study.configurations import (
  Sizes,
  Smoothing,
  distribution,
  groups,
  marks,
  plain,
  smoothings,
)
from lrs_jax import collective, noise, storage
from lrs_jax.baselines import center_smoothing, segcertify
from lrs_jax.collective import iou as certified_iou
from lrs_jax.confidence import certificates, corrections, planning
from lrs_jax.evaluation import metrics
from lrs_jax.jobs import reports
from lrs_jax.jobs.machines import describe_devices, versions
from lrs_jax.tasks.data.images import LabelledImages

THRESHOLDS = (0.75, 0.9, 0.95)
"""SegCertify's tau, where it is fixed."""

OPTIONS = {"milp": {"gap": 0.01, "time_limit": 10.0}, "lp": {"bins": 10**6}}
"""Of the certificates; outputs of one group and threshold are one variable of the paper's LP."""

FINE = 10
"""Budgets whose fractions make up an area, for each one whose fraction is kept as a curve."""

EVERY = {"milp": FINE, "lp": FINE // 2}
"""Slow methods are asked at every so manieth budget only: between two of them holds what they say
of the larger one."""

FORFEITED = 0.005
"""Fraction of the outputs that k-FWER gives up for better bounds of all others."""


def common_radii(sizes: Sizes, times: int = 1) -> np.ndarray:
  """One grid of budgets for all methods, to where none of them can certify anything.

  Args:
    sizes: of the study.
    times: so many times as fine; the coarse grid is every so manieth of it.
  """
  radii = planning.radii(
    [distribution(smoothing, sizes) for smoothing in smoothings(sizes).values()],
    sizes.marks[-1] * sizes.more,
    num_outputs=math.prod(sizes.size),
    alpha=sizes.alpha,
  )
  return np.linspace(0, radii[-1], (sizes.radii - 1) * times + 1)


def certify(
  smoothing: Smoothing, sizes: Sizes, digest: str, data: LabelledImages, folders: list[Path]
) -> dict[str, Any]:
  """Quality and curves at every number of samples, from the counts of all images."""
  radii = common_radii(sizes, FINE)
  selecting, bounding = marks(smoothing, sizes)
  owners = groups(smoothing, sizes).ravel()
  levels = corrections.k_fwer(sizes.alpha, owners.size, 1 + int(owners.size * FORFEITED))
  found = {}
  for mark in (m for m in bounding if m // sizes.marks[-1] in (0, 1, *smoothing.certified)):
    selected = max((s for s in selecting if s * 10 <= mark), default=selecting[0])
    votes = [
      (counting.votes(folder, "selection", selected), counting.votes(folder, "estimation", mark))
      for folder in folders
    ]
    bound = functools.partial(certificates.from_votes, distribution(smoothing, sizes), owners)
    bases = [bound(*pair, alpha=sizes.alpha, num_samples=mark) for pair in votes]
    extra = smoothing.compare if mark == sizes.marks[-1] else ()
    found[str(mark)] = evaluate(data, bases, radii, ("envelope", "naive", *extra))
    if smoothing.std_min == smoothing.std_max:
      given = data, votes, smoothing.std_min
      found[str(mark)]["segcertify"] = segcertify_curve(*given, radii, sizes.alpha)
      found[str(mark)]["fixed_threshold"] = {
        str(tau): threshold_curve(*given, tau, radii, sizes.alpha) for tau in THRESHOLDS
      }
    several = [bound(*pair, alpha=levels, num_samples=mark) for pair in votes]
    methods = ("envelope", *(method for method in extra if method == "milp"))
    found[f"{mark}, k-FWER"] = evaluate(data, several, radii, methods)
  return {
    "smoothing": plain(smoothing),
    "sizes": plain(sizes),
    "manifest": counting.manifest(smoothing, sizes, digest, 0),
    "images": list(data.names),
    "versions": versions(),
    "device": describe_devices(),
    "seconds_per_image": float(np.mean([counting.seconds(folder) for folder in folders])),
    "radii": radii[::FINE].tolist(),
    "samples": found,
  }


def quality(data: LabelledImages, predictions: np.ndarray) -> dict[str, float]:
  """Accuracy of predictions [M, N] on all images together; abstentions (-1) are wrong."""
  labels = data.labels.reshape(predictions.shape)
  found = reports.quality(list(labels), list(predictions), len(data.classes))
  return {"pixel_accuracy": found.pop("accuracy"), **found}


def evaluate(
  data: LabelledImages,
  bases: list[certificates.BaseCertificates],
  radii: np.ndarray,
  methods: tuple[str, ...],
) -> dict[str, Any]:
  """Quality of the smoothed predictions, and curves of every method over the common budgets."""
  predictions = np.stack([np.where(base.eta > 0, base.labels, -1) for base in bases])
  labels = data.labels.reshape(predictions.shape)
  known = (labels < len(data.classes)).sum(axis=1)
  result: dict[str, Any] = quality(data, predictions)
  result["curves"] = {}
  for method in methods:
    fractions, right = [], []
    for base, truth, number in zip(bases, labels, known, strict=True):
      everywhere = np.ones(truth.shape, bool)
      kept = _certify(base, everywhere, radii, method, EVERY.get(method, 1))
      fractions.append(metrics.certified_fraction(kept, truth.size))
      kept = _certify(base, base.labels == truth, radii[::FINE], method)
      right.append(metrics.certified_fraction(kept, number))
    result["curves"][method] = _curve(radii, np.mean(fractions, axis=0), np.mean(right, axis=0))
  return result


def _certify(
  base: certificates.BaseCertificates,
  targets: np.ndarray,
  radii: np.ndarray,
  method: str,
  every: int = 1,
) -> np.ndarray:
  """Targets that are certified at every radius, int64 [B].

  The method is asked at every so manieth radius; at one between them there is what it says of the
  next larger one. The exact certificate has what the envelope says, where that is more.
  """
  budgets = noise.budgets_from_radii(radii, 2)
  collectively = functools.partial(
    collective.certify, base.weights, base.groups, base.eta, targets=targets, forfeit=base.forfeit
  )
  envelope = collectively(budgets).certified
  if method == "envelope":
    return envelope
  # The paper's LP and the naive certificate are never tighter than the envelope; what the exact
  # one would certify at half as large a radius again is given up.
  end = 1 + int(np.flatnonzero(envelope).max(initial=0))
  end += end // 2 if method == "milp" else 0
  asked = np.arange(0, min(end + every, len(radii)), every)
  answers = np.zeros(len(radii), np.int64)
  answers[asked] = collectively(budgets[asked], method=method, **OPTIONS.get(method, {})).certified
  if every == 1:
    return answers
  following = np.minimum(-(-np.arange(len(radii)) // every) * every, len(radii) - 1)
  return np.maximum(envelope if method == "milp" else 0, answers[following])


def _curve(radii: np.ndarray, certified: np.ndarray, accurate: np.ndarray) -> dict[str, Any]:
  """A curve as it is kept: at every `FINE`-th budget, its area from all of them."""
  return {
    "certified": certified[::FINE].tolist(),
    "certified_accuracy": accurate.tolist(),
    "radius": radius_sums(radii, certified),
  }


def radius_sums(radii: np.ndarray, certified: np.ndarray) -> dict[str, float]:
  """The area under a curve that starts at radius 0, by three sums; the right one is proven.

  The others are what some papers report: for a falling curve, right <= area <= left.
  """
  right = metrics.average_certifiable_radius(radii, certified)
  if radii.size and radii[0] != 0:
    raise ValueError(f"`radii` must start at 0, but they start at {radii[0]}.")
  left = float(np.sum(np.diff(radii) * certified[:-1]))
  return {"right": right, "trapezoid": (left + right) / 2, "left": left}


def segcertify_curve(
  data: LabelledImages, votes: list, std: float, radii: np.ndarray, alpha: float
) -> dict[str, Any]:
  """SegCertify with Holm's correction: every radius for itself, valid at one that is asked for.

  Its quality is that of its own predictions, which are those at radius 0.
  """
  labels = data.labels.reshape(len(votes), -1)
  fractions = np.zeros((len(votes), len(radii), 2))
  predictions = []
  for i, (pair, truth) in enumerate(zip(votes, labels, strict=True)):
    for j, radius in enumerate(radii):
      kept = segcertify.at_radius(*pair, std, radius, alpha=alpha).labels
      if j == 0:
        predictions.append(kept)
      if not (kept != metrics.ABSTAIN).any():
        break
      fractions[i, j] = _fractions(kept, truth, data)
  certified, accurate = fractions.mean(axis=0).T
  curve = _curve(radii, certified, accurate[::FINE])
  return {**quality(data, np.stack(predictions)), "curve": curve}


def threshold_curve(
  data: LabelledImages, votes: list, std: float, tau: float, radii: np.ndarray, alpha: float
) -> dict[str, Any]:
  """SegCertify at a fixed threshold: quality, and one level up to its radius."""
  found = [segcertify.fixed_threshold(*pair, std, alpha=alpha, tau=tau) for pair in votes]
  predictions = np.stack([segmentation.labels for segmentation in found])
  labels = data.labels.reshape(predictions.shape)
  level = np.mean(
    [_fractions(p, truth, data) for p, truth in zip(predictions, labels, strict=True)], axis=0
  )
  certified, accurate = np.outer(level, radii < found[0].radius)
  curve = _curve(radii, certified, accurate[::FINE])
  return {**quality(data, predictions), "curve": curve, "certified_up_to": found[0].radius}


def _fractions(
  predictions: np.ndarray, truth: np.ndarray, data: LabelledImages
) -> tuple[float, float]:
  """Certified fraction of all pixels, and certified accuracy of the labelled ones."""
  certified = predictions != metrics.ABSTAIN
  known = (truth >= 0) & (truth < len(data.classes))
  return float(certified.mean()), float((certified & (predictions == truth))[known].mean())


def center_curves(
  smoothing: Smoothing, sizes: Sizes, data: LabelledImages, folders: list[Path]
) -> dict[str, Any]:
  """Quality and curves of center smoothing, with the published ranks and with exact ones."""
  stored = [storage.load_arrays(folder / counting.CENTER) for folder in folders]
  predictions = np.stack(
    [np.where(a["accepted"], a["prediction"], metrics.ABSTAIN) for a in stored]
  )
  labels, radii = data.labels.reshape(predictions.shape), common_radii(sizes, FINE)
  result: dict[str, Any] = quality(data, predictions)
  result["curves"] = {}
  for ranks in (center_smoothing.ranks_by_dkw, center_smoothing.ranks_by_binomial):
    fractions = []
    for arrays, prediction, truth in zip(stored, predictions, labels, strict=True):
      distance = center_smoothing.certify(
        arrays["distances"], radii, smoothing.std_min, alpha=sizes.alpha, ranks=ranks
      )
      right = int((prediction == truth).sum())
      known = int((truth < len(data.classes)).sum())
      of_all = center_smoothing.certified_outputs(distance, truth.size * bool(arrays["accepted"]))
      of_right = center_smoothing.certified_outputs(distance, right)
      fractions.append([of_all / truth.size, of_right / known])
    certified, accurate = np.mean(fractions, axis=0)
    result["curves"][ranks.__name__] = _curve(radii, certified, accurate[::FINE])
  return result


def certify_iou(
  sizes: Sizes, data: LabelledImages, folders: dict[str, Path], num_radii: int = 9
) -> dict[str, Any]:
  """Certified mean IoU, every class for itself and jointly: means over images."""
  radii = np.linspace(0, common_radii(sizes)[-1] / 2, num_radii)
  budgets = noise.budgets_from_radii(radii, 2)
  found = {}
  for name, folder in folders.items():
    smoothing = smoothings(sizes)[name]
    owners = groups(smoothing, sizes).ravel()
    bounds = []
    for image, truth in zip(data.names, data.labels, strict=True):
      base = certificates.from_votes(
        distribution(smoothing, sizes),
        owners,
        counting.votes(folder / image, "selection", sizes.selection[-1]),
        counting.votes(folder / image, "estimation", sizes.marks[-1]),
        alpha=sizes.alpha,
        num_samples=sizes.marks[-1],
      )
      given = base, truth.reshape(-1)
      classes = len(data.classes)
      separate = certified_iou.per_class(*given, budgets, num_classes=classes)
      joint = certified_iou.jointly(*given, separate)
      certified_iou.verify_jointly(*given, separate, joint, num_classes=classes)
      bounds.append([separate.mean_iou, joint.mean_iou])
    per_class, jointly = np.mean(bounds, axis=0)
    found[name] = {"per_class": per_class.tolist(), "jointly": jointly.tolist()}
  return {
    "radii": radii.tolist(),
    "mean_iou": found,
    "sizes": plain(sizes),
    "versions": versions(),
    "device": describe_devices(),
  }
