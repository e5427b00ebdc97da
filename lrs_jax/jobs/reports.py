"""What a finished job reports: quality, curves, a table and figures, whatever the task (host)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lrs_jax import storage
from lrs_jax.evaluation import metrics, plots
from lrs_jax.jobs.records import Record
from lrs_jax.tasks.task import Config, Data, Task

_TITLES = {"certificate": "localized"}
"""Smoothings whose title is not their file's name."""

_METHODS = {
  "lp": "paper's LP",
  "milp": "exact (MILP)",
  "orders": "envelope, all orders",
  "segcertify": "SegCertify, per radius",
  "region": "exact region (ICML 2020)",
}
"""Methods whose title is not their name."""

_KINDS = {"epsilon": "radius"}

_AXES = {
  "epsilon": "budget ε of one perturbation of the whole input",
  "entries": "changed entries, over the whole input",
}

Curves = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""method -> kind -> {"budgets", "curve", "area"}."""


def quality(
  truth: Sequence[np.ndarray], predictions: Sequence[np.ndarray], num_classes: int
) -> dict[str, float]:
  """Accuracy of predictions [N] on all cases together; abstentions (-1) are wrong.

  Args:
    truth: int [N] per case; outside [0, K) is void, and does not count but for abstentions.
    predictions: int [N] per case.
    num_classes: K.
  """
  labels, predicted = np.concatenate([*truth]), np.concatenate([*predictions])
  confusion = metrics.confusion_matrix(labels, predicted, num_classes)
  return {
    "accuracy": metrics.accuracy(confusion),
    "mean_iou": metrics.mean_iou(confusion),
    "abstention": float(np.mean(predicted < 0)) if predicted.size else math.nan,
  }


def quality_of_cases(data: Data, predictions: Sequence[np.ndarray]) -> dict[str, float]:
  """Quality of predictions [N], one for each case."""
  truth = [np.full(p.shape, -1) if c.truth is None else c.truth
           for c, p in zip(data.cases, predictions, strict=True)]  # fmt: skip
  counted = [slice(None) if case.counted is None else case.counted for case in data.cases]
  chosen = [
    [of_case[part] for of_case, part in zip(values, counted, strict=True)]
    for values in (truth, predictions)
  ]
  return quality(chosen[0], chosen[1], len(data.classes))


def majority(data: Data) -> dict[str, Any]:
  """The most frequent label of all cases together, and how often always answering it is right."""
  num_classes, counts = len(data.classes), np.zeros(len(data.classes), np.int64)
  for case in data.cases:
    if case.truth is not None:
      labels = case.truth if case.counted is None else case.truth[case.counted]
      inside = labels[(labels >= 0) & (labels < num_classes)]
      counts += np.bincount(inside, minlength=num_classes)
  share = float(counts.max() / counts.sum()) if counts.sum() else math.nan
  return {"class": data.classes[int(counts.argmax())], "share": share}


def report(task: Task, config: Config, done: Sequence[Record]) -> dict[str, Any]:
  """Means over the cases of one smoothing: quality, curves and areas under them, of every method.

  `certified` counts all outputs whose prediction cannot change, over all that are counted;
  `certified_accuracy` those that are right as well, over the labelled ones. A curve is along one
  kind of perturbation alone. Its area is the average certifiable radius, or, where changes are
  counted, the sum over 1, 2, ... of them. Method "orders" is the best envelope of all Rényi orders
  at every budget; rivals of the task are methods, too.

  Args:
    task: with its rivals.
    config: the job. Over radii of its own an average radius would say more of them than of the
      method, and is None.
    done: a record of every case.

  Raises:
    ValueError: records of other budgets than the one that has most begins with.
  """
  first = max(done, key=lambda record: len(record.budgets))
  for record in done:
    if not np.array_equal(record.budgets, first.budgets[: len(record.budgets)]):
      raise ValueError("the budgets of a job's cases must be alike, to be averaged.")
  num_classes = first.selection.votes.shape[1]
  found: dict[str, Any] = quality(
    [record.truth[record.counted] for record in done],
    [record.predictions[record.counted] for record in done],
    num_classes,
  )
  average = first.adversary.radii is None or config.budgets is None
  kept = [_certified(task, record) for record in done]
  for name, targets in (("certified", "all"), ("certified_accuracy", "correct")):
    sizes = [int((r.counted if targets == "all" else r.labelled).sum()) for r in done]
    found[name] = {}
    for method in sorted(kept[0].get(targets, {})):
      budgets = max((of[targets][method][0] for of in kept), key=len)
      fractions = [
        _extended(metrics.certified_fraction(of[targets][method][1], size), len(budgets))
        for of, size in zip(kept, sizes, strict=True)
      ]
      found[name][method] = _along(first, budgets, np.mean(fractions, axis=0), average)
  methods = [record.base.method for record in done]
  if methods[0] is not None:
    chosen, numbers = np.unique(np.concatenate([*methods]), return_counts=True)
    found["statistics"] = dict(zip(chosen.tolist(), numbers.tolist(), strict=True))
  names = list(first.certified)
  found["solve_seconds"] = {
    name: float(sum(r.certified[name].solve_time.sum() for r in done)) for name in names
  }
  found["not_optimal"] = {
    name: int(sum((r.certified[name].status != "optimal").sum() for r in done)) for name in names
  }
  gaps = [r.certified[name].gap for name in names if name.endswith("/milp") for r in done]
  if gaps:
    found["largest_gap"] = float(np.nanmax(np.concatenate(gaps)))
  return found


Kept = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]
"""targets -> method -> (budgets [B, A], certified [B])."""


def _certified(task: Task, record: Record) -> Kept:
  kept: Kept = {}
  for name, certificate in record.certified.items():
    targets, _, method = name.partition("/")
    kept.setdefault(targets, {})[method] = certificate.budgets, certificate.certified
  for of in kept.values():
    orders = [of.pop(method)[1] for method in list(of) if "@" in method]
    if orders:
      of["orders"] = of["envelope"][0], np.max([of["envelope"][1], *orders], axis=0)
  for rival, certified in task.rivals.items():
    for targets, counts in (certified(record) or {}).items():
      if targets in kept:
        kept[targets][rival] = record.budgets, counts
  return kept


def _extended(fraction: np.ndarray, length: int) -> np.ndarray:
  """A fraction [B] as one of more budgets: at those beyond its own, nothing is certified."""
  return np.pad(fraction, (0, length - len(fraction)))


def _along(
  record: Record, budgets: np.ndarray, fraction: np.ndarray, average: bool
) -> dict[str, dict[str, Any]]:
  """A fraction [B] along every kind of perturbation alone."""
  found: dict[str, dict[str, Any]] = {}
  for axis, kind in enumerate(record.noise.family.kinds):
    alone = (np.delete(budgets, axis, axis=1) == 0).all(axis=1)
    order = np.argsort(budgets[alone, axis], kind="stable")
    spent, curve = budgets[alone, axis][order], fraction[alone][order]
    if record.adversary.radii is not None:
      spent = record.adversary.radii[np.searchsorted(record.budgets[:, 0], spent)]
    area = metrics.average_certifiable_radius(spent, curve) if average else None
    found[kind] = {"budgets": spent.tolist(), "curve": curve.tolist(), "area": area}
  return found


def table(summary: Mapping[str, Any]) -> str:
  """What a summary says, for a terminal: certified accuracy at some budgets, and quality.

  What is certified is rounded down, and so are the radii at which it is.
  """
  lines: list[str] = []
  what, curves = _reported(summary)
  own = summary["job"].get("budgets") is not None
  for kind in dict.fromkeys(kind for _, by_kind in curves for kind in by_kind):
    lines += _block(what, kind, curves, own)
  lines.append("")
  accuracies = {}
  for name, report in summary["smoothings"].items():
    title = f"{_TITLES.get(name, name)} smoothing"
    for label, part in ((f"network of {title}", summary["base_model"][name]), (title, report)):
      lines.append(
        f"{label:<34} accuracy {_shown(part['accuracy'])}   mIoU {_shown(part['mean_iou'])}   "
        f"abstains {_shown(part['abstention'])}"
      )
      if part["accuracy"] is not None:
        accuracies[label] = part["accuracy"]
  most = summary["majority"]
  if most["share"] is not None and not math.isnan(most["share"]):
    label = f"always answering {most['class']}"
    lines.append(f"{label:<34} accuracy {most['share']:.3f}")
    lines += nothing_learned(accuracies, most["share"])
  seconds = summary["seconds"]
  lines += ["", "seconds: " + "   ".join(f"{name} {value:.1f}" for name, value in seconds.items())]
  return "\n".join(lines)


def _block(
  what: str, kind: str, curves: Sequence[tuple[str, Mapping[str, Any]]], own: bool
) -> list[str]:
  """The lines of one kind of perturbation."""
  axis = next(by_kind[kind]["budgets"] for _, by_kind in curves if kind in by_kind)
  if own and kind == "epsilon":
    indices = np.unique(np.linspace(0, len(axis) - 1, 7).round().astype(int))
  else:
    longest = max(np.max(np.flatnonzero(of[kind]["curve"]), initial=0) for _, of in curves)
    indices = np.unique(np.linspace(0, longest, 6).round().astype(int))[min(longest, 1) :]
  shown = [axis[i] for i in indices]
  head = [f"{metrics.round_down(x):>8.7g}" for x in shown]
  counts = kind != "epsilon"
  title = f"{what} at {_KINDS.get(kind, kind)}"
  lines = [f"{title:<37}" + "".join(head)]
  has_area = any(of[kind]["area"] is not None for _, of in curves)
  lines[0] += ("    area" if counts else "   average radius") if has_area else ""
  cut = False
  for label, of in curves:
    known = dict(zip(of[kind]["budgets"], of[kind]["curve"], strict=True))
    values = "".join(
      f"{metrics.round_down(known[x], decimals=3):>8.3f}" if x in known else f"{'-':>8}"
      for x in shown
    )
    area = of[kind]["area"]
    text = "" if area is None else f"{metrics.round_down(area, decimals=4):.4f}"
    beyond = ">" if counts and text and of[kind]["curve"][-1] > 0 else ""
    cut |= beyond != ""
    lines.append(f"  {label:<35}{values}  {beyond + text:>8}".rstrip())
  if not has_area:
    lines.append("no average radius: it needs the automatic radii, a run without --budgets")
  elif counts:
    lines.append(f"area: the sum over 1, 2, ... {kind}" + "; >: as far as --budgets go" * cut)
  return lines


def _shown(value: float | None) -> str:
  return "  -  " if value is None or math.isnan(value) else f"{value:.3f}"


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


def _reported(summary: Mapping[str, Any]) -> tuple[str, list[tuple[str, Mapping[str, Any]]]]:
  """What is reported, and (label, kind -> curve) of every method, each smoothing's best first."""
  labelled = any(report["certified_accuracy"] for report in summary["smoothings"].values())
  name = "certified_accuracy" if labelled else "certified"
  found = []
  for smoothing, report in summary["smoothings"].items():
    of_smoothing = [
      (f"{_TITLES.get(smoothing, smoothing)}, {_METHODS.get(method, method)}", by_kind)
      for method, by_kind in report[name].items()
    ]
    of_smoothing.sort(key=lambda item: -sum(sum(of["curve"]) for of in item[1].values()))
    found += of_smoothing
  return name.replace("_", " "), found


def draw(
  task: Task,
  config: Config,
  data: Data,
  done: Sequence[Record],
  summary: Mapping[str, Any],
  out: Path,
) -> None:
  """Draws the curves of every kind of perturbation, and the task's own figures, under `out`."""
  kinds = done[0].noise.family.kinds
  for kind in kinds:
    name = "curves.png" if len(kinds) == 1 else f"{kind}.png"
    save_figure(out / name, curves_figure(summary, kind))
  for name, figure in task.figures(config, data, done, summary).items():
    save_figure(out / name, figure)


def curves_figure(summary: Mapping[str, Any], kind: str) -> Figure:
  """Certified accuracy of every method against one kind of perturbation alone."""
  what, curves = _reported(summary)
  job, number, unit = summary["job"], len(summary["inputs"]), summary["unit"]
  of_kind = {label: by_kind[kind] for label, by_kind in curves}
  longest = max(of_kind.values(), key=lambda of: len(of["budgets"]))["budgets"]
  end = len(longest)
  full = {label: of["curve"] for label, of in of_kind.items() if of["budgets"] == longest}
  if kind != "epsilon":  # of counts, as far as there is anything
    end = 2 + max(int(np.max(np.flatnonzero(curve), initial=0)) for curve in full.values())
  whose = "labelled " if what == "certified accuracy" else ""
  return plots.curves_figure(
    np.asarray(longest)[:end],
    {label: np.asarray(curve)[:end] for label, curve in full.items()},
    xlabel=_AXES.get(kind, f"{kind}, over the whole input"),
    ylabel=f"{what} (fraction of {whose}{unit})",
    title=f"{job['data']}: {number} input{'s'[: number > 1]}, {job['samples']} samples, "
    f"level {1 - job['alpha']:g} each",
    whole=kind != "epsilon",
  )


def save_figure(path: Path, figure: Figure) -> None:
  """Writes a figure, whole or not at all."""
  storage.write_whole(path, lambda partial: figure.savefig(partial, dpi=130))
