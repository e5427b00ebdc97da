"""Number of clusters and flip probabilities of graph jobs, chosen on validation nodes.

    PYTHONPATH=. python benchmarks/graph_choices.py --data-dir DIR --work lrs-out/choices

runs a small job for every candidate, graph and seed, which certifies the validation nodes (what is
finished under --work is not done again), and writes graph-choices.md and .json under --out. Of the
candidates that are as accurate as isotropic smoothing, the best is that of the greatest geometric
mean, over graphs and kinds of flips, of the area under certified accuracy plus .05. Test nodes are
not looked at, and seeds are others than those of graph_defaults.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.graph_defaults import KINDS, measured, only
from lrs_jax import storage
from lrs_jax.jobs import running
from lrs_jax.tasks import TASKS

Candidate = tuple[int, tuple[float, float], tuple[float, float]]
"""Clusters, theta_plus and theta_minus, each in a group's own cluster and in the least affine."""

CANDIDATES: Mapping[str, Sequence[Candidate]] = {
  "graphs": (
    (5, (0.01, 0.01), (0.6, 0.95)),
    (3, (0.01, 0.01), (0.6, 0.95)),
    (8, (0.01, 0.01), (0.6, 0.95)),
    (5, (0.01, 0.02), (0.6, 0.95)),
  ),
  "edges": (
    (5, (0.001, 0.001), (0.4, 0.95)),
    (3, (0.001, 0.001), (0.4, 0.95)),
    (5, (0.001, 0.001), (0.4, 0.8)),
    (5, (0.001, 0.002), (0.4, 0.95)),
  ),
}
"""By task, the default first. The baseline's flips are those of a group's own cluster."""


def run(
  task: str, data: str, candidate: Candidate, seed: int, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
  """What is measured of a candidate's localized flips, and of the isotropic ones of the default."""
  found = {}
  for smoothing, (clusters, plus, minus) in (
    ("certificate", candidate),
    ("isotropic", CANDIDATES[task][0]),
  ):
    config = (
      TASKS[task]
      .data[data]
      ._replace(
        data_dir=options.data_dir,
        nodes="validation",
        seed=seed,
        samples=options.samples,
        selection_samples=options.selection_samples,
        budgets=tuple(options.budgets),
        orders=(1.0, 2.0),
        clusters=clusters,
        theta_plus=plus,
        theta_minus=minus,
      )
    )
    settings = (clusters, *plus, *minus) if smoothing == "certificate" else (smoothing,)
    out = options.work / "-".join(map(str, (data, seed, *settings)))
    found[smoothing] = measured(running.certify(only(TASKS[task], smoothing), config, out))[
      smoothing
    ]
  return found


def choose(jobs: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[np.ndarray, np.ndarray, int]:
  """Scores [P] of candidates, whether they are accurate enough, bool [P], and which one to take.

  `jobs` has, for every candidate, what `run` found on all graphs and seeds.
  """
  areas = np.array([[[job["certificate"][k] for k in KINDS] for job in of] for of in jobs])
  score = np.exp(np.log(areas + 0.05).mean(axis=(1, 2)))
  accuracy, baseline = (
    np.array([np.mean([job[name]["accuracy"] for job in of]) for of in jobs])
    for name in ("certificate", "isotropic")
  )
  eligible = accuracy >= baseline - 1e-9
  return score, eligible, int(np.where(eligible | ~eligible.any(), score, -1).argmax())


def table(task: str, jobs: Sequence[Sequence[Mapping[str, Any]]]) -> str:
  """Markdown: accuracy and areas of every candidate, means over graphs and seeds."""
  score, eligible, best = choose(jobs)
  lines = [
    f"| clusters, θ₊, θ₋ | accuracy (isotropic) | {' | '.join(KINDS)} | score |",
    "| --- |" + " ---: |" * (2 + len(KINDS)),
  ]
  for i, (candidate, of) in enumerate(zip(CANDIDATES[task], jobs, strict=True)):
    clusters, plus, minus = candidate
    accuracy, baseline = (
      np.mean([job[name]["accuracy"] for job in of]) for name in ("certificate", "isotropic")
    )
    cells = [f"{clusters}, {plus[0]:g} to {plus[1]:g}, {minus[0]:g} to {minus[1]:g}"]
    cells.append(f"{accuracy:.3f} ({baseline:.3f})")
    cells += [f"{np.mean([job['certificate'][kind] for job in of]):.3g}" for kind in KINDS]
    mark = "**" if i == best else ""
    cells.append(f"{mark}{score[i]:.3g}{mark}" + ("" if eligible[i] else ", less accurate"))
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  add = parser.add_argument
  add("--data-dir", required=True, help="folder of citeseer.npz and cora_ml.npz")
  add("--work", type=Path, required=True, help="folder for the jobs")
  add("--tasks", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES))
  add("--seeds", type=int, nargs="+", default=[10], help="(default: 10)")
  add("--samples", type=int, default=500, help="(default: 500)")
  add("--selection-samples", type=int, default=100, help="(default: 100)")
  add("--budgets", type=int, nargs=2, default=[8, 20], metavar=("A", "D"), help="(default: 8 20)")
  add("--out", type=Path, default=Path("benchmarks/results"), help="of the table")
  options = parser.parse_args(arguments)
  found, text = {}, "# Options of graph jobs, chosen on validation nodes\n"
  for task in options.tasks:
    found[task] = [
      [
        run(task, data, candidate, seed, options)
        for data in TASKS[task].data
        for seed in options.seeds
      ]
      for candidate in CANDIDATES[task]
    ]
    text += f"\n## {task}: {', '.join(TASKS[task].data)}\n\n{table(task, found[task])}\n"
  text += (
    f"\nSums of certified accuracy at 1, 2, 3, ... flips, on validation nodes of seeds "
    f"{', '.join(map(str, options.seeds))}; {options.samples} samples. The score is the geometric "
    "mean of the sums plus .05; bold is the best of those as accurate as isotropic smoothing.\n"
  )
  storage.save_text(options.out / "graph-choices.md", text)
  storage.save_json(options.out / "graph-choices.json", found)
  print(text)


if __name__ == "__main__":
  main()
