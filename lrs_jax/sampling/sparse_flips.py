r"""Exact flips of sparse binary attributes, and votes and scores under them (device).

The work is that of the *ones* alone, not of the N x D entries. A candidate for an addition is
reached from the previous one by a geometric gap, so about theta_plus N D words make an exact
Bernoulli draw of every zero; every one draws its own word. Only the product of the noisy attributes
with the first kernel, [N, G, H], is ever made: by gather and segment-sum of the kernel's rows.

All groups of a sample share its words. A one that group g deletes with probability 0.6 is also
deleted wherever the probability is larger, and a candidate that is kept at a small theta_plus is
kept at all larger ones. So each one goes into the bucket of its node and of the strictest level it
survives, and the products of all groups are cumulative sums over the buckets: the cost of the first
layer does not depend on the number of groups.

Probabilities: a deletion has exactly the probability threshold / 2^32 that `noise.flips` states.
Gaps are read off tables of 64-bit probabilities (see `gaps`), each of them wrong by at most 2^-65.
A gap chooses among some hundred entries, so that over the 78,000 additions of a sample of Citeseer
at theta_plus = 0.01 the total variation distance to independent flips is below 2e-12, and over
10,000 samples below 2e-8: by so much the probability rises that a certificate is wrong, where alpha
is 0.01. No position is drawn twice: nothing is merged.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from scipy import sparse

from lrs_jax.noise import draws
from lrs_jax.noise.discrete import FLIPS
from lrs_jax.noise.distributions import SmoothingDistribution
from lrs_jax.sampling import flip_sums
from lrs_jax.sampling.checks import check_groups
from lrs_jax.sampling.counting import ClassSums
from lrs_jax.sampling.gaps import GapScale, gap_scale, gaps

Head = Callable[[Any, jax.Array], jax.Array]
"""(params, product [N, G, H]) -> logits [N, G, K]: a model after its first kernel."""

MAX_BLOCK = 2**23
"""Entries that one stream of gaps covers at most."""


class FlipArrays(NamedTuple):
  """What the device needs to flip one graph's attributes; see `plan_flips`."""

  rows: jax.Array  # int32 [M], node of every one
  columns: jax.Array  # int32 [M], attribute of every one
  occupied: jax.Array  # uint32 [N, ceil(D / 32)], the ones as bits
  cells: jax.Array  # int32 [N, 1], or [N, D]
  minus: jax.Array  # uint32 [L-], distinct thresholds of deletion, ascending
  minus_index: jax.Array  # int32 [G, C]
  thinning: jax.Array  # uint32 [L+ - 1], thresholds of keeping a candidate, descending
  plus_index: jax.Array  # int32 [G, C], 0 keeps every candidate
  scale: GapScale  # of the largest theta_plus


class FlipSizes(NamedTuple):
  """Static sizes of the streams of candidates."""

  nodes: int
  attributes: int
  blocks: int
  block_nodes: int
  capacity: int  # candidates per block


class FlipPlan(NamedTuple):
  """A graph's attributes and the flips they undergo, ready to be sampled."""

  arrays: FlipArrays
  sizes: FlipSizes


def plan_flips(
  attributes: sparse.csr_array, noise: SmoothingDistribution, *, deviations: float = 8.0
) -> FlipPlan:
  r"""Prepares the flips of `noise.flips` for a graph's attributes (host).

  A block of P entries gets room for :math:`m + d \sqrt m + d^2` candidates, m the expected number
  and d = `deviations`. At d = 8 the chance that a stream ends before its block does is below 1e-13;
  if it does, it is detected and an error.

  Args:
    attributes: [N, D], 0 or 1, else `ValueError`.
    noise: made by `noise.flips`, else `ValueError`, with cells [N, 1] (the cluster of every node),
      or [N, D] where `candidates` and their levels are all that is asked for, see `edge_flips`.
    deviations: d.

  Example:
    >>> from lrs_jax import noise
    >>> flips = noise.flips([[0.1]], [[0.5]], np.zeros((2, 1), int))
    >>> plan_flips(sparse.csr_array(np.eye(2, 5)), flips).sizes.attributes
    5
  """
  attributes = sparse.csr_array(attributes, copy=True)
  attributes.sum_duplicates()
  attributes.eliminate_zeros()
  if (attributes.data != 1).any():
    value = attributes.data[attributes.data != 1][0]
    raise ValueError(f"`attributes` must be 0 or 1, but one of them is {value}.")
  num_nodes, num_attributes = attributes.shape
  if noise.family is not FLIPS:
    name = noise.family.name
    raise ValueError(f"`noise` must be made by noise.flips, but its family is {name!r}.")
  if noise.cells.shape not in ((num_nodes, 1), attributes.shape):
    raise ValueError(
      f"`noise.cells` must have shape [N, 1] = ({num_nodes}, 1), one cell for each node, "
      f"or that of the attributes, but its shape is {noise.cells.shape}."
    )
  if num_attributes > MAX_BLOCK:
    raise ValueError(
      f"`attributes` has {num_attributes} columns; at most {MAX_BLOCK} are possible."
    )

  rows, columns = attributes.tocoo().coords
  occupied = np.zeros((num_nodes, -(-num_attributes // 32)), np.uint32)
  np.bitwise_or.at(
    occupied, (rows, columns // 32), np.uint32(1) << (columns % 32).astype(np.uint32)
  )

  plus, minus = (np.asarray(threshold) for threshold in noise.levels)
  minus_levels, minus_index = np.unique(minus, return_inverse=True)
  plus_levels, plus_index = np.unique(plus, return_inverse=True)
  largest = float(plus_levels[-1])
  kept = np.ceil(plus_levels[-2::-1] / max(largest, 1.0) * 2.0**32)
  theta = largest / 2.0**32
  block_nodes = min(num_nodes, MAX_BLOCK // max(num_attributes, 1))
  while True:
    entries = block_nodes * num_attributes
    capacity = _capacity(entries, theta, deviations)
    # int32 positions: no gap is longer than 23 mean gaps and a stride, or than a block
    if block_nodes <= 1 or capacity * min(entries, 25 / max(theta, 1e-9)) <= 2**30:
      break
    block_nodes = -(-block_nodes // 2)
  arrays = FlipArrays(
    jnp.asarray(rows, jnp.int32),
    jnp.asarray(columns, jnp.int32),
    jnp.asarray(occupied),
    jnp.asarray(noise.cells),
    jnp.asarray(minus_levels),
    jnp.asarray(minus_index.reshape(minus.shape), jnp.int32),
    jnp.asarray(np.minimum(kept, draws.ALWAYS - 1).astype(np.uint32)),
    jnp.asarray(plus_levels.size - 1 - plus_index.reshape(plus.shape), jnp.int32),
    gap_scale(theta or 0.5),  # at 0 there are no gaps
  )
  blocks = -(-num_nodes // block_nodes)
  return FlipPlan(arrays, FlipSizes(num_nodes, num_attributes, blocks, block_nodes, capacity))


def _capacity(entries: int, theta: float, deviations: float) -> int:
  expected = entries * theta
  room = math.ceil(expected + deviations * math.sqrt(expected) + deviations**2)
  return min(room, entries) if theta > 0 else 0


def candidates(
  key: jax.Array, arrays: FlipArrays, sizes: FlipSizes
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Entries that flip at the largest theta_plus, if they are zeros: one geometric stream a block.

  Returns:
    rows and columns, int32 [blocks * capacity]; rows of candidates that are no zeros are N.
    Whether a stream ended before its block did, bool [].
  """
  entries = sizes.block_nodes * sizes.attributes
  words = draws.bits(key, (4, sizes.blocks, sizes.capacity))
  # a gap of entries + 1 passes the block's end from anywhere
  position = jnp.cumsum(gaps(words, arrays.scale, entries + 1), axis=1) - 1
  inside = position < entries
  block = jax.lax.broadcasted_iota(jnp.int32, position.shape, 0)
  rows = block * sizes.block_nodes + position // sizes.attributes
  columns = jnp.where(inside, position % sizes.attributes, 0)
  inside &= rows < sizes.nodes
  word = arrays.occupied[jnp.minimum(rows, sizes.nodes - 1), columns // 32]
  one = (word >> (columns % 32).astype(jnp.uint32)) & 1
  rows = jnp.where(inside & (one == 0), rows, sizes.nodes)
  ended_early = (position[:, -1:] < entries - 1).any() & (sizes.capacity < entries)
  return rows.reshape(-1), columns.reshape(-1), ended_early


def flipped_products(
  key: jax.Array, arrays: FlipArrays, sizes: FlipSizes, kernel: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Noisy attributes times a kernel [D, H], as every group sees them, for one sample (device).

  Returns:
    float32 [N, G, H], and whether the draw overflowed its capacity, bool [].
  """
  nodes = jnp.arange(sizes.nodes, dtype=jnp.int32)[:, None]

  def product(
    rows: jax.Array, columns: jax.Array, passed: jax.Array, levels: int, index: jax.Array
  ) -> jax.Array:
    """Sums of kernel rows, [N, G, H]: an entry counts at the levels 0, ..., passed - 1."""
    trash = sizes.nodes * levels
    segments = jnp.where((passed > 0) & (rows < sizes.nodes), rows * levels + passed - 1, trash)
    buckets = gather_sum(kernel, columns, segments, trash).reshape(sizes.nodes, levels, -1)
    return jax.lax.cumsum(buckets, axis=1, reverse=True)[nodes, index.T[arrays.cells[:, 0]]]

  survived, added, overflow = drawn_flips(key, arrays, sizes)
  left = product(arrays.rows, arrays.columns, survived, arrays.minus.size, arrays.minus_index)
  if added is None:
    return left, overflow
  return left + product(*added, arrays.thinning.size + 1, arrays.plus_index), overflow


def drawn_flips(
  key: jax.Array, arrays: FlipArrays, sizes: FlipSizes
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array] | None, jax.Array]:
  """One sample's flips, for all groups at once (device).

  Returns:
    Of every one, how many of the levels `arrays.minus` it survives, the first ones: int32 [M].
    Candidates for additions, or None if there are none: rows, columns, and how many of the levels
    of addition, the last ones, keep them. Whether the draw overflowed its capacity, bool [].
  """
  key_minus, key_plus, key_thinning = jax.random.split(key, 3)
  words = draws.bits(key_minus, arrays.rows.shape)[:, None]
  survived = (~draws.below(words, arrays.minus[None, :])).sum(axis=1, dtype=jnp.int32)
  if sizes.capacity == 0:
    return survived, None, jnp.zeros((), bool)
  rows, columns, overflow = candidates(key_plus, arrays, sizes)
  kept = jnp.ones(rows.shape, jnp.int32)
  if arrays.thinning.size:
    words = draws.bits(key_thinning, rows.shape)[:, None]
    kept += (words < arrays.thinning[None, :]).sum(axis=1, dtype=jnp.int32)
  return survived, (rows, columns, kept), overflow


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def gather_sum(
  kernel: jax.Array, columns: jax.Array, segments: jax.Array, num_segments: int
) -> jax.Array:
  r"""Segment-sum of gathered rows, :math:`y_s = \sum_{i: s_i = s} k_{c_i}` (device).

  The kernel, float32 [D, H], is differentiable; columns and segments are int32 [M], in [0, D) and
  [0, num_segments], whose last value discards.

  Example:
    >>> gather_sum(jnp.eye(3), jnp.array([2, 2, 0]), jnp.array([0, 1, 2]), 2)
    Array([[0., 0., 1.],
           [0., 0., 1.]], dtype=float32)
  """
  if columns.size == 0:
    return jnp.zeros((num_segments, kernel.shape[1]), kernel.dtype)

  def loop(kernel: jax.Array, columns: jax.Array, segments: jax.Array) -> jax.Array:
    # a CPU adds row after row where it lies, ten times faster than XLA's gather and scatter
    def add(i: jax.Array, sums: jax.Array) -> jax.Array:
      return sums.at[segments[i]].add(kernel[columns[i]], mode="promise_in_bounds")

    zeros = jnp.zeros((num_segments + 1, kernel.shape[1]), kernel.dtype)
    return jax.lax.fori_loop(0, columns.size, add, zeros)[:num_segments]

  def scatter(kernel: jax.Array, columns: jax.Array, segments: jax.Array) -> jax.Array:
    return jax.ops.segment_sum(kernel[columns], segments, num_segments=num_segments)

  return jax.lax.platform_dependent(kernel, columns, segments, cpu=loop, default=scatter)


def _gather_sum_forward(
  kernel: jax.Array, columns: jax.Array, segments: jax.Array, num_segments: int
) -> tuple[jax.Array, tuple]:
  return gather_sum(kernel, columns, segments, num_segments), (columns, segments, kernel.shape[0])


def _gather_sum_backward(num_segments: int, saved: tuple, grad: jax.Array) -> tuple:
  columns, segments, num_columns = saved
  padded = jnp.concatenate([grad, jnp.zeros((1, grad.shape[1]), grad.dtype)])  # what was discarded
  return gather_sum(padded, segments, columns, int(num_columns)), None, None


gather_sum.defvjp(_gather_sum_forward, _gather_sum_backward)


def stitched_logits(
  key: jax.Array,
  head: Head,
  params: Any,
  kernel: jax.Array,
  arrays: FlipArrays,
  groups: jax.Array,
  *,
  sizes: FlipSizes,
) -> tuple[jax.Array, jax.Array]:
  """One sample's logits [N, K], and whether the draw overflowed (device)."""
  product, overflow = flipped_products(key, arrays, sizes, kernel)
  logits = head(params, product)
  return jnp.take_along_axis(logits, groups[:, None, None], axis=1)[:, 0], overflow


def class_sums(
  key: jax.Array,
  head: Head,
  params: Any,
  kernel: jax.Array,
  plan: FlipPlan,
  groups: np.ndarray,
  num_samples: int,
  *,
  first_sample: int = 0,
  chunk_size: int | None = None,
  mesh: Mesh | None = None,
) -> ClassSums:
  r"""Votes for and scores of every class, summed over samples of every node's own group's noise.

  They are those of `sampling.class_sums`: scores rounded down to multiples of 1/255, exact sums,
  and two calls with two independent keys for selection and estimation.

  The arguments are those of `sampling.vote_counts`, but that `chunk_size` is 1 by default on a CPU,
  8 elsewhere; `plan` has the attributes and their flips, `kernel` is the first one, float32 [D, H],
  and `head` the model after it, (params, product [N, G, H]) -> logits [N, G, K].

  Raises:
    ValueError: shapes or sizes that do not fit together.
    OverflowError: more additions than there was room for; plan with more `deviations`.

  Example:
    >>> from lrs_jax import noise
    >>> flips = noise.flips([[0.0]], [[0.0]], np.zeros((2, 1), int))  # none at all
    >>> plan = plan_flips(sparse.csr_array(np.eye(2)), flips)
    >>> head = lambda params, product: product  # logits are the attributes
    >>> class_sums(jax.random.key(0), head, None, jnp.eye(2), plan, [0, 0], 10).votes
    array([[10,  0],
           [ 0, 10]])
  """
  if (shape := plan.arrays.cells.shape)[1] != 1:
    raise ValueError(f"`plan` must have one cell for each node, but they have shape {shape}.")
  if kernel.shape[0] != plan.sizes.attributes:
    raise ValueError(
      f"`kernel` must have one row for each of the {plan.sizes.attributes} attributes, "
      f"but its shape is {kernel.shape}."
    )
  how: dict[str, Any] = {"first_sample": first_sample, "chunk_size": chunk_size, "mesh": mesh}
  args = params, kernel, plan.arrays, checked_groups(plan, groups)
  return flip_sums.sums(key, _noisy(head, plan.sizes), args, num_samples, **how)


def checked_groups(plan: FlipPlan, groups: np.ndarray) -> jax.Array:
  """The group of every node, int32 [N], if it is one of the plan's, else a `ValueError`."""
  groups = np.asarray(groups)
  if groups.shape != (plan.sizes.nodes,):
    raise ValueError(
      f"`groups` must have shape [N] = ({plan.sizes.nodes},), but its shape is {groups.shape}."
    )
  check_groups(groups, len(plan.arrays.minus_index), "plan")
  return jnp.asarray(groups, jnp.int32)


@cache
def _noisy(head: Head, sizes: FlipSizes) -> flip_sums.Noisy:
  """One function for one head and size, so that it is compiled once."""

  def noisy(key: jax.Array, args: tuple) -> tuple[jax.Array, jax.Array]:
    return stitched_logits(key, head, *args, sizes=sizes)

  return noisy
