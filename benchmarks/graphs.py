"""Localized against isotropic smoothing on Citeseer and Cora-ML.

    PYTHONPATH=. python benchmarks/graphs.py --data-dir DIR --work lrs-out/study

runs every job of the study that has no summary yet (10 to 20 minutes each on 2 cores; METIS needs
`pip install -e ".[graphs]"`), and writes graphs.json, graphs.md and a Pareto plot per data set and
kind of perturbation under benchmarks/results.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from lrs_jax import storage
from lrs_jax.jobs import graph_runs
from lrs_jax.tasks import graphs as graph_jobs
from lrs_jax.tasks.graphs import GraphJob

STUDY = {
  "citeseer-appnp": {"method": "milp"},
  "citeseer-gcn": {"model_name": "gcn", "method": "milp"},
  "citeseer-appnp-metis": {"partition": "metis", "method": "milp"},
  "citeseer-appnp-metis-0.4": {"partition": "metis", "theta_minus": (0.4, 0.95)},
  "citeseer-appnp-metis-0.8": {"partition": "metis", "theta_minus": (0.8, 0.95)},
  "cora_ml-appnp": {"method": "milp"},
  "cora_ml-gcn": {"model_name": "gcn", "method": "milp"},
  "cora_ml-appnp-metis": {"partition": "metis", "method": "milp"},
  "cora_ml-appnp-metis-0.4": {"partition": "metis", "theta_minus": (0.4, 0.95)},
}  # fmt: skip
"""name -> what differs from the defaults of the data set that it starts with."""


def job_of(name: str, data_dir: str | None) -> GraphJob:
  default = graph_jobs.DEFAULTS[name.partition("-")[0]]
  return default._replace(data_dir=data_dir, **STUDY[name])  # type: ignore[arg-type]


def condense(summary: dict[str, Any]) -> dict[str, Any]:
  """A summary without its heat map."""
  parts = ("localized", "isotropic")
  kept = {k: {n: v for n, v in summary[k].items() if n != "surface"} for k in parts}
  return {**summary, **kept}


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
    for part, theta in (("localized", f"{low:g}–{high:g}"), ("isotropic", f"{low:g}")):
      methods = summary[part]["certified_accuracy"].values()
      areas = (max(m[kind]["area"] for m in methods) for kind in ("deletions", "additions"))
      cells += [theta, f"{summary[part]['smoothed_accuracy']:.3f}", *(f"{a:.2f}" for a in areas)]
    title = f"{job['data']}, {job['model_name']}, {job['partition']}"
    lines.append(f"| {title} | " + " | ".join(cells) + " |")
  return "\n".join(lines)


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
      graph_runs.certify_graph(job_of(name, options.data_dir), path.parent)
  summaries = {name: condense(json.loads(path.read_text())) for name, path in paths.items()}
  storage.save_json(options.out / "graphs.json", summaries)
  (options.out / "graphs.md").write_text(table(summaries) + "\n")
  for data in graph_jobs.DEFAULTS:
    chosen = [path for name, path in paths.items() if name.startswith(data)]
    print(graph_runs.compare(chosen, options.out / f"graphs-{data}"))
  print(table(summaries))


if __name__ == "__main__":
  main()
