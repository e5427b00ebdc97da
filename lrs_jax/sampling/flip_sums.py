"""Votes and scores of a model under flips, summed over samples, for both kinds of graphs (device).

Flips are drawn into arrays of a fixed size, see `sparse_flips`; a draw that does not fit is counted
and becomes an error.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrs_jax.sampling import stitching
from lrs_jax.sampling.checks import check_range
from lrs_jax.sampling.counting import ClassSums
from lrs_jax.sampling.scores import in_pieces, votes_and_scores

Noisy = Callable[[jax.Array, Any], tuple[jax.Array, jax.Array]]
"""(key, args) -> logits [N, K] of one noisy sample, and whether its draw overflowed, bool []."""


def sums(
  key: jax.Array,
  noisy: Noisy,
  args: Any,
  num_samples: int,
  *,
  first_sample: int = 0,
  chunk_size: int | None = None,
  mesh: Mesh | None = None,
) -> ClassSums:
  """What `sparse_flips.class_sums` returns, of any noisy model; it tells the other arguments.

  A program is compiled for every function `noisy`: give the same one again.

  Raises:
    OverflowError: a draw that did not fit.

  Example:
    >>> coin = lambda key, args: (jax.random.normal(key, (1, 2)), jnp.zeros((), bool))
    >>> sums(jax.random.key(0), coin, (), 100).votes.sum()
    np.int64(100)
  """
  if mesh is None:
    mesh = jax.make_mesh((jax.device_count(),), ("samples",))
  if chunk_size is None:
    chunk_size = 1 if jax.default_backend() == "cpu" else 8
  check_range(first_sample, num_samples, chunk_size * mesh.size)
  static = {"noisy": noisy, "chunk_size": chunk_size, "mesh": mesh}

  def piece(sample_range: jax.Array) -> tuple[jax.Array, ...]:
    *found, overflows = _class_sums(sample_range, (key, args), **static)
    if number := int(stitching.summed(overflows)):
      raise OverflowError(
        f"{number} samples drew more additions than `plan_flips` made room for; "
        "plan with larger `deviations`."
      )
    return tuple(found)

  votes, scores, squares = in_pieces(piece, first_sample, num_samples, chunk_size * mesh.size)
  return ClassSums(votes, scores, squares, np.asarray(num_samples, np.int64))


@partial(jax.jit, static_argnames=("noisy", "chunk_size", "mesh"))
def _class_sums(
  sample_range: jax.Array,
  args: tuple,  # key, of the model
  *,
  noisy: Noisy,
  chunk_size: int,
  mesh: Mesh,
) -> tuple[jax.Array, ...]:
  def one(sample: jax.Array, valid: jax.Array, args: tuple) -> tuple[jax.Array, ...]:
    key, of_model = args
    logits, overflow = noisy(jax.random.fold_in(key, sample), of_model)
    votes, score = votes_and_scores(logits)
    parts = votes, score, score**2, overflow.astype(jnp.int32)
    return tuple(jnp.where(valid, part, 0) for part in parts)

  def add(total: tuple, sample_ids: jax.Array, valid: jax.Array, args: tuple) -> tuple:
    if chunk_size == 1:  # no batch axis, which would turn the CPU's loop into a scatter
      new = one(sample_ids[0], valid[0], args)
    else:
      batch = jax.vmap(one, in_axes=(0, 0, None))(sample_ids, valid, args)
      new = jax.tree.map(lambda part: part.sum(axis=0, dtype=jnp.int32), batch)
    return jax.tree.map(jnp.add, total, new)

  shapes = jax.eval_shape(one, sample_range[0], sample_range[0] > 0, args)
  init = jax.tree.map(lambda shape: jnp.zeros(shape.shape, jnp.int32), shapes)
  return stitching.device_totals(add, init, sample_range, args, chunk_size=chunk_size, mesh=mesh)
