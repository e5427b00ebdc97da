"""Localized against isotropic flips of attributes, for several probabilities to delete one.

    PYTHONPATH=. python benchmarks/graphs.py --data-dir DIR --work lrs-out/defaults

runs the default jobs on Citeseer and Cora-ML with every probability and seed, and on other graphs
with --files. What is finished under --work is not done again, nor what `graph_defaults.py` did
there. It writes graphs.md, graphs.json and graphs.png under --out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks import graph_defaults
from benchmarks.graph_defaults import KINDS
from lrs_jax import storage
from lrs_jax.evaluation import labels, metrics, plots
from lrs_jax.jobs import reports
from lrs_jax.tasks import TASKS
from lrs_jax.tasks.task import Config, Task

THETAS = 0.4, 0.6, 0.8
"""The least probability that the noise deletes an attribute: that of isotropic flips everywhere,
and of localized ones in a group's own cluster."""

FAMILIES = {"certificate": "localized", "isotropic": "isotropic"}
NOTE = (
  "Up and right is better. Numbers are θ₋, the least probability that noise deletes an attribute."
)

Results = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
"""graph -> θ₋ -> for every seed, what `graph_defaults.run` measured of both families."""


class Point(NamedTuple):
  """One distribution: how robust, how accurate, and its name in a figure."""

  area: float
  accuracy: float
  name: str


def table(results: Results) -> str:
  """Markdown: accuracy, and area under certified accuracy by the best certificate of a job."""
  lines = [f"| graph, seeds | flips | θ₋ | smoothed accuracy | {' | '.join(KINDS)} |"]
  lines.append("| --- | --- | --- |" + " ---: |" * (1 + len(KINDS)))
  for graph, by_theta in results.items():
    for theta, jobs in by_theta.items():
      for name, family in FAMILIES.items():
        of = {what: [job[name][what] for job in jobs] for what in ("accuracy", *KINDS)}
        cells = [f"{graph}, {len(jobs)}", family, theta, f"{np.mean(of['accuracy']):.3f}"]
        cells += [
          f"{np.mean(of[kind]):.3g} ({min(of[kind]):.3g} to {max(of[kind]):.3g})" for kind in KINDS
        ]
        lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def points(results: Results, kind: str) -> dict[str, list[Point]]:
  """Graph and family -> a point of every θ₋, the means over the seeds."""
  found: dict[str, list[Point]] = {}
  for graph, by_theta in results.items():
    for name, family in FAMILIES.items():
      found[f"{graph}, {family}"] = [
        Point(
          *(float(np.mean([j[name][what] for j in jobs])) for what in (kind, "accuracy")), theta
        )
        for theta, jobs in by_theta.items()
      ]
  return found


def pareto_figure(panels: Mapping[str, Mapping[str, Sequence[Point]]], title: str) -> Figure:
  """Accuracy against robustness, a panel for every kind of flips and a marker for every θ₋.

  Lines are steps: between two distributions nothing is reached but what the more robust one has.

  Args:
    panels: kind of flips -> series -> its distributions; the series of a graph stand together,
      localized and isotropic.
    title: one line.

  Returns:
    A Matplotlib figure.
  """
  figure = Figure(figsize=(11, 6.4), layout="constrained")
  figure.suptitle(title, fontsize=12)
  figure.supxlabel(NOTE, fontsize=9, color="0.3")
  (row,) = figure.subplots(1, len(panels), squeeze=False)
  for axes, (kind, series) in zip(row, panels.items(), strict=True):
    axes.set(xlabel=f"area under certified accuracy, {kind}")
    axes.set(ylabel="smoothed accuracy on test nodes")
    axes.margins(0.14)
    _draw(axes, series)
  return figure


def _draw(axes: Axes, series: Mapping[str, Sequence[Point]]) -> None:
  names = []
  for i, (name, found) in enumerate(series.items()):
    at, color = np.array([point[:2] for point in found]), plots.COLORS[i // len(FAMILIES)]
    localized = i % len(FAMILIES) == 0
    (marker,) = axes.plot(*at.T, "o" if localized else "s", color=color)
    marker.set_markerfacecolor(color if localized else "white")
    line = _draw_front(axes, at)
    line.set(color=color, linestyle="-" if localized else ":")
    names.append((name, line, at))
    names += [(point.name, marker, np.array([point[:2]])) for point in found]
  axes.axis(axes.axis())  # the limits stay
  found = []
  for name, line, at in names:
    clear = labels.apart(line, axes.get_lines()) if name in series else at
    found.append(labels.Label(name, clear if len(clear) else at, line, 9 if name in series else 8))
  if not labels.place(axes, found):  # what tells the series apart, at least
    labels.place(axes, [label for label in found if label.text in series])


def _draw_front(axes: Axes, points: np.ndarray) -> Line2D:
  """Steps along those of the points [P, 2] that none exceeds in both."""
  front = points[metrics.pareto_front(points)]
  (line,) = axes.plot(*front[np.argsort(front[:, 0])].T, linewidth=1, drawstyle="steps-pre")
  return line


def title_of(panels: Mapping[str, Mapping[str, Sequence[Point]]]) -> str:
  """What a figure shows: the least that localized flips bring over isotropic ones of equal θ₋."""
  series = [list(of.values()) for of in panels.values()]
  pairs = [pair for of in series for pair in zip(of[::2], of[1::2], strict=True)]
  points = [point for pair in pairs for point in zip(*pair, strict=True)]
  least = min((ours.area / theirs.area for ours, theirs in points if theirs.area), default=1.0)
  return (
    f"At equal θ₋, localized flips certify {np.floor(10 * least) / 10:g} times as much, or more"
  )


def _measured(task: Task, config: Config, name: str, out: Path) -> dict[str, Any]:
  found = graph_defaults.run(task, config, name, out)
  return {what: found[what] for what in ("accuracy", *KINDS, "seconds")}


def main(arguments: Sequence[str] | None = None) -> None:
  options = graph_defaults.parser_of(__doc__, list(TASKS["graphs"].data)).parse_args(arguments)
  results: dict[str, dict[str, list[dict[str, Any]]]] = {}
  for name, (task, config) in graph_defaults.jobs_of(options).items():
    if task is not TASKS["graphs"]:
      continue
    results[name] = {}
    for theta in THETAS:
      low, high = config.theta_minus
      noisier = config._replace(theta_minus=(theta, high))
      suffix = "" if theta == low else f"-{theta:g}"
      results[name][f"{theta:g}"] = [
        {
          each: _measured(
            task, noisier._replace(seed=seed), each, options.work / f"{name}-{seed}{suffix}" / each
          )
          for each in FAMILIES
        }
        for seed in range(options.seeds)
      ]
  text = (
    "# Localized and isotropic flips of attributes, by the probability to delete one\n\nθ₋ is "
    "that of isotropic flips, and of localized ones in a group's own cluster; in the least affine "
    "cluster it is the default. Area under certified accuracy: the sum of it at 1, 2, 3, ... "
    "additions, deletions, or as many of both, by the best of a job's certificates, exact regions "
    f"of both among them. {options.samples} samples, {options.selection_samples} to select; all "
    "other options are the defaults. Means over the seeds, in brackets their range.\n\n"
    f"{table(results)}\n"
  )
  storage.save_text(options.out / "graphs.md", text)
  storage.save_json(options.out / "graphs.json", results)
  panels = {kind: points(results, kind) for kind in KINDS[:2]}
  reports.save_figure(options.out / "graphs.png", pareto_figure(panels, title_of(panels)))
  print(text)


if __name__ == "__main__":
  main()
