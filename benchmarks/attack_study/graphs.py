"""Graphs under flips of their attributes, as finished jobs have certified them.

A flip of attribute d of node i changes the probability that noise shows it by
:math:`1 - \\theta_+ - \\theta_-`, so that to first order the loss changes by that times the
gradient with respect to what the first layer is given, times the kernel's row of d. The flips that
lower the loss most are made, a few at a time, on the way from one budget to the next larger one.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from benchmarks.attack_study.gradients import Sandwich, Settings, changed, lost, margin_of
from lrs_jax import collective, keys, storage
from lrs_jax.collective.regions import certified_flips
from lrs_jax.jobs import networks, records
from lrs_jax.jobs.records import Record
from lrs_jax.noise import SmoothingDistribution
from lrs_jax.sampling import sparse_flips
from lrs_jax.sampling.sparse_flips import FlipArrays
from lrs_jax.tasks import graph_parts, graph_training
from lrs_jax.tasks.graphs import TASK, GraphConfig
from lrs_jax.tasks.task import Case, Data

BUDGETS = tuple(
  np.array(budgets)
  for budgets in (
    [(a, 0) for a in (1, 2, 3, 5, 15, 50, 200)],
    [(0, d) for d in (1, 2, 3, 4, 6, 10, 30, 100, 300)],
    [(1, 2), (5, 10), (20, 50), (100, 300)],
  )
)
"""Additions and deletions; an attack goes through one list of them, from small to large."""


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


def attack(key: jax.Array, loaded: Loaded, budgets: np.ndarray, settings: Settings) -> Sandwich:
  """Flips attributes within every budget [B, 2], and counts what that changes."""
  record, room = loaded.record, int(budgets[:, 0].max())
  labels, targets = np.maximum(record.base.labels, 0), record.counted & (record.base.eta > 0)
  found = [
    flipped(
      jax.random.fold_in(key, i), loaded, labels, targets, budgets, settings.steps,
      draws=settings.draws, sharpness=2.0 ** (1 + i % 4),
    )
    for i in range(settings.restarts)
  ]  # fmt: skip
  key_pilot, key_count = (keys.tagged(key, purpose) for purpose in ("pilot", "count"))
  unchanged, kept = [], []
  for choices in zip(*found, strict=True):
    pilots = [votes(key_pilot, loaded, each, settings.pilot, room) for each in choices]
    best = choices[int(np.argmax([(lost(each, labels) & targets).sum() for each in pilots]))]
    counted = votes(key_count, loaded, best, settings.samples, room)
    unchanged.append((targets & ~changed(counted, labels, settings.level)).sum())
    kept.append((targets & ~lost(counted, labels)).sum())
  return Sandwich(
    int(targets.sum()),
    certified(loaded, budgets),
    np.minimum.accumulate(unchanged),
    np.asarray(kept),
  )


def certified(loaded: Loaded, budgets: np.ndarray) -> np.ndarray:
  """Counted nodes that keep their label, [B]: the most by exact regions and any Rényi order."""
  record, (plus, minus) = loaded.record, loaded.record.noise.parameters
  of_counted = record.groups[record.counted], record.base.q_lower[record.counted]
  found = [certified_flips(plus, minus, *of_counted, budgets) - record.base.forfeit]
  for order in ("", *record.pairs):
    weights, eta = records.weights_and_eta(record, f"all/envelope{'@' * bool(order)}{order}")
    certificate = collective.certify(
      weights, record.groups, eta, budgets, targets=record.counted, integral=True,
      caps=record.adversary.caps, forfeit=record.base.forfeit,
    )  # fmt: skip
    found.append(certificate.certified)
  return np.max(found, axis=0, initial=0)


def votes(
  key: jax.Array, loaded: Loaded, attributes: sparse.csr_array, samples: int, room: int
) -> np.ndarray:
  """Votes [N, K] for a graph of other attributes, with room for so many ones more than it has."""
  plan = sparse_flips.plan_flips(attributes, loaded.record.noise)
  size = loaded.case.x.attributes.indices.size + room
  plan = plan._replace(arrays=padded(plan.arrays, size, plan.sizes.nodes))
  head = graph_training.head_of(graph_parts.model(loaded.config, loaded.data))
  asked = (
    head, (loaded.params, graph_parts.edges(loaded.case)), loaded.params["params"]["first_kernel"],
    plan, loaded.record.groups,
  )  # fmt: skip
  count = graph_parts.counting(loaded.config, loaded.case, sparse_flips.class_sums, asked)
  return np.asarray(count(key, samples, 0).votes)


def padded(arrays: FlipArrays, size: int, num_nodes: int) -> FlipArrays:
  """The same flips as so many ones, whatever the graph has: one program serves all attacks.

  The other ones are those of no node, which are discarded.
  """
  more = size - arrays.rows.size
  return arrays._replace(
    rows=jnp.pad(arrays.rows, (0, more), constant_values=num_nodes),
    columns=jnp.pad(arrays.columns, (0, more)),
  )


def flipped(
  key: jax.Array,
  loaded: Loaded,
  labels: np.ndarray,
  targets: np.ndarray,
  budgets: np.ndarray,
  steps: int,
  *,
  draws: int,
  sharpness: float,
) -> list[sparse.csr_array]:
  """The attributes after the additions and deletions of every budget [B, 2], from small to large.

  The steps are the same number for each; a larger budget goes on from what a smaller one flipped.
  """
  record, kernel = loaded.record, np.asarray(loaded.params["params"]["first_kernel"])
  before = graph_training.matrix(loaded.case.x.attributes)
  given = before.toarray() > 0
  shown = seen(record.noise)[:, record.noise.cells[:, 0]]  # [G, N]
  attacked, added = given.copy(), np.zeros((*shown.T.shape, kernel.shape[1]), np.float32)
  margins = margins_of(loaded, before, labels, targets, draws)
  found, spent, taken = [], np.zeros(2, int), 0
  for budget in budgets:
    first, rounds = spent.copy(), -(-steps // len(budgets))
    for i in range(1, rounds + 1):
      numbers = first + (budget - first) * i // rounds - spent
      if not numbers.any():
        continue
      gradient = margins(jax.random.fold_in(key, taken), added, sharpness)
      score = -np.einsum("ngh,gn->nh", gradient, shown) @ kernel.T  # of a one instead of a zero
      rows, columns = best_flips(score, given, attacked, numbers)
      sign = np.where(given[rows, columns], -1.0, 1.0)
      np.add.at(added, rows, (sign * shown[:, rows]).T[:, :, None] * kernel[columns][:, None])
      attacked[rows, columns] = ~given[rows, columns]
      spent, taken = spent + numbers, taken + 1
    assert ((attacked > given).sum(), (attacked < given).sum()) == tuple(budget)
    found.append(sparse.csr_array(attacked, dtype=np.float32))
  return found


def best_flips(
  score: np.ndarray, given: np.ndarray, attacked: np.ndarray, numbers: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
  """Rows and columns of so many zeros and ones, not flipped before, of most and least score."""
  chosen = []
  for ones, number in zip((False, True), numbers, strict=True):
    able = (given == ones) & (attacked == ones)
    gain = np.where(able, -score if ones else score, -np.inf).ravel()
    chosen.append(np.argpartition(-gain, number)[:number])
  rows, columns = np.unravel_index(np.concatenate(chosen), given.shape)
  return rows, columns


def margins_of(
  loaded: Loaded, attributes: sparse.csr_array, labels: np.ndarray, targets: np.ndarray, draws: int
) -> Any:
  """(key, what is added [N, G, H], sharpness) -> gradient of the targets' margins by it."""
  plan = sparse_flips.plan_flips(attributes, loaded.record.noise)
  gradient = partial(
    _gradient, head=graph_training.head_of(graph_parts.model(loaded.config, loaded.data)),
    sizes=plan.sizes, draws=draws,
  )  # fmt: skip
  given = (
    (loaded.params, graph_parts.edges(loaded.case)),
    loaded.params["params"]["first_kernel"],
    plan.arrays,
    jnp.asarray(loaded.record.groups, jnp.int32),
    jnp.asarray(labels),
    jnp.asarray(targets),
  )

  def margins(key: jax.Array, added: np.ndarray, sharpness: float) -> np.ndarray:
    return np.asarray(gradient(key, *given, jnp.asarray(added), jnp.float32(sharpness)))

  return margins


def seen(noise: SmoothingDistribution) -> np.ndarray:
  """By how much noise shows a one more often where there is one, [G, C]."""
  plus, minus = noise.parameters
  return 1 - plus - minus


@partial(jax.jit, static_argnames=("head", "sizes", "draws"))
def _gradient(
  key: jax.Array,
  params: Any,
  kernel: jax.Array,
  arrays: FlipArrays,
  groups: jax.Array,
  labels: jax.Array,
  targets: jax.Array,
  added: jax.Array,
  sharpness: jax.Array,
  *,
  head: sparse_flips.Head,
  sizes: sparse_flips.FlipSizes,
  draws: int,
) -> jax.Array:
  """Of the targets' margins by what is added to the first layer's input, [N, G, H].

  What flips change of the noisy attributes is added as its mean. A margin counts as its sigmoid:
  the sharper that is, the less count those that are far from changing, or long changed.
  """
  products = jax.lax.map(
    lambda key: sparse_flips.flipped_products(key, arrays, sizes, kernel)[0],
    jax.random.split(key, draws),
  )

  def loss(added: jax.Array) -> jax.Array:
    def logits(product: jax.Array) -> jax.Array:
      found = head(params, product + added)
      return jnp.take_along_axis(found, groups[:, None, None], axis=1)[:, 0]

    found = margin_of(jax.lax.map(logits, products), labels)
    return jnp.where(targets, jax.nn.sigmoid(sharpness * found), 0).sum()

  return jax.grad(loss)(added)
