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
  groups: int
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
    if name.endswith("-more") and samples == _base(result):
      continue  # these are counted already
    smoothing, at = result["smoothing"], result["samples"][samples]
    noise, groups = label(name, smoothing), math.prod(smoothing["grid"])
    special = variant(name, smoothing)
    known = ISOTROPIC if kind == "isotropic" else LOCALIZED | {"segcertify": "SegCertify"}
    if name.endswith("-exact"):  # a second look at the same counts
      known = {m: LOCALIZED[m] for m in ("lp", "milp")}
    found += [
      _point(title + special, noise, groups, at, at["curves"][m])
      for m, title in known.items()
      if m in at["curves"]
    ]
    for tau, fixed in at.get("fixed_threshold", {}).items():
      found.append(_point(f"SegCertify, τ = {tau}", noise, groups, fixed, fixed["curve"]))
    if "center" in result and samples == _base(result):
      center = result["center"]
      found += [
        _point(title, noise, groups, center, center["curves"][m]) for m, title in CENTER.items()
      ]
    several = result["samples"].get(f"{samples}, k-FWER")
    if several:
      title = "localized, exact, k-FWER"
      found.append(_point(title, noise, groups, several, several["curves"]["milp"]))
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


def _point(method: str, noise: str, groups: int, quality: dict, curve: dict) -> Point:
  return Point(
    method, noise, groups, quality["mean_iou"], quality["pixel_accuracy"], curve["radius"], curve
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
      cells += [
        _over(point, rivals, quality) for quality in (attrgetter("miou"), attrgetter("accuracy"))
      ]
    lines.append(f"| {point.method} | {point.noise} | {' | '.join(cells)} |")
  return "\n".join(lines) + "\n"


def _over(point: Point, rivals: list[Point], quality: Callable[[Point], float]) -> str:
  """Radius over that of the best rival at the same quality, linear between its noise levels.

  Where all rivals are of greater quality, stronger noise would win them radius: "at most".
  """
  best, lowest = -1.0, np.inf
  for method in {p.method for p in rivals}:
    front = sorted((quality(p), p.radius["right"]) for p in rivals if p.method == method)
    if quality(point) <= front[-1][0]:
      best = max(best, float(np.interp(quality(point), *zip(*front, strict=True))))
      lowest = min(lowest, front[0][0])
  if best < 0:
    return "none as good"
  return ("" if quality(point) >= lowest else "at most ") + _times(point.radius["right"], best)


def _times(radius: float, other: float) -> str:
  return f"{radius / other:.2f}" if other else "∞"


def ablation(found: list[Point], noise: str) -> str:
  """What every step brings at one noise level, in multiples of the naive certificate."""
  steps = [*LOCALIZED.values(), "localized, exact, k-FWER"]
  here = {p.method: p for p in found if p.noise == noise}
  first = here[steps[0]].radius["right"]
  lines = ["| step | ACR | over naive | over the step before |", "| --- |" + " ---: |" * 3]
  before = first
  for step in steps:
    if step in here:
      radius = here[step].radius["right"]
      lines.append(
        f"| {step} | {radius:.3f} | {_times(radius, first)} | {_times(radius, before)} |"
      )
      before = radius
  return f"### Ablation at std {noise}\n\n" + "\n".join(lines) + "\n"


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
  figure = Figure(figsize=(5.2 * len(panels), 5.6), layout="constrained")
  axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
  panels = {
    title: [p for p in found if p.method not in _OMITTED] for title, found in panels.items()
  }
  order = list(dict.fromkeys(p.method for found in panels.values() for p in found))
  for one, (title, found) in zip(axes, panels.items(), strict=True):
    _scatter(one, found, order)
    one.set(title=title, xlabel="mean IoU of the smoothed prediction")
  axes[0].set_ylabel(r"average certifiable $\ell_2$ radius, right sums")
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
        axes.annotate(p.noise, (p.miou, p.radius["right"]), fontsize=5, alpha=0.7)
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
  few, base = (str(mark) for mark in first["sizes"]["marks"])
  rates = folder / "rates.json"
  localized = {mark: points(results, "localized", mark) for mark in (few, base)}
  isotropic = {
    mark: points(results, "isotropic", mark)
    for mark in sorted({m for r in results.values() for m in r["samples"]})
  }
  comparisons = {
    f"{base} samples per output": (localized[base], isotropic[base]),
    f"{few} samples per output": (localized[few], isotropic[few]),
  }
  ours = [n for n in results if n.startswith("localized")]
  exact = next((n for n in ours if n.endswith("-exact")), ours[0])
  noise = label(exact, results[exact]["smoothing"])
  grid = results[exact]["smoothing"]["grid"]
  groups = math.prod(grid)
  multiples = {f"equal forward passes: isotropic {groups} x {base}": groups}
  if rates.exists():
    seconds = json.loads(rates.read_text())["seconds_per_pass"]
    ratio = seconds["{}x{}".format(*grid)] / seconds["1x1"]
    multiples[f"equal device time: isotropic {np.ceil(groups * ratio):g} x {base}"] = int(
      np.ceil(groups * ratio)
    )
  for title, multiple in multiples.items():
    rivals = isotropic.get(str(multiple * int(base)))
    if rivals:
      comparisons[title] = [p for p in localized[base] if p.groups == groups], rivals
  texts = []
  for title, (found, rivals) in comparisons.items():
    texts.append(table(title, [*found, *rivals], [p for p in rivals if p.method in _RIVALS]))
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
  pareto({t: [*a, *b] for t, (a, b) in comparisons.items()}).savefig(folder / "pareto.png", dpi=120)
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
