"""Tables and figures of the study on images, from its JSON files.

    PYTHONPATH=. python benchmarks/images_report.py

reads benchmarks/results/images/*.json and writes images.md, pareto.png and curves.png beside them;
`--results benchmarks/results/images/180x240` does it for the larger images.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterable
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrs_jax import plots


class Point(NamedTuple):
  """One way of smoothing with one way of certifying."""

  method: str
  noise: str
  grid: tuple[int, int]
  samples: int  # per output
  miou: float
  accuracy: float
  radius: dict[str, float]  # right, trapezoid and left sums
  curve: dict[str, Any]


LOCALIZED = {
  "naive": "localized, naive",
  "lp": "localized, paper's LP",
  "envelope": "localized, envelope",
  "milp": "localized, exact",
}
ISOTROPIC = {
  "envelope": "isotropic, Bonferroni",
  "segcertify": "isotropic, SegCertify (Holm, one budget at a time)",
}
SEVERAL = {
  ("localized", "envelope"): LOCALIZED["envelope"],
  ("localized", "milp"): LOCALIZED["milp"],
  ("strict", "envelope"): LOCALIZED["envelope"],
  ("isotropic", "envelope"): "isotropic",
}
"""What else is certified with k-FWER."""
CENTER = {
  "ranks_by_dkw": "center smoothing, published ranks",
  "ranks_by_binomial": "center smoothing, exact ranks",
}


def points(results: dict[str, dict], kind: str, samples: str) -> list[Point]:
  """All that was certified for one kind of smoothing at one number of samples."""
  found = []
  for name, result in results.items():
    if not name.startswith(kind) or samples not in result["samples"]:
      continue
    if name.endswith("-more") and int(samples) in result["sizes"]["marks"]:
      continue  # the same counts as without
    smoothing, at = result["smoothing"], result["samples"][samples]
    where = label(name, smoothing), tuple(smoothing["grid"]), int(samples)
    special = variant(name, smoothing)
    known = ISOTROPIC if kind == "isotropic" else LOCALIZED | {"segcertify": "SegCertify"}
    if name.endswith("-exact"):  # a second look at the same counts
      known = {m: LOCALIZED[m] for m in ("lp", "milp")}
    found += [
      _point(title + special, where, at, at["curves"][m])
      for m, title in known.items()
      if m in at["curves"]
    ]
    for tau, fixed in at.get("fixed_threshold", {}).items():
      found.append(_point(f"SegCertify, τ = {tau}", where, fixed, fixed["curve"]))
    if "center" in result and samples == _base(result):
      center = result["center"]
      found += [_point(title, where, center, center["curves"][m]) for m, title in CENTER.items()]
    several = result["samples"][f"{samples}, k-FWER"]
    found += [
      _point(f"{SEVERAL[kind, m]}{special}, k-FWER", where, several, curve)
      for m, curve in several["curves"].items()
      if m in known
    ]
  return found


def label(name: str, smoothing: dict[str, Any]) -> str:
  """Noise as tables name it: std from the own cell to the farthest that is seen."""
  low, high, hidden = (smoothing[k] for k in ("std_min", "std_max", "hide_beyond"))
  if name.startswith("strict"):
    return f"{low:g}, {name.split('-')[1]}"
  if hidden is not None:
    high = low + (high - low) * hidden / (max(smoothing["grid"]) - 1)
  return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def variant(name: str, smoothing: dict[str, Any]) -> str:
  """What tells this way of smoothing from the study's main one, to be added to a method's name."""
  special = name.split("-")[2] if name.count("-") > 1 else ""
  if name.startswith("strict") or special in ("", "exact", "more"):
    return ""
  if special in ("paper", "fine"):
    return ", {}×{} cells".format(*smoothing["grid"])
  return f", network {special}"


def _point(
  method: str, where: tuple[str, tuple[int, int], int], quality: dict, curve: dict
) -> Point:
  return Point(
    method, *where, quality["mean_iou"], quality["pixel_accuracy"], curve["radius"], curve
  )


def _base(result: dict) -> str:
  """The number of samples per output that all methods have."""
  return str(result["sizes"]["marks"][-1])


def table(title: str, found: Iterable[Point], rivals: list[Point]) -> str:
  """Markdown; the last columns compare with rivals of equal quality, between their noise levels."""
  compared = ["over isotropic at equal mIoU", "at equal pixel accuracy"] if rivals else []
  columns = ["mIoU", "pixel accuracy", "ACR (right)", "trapezoid", "left", *compared]
  lines = [
    f"### {title}\n",
    f"| method | std | {' | '.join(columns)} |",
    "| --- | --- |" + " ---: |" * len(columns),
  ]
  for point in sorted(found, key=lambda p: (p.method, p.noise)):
    numbers = [
      point.miou,
      point.accuracy,
      *(point.radius[k] for k in ("right", "trapezoid", "left")),
    ]
    cells = [f"{number:.3f}" for number in numbers]
    if rivals:
      cells += [_over(point, rivals, quality) for quality in (_miou, _accuracy)]
    lines.append(f"| {point.method} | {point.noise} | {' | '.join(cells)} |")
  return "\n".join(lines) + "\n"


_miou, _accuracy = attrgetter("miou"), attrgetter("accuracy")


class Ratio(NamedTuple):
  """Of a radius to a rival's."""

  ratio: float
  at_most: bool  # all rivals are of greater quality: stronger noise would win them radius


def over(point: Point, rivals: list[Point], quality: Callable[[Point], float]) -> Ratio | None:
  """Radius over that of the best rival at the same quality, linear between its noise levels.

  None if no rival is as good.
  """
  best, lowest = -1.0, np.inf
  for method in {p.method for p in rivals}:
    front = sorted((quality(p), p.radius["right"]) for p in rivals if p.method == method)
    if quality(point) <= front[-1][0]:
      best = max(best, float(np.interp(quality(point), *zip(*front, strict=True))))
      lowest = min(lowest, front[0][0])
  if best < 0:
    return None
  return Ratio(point.radius["right"] / best if best else math.inf, quality(point) < lowest)


def _over(point: Point, rivals: list[Point], quality: Callable[[Point], float]) -> str:
  found = over(point, rivals, quality)
  if found is None:
    return "none as good"
  return ("at most " if found.at_most else "") + f"{found.ratio:.2f}"


def _times(radius: float, other: float) -> str:
  return f"{radius / other:.2f}" if other else "∞"


class Match(NamedTuple):
  """A localized point, and isotropic ones that cost as much."""

  point: Point
  rivals: list[Point]


def equal_cost(
  localized: dict[int, list[Point]],
  isotropic: dict[int, list[Point]],
  cost: Callable[[Point], float],
  step: int,
) -> list[Match]:
  """Envelope points beside isotropic ones of `cost` times as many samples, up to the next step."""
  found = []
  for samples, points in localized.items():
    for point in points:
      rivals = isotropic.get(math.ceil(samples * cost(point) / step - 1e-9) * step)
      if rivals and point.method.startswith(LOCALIZED["envelope"]):
        found.append(Match(point, [p for p in rivals if p.method in _RIVALS]))
  return sorted(found, key=lambda m: (m.point.method, m.point.noise, m.point.samples))


def cost_table(title: str, matches: list[Match]) -> str:
  """What localized smoothing wins where isotropic smoothing has more samples for the same cost."""
  lines = [
    f"### {title}\n",
    "| method | std | cells | its samples | isotropic samples | mIoU | pixel accuracy | "
    "ACR (right) | over isotropic at equal mIoU | at equal pixel accuracy |",
    "| --- | --- | --- |" + " ---: |" * 7,
  ]
  for point, rivals in matches:
    cells = "×".join(map(str, point.grid))
    numbers = " | ".join(f"{v:.3f}" for v in (point.miou, point.accuracy, point.radius["right"]))
    ratios = " | ".join(_over(point, rivals, quality) for quality in (_miou, _accuracy))
    lines.append(
      f"| {point.method} | {point.noise} | {cells} | {point.samples} | {rivals[0].samples} | "
      f"{numbers} | {ratios} |"
    )
  return "\n".join(lines) + "\n"


def cost_figure(matches: list[Match]) -> Figure:
  """Radius over the best isotropic one at equal quality, against what both may cost."""
  figure = Figure(figsize=(9, 4), layout="constrained")
  lines = list(dict.fromkeys((m.point.method, m.point.noise) for m in matches))
  for axes, quality, title in zip(
    figure.subplots(1, 2, sharey=True), (_miou, _accuracy), ("mean IoU", "pixel accuracy"),
    strict=True,
  ):  # fmt: skip
    for i, (method, noise) in enumerate(lines):
      mine = [m for m in matches if (m.point.method, m.point.noise) == (method, noise)]
      spent = [m.rivals[0].samples for m in mine]
      ratio = [over(m.point, m.rivals, quality) for m in mine]
      known = [(x, r.ratio) for x, r in zip(spent, ratio, strict=True) if r and not r.at_most]
      if known:
        special = method.removeprefix(LOCALIZED["envelope"])
        axes.plot(
          *zip(*known, strict=True), marker="osD^vP*X"[i % 8],
          color=plots.COLORS[i % len(plots.COLORS)], label=f"std {noise}{special}",
        )  # fmt: skip
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(title=f"at equal {title}", xlabel="device time, in whole passes of the network")
    axes.set_xscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
  figure.axes[0].set_ylabel("ACR over isotropic SegCertify's")
  return figure


def ablation(found: list[Point], noise: str) -> str:
  """What every step brings at one noise level, in multiples of the naive certificate."""
  here = {p.method: p.radius["right"] for p in found if p.noise == noise}
  lines = ["| step | ACR | over naive | over the step before |", "| --- |" + " ---: |" * 3]
  steps = list(LOCALIZED.values())
  chains = [[*steps[: i + 1], f"{steps[i]}, k-FWER"] for i in (2, 3)]
  rows: dict[str, str] = {}
  for chain in chains:
    known = [step for step in chain if step in here]
    for before, step in zip([known[0], *known], known, strict=False):
      ratios = " | ".join(_times(here[step], here[other]) for other in (known[0], before))
      rows.setdefault(step, f"| {step} | {here[step]:.3f} | {ratios} |")
  return f"### Ablation at std {noise}\n\n" + "\n".join([*lines, *rows.values()]) + "\n"


def iou_table(result: dict[str, Any]) -> str:
  """Certified mean IoU of whole images, averaged, against the budget."""
  lines = [
    "### Certified mean IoU (mean over images, classes of the truth)\n",
    "| smoothing | bound | " + " | ".join(f"ε = {r:.2f}" for r in result["radii"]) + " |",
    "| --- | --- |" + " ---: |" * len(result["radii"]),
  ]
  for name, bounds in result["mean_iou"].items():
    for bound, title in (("per_class", "every class its worst"), ("jointly", "one perturbation")):
      values = " | ".join(f"{v:.3f}" for v in bounds[bound])
      lines.append(f"| {name} | {title} | {values} |")
  return "\n".join(lines) + "\n"


def choice_table(result: dict[str, Any]) -> str:
  """The ten best proposals and the noise made by hand, from pilot samples."""
  hand = "3x5, std 0.2 to 1, power 1"
  shown = [c for i, c in enumerate(result["candidates"]) if i < 10 or c["name"] == hand]
  lines = [
    f"### Noise proposed from {len(result['images'])} validation images\n",
    "| noise | promised ACR | pixel accuracy | mIoU | accurate enough |",
    "| --- | ---: | ---: | ---: | --- |",
  ]
  for c in shown:
    name = f"**{c['name']}**" if c["name"] == result["best"] else c["name"]
    name += " (by hand)" if c["name"] == hand else ""
    lines.append(
      f"| {name} | {c['average_certifiable_radius']:.3f} | {c['pixel_accuracy']:.3f} | "
      f"{c['mean_iou']:.3f} | {'yes' if c['eligible'] else 'no'} |"
    )
  return "\n".join(lines) + "\n"


def noises_table(result: dict[str, Any]) -> str:
  """Every noise under every network that was trained, by pilot samples."""
  networks = sorted({c["network"] for c in result["candidates"]})
  names = sorted({c["name"] for c in result["candidates"]})
  found = {(c["name"], c["network"]): c for c in result["candidates"]}
  lines = [
    f"### Promised ACR (mIoU) by network and noise, {len(result['images'])} validation images\n",
    "| noise | " + " | ".join(networks) + " |",
    "| --- |" + " ---: |" * len(networks),
  ]
  for name in names:
    cells = [
      f"{found[name, n]['average_certifiable_radius']:.3f} ({found[name, n]['mean_iou']:.3f})"
      for n in networks
    ]
    lines.append(f"| {name} | " + " | ".join(cells) + " |")
  return "\n".join(lines) + "\n"


def pareto(panels: dict[str, list[Point]]) -> Figure:
  """Mean IoU against average certifiable radius, one panel per comparison."""
  rows = math.ceil(len(panels) / 2)
  figure = Figure(figsize=(10.4, 0.8 + 4.4 * rows), layout="constrained")
  grid = figure.subplots(rows, 2, squeeze=False, sharex=True, sharey=True)
  axes = grid.ravel()[: len(panels)]
  for empty in grid.ravel()[len(panels) :]:
    empty.set_axis_off()
  panels = {
    title: [p for p in found if p.method not in _OMITTED] for title, found in panels.items()
  }
  order = list(dict.fromkeys(p.method for found in panels.values() for p in found))
  for one, (title, found) in zip(axes, panels.items(), strict=True):
    _scatter(one, found, order)
    one.set(title=title)
  for one in grid[-1]:
    one.set_xlabel("mean IoU of the smoothed prediction")
  for one in grid[:, 0]:
    one.set_ylabel(r"average certifiable $\ell_2$ radius, right sums")
  handles = {h.get_label(): h for one in axes for h in one.get_lines()}
  figure.legend(
    handles=list(handles.values()), loc="outside lower center", ncols=3, fontsize="small"
  )
  return figure


def _scatter(axes: Axes, found: list[Point], order: list[str]) -> None:
  for i, method in enumerate(order):
    mine = [p for p in found if p.method == method and p.radius["right"] > 0]
    mine.sort(key=lambda p: p.miou)
    if mine:
      axes.plot(
        [p.miou for p in mine],
        [p.radius["right"] for p in mine],
        marker="osD^vP*X<>hd"[i % 12],
        color=plots.COLORS[i % len(plots.COLORS)],
        linestyle="-" if method.startswith("localized") else ":",
        label=method,
      )
      for p in mine:
        where = p.miou, p.radius["right"]
        axes.annotate(p.noise, where, (4, 2), textcoords="offset points", fontsize=5, alpha=0.7)
  axes.grid(alpha=0.3)


def matched(found: list[Point], rivals: list[Point], noise: str) -> list[Point]:
  """Every method's localized point of that noise, and rivals of about its mean IoU or more."""
  chosen = [p for p in found if p.noise == noise]
  floor = min(p.miou for p in chosen)
  best: dict[str, Point] = {}
  for p in rivals:
    strongest = best.get(p.method, p).radius["right"]
    if p.miou >= floor - 0.005 and p.radius["right"] >= strongest:
      best[p.method] = p
  return [*chosen, *best.values()]


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--results", type=Path, default=Path("benchmarks/results/images"))
  options = parser.parse_args(arguments)
  report(options.results)


def report(folder: Path) -> str:
  """Writes every table and figure that the results at hand allow; returns the tables."""
  results = {p.stem: json.loads(p.read_text()) for p in sorted(folder.glob("*-[0-9]*.json"))}
  first = next(iter(results.values()))
  few, base = first["sizes"]["marks"]
  rates = folder / "rates.json"
  marks = sorted({int(m) for r in results.values() for m in r["samples"] if m.isdigit()})
  localized = {mark: points(results, "localized", str(mark)) for mark in marks}
  isotropic = {mark: points(results, "isotropic", str(mark)) for mark in marks}
  ours = [n for n in results if n.startswith("localized")]
  exact = next((n for n in ours if n.endswith("-exact")), ours[0])
  noise = label(exact, results[exact]["smoothing"])
  panels = {
    f"{mark} samples per output": [*localized[mark], *isotropic[mark]] for mark in (base, few)
  }
  texts = [
    table(title, found, [p for p in found if p.method in _RIVALS])
    for title, found in panels.items()
  ]
  costs: dict[str, Callable[[Point], float]] = {"forward passes": lambda p: math.prod(p.grid)}
  if rates.exists():
    seconds = {
      tuple(map(int, name.split("x"))): value
      for name, value in json.loads(rates.read_text())["seconds_per_pass"].items()
    }
    costs["device time"] = lambda p: math.prod(p.grid) * seconds[p.grid] / seconds[1, 1]
  for title, cost in costs.items():
    matches = equal_cost(localized, isotropic, cost, base)
    if matches:
      texts.append(cost_table(f"Equal {title}", matches))
      spent = max(m.rivals[0].samples for m in matches)
      shown = [m for m in matches if m.rivals[0].samples == spent]
      panels[f"equal {title}: isotropic {spent} samples"] = [
        *(m.point for m in shown),
        *shown[0].rivals,
      ]
      if title == "device time":
        cost_figure(matches).savefig(folder / "time.png", dpi=120)
  texts.append(ablation(localized[base], noise))
  strict = points(results, "strict", base)
  if strict:
    texts.append(table(f"Strictly local models, {base} samples", strict, []))
  extra = {name: folder / f"{name}.json" for name in ("choice", "noises", "certified-iou")}
  if extra["certified-iou"].exists():
    texts.append(iou_table(json.loads(extra["certified-iou"].read_text())))
  if extra["choice"].exists():
    texts.append(choice_table(json.loads(extra["choice"].read_text())))
  if extra["noises"].exists():
    texts.append(noises_table(json.loads(extra["noises"].read_text())))
  text = "\n".join(texts)
  (folder / "images.md").write_text(text)
  pareto(panels).savefig(folder / "pareto.png", dpi=120)
  chosen = matched(localized[base], isotropic[base], noise)
  plots.curves_figure(
    np.asarray(first["radii"]),
    {f"{p.method} ({p.noise})": np.asarray(p.curve["certified_accuracy"]) for p in chosen},
    xlabel=r"$\ell_2$ budget $\varepsilon$ of one perturbation of the whole image, [0, 1] scale",
    ylabel="certified accuracy (fraction of labelled pixels)",
    title=f"CamVid, {len(first['images'])} images, {base} samples per output",
  ).savefig(folder / "curves.png", dpi=120)
  return text


_OMITTED = (ISOTROPIC["envelope"], "SegCertify, τ = 0.9", "SegCertify, τ = 0.95")
"""Not drawn: hardly to be told from Holm's, and less accurate still."""

_RIVALS = (*ISOTROPIC.values(), *CENTER.values())


if __name__ == "__main__":
  main()
