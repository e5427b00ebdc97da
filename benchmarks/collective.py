"""The collective certificate: time and tightness of its methods, on synthetic radii.

    PYTHONPATH=. python benchmarks/collective.py --out benchmarks/results

writes collective.json and collective.md. Noise grows with the Chebyshev distance between cells of
an image grid; a part of the pixels is certain, the rest has probabilities spread over decades; eta
follows from Clopper-Pearson bounds of so many votes (with ties) or from the probabilities
themselves (without). Every certificate is verified.
"""

import argparse
import json
import os
import platform
import time
import tracemalloc
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage, special

from lrs_jax import collective, confidence

ALPHA = 0.01


def problem(
  grid: tuple[int, int],
  num_outputs: int,
  votes: int | None,
  *,
  std: tuple[float, float] = (0.15, 1.0),
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Weights [1, G, C], groups [N] and eta [N] of a Gaussian localized smoothing of an image."""
  rng = np.random.default_rng(seed)
  cell = np.stack(np.divmod(np.arange(grid[0] * grid[1]), grid[1]), axis=1)
  distance = np.abs(cell[:, None] - cell[None]).max(axis=-1)
  scale = std[0] + (std[1] - std[0]) * distance / max(distance.max(), 1)
  groups = np.arange(num_outputs) * len(cell) // num_outputs
  difficulty = rng.uniform(0.5, 1.5, len(cell))[groups]  # some regions are harder than others
  q = 1 - 10 ** -(rng.gamma(2, 1, num_outputs) / difficulty) / 2
  if votes is not None:
    counts = rng.binomial(votes, q)
    q = confidence.clopper_pearson_lower(counts, votes, ALPHA / num_outputs)
  eta = special.ndtri(np.clip(q, 0.5, 1 - 2**-53)) ** 2
  return (scale**-2.0)[None], groups, eta


def mosaic(
  grid: tuple[int, int],
  per_group: int,
  votes: int,
  *,
  view: int = 3,
  std: float = 0.25,
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """As `problem`, of blocks that see blocks at most `view` away, under the same noise everywhere.

  Of most outputs all votes agree; few do along smooth borders.
  """
  rng = np.random.default_rng(seed)
  cell = np.stack(np.divmod(np.arange(grid[0] * grid[1]), grid[1]), axis=1)
  near = np.abs(cell[:, None] - cell[None]).max(axis=-1) <= view
  smooth = ndimage.gaussian_filter(rng.normal(size=(*grid, per_group)), (1.0, 1.0, per_group / 9))
  q = special.ndtr(1 + 4 * np.abs(smooth.ravel() / smooth.std()))
  groups = np.repeat(np.arange(len(cell)), per_group)
  lower = confidence.clopper_pearson_lower(rng.binomial(votes, q), votes, ALPHA / groups.size)
  return near[None] * std**-2.0, groups, special.ndtri(np.clip(lower, 0.5, 1)) ** 2


def last_budget(inputs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
  """About the smallest budget at which the envelope certifies nothing."""
  high = 1.0
  while collective.certify(*inputs, [high]).certified[0]:
    high *= 2
  budgets = np.linspace(high / 2, high, 65)
  return float(budgets[(collective.certify(*inputs, budgets).certified == 0).argmax()])


def across(inputs: tuple[np.ndarray, np.ndarray, np.ndarray], num_budgets: int) -> np.ndarray:
  """Budgets at which the envelope certifies equally spaced parts of the targets."""
  budgets = np.linspace(0, last_budget(inputs), 161)
  certified = collective.certify(*inputs, budgets).certified
  wanted = certified[0] * np.arange(num_budgets, 0, -1) / (num_budgets + 1)
  return np.interp(-wanted, -certified, budgets)


def timed(inputs: tuple, budgets: np.ndarray, **options: Any) -> tuple[Any, float, float]:
  """The verified certificate, seconds on the clock and seconds of processor time."""
  clock, processor = time.perf_counter(), time.process_time()
  certificate = collective.certify(*inputs, budgets, **options)
  clock, processor = time.perf_counter() - clock, time.process_time() - processor
  collective.verify(*inputs, certificate)
  return certificate, clock, processor


def name_of(votes: int | None) -> str:
  return "no ties" if votes is None else f"{votes:,} votes"


def envelope_curve(grid: tuple[int, int], num_outputs: int, num_budgets: int) -> list[dict]:
  """A whole curve by the envelope, its one sort included."""
  rows = []
  for votes in (None, 10_000, 1_000):
    inputs = problem(grid, num_outputs, votes)
    budgets = np.linspace(0, last_budget(inputs), num_budgets)
    runs = [timed(inputs, budgets) for _ in range(3)]
    certificate, clock, processor = min(runs, key=lambda run: run[1])
    rows.append(
      {
        "outputs": num_outputs,
        "cells": grid[0] * grid[1],
        "eta": name_of(votes),
        "distinct_eta": len(np.unique(inputs[2])),
        "budgets": num_budgets,
        "ms_per_budget": 1e3 * clock / num_budgets,
        "processor_ms_per_budget": 1e3 * processor / num_budgets,
        "optimal": int((certificate.status == "optimal").sum()),
      }
    )
  return rows


def many_groups(grid: tuple[int, int], per_group: int, num_budgets: int) -> dict:
  """A whole curve by the envelope for many groups that see few cells."""
  inputs = mosaic(grid, per_group, 1_000)
  budgets = np.linspace(0, last_budget(inputs), num_budgets)
  certificate, clock, processor = timed(inputs, budgets)
  verify_time = time.perf_counter()
  collective.verify(*inputs, certificate)
  return {
    "groups": grid[0] * grid[1],
    "outputs": len(inputs[2]),
    "budgets": num_budgets,
    "seconds": clock,
    "processor_seconds": processor,
    "verify_seconds": time.perf_counter() - verify_time,
    "average_certified": float(certificate.certified.mean()),
  }


def methods(
  grid: tuple[int, int], num_outputs: int, num_budgets: int, limit: float
) -> tuple[list[dict], list[dict]]:
  """All methods at budgets across the curve, the LP without bins at three of them; their times."""
  rows, times = [], []
  for votes in (None, 1_000):
    inputs = problem(grid, num_outputs, votes)
    targets = int((inputs[2] > 0).sum())
    budgets = across(inputs, num_budgets)
    few = budgets[[0, num_budgets // 2, -1]]
    naive = collective.certify(*inputs, budgets, method="naive")
    envelope, envelope_time, _ = timed(inputs, budgets)
    _, few_time, _ = timed(inputs, few)
    binned, binned_time, _ = timed(inputs, budgets, method="lp", bins=100)
    lp, lp_time, _ = timed(inputs, few, method="lp")
    exact, _, _ = timed(inputs, budgets, method="milp", gap=0.01, time_limit=limit)
    verify_time = time.perf_counter()
    collective.verify(*inputs, exact)
    verify_time = time.perf_counter() - verify_time
    at = {round(float(b), 12): int(c) for b, c in zip(few, lp.certified, strict=True)}
    for i, budget in enumerate(budgets):
      certified_lp = at.get(round(float(budget), 12))
      rows.append(
        {
          "eta": name_of(votes),
          "targets": targets,
          "budget": float(budget),
          "naive": int(naive.certified[i]),
          "lp_100_bins": int(binned.certified[i]),
          "lp": certified_lp,
          "envelope": int(envelope.certified[i]),
          "milp": int(exact.certified[i]),
          "survive_best_attack": targets - int(exact.attack.num_attacked[i]),
          "gap_percent": 100 * float(exact.gap[i]),
          "milp_seconds": float(exact.solve_time[i]),
          "milp_status": str(exact.status[i]),
          "leaves": int((np.diff(exact.witness.starts)[i] + 1) // 2),
          "envelope_never_looser": bool(
            envelope.certified[i] >= max(naive.certified[i], binned.certified[i], certified_lp or 0)
          ),
        }
      )
    times.append(
      {
        "eta": name_of(votes),
        "outputs": num_outputs,
        "cells": grid[0] * grid[1],
        "lp_seconds": lp_time / len(few),
        "lp_100_bins_seconds": binned_time / num_budgets,
        "envelope_seconds": envelope_time / num_budgets,
        "lp_over_envelope": lp_time / few_time,
        "milp_most_seconds": float(exact.solve_time.max()),
        "milp_largest_gap_percent": 100 * float(exact.gap.max()),
        "verify_milp_seconds": verify_time,
      }
    )
  return rows, times


def memory(num_outputs: int) -> dict:
  """Peak memory that one call allocates, inputs not counted."""
  inputs = problem((4, 6), num_outputs, None)
  budgets = np.linspace(0, 5, 9)
  tracemalloc.start()
  clock = time.perf_counter()
  collective.certify(*inputs, budgets)
  seconds = time.perf_counter() - clock
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  return {"outputs": num_outputs, "budgets": 9, "peak_MiB": peak / 2**20, "seconds": seconds}


def table(rows: list[dict], columns: list[str]) -> str:
  def cell(value: Any) -> str:
    if value is None:
      return "–"
    return f"{value:,.3g}" if isinstance(value, float) else str(value)

  lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
  lines += [" | ".join(cell(row[column]) for column in columns) for row in rows]
  return "\n".join(f"| {line} |" for line in lines)


def main(arguments: list[str] | None = None) -> dict:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", type=Path, help="folder for collective.json and collective.md")
  parser.add_argument("--toy", action="store_true", help="sizes of a test")
  parser.add_argument("--time-limit", type=float, default=10.0, help="seconds per budget (milp)")
  options = parser.parse_args(arguments)
  machine = f"{platform.machine()}, {os.cpu_count()} cores"
  results = {
    "versions": {name: version(name) for name in ("numpy", "scipy", "highspy")},
    "python": platform.python_version(),
    "machine": machine,
    "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
  }
  if options.toy:
    results["envelope"] = envelope_curve((2, 2), 400, 7)
    results["many"] = [many_groups((3, 4), 16, 5)]
    results["methods"], results["times"] = methods((2, 2), 300, 3, options.time_limit)
    results["memory"] = memory(2_000)
  else:
    results["envelope"] = envelope_curve((4, 6), 131_072, 161)
    results["many"] = [many_groups(grid, 256, 25) for grid in ((23, 30), (34, 60))]
    results["methods"], results["times"] = methods((3, 5), 41_500, 9, options.time_limit)
    results["memory"] = memory(1_000_000)
  text = "\n\n".join(
    [
      "# Collective certificate\n\n"
      f"{machine} (load {results['load']:.1f} at the start), Python {results['python']}, "
      + ", ".join(f"{k} {v}" for k, v in results["versions"].items()),
      "## A curve by the envelope\n\n" + table(results["envelope"], list(results["envelope"][0])),
      "## Many groups\n\n" + table(results["many"], list(results["many"][0])),
      "## Certified targets by method\n\n" + table(results["methods"], list(results["methods"][0])),
      "## Times per budget\n\n" + table(results["times"], list(results["times"][0])),
      "## Memory\n\n" + table([results["memory"]], list(results["memory"])),
    ]
  )
  print(text)
  if options.out:
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "collective.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.out / "collective.md").write_text(text + "\n")
  return results


if __name__ == "__main__":
  main()
