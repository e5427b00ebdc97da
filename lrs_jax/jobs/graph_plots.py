"""Figures of certified graphs: curves, the surface over two budgets, and Pareto plots (host)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lrs_jax import storage
from lrs_jax.evaluation import plots

_NAMES = {
  "envelope": "envelope",
  "lp": "paper's LP",
  "orders": "envelope, all orders",
  "naive": "naive",
  "milp": "exact (MILP)",
  "region": "exact region certificate (ICML 2020)",
}


def draw(summary: Mapping[str, Any], out: Path) -> None:
  """Writes `additions.png`, `deletions.png` and `heatmap.png` of a job's summary."""
  job, graph = summary["job"], summary["graph"]["name"]
  title = f"{graph}, {job['model_name']}: {job['samples']} samples, level {1 - job['alpha']:g}"
  for kind in ("additions", "deletions"):
    figure = curves_figure(
      {"localized": summary["localized"], "isotropic": summary["isotropic"]}, kind, title
    )
    save(out / f"{kind}.png", figure)
  save(out / "heatmap.png", surface_figure(np.asarray(summary["localized"]["surface"]), title))


def curves_figure(reports: Mapping[str, Any], kind: str, title: str) -> Figure:
  """Certified accuracy of every smoothing and method against additions or deletions alone.

  Args:
    reports: name of a smoothing -> its report.
    kind: "additions" or "deletions".
    title: one line.

  Returns:
    A Matplotlib figure.
  """
  curves: dict[str, np.ndarray] = {}
  budgets: list[int] = [0]
  for smoothing, report in reports.items():
    for method, by_kind in report["certified_accuracy"].items():
      curves[f"{smoothing}, {_NAMES.get(method, method)}"] = np.asarray(by_kind[kind]["curve"])
      budgets = by_kind[kind]["budgets"]
  end = 2 + max(np.flatnonzero(curve).max(initial=0) for curve in curves.values())
  return plots.curves_figure(
    np.asarray(budgets)[:end],
    {name: curve[:end] for name, curve in curves.items()},
    xlabel=f"attribute {kind}, over the whole graph",
    ylabel="certified accuracy (fraction of test nodes)",
    title=title,
    whole=True,
  )


def surface_figure(surface: np.ndarray, title: str) -> Figure:
  """Certified accuracy over (additions, deletions), [A + 1, D + 1], as far as there is any."""
  rows, columns = (np.max(part, initial=0) + 2 for part in np.nonzero(surface))
  figure = Figure(figsize=(5.8, 4.6), layout="constrained")
  axes = figure.subplots()
  shown = surface[:rows, :columns]
  image = axes.imshow(shown, origin="lower", aspect="auto", cmap="cividis", vmin=0)
  axes.set_yticks(plots.whole_ticks(shown.shape[0] - 1))
  axes.set_xticks(plots.whole_ticks(shown.shape[1] - 1))
  axes.set(xlabel="attribute deletions", ylabel="attribute additions", title=title)
  figure.colorbar(image, ax=axes, label="certified accuracy, localized (envelope, all orders)")
  return figure


def pareto_figure(points: Mapping[str, Sequence[tuple[float, float]]], xlabel: str) -> Figure:
  """Accuracy against robustness, one marker a smoothing distribution.

  What is not beaten is joined by steps: nothing lies between two distributions but what the more
  robust of them has as well.

  Args:
    points: name of a family -> (area under the curve, accuracy) of each of its distributions.
    xlabel: what the area is under.

  Returns:
    A Matplotlib figure.
  """
  figure = Figure(figsize=(6.4, 4.2), layout="constrained")
  axes = figure.subplots()
  for (name, found), marker in zip(points.items(), "os^Dv<>P", strict=False):
    ordered = np.asarray(sorted(found, reverse=True)).reshape(-1, 2)
    handle = axes.scatter(ordered[:, 0], ordered[:, 1], marker=marker, label=name)
    front = ordered[ordered[:, 1] >= np.maximum.accumulate(ordered[:, 1])]
    axes.plot(
      front[::-1, 0],
      front[::-1, 1],
      color=handle.get_facecolor()[0],
      linewidth=1,
      drawstyle="steps-pre",
    )
  axes.set(xlabel=xlabel, ylabel="smoothed accuracy on test nodes")
  axes.grid(alpha=0.3)
  axes.legend()
  return figure


def save(path: Path, figure: Figure) -> None:
  """Writes a figure, whole or not at all."""
  storage.write_whole(path, lambda partial: figure.savefig(partial, dpi=130))
