r"""Soft scores under localized noise: exact sums, of one label or of every class (device).

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

from lrs_jax.noise.distributions import SmoothingDistribution
from lrs_jax.sampling import checks
from lrs_jax.sampling.checks import Setting
from lrs_jax.sampling.counting import ClassSums
from lrs_jax.sampling.stitching import (
  NOBODY,
  Apply,
  Window,
  Windows,
  predict,
  stitched,
  sum_over_samples,
  view,
  whole_frame,
)

MAX_PIECE = 2**15
"""Samples whose sums of squared scores, at most 255^2 each, fit into int32."""


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
  prng: str = checks.PRNG,
) -> ScoreSums:
  r"""Sums the scores of every output's label, and their squares, under its group's noise.

  :math:`x_{n,i} = \lfloor 255\, h_{y_n}(f_n(z_i^{g(n)})) \rfloor`, :math:`\sum_i x_{n,i}` and
  :math:`\sum_i x_{n,i}^2`: integers, and so independent of order, chunks and devices. No sample is
  kept. The score of a label is what was rounded *down* here: if its expectation is above 1/2, so is
  that of the unrounded one. Where the logits are not finite it is 0, and nobody has the vote.

  Arguments and errors are those of `sampling.vote_counts`, and

  - `labels`, int [N]: the label of every output, chosen from other samples;
  - `score`: logits [..., K] -> scores in [0, 1] that sum to at most 1 over the classes;
  - `histograms`: also count the samples of each of the 256 scores, for the "dkw" bound;
  - `chunk_size` is at most 65,536. Pieces of a job add up by `merge`.

  Returns:
    `ScoreSums`, on the host.

  Raises:
    ValueError: labels or a chunk size that do not fit.

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
  request = checks.check_request(
    key,
    apply,
    params,
    x,
    noise,
    groups,
    num_samples,
    first_sample=first_sample,
    chunk_size=chunk_size,
    mesh=mesh,
    prng=prng,
  )
  logits_shape = request.logits_shape
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
    request.sample_range,
    request.setting,
    jnp.asarray(labels, jnp.int32),
    apply=apply,
    score=score,
    num_bins=256 if histograms else 0,
    chunk_size=request.chunk_size,
    mesh=request.mesh,
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


@partial(jax.jit, static_argnames=("apply", "score", "num_bins", "chunk_size", "mesh"))
def _score_sums(
  sample_range: jax.Array,
  setting: Setting,
  labels: jax.Array,
  *,
  apply: Apply,
  score: Callable,
  num_bins: int,
  chunk_size: int,
  mesh: Mesh,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Votes int32 [N], sums in three 16-bit limbs uint32 [3, N], histogram int32 [N, bins]."""

  def add_scores(total: tuple, sample_ids: jax.Array, valid: jax.Array, args: tuple) -> tuple:
    setting, labels = args

    def read(logits: jax.Array) -> jax.Array:
      scores = score(logits.astype(jnp.float32)).reshape(labels.size, -1)
      predicted = predict(logits)
      of_label = jnp.where(
        predicted == NOBODY, 0, scores[jnp.arange(labels.size, dtype=jnp.int32), labels]
      )
      return to_255(of_label) + 256 * (predicted == labels).astype(jnp.int32)

    seen = stitched(sample_ids, *setting, see=whole_frame(apply, read))
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
    add_scores, init, sample_range, (setting, labels), chunk_size=chunk_size, mesh=mesh
  )


def class_sums(
  key: jax.Array,
  apply: Apply,
  params: Any,
  x: ArrayLike,
  noise: SmoothingDistribution,
  groups: ArrayLike,
  num_samples: int,
  *,
  num_classes: int,
  first_sample: int = 0,
  chunk_size: int | None = None,
  mesh: Mesh | None = None,
  windows: Windows | None = None,
  prng: str = checks.PRNG,
) -> ClassSums:
  r"""Counts the votes for every class, and sums its scores and their squares.

  The score of class k is its softmax probability, rounded down:
  :math:`x_{n,k,i} = \lfloor 255\, \mathrm{softmax}(f_n(z_i^{g(n)}))_k \rfloor`, summed to
  :math:`\sum_i x_{n,k,i}` and :math:`\sum_i x_{n,k,i}^2`. These are integers, and so independent of
  order, chunks and devices. One call with one key selects labels, another bounds them: only the
  sums of the selected label are read from the second. Where the logits are not finite, every score
  is 0, and nobody has the vote.

  Arguments and errors are those of `sampling.vote_counts`, but that lost votes are no reason for
  one: `num_samples` tells of them.

  Returns:
    `ClassSums`, int64 on the host.

  Example:
    >>> from lrs_jax import noise
    >>> apply = lambda params, x: jnp.stack([x, -x], axis=-1)
    >>> gaussian = noise.gaussian([[0.1, 0.1]], cells=[0, 1])
    >>> x = np.asarray([9.0, -0.5], np.float32)
    >>> class_sums(jax.random.key(0), apply, None, x, gaussian, [0, 0], 10, num_classes=2).scores
    array([[2550,    0],
           [ 708, 1832]])

  References:
    Schuchardt et al. 2023 (arXiv 2210.16140), appendix F: variance-constrained certification.
  """
  request = checks.check_request(
    key,
    apply,
    params,
    x,
    noise,
    groups,
    num_samples,
    first_sample=first_sample,
    chunk_size=chunk_size,
    mesh=mesh,
    prng=prng,
  )
  checks.check_classes(num_classes, request.logits_shape)
  window, starts = checks.check_windows(windows, request.logits_shape, groups, noise.num_groups)

  def sums(sample_range: jax.Array) -> tuple[jax.Array, ...]:
    return _class_sums(
      sample_range,
      request.setting,
      starts,
      apply=apply,
      num_classes=num_classes,
      chunk_size=request.chunk_size,
      mesh=request.mesh,
      window=window,
    )

  stride = request.chunk_size * request.mesh.size
  return in_pieces(sums, first_sample, num_samples, stride)


def in_pieces(
  sums: Callable[[jax.Array], tuple[jax.Array, ...]],
  first_sample: int,
  num_samples: int,
  stride: int,
) -> ClassSums:
  """Adds up what int32 can hold of pieces of a range, in int64 (host).

  Args:
    sums: sample range, int32 [2] -> votes, scores and squares of at most `MAX_PIECE` samples.
    first_sample: number of the first sample.
    num_samples: S.
    stride: samples that all devices evaluate at once; pieces are multiples of it if they can be.

  Returns:
    `ClassSums` of all.

  Example:
    >>> ones = lambda sample_range: (jnp.full((1, 1), sample_range[1] - sample_range[0]),) * 3
    >>> in_pieces(ones, 5, 10**5, 64)
    ClassSums(votes=array([[100000]]), scores=array([[100000]]), squares=array([[100000]]), ...
  """
  size = MAX_PIECE // stride * stride or MAX_PIECE
  pieces, end = [], first_sample + num_samples
  for first in range(first_sample, max(end, first_sample + 1), size):
    found = sums(jnp.asarray((first, min(first + size, end)), jnp.int32))
    pieces.append([np.asarray(part, np.int64) for part in found])
  votes, scores, squares = (np.sum(parts, axis=0) for parts in zip(*pieces, strict=True))
  return ClassSums(votes, scores, squares, np.asarray(num_samples, np.int64))


@partial(jax.jit, static_argnames=("apply", "num_classes", "chunk_size", "mesh", "window"))
def _class_sums(
  sample_range: jax.Array,
  setting: Setting,
  starts: jax.Array | None,
  *,
  apply: Apply,
  num_classes: int,
  chunk_size: int,
  mesh: Mesh,
  window: Window | None = None,
) -> tuple[jax.Array, ...]:
  """Votes, scores and their squares, int32 [N, K] each."""

  def read(logits: jax.Array) -> jax.Array:
    predicted, scores = votes_and_scores(logits)
    return scores + 256 * predicted

  def add(total: tuple, sample_ids: jax.Array, valid: jax.Array, args: tuple) -> tuple:
    setting, starts = args
    see = view(apply, read, window, starts)
    seen = stitched(sample_ids, *setting, see=see, num_classes=num_classes)
    seen = jnp.where(valid[:, None, None], seen, 0)
    votes, score = seen >> 8, seen & 255
    sums = tuple(part.sum(axis=0, dtype=jnp.int32) for part in (votes, score, score**2))
    return jax.tree.map(jnp.add, total, sums)

  zeros = jnp.zeros((setting.groups.size, num_classes), jnp.int32)
  return sum_over_samples(
    add, (zeros,) * 3, sample_range, (setting, starts), chunk_size=chunk_size, mesh=mesh
  )


def votes_and_scores(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
  """One sample's votes, 0 or 1, and softmax scores in units of 1/255, int32 [N, K] each (device).

  Where the logits are not finite, all are 0.

  Example:
    >>> votes_and_scores(jnp.asarray([[0.0, 1.0], [jnp.nan, 0.0]]))
    (Array([[0, 1],
           [0, 0]], dtype=int32), Array([[ 68, 186],
           [  0,   0]], dtype=int32))
  """
  predicted, num_classes = predict(logits), logits.shape[-1]
  scores = to_255(jax.nn.softmax(logits.astype(jnp.float32))).reshape(-1, num_classes)
  votes = jax.nn.one_hot(predicted, num_classes, dtype=jnp.int32)
  return votes, jnp.where(predicted[:, None] == NOBODY, 0, scores)


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
