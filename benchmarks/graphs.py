"""Localized against isotropic smoothing on Citeseer and Cora-ML.

    PYTHONPATH=. python benchmarks/graphs.py --data-dir DIR --work lrs-out/study

runs every job of the study that has no summary yet (10 to 20 minutes each on 2 cores), and writes
graphs.json, graphs.md and a Pareto plot per data set and kind of perturbation under
benchmarks/results.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lrs_jax import storage
from lrs_jax.evaluation import labels, metrics, plots
from lrs_jax.jobs import reports, running
from lrs_jax.tasks.graphs import TASK, GraphConfig

STUDY = {
  "citeseer-appnp": {"partition": "spectral", "method": "milp"},
  "citeseer-gcn": {"partition": "spectral", "model_name": "gcn", "method": "milp"},
  "citeseer-appnp-metis": {"partition": "metis", "method": "milp"},
  "citeseer-appnp-metis-0.4": {"partition": "metis", "theta_minus": (0.4, 0.95)},
  "citeseer-appnp-metis-0.8": {"partition": "metis", "theta_minus": (0.8, 0.95)},
  "cora_ml-appnp": {"partition": "spectral", "method": "milp"},
  "cora_ml-gcn": {"partition": "spectral", "model_name": "gcn", "method": "milp"},
  "cora_ml-appnp-metis": {"partition": "metis", "method": "milp"},
  "cora_ml-appnp-metis-0.4": {"partition": "metis", "theta_minus": (0.4, 0.95)},
}  # fmt: skip
"""name -> what differs from the defaults of the data set that it starts with."""


TITLES = {"citeseer": "Citeseer", "cora_ml": "Cora-ML"}
NOTE = "Up and right is better. θ₋: the least probability that the noise deletes an attribute"


def job_of(name: str, data_dir: str | None) -> GraphConfig:
  default = TASK.data[name.partition("-")[0]]
  return default._replace(data_dir=data_dir, clusters=5, **STUDY[name])  # type: ignore[arg-type]


def areas(summary: dict[str, Any], smoothing: str) -> dict[str, float]:
  """Area under certified accuracy against each kind of flips, and both, by the strongest method.

  All methods of a job follow from the same bounds, so that the best may be taken afterwards.
  """
  methods = summary["smoothings"][smoothing]["certified_accuracy"].values()
  kinds = {kind for method in methods for kind in method}
  return {kind: max(m[kind]["area"] for m in methods) for kind in kinds}


def table(summaries: dict[str, dict[str, Any]]) -> str:
  """Markdown: accuracy, and area under certified accuracy by the strongest method."""
  lines = [
    "| data, network, clusters | θ₋ | smoothed accuracy | deletions | additions | "
    "isotropic: θ₋ | accuracy | deletions | additions |",
    "| --- |" + " ---: |" * 8,
  ]
  for summary in summaries.values():
    job, cells = summary["job"], []
    low, high = job["theta_minus"]
    for part, theta in (("certificate", f"{low:g}–{high:g}"), ("isotropic", f"{low:g}")):
      found, accuracy = areas(summary, part), summary["smoothings"][part]["accuracy"]
      cells += [theta, f"{accuracy:.3f}"]
      cells += [f"{found[kind]:.2f}" for kind in ("deletions", "additions")]
    title = f"{job['data']}, {job['model_name']}, {job['partition']}"
    lines.append(f"| {title} | " + " | ".join(cells) + " |")
  return "\n".join(lines)


class Point(NamedTuple):
  """One distribution and network: how robust, how accurate, and its name in a figure."""

  area: float
  accuracy: float
  name: str


def points(summaries: list[dict[str, Any]], kind: str) -> dict[str, list[Point]]:
  """Localized and isotropic smoothing of every job, each once."""
  found: dict[str, list[Point]] = {"localized": [], "isotropic": []}
  for summary in summaries:
    job = summary["job"]
    network, theta = job["model_name"].upper(), f"θ₋ {job['theta_minus'][0]:g}"
    clusters = {"metis": "METIS"}.get(job["partition"], job["partition"])
    names = f"{network}, {clusters}, {theta}", f"{network}, {theta}"
    for smoothing, family, name in zip(("certificate", "isotropic"), found, names, strict=True):
      accuracy = summary["smoothings"][smoothing]["accuracy"]
      point = Point(areas(summary, smoothing)[kind], accuracy, name)
      if point not in found[family]:  # jobs that differ in clusters alone share their isotropic one
        found[family].append(point)
  return found


def pareto_figure(points: Mapping[str, Sequence[Point]], xlabel: str, title: str) -> Figure:
  """Accuracy against robustness, one marker a smoothing distribution.

  What a family reaches is below and left of its line: nothing lies between two distributions but
  what the more robust of them has as well.

  Args:
    points: name of a family -> its distributions.
    xlabel: what the area is under.
    title: one line.

  Returns:
    A Matplotlib figure.
  """
  figure = Figure(figsize=(6.4, 4.6), layout="constrained")
  axes = figure.subplots()
  axes.set(xlabel=xlabel, ylabel="smoothed accuracy on test nodes")
  figure.suptitle(title, fontsize=11)
  axes.set_title(NOTE, fontsize=8, color="0.3")
  axes.margins(0.16)
  markers = [
    axes.plot(*_of(found).T, "os"[i], color=plots.COLORS[i])[0]
    for i, found in enumerate(points.values())
  ]
  axes.axis(axes.axis())  # the limits stay
  names = []
  for marker, (family, found) in zip(markers, points.items(), strict=True):
    line = _draw_front(axes, _of(found))
    line.set(color=marker.get_color(), linestyle="-" if family == "localized" else ":")
    names.append(labels.Label(family, labels.apart(line, axes.get_lines()), line, 11))
    names += [labels.Label(p.name, np.array([p[:2]]), marker, 8) for p in found]
  if not labels.place(axes, names):  # what tells the families apart, at least
    labels.place(axes, [name for name in names if name.text in points])
  return figure


def _of(found: Sequence[Point]) -> np.ndarray:
  return np.array([point[:2] for point in found]).reshape(-1, 2)


def _draw_front(axes: Axes, points: np.ndarray) -> Line2D:
  """The border of what the points [P, 2] reach, from the left of the axes to their bottom."""
  front = points[metrics.pareto_front(points)]
  x, y = front[np.argsort(front[:, 0])].T
  x, y = np.r_[axes.get_xlim()[0], x, x[-1]], np.r_[y[0], y, axes.get_ylim()[0]]
  (line,) = axes.plot(x, y, linewidth=1, drawstyle="steps-pre")
  return line


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--data-dir", help="folder of citeseer.npz and cora_ml.npz")
  parser.add_argument("--work", type=Path, default=Path("lrs-out/study"), help="jobs' results")
  parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
  options = parser.parse_args(arguments)
  paths = {name: options.work / name / "summary.json" for name in STUDY}
  for name, path in paths.items():
    if not path.exists():
      print(name, flush=True)
      running.certify(TASK, job_of(name, options.data_dir), path.parent)
  summaries = {name: json.loads(path.read_text()) for name, path in paths.items()}
  storage.save_json(options.out / "graphs.json", summaries)
  (options.out / "graphs.md").write_text(table(summaries) + "\n")
  draw(summaries, options.out)
  print(table(summaries))


def draw(summaries: Mapping[str, dict[str, Any]], out: Path) -> None:
  """A figure for every data set and kind of perturbation."""
  for data in TASK.data:
    chosen = [of for name, of in summaries.items() if name.startswith(data)]
    for kind in ("additions", "deletions"):
      found = points(chosen, kind)
      most = max(found, key=lambda family: max(point.area for point in found[family]))
      figure = pareto_figure(
        found,
        f"area under certified accuracy, in flips of attributes ({kind})",
        f"{TITLES[data]}: {most} smoothing certifies most against {kind}",
      )
      reports.save_figure(out / f"graphs-{data}" / f"pareto-{kind}.png", figure)


if __name__ == "__main__":
  main()
