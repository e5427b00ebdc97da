r"""Exact flips of a graph's edges, and votes and scores under them (device).

The smoothed input is what lies above the diagonal of the adjacency: one bit for each of the
N (N - 1) / 2 pairs of nodes. They are laid out as a matrix [N, N // 2], whose entry (i, d) is the
pair {i, (i + d + 1) mod N}, so that what draws sparse attributes exactly, `sparse_flips`, draws
edges as well: existing ones word by word, new ones by geometric gaps. Of an even N the last column
has each of its pairs twice; the second time it is never drawn.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from scipy import sparse

from lrs_jax.noise.distributions import SmoothingDistribution
from lrs_jax.sampling import flip_sums
from lrs_jax.sampling.counting import ClassSums
from lrs_jax.sampling.sparse_flips import (
  FlipArrays,
  FlipPlan,
  FlipSizes,
  checked_groups,
  drawn_flips,
  plan_flips,
)


class Pairs(NamedTuple):
  """Pairs of nodes that may be edges of a noisy graph, P of them, and for whom they are."""

  first: jax.Array  # int32 [P]
  second: jax.Array  # int32 [P]
  present: jax.Array  # bool [P, G]


Apply = Callable[[Any, Pairs], jax.Array]
"""(params, pairs) -> logits [N, G, K], of the graph as every group sees it."""


def fold(adjacency: sparse.csr_array) -> sparse.csr_array:
  """The pairs of nodes that are edges, as a matrix [N, N // 2] (host).

  Example:
    >>> fold(sparse.csr_array(np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]]))).toarray()
    array([[1.],
           [0.],
           [1.]])
  """
  num_nodes = adjacency.shape[0]
  first, second = adjacency.tocoo().coords
  distance = (second - first) % num_nodes
  once = (distance < num_nodes / 2) & (distance > 0) | (distance * 2 == num_nodes) & (
    first < second
  )
  entries = first[once], distance[once] - 1
  return sparse.csr_array((np.ones(entries[0].size), entries), shape=(num_nodes, num_nodes // 2))


def ends(num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
  """Both nodes of every entry's pair, int [N, N // 2] each (host).

  Example:
    >>> ends(3)[1].T
    array([[1, 2, 0]])
  """
  first, column = np.indices((num_nodes, num_nodes // 2))
  return first, (first + column + 1) % num_nodes


def plan_edges(adjacency: sparse.csr_array, noise: SmoothingDistribution) -> FlipPlan:
  """Prepares the flips of a graph's edges (host).

  Args:
    adjacency: [N, N], symmetric, 0 or 1, without self-loops, N >= 2.
    noise: made by `noise.flips`, with cells [N, N // 2], one for each pair, see `ends`.

  Raises:
    ValueError: as of `sparse_flips.plan_flips`, of the matrix that `fold` makes.

  Example:
    >>> from lrs_jax import noise
    >>> flips = noise.flips([[0.1]], [[0.5]], np.zeros((4, 2), int))
    >>> plan_edges(sparse.csr_array((4, 4)), flips).arrays.occupied.ravel()  # twice in the layout
    Array([0, 0, 2, 2], dtype=uint32)
  """
  if adjacency.shape[0] < 2:
    raise ValueError("`adjacency` must have two nodes at least: there is no pair to flip.")
  folded = fold(adjacency)
  if noise.cells.shape != folded.shape:
    raise ValueError(
      f"`noise.cells` must have shape [N, N // 2] = {folded.shape}, one cell for each pair, "
      f"but its shape is {noise.cells.shape}."
    )
  plan, (num_nodes, columns) = plan_flips(folded, noise), folded.shape
  if num_nodes % 2:
    return plan
  again, bit = np.arange(num_nodes // 2, num_nodes), np.uint32(1 << (columns - 1) % 32)
  occupied = plan.arrays.occupied.at[again, (columns - 1) // 32].set(
    plan.arrays.occupied[again, (columns - 1) // 32] | bit
  )
  return plan._replace(arrays=plan.arrays._replace(occupied=occupied))


def flipped_pairs(key: jax.Array, arrays: FlipArrays, sizes: FlipSizes) -> tuple[Pairs, jax.Array]:
  """One sample's edges, as every group sees them, and whether the draw overflowed (device).

  Groups share their draws: what one deletes with a small probability, all others delete that do so
  with a larger one, and what one adds, others add in the same way.

  Example:
    >>> from lrs_jax import noise
    >>> flips = noise.flips([[0.0], [0.0]], [[0.0], [0.9]], np.zeros((2, 1), int))
    >>> plan = plan_edges(sparse.csr_array(np.array([[0, 1], [1, 0]])), flips)
    >>> flipped_pairs(jax.random.key(1), plan.arrays, plan.sizes)[0].present  # for both groups
    Array([[ True, False]], dtype=bool)
  """
  survived, added, overflow = drawn_flips(key, arrays, sizes)
  drawn = [(arrays.rows, arrays.columns, survived, arrays.minus_index)]
  if added is not None:
    drawn.append((*added, arrays.plus_index))
  parts = []
  for rows, columns, passed, index in drawn:
    inside = jnp.minimum(rows, sizes.nodes - 1)
    level = index.T[arrays.cells[inside, columns]]
    present = (level < passed[:, None]) & (rows < sizes.nodes)[:, None]
    parts.append(Pairs(inside, (inside + columns + 1) % sizes.nodes, present))
  return jax.tree.map(lambda *part: jnp.concatenate(part), *parts), overflow


def class_sums(
  key: jax.Array,
  apply: Apply,
  params: Any,
  plan: FlipPlan,
  groups: np.ndarray,
  num_samples: int,
  *,
  first_sample: int = 0,
  chunk_size: int | None = None,
  mesh: Mesh | None = None,
) -> ClassSums:
  """Votes for and scores of every class, summed over samples of every node's own group's edges.

  Arguments, result and errors are those of `sparse_flips.class_sums`, but that `plan` is made by
  `plan_edges`, and the model is (params, pairs) -> logits [N, G, K].

  Example:
    >>> from lrs_jax import noise
    >>> flips = noise.flips([[0.0]], [[0.5]], np.zeros((2, 1), int))
    >>> plan = plan_edges(sparse.csr_array(np.array([[0, 1], [1, 0]])), flips)
    >>> def apply(params, pairs):  # class 1 if the only pair is an edge
    ...   edge = jnp.stack([~pairs.present, pairs.present], axis=-1)
    ...   return edge.repeat(2, axis=0).astype(jnp.float32)
    ...
    >>> class_sums(jax.random.key(0), apply, None, plan, [0, 0], 100).votes
    array([[53, 47],
           [53, 47]])
  """
  args = params, plan.arrays, checked_groups(plan, groups)
  options: dict[str, Any] = {"chunk_size": chunk_size, "mesh": mesh}
  noisy = _noisy(apply, plan.sizes)
  return flip_sums.sums(key, noisy, args, num_samples, first_sample=first_sample, **options)


def stitched_logits(
  key: jax.Array,
  apply: Apply,
  params: Any,
  arrays: FlipArrays,
  groups: jax.Array,
  *,
  sizes: FlipSizes,
) -> tuple[jax.Array, jax.Array]:
  """One sample's logits [N, K], and whether the draw overflowed (device).

  Example:
    >>> from lrs_jax import noise
    >>> flips = noise.flips([[0.0]], [[0.0]], np.zeros((2, 1), int))
    >>> plan = plan_edges(sparse.csr_array(np.array([[0, 1], [1, 0]])), flips)
    >>> apply = lambda params, pairs: jnp.full((2, 1, 3), params)
    >>> given = apply, jnp.float32(7), plan.arrays, jnp.zeros(2, jnp.int32)
    >>> stitched_logits(jax.random.key(0), *given, sizes=plan.sizes)[0].shape
    (2, 3)
  """
  pairs, overflow = flipped_pairs(key, arrays, sizes)
  logits = apply(params, pairs)
  return jnp.take_along_axis(logits, groups[:, None, None], axis=1)[:, 0], overflow


@cache
def _noisy(apply: Apply, sizes: FlipSizes) -> flip_sums.Noisy:
  """One function for one model and size, so that it is compiled once."""

  def noisy(key: jax.Array, args: tuple) -> tuple[jax.Array, jax.Array]:
    return stitched_logits(key, apply, *args, sizes=sizes)

  return noisy
