"""What float32 draws do in their tails, and what exact tails cost: `jax.random` against ours.

    python benchmarks/draws.py --out benchmarks/results

writes draws.json and draws.md. The generator of `jax.random.normal` has 2^23 outcomes, which are
all looked at; ours has 2^96 for a pair, of which `--draws` are sampled.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from lrs_jax import noise, storage
from lrs_jax.jobs.machines import describe_devices, versions
from lrs_jax.noise import draws

SPLIT = 5.0  # tails beyond this many standard deviations are counted


def every_jax_normal(step: int = 1) -> np.ndarray:
  """The outcomes of `jax.random.normal`, each as likely as the others: all, or every step-th."""
  mantissa = jnp.arange(0, 2**23, step, dtype=jnp.uint32)
  fraction = jax.lax.bitcast_convert_type(mantissa | jnp.uint32(0x3F800000), jnp.float32) - 1
  lowest = np.nextafter(np.float32(-1), np.float32(0))
  uniform = jnp.maximum(lowest, fraction * (np.float32(1) - lowest) + lowest)
  return np.asarray(np.float32(np.sqrt(2)) * jax.scipy.special.erfinv(uniform))


def describe(values: np.ndarray) -> dict[str, Any]:
  """Range, granularity, and distance from the normal distribution, of equally likely values."""
  values = np.sort(values.astype(np.float64))
  truth, rank = special.ndtr(values), np.arange(len(values) + 1) / len(values)
  nonzero = np.abs(values[values != 0])
  return {
    "outcomes": len(values),
    "distinct": len(np.unique(values)),
    "least": values[0],
    "greatest": values[-1],
    "mass_beyond": special.ndtr(values[0]) + special.ndtr(-values[-1]),
    "smallest": nonzero.min(),
    "kolmogorov": max((truth - rank[:-1]).max(), (rank[1:] - truth).max()),
    "mean": values.mean(),
    "variance": values.var(),
  }


@partial(jax.jit, static_argnames=("draw", "rounds"))
def tail_counts(key: jax.Array, *, draw: Callable, rounds: int) -> tuple[jax.Array, jax.Array]:
  """Draws beyond `SPLIT`, and the greatest magnitude, of rounds x 2^20 draws."""

  def add(i: jax.Array, total: tuple) -> tuple:
    magnitude = jnp.abs(draw(jax.random.fold_in(key, i), (2**20,)))
    return total[0] + (magnitude > SPLIT).sum(dtype=jnp.int32), jnp.maximum(
      total[1], magnitude.max()
    )

  return jax.lax.fori_loop(0, rounds, add, (jnp.int32(0), jnp.float32(0)))


def milliseconds(draw: Callable, shape: tuple[int, ...], repetitions: int) -> float:
  """Best time of one draw, of 8 drawn at a time."""
  keys = jax.random.split(jax.random.key(0), 8)
  run = jax.jit(jax.vmap(lambda key: draw(key, shape)))
  jax.block_until_ready(run(keys))
  times = []
  for _ in range(repetitions):
    start = time.perf_counter()
    jax.block_until_ready(run(keys))
    times.append(time.perf_counter() - start)
  return min(times) / 8 * 1e3


SAMPLERS = {
  "jax.random.normal": jax.random.normal,
  "draws.normal": draws.normal,
  "jax.random.laplace": jax.random.laplace,
  "draws.laplace": draws.laplace,
  "jax.random.uniform": partial(jax.random.uniform, minval=-1, maxval=1),
  "draws.uniform": draws.uniform,
  "draws.bits": draws.bits,
}


def bernoulli(probability: float) -> dict[str, float]:
  """The probability that is drawn where `probability` is asked for."""
  level = noise.ablation([[probability]], [0]).levels[0]
  return {
    "asked": probability,
    "jax.random.bernoulli": float(np.ceil(np.float32(probability) * 2.0**23) / 2**23),
    "draws.below": float(draws.probability(level)[0, 0]),
  }


def measure(num_draws: int, step: int, shape: tuple[int, ...], repetitions: int) -> dict[str, Any]:
  """Everything, as a dictionary."""
  rounds = max(1, num_draws // 2**20)
  normals = {}
  for name in ("jax.random.normal", "draws.normal"):
    count, greatest = tail_counts(jax.random.key(1), draw=SAMPLERS[name], rounds=rounds)
    normals[name] = {"beyond_split": int(count), "greatest": float(greatest)}
  few = min(num_draws, 10**7)
  return {
    "enumerated": describe(every_jax_normal(step)),
    "sampled": {
      "draws": rounds * 2**20,
      "split": SPLIT,
      "expected_beyond_split": 2 * special.ndtr(-SPLIT) * rounds * 2**20,
      **normals,
    },
    "ours": {
      **describe(np.asarray(draws.normal(jax.random.key(2), (few,)))),
      "range": float(np.sqrt(2 * 65 * np.log(2))),
      "mass_beyond_range": 2 * special.ndtr(-np.sqrt(2 * 65 * np.log(2))),
    },
    "bernoulli": [bernoulli(p) for p in (0.3, 0.01, 1e-4, 1e-6, 1e-8)],
    "milliseconds": {
      name: milliseconds(draw, shape, repetitions) for name, draw in SAMPLERS.items()
    },
    "shape": shape,
    "device": describe_devices(),
    "versions": versions(),
  }


def table(results: dict[str, Any]) -> str:
  """The figures in Markdown."""
  theirs, ours, sampled = results["enumerated"], results["ours"], results["sampled"]
  names = ("jax.random.normal", "draws.normal")
  lines = [
    f"# Draws ({results['device']})",
    "",
    "| | jax.random.normal | draws.normal |",
    "| --- | ---: | ---: |",
    f"| range | {theirs['least']:.4f} to {theirs['greatest']:.4f} | ±{ours['range']:.2f} |",
    f"| mass of the normal distribution beyond it | {theirs['mass_beyond']:.2g} "
    f"| {ours['mass_beyond_range']:.2g} |",
    f"| smallest magnitude but 0 | {theirs['smallest']:.2g} | under {ours['smallest']:.2g} |",
    f"| distinct values | {theirs['distinct']:,} | over {ours['distinct']:,} |",
    f"| distance from the distribution function | {theirs['kolmogorov']:.2g} (all outcomes) "
    f"| {ours['kolmogorov']:.2g} (of {ours['outcomes']:.1g} draws) |",
    f"| beyond {sampled['split']} in {sampled['draws']:.3g} draws "
    f"(expected: {sampled['expected_beyond_split']:.1f}) | "
    + " | ".join(str(sampled[name]["beyond_split"]) for name in names)
    + " |",
    "| greatest magnitude in these | "
    + " | ".join(f"{sampled[name]['greatest']:.3f}" for name in names)
    + " |",
    "",
    "| Bernoulli, asked for | jax.random.bernoulli | draws.below |",
    "| ---: | ---: | ---: |",
    *(
      f"| {row['asked']:.3g} | {row['jax.random.bernoulli']:.9g} | {row['draws.below']:.9g} |"
      for row in results["bernoulli"]
    ),
    "",
    f"| ms per draw of {results['shape']} | |",
    "| --- | ---: |",
    *(f"| {name} | {value:.2f} |" for name, value in results["milliseconds"].items()),
  ]
  return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
  parser.add_argument("--draws", type=int, default=10**9, help="sampled, to count the tails")
  parser.add_argument("--step", type=int, default=1, help="look at every so many outcomes only")
  parser.add_argument("--shape", type=int, nargs="+", default=[180, 240, 3], help="of a timed draw")
  parser.add_argument("--repetitions", type=int, default=10, help="of a timing")
  options = parser.parse_args(arguments)
  results = measure(options.draws, options.step, tuple(options.shape), options.repetitions)
  options.out.mkdir(parents=True, exist_ok=True)
  storage.save_json(options.out / "draws.json", results)
  (options.out / "draws.md").write_text(table(results))
  print(table(results))


if __name__ == "__main__":
  main()
