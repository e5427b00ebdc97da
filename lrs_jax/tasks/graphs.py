"""Citation graphs as a task: nodes classified from binary attributes that an attack may flip."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from lrs_jax.sampling import sparse_flips
from lrs_jax.tasks import graph_parts, graph_regions, graph_training
from lrs_jax.tasks.data import citation
from lrs_jax.tasks.graph_parts import GraphConfig
from lrs_jax.tasks.graph_training import matrix
from lrs_jax.tasks.task import Adversary, Case, Count, Data, Smoothing, Task


def smoothings(config: GraphConfig, data: Data, case: Case) -> tuple[Smoothing, ...]:
  """Localized flips of attributes, by the rank of a node's cluster, then the isotropic ones."""
  groups = case.x.clusters
  return graph_parts.pair_of(config, case.x.ranks, groups[:, None], groups)


def adversaries(
  config: GraphConfig, data: Data, case: Case, smoothings: Sequence[Smoothing]
) -> tuple[Adversary, ...]:
  """All of 0..A additions and 0..D deletions, no more than a cluster has zeros and ones."""
  num_ones, num_attributes = np.diff(case.x.attributes.indptr), int(case.x.attributes.num_columns)
  flips = [smoothing.noise for smoothing in smoothings]
  caps = (flip_caps(num_ones, num_attributes, f.cells, f.weights.shape[2]) for f in flips)
  return tuple(graph_parts.adversary_of(config, most) for most in caps)


def flip_caps(
  num_ones: np.ndarray, num_attributes: int, cells: np.ndarray, num_cells: int
) -> np.ndarray:
  """How many zeros and ones every cell has: an adversary can not flip more.

  Of the numbers of ones of the nodes, int [N], among D attributes each, and the nodes' cells, int
  [N, 1], it makes float64 [2, C]: zeros that can be added, ones that can be deleted.

  Example:
    >>> flip_caps(np.array([1, 3]), 4, np.array([[0], [2]]), num_cells=3)
    array([[3., 0., 1.],
           [1., 0., 3.]])
  """
  deletions = np.bincount(cells[:, 0], num_ones, num_cells)
  nodes = np.bincount(cells[:, 0], minlength=num_cells)
  return np.stack([nodes * num_attributes - deletions, deletions])


def counter(
  config: GraphConfig, data: Data, params: Any, case: Case, smoothing: Smoothing
) -> Count:
  """The task's `counter`: votes and scores of every class, by the sampler of sparse flips."""
  plan = sparse_flips.plan_flips(matrix(case.x.attributes), smoothing.noise)
  head = graph_training.head_of(graph_parts.model(config, data))
  kernel = params["params"]["first_kernel"]
  asked = head, (params, graph_parts.edges(case)), kernel, plan, smoothing.groups
  return graph_parts.counting(config, case, sparse_flips.class_sums, asked)


def check_record(config: GraphConfig, record: Any) -> None:
  """Raises a ValueError if a record's flips or groups cannot be those of the configuration."""
  graph_parts.check_thetas(config, record)
  cells = record.noise.cells[:, 0]
  own = cells if record.noise.weights.shape[1] > 1 else np.zeros_like(cells)
  if not np.array_equal(record.groups, own):
    raise ValueError("`groups` are not the clusters that `cells` says.")


def fit(
  key: jax.Array,
  config: GraphConfig,
  data: Data,
  smoothing: Smoothing,
  split: citation.Split,
  **options: Any,
) -> tuple[Any, graph_training.GraphHistory]:
  """Trains a network under flips of the attributes."""
  (case,) = data.cases
  assert case.truth is not None
  plan = sparse_flips.plan_flips(matrix(case.x.attributes), smoothing.noise)
  network = graph_parts.model(config, data), graph_parts.edges(case)
  return graph_training.train(key, *network, plan, smoothing.groups, case.truth, split, **options)


TASK = Task(
  name="graphs",
  unit="nodes",
  data={"citeseer": GraphConfig(), "cora_ml": GraphConfig(data="cora_ml")},
  about={
    name: f"citation graph, attributes flip; --data-dir holds {name}.npz, or --graph FILE"
    for name in ("citeseer", "cora_ml")
  },
  check=graph_parts.check,
  load=graph_parts.load,
  models=graph_parts.models(smoothings, fit),
  smoothings=smoothings,
  counter=counter,
  chunk_size=graph_parts.chunk_size,
  adversaries=adversaries,
  rivals=graph_regions.RIVALS,
  check_record=check_record,
  figures=partial(graph_parts.figures, "attribute"),
)
"""Citation graphs under flips of attributes, as `lrs_jax.jobs` runs them."""
