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
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lrs_jax import storage
from lrs_jax.evaluation import metrics
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


def job_of(name: str, data_dir: str | None) -> GraphConfig:
  default = TASK.data[name.partition("-")[0]]
  return default._replace(data_dir=data_dir, **STUDY[name])  # type: ignore[arg-type]


def areas(summary: dict[str, Any], smoothing: str) -> dict[str, float]:
  """Area under certified accuracy against each kind of flips, by the strongest method.

  All methods of a job follow from the same bounds, so that the best may be taken afterwards.
  """
  methods = summary["smoothings"][smoothing]["certified_accuracy"].values()
  return {kind: max(m[kind]["area"] for m in methods) for kind in ("additions", "deletions")}


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


def points(summaries: list[dict[str, Any]], kind: str) -> dict[str, list[tuple[float, float]]]:
  """(area, accuracy) of every job, by the name of what it smoothes."""
  found: dict[str, list[tuple[float, float]]] = {}
  for summary in summaries:
    job = summary["job"]
    for smoothing, title in (("certificate", "localized"), ("isotropic", "isotropic")):
      name = f"{title}, {job['model_name']}"
      name += f", {job['partition']}" if smoothing == "certificate" else ""
      accuracy = summary["smoothings"][smoothing]["accuracy"]
      found.setdefault(name, []).append((areas(summary, smoothing)[kind], accuracy))
  return found


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
    front = ordered[metrics.pareto_front(ordered)]
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
  for data in TASK.data:
    chosen = [of for name, of in summaries.items() if name.startswith(data)]
    for kind in ("additions", "deletions"):
      figure = pareto_figure(points(chosen, kind), f"area under certified accuracy ({kind})")
      reports.save_figure(options.out / f"graphs-{data}" / f"pareto-{kind}.png", figure)
  print(table(summaries))


if __name__ == "__main__":
  main()
