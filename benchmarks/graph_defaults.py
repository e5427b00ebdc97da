"""The default jobs on graphs, localized against isotropic, for several seeds.

    PYTHONPATH=. python benchmarks/graph_defaults.py --data-dir DIR --work lrs-out/defaults

runs `lrs-jax certify citeseer`, `cora_ml` and their `_edges` with every seed, every smoothing by
itself; then isotropic smoothing again, of as many samples as take the time of the localized one.
Seeds choose split, clusters, network and samples. --files adds other graphs, such as
`software_graph.py` makes. What is finished under --work is not done again. It writes
graph-defaults.md and .json and figures of the curves under --out.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lrs_jax import storage
from lrs_jax.evaluation import plots
from lrs_jax.jobs import reports, running
from lrs_jax.tasks import TASKS
from lrs_jax.tasks.task import Case, Config, Data, Smoothing, Task

KINDS = "additions", "deletions", "both"

TITLES = {
  "isotropic": "isotropic",
  "equal time": "isotropic, equal time",
  "certificate": "localized",
}

MOST = 20
"""Times as many samples that isotropic smoothing gets at most for equal time."""


def only(task: Task, name: str) -> Task:
  """A task with one of its smoothings alone."""

  def smoothings(config: Config, data: Data, case: Case) -> tuple[Smoothing, ...]:
    return tuple(each for each in task.smoothings(config, data, case) if each.name == name)

  return task._replace(smoothings=smoothings)


def parser_of(about: str, named: Sequence[str]) -> argparse.ArgumentParser:
  """Options of a benchmark of these data sets, which `jobs_of` reads."""
  parser = argparse.ArgumentParser(description=about.partition("\n")[0])
  add = parser.add_argument
  add("--data-dir", required=True, help="folder of citeseer.npz and cora_ml.npz")
  add("--work", type=Path, required=True, help="folder for the jobs")
  add("--graphs", nargs="*", default=named, choices=named)
  add("--files", nargs="*", type=Path, default=[], help="other graphs")
  add("--seeds", type=int, default=3, help="jobs of each graph: seeds 0, 1, ... (default: 3)")
  add("--samples", type=int, default=1000, help="(default: 1000)")
  add("--selection-samples", type=int, default=200, help="(default: 200)")
  add("--budgets", type=int, nargs=2, default=[15, 30], metavar=("A", "D"), help="(default: 15 30)")
  add("--out", type=Path, default=Path("benchmarks/results"), help="of table and figures")
  return parser


def jobs_of(options: argparse.Namespace) -> dict[str, tuple[Task, Config]]:
  """Task and configuration of every data set that is named, and both tasks' of every file."""
  tasks = TASKS["graphs"], TASKS["edges"]
  found = {
    name: (task, task.data[name]) for name in options.graphs for task in tasks if name in task.data
  }
  for path in options.files:
    for task, suffix in zip(tasks, ("", "_edges"), strict=True):
      default = next(iter(task.data.values()))._replace(graph=str(path), binarize=True)
      found[path.stem + suffix] = task, default
  shared = {name: getattr(options, name) for name in ("data_dir", "samples", "selection_samples")}
  shared["budgets"] = tuple(options.budgets)
  return {name: (task, default._replace(**shared)) for name, (task, default) in found.items()}


def areas(summary: Mapping[str, Any], smoothing: str) -> dict[str, float]:
  """Area under certified accuracy against each kind of flips, and both, by the strongest method.

  All methods of a job follow from the same bounds, so that the best may be taken afterwards.
  """
  methods = summary["smoothings"][smoothing]["certified_accuracy"].values()
  kinds = {kind for method in methods for kind in method}
  return {kind: max(m[kind]["area"] for m in methods) for kind in kinds}


def measured(summary: Mapping[str, Any]) -> dict[str, Any]:
  """What is compared of a job, and its seconds."""
  found: dict[str, Any] = {"seconds": summary["seconds"]}
  for smoothing in summary["smoothings"]:
    accuracy = summary["smoothings"][smoothing]["accuracy"]
    found[smoothing] = {"accuracy": accuracy, **areas(summary, smoothing)}
  return found


def curves(summary: Mapping[str, Any], smoothing: str) -> dict[str, list[float]]:
  """Certified accuracy at 0, 1, 2, ... flips of each kind, and both, by the method of most area."""
  methods = summary["smoothings"][smoothing]["certified_accuracy"].values()
  kinds = {kind: [method[kind] for method in methods if kind in method] for kind in KINDS}
  return {kind: max(of, key=lambda one: one["area"])["curve"] for kind, of in kinds.items()}


def run(task: Task, config: Config, name: str, out: Path) -> dict[str, Any]:
  """What one smoothing measures; its times are those of the first run, which are kept."""
  kept = out / "measured.json"
  if not kept.exists():
    found = measured(running.certify(only(task, name), config, out))
    storage.save_json(kept, {**found[name], "seconds": found["seconds"], "samples": config.samples})
  summary = storage.load_json(out / "summary.json")
  return {**storage.load_json(kept), "curves": curves(summary, name)}


def compare(task: Task, config: Config, out: Path) -> dict[str, dict[str, Any]]:
  """Localized and isotropic smoothing of equal samples, and isotropic smoothing of equal time."""
  found = {name: run(task, config, name, out / name) for name in ("certificate", "isotropic")}
  times = (found[name]["seconds"]["sampling"] for name in ("certificate", "isotropic"))
  ratio = min(max(np.divide(*times), 1.0), MOST)
  longer = config._replace(samples=int(round(config.samples * ratio, -1)))
  return found | {"equal time": run(task, longer, "isotropic", out / "equal-time")}


def table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
  """Markdown: means over the seeds, and the range of what localized flips bring."""
  head = "graph, seeds", "smoothing", "samples", "smoothed accuracy", *KINDS
  lines = [f"| {' | '.join(head)} |", "| --- | --- |" + " ---: |" * (2 + len(KINDS))]
  for name, jobs in results.items():
    for smoothing, title in TITLES.items():
      of = [job[smoothing] for job in jobs]
      cells = [f"{name}, {len(jobs)}" if smoothing == "isotropic" else "", title]
      cells.append(f"{np.mean([job['samples'] for job in of]):.0f}")
      cells.append(f"{np.mean([job['accuracy'] for job in of]):.3f}")
      for kind in KINDS:
        cell, theirs = (
          f"{np.mean([job[kind] for job in of]):.3g}",
          [j["isotropic"][kind] for j in jobs],
        )
        if smoothing == "certificate" and min(theirs) > 0:
          ratios = np.divide([job[kind] for job in of], theirs)
          cell += f", {ratios.mean():.2f} times ({ratios.min():.2f} to {ratios.max():.2f})"
        cells.append(cell)
      lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def curves_figure(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
  """Certified accuracy, the mean over the seeds, a row for every graph, a column for every kind."""
  figure = Figure(figsize=(10, 0.8 + 2.3 * len(results)), layout="constrained")
  panels = figure.subplots(len(results), len(KINDS), squeeze=False, sharex="col", sharey="row")
  for row, (graph, jobs) in zip(panels, results.items(), strict=True):
    row[0].set_ylabel(f"{graph}\ncertified accuracy")
    for axes, kind in zip(row, KINDS, strict=True):
      for i, (smoothing, title) in enumerate(reversed(TITLES.items())):
        mean = np.mean([job[smoothing]["curves"][kind] for job in jobs], axis=0)
        end = int(np.max(np.flatnonzero(mean), initial=0)) + 2
        axes.plot(mean[:end], ("-", "--", ":")[i], color=plots.COLORS[i], drawstyle="steps-pre")
        axes.lines[-1].set_label(title)
      axes.set(ylim=(0, None))
      axes.grid(alpha=0.3)
  for axes, kind in zip(panels[-1], KINDS, strict=True):
    axes.set_xlabel({"both": "additions, and as many deletions"}.get(kind, kind))
    axes.set_xticks(plots.whole_ticks(axes.get_xlim()[1]))
  figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
  return figure


def main(arguments: Sequence[str] | None = None) -> None:
  named = [*TASKS["graphs"].data, *TASKS["edges"].data]
  options = parser_of(__doc__, named).parse_args(arguments)
  results: dict[str, list[dict[str, Any]]] = {
    name: [
      compare(task, config._replace(seed=seed), options.work / f"{name}-{seed}")
      for seed in range(options.seeds)
    ]
    for name, (task, config) in jobs_of(options).items()
  }
  text = (
    "# The default jobs on graphs\n\nFlips of attributes, or of edges where the name says so. Area "
    "under certified accuracy: the sum of it at 1, 2, 3, ... additions, deletions, or as many of "
    "both, by the best of a job's certificates. Isotropic flips have the exact region certificate "
    f"(ICML 2020) among theirs. {options.selection_samples} samples to select, alpha = "
    f"{TASKS['graphs'].data['citeseer'].alpha:g}; all other options are the defaults. Means over "
    "the seeds; in brackets the range of the ratios, at equal samples. Equal time: as many samples "
    f"as take the time of the localized ones, at most {MOST} times as many.\n\n{table(results)}\n"
  )
  storage.save_text(options.out / "graph-defaults.md", text)
  storage.save_json(options.out / "graph-defaults.json", results)
  for file, edges in (("graph-defaults", False), ("graph-defaults-edges", True)):
    drawn = {name: jobs for name, jobs in results.items() if name.endswith("_edges") == edges}
    if drawn:
      reports.save_figure(options.out / f"{file}.png", curves_figure(drawn))
  print(text)


if __name__ == "__main__":
  main()
