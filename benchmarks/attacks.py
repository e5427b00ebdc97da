"""Certificates between attacks: no attack may change more than a certificate allows.

    PYTHONPATH=. python benchmarks/attacks.py --data-dir DIR --work lrs-out/attacks

attacks smoothed models: CamVid images and documents by projected gradient descent through the
noise, a citation graph by flips that the gradient proposes. At every budget it compares what is
certified with what the best attack leaves, counted anew from samples that neither the certificate
nor the attack has seen. It writes attacks.json, attacks.md and attacks.png under --out. Every input
is kept under --work when it is finished, so that it may be stopped at any time; --tasks and
--inputs say which are attacked, and the report is on all that are there.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from benchmarks.attack_study.gradients import Sandwich, Settings, sandwich
from lrs_jax import keys, storage
from lrs_jax.jobs.running import versions

TASKS = "images", "tokens", "graph"

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
  add("--job", type=Path, help="finished job `lrs-jax certify citeseer`, for the graph")
  add("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
  add("--tasks", nargs="*", default=list(TASKS), choices=TASKS)
  add("--inputs", type=int, default=20, help="images and documents; budgets of the graph")
  add("--size", default="90x120", help="HxW, of images")
  for name, value in Settings()._asdict().items():
    add(f"--{name}", type=type(value), default=value, help=f"(default: {value:g})")
  options = parser.parse_args(arguments)
  settings = Settings(*(getattr(options, name) for name in Settings._fields))
  for task in options.tasks:
    attack = {"images": on_images, "tokens": on_tokens, "graph": on_graph}[task]
    run(task, attack(options, settings), options.inputs, options.work, settings)
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

  loaded = tokens.load(options.work, options.inputs)

  def attack(index: int) -> tuple[str, np.ndarray, int, Sandwich]:
    smoothed = tokens.smoothed(loaded, index, (100, settings.samples))
    key = jax.random.fold_in(keys.tagged(jax.random.key(0), "attacks on tokens"), index)
    found = sandwich(key, smoothed, tokens.RADII, settings)
    return smoothed.name, tokens.RADII, smoothed.base.eta.size, found

  return attack


def on_graph(options: argparse.Namespace, settings: Settings) -> Attack:
  """Attacks on one graph, within one budget after the other."""
  from benchmarks.attack_study import graphs

  loaded = graphs.load(options.job, options.data_dir)

  def attack(index: int) -> tuple[str, np.ndarray, int, Sandwich]:
    budget = graphs.BUDGETS[index % len(graphs.BUDGETS)]
    key = jax.random.fold_in(keys.tagged(jax.random.key(0), "attacks on a graph"), index)
    found = graphs.attack(key, loaded, budget, settings)
    return loaded.case.name, budget[None], int(loaded.record.counted.sum()), found

  return attack


if __name__ == "__main__":
  main()
