"""Tables and figures of the study on images, from its JSON files.

    PYTHONPATH=. python benchmarks/images_report.py

reads benchmarks/results/images/*.json and writes images.md and the figures beside them:
pareto.png, pareto-equal-device-time.png, curves.png and time.png, as far as there is anything to
compare; `--results benchmarks/results/images/180x240` does it for the larger images.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.image_study import figures, tables
from benchmarks.image_study.points import (
  RIVALS,
  Match,
  Point,
  equal_cost,
  label,
  matched,
  points,
)

DPI = 130


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
  localized = {mark: points(results, "localized", mark) for mark in marks}
  isotropic = {mark: points(results, "isotropic", mark) for mark in marks}
  ours = [n for n in results if n.startswith("localized")]
  compared = max(
    ours, key=lambda n: (n.endswith("-exact"), len(results[n]["smoothing"]["compare"]))
  )
  noise = label(compared, results[compared]["smoothing"])
  what = f"CamVid, {len(first['images'])} images of {'×'.join(map(str, first['sizes']['size']))}"
  panels = {
    f"{mark} samples per output": [*localized.get(mark, []), *isotropic.get(mark, [])]
    for mark in (base, few)
  }
  panels = {title: found for title, found in panels.items() if found}
  texts = [
    tables.table(title, found, [p for p in found if p.method in RIVALS])
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
      texts.append(tables.cost_table(f"Equal {title}", matches))
      _draw_costs(matches, title, what, folder)
  texts.append(tables.ablation(localized[base], noise))
  strict = points(results, "strict", base)
  if strict:
    texts.append(tables.table(f"Strictly local models, {base} samples", strict, []))
  for name, extra_table in {
    "certified-iou": tables.iou_table,
    "choice": tables.choice_table,
    "noises": tables.noises_table,
  }.items():
    path = folder / f"{name}.json"
    if path.exists():
      texts.append(extra_table(json.loads(path.read_text())))
  text = "\n".join([_INTRODUCTION.format(len(first["images"]), *first["sizes"]["size"]), *texts])
  (folder / "images.md").write_text(text)
  if isotropic[base]:
    of = f"{what}, {base} samples per output"
    figures.pareto([*localized[base], *isotropic[base]], of).savefig(folder / "pareto.png", dpi=DPI)
  chosen = matched(localized[base], isotropic[base], noise)
  figure = figures.curves(chosen, np.asarray(first["radii"]), what)
  figure.savefig(folder / "curves.png", dpi=DPI)
  return text


def _draw_costs(matches: list[Match], title: str, what: str, folder: Path) -> None:
  """What the most expensive of equal cost certify, and how that goes with the cost."""
  spent = max(m.rivals[0].samples for m in matches)
  last = [m for m in matches if m.rivals[0].samples == spent]
  samples = max(m.point.samples for m in last)
  figures.pareto(
    [*(m.point for m in last), *last[0].rivals],
    f"{what}, equal {title}: {samples} samples localized, {spent} isotropic",
  ).savefig(folder / f"pareto-equal-{title.replace(' ', '-')}.png", dpi=DPI)
  if title == "device time" and len({m.rivals[0].samples for m in matches}) > 2:
    figures.cost_figure(matches).savefig(folder / "time.png", dpi=DPI)


_INTRODUCTION = """# CamVid, {} test images at {}×{}

Made by `benchmarks/images_report.py` from the JSON files beside this one, which hold configuration,
seed, versions and device of every run. ACR is the average certifiable radius of all pixels, the
area under the certified fraction of all pixels against ε, by right sums (sound for a falling
curve) over a grid ten times as fine as that of the curves below (the paper's LP: half as fine as
that); pixels that abstain are neither right nor certified, and every method's quality is that of
its own predictions. "Over isotropic" is the ratio to the
best baseline at the same mIoU or pixel accuracy, linear between its noise levels: isotropic
smoothing with SegCertify or Bonferroni, or center smoothing; and with k-FWER for what has k-FWER
itself. "At most" where a baseline is of greater quality at all its levels, so that stronger noise
would win it radius. SegCertify's curve, with Holm's correction, holds at any one budget asked for,
the others at all budgets together. k-FWER gives up 0.5 % of the pixels for better bounds of all
others.
"""

if __name__ == "__main__":
  main()
