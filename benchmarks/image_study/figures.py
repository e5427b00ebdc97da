"""The study's figures."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.image_study.points import ACCURACY, ISOTROPIC, MIOU, Match, Point, over
from lrs_jax.evaluation import plots

MARKERS = "osD^vP*X<>hd"

OMITTED = (
  ISOTROPIC["envelope"],
  "SegCertify, τ = 0.9",
  "network everywhere",
  "network localized",
)
"""Not drawn: hardly to be told from Holm's, less accurate still, and networks that do worse."""


def drawn(points: list[Point]) -> list[Point]:
  """What is not omitted."""
  return [p for p in points if not any(part in p.method for part in OMITTED)]


def pareto(panels: dict[str, list[Point]]) -> Figure:
  """Mean IoU against average certifiable radius, one panel per comparison."""
  columns = min(2, len(panels))
  rows = math.ceil(len(panels) / 2)
  figure = Figure(figsize=(2.4 + 4 * columns, 0.8 + 4.4 * rows), layout="constrained")
  grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
  axes = grid.ravel()[: len(panels)]
  for empty in grid.ravel()[len(panels) :]:
    empty.set_axis_off()
  panels = {title: drawn(found) for title, found in panels.items()}
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
        marker=MARKERS[i % 12],
        color=plots.COLORS[i % len(plots.COLORS)],
        linestyle="-" if method.startswith("localized") else ":",
        label=method,
      )
      for p in mine:
        where = p.miou, p.radius["right"]
        axes.annotate(p.noise, where, (4, 2), textcoords="offset points", fontsize=5, alpha=0.7)
  axes.grid(alpha=0.3)


def cost_figure(matches: list[Match]) -> Figure:
  """Radius over the best isotropic one at equal quality, against what both may cost."""
  figure = Figure(figsize=(9, 5.6), layout="constrained")
  lines = list(dict.fromkeys((m.point.method, m.point.noise) for m in matches))
  for axes, quality, title in zip(
    figure.subplots(1, 2, sharey=True), (MIOU, ACCURACY), ("mean IoU", "pixel accuracy"),
    strict=True,
  ):  # fmt: skip
    for i, (method, noise) in enumerate(lines):
      mine = [m for m in matches if (m.point.method, m.point.noise) == (method, noise)]
      spent = [m.rivals[0].samples for m in mine]
      ratio = [over(m.point, m.rivals, quality) for m in mine]
      known = [(x, r.ratio) for x, r in zip(spent, ratio, strict=True) if r and not r.at_most]
      if known:
        axes.plot(
          *zip(*known, strict=True), marker=MARKERS[i % 12],
          color=plots.COLORS[i % len(plots.COLORS)],
          label=f"{noise}, {method.removeprefix('localized, ')}",
        )  # fmt: skip
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(title=f"at equal {title}", xlabel="device time, in whole passes of the network")
    axes.set_xscale("log")
    axes.grid(alpha=0.3)
  handles = {h.get_label(): h for axes in figure.axes for h in axes.get_lines()[:-1]}
  figure.legend(
    handles=list(handles.values()), loc="outside lower center", ncols=3, fontsize="small"
  )
  figure.axes[0].set_ylabel("average certifiable radius over isotropic's")
  return figure
