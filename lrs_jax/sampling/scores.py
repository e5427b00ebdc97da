r"""Soft scores under localized noise: exact sums of one label's scores, streamed on the device.

The second statistic beside `sampling.vote_counts`, from the same samples and the same loop.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from lrs_jax.noise.families import SmoothingDistribution
from lrs_jax.sampling.counting import (
  NOBODY,
  Apply,
  predict,
  prepare,
  stitched,
  sum_over_samples,
  whole_frame,
)


class ScoreSums(NamedTuple):
  """What S samples said about one label per output, as exact integers (host).

  A score is a multiple of 1/255 in [0, 1]; `total` and `squares` are in units of 1/255 and 1/255^2.
  """

  num_samples: int  # S
  votes: np.ndarray  # int64 [N]: samples in which the label had the greatest logit
  total: np.ndarray  # int64 [N]: sum of x
  squares: np.ndarray  # int64 [N]: sum of x^2
  histogram: np.ndarray | None = None  # int64 [N, 256]: samples of each score


def score_sums(
  key: jax.Array,
  apply: Apply,
  params: Any,
  x: ArrayLike,
  noise: SmoothingDistribution,
  groups: ArrayLike,
  labels: ArrayLike,
  num_samples: int,
  *,
  score: Callable[[jax.Array], jax.Array] = jax.nn.softmax,
  histograms: bool = False,
  first_sample: int = 0,
  chunk_size: int | None = None,
  mesh: Mesh | None = None,
  prng: str = "threefry2x32",
) -> ScoreSums:
  r"""Sums the scores of every output's label, and their squares, under its group's noise.

  :math:`x_{n,i} = \lfloor 255\, h_{y_n}(f_n(z_i^{g(n)})) \rfloor`, :math:`\sum_i x_{n,i}` and
  :math:`\sum_i x_{n,i}^2`: integers, and so independent of order, chunks and devices. No sample is
  kept. The score of a label is what was rounded *down* here: if its expectation is above 1/2, so is
  that of the unrounded one. Where the logits are not finite it is 0, and nobody has the vote.

  Args:
    key: typed key, `jax.random.key(seed)`. Selection and estimation need two independent ones.
    apply: pure function (params, x) -> logits [..., K] of one input.
    params: pytree of arrays, passed to `apply`.
    x: one input, of a floating-point type.
    noise: smoothing distribution with G groups, on the scale of `x`.
    groups: int [N], the group of every output, in the order of the flattened logits.
    labels: int [N], the label of every output, chosen from other samples.
    num_samples: S >= 0.
    score: logits [..., K] -> scores in [0, 1] that sum to at most 1 over the classes.
    histograms: also count the samples of each of the 256 scores, for the "dkw" bound.
    first_sample: counts the S samples from this one on; the sums of the pieces add up (`merge`).
    chunk_size: samples per device that are evaluated at once, at most 65,536.
    mesh: one-dimensional device mesh to spread the samples over; all devices if None.
    prng: the PRNG implementation that the key must have, see `vote_counts`.

  Returns:
    `ScoreSums`, on the host.

  Raises:
    ValueError: shapes, types or sizes that do not fit together.

  Example:
    >>> from lrs_jax import noise
    >>> apply = lambda params, x: jnp.stack([x, -x], axis=-1)
    >>> gaussian = noise.gaussian([[0.1, 0.1]], cells=[0, 1])
    >>> x = np.asarray([9.0, -0.5], np.float32)
    >>> score_sums(jax.random.key(0), apply, None, x, gaussian, [0, 0], [0, 1], 10).total
    array([2550, 1832])

  References:
    Schuchardt et al. 2023 (arXiv 2210.16140), appendix F: variance-constrained certification.
  """
  if chunk_size is not None and chunk_size > _MAX_CHUNK:
    raise ValueError(
      f"`chunk_size` must be at most {_MAX_CHUNK} for exact sums, but it is {chunk_size}."
    )
  logits_shape, sample_range, args, options = prepare(
    key, apply, params, x, noise, groups, num_samples, first_sample, chunk_size, mesh, prng
  )
  labels = np.asarray(labels)
  num_outputs, num_classes = math.prod(logits_shape[:-1]), logits_shape[-1]
  if labels.shape != (num_outputs,) or (
    labels.size and not 0 <= labels.min() <= labels.max() < num_classes
  ):
    raise ValueError(
      f"`labels` must have shape [N] = ({num_outputs},) and lie in [0, K) = [0, {num_classes}) for "
      f"logits of shape {logits_shape}, but its shape is {labels.shape} and its values {labels}."
    )
  votes, total, squares, histogram = _score_sums(
    sample_range,
    args,
    jnp.asarray(labels, jnp.int32),
    score=score,
    num_bins=256 if histograms else 0,
    **options,
  )
  total, squares = (
    limbs[0] + (limbs[1] << 16) + (limbs[2] << 32)
    for limbs in (np.asarray(total, np.int64), np.asarray(squares, np.int64))
  )
  counts = np.asarray(histogram, np.int64) if histograms else None
  return ScoreSums(num_samples, np.asarray(votes, np.int64), total, squares, counts)


def merge(one: ScoreSums, other: ScoreSums) -> ScoreSums:
  """Adds the sums of disjoint samples of the same labels (host).

  Args:
    one: sums of some samples.
    other: sums of other samples, from the same key.

  Returns:
    The sums of all.

  Example:
    >>> zeros = np.zeros(1, np.int64)
    >>> merge(ScoreSums(2, zeros, zeros, zeros), ScoreSums(3, zeros, zeros, zeros)).num_samples
    5
  """
  return jax.tree.map(lambda a, b: a + b, one, other)


_MAX_CHUNK = 2**16
"""Samples whose squares, up to 255^2 each, have a sum that fits 32 bits."""


@partial(
  jax.jit,
  static_argnames=("apply", "score", "draw", "perturb", "num_bins", "chunk_size", "mesh"),
)
def _score_sums(
  sample_range: jax.Array,
  args: tuple,
  labels: jax.Array,
  *,
  apply: Apply,
  score: Callable,
  draw: Callable,
  perturb: Callable,
  num_bins: int,
  chunk_size: int,
  mesh: Mesh,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Votes int32 [N], sums in three 16-bit limbs uint32 [3, N], histogram int32 [N, bins]."""

  def add_scores(total: tuple, sample_ids: jax.Array, valid: jax.Array, args: tuple) -> tuple:
    *arrays, labels = args

    def read(logits: jax.Array) -> jax.Array:
      scores = score(logits.astype(jnp.float32)).reshape(labels.size, -1)
      predicted = predict(logits)
      of_label = jnp.where(
        predicted == NOBODY, 0, scores[jnp.arange(labels.size, dtype=jnp.int32), labels]
      )
      return to_255(of_label) + 256 * (predicted == labels).astype(jnp.int32)

    seen = stitched(sample_ids, *arrays, see=whole_frame(apply, read), draw=draw, perturb=perturb)
    values = jnp.where(valid[:, None], seen & 255, 0).astype(jnp.uint32)
    votes = jnp.where(valid[:, None], seen >> 8, 0)
    bins = (seen & 255)[:, :, None] == jnp.arange(num_bins, dtype=jnp.int32)[None, None]
    return (
      total[0] + votes.sum(axis=0, dtype=jnp.int32),
      _add_limbs(total[1], values.sum(axis=0, dtype=jnp.uint32)),
      _add_limbs(total[2], (values * values).sum(axis=0, dtype=jnp.uint32)),
      total[3] + (valid[:, None, None] & bins).sum(axis=0, dtype=jnp.int32),
    )

  limbs = jnp.zeros((3, labels.size), jnp.uint32)
  histogram = jnp.zeros((labels.size, num_bins), jnp.int32)
  init = jnp.zeros(labels.size, jnp.int32), limbs, limbs, histogram
  return sum_over_samples(
    add_scores, init, sample_range, (*args, labels), chunk_size=chunk_size, mesh=mesh
  )


def to_255(scores: jax.Array) -> jax.Array:
  """Rounds scores in [0, 1] down to multiples of 1/255, as int32; what is not a number to 0.

  In integers, because 255 times a float32 number may be rounded up to the next integer (device).

  Example:
    >>> to_255(jnp.asarray([0.5, 1.0, jnp.nan]))
    Array([127, 255,   0], dtype=int32)
  """
  scores = jnp.where(jnp.isnan(scores), 0.0, scores).astype(jnp.float32)
  fixed = jnp.floor(jnp.clip(scores, 0.0, 1.0) * 2.0**24).astype(jnp.uint32)  # exact, but for floor
  return (fixed * 255 >> 24).astype(jnp.int32)


def _add_limbs(limbs: jax.Array, value: jax.Array) -> jax.Array:
  """Adds uint32 [N] to numbers [3, N] of base 2^16, with carry, for up to 2^16 devices to add."""
  low = limbs[0] + (value & 0xFFFF)
  middle = limbs[1] + (value >> 16) + (low >> 16)
  return jnp.stack([low & 0xFFFF, middle & 0xFFFF, limbs[2] + (middle >> 16)])
