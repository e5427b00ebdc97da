"""What a finished image job reports: quality, curves, a table and figures (host)."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from lrs_jax import keys, noise, storage
from lrs_jax.baselines import segcertify
from lrs_jax.evaluation import metrics, plots
from lrs_jax.jobs import records
from lrs_jax.jobs.records import Record
from lrs_jax.noise.families import SmoothingDistribution
from lrs_jax.tasks import images as jobs
from lrs_jax.tasks.data.images import LabelledImages
from lrs_jax.tasks.images import ImageJob


def quality(data: LabelledImages, predictions: np.ndarray) -> dict[str, float]:
  """Accuracy of predictions [M, N] on all images together; abstentions (-1) are wrong."""
  num_classes = len(data.classes)
  labels = data.labels.reshape(predictions.shape)
  confusion = metrics.confusion_matrix(labels, predictions, num_classes)
  return {
    "pixel_accuracy": metrics.accuracy(confusion),
    "mean_iou": metrics.mean_iou(confusion),
    "abstention": float(np.mean(predictions < 0)) if predictions.size else math.nan,
  }


def majority(data: LabelledImages) -> dict[str, Any]:
  """The most frequent label of all images together, and how often always answering it is right."""
  num_classes = len(data.classes)
  labels = data.labels[(data.labels >= 0) & (data.labels < num_classes)]
  counts = np.bincount(labels, minlength=num_classes)
  share = float(counts.max() / labels.size) if labels.size else math.nan
  return {"class": data.classes[int(counts.argmax())], "share": share}


def report(data: LabelledImages, done: list[Record], *, average: bool = True) -> dict[str, Any]:
  """Means over images: quality, curves and average certifiable radius of every method.

  `certified` counts all pixels whose prediction cannot change, over all pixels;
  `certified_accuracy` those that are right as well, over the labelled ones. Under isotropic
  Gaussian noise there is SegCertify as well: every radius by a test of its own, at the level of the
  job, so that it holds at any one radius, where the others hold at all of them together.

  Args:
    data: what was certified.
    done: a record of every image.
    average: whether the radii go, in small steps, from 0 to where nothing is certified, as a job's
      own do: over others an average radius would say more of them than of the method, and is None.
  """
  predictions = np.stack([records.predictions(record) for record in done])
  report: dict[str, Any] = quality(data, predictions)
  num_classes, radii = len(data.classes), done[0].radii
  counted = [{key: one.certified for key, one in record.certified.items()} for record in done]
  if done[0].family == "gaussian" and done[0].base.weights.shape == (1, 1, 1):
    counted = [of | _segcertify(record) for of, record in zip(counted, done, strict=True)]
  for name, targets in (("certified", "all"), ("certified_accuracy", "correct")):
    report[name], report[f"{name}_radius"] = {}, {}
    for method in sorted({key.partition("/")[2] for key in counted[0]}):
      fractions = [
        metrics.certified_fraction(
          of[f"{targets}/{method}"],
          len(record.truth) if targets == "all" else int(np.sum(record.truth < num_classes)),
        )
        for of, record in zip(counted, done, strict=True)
      ]
      curve = np.mean(fractions, axis=0)
      report[name][method] = curve.tolist()
      report[f"{name}_radius"][method] = (
        metrics.average_certifiable_radius(radii, curve) if average else None
      )
  return report


def _segcertify(record: Record) -> dict[str, np.ndarray]:
  """What SegCertify, with Holm's correction, certifies at each radius: int64 [B] by targets."""
  std = float(record.scales[0, 0, 0])
  kept = [
    segcertify.at_radius(
      record.selection_counts,
      record.counts,
      std,
      float(radius),
      alpha=record.alpha,
      num_samples=record.num_samples,
    ).labels
    for radius in record.radii
  ]
  return {
    "all/segcertify": np.array([np.sum(labels >= 0) for labels in kept], np.int64),
    "correct/segcertify": np.array([np.sum(labels == record.truth) for labels in kept], np.int64),
  }


def table(summary: Mapping[str, Any]) -> str:
  """What a summary says, for a terminal: quality, and certified accuracy at some budgets.

  What is certified is rounded down, and so are the radii at which it is.
  """
  radii, own = np.asarray(summary["radii"]), summary["job"]["budgets"] is not None
  reported = _reported_methods(summary)
  if own:
    shown = np.unique(np.linspace(0, len(radii) - 1, 7).round().astype(int))
  else:
    longest = max(np.max(np.flatnonzero(curve), initial=0) for _, curve, _ in reported)
    shown = np.unique(np.linspace(0, longest, 6).round().astype(int))[min(longest, 1) :]
  head = [f"{metrics.round_down(radii[i]):>8.7g}" for i in shown]
  lines = [f"{'certified accuracy at radius':<33}" + "".join(head)]
  lines[0] += "" if own else "   average radius (all pixels)"
  for label, curve, radius in reported:
    values = "".join(f"{metrics.round_down(curve[i], decimals=3):>8.3f}" for i in shown)
    area = "" if radius is None else f"   {metrics.round_down(radius, decimals=4):.4f}"
    lines.append(f"{label:<33}{values}{area}")
  if own:
    lines.append("no average radius: it needs the automatic radii, a run without --budgets")
  lines.append("")
  rows = (
    ("network without noise", summary["base_model"]),
    ("localized smoothing", summary["localized"]),
    ("isotropic smoothing", summary["isotropic"]),
  )
  for label, quality in rows:
    lines.append(
      f"{label:<34} pixel accuracy {quality['pixel_accuracy']:.3f}   "
      f"mIoU {quality['mean_iou']:.3f}   abstains {quality['abstention']:.3f}"
    )
  most = summary["majority"]
  label = f"always answering {most['class']}"
  lines.append(f"{label:<34} pixel accuracy {most['share']:.3f}")
  accuracies = {label: quality["pixel_accuracy"] for label, quality in rows}
  lines += nothing_learned(accuracies, most["share"])
  seconds = summary["seconds"]
  lines += ["", "seconds: " + "   ".join(f"{name} {value:.1f}" for name, value in seconds.items())]
  return "\n".join(lines)


def nothing_learned(accuracies: Mapping[str, float], share: float) -> list[str]:
  """The line after the one on always answering the most frequent class: what is hardly better.

  That is what makes less than a tenth fewer mistakes: certificates of such predictions are true,
  and worth nothing.

  Args:
    accuracies: name -> accuracy.
    share: accuracy of always answering the most frequent class.

  Returns:
    No line, or one.

  Example:
    >>> nothing_learned({"network": 0.9, "smoothing": 0.72}, 0.7)
    ['NOTE: hardly more often right than that, or less often: smoothing']
    >>> nothing_learned({"network": 0.9}, 0.7)
    []
  """
  poor = [name for name, accuracy in accuracies.items() if 1 - accuracy > 0.9 * (1 - share)]
  if not poor:
    return []
  return [f"NOTE: hardly more often right than that, or less often: {', '.join(poor)}"]


def _reported_methods(summary: Mapping[str, Any]) -> list[tuple[str, list[float], float | None]]:
  """(label, curve of certified accuracy, its area) of every method, the strongest first."""
  job, localized = summary["job"], summary["localized"]
  names = {"lp": "paper's LP", "milp": "exact (MILP)"}
  found = [
    (f"localized, {names.get(method, method)}", curve, localized["certified_radius"][method])
    for method, curve in localized["certified_accuracy"].items()
  ]
  found.sort(key=lambda item: -sum(item[1]))
  isotropic = summary["isotropic"]
  for method, label in (("envelope", "isotropic"), ("segcertify", "SegCertify per radius")):
    curve = isotropic["certified_accuracy"].get(method)
    if curve is not None:
      label = f"{label}, std {job['isotropic_std'] or job['std_min']:g}"
      found.append((label, curve, isotropic["certified_radius"][method]))
  return found


def draw(
  job: ImageJob,
  data: LabelledImages,
  distribution: SmoothingDistribution,
  done: list[Record],
  summary: Mapping[str, Any],
  out: Path,
) -> None:
  """Draws `curves.png`, `noise.png` and every image's `image.png` under `out`."""
  radii = np.asarray(summary["radii"])
  curves = plots.curves_figure(
    radii,
    {label: np.asarray(curve) for label, curve, _ in _reported_methods(summary)},
    xlabel=r"$\ell_2$ budget $\varepsilon$ of one perturbation of the whole image, [0, 1] scale",
    ylabel="certified accuracy (fraction of labelled pixels)",
    title=f"{job.data}: {len(done)} image{'s'[: len(done) > 1]}, {job.samples} samples, "
    f"level {1 - job.alpha:g} per image",
  )
  _save_figure(out / "curves.png", curves)
  _save_figure(out / "noise.png", plots.noise_figure(distribution.scale, job.grid))
  groups = jobs.output_groups(job)
  corners = tuple(dict.fromkeys(int(groups[i, j]) for i in (0, -1) for j in (0, -1)))
  key = keys.tagged(jax.random.key(job.seed), "figures")
  dearest = distribution.weights[0].max(axis=1)[groups.reshape(-1)]
  for i, (name, record) in enumerate(zip(data.names, done, strict=True)):
    view = plots.ImageView(
      name=name,
      image=data.images[i],
      truth=data.labels[i],
      prediction=records.predictions(record).reshape(job.size),
      radius=((record.base.eta / dearest) ** (1 / distribution.p)).reshape(job.size),
      noisy=[
        np.asarray(noise.sample(key, distribution, jnp.asarray(data.images[i]), group))
        for group in corners
      ],
      noisy_groups=corners,
      groups=groups,
      classes=data.classes,
    )
    _save_figure(out / name / "image.png", plots.image_figure(view))


def _save_figure(path: Path, figure: Figure) -> None:
  storage.write_whole(path, lambda partial: figure.savefig(partial, dpi=130))
