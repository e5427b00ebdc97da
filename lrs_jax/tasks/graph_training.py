"""Graph networks: what they read, and training under the flips that will be certified, by Optax."""

import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import sparse
from tqdm import tqdm

from lrs_jax import keys
from lrs_jax.sampling import edge_flips, sparse_flips
from lrs_jax.sampling.edge_flips import Pairs
from lrs_jax.sampling.sparse_flips import FlipPlan, FlipSizes, gather_sum
from lrs_jax.tasks import training
from lrs_jax.tasks.data.citation import Split
from lrs_jax.tasks.models.gnn import Edges, noisy_edges

Noisy = Callable[[jax.Array, Any, Any, Mapping[str, jax.Array]], jax.Array]
"""(key, variables, what it sees, rngs) -> logits [N, K] under noise; with rngs, as in training."""


class Ones(NamedTuple):
  """Where a binary matrix has its ones, row after row, as CSR arrays have it."""

  indices: np.ndarray  # int, columns of the ones
  indptr: np.ndarray  # int [rows + 1]
  num_columns: np.ndarray  # int64 []


class Graph(NamedTuple):
  """A graph as arrays: what its networks read, and the clusters that its flips follow."""

  attributes: Ones  # [N, D]
  adjacency: Ones  # [N, N], symmetric
  clusters: np.ndarray  # int32 [N]
  ranks: np.ndarray  # int [C, C], how many clusters are closer to the first than the second is


def ones(array: sparse.csr_array) -> Ones:
  """Where a binary matrix has its ones."""
  return Ones(array.indices, array.indptr, np.asarray(array.shape[1], np.int64))


def matrix(ones: Ones) -> sparse.csr_array:
  """The sparse matrix float32 that has these ones."""
  data = np.ones(ones.indices.size, np.float32)
  shape = ones.indptr.size - 1, int(ones.num_columns)
  return sparse.csr_array((data, ones.indices, ones.indptr), shape=shape)


class GraphHistory(NamedTuple):
  """What early stopping saw, one entry per evaluation."""

  steps: np.ndarray  # int [E]
  validation_loss: np.ndarray  # float [E]
  validation_accuracy: np.ndarray  # float [E]
  best: int  # the evaluation whose parameters were kept


class _State(NamedTuple):
  variables: Any
  optimizer: Any
  best: Any  # the variables of the lowest validation loss


def train(
  key: jax.Array,
  model: nn.Module,
  edges: Edges,
  plan: FlipPlan,
  groups: np.ndarray,
  labels: np.ndarray,
  split: Split,
  **options: Any,
) -> tuple[Any, GraphHistory]:
  """Trains a network under flips of its attributes, planned by `sparse_flips.plan_flips`.

  One step draws one noisy sample of the attributes, as every group sees it: groups are int [N],
  labels too. The rest is as in `fit`.
  """
  seen = edges, plan.arrays, jnp.asarray(groups, jnp.int32)
  return fit(key, model, _under_attributes(model, plan.sizes), seen, labels, split, **options)


def train_on_edges(
  key: jax.Array,
  model: nn.Module,
  attributes: sparse.csr_array,
  plan: FlipPlan,
  groups: np.ndarray,
  labels: np.ndarray,
  split: Split,
  **options: Any,
) -> tuple[Any, GraphHistory]:
  """Trains a network under flips of its edges, planned by `edge_flips.plan_edges`.

  It is as `train`, but that the attributes, [N, D], are as they are.
  """
  seen = entries(attributes), plan.arrays, jnp.asarray(groups, jnp.int32)
  return fit(key, model, _under_edges(model, plan.sizes), seen, labels, split, **options)


def entries(attributes: sparse.csr_array) -> tuple[jax.Array, jax.Array]:
  """Columns and rows of the ones of binary attributes, int32 [M] each, as `edges_of` reads them."""
  rows, columns = attributes.tocoo().coords
  return jnp.asarray(columns, jnp.int32), jnp.asarray(rows, jnp.int32)


def fit(
  key: jax.Array,
  model: nn.Module,
  noisy: Noisy,
  seen: Any,
  labels: np.ndarray,
  split: Split,
  *,
  num_classes: int,
  max_steps: int = 1500,
  patience: int = 300,
  evaluate_every: int = 20,
  learning_rate: float = 0.01,
  l2: float = 5e-3,
  checkpoint: training.Checkpoint | None = None,
) -> tuple[Any, GraphHistory]:
  r"""Minimizes the cross-entropy of every training node under its own group's noise.

  One step draws one noisy sample:
  :math:`\frac{1}{|T|} \sum_{n \in T} -\log h_{y_n}(f_n(z^{g(n)})) + \frac{l_2}{2} \|W_1\|^2`, with
  Adam. The parameters of the lowest validation loss, on 8 noisy samples that stay the same, are
  kept; training stops `patience` steps after them.

  Args:
    key: typed key.
    model: network of `lrs_jax.tasks.models.gnn`.
    noisy: the network under noise; its program is compiled once for the same function.
    seen: what that reads of the graph; without any flips the plain network is trained.
    labels: int [N].
    split: nodes for training and validation.
    num_classes: K.
    max_steps: at most so many steps.
    patience: steps without improvement before it stops.
    evaluate_every: steps between evaluations, compiled as one program.
    learning_rate: of Adam.
    l2: weight of the penalty on the first kernel.
    checkpoint: keeps the state on disk; the same call goes on from there to the very same network.

  Returns:
    The model's variables and a `GraphHistory`.

  Raises:
    ValueError: a class without a training node, or no validation node; a checkpoint that is
      damaged, or of another training.
  """
  missing = np.flatnonzero(np.bincount(labels[split.train], minlength=num_classes) == 0)
  if missing.size:
    raise ValueError(f"`split.train` has no node of class {missing[0]}: it can not be learned.")
  if split.validation.size == 0:
    raise ValueError("`split.validation` is empty: early stopping needs labelled nodes.")
  key_init, key_steps, key_validation = (
    keys.tagged(key, purpose) for purpose in ("variables", "steps", "validation")
  )
  variables = initial(key_init, model)
  state = _State(variables, optax.adam(learning_rate).init(variables), variables)
  rates = jnp.asarray(learning_rate, jnp.float32), jnp.asarray(l2, jnp.float32)
  data = seen, jnp.asarray(labels, jnp.int32)
  train_nodes, validation_nodes = jnp.asarray(split.train), jnp.asarray(split.validation)
  evaluate_every = min(evaluate_every, max_steps)
  # The state, and (steps, loss, accuracy) of every evaluation.
  reached = training.load_state(checkpoint, state, history=np.zeros((0, 3)))
  kept = time.monotonic()
  rounds = range(evaluate_every, max_steps + 1, evaluate_every)
  progress = tqdm(total=len(rounds), initial=len(reached[1]), desc="training", leave=False)
  try:
    for done in rounds[len(reached[1]) :]:
      state, history = reached
      if len(history) and history[-1, 0] - history[_best(history), 0] >= patience:
        break
      first = jnp.asarray(done - evaluate_every, jnp.int32)
      variables, optimizer = _steps(
        key_steps,
        first,
        *state[:2],
        data,
        train_nodes,
        rates,
        num_steps=evaluate_every,
        noisy=noisy,
      )
      found = _validate(key_validation, variables, data, validation_nodes, noisy=noisy)
      loss, accuracy = map(float, found)
      history = np.concatenate([history, [[done, loss, accuracy]]])
      improved = np.isfinite(loss) and _best(history) == len(history) - 1
      best = variables if improved else state.best
      reached = _State(variables, optimizer, best), history  # at once: a stop sees all of a round
      progress.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}", refresh=False)
      progress.update()
      if checkpoint is not None and time.monotonic() - kept > checkpoint.interval:
        training.save_state(checkpoint, reached[0], history=reached[1])
        kept = time.monotonic()
  finally:
    progress.close()
    training.save_state(checkpoint, reached[0], history=reached[1])
  state, history = reached
  steps, losses, accuracies = history.T
  return state.best, GraphHistory(steps.astype(np.int64), losses, accuracies, _best(history))


def _best(history: np.ndarray) -> int:
  """The evaluation of the lowest loss, the first of several; one that is nan is none."""
  return int(np.where(np.isnan(history[:, 1]), np.inf, history[:, 1]).argmin())


@partial(jax.jit, static_argnames="model")
def initial(key: jax.Array, model: nn.Module) -> Any:
  """A network's variables before training, which depend on no graph; traced once for equal ones."""
  node = jnp.zeros(1, jnp.int32)
  x = jax.ShapeDtypeStruct((1, cast(Any, model).num_attributes), jnp.float32)
  return model.lazy_init({"params": key}, x, Edges(node, node, jnp.ones(1)))


@cache
def head_of(model: nn.Module) -> Any:
  """The model after its first kernel, as `sparse_flips` wants it: ((variables, edges), product).

  The same function for equal models, so that what is compiled for one serves the other.
  """

  def head(params: Any, product: jax.Array) -> jax.Array:
    variables, edges = params
    return cast(jax.Array, model.apply(variables, product, edges, method="head"))

  return head


@cache
def edges_of(model: nn.Module, num_nodes: int) -> Any:
  """The model as `edge_flips` wants it: ((variables, `entries`), pairs); one for equal models."""

  def apply(params: Any, pairs: Pairs) -> jax.Array:
    variables, attributes = params
    return _apply(model, num_nodes, variables, attributes, pairs, {})

  return apply


def _apply(
  model: nn.Module,
  num_nodes: int,
  variables: Any,
  attributes: tuple[jax.Array, jax.Array],
  pairs: Pairs,
  rngs: Mapping[str, jax.Array],
) -> jax.Array:
  """Logits [N, G, K] of attributes that are as they are on edges as every group sees them."""
  product = gather_sum(variables["params"]["first_kernel"], *attributes, num_nodes)
  product = jnp.broadcast_to(
    product[:, None], (num_nodes, pairs.present.shape[1], product.shape[1])
  )
  edges = noisy_edges(pairs, num_nodes)
  options: dict[str, Any] = {"train": bool(rngs), "rngs": rngs}
  return cast(jax.Array, model.apply(variables, product, edges, method="head", **options))


@cache
def _under_attributes(model: nn.Module, sizes: FlipSizes) -> Noisy:
  def noisy(key: jax.Array, variables: Any, seen: Any, rngs: Mapping[str, jax.Array]) -> jax.Array:
    edges, arrays, groups = seen

    def head(params: Any, product: jax.Array) -> jax.Array:
      options: dict[str, Any] = {"train": bool(rngs), "rngs": rngs}
      return cast(jax.Array, model.apply(params, product, edges, method="head", **options))

    kernel = variables["params"]["first_kernel"]
    return sparse_flips.stitched_logits(key, head, variables, kernel, arrays, groups, sizes=sizes)[
      0
    ]

  return noisy


@cache
def _under_edges(model: nn.Module, sizes: FlipSizes) -> Noisy:
  def noisy(key: jax.Array, variables: Any, seen: Any, rngs: Mapping[str, jax.Array]) -> jax.Array:
    attributes, arrays, groups = seen

    def apply(params: Any, pairs: Pairs) -> jax.Array:
      return _apply(model, sizes.nodes, params, attributes, pairs, rngs)

    return edge_flips.stitched_logits(key, apply, variables, arrays, groups, sizes=sizes)[0]

  return noisy


@partial(jax.jit, static_argnames=("num_steps", "noisy"))
def _steps(
  key: jax.Array,
  first: jax.Array,
  variables: Any,
  state: Any,
  data: tuple[Any, jax.Array],
  nodes: jax.Array,
  rates: tuple[jax.Array, jax.Array],
  *,
  num_steps: int,
  noisy: Noisy,
) -> tuple[Any, Any]:
  (seen, labels), (learning_rate, l2) = data, rates
  optimizer = optax.adam(learning_rate)

  def loss(variables: Any, key: jax.Array) -> jax.Array:
    key_flips, key_dropout = jax.random.split(key)
    logits = noisy(key_flips, variables, seen, {"dropout": key_dropout})
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits[nodes], labels[nodes])
    return entropy.mean() + l2 / 2 * (variables["params"]["first_kernel"] ** 2).sum()

  def step(i: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
    variables, state = carry
    grad = jax.grad(loss)(variables, jax.random.fold_in(key, first + i))
    with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer step count
      updates, state = optimizer.update(grad, state, variables)
    return optax.apply_updates(variables, updates), state

  return jax.lax.fori_loop(0, num_steps, step, (variables, state))


@partial(jax.jit, static_argnames=("noisy",))
def _validate(
  key: jax.Array,
  variables: Any,
  data: tuple[Any, jax.Array],
  nodes: jax.Array,
  *,
  noisy: Noisy,
) -> tuple[jax.Array, jax.Array]:
  seen, labels = data

  def probabilities(key: jax.Array) -> jax.Array:
    return jax.nn.softmax(noisy(key, variables, seen, {})[nodes])

  mean, wanted = jax.lax.map(probabilities, jax.random.split(key, 8)).mean(axis=0), labels[nodes]
  chosen = jnp.take_along_axis(mean, wanted[:, None], axis=1)[:, 0]
  right = jax.lax.argmax(mean, 1, jnp.int32) == wanted
  return -jnp.log(jnp.maximum(chosen, 1e-20)).mean(), right.astype(jnp.float32).mean()
