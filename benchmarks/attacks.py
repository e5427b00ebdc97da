"""Certificates between attacks: no attack may change more than a certificate allows.

    lrs-jax certify citeseer --data-dir DIR --samples 1000 --selection-samples 200 \\
      --budgets 15,30 --out lrs-out/citeseer
    PYTHONPATH=. python benchmarks/attacks.py --data-dir DIR --networks lrs-out/fields \\
      --tasks images tokens
    PYTHONPATH=. python benchmarks/attacks.py --data-dir DIR --job lrs-out/citeseer \\
      --tasks graph --samples 200 --restarts 1

attacks smoothed models: CamVid images and documents by projected gradient descent through the
noise, graphs by flips that the gradient proposes. At every budget it compares what is
certified with what the best attack leaves, counted anew from samples that neither the certificate
nor the attack has seen. It writes attacks.json, attacks.md and attacks.png under --out. Every input
is kept under --work when it is finished, so that it may be stopped at any time; --tasks and
--inputs say which are attacked, and the report is on all that are there.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from benchmarks.attack_study import graphs
from benchmarks.attack_study.gradients import ALPHA, Sandwich, Settings, sandwich
from lrs_jax import keys, storage
from lrs_jax.evaluation import plots
from lrs_jax.jobs.machines import versions

TASKS = "images", "tokens", "graph"

TITLES = {"images": "CamVid images", "tokens": "Documents", "graph": "Graphs"}
"""That of graphs is followed by their names."""

UNITS = {
  "images": "l2 norm of the perturbation",
  "tokens": "l2 norm of the perturbation",
  "graph": "deleted attributes",
}

ABOUT = {
  "images": "Test images, the PatchNet of `benchmarks/fields.py` (trained at 180x240) under "
  "Gaussian noise of std 0.3; certified from votes by its view. Budgets are l2 norms.",
  "tokens": "Test documents of 240 words, each word a fixed random vector of length 1 under "
  "Gaussian noise of std 0.15; a small convolutional network, trained for it here, certified from "
  "votes by its view. Budgets are l2 norms.",
  "graph": "Test nodes are the outputs, budgets are additions, deletions of attributes. Finished "
  "jobs of the default options with 1,000 samples; the best certificate of exact regions and of "
  "all Rényi orders.",
}
"""What was attacked."""

TRIES = {
  "images": "{0.steps} steps, attacks at every budget: {0.restarts}",
  "tokens": "{0.steps} steps, attacks at every budget: {0.restarts}",
  "graph": "{0.steps} steps on the way to the largest budget, attacks: {0.restarts}, of which "
  "every budget gets the best",
}
"""How it was attacked."""

Attack = Callable[[int], tuple[str, np.ndarray, int, Sandwich]]
"""Number of an input -> its name, budgets [B, ...], outputs N, and what was found."""


def main(arguments: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--data-dir", help="folder of camvid/ and citeseer.npz")
  add("--work", type=Path, default=Path("lrs-out/attacks"), help="folder of what is finished")
  add("--networks", type=Path, help="--work of benchmarks/fields.py, for the network of images")
  add("--jobs", type=Path, nargs="*", default=[], help="finished `lrs-jax certify citeseer`, ...")
  add("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
  add("--tasks", nargs="*", default=list(TASKS), choices=TASKS)
  add("--inputs", type=int, default=20, help="images or documents; of graphs all budgets")
  add("--size", default="60x80", help="HxW, of images")
  add("--training", type=int, default=1500, help="steps, of the network of documents")
  for name, value in Settings()._asdict().items():
    add(f"--{name}", type=type(value), default=value, help=f"(default: {value:g})")
  options = parser.parse_args(arguments)
  settings = Settings(*(getattr(options, name) for name in Settings._fields))
  for task in options.tasks:
    attack = {"images": on_images, "tokens": on_tokens, "graph": on_graph}[task]
    inputs = len(graphs.BUDGETS) * len(options.jobs) if task == "graph" else options.inputs
    run(task, attack(options, settings), inputs, options.work, settings)
  rows = [storage.load_json(path) for path in sorted(options.work.glob("*-*.json"))]
  result = {"rows": rows, "versions": versions()}
  storage.save_json(options.out / "attacks.json", result)
  text = report(rows)
  storage.save_text(options.out / "attacks.md", text)
  figure(rows).savefig(options.out / "attacks.png", dpi=150)
  print(text)


def run(task: str, attack: Attack, inputs: int, work: Path, settings: Settings) -> None:
  """Attacks the inputs that are not finished yet."""
  for index in tqdm(range(inputs), task):
    path = work / f"{task}-{index:03d}.json"
    if path.exists():
      continue
    start = time.process_time()
    name, budgets, outputs, found = attack(index)
    storage.save_json(
      path,
      {
        "task": task,
        "input": name,
        "outputs": outputs,
        "targets": found.targets,
        "budgets": budgets.tolist(),
        "certified": found.certified.tolist(),
        "unchanged": found.unchanged.tolist(),
        "kept": found.kept.tolist(),
        "settings": settings._asdict(),
        "cpu_seconds": time.process_time() - start,
      },
    )


def on_images(options: argparse.Namespace, settings: Settings) -> Attack:
  """Attacks on CamVid images."""
  from benchmarks.attack_study import images

  given = images.load(options.data_dir, options.networks, options.size, options.inputs)

  def attack(index: int) -> tuple[str, np.ndarray, int, Sandwich]:
    smoothed = images.smoothed(*given, index, (100, settings.samples))
    key = jax.random.fold_in(keys.tagged(jax.random.key(0), "attacks on images"), index)
    found = sandwich(key, smoothed, images.RADII, settings)
    return smoothed.name, images.RADII, smoothed.base.eta.size, found

  return attack


def on_tokens(options: argparse.Namespace, settings: Settings) -> Attack:
  """Attacks on documents."""
  from benchmarks.attack_study import tokens

  loaded = tokens.load(options.work, options.inputs, steps=options.training)

  def attack(index: int) -> tuple[str, np.ndarray, int, Sandwich]:
    smoothed = tokens.smoothed(loaded, index, (100, settings.samples))
    key = jax.random.fold_in(keys.tagged(jax.random.key(0), "attacks on tokens"), index)
    found = sandwich(key, smoothed, tokens.RADII, settings)
    return smoothed.name, tokens.RADII, smoothed.base.eta.size, found

  return attack


def on_graph(options: argparse.Namespace, settings: Settings) -> Attack:
  """Attacks on graphs, each by additions, by deletions and by both."""

  def attack(index: int) -> tuple[str, np.ndarray, int, Sandwich]:
    job, which = divmod(index, len(graphs.BUDGETS))
    loaded = graphs.load(options.jobs[job], options.data_dir)
    budgets = graphs.BUDGETS[which]
    key = jax.random.fold_in(keys.tagged(jax.random.key(0), "attacks on a graph"), index)
    found = graphs.attack(key, loaded, budgets, settings)
    return loaded.case.name, budgets, int(loaded.record.counted.sum()), found

  return attack


def overclaims(rows: Sequence[Mapping[str, Any]]) -> int:
  """Pairs of an input and a budget of which more is certified than was left by an attack."""
  return sum(int(np.sum(np.array(row["certified"]) > row["unchanged"])) for row in rows)


def title(rows: Sequence[Mapping[str, Any]], task: str) -> str:
  """What a task's part of the report is called."""
  names = dict.fromkeys(row["input"] for row in rows if row["task"] == task)
  return f"{TITLES[task]}: {', '.join(names)}" if task == "graph" else TITLES[task]


class Mean(NamedTuple):
  """Parts of all outputs, over the inputs that were attacked at a budget."""

  budget: tuple[float, ...]
  inputs: int
  certified: float
  unchanged: float
  kept: float


def means(rows: Sequence[Mapping[str, Any]], task: str) -> list[Mean]:
  """One row for every budget of a task, in its order."""
  found: dict[tuple[float, ...], list[list[float]]] = {}
  for row in rows:
    if row["task"] == task:
      parts = (np.array(row[key]) / row["outputs"] for key in ("certified", "unchanged", "kept"))
      for budget, *part in zip(row["budgets"], *parts, strict=True):
        found.setdefault(tuple(np.atleast_1d(budget).tolist()), []).append(part)
  return [Mean(key, len(value), *np.mean(value, axis=0)) for key, value in found.items()]


def report(rows: Sequence[Mapping[str, Any]]) -> str:
  """A table in Markdown."""
  pairs = sum(len(row["budgets"]) for row in rows)
  lines = [
    "# Certificates between attacks",
    "",
    "Made by `benchmarks/attacks.py`. *Certified*: no perturbation within the budget leaves fewer "
    "of the smoothed model's predictions as they are, up to the joint error of the certificate, "
    f"{ALPHA:g} for every input. *Survive*: what the best attack found leaves, counted anew; a "
    "prediction counts as changed only if another class has so many more votes that a test at a "
    "joint level says so. *Most votes*: those whose class still has the most votes, told or not. "
    "All are parts of all outputs, abstaining ones included, means over the inputs. What is true "
    "of the worst perturbation lies between the first two.",
    "",
    f"In {overclaims(rows)} of {pairs} pairs of an input and a budget more was certified than "
    "survived.",
  ]
  for task in TITLES:
    of_task = [row for row in rows if row["task"] == task]
    if not of_task:
      continue
    settings = Settings(**of_task[0]["settings"])
    seconds = sum(row["cpu_seconds"] for row in of_task)
    outputs = max(row["outputs"] for row in of_task)
    lines += [
      "",
      f"## {title(rows, task)}",
      "",
      f"{ABOUT[task]} {outputs:,} outputs. {settings.draws} draws of the noise for every gradient, "
      f"{TRIES[task].format(settings)}; {settings.samples:,} samples count what the best attack "
      f"changed, at level {settings.level:g}. {seconds / 60:.0f} CPU minutes.",
      "",
      "| budget | inputs | certified | survive | most votes |",
      "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for mean in means(rows, task):
      budget = ", ".join(f"{x:g}" for x in mean.budget)
      shares = " | ".join(f"{share:.1%}" for share in mean[2:])
      lines.append(f"| {budget} | {mean.inputs} | {shares} |")
  return "\n".join([*lines, ""])


def figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
  """What is certified and what survives, over the budgets; in between lies what is true."""
  shown = {task: means(rows, task) for task in TASKS}
  shown["graph"] = [mean for mean in shown["graph"] if mean.budget[0] == 0]  # deletions alone
  shown = {task: found for task, found in shown.items() if found}
  drawn = Figure(figsize=(3.4 * max(len(shown), 1), 3.2), layout="constrained")
  panels = drawn.subplots(1, max(len(shown), 1), sharey=True, squeeze=False)[0]
  for axes, (task, found) in zip(panels, shown.items(), strict=False):
    budget = [mean.budget[-1] for mean in found]
    survive, certified = ([getattr(mean, key) for mean in found] for key in Mean._fields[3:1:-1])
    for part, label, color, steps in (
      (survive, "survive the best attack found", plots.COLORS[1], "steps-post"),
      (certified, "certified", plots.COLORS[0], "steps-pre"),
    ):  # an attack is one within larger budgets, too; a certificate is one for smaller ones
      axes.plot(budget, part, "o-", color=color, drawstyle=steps, label=label)
    axes.set(title=title(rows, task), xlabel=UNITS[task], xscale="log", ylim=(0, 1))
    axes.set_xticks(budget, [f"{x:g}" for x in budget], minor=False)
    axes.set_xticks([], minor=True)
  panels[0].set_ylabel("part of all predictions")
  panels[-1].legend(frameon=False, fontsize="small")
  return drawn


if __name__ == "__main__":
  main()
