"""What a graph job is: its configuration, and the data, clusters, flips and network that follow."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax import keys, noise, storage
from lrs_jax.cells import clusters
from lrs_jax.noise.families import SmoothingDistribution
from lrs_jax.sampling import sparse_flips
from lrs_jax.tasks import graph_training
from lrs_jax.tasks.data import citation
from lrs_jax.tasks.data.citation import CitationGraph, Split
from lrs_jax.tasks.images import check_variables
from lrs_jax.tasks.models import gnn


class GraphJob(NamedTuple):
  """Configuration of a job on a graph; `lrs-jax certify citeseer --help` explains the fields."""

  data: str = "citeseer"
  data_dir: str | None = None
  graph: str | None = None
  binarize: bool = False
  per_class: int = 20
  model_name: str = "appnp"
  partition: str = "spectral"
  clusters: int = 5
  theta_plus: tuple[float, float] = (0.01, 0.01)
  theta_minus: tuple[float, float] = (0.6, 0.95)
  isotropic_theta_plus: float | None = None
  isotropic_theta_minus: float | None = None
  steps: int = 1500
  learning_rate: float = 0.01
  seed: int = 0
  alpha: float = 0.01
  samples: int = 10_000
  selection_samples: int = 1000
  scores: tuple[str, ...] = ("votes", "kl", "bernstein")
  orders: tuple[float, ...] = (0.6, 1.0, 1.5, 2.0, 4.0, 1000.0)
  budgets: tuple[int, int] = (50, 50)
  method: str = "envelope"
  bins: int | None = None
  time_limit: float | None = 10.0
  precision: str = "float32"


class GraphInput(NamedTuple):
  """A loaded graph with everything that does not depend on noise."""

  name: str
  graph: CitationGraph
  split: Split
  clusters: np.ndarray  # int32 [N]
  edges: gnn.Edges
  model: nn.Module

  @property
  def num_classes(self) -> int:
    """K."""
    return int(self.graph.labels.max()) + 1


DEFAULTS = {"citeseer": GraphJob(), "cora_ml": GraphJob(data="cora_ml")}
"""Every named graph with its job's defaults."""

_NETWORK = ("data", "graph", "per_class", "model_name", "steps", "learning_rate", "seed")
"""Fields that decide what is trained, beside the flips and the clusters."""


def check(job: GraphJob) -> None:
  """Raises a ValueError that names the first field of a job that can not be right."""
  for name in ("per_class", "clusters", "steps", "samples", "selection_samples"):
    if getattr(job, name) < 1:
      raise ValueError(f"{_flag(name)} must be at least 1, but it is {getattr(job, name)}.")
  if not 0 < job.alpha < 1:
    raise ValueError(f"--alpha must lie strictly between 0 and 1, but it is {job.alpha}.")
  for name in ("theta_plus", "theta_minus"):
    for theta in getattr(job, name):
      if not 0 <= theta < 1:
        raise ValueError(f"{_flag(name)} must lie in [0, 1), but one of them is {theta}.")
    low, high = getattr(job, name)
    if low > high:
      raise ValueError(
        f"{_flag(name)} must be LOW,HIGH with LOW at most HIGH, but it is {low:g},{high:g}: LOW is "
        "for a group's own cluster, HIGH for the least affine one."
      )
  for name in ("isotropic_theta_plus", "isotropic_theta_minus"):
    theta = getattr(job, name)
    if theta is not None and not 0 <= theta < 1:
      raise ValueError(f"{_flag(name)} must lie in [0, 1), but it is {theta}.")
  isotropic = isotropic_thetas(job)
  for names, pairs in (
    (("theta_plus", "theta_minus"), zip(job.theta_plus, job.theta_minus, strict=True)),
    (("isotropic_theta_plus", "isotropic_theta_minus"), [isotropic]),
  ):
    for plus, minus in pairs:
      if plus + minus > 1 + 1e-9:
        raise ValueError(
          f"{_flag(names[0])} and {_flag(names[1])} must not exceed 1 together, or attributes "
          f"would mean their opposite, but they are {plus:g} and {minus:g}."
        )
  if not all(0 < order < np.inf for order in job.orders):
    raise ValueError(f"--orders must be greater than 0 and finite, but they are {job.orders}.")
  if min(job.budgets) < 0:
    raise ValueError(f"--budgets must be at least 0, but they are {job.budgets}.")
  if not job.learning_rate > 0:
    raise ValueError(f"--learning-rate must be positive, but it is {job.learning_rate}.")


def load(job: GraphJob) -> GraphInput:
  """Loads the job's graph, splits and partitions it, and sets up its network.

  The two named data sets are binarized; any other graph only on request.
  """
  if job.graph is not None:
    path, name, binarize = Path(job.graph), Path(job.graph).stem, job.binarize
  else:
    path, name, binarize = citation.find_graph(job.data, job.data_dir), job.data, True
  graph = citation.load_graph(path, binarize=binarize)
  partition = {"spectral": clusters.spectral_clusters, "metis": clusters.metis_clusters}
  if job.partition not in partition:
    raise ValueError(f"--partition must be spectral or metis, but it is {job.partition!r}.")
  found = partition[job.partition](graph.adjacency, job.clusters, seed=job.seed)
  split = citation.split_nodes(graph.labels, job.seed, per_class=job.per_class)
  if split.test.size == 0:
    raise ValueError(
      f"--per-class {job.per_class} leaves none of the {graph.labels.size} nodes for testing."
    )
  model = gnn.make_model(job.model_name, graph.attributes.shape[1], int(graph.labels.max()) + 1)
  return GraphInput(name, graph, split, found, gnn.normalized_edges(graph.adjacency), model)


def smoothings(job: GraphJob, data: GraphInput) -> dict[str, SmoothingDistribution]:
  """The flips that a job compares, by the name of the file that holds their certificates."""
  return {"certificate": localized_flips(job, data), "isotropic": isotropic_flips(job, data)}


def localized_flips(job: GraphJob, data: GraphInput) -> SmoothingDistribution:
  """Flips of the attributes of every cluster, by its rank in the eyes of every other cluster."""
  ranks = clusters.affinity_ranks(clusters.cluster_affinity(data.graph.adjacency, data.clusters))
  return noise.flips(
    clusters.levels_by_rank(ranks, *job.theta_plus),
    clusters.levels_by_rank(ranks, *job.theta_minus),
    data.clusters[:, None],
  )


def isotropic_flips(job: GraphJob, data: GraphInput) -> SmoothingDistribution:
  """The baseline's flips, the same everywhere: by default those of a group's own cluster."""
  plus, minus = isotropic_thetas(job)
  return noise.flips(
    np.array([[plus]]), np.array([[minus]]), np.zeros((data.clusters.size, 1), np.int32)
  )


def isotropic_thetas(job: GraphJob) -> tuple[float, float]:
  """Probabilities of the baseline to add and to delete an attribute."""
  plus = job.theta_plus[0] if job.isotropic_theta_plus is None else job.isotropic_theta_plus
  minus = job.theta_minus[0] if job.isotropic_theta_minus is None else job.isotropic_theta_minus
  return plus, minus


def obtain_model(
  job: GraphJob, data: GraphInput, flips: SmoothingDistribution, name: str, path: Path
) -> tuple[float, Any, str]:
  """Loads a network, training it under the flips of that name first if its file does not exist.

  Returns:
    Seconds of training, the variables, and a digest of them.

  Raises:
    ValueError: a file that is no network of this architecture.
  """
  start = time.perf_counter()
  seconds = 0.0
  if not path.exists():
    variables, history = graph_training.train(
      keys.tagged(jax.random.key(job.seed), f"{name}, training"),
      data.model,
      data.edges,
      sparse_flips.plan_flips(data.graph.attributes, flips),
      groups_of(flips, data),
      data.graph.labels,
      data.split,
      num_classes=data.num_classes,
      max_steps=job.steps,
      learning_rate=job.learning_rate,
    )
    arrays = flax.traverse_util.flatten_dict(jax.device_get(variables), sep="/")
    meta = {
      "model_name": job.model_name,
      "steps": int(history.steps[history.best]),
      "validation_accuracy": float(history.validation_accuracy[history.best]),
    }
    storage.save_arrays(path, {**arrays, "meta": storage.json_array(meta)})
    seconds = time.perf_counter() - start
  arrays = storage.load_arrays(path)
  if "meta" not in arrays:
    raise ValueError(f"{path} is not a network stored by lrs-jax: it has no array `meta`.")
  arrays.pop("meta")
  shape = jax.ShapeDtypeStruct(data.graph.attributes.shape, jnp.float32)
  wanted = jax.eval_shape(data.model.lazy_init, {"params": jax.random.key(0)}, shape, data.edges)
  try:
    variables = check_variables(path, arrays, wanted)
  except ValueError as error:
    raise ValueError(
      f"{error} It is another network than --model-name {job.model_name} on {data.name}: give the "
      "right one, or another --model."
    ) from None
  return seconds, variables, storage.digest(arrays)


def model_path(job: GraphJob, flips: SmoothingDistribution, data: GraphInput, out: Path) -> Path:
  """Where a job's network lies unless the user says otherwise: named by what decides it."""
  fields = [str(getattr(job, name)) for name in _NETWORK]
  digest = hashlib.sha256(json.dumps(fields).encode())
  for part in (*flips.parameters, data.clusters if len(flips.scale) > 1 else np.zeros(1)):
    digest.update(np.ascontiguousarray(part).tobytes())
  return out / "models" / f"{job.model_name}-{digest.hexdigest()[:12]}.npz"


def groups_of(flips: SmoothingDistribution, data: GraphInput) -> np.ndarray:
  """The group of every node: its cluster, or 0 where all nodes share one distribution."""
  return data.clusters if flips.weights.shape[1] > 1 else np.zeros_like(data.clusters)


def _flag(field: str) -> str:
  return "--" + field.replace("_", "-")
