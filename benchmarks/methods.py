"""The four collective certificates on one certified input: counts against budget, with times.

    python benchmarks/methods.py lrs-out/camvid/NAME/certificate.npz --out benchmarks/results

writes methods.json, methods.md (a table) and methods.png.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lrs_jax import collective, storage
from lrs_jax.evaluation import metrics, plots
from lrs_jax.jobs import records
from lrs_jax.jobs.machines import versions

METHODS = {
  "milp": "exact (to the gap)",
  "envelope": "envelope LP",
  "lp": "paper's LP",
  "naive": "naive",
}
DRAWN = {**METHODS, "milp": "exact", "envelope": "envelope", "naive": "each pixel on its own"}
"""Names in the figure."""


def compare(record: records.Record, num_budgets: int, time_limit: float) -> dict[str, Any]:
  """Certifies all outputs of a record by every method at budgets spread over its own."""
  radii = record.adversary.radii
  chosen = np.unique(np.linspace(0, len(radii) - 1, num_budgets).round().astype(int))
  radii, budgets, base = radii[chosen], record.budgets[chosen], record.base
  results: dict[str, Any] = {}
  for method in METHODS:
    certificate = collective.certify(
      base.weights,
      base.groups,
      base.eta,
      budgets,
      method=method,
      **({"time_limit": time_limit, "gap": 0.01} if method == "milp" else {}),
    )
    collective.verify(base.weights, base.groups, base.eta, certificate)
    results[method] = {
      "certified": certificate.certified.tolist(),
      "seconds": certificate.solve_time.tolist(),
      "gap": certificate.gap.tolist(),
      "status": certificate.status.tolist(),
    }
  return {
    "outputs": len(base.eta),
    "groups": int(base.weights.shape[1]),
    "radii": radii.tolist(),
    "job": record.meta.get("job"),
    "versions": versions(),
    "methods": results,
  }


def table(results: dict[str, Any]) -> str:
  """A Markdown table: certified outputs at every budget, mean seconds per budget, largest gap."""
  radii = metrics.round_down(results["radii"])
  lines = [
    "| method | " + " | ".join(f"ε = {r:g}" for r in radii) + " | s / budget | gap |",
    "| --- |" + " ---: |" * (len(radii) + 2),
  ]
  for method, label in METHODS.items():
    found = results["methods"][method]
    gap = max((g for g in found["gap"] if not np.isnan(g)), default=None)
    counts = " | ".join(f"{count:,}" for count in found["certified"])
    shown = "" if gap is None else f"{gap:.2%}"
    lines.append(f"| {label} | {counts} | {np.mean(found['seconds']):.3g} | {shown} |")
  return "\n".join(lines)


def figure(results: dict[str, Any]) -> Figure:
  """What every method certifies, against the budget."""
  return plots.curves_figure(
    np.asarray(results["radii"]),
    {
      label: np.asarray(results["methods"][method]["certified"]) / results["outputs"]
      for method, label in DRAWN.items()
    },
    xlabel=r"$\ell_2$ budget $\varepsilon$ of one perturbation of the whole image",
    ylabel="certified fraction of all pixels",
    title="The same votes, four certificates: the exact one proves most "
    f"(one image, {results['outputs']:,} pixels, {results['groups']} groups)",
  )


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("certificate", type=Path, help="certificate.npz of an `lrs-jax certify` run")
  parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
  parser.add_argument("--budgets", type=int, default=9, help="how many of the record's budgets")
  parser.add_argument("--time-limit", type=float, default=10.0, help="milp, seconds per budget")
  options = parser.parse_args(arguments)
  record = records.load(options.certificate)
  results = compare(record, options.budgets, options.time_limit)
  storage.save_json(options.out / "methods.json", results)
  text = table(results)
  (options.out / "methods.md").write_text(text + "\n")
  figure(results).savefig(options.out / "methods.png", dpi=130)
  print(text)


if __name__ == "__main__":
  main()
