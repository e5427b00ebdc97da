r"""Soft scores under localized noise: exact sums, of one label or of every class (device)."""

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
from lrs_jax.sampling import checks, stitching
from lrs_jax.sampling.checks import Request, Setting
from lrs_jax.sampling.counting import ClassSums
from lrs_jax.sampling.stitching import NOBODY, Apply, Window, predict

Score = Callable[[jax.Array], jax.Array]
"""logits [..., K] -> scores in [0, 1] that sum to at most 1 over the classes."""

MAX_PIECE = 2**15
"""Samples whose sums of squared scores, at most 255^2 each, fit into int32."""


class ScoreSums(NamedTuple):
  """What S samples said about one label per output, as exact integers; they add up (host).

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
  score: Score = jax.nn.softmax,
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

  Arguments and errors are those of `sampling.vote_counts`, `ValueError` for labels that do not fit
  among them, and

  - `labels`, int [N]: the label of every output, chosen from other samples;
  - `score`: logits [..., K] -> scores in [0, 1] that sum to at most 1 over the classes;
  - `histograms`: also count the samples of each of the 256 scores, for the "dkw" bound.

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
  options: dict[str, Any] = {"first_sample": first_sample, "chunk_size": chunk_size, "mesh": mesh}
  request = checks.check_request(
    key, apply, params, x, noise, groups, num_samples, num_classes=None, prng=prng, **options
  )
  logits_shape, labels = request.logits_shape, np.asarray(labels)
  num_outputs, num_classes = math.prod(logits_shape[:-1]), logits_shape[-1]
  if labels.shape != (num_outputs,) or (
    labels.size and not 0 <= labels.min() <= labels.max() < num_classes
  ):
    raise ValueError(
      f"`labels` must have shape [N] = ({num_outputs},) and lie in [0, K) = [0, {num_classes}) for "
      f"logits of shape {logits_shape}, but its shape is {labels.shape} and its values {labels}."
    )
  read = {"score": score, "num_bins": 256 if histograms else 0}
  return ScoreSums(num_samples, *_sums_of(request, jnp.asarray(labels, jnp.int32), **read))


@checks.asking
def class_sums(request: Request) -> ClassSums:
  r"""Counts the votes for every class, and sums its scores and their squares.

  :math:`x_{n,k,i} = \lfloor 255\, \mathrm{softmax}(f_n(z_i^{g(n)}))_k \rfloor`, summed to
  :math:`\sum_i x_{n,k,i}` and :math:`\sum_i x_{n,k,i}^2` as in `score_sums`. One call with one key
  selects labels, another bounds them: only the sums of the selected label are read from the second.

  Arguments and errors are those of `sampling.vote_counts`, but that lost votes are no error, as
  `num_samples` tells of them. The sums are int64, on the host.

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
  votes, scores, squares = _sums_of(request, None)
  return ClassSums(votes, scores, squares, np.asarray(request.num_samples, np.int64))


def _sums_of(request: Request, labels: jax.Array | None, **options: Any) -> tuple[np.ndarray, ...]:
  def sums(sample_range: jax.Array) -> tuple[jax.Array, ...]:
    arrays = request.setting, request.starts, labels
    return _sums(sample_range, *arrays, **request.static, **options)

  stride = request.chunk_size * request.mesh.size
  return in_pieces(sums, request.first_sample, request.num_samples, stride)


def in_pieces(
  sums: Callable[[jax.Array], tuple[jax.Array, ...]],
  first_sample: int,
  num_samples: int,
  stride: int,
) -> tuple[np.ndarray, ...]:
  """Adds up sums over pieces of a range of samples, of at most `MAX_PIECE`, in int64 (host).

  `sums` gives every device's, arrays [devices, ...]. Pieces are multiples of the `stride` that all
  devices evaluate at once, if they can be.

  Example:
    >>> number = lambda sample_range: (sample_range[1:] - sample_range[:1],)  # of one device
    >>> in_pieces(number, 5, 10**5, 64)
    (np.int64(100000),)
  """
  size = MAX_PIECE // stride * stride or MAX_PIECE
  pieces, end = [], first_sample + num_samples
  for first in range(first_sample, max(end, first_sample + 1), size):
    found = sums(jnp.asarray((first, min(first + size, end)), jnp.int32))
    pieces.append([np.asarray(part, np.int64) for part in stitching.summed(found)])
  return tuple(np.sum(parts, axis=0) for parts in zip(*pieces, strict=True))


_STATIC = ("apply", "num_classes", "chunk_size", "mesh", "window", "score", "num_bins")


@partial(jax.jit, static_argnames=_STATIC)
def _sums(
  sample_range: jax.Array,
  setting: Setting,
  starts: jax.Array | None,
  labels: jax.Array | None,
  *,
  apply: Apply,
  num_classes: int,
  chunk_size: int,
  mesh: Mesh,
  window: Window | None = None,
  score: Score = jax.nn.softmax,
  num_bins: int = 0,
) -> tuple[jax.Array, ...]:
  """Votes, scores and their squares, int32 [N], or [N, K] without labels; histogram [N, bins].

  Each is every device's, [devices, ...].
  """
  classes = () if labels is not None else (num_classes,)

  def add(total: tuple, sample_ids: jax.Array, valid: jax.Array, args: tuple) -> tuple:
    setting, starts, labels = args

    def read(logits: jax.Array) -> jax.Array:
      votes, scores = votes_and_scores(logits, labels, score)
      return scores + 256 * votes

    see = stitching.whole_frame(apply, read)
    if window:
      see = stitching.in_windows(*window, starts, read)
    values = num_classes if classes else None
    seen = stitching.stitched(sample_ids, *setting, see=see, num_classes=values)
    valid = valid.reshape(-1, *(1 for _ in seen.shape[1:]))
    votes, scores = jnp.where(valid, seen >> 8, 0), jnp.where(valid, seen & 255, 0)
    parts = [votes, scores, scores**2]
    if num_bins:
      bins = (seen & 255)[:, :, None] == jnp.arange(num_bins, dtype=jnp.int32)[None, None]
      parts.append(valid[:, :, None] & bins)
    sums = tuple(part.sum(axis=0, dtype=jnp.int32) for part in parts)
    return jax.tree.map(jnp.add, total, sums)

  zeros = jnp.zeros((setting.groups.size, *classes), jnp.int32)
  histogram = (jnp.zeros((setting.groups.size, num_bins), jnp.int32),) if num_bins else ()
  args = setting, starts, labels
  init = zeros, zeros, zeros, *histogram
  return stitching.device_totals(add, init, sample_range, args, chunk_size=chunk_size, mesh=mesh)


def votes_and_scores(
  logits: jax.Array, labels: jax.Array | None = None, score: Score = jax.nn.softmax
) -> tuple[jax.Array, jax.Array]:
  """One sample's votes, 0 or 1, and scores in units of 1/255, int32 (device).

  Of every class, [N, K], or of one label per output, [N]; all 0 where the logits are not finite.

  Example:
    >>> votes_and_scores(jnp.asarray([[0.0, 1.0], [jnp.nan, 0.0]]))
    (Array([[0, 1],
           [0, 0]], dtype=int32), Array([[ 68, 186],
           [  0,   0]], dtype=int32))
  """
  predicted, num_classes = predict(logits), logits.shape[-1]
  scores = score(logits.astype(jnp.float32)).reshape(-1, num_classes)
  lost = predicted == NOBODY
  if labels is None:
    votes = jax.nn.one_hot(predicted, num_classes, dtype=jnp.int32)
    return votes, jnp.where(lost[:, None], 0, to_255(scores))
  of_label = scores[jnp.arange(labels.size, dtype=jnp.int32), labels]
  return (predicted == labels).astype(jnp.int32), jnp.where(lost, 0, to_255(of_label))


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
