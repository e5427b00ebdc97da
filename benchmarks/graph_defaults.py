"""The default job on a graph, localized against isotropic, at equal samples, for several seeds.

    PYTHONPATH=. python benchmarks/graph_defaults.py --data-dir DIR --work lrs-out/defaults

runs `lrs-jax certify citeseer` and `cora_ml` with every seed (what is finished under --work is not
done again), and writes graph-defaults.md and .json under --out. Seeds choose split, clusters,
network and samples.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.graphs import areas
from lrs_jax import storage
from lrs_jax.jobs import running
from lrs_jax.tasks.graphs import TASK
from lrs_jax.tasks.task import Case, Config, Data, Smoothing, Task

KINDS = "additions", "deletions", "both"


def run(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
  """The summary of one job."""
  config = TASK.data[name]._replace(
    data_dir=options.data_dir,
    seed=seed,
    samples=options.samples,
    selection_samples=options.selection_samples,
    budgets=tuple(options.budgets),
  )
  return running.certify(TASK, config, options.work / f"{name}-{seed}")


def only(task: Task, name: str) -> Task:
  """A task with one of its smoothings alone."""

  def smoothings(config: Config, data: Data, case: Case) -> tuple[Smoothing, ...]:
    return tuple(each for each in task.smoothings(config, data, case) if each.name == name)

  return task._replace(smoothings=smoothings)


def measured(summary: Mapping[str, Any]) -> dict[str, Any]:
  """What is compared of a job, and its seconds."""
  found: dict[str, Any] = {"seconds": summary["seconds"]}
  for smoothing in summary["smoothings"]:
    accuracy = summary["smoothings"][smoothing]["accuracy"]
    found[smoothing] = {"accuracy": accuracy, **areas(dict(summary), smoothing)}
  return found


def table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
  """Markdown: means over the seeds, and the range of what localized flips bring."""
  head = "graph, seeds", "smoothing", "smoothed accuracy", *KINDS
  lines = [f"| {' | '.join(head)} |", "| --- | --- |" + " ---: |" * 3]
  for name, jobs in results.items():
    for smoothing, title in (("isotropic", "isotropic"), ("certificate", "localized")):
      cells = [f"{name}, {len(jobs)}" if title == "isotropic" else "", title]
      cells.append(f"{np.mean([job[smoothing]['accuracy'] for job in jobs]):.3f}")
      for kind in KINDS:
        cell = f"{np.mean([job[smoothing][kind] for job in jobs]):.3g}"
        if title == "localized":
          ratios = [job[smoothing][kind] / job["isotropic"][kind] for job in jobs]
          cell += f", {np.mean(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})"
        cells.append(cell)
      lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  add = parser.add_argument
  add("--data-dir", required=True, help="folder of citeseer.npz and cora_ml.npz")
  add("--work", type=Path, required=True, help="folder for the jobs")
  add("--graphs", nargs="+", default=["citeseer", "cora_ml"], choices=list(TASK.data))
  add("--seeds", type=int, default=3, help="jobs of each graph: seeds 0, 1, ... (default: 3)")
  add("--samples", type=int, default=1000, help="(default: 1000)")
  add("--selection-samples", type=int, default=200, help="(default: 200)")
  add("--budgets", type=int, nargs=2, default=[15, 30], metavar=("A", "D"), help="(default: 15 30)")
  add("--out", type=Path, default=Path("benchmarks/results"), help="of the table")
  options = parser.parse_args(arguments)
  results = {
    name: [measured(run(name, seed, options)) for seed in range(options.seeds)]
    for name in options.graphs
  }
  seconds = [sum(job["seconds"].values()) for jobs in results.values() for job in jobs]
  text = (
    "# The default job on a graph\n\nArea under certified accuracy: the sum of it at 1, 2, 3, ... "
    "flips of attributes, by the best of a job's certificates. Isotropic flips have the exact "
    f"region certificate (ICML 2020) among theirs. {options.samples} samples and "
    f"{options.selection_samples} to select, alpha = {TASK.data['citeseer'].alpha:g}; all other "
    "options are the defaults. Means over the seeds; in brackets the range of the ratios.\n\n"
    f"{table(results)}\n\nA job, both smoothings: {min(seconds):.0f} to {max(seconds):.0f} s.\n"
  )
  storage.save_text(options.out / "graph-defaults.md", text)
  storage.save_json(options.out / "graph-defaults.json", results)
  print(text)


if __name__ == "__main__":
  main()
