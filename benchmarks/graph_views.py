"""What it is worth to know how far a graph network sees.

    lrs-jax certify citeseer --model-name gcn --data-dir DIR --out lrs-out/citeseer-gcn
    PYTHONPATH=. python benchmarks/graph_views.py lrs-out/citeseer-gcn --data-dir DIR

takes finished jobs and certifies their votes again: a network of k layers lets a node see k hops,
so that an adversary has to pay there for it. From the bounds that a job stores, at one level, it
counts correct test nodes that no attack of so many deletions, or so many additions, can change,
for isotropic flips

- each node alone, by the exact certificate of one node (ICML 2020), as a job reports it;
- all nodes together, by those certificates and what every node sees (ICLR 2021);
- all nodes together, by the linear interface, whose cells are nodes;

and for localized flips by the linear interface without and with what every node sees. All of it
holds together, so that the best may be taken afterwards. It writes graph-views.json and
graph-views.md under benchmarks/results. An area is a sum over the budgets that were certified, as
far as they go, and at most what is true: fewer budgets make it smaller, for all rows alike.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from tqdm import tqdm

from lrs_jax import collective, storage
from lrs_jax.baselines import receptive_field, sparse_smoothing
from lrs_jax.cells import hops
from lrs_jax.evaluation import metrics
from lrs_jax.jobs import preparing, records, reports
from lrs_jax.jobs.machines import versions
from lrs_jax.jobs.records import Record
from lrs_jax.noise import SmoothingDistribution, views
from lrs_jax.tasks import common, graph_regions, graphs
from lrs_jax.tasks.graph_training import matrix
from lrs_jax.tasks.graphs import TASK, GraphConfig

HOPS = {"gcn": 2, "gat": 2, "gcn6": 6, "appnp": 10}
"""How often every network passes messages, and so how many hops a node sees."""

KINDS = "additions", "deletions"

SHOWN = 1, 5, 10, 20, 50
"""Budgets whose certified accuracy the table shows, where they were certified."""

ROWS = {
  "isotropic, region": "isotropic, each node alone (exact)",
  "isotropic, envelope": "isotropic, linear",
  "isotropic, region, views": "isotropic, what nodes see (exact)",
  "isotropic, envelope, views": "isotropic, what nodes see (linear)",
  "localized, envelope": "localized, linear",
  "localized, envelope, views": "localized, what nodes see (linear)",
}
"""Titles of what is compared."""


class Job(NamedTuple):
  """What a finished job left, and the graph that it was about."""

  name: str
  config: GraphConfig
  parts: Mapping[str, Record]  # "isotropic" and "localized"
  sees: sparse.csr_array  # bool [N, N]
  room: np.ndarray  # float64 [2, N], zeros and ones of every node


class Views(NamedTuple):
  """Correct nodes in groups that see alike, and nodes in cells that are seen alike."""

  noise: SmoothingDistribution  # of G groups and C cells
  groups: np.ndarray  # int [T], of the correct nodes
  caps: np.ndarray  # float64 [2, C]


class Curve(NamedTuple):
  """Correct nodes that are certified at every budget of one kind of flips."""

  certified: np.ndarray  # int64 [B]
  not_optimal: int = 0  # LPs without an optimum, whose bounds are only weaker


def load(folder: Path, data_dir: str | None) -> Job:
  """Loads a job's records, and the graph that they name.

  Raises:
    ValueError: no graph job, or a data set that is not the one of the job.
  """
  summary = storage.load_json(folder / "summary.json")
  if summary.get("task") != TASK.name:
    raise ValueError(f"{folder} is no job on a graph.")
  config = storage.from_plain(GraphConfig, summary["job"])._replace(data_dir=data_dir)
  (case,) = TASK.load(config).cases
  attributes, num_nodes = case.x.attributes, case.x.clusters.size
  parts = {}
  for title, name in (("isotropic", "isotropic"), ("localized", "certificate")):
    parts[title] = records.load(folder / case.name / f"{name}.npz")
    if parts[title].meta["input"] != preparing.input_digest(case):
      raise ValueError(f"{folder} is a job on another graph than that under `data_dir`.")
  room = graphs.flip_caps(
    np.diff(attributes.indptr),
    int(attributes.num_columns),
    np.arange(num_nodes)[:, None],
    num_nodes,
  )
  sees = hops.within(matrix(case.x.adjacency), HOPS[config.model_name])
  return Job(folder.name, config, parts, sees, room)


def correct(record: Record) -> np.ndarray:
  """Nodes that are counted and predicted correctly, bool [N]."""
  return records.targets_of(record, "correct/envelope")


def along(kind: str, spent: np.ndarray) -> np.ndarray:
  """Budgets [B] of one kind of flips, as budgets [B, 2] of both."""
  budgets = np.zeros((len(spent), 2))
  budgets[:, KINDS.index(kind)] = spent
  return budgets


def of_regions(record: Record, spent: np.ndarray, kind: str) -> Curve:
  """Every node alone, by the exact certificate of isotropic flips."""
  adversary = record.adversary._replace(budgets=along(kind, spent))
  found = graph_regions.isotropic(record._replace(adversary=adversary))
  assert found is not None, "the flips are not isotropic"
  return Curve(found["correct"])


def of_regions_seen(
  record: Record, sees: sparse.csr_array, room: np.ndarray, spent: np.ndarray, kind: str
) -> Curve:
  """All nodes together, by the same certificates and what every node sees."""
  budgets, chosen = along(kind, spent), correct(record)
  plus, minus = (theta.item() for theta in record.noise.parameters)
  required = sparse_smoothing.required_probability(
    plus, minus, *budgets.max(axis=0).astype(int).tolist()
  )
  survived = record.base.q_lower[chosen][:, None, None] > required
  field = sees[chosen]
  found = receptive_field.certify(survived, [field, field], budgets, local=list(room))
  certified = np.maximum(found.certified - record.base.forfeit, 0)
  return Curve(certified, int((found.status != "optimal").sum()))


def of_stored(record: Record, spent: np.ndarray, kind: str) -> Curve:
  """What the job certified by the envelope, the best of all orders, every node seeing all."""
  found = []
  for name, certificate in record.certified.items():
    if name.partition("@")[0] == "correct/envelope":
      known = dict(zip(map(tuple, certificate.budgets), certificate.certified, strict=True))
      found.append([known[tuple(budget)] for budget in along(kind, spent)])
  return Curve(np.max(found, axis=0))


def views_of(record: Record, sees: sparse.csr_array, room: np.ndarray) -> Views:
  """The noise of a record as its correct nodes see it.

  Nodes of one field that see the same are one group, nodes of one level that the same groups see
  are one cell: whoever flips in one of them could flip in another at the same price.
  """
  chosen, levels = correct(record), record.noise.cells[:, 0]
  field, rows = record.groups[chosen], sees[chosen].toarray()
  keys = np.column_stack([field, np.packbits(rows, axis=1)])
  _, first, groups = np.unique(keys, axis=0, return_index=True, return_inverse=True)
  rows = rows[first]
  keys = np.column_stack([levels, np.packbits(rows, axis=0).T])
  _, place, cells = np.unique(keys, axis=0, return_index=True, return_inverse=True)
  cells = cells.reshape(-1)
  seen = views.seen(record.noise, field[first], cells[:, None], rows[:, place])
  caps = np.stack([np.bincount(cells, amount, len(place)) for amount in room])
  return Views(seen, groups.reshape(-1), caps)


def of_views(
  record: Record, seen: Views, orders: Sequence[str], spent: np.ndarray, kind: str
) -> Curve:
  """All nodes together, by the linear interface: the best envelope of all orders, "" being votes'.

  An adversary that has one kind of flips has no use for the weights of the other.
  """
  chosen, a, found, not_optimal = correct(record), KINDS.index(kind), [], 0
  for order in orders:
    weights, eta = seen.noise.weights, record.base.eta
    if order:
      weights, eta = seen.noise.family.renyi(seen.noise, record.base.q_lower, float(order))
    certificate = collective.certify(
      weights[a],
      seen.groups,
      eta[chosen],
      spent,
      caps=seen.caps[a],
      integral=True,
      forfeit=record.base.forfeit,
    )
    found.append(certificate.certified)
    not_optimal += int((certificate.status != "optimal").sum())
  return Curve(np.max(found, axis=0), not_optimal)


def compare(job: Job, spent: np.ndarray, orders: Sequence[str]) -> dict[str, Any]:
  """Certified accuracy by all methods, along both kinds of flips."""
  seen = {title: views_of(record, job.sees, job.room) for title, record in job.parts.items()}
  isotropic, localized = job.parts["isotropic"], job.parts["localized"]
  methods: Mapping[str, Callable[[str], Curve]] = {
    "isotropic, region": lambda kind: of_regions(isotropic, spent, kind),
    "isotropic, envelope": lambda kind: of_stored(isotropic, spent, kind),
    "isotropic, region, views": lambda kind: of_regions_seen(
      isotropic, job.sees, job.room, spent, kind
    ),
    "isotropic, envelope, views": lambda kind: of_views(
      isotropic, seen["isotropic"], orders, spent, kind
    ),
    "localized, envelope": lambda kind: of_stored(localized, spent, kind),
    "localized, envelope, views": lambda kind: of_views(
      localized, seen["localized"], orders, spent, kind
    ),
  }
  found: dict[str, Any] = {}
  with tqdm(total=len(methods) * len(KINDS), desc=job.name, unit="curve") as progress:
    for name, method in methods.items():
      labelled = int(job.parts[name.partition(",")[0]].labelled.sum())
      found[name] = {}
      for kind in KINDS:
        progress.set_postfix_str(f"{name}, {kind}")
        started = time.perf_counter()
        curve = method(kind)
        fraction = metrics.certified_fraction(curve.certified, labelled)
        found[name][kind] = {
          "area": metrics.average_certifiable_radius(spent, fraction),
          "certified": curve.certified.tolist(),
          "not_optimal": curve.not_optimal,
          "seconds": round(time.perf_counter() - started, 3),
        }
        progress.update()
  size = np.diff(job.sees.indptr)
  return {
    "job": common.plain_config(job.config),
    "hops": HOPS[job.config.model_name],
    "seen_nodes": {"mean": float(size.mean()), "median": float(np.median(size)),
      "most": int(size.max())},
    "budgets": spent.tolist(),
    "orders": list(orders),
    "parts": {
      title: {
        "labelled": int(record.labelled.sum()),
        "correct": int(correct(record).sum()),  # those that abstain among them
        "accuracy": reports.quality(
          [record.truth[record.counted]],
          [record.base.predictions[record.counted]],
          record.selection.votes.shape[1],
        )["accuracy"],
        "groups": seen[title].noise.weights.shape[1],
        "cells": seen[title].noise.weights.shape[2],
      }
      for title, record in job.parts.items()
    },
    "methods": found,
  }  # fmt: skip


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
  """Markdown: accuracy, and areas and certified accuracies at some budgets, rounded down."""
  lines = []
  for name, result in results.items():
    size, job, spent = result["seen_nodes"], result["job"], result["budgets"]
    shown = [budget for budget in SHOWN if budget in spent]
    lines += [
      f"**{name}** ({job['data']}, {job['model_name']}, {job['samples']} samples, level "
      f"{1 - job['alpha']:g}): a node sees {result['hops']} hops, {size['median']:g} nodes in the "
      f"median, {size['mean']:.1f} on average and {size['most']} at most. Budgets are "
      f"{_listed(spent)}; areas are sums over these, >: as far as they go.",
      "",
      "| smoothing, certificate | accuracy |"
      + "".join(f" {k}: area |" + "".join(f" at {b} |" for b in shown) for k in KINDS[::-1]),
      "| --- |" + " ---: |" * (1 + 2 * (1 + len(shown))),
    ]
    for method, by_kind in result["methods"].items():
      part = result["parts"][method.partition(",")[0]]
      texts = [f"{part['accuracy']:.3f}"]
      for kind in KINDS[::-1]:
        of = by_kind[kind]
        beyond = ">" if of["certified"][-1] else ""
        texts.append(f"{beyond}{metrics.round_down(of['area'], decimals=2):.2f}")
        certified = [of["certified"][spent.index(b)] / part["labelled"] for b in shown]
        texts += [f"{metrics.round_down(value, decimals=3):.3f}" for value in certified]
      lines.append(f"| {ROWS[method]} | " + " | ".join(texts) + " |")
    lines.append("")
  return "\n".join(lines)


def _listed(budgets: Sequence[float]) -> str:
  whole = list(map(int, budgets))
  if whole == list(range(len(whole))):
    return f"0 to {whole[-1]}"
  return ", ".join(map(str, whole))


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    "jobs", type=Path, nargs="+", metavar="JOB", help="folder of a finished job on a graph"
  )
  parser.add_argument(
    "--data-dir", required=True, help="folder of the data sets that the jobs were about"
  )
  parser.add_argument(
    "--budgets",
    default=",".join(map(str, range(51))),
    metavar="B,...",
    help="numbers of flips of one kind, rising from 0, none beyond those of the jobs "
    "(default: 0 to 50)",
  )
  parser.add_argument(
    "--orders",
    metavar="ORDER,...",
    help="Rényi orders that the linear certificates of what nodes see combine beside that of the "
    "votes or scores (default: those of the job; '' for none)",
  )
  parser.add_argument(
    "--out", type=Path, default=Path("benchmarks/results"), help="folder of the results"
  )
  options = parser.parse_args(arguments)
  spent = np.array([int(budget) for budget in options.budgets.split(",")], np.float64)
  if not (np.diff(spent, prepend=-1) > 0).all():
    parser.error("--budgets must be numbers of at least 0 that rise")
  results = {}
  for folder in options.jobs:
    job = load(folder, options.data_dir)
    if spent.max() > min(job.config.budgets):
      parser.error(f"--budgets must be at most {min(job.config.budgets)}, as those of {folder}")
    of_job = [f"{order:g}" for order in job.config.orders]
    orders = of_job if options.orders is None else [o for o in options.orders.split(",") if o]
    results[job.name] = compare(job, spent, ["", *orders])
  storage.save_json(options.out / "graph-views.json", {"versions": versions(), "jobs": results})
  storage.save_text(options.out / "graph-views.md", table(results))
  print(table(results))


if __name__ == "__main__":
  main()
