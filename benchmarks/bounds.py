"""Which confidence bound is tighter when: eta from votes and from scores by three bounds.

    python benchmarks/bounds.py --out benchmarks/results

writes bounds.json and bounds.md. Every bound is given the samples that a distribution of scores is
expected to give, so that the figures are exact and need no simulation. The output is one of N,
which share alpha = 0.01 (Bonferroni).
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from lrs_jax import noise, storage
from lrs_jax.confidence import certificates
from lrs_jax.confidence.corrections import bonferroni
from lrs_jax.jobs.machines import versions
from lrs_jax.sampling.scores import ScoreSums

ALPHA = 0.01
METHODS = ("votes", "kl", "mixed", "bernstein", "dkw")
FAMILIES = {
  "flips": noise.flips([[0.1]], [[0.1]], [0]),
  "gaussian": noise.gaussian([[1.0]], [0]),
  "uniform": noise.uniform([[1.0]], [0]),
}


def bell(mean: float, width: float) -> np.ndarray:
  density = np.exp(-0.5 * ((np.arange(256) - 255 * mean) / (255 * width)) ** 2)
  return density / density.sum()


def points(*masses: tuple[int, float]) -> np.ndarray:
  distribution = np.zeros(256)
  for score, mass in masses:
    distribution[score] = mass
  return distribution


DISTRIBUTIONS = {
  "0.55 ± 0.01": bell(0.55, 0.01),
  "0.80 ± 0.01": bell(0.8, 0.01),
  "0.98 ± 0.01": bell(0.98, 0.01),
  "0.80 ± 0.05": bell(0.8, 0.05),
  "0.70 ± 0.20": bell(0.7, 0.2),
  "0.55 ± 0.05": bell(0.55, 0.05),
  "0.90, or 0 in 1 %": points((230, 0.99), (0, 0.01)),
  "1, or 0 in 1 %": points((255, 0.99), (0, 0.01)),
  "1, or 0 in 20 %": points((255, 0.8), (0, 0.2)),
}


def expected_sums(distribution: np.ndarray, num_samples: int) -> ScoreSums:
  """The histogram that is expected of S samples, in integers (largest remainders)."""
  expected = distribution * num_samples
  histogram = np.floor(expected).astype(np.int64)
  remainder = np.argsort(histogram - expected, kind="stable")
  histogram[remainder[: num_samples - histogram.sum()]] += 1
  score = np.arange(256)
  sums = histogram[128:].sum(), histogram @ score, histogram @ score**2
  return ScoreSums(num_samples, *(np.array([value]) for value in sums), histogram[None])


def measure(samples: tuple[int, ...], outputs: tuple[int, ...]) -> list[dict[str, Any]]:
  """Eta by every method, for every distribution, S, N and family."""
  rows = []
  for (name, distribution), num_samples, num_outputs in itertools.product(
    DISTRIBUTIONS.items(), samples, outputs
  ):
    sums = expected_sums(distribution, num_samples)
    levels = bonferroni(ALPHA / num_outputs, 1)
    for family, smoothing in FAMILIES.items():
      row: dict[str, Any] = {"scores": name, "S": num_samples, "N": num_outputs, "family": family}
      for method in METHODS:
        base = certificates.from_scores(
          smoothing, [0], [0], sums, sums, alpha=levels, methods=[method]
        )
        row[method] = float(f"{base.eta[0]:.6g}")
      rows.append(row)
  return rows


def wins(rows: list[dict[str, Any]], methods: tuple[str, ...]) -> dict[str, int]:
  """In how many settings where something is certified a method has the greatest eta."""
  best = [max(methods, key=lambda method: row[method]) for row in rows]
  certified = [max(row[method] for method in methods) > 0 for row in rows]
  return {
    method: sum(b == method and c for b, c in zip(best, certified, strict=True))
    for method in methods
  }


def table(rows: list[dict[str, Any]]) -> str:
  """Markdown: who wins how often, and eta in every setting."""
  soft = METHODS[1:]
  lines = [
    "# Bounds: eta of one of N outputs at joint alpha = 0.01",
    "",
    "## Greatest eta, settings won",
    "",
  ]
  lines += ["| family | S | " + " | ".join(METHODS) + " | kl, of soft | mixed | bernstein | dkw |"]
  lines += ["| --- | ---: |" + " ---: |" * 9]
  for family, num_samples in itertools.product(FAMILIES, sorted({row["S"] for row in rows})):
    part = [row for row in rows if (row["family"], row["S"]) == (family, num_samples)]
    found = [*wins(part, METHODS).values(), *wins(part, soft).values()]
    lines.append(f"| {family} | {num_samples:,} | " + " | ".join(map(str, found)) + " |")
  for family in FAMILIES:
    lines += ["", f"## {family}", "", "| scores | S | N | " + " | ".join(METHODS) + " |"]
    lines += ["| --- | ---: | ---: |" + " ---: |" * len(METHODS)]
    for row in rows:
      if row["family"] == family:
        best = max(row[method] for method in METHODS)
        values = [row[method] for method in METHODS]
        shown = [f"**{v:.4g}**" if v == best > 0 else f"{v:.4g}" for v in values]
        lines.append(
          f"| {row['scores']} | {row['S']:,} | {row['N']:,} | " + " | ".join(shown) + " |"
        )
  return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
  parser.add_argument("--samples", type=int, nargs="+", default=[100, 10**3, 10**4, 10**5, 10**6])
  parser.add_argument("--outputs", type=int, nargs="+", default=[1, 100, 10**4, 10**6])
  options = parser.parse_args(arguments)
  rows = measure(tuple(options.samples), tuple(options.outputs))
  options.out.mkdir(parents=True, exist_ok=True)
  results = {"alpha": ALPHA, "rows": rows, "versions": versions()}
  storage.save_json(options.out / "bounds.json", results)
  text = table(rows)
  (options.out / "bounds.md").write_text(text)
  print(text)


if __name__ == "__main__":
  main()
