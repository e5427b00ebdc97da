"""A citation graph under flips of its attributes, as a finished job has certified it.

A flip of attribute d of node i changes the probability that noise shows it by
:math:`1 - \\theta_+ - \\theta_-`, so that to first order the loss changes by that times the
gradient with respect to what the first layer is given, times the kernel's row of d. The flips that
lower the loss most are made, a few at a time, as far as the budget goes.
"""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from benchmarks.attack_study.gradients import Sandwich, Settings, changed, lost, margin_of
from lrs_jax import collective, keys, storage
from lrs_jax.jobs import networks, records
from lrs_jax.jobs.records import Record
from lrs_jax.noise import SmoothingDistribution
from lrs_jax.sampling import sparse_flips
from lrs_jax.tasks import graph_parts, graph_training, graphs
from lrs_jax.tasks.graphs import TASK, GraphConfig
from lrs_jax.tasks.task import Case, Data

BUDGETS = np.array(
  [(a, 0) for a in (1, 2, 3, 5, 15, 50, 200)]
  + [(0, d) for d in (1, 2, 3, 4, 6, 10, 30, 100, 300)]
  + [(1, 2), (5, 10), (20, 50), (100, 300)]
)
"""Additions and deletions."""

ROUNDS = 4
"""After each of which gradients are taken anew."""


class Loaded(NamedTuple):
  """A job on a graph, and its network for localized flips."""

  config: GraphConfig
  data: Data
  case: Case
  record: Record
  params: Any


def load(folder: Path, data_dir: str) -> Loaded:
  """A finished job."""
  summary = storage.load_json(folder / "summary.json")
  config = storage.from_plain(GraphConfig, summary["job"])._replace(data_dir=data_dir)
  data = TASK.load(config)
  (case,) = data.cases
  record = records.load(folder / case.name / "certificate.npz")
  network = TASK.models.network(config, data, "certificate")
  path = networks.path_of(network, folder)
  obtained = networks.obtain(TASK, config, data, "certificate", path)
  return Loaded(config, data, case, record, obtained.params)


def attack(key: jax.Array, loaded: Loaded, budget: np.ndarray, settings: Settings) -> Sandwich:
  """Flips attributes within a budget, and counts what that changes."""
  record = loaded.record
  labels, targets = np.maximum(record.base.labels, 0), record.counted & (record.base.eta > 0)
  attributes = graph_training.matrix(loaded.case.x.attributes)
  found = [
    flipped(jax.random.fold_in(key, i), loaded, attributes, labels, targets, budget, settings)
    for i in range(settings.restarts)
  ]
  best = found[0]
  if len(found) > 1:
    key_pilot = keys.tagged(key, "pilot")
    pilots = [votes(key_pilot, loaded, each, settings.pilot) for each in found]
    best = found[int(np.argmax([(lost(each, labels) & targets).sum() for each in pilots]))]
  spent = [((best - attributes) * sign > 0).sum() for sign in (1, -1)]
  assert (np.array(spent) <= budget).all(), (spent, budget)
  counted = votes(keys.tagged(key, "count"), loaded, best, settings.samples)
  unchanged = (targets & ~changed(counted, labels, settings.level)).sum()
  kept = (targets & ~lost(counted, labels)).sum()
  return Sandwich(
    int(targets.sum()), *(np.array([x]) for x in (certified(loaded, budget), unchanged, kept))
  )


def certified(loaded: Loaded, budget: np.ndarray) -> int:
  """Counted nodes that keep their label: the best envelope of votes and of all Rényi orders."""
  record, best = loaded.record, 0
  for order in ("", *record.pairs):
    weights, eta = records.weights_and_eta(record, f"all/envelope{'@' * bool(order)}{order}")
    certificate = collective.certify(
      weights, record.groups, eta, budget[None], targets=record.counted, integral=True,
      caps=record.adversary.caps, forfeit=record.base.forfeit,
    )  # fmt: skip
    best = max(best, certificate.certified.item())
  return best


def votes(key: jax.Array, loaded: Loaded, attributes: sparse.csr_array, samples: int) -> np.ndarray:
  """Votes [N, K] for a graph of other attributes."""
  x = loaded.case.x._replace(attributes=graph_training.ones(attributes))
  case, smoothing = loaded.case._replace(x=x), loaded.record.smoothing
  count = graphs.counter(loaded.config, loaded.data, loaded.params, case, smoothing)
  return np.asarray(count(key, samples, 0).votes)


def flipped(
  key: jax.Array,
  loaded: Loaded,
  attributes: sparse.csr_array,
  labels: np.ndarray,
  targets: np.ndarray,
  budget: np.ndarray,
  settings: Settings,
) -> sparse.csr_array:
  """The attributes after additions and deletions within a budget [2]."""
  dense = attributes.toarray() > 0
  fresh = np.ones_like(dense)  # not flipped yet
  for i in range(ROUNDS):
    share = (budget * (i + 1)) // ROUNDS - (budget * i) // ROUNDS
    if not share.any():
      continue
    score = gains(
      jax.random.fold_in(key, i), loaded, sparse.csr_array(dense, dtype=np.float32), labels,
      targets, settings.draws,
    )  # fmt: skip
    for zeros, sign, number in ((True, 1, share[0]), (False, -1, share[1])):
      able = (dense ^ zeros) & fresh
      gain = np.where(able, sign * score, -np.inf).ravel()
      chosen = np.argpartition(-gain, number)[:number]
      dense.ravel()[chosen] ^= True
      fresh.ravel()[chosen] = False
  return sparse.csr_array(dense, dtype=np.float32)


def gains(
  key: jax.Array,
  loaded: Loaded,
  attributes: sparse.csr_array,
  labels: np.ndarray,
  targets: np.ndarray,
  draws: int,
) -> np.ndarray:
  """How much less the targets' margins are with a one than a zero, [N, D]."""
  record, kernel = loaded.record, loaded.params["params"]["first_kernel"]
  plan = sparse_flips.plan_flips(attributes, record.noise)
  gradient = _gradient(
    key, (loaded.params, graph_parts.edges(loaded.case)), kernel, plan.arrays,
    jnp.asarray(record.groups, jnp.int32), jnp.asarray(labels), jnp.asarray(targets),
    head=graph_training.head_of(graph_parts.model(loaded.config, loaded.data)), sizes=plan.sizes,
    draws=draws,
  )  # fmt: skip
  shown = seen(record.noise)[:, record.noise.cells[:, 0]]  # [G, N]
  return -np.einsum("ngh,gn->nh", np.asarray(gradient), shown) @ np.asarray(kernel).T


def seen(noise: SmoothingDistribution) -> np.ndarray:
  """By how much noise shows a one more often where there is one, [G, C]."""
  plus, minus = noise.parameters
  return 1 - plus - minus


@partial(jax.jit, static_argnames=("head", "sizes", "draws"))
def _gradient(
  key: jax.Array,
  params: Any,
  kernel: jax.Array,
  arrays: sparse_flips.FlipArrays,
  groups: jax.Array,
  labels: jax.Array,
  targets: jax.Array,
  *,
  head: sparse_flips.Head,
  sizes: sparse_flips.FlipSizes,
  draws: int,
) -> jax.Array:
  """Of the targets' margins, as `gradients.descend` counts them, by the first layer's [N, G, H]."""
  products = jax.lax.map(
    lambda key: sparse_flips.flipped_products(key, arrays, sizes, kernel)[0],
    jax.random.split(key, draws),
  )

  def loss(added: jax.Array) -> jax.Array:
    def logits(product: jax.Array) -> jax.Array:
      found = head(params, product + added)
      return jnp.take_along_axis(found, groups[:, None, None], axis=1)[:, 0]

    found = margin_of(jax.lax.map(logits, products), labels)
    return jnp.where(targets, jax.nn.sigmoid(2 * found), 0).sum()

  return jax.grad(loss)(jnp.zeros_like(products[0]))
