"""The study's figures."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.image_study.points import (
  CENTER,
  ISOTROPIC,
  LOCALIZED,
  MIOU,
  RIVALS,
  Match,
  Point,
  over,
)
from lrs_jax.evaluation import labels, plots

MARKERS = "osD^vP"

NAMES = {
  LOCALIZED["envelope"]: "localized",
  LOCALIZED["milp"]: "localized, exact",
  LOCALIZED["lp"]: "localized, the paper's LP",
  LOCALIZED["naive"]: "localized, each pixel on its own",
  ISOTROPIC["segcertify"]: "isotropic (SegCertify)",
  CENTER["ranks_by_binomial"]: "center smoothing",
}
"""What is drawn, by its name in the tables. They also have k-FWER, which changes little, other
corrections, thresholds and ranks, which do worse, and other networks and cells."""


def drawn(found: list[Point]) -> list[Point]:
  """The few methods of a figure, under plain names."""
  named = found
  if not any(p.method == LOCALIZED["envelope"] for p in found):  # there is but one other network
    named = [p._replace(method=p.method.removesuffix(", network isotropic")) for p in found]
  order = list(NAMES)
  shown = sorted((p for p in named if p.method in NAMES), key=lambda p: order.index(p.method))
  return [p._replace(method=NAMES[p.method]) for p in shown]


def pareto(found: list[Point], what: str) -> Figure:
  """Mean IoU against average certifiable radius; `what` tells images and samples."""
  figure = Figure(figsize=(6.4, 4.6), layout="constrained")
  axes = figure.subplots()
  shown = drawn(found)
  for i, method in enumerate(dict.fromkeys(p.method for p in shown)):
    mine = sorted((p for p in shown if p.method == method), key=MIOU)
    axes.plot(
      [p.miou for p in mine],
      [p.radius["right"] for p in mine],
      marker=MARKERS[i],
      color=plots.COLORS[i],
      linestyle=":" if method.startswith("isotropic") else "-",
      label=method,
    )
  axes.set(xlabel="mean IoU of the smoothed prediction", ylim=(0, 1.12 * axes.get_ylim()[1]))
  axes.set_ylabel(r"average certifiable $\ell_2$ radius")
  _finish(axes, _verdict(found), f"{what}; numbers: std of the noise")
  _name_series(axes, shown)
  return figure


def _verdict(found: list[Point]) -> str:
  """What localized smoothing certifies over isotropic smoothing, in words."""
  rivals = [p for p in found if p.method in RIVALS]
  ours = [p for p in found if p.method.startswith(LOCALIZED["envelope"])]
  ratios = [over(p, rivals, MIOU) for p in ours if not p.method.endswith("k-FWER")]
  known = sorted(f"{r.ratio:.2f}" for r in ratios if r and not r.at_most)
  if not known:
    return "Certifiable radius against quality"
  span = " to ".join(dict.fromkeys((known[0], known[-1])))
  return (
    f"Localized smoothing certifies {span} times the radius\n"
    "of isotropic smoothing at equal mean IoU"
  )


def _name_series(axes: Axes, shown: Sequence[Point]) -> None:
  """Names the lines, and the noise of their points as far as there is room."""
  lines = axes.get_lines()
  names = [labels.Label(str(of.get_label()), _along(of.get_xydata()), of, 10) for of in lines]
  if not labels.place(axes, names):
    labels.legend_below(axes.figure)
  points = [
    labels.Label(p.noise, np.array([[p.miou, p.radius["right"]]]), line, 8)
    for line in lines
    for p in shown
    if p.method == line.get_label()
  ]
  labels.place_some(axes, points)


def _along(points: Any) -> np.ndarray:
  """Points of a line from corner to corner, and between them."""
  points = np.asarray(points, float)
  at = np.linspace(0, len(points) - 1, 6 * len(points) - 5)
  return np.stack([np.interp(at, np.arange(len(points)), of) for of in points.T], axis=1)


def _finish(axes: Axes, title: str, note: str = "") -> None:
  axes.figure.suptitle(title, fontsize=11)
  axes.set_title(textwrap.fill(note, 88), fontsize=8, color="0.3")
  axes.grid(alpha=0.3)
  axes.spines[["top", "right"]].set_visible(False)


def curves(chosen: list[Point], radii: np.ndarray, what: str) -> Figure:
  """Certified accuracy against budget, of points of about equal mean IoU."""
  named = drawn(chosen)
  shown = {p.method: np.asarray(p.curve["certified_accuracy"]) for p in named}
  noises = {p.method.partition(" ")[0].strip(","): p.noise for p in named}
  noise = ", ".join(f"{kind} {std}" for kind, std in noises.items())
  end = 2 + max(int(np.flatnonzero(curve).max(initial=0)) for curve in shown.values())
  return plots.curves_figure(
    radii[:end],
    {name: curve[:end] for name, curve in shown.items()},
    xlabel=r"$\ell_2$ budget $\varepsilon$ of one perturbation of the whole image, [0, 1] scale",
    ylabel="certified accuracy (labelled pixels)",
    title=f"{_larger(chosen)} ({what}; noise std: {noise})",
  )


def _larger(chosen: list[Point]) -> str:
  """Which kind of smoothing certifies more, in words."""
  areas = {p.method: float(np.sum(p.curve["certified_accuracy"])) for p in drawn(chosen)}
  ours = max((area for name, area in areas.items() if name.startswith("localized")), default=0.0)
  theirs = areas.get(NAMES[ISOTROPIC["segcertify"]])
  if theirs is None:
    return "More is certified of all pixels together than of each on its own"
  how = "more pixels than" if ours > 1.05 * theirs else "about as many pixels as"
  how = "fewer pixels than" if ours < 0.95 * theirs else how
  return f"At about equal mean IoU, localized smoothing certifies {how} isotropic smoothing"


def cost_figure(matches: list[Match]) -> Figure:
  """Radius over the best isotropic one at equal mean IoU, against what both may cost."""
  figure = Figure(figsize=(6.4, 4.4), layout="constrained")
  axes = figure.subplots()
  plain = [m for m in matches if m.point.method in NAMES]
  lines = list(dict.fromkeys((m.point.method, m.point.noise) for m in plain))
  for i, (method, noise) in enumerate(lines[: len(MARKERS)]):
    mine = [m for m in plain if (m.point.method, m.point.noise) == (method, noise)]
    ratio = [over(m.point, m.rivals, MIOU) for m in mine]
    spent = [m.rivals[0].samples for m in mine]
    known = [(x, r.ratio) for x, r in zip(spent, ratio, strict=True) if r and not r.at_most]
    if known:
      label = f"{NAMES[method]}, std {noise}"
      axes.plot(*zip(*known, strict=True), marker=MARKERS[i], color=plots.COLORS[i], label=label)
  axes.axhline(1, color="black", linewidth=0.8)
  axes.set_xscale("log")
  axes.set(xlabel="device time, in whole passes of the network", ylim=(0, None))
  axes.set_ylabel("certifiable radius, localized / isotropic")
  _finish(axes, "Radius of localized over isotropic smoothing\nat equal mean IoU and device time")
  labels.name_curves(axes)
  return figure
