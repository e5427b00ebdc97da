"""What both tasks on graphs share: configuration, loading, networks, budgets, figures."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax import noise, storage
from lrs_jax.cells import clusters
from lrs_jax.sampling import ClassSums
from lrs_jax.tasks import common, graph_training, options, training
from lrs_jax.tasks.data import citation
from lrs_jax.tasks.graph_training import Graph, matrix, ones
from lrs_jax.tasks.models import gnn
from lrs_jax.tasks.options import FRACTION, ONE, TRAINING, ZERO, Option, positive
from lrs_jax.tasks.task import Adversary, Case, Count, Data, Models, Network, Smoothing

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_ENDS = "in a group's own cluster, and in the least affine one"
_BASELINE = "of the isotropic baseline; by default the low end of"
Clusters = Annotated[int, Option("clusters of nodes", "flips", **ONE)]
Budgets = Annotated[
  tuple[int, int], Option("all of 0..A additions and 0..D deletions", metavar="A,D", **ZERO)
]


class GraphConfig(options.Shared):
  """Configuration of a job on a graph; `lrs-jax certify citeseer --help` explains the fields."""

  data: str = "citeseer"
  graph: Annotated[
    str | None,
    Option("any other graph: .npz of labels, adj_{data,...}, attr_{data,...}", "data", "FILE"),
  ] = None
  binarize: Annotated[bool, Option("turn attributes of --graph into 0 and 1", "data")] = False
  clusters: Clusters = 3
  partition: Annotated[
    str,
    Option("metis: of equal size; spectral: as they are", "flips", choices=("metis", "spectral")),
  ] = "metis"
  theta_plus: Annotated[
    tuple[float, float],
    Option(f"probability to add an attribute: {_ENDS}", "flips", "LOW,HIGH", **FRACTION),
  ] = (0.01, 0.01)
  isotropic_theta_plus: Annotated[
    float | None, Option(f"{_BASELINE} --theta-plus", "flips", "P", **FRACTION)
  ] = None
  theta_minus: Annotated[
    tuple[float, float],
    Option(f"probability to delete one: {_ENDS}", "flips", "LOW,HIGH", **FRACTION),
  ] = (0.6, 0.95)
  isotropic_theta_minus: Annotated[
    float | None, Option(f"{_BASELINE} --theta-minus", "flips", "P", **FRACTION)
  ] = None
  model_name: Annotated[
    str, Option("architecture", TRAINING, choices=("appnp", "gcn", "gcn6", "gat"))
  ] = "appnp"
  per_class: Annotated[int, Option("training nodes of every class", TRAINING, **ONE)] = 20
  nodes: Annotated[
    str,
    Option(
      "nodes that are certified: validation is for choosing other options, test for results",
      choices=("test", "validation"),
    ),
  ] = "test"
  steps: Annotated[int, Option("gradient steps at most", TRAINING, **ONE)] = 1500
  learning_rate: Annotated[float, Option("of Adam", TRAINING, **options.POSITIVE)] = 0.01
  seed: Annotated[int, Option("of split, clusters, training and sampling", TRAINING)] = 0
  samples: options.Samples = 10_000
  selection_samples: options.SelectionSamples = 1000
  scores: options.Scores = ("votes", "kl", "mixed")
  orders: Annotated[
    tuple[float, ...],
    Option(
      "Rényi orders whose base certificates are combined too; each budget takes the best",
      metavar="ORDER,...",
      **positive("must be greater than 0 and finite"),
    ),
  ] = (0.6, 1.0, 1.5, 2.0, 4.0, 1000.0)
  budgets: Budgets = (50, 50)
  method: Annotated[
    str,
    Option(
      "milp: exact certificates too, up to --gap, on the axes and a coarse grid",
      choices=("envelope", "milp"),
    ),
  ] = "envelope"
  time_limit: options.TimeLimit = 10.0


_DECISIVE = ("data", "graph", "per_class", "model_name", "steps", "learning_rate", "seed")
"""Options that decide what is trained, beside the graph, its clusters and the flips."""


def check(config: GraphConfig) -> None:
  """Raises a ValueError that names options which contradict each other."""
  for name in ("theta_plus", "theta_minus"):
    low, high = getattr(config, name)
    if low > high:
      raise ValueError(
        f"{options.flag(name)} must be LOW,HIGH with LOW at most HIGH, but it is {low:g},{high:g}: "
        "LOW is for a group's own cluster, HIGH for the least affine one."
      )
  pairs = [("--", *pair) for pair in zip(config.theta_plus, config.theta_minus, strict=True)]
  for flag, plus, minus in (*pairs, ("--isotropic-", *_isotropic_thetas(config))):
    if plus + minus > 1 + 1e-9:
      raise ValueError(
        f"{flag}theta-plus and {flag}theta-minus must not exceed 1 together, or attributes would "
        f"mean their opposite, but they are {plus:g} and {minus:g}."
      )


def load(config: GraphConfig) -> Data:
  """Loads the graph, partitions its nodes, and says which of them are certified.

  The two named data sets are binarized; any other graph only on request. One that can not be used
  is a ValueError.
  """
  if config.graph is not None:
    path, name, binarize = Path(config.graph), Path(config.graph).stem, config.binarize
    if config.data_dir is not None and not path.exists():  # as a merge is told of it
      path = Path(config.data_dir) / path
  else:
    path, name, binarize = citation.find_graph(config.data, config.data_dir), config.data, True
  graph = citation.load_graph(path, binarize=binarize)
  labels, (num_nodes, num_attributes) = graph.labels, graph.attributes.shape
  partition = {"spectral": clusters.spectral_clusters, "metis": clusters.metis_clusters}
  found = partition[config.partition](graph.adjacency, config.clusters, seed=config.seed)
  split = citation.split_nodes(labels, config.seed, per_class=config.per_class)
  counted = np.isin(np.arange(num_nodes), getattr(split, config.nodes))
  if not counted.any():
    raise ValueError(
      f"--per-class {config.per_class} leaves none of the {num_nodes} nodes for testing."
    )
  ranks = clusters.affinity_ranks(clusters.cluster_affinity(graph.adjacency, found))
  x = Graph(ones(graph.attributes), ones(graph.adjacency), found, ranks)
  classes = tuple(f"class {k}" for k in range(int(labels.max()) + 1))
  facts = {
    "nodes": num_nodes,
    "edges": int(graph.adjacency.nnz // 2),
    "attributes": num_attributes,
    "classes": len(classes),
    f"{config.nodes}_nodes": int(counted.sum()),
    "clusters": np.bincount(found).tolist(),
  }
  return Data((Case(name, x, labels, counted),), classes, graph.notes, facts)


def pair_of(
  config: GraphConfig, ranks: np.ndarray, cells: np.ndarray, groups: np.ndarray
) -> tuple[Smoothing, ...]:
  """Localized flips, then the isotropic ones, each with a network of its own.

  The former flip every cell by its rank in the eyes of every group, int [G, C], the latter all
  alike, by default as those of rank 0. The envelope is combined for every Rényi order. The exact
  method (--method milp) is for the localized flips alone.
  """
  plus, minus = _isotropic_thetas(config)
  localized = noise.flips(
    clusters.levels_by_rank(ranks, *config.theta_plus),
    clusters.levels_by_rank(ranks, *config.theta_minus),
    cells,
  )
  isotropic = noise.flips(np.array([[plus]]), np.array([[minus]]), np.zeros_like(cells))
  of_correct = partial(common.certificates_of, orders=config.orders, targets=("correct",))
  methods = *of_correct((*common.COMPARED, config.method)), "all/envelope"
  baseline = *of_correct(("envelope",)), "all/envelope"
  return (
    Smoothing("certificate", localized, groups, methods, "certificate", title="localized"),
    Smoothing("isotropic", isotropic, np.zeros_like(groups), baseline, "isotropic"),
  )


def adversary_of(config: GraphConfig, caps: np.ndarray) -> Adversary:
  """All of 0..A additions and 0..D deletions, no more than `caps` [2, C] of every cell.

  The exact method gets the axes and a coarse grid.
  """
  additions, deletions = (np.arange(most + 1.0) for most in config.budgets)
  grid = np.stack(np.meshgrid(additions, deletions, indexing="ij"), axis=-1).reshape(-1, 2)
  few = [np.unique(np.linspace(0, most, 6).round()) for most in config.budgets]
  coarse = np.isin(grid[:, 0], few[0]) & np.isin(grid[:, 1], few[1]) | (grid == 0).any(axis=1)
  return Adversary(grid, caps=caps, integral=True, coarse=coarse)


def counting(
  config: GraphConfig, case: Case, class_sums: Callable[..., ClassSums], asked: tuple
) -> Count:
  """A task's `counter`, of a sampler's `class_sums` and what is asked of it behind the key."""
  how: dict[str, Any] = {"chunk_size": chunk_size(config, case), "mesh": common.local_mesh()}

  def count(key: jax.Array, num_samples: int, first_sample: int) -> ClassSums:
    with jax.default_matmul_precision(config.precision):
      return class_sums(key, *asked, num_samples, first_sample=first_sample, **how)

  return count


def edges(case: Case) -> gnn.Edges:
  """The edges of a case's graph, as networks read them."""
  return gnn.normalized_edges(matrix(case.x.adjacency))


def chunk_size(config: GraphConfig, case: Case) -> int:
  """Samples that a device evaluates at once: a CPU is fastest with one."""
  return 1 if jax.default_backend() == "cpu" else 8


def check_thetas(config: GraphConfig, record: Any) -> None:
  """Raises a ValueError if a record's flips are not as probable as the configuration says."""
  if record.noise.weights.shape[0] != 2:
    raise ValueError("the noise must be flips, of two kinds: additions and deletions.")
  for name, theta in zip(("theta_plus", "theta_minus"), record.noise.parameters, strict=True):
    single = getattr(config, f"isotropic_{name}")
    ends = [*getattr(config, name), *([] if single is None else [single])]
    if theta.min() < min(ends) * (1 - 1e-12) or theta.max() > max(ends) * (1 + 1e-12):
      raise ValueError(
        f"`{name}` is from {theta.min():g} to {theta.max():g}, but `meta` says "
        f"{options.shown(getattr(config, name))}."
      )


def figures(
  flipped: str,
  config: GraphConfig,
  data: Data,
  records: Sequence[Any],
  summary: Mapping[str, Any],
) -> "Mapping[str, Figure]":
  """A job's figure beside its curves, of what is flipped: "attribute" or "edge"."""
  (case,), (record,) = data.cases, records  # there is one graph
  title = f"{case.name}, {config.model_name}: {config.samples} samples, level {1 - config.alpha:g}"
  best = surface(record.certified, int(record.counted.sum()))
  return {"heatmap.png": surface_figure(best, title, flipped)}


def surface(certified: Mapping[str, Any], num_counted: int) -> np.ndarray:
  """Certified accuracy over (additions, deletions), by the best envelope of all orders.

  Of certificates by name, over one grid of budgets, it makes float64 [A + 1, D + 1].
  """
  found = [certified[name] for name in certified if name.startswith("correct/envelope")]
  budgets = found[0].budgets.astype(np.int64)
  best = np.zeros(budgets.max(axis=0) + 1)
  best[tuple(budgets.T)] = np.max([each.certified for each in found], axis=0) / num_counted
  return best


def surface_figure(surface: np.ndarray, title: str, flipped: str = "attribute") -> "Figure":
  """Certified accuracy over (additions, deletions), [A + 1, D + 1], as far as there is any."""
  from matplotlib.figure import Figure  # Matplotlib is heavy

  from lrs_jax.evaluation import plots

  rows, columns = (np.max(part, initial=0) + 2 for part in np.nonzero(surface))
  shown = surface[:rows, :columns]
  figure = Figure(figsize=(5.8, 4.6), layout="constrained")
  axes = figure.subplots()
  image = axes.imshow(shown, origin="lower", aspect="auto", cmap="cividis", vmin=0)
  axes.set_yticks(plots.whole_ticks(shown.shape[0] - 1))
  axes.set_xticks(plots.whole_ticks(shown.shape[1] - 1))
  axes.set(xlabel=f"{flipped} deletions", ylabel=f"{flipped} additions", title=title)
  figure.colorbar(image, ax=axes, label="certified accuracy, localized (envelope, all orders)")
  return figure


def _isotropic_thetas(config: GraphConfig) -> tuple[float, float]:
  """Probabilities of the baseline to add and to delete an attribute."""
  plus, minus = config.isotropic_theta_plus, config.isotropic_theta_minus
  low = config.theta_plus[0], config.theta_minus[0]
  return low[0] if plus is None else plus, low[1] if minus is None else minus


Fit = Callable[..., tuple[Any, graph_training.GraphHistory]]
"""(key, configuration, data, smoothing, split, options of `graph_training.fit`)."""


def models(smoothings: Callable[..., tuple[Smoothing, ...]], fit: Fit) -> Models:
  """How a task comes by its networks, one for each of its `smoothings`, trained by `fit`."""

  def smoothed(config: GraphConfig, data: Data, name: str) -> Smoothing:
    return {s.network: s for s in smoothings(config, data, data.cases[0])}[name]

  def network(config: GraphConfig, data: Data, name: str) -> Network:
    """What tells the network of a smoothing from all others: the graph, its flips, its clusters."""
    (case,), smoothing = data.cases, smoothed(config, data, name)
    read = case.x.attributes, case.x.adjacency, case.truth, *smoothing.noise.parameters
    arrays = {f"{i:02d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(read))}
    if smoothing.name == "certificate":
      arrays["clusters"] = case.x.clusters
    fields = common.plain_fields(config, _DECISIVE)
    return Network(config.model_name, fields, storage.digest(arrays))

  def learn(
    key: jax.Array,
    config: GraphConfig,
    data: Data,
    name: str,
    unfinished: Path,
    manifest: Mapping[str, Any],
  ) -> tuple[Any, Mapping[str, Any]]:
    """Trains a network for a smoothing: its variables, and what is remembered of the training."""
    truth = data.cases[0].truth
    assert truth is not None
    with jax.default_matmul_precision(config.precision):
      variables, history = fit(
        key,
        config,
        data,
        smoothed(config, data, name),
        citation.split_nodes(truth, config.seed, per_class=config.per_class),
        num_classes=len(data.classes),
        max_steps=config.steps,
        learning_rate=config.learning_rate,
        checkpoint=training.Checkpoint(unfinished, manifest),
      )
    return variables, {
      "steps": int(history.steps[history.best]),
      "validation_accuracy": float(history.validation_accuracy[history.best]),
    }

  return Models(network, learn, shapes, lambda config, data, variables: variables, predict)


def model(config: GraphConfig, data: Data) -> nn.Module:
  """The configuration's network."""
  num_attributes = int(data.cases[0].x.attributes.num_columns)
  return gnn.make_model(config.model_name, num_attributes, len(data.classes))


def shapes(config: GraphConfig, data: Data) -> Any:
  """Shapes and types of the network's variables."""
  return graph_training.initial.eval_shape(jax.random.key(0), model(config, data))


def predict(config: GraphConfig, data: Data, params: Any, case: Case) -> np.ndarray:
  """Predictions without noise, int [N]."""
  attributes = jnp.asarray(matrix(case.x.attributes).toarray())
  with jax.default_matmul_precision(config.precision):
    logits = jax.jit(model(config, data).apply)(params, attributes, edges(case))
  return np.asarray(logits).argmax(axis=1)
