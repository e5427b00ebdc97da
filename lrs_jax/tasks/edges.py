"""Citation graphs whose edges an attack may add and delete: nodes classified under flips of edges.

The input is one bit for every pair of nodes. A cell is a block of it, all pairs between two
clusters (or within one), so that C clusters make C (C + 1) / 2 cells. For a group, which is a
cluster, a block is as near as the nearer one of its two clusters.

Clusters are part of the model, as its weights are: they come from the edges as they were before any
attack, and are kept. To make them anew of attacked edges would make another model.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import jax
import numpy as np

from lrs_jax.sampling import edge_flips
from lrs_jax.tasks import graph_parts, graph_regions, graph_training
from lrs_jax.tasks.data import citation
from lrs_jax.tasks.graph_parts import GraphConfig
from lrs_jax.tasks.graph_training import matrix
from lrs_jax.tasks.options import FRACTION, TRAINING, Option
from lrs_jax.tasks.task import Adversary, Case, Count, Data, Smoothing, Task

_ENDS = "among pairs that touch a group's own cluster, and among the least affine ones"


class EdgeConfig(GraphConfig):
  """Configuration of a job on edges; `lrs-jax certify citeseer_edges --help` explains them."""

  data: str = "citeseer_edges"
  clusters: graph_parts.Clusters = 5
  theta_plus: Annotated[
    tuple[float, float],
    Option(f"probability to add an edge: {_ENDS}", "flips", "LOW,HIGH", **FRACTION),
  ] = (0.001, 0.002)
  theta_minus: Annotated[
    tuple[float, float],
    Option(f"probability to delete one: {_ENDS}", "flips", "LOW,HIGH", **FRACTION),
  ] = (0.4, 0.95)
  model_name: Annotated[str, Option("architecture", TRAINING, choices=("appnp", "gcn", "gcn6"))] = (
    "appnp"
  )
  budgets: graph_parts.Budgets = (20, 40)


def load(config: EdgeConfig) -> Data:
  """Loads the graph as the task of attributes does."""
  return graph_parts.load(config._replace(data=config.data.removesuffix("_edges")))


def blocks(groups: np.ndarray) -> np.ndarray:
  """The block of every pair of nodes, int [N, N // 2], as `edge_flips.ends` lays them out.

  Blocks are numbered row by row: clusters (0, 0), (0, 1), ..., (1, 1), (1, 2), ...

  Example:
    >>> blocks(np.array([0, 1, 1]))
    array([[1],
           [2],
           [1]])
  """
  first, second = (groups[end] for end in edge_flips.ends(groups.size))
  return _block_numbers(int(groups.max()) + 1)[first, second]


def block_ranks(ranks: np.ndarray) -> np.ndarray:
  """How near a block is to a group: the smaller one of its clusters' ranks, int [G, C (C + 1) / 2].

  Example:
    >>> block_ranks(np.array([[0, 1], [1, 0]]))
    array([[0, 0, 1],
           [1, 0, 0]])
  """
  rows, columns = np.triu_indices(len(ranks))
  return np.minimum(ranks[:, rows], ranks[:, columns])


def _block_numbers(num_clusters: int) -> np.ndarray:
  found = np.zeros((num_clusters, num_clusters), np.int64)
  rows, columns = np.triu_indices(num_clusters)
  found[rows, columns] = found[columns, rows] = np.arange(rows.size)
  return found


def smoothings(config: EdgeConfig, data: Data, case: Case) -> tuple[Smoothing, ...]:
  """Localized flips of edges, by the rank of a pair's block, then the isotropic ones."""
  groups = case.x.clusters
  return graph_parts.pair_of(config, block_ranks(case.x.ranks), blocks(groups), groups)


def adversaries(
  config: EdgeConfig, data: Data, case: Case, smoothings: Sequence[Smoothing]
) -> tuple[Adversary, ...]:
  """All of 0..A additions and 0..D deletions, no more than a block has pairs and edges."""
  edges = edge_flips.fold(matrix(case.x.adjacency)).toarray() != 0
  once = np.full(edges.shape, True)
  if len(edges) % 2 == 0:
    once[len(edges) // 2 :, -1] = False  # pairs that the layout has twice
  found = []
  for smoothing in smoothings:
    cells, num_cells = smoothing.noise.cells, smoothing.noise.weights.shape[2]
    caps = [np.bincount(cells[once & (edges == one)], minlength=num_cells) for one in (False, True)]
    found.append(graph_parts.adversary_of(config, np.stack(caps).astype(np.float64)))
  return tuple(found)


def counter(config: EdgeConfig, data: Data, params: Any, case: Case, smoothing: Smoothing) -> Count:
  """The task's `counter`: votes and scores of every class, by the sampler of flips of edges."""
  plan = edge_flips.plan_edges(matrix(case.x.adjacency), smoothing.noise)
  apply = graph_training.edges_of(graph_parts.model(config, data), smoothing.groups.size)
  attributes = graph_training.entries(matrix(case.x.attributes))
  asked = apply, (params, attributes), plan, smoothing.groups
  return graph_parts.counting(config, case, edge_flips.class_sums, asked)


def check_record(config: EdgeConfig, record: Any) -> None:
  """Raises a ValueError if a record's flips or groups cannot be those of the configuration."""
  graph_parts.check_thetas(config, record)
  localized = record.noise.weights.shape[1] > 1
  cells = blocks(record.groups) if localized else np.zeros_like(record.noise.cells)
  if not np.array_equal(record.noise.cells, cells):
    raise ValueError("`cells` are not the blocks between the clusters that `groups` says.")


def fit(
  key: jax.Array,
  config: EdgeConfig,
  data: Data,
  smoothing: Smoothing,
  split: citation.Split,
  **options: Any,
) -> tuple[Any, graph_training.GraphHistory]:
  """Trains a network under flips of the edges."""
  (case,) = data.cases
  assert case.truth is not None
  plan = edge_flips.plan_edges(matrix(case.x.adjacency), smoothing.noise)
  model, attributes = graph_parts.model(config, data), matrix(case.x.attributes)
  return graph_training.train_on_edges(
    key, model, attributes, plan, smoothing.groups, case.truth, split, **options
  )


TASK = Task(
  name="edges",
  unit="nodes",
  data={"citeseer_edges": EdgeConfig(), "cora_ml_edges": EdgeConfig(data="cora_ml_edges")},
  about={
    f"{name}_edges": f"citation graph, edges flip; --data-dir holds {name}.npz, or --graph FILE"
    for name in ("citeseer", "cora_ml")
  },
  check=graph_parts.check,
  load=load,
  models=graph_parts.models(smoothings, fit),
  smoothings=smoothings,
  counter=counter,
  chunk_size=graph_parts.chunk_size,
  adversaries=adversaries,
  rivals=graph_regions.RIVALS,
  check_record=check_record,
  figures=partial(graph_parts.figures, "edge"),
  assumes=(
    "that clusters and weights, which come from the edges before any attack, are kept: "
    "with clusters made anew of attacked edges it is another model",
  ),
)
"""Citation graphs under flips of edges, as `lrs_jax.jobs` runs them."""
