"""What a finished job reports: quality, curves, a table and figures, whatever the task (host)."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrs_jax import storage
from lrs_jax.evaluation import metrics
from lrs_jax.jobs.records import Record
from lrs_jax.tasks.task import Case, Config, Data, Task

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_METHODS = {
  "lp": "paper's LP",
  "milp": "exact (MILP)",
  "orders": "envelope, all orders",
  "segcertify": "SegCertify, per radius",
  "region": "exact region (ICML 2020)",
  "regions": "exact regions",
}
"""Methods whose title is not their name."""

_KINDS = {"epsilon": "radius"}

_AXES = {
  "epsilon": "radius ε of one perturbation of the whole input",
  "entries": "changed entries, over the whole input",
  "both": "additions, and as many deletions, over the whole input",
}


def quality(
  truth: Sequence[np.ndarray], predictions: Sequence[np.ndarray], num_classes: int
) -> dict[str, float]:
  """Accuracy of predictions, int [N] per case, on all cases together; abstentions (-1) are wrong.

  Labels outside [0, K), K being `num_classes`, are void and do not count but for abstentions.
  """
  predicted = np.concatenate(predictions)
  confusion = metrics.confusion_matrix(np.concatenate(truth), predicted, num_classes)
  return {
    "accuracy": metrics.accuracy(confusion),
    "mean_iou": metrics.mean_iou(confusion),
    "abstention": float(np.mean(predicted < 0)) if predicted.size else math.nan,
  }


def quality_of_cases(data: Data, predictions: Sequence[np.ndarray]) -> dict[str, float]:
  """Quality of predictions [N], one for each case."""
  truth, predicted = [], []
  for case, found in zip(data.cases, predictions, strict=True):
    labels = np.full(found.shape, -1) if case.truth is None else case.truth
    truth.append(_counted(case, labels))
    predicted.append(_counted(case, found))
  return quality(truth, predicted, len(data.classes))


def _counted(case: Case, values: np.ndarray) -> np.ndarray:
  return values if case.counted is None else values[case.counted]


def majority(data: Data) -> dict[str, Any]:
  """The most frequent label of all cases together, and how often always answering it is right."""
  known = [_counted(case, case.truth) for case in data.cases if case.truth is not None]
  labels = np.concatenate([np.zeros(0, int), *known])
  inside = labels[(labels >= 0) & (labels < len(data.classes))]
  counts = np.bincount(inside, minlength=len(data.classes))
  share = float(counts.max() / inside.size) if inside.size else math.nan
  return {"class": data.classes[int(counts.argmax())], "share": share}


def report(task: Task, config: Config, done: Sequence[Record]) -> dict[str, Any]:
  """Means over the cases of one smoothing: quality, curves and areas under them, of every method.

  `certified` counts all outputs whose prediction cannot change, over all that are counted;
  `certified_accuracy` those that are right as well, over the labelled ones. A curve is along one
  kind of perturbation alone, or "both" alike where there are two. Its area is the average
  certifiable radius, or, where changes are counted, the sum over 1, 2, ... of them. Method "orders"
  is the best envelope of all Rényi orders at every budget; rivals of the task are methods, too.
  Over radii of a job's own an average radius would say more of them than of it, and is None.
  Records of other budgets than the one that has most begins with are a ValueError.
  """
  first = max(done, key=lambda record: len(record.budgets))
  for record in done:
    if not np.array_equal(record.budgets, first.budgets[: len(record.budgets)]):
      raise ValueError("the budgets of a job's cases must be alike, to be averaged.")
  found: dict[str, Any] = {"title": str(first.meta.get("title") or first.smoothing.name)}
  found |= quality(
    [record.truth[record.counted] for record in done],
    [record.base.predictions[record.counted] for record in done],
    first.selection.votes.shape[1],
  )
  found["perturbations"] = first.noise.family.perturbations
  found["samples"] = [int(record.estimation.num_samples) for record in done]
  average = first.adversary.radii is None or config.budgets is None
  kept = [_certified(task, record) for record in done]
  for name, targets in (("certified", "all"), ("certified_accuracy", "correct")):
    sizes = [int((r.counted if targets == "all" else r.labelled).sum()) for r in done]
    found[name] = {}
    for method in sorted(kept[0].get(targets, {})):
      curves = [of[targets][method] for of in kept]
      budgets = max((of_case for of_case, _ in curves), key=len)
      fractions = np.zeros((len(done), len(budgets)))  # beyond its own budgets, none of a case
      for fraction, (_, certified), size in zip(fractions, curves, sizes, strict=True):
        fraction[: len(certified)] = metrics.certified_fraction(certified, size)
      found[name][method] = _along(first, budgets, fractions.mean(axis=0), average)
  methods = [record.base.method for record in done]
  if methods[0] is not None:
    chosen, numbers = np.unique(np.concatenate([*methods]), return_counts=True)
    found["statistics"] = dict(zip(chosen.tolist(), numbers.tolist(), strict=True))
  found |= {"solve_seconds": {}, "not_optimal": {}}
  for name in first.certified:
    proven = [record.certified[name] for record in done]
    found["solve_seconds"][name] = float(sum(one.solve_time.sum() for one in proven))
    found["not_optimal"][name] = int(sum((one.status != "optimal").sum() for one in proven))
  gaps = [r.certified[name].gap for name in first.certified if name.endswith("/milp") for r in done]
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


def _along(
  record: Record, budgets: np.ndarray, fraction: np.ndarray, average: bool
) -> dict[str, dict[str, Any]]:
  """A fraction [B] along every kind of perturbation alone, and along two kinds alike."""
  found: dict[str, dict[str, Any]] = {}
  kinds = record.noise.family.kinds
  ways = [(kind, (np.delete(budgets, i, 1) == 0).all(1), i) for i, kind in enumerate(kinds)]
  if len(kinds) == 2 and budgets.min(axis=1).any():
    ways.append(("both", budgets[:, 0] == budgets[:, 1], 0))
  for kind, along, axis in ways:
    order = np.argsort(budgets[along, axis], kind="stable")
    spent, curve = budgets[along, axis][order], fraction[along][order]
    if record.adversary.radii is not None:
      spent = record.adversary.radii[np.searchsorted(record.budgets[:, 0], spent)]
    area = metrics.average_certifiable_radius(spent, curve) if average else None
    found[kind] = {"budgets": spent.tolist(), "curve": curve.tolist(), "area": area}
  return found


def table(summary: Mapping[str, Any]) -> str:
  """What a summary says, for a terminal: certified accuracy at some budgets, and quality.

  What is certified is rounded down, and so are the radii at which it is. What makes less than a
  tenth fewer mistakes than the most frequent class is noted: certificates of such predictions are
  true, and worth nothing.
  """
  lines: list[str] = []
  what, curves = reported(summary)
  own = summary["job"].get("budgets") is not None
  for kind in dict.fromkeys(kind for by_kind in curves.values() for kind in by_kind):
    of_kind = {label: by_kind[kind] for label, by_kind in curves.items()}
    lines += _block(f"{what} at {_KINDS.get(kind, kind)}", kind, of_kind, own)
  lines.append("")
  accuracies, networks, base = {}, [], summary["base_model"]
  for name, report in summary["smoothings"].items():
    title = report.get("title", name)
    parts = [(title, report)]
    if name in base and base[name] not in networks:
      networks.append(base[name])
      parts.insert(0, (f"network of {title}" if networks[1:] else "network, no noise", base[name]))
    for label, part in parts:
      lines.append(
        f"{label:<34} accuracy {_shown(part['accuracy'])}   mIoU {_shown(part['mean_iou'])}   "
        f"abstains {_shown(part['abstention'])}"
      )
      if part["accuracy"] is not None:
        accuracies[label] = part["accuracy"]
  most, share = summary["majority"]["class"], summary["majority"]["share"]
  if share is not None and not math.isnan(share):
    lines.append(f"{f'always answering {most}':<34} accuracy {share:.3f}")
    poor = [name for name, accuracy in accuracies.items() if 1 - accuracy > 0.9 * (1 - share)]
    if poor:
      lines.append(f"NOTE: hardly more often right than that, or less often: {', '.join(poor)}")
  if summary["job"].get("until") is not None:
    samples = summary["smoothings"][next(iter(summary["smoothings"]))]["samples"]
    lines.append(
      f"samples until enough was certified: {np.mean(samples):.0f} on average, "
      f"{min(samples)} to {max(samples)}"
    )
  seconds = "   ".join(f"{name} {value:.1f}" for name, value in summary["seconds"].items())
  return "\n".join([*lines, "", f"seconds: {seconds}"])


def _block(title: str, kind: str, curves: Mapping[str, Mapping[str, Any]], own: bool) -> list[str]:
  """The lines of one kind of perturbation."""
  axis, counts = next(iter(curves.values()))["budgets"], kind != "epsilon"
  if own and not counts:
    indices = np.unique(np.linspace(0, len(axis) - 1, 7).round().astype(int))
  else:
    longest = max(np.max(np.flatnonzero(of["curve"]), initial=0) for of in curves.values())
    indices = np.unique(np.linspace(0, longest, 6).round().astype(int))[min(longest, 1) :]
  shown = [axis[i] for i in indices]
  lines = [f"{title:<37}" + "".join(f"{metrics.round_down(x):>8.7g}" for x in shown)]
  has_area = any(of["area"] is not None for of in curves.values())
  lines[0] += ("    area" if counts else "   average radius") if has_area else ""
  cut = False
  for label, of in curves.items():
    known = dict(zip(of["budgets"], of["curve"], strict=True))
    values = "".join(
      f"{metrics.round_down(known[x], decimals=3):>8.3f}" if x in known else f"{'-':>8}"
      for x in shown
    )
    text = "" if of["area"] is None else f"{metrics.round_down(of['area'], decimals=4):.4f}"
    beyond = ">" if counts and text and of["curve"][-1] > 0 else ""
    cut |= beyond != ""
    lines.append(f"  {label:<35}{values}  {beyond + text:>8}".rstrip())
  if not has_area:
    lines.append("no average radius: it needs the automatic radii, a run without --budgets")
  elif counts:
    lines.append(f"area: the sum over 1, 2, ... {kind}" + "; >: as far as --budgets go" * cut)
  return lines


def _shown(value: float | None) -> str:
  return "  -  " if value is None or math.isnan(value) else f"{value:.3f}"


def reported(summary: Mapping[str, Any]) -> tuple[str, dict[str, Mapping[str, Any]]]:
  """What is reported, and label -> kind -> curve of every method, each smoothing's best first."""
  labelled = any(report["certified_accuracy"] for report in summary["smoothings"].values())
  return curves_of(summary, "certified_accuracy" if labelled else "certified")


def curves_of(summary: Mapping[str, Any], name: str) -> tuple[str, dict[str, Mapping[str, Any]]]:
  """`reported`, of "certified" or "certified_accuracy"."""
  found: dict[str, Mapping[str, Any]] = {}
  for smoothing, report in summary["smoothings"].items():
    title, methods = report.get("title", smoothing), report[name]
    total = {name: sum(sum(of["curve"]) for of in methods[name].values()) for name in methods}
    for method in sorted(methods, key=lambda method: -total[method]):
      found[f"{title}, {_METHODS.get(method, method)}"] = methods[method]
  return name.replace("_", " "), found


def curves_csv(summary: Mapping[str, Any]) -> str:
  """All curves of a summary as comma-separated values, a line for every budget."""
  text = io.StringIO()
  lines = csv.writer(text, lineterminator="\n")
  lines.writerow(("smoothing", "targets", "method", "perturbation", "budget", "fraction"))
  for smoothing, report in summary["smoothings"].items():
    for targets in ("certified", "certified_accuracy"):
      for method, by_kind in report[targets].items():
        for kind, of in by_kind.items():
          what = smoothing, targets.replace("_", " "), method, _KINDS.get(kind, kind)
          lines.writerows((*what, *point) for point in zip(of["budgets"], of["curve"], strict=True))
  return text.getvalue()


def draw(
  task: Task,
  config: Config,
  data: Data,
  done: Sequence[Record],
  summary: Mapping[str, Any],
  out: Path,
) -> None:
  """Draws the curves of every kind of perturbation, and the task's own figures, under `out`."""
  kinds = next(iter(reported(summary)[1].values()))
  for kind in kinds:
    name = "curves.png" if len(kinds) == 1 else f"{kind}.png"
    save_figure(out / name, curves_figure(summary, kind))
  for name, figure in task.figures(config, data, done, summary).items():
    save_figure(out / name, figure)


def curves_figure(summary: Mapping[str, Any], kind: str) -> "Figure":
  """Certified accuracy of every method along the curves of one kind."""
  from lrs_jax.evaluation import plots  # Matplotlib is heavy

  what, curves = reported(summary)
  job, number, unit = summary["job"], len(summary["inputs"]), summary["unit"]
  longest = max((by_kind[kind]["budgets"] for by_kind in curves.values()), key=len)
  of_kind = {label: by_kind[kind] for label, by_kind in curves.items()}
  full = {label: of["curve"] for label, of in of_kind.items() if of["budgets"] == longest}
  end = len(longest)
  if kind != "epsilon":  # of counts, as far as there is anything
    end = 2 + max(int(np.max(np.flatnonzero(curve), initial=0)) for curve in full.values())
  whose = "labelled " if what == "certified accuracy" else ""
  return plots.curves_figure(
    np.asarray(longest)[:end],
    {label: np.asarray(curve)[:end] for label, curve in full.items()},
    xlabel=axis_of(kind),
    ylabel=f"{what} (fraction of {whose}{unit})",
    title=f"{job['data']}: {number} input{'s'[: number > 1]}, {job['samples']} samples, "
    f"level {1 - job['alpha']:g} each",
    whole=kind != "epsilon",
  )


def axis_of(kind: str) -> str:
  """What is along the axis of one kind of perturbation."""
  return _AXES.get(kind, f"{kind}, over the whole input")


def save_figure(path: Path, figure: "Figure") -> None:
  """Writes a figure, whole or not at all."""
  storage.write_whole(path, lambda partial: figure.savefig(partial, dpi=130))
