"""The study's tables, in Markdown."""

from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.image_study.points import ACCURACY, LOCALIZED, MIOU, Match, Point, over


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
      cells += [_over(point, rivals, quality) for quality in (MIOU, ACCURACY)]
    lines.append(f"| {point.method} | {point.noise} | {' | '.join(cells)} |")
  return "\n".join(lines) + "\n"


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
    ratios = " | ".join(_over(point, rivals, quality) for quality in (MIOU, ACCURACY))
    lines.append(
      f"| {point.method} | {point.noise} | {cells} | {point.samples} | {rivals[0].samples} | "
      f"{numbers} | {ratios} |"
    )
  return "\n".join(lines) + "\n"


def ablation(found: list[Point], noise: str) -> str:
  """What every step brings at one noise level, in multiples of the naive certificate."""
  here = {p.method: p.radius["right"] for p in found if p.noise == noise}
  lines = ["| step | ACR | over naive | over the step before |", "| --- |" + " ---: |" * 3]
  steps = list(LOCALIZED.values())
  chains = [[*steps[: i + 1], f"{steps[i]}, k-FWER"] for i in (2, 3)]
  rows: dict[str, str] = {}
  for chain in chains:
    known = [step for step in chain if step in here]
    for before, step in zip([*known[:1], *known], known, strict=False):
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
  """The ten greatest promises, what is chosen and the noise made by hand, from pilot samples."""
  hand = "3x5, std 0.2 to 1, power 1"
  named = hand, result["best"]
  shown = [c for i, c in enumerate(result["candidates"]) if i < 10 or c["name"] in named]
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


def _over(point: Point, rivals: list[Point], quality: Callable[[Point], float]) -> str:
  found = over(point, rivals, quality)
  if found is None:
    return "none as good"
  return ("at most " if found.at_most else "") + f"{found.ratio:.2f}"


def _times(radius: float, other: float) -> str:
  return f"{radius / other:.2f}" if other else "∞"
