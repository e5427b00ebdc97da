"""Times certificates of several images, one after another and by several processes at once.

python -m benchmarks.solvers --out benchmarks/results
"""

import argparse
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.collective import last_budget, problem, table
from lrs_jax import storage
from lrs_jax.jobs import certifying, machines

COLUMNS = [
  *("method", "cells", "votes", "images", "outputs", "budgets", "processes", "alone", "together"),
  *("alone_ms_per_budget", "together_ms_per_budget"),
]


def certify(images: list, budgets: list[np.ndarray], number: int, **options: Any) -> tuple:
  """What is certified of every image, and seconds, of which starting processes takes none."""
  with certifying.solvers(number) as ask:
    for ready in [ask(*images[0], budgets[0][:1]) for _ in range(2 * max(number, 1))]:
      ready.result()
    start = time.perf_counter()
    promised = [ask(*image, of, **options) for image, of in zip(images, budgets, strict=True)]
    found = [promise.result().certified for promise in promised]
    return found, time.perf_counter() - start


def row(
  method: str,
  grid: tuple[int, int],
  votes: int | None,
  outputs: int,
  count: int,
  num_budgets: int,
  runs: int = 3,
) -> dict:
  """Seconds for `count` images by one process, and by as many as there are cores."""
  images = [problem(grid, outputs, votes, seed=i) for i in range(count)]
  budgets = [np.linspace(0, last_budget(image), num_budgets) for image in images]
  cores = machines.cores()
  every = [certify(images, budgets, number, method=method) for number in (0, cores) * runs]
  slack = 1e-3 * outputs if method == "milp" else 0  # its gap: it looks for attacks by the clock
  for found, _ in every:
    np.testing.assert_allclose(found, every[0][0], rtol=0, atol=slack)
  alone, together = (min(seconds for _, seconds in every[i::2]) for i in (0, 1))
  each = [1e3 * seconds / count / num_budgets for seconds in (alone, together)]
  cells = grid[0] * grid[1]
  values = method, cells, votes, count, outputs, num_budgets, cores, alone, together, *each
  return dict(zip(COLUMNS, values, strict=True))


def main(arguments: list[str] | None = None) -> dict:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", type=Path, help="folder for solvers.json and solvers.md")
  parser.add_argument("--toy", action="store_true", help="sizes of a test")
  options = parser.parse_args(arguments)
  sizes = [("envelope", (3, 5), 1000, 300, 2, 5, 1)]
  if not options.toy:
    sizes = [
      *(("envelope", (4, 6), votes, 131_072, 8, 161) for votes in (None, 1000)),
      ("envelope", (3, 5), 1000, 43_200, 16, 41),
      ("milp", (3, 5), 1000, 6_144, 4, 4, 1),
    ]
  machine = f"{platform.machine()}, {machines.cores()} cores"
  versions = {name: version(name) for name in ("numpy", "scipy", "highspy")}
  results = {"machine": machine, "versions": versions, "rows": [row(*size) for size in sizes]}
  title = f"# Certificates of several images\n\n{machine}; seconds"
  text = f"{title}\n\n{table(results['rows'], COLUMNS)}"
  print(text)
  if options.out:
    storage.save_json(options.out / "solvers.json", results)
    storage.save_text(options.out / "solvers.md", text + "\n")
  return results


if __name__ == "__main__":
  main()
