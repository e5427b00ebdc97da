r"""Monte Carlo under localized noise: vote counts, streamed on the device.

One sample is one standard draw, which all groups share, each at its own level. The model is
evaluated once per (sample, group), and output n keeps only what its own group g(n) saw: the
*stitched* prediction. Samples are mapped over a chunk, chunks accumulate in a compiled loop, and
chunks are spread over devices, so memory does not grow with the number of samples.
"""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from lrs_jax.errors import (
  IntegerInputError,
  LostVotesWarning,
  MissingClassesError,
  NaNLogitsError,
  NonFiniteInputError,
  NotLogitsError,
)
from lrs_jax.noise.families import SmoothingDistribution, as_input, level_at

Apply = Callable[[Any, jax.Array], jax.Array]
"""(params, x) -> logits [..., K] for one input x; N is the product of the leading axes."""

See = Callable[[Any, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
"""(params, noisy [S, ...], group, groups [N], values [S, N]) -> values, the group's anew."""


class Votes(NamedTuple):
  """What S samples voted for; the votes of disjoint samples add up, leaf by leaf."""

  counts: Any  # int32 [N, K], an array of JAX or NumPy; a row sums to S, less votes that were lost
  num_samples: Any  # int [], S


class ClassSums(NamedTuple):
  """What S samples said of every class, exact integers; those of disjoint samples add up."""

  votes: Any  # int [N, K], samples that predict the class
  scores: Any  # int [N, K], sum of its scores in units of 1/255; None if only votes were counted
  squares: Any  # int [N, K], sum of their squares; likewise
  num_samples: Any  # int [], S; a row of `votes` sums to it, less the votes that were lost


NOBODY = -1
"""What an output votes for in a sample whose logits are not finite: no class."""

MAX_SAMPLES = 2**31 - 1
"""Sample ids are 32-bit integers."""


class Windows(NamedTuple):
  """How a model evaluates only what a group needs: the window of the output that holds it.

  `partition.windows` makes windows that hold their groups.
  """

  apply: Callable[[Any, jax.Array, jax.Array], jax.Array]  # (params, x, start [2]) -> [h, w, K]
  starts: np.ndarray  # int32 [G, 2], row and column where each group's window starts
  size: tuple[int, int]  # (h, w); a window may leave the frame on the right and below


def vote_counts(
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
  prng: str = "threefry2x32",
) -> jax.Array:
  r"""Counts how often each output votes for each class under its group's noise.

  :math:`\mathrm{counts}_{n,k} = \sum_{i < S} [\arg\max f_n(z_i^{g(n)}) = k]`, where sample i draws
  its noise from `fold_in(key, i)`: the noise is the same for any chunk size and number of devices.
  Everything but `apply`, the shapes and the options is an argument of the compiled loop, so one
  compilation serves all keys, inputs, parameters, noise levels and numbers of samples of a job.

  A vote needs logits that are finite: if the greatest of an output's logits is nan or infinite in a
  sample, that vote is lost, for this output (-inf below a finite one is none of that). A lost vote
  still is one of the S samples, and no class has it.

  Args:
    key: typed key, `jax.random.key(seed)`. Selection and estimation need two independent ones.
    apply: pure function (params, x) -> logits [..., K] of one input.
    params: pytree of arrays, passed to `apply`.
    x: one input, of a floating-point type; float64 is rounded to float32, and that is certified.
    noise: smoothing distribution with G groups, on the scale of `x`.
    groups: int [N], the group of every output, in the order of the flattened logits.
    num_samples: S >= 0.
    num_classes: K.
    first_sample: counts the S samples from this one on, so that a long job can be done in pieces
      whose counts add up.
    chunk_size: samples per device that are evaluated at once; by default chosen from x's size.
    mesh: one-dimensional device mesh to spread the samples over; all devices if None.
    windows: for models that can evaluate a window of their output [H, W, K] for less than all of
      it; then `apply` only says what shape the whole has.
    prng: the PRNG implementation that the key must have. Only the default makes sample i the same
      under any chunk size, device count and version: "rbg" and "unsafe_rbg" draw a whole chunk
      from its first key, so its samples depend on the chunking, and their statistical quality under
      `fold_in` is not established. Name another one here to accept that.

  Returns:
    int32 [N, K], on the device; every row sums to S, less the votes that were lost.

  Raises:
    IntegerInputError: x has integer entries.
    NonFiniteInputError: x has entries that are nan or infinite.
    MissingClassesError: the logits' last axis is not `num_classes`.
    NaNLogitsError: every output lost a vote, so that no row of the counts shows what S is; `votes`
      returns S beside them.
    ValueError: shapes, types or sizes that do not fit together, windows that do not hold their
      groups.

  Warns:
    LostVotesWarning: some outputs lost votes. Then tell `certificates.from_votes` what S is.

  Example:
    >>> from lrs_jax import noise
    >>> apply = lambda params, x: jnp.stack([x, -x], axis=-1)
    >>> gaussian = noise.gaussian([[0.1, 0.1]], cells=[0, 1])
    >>> x = np.asarray([1.0, -1.0], np.float32)
    >>> vote_counts(
    ...   jax.random.key(0), apply, None, x, gaussian, groups=[0, 0], num_samples=10, num_classes=2
    ... )
    Array([[10,  0],
           [ 0, 10]], dtype=int32)

  References:
    Schuchardt et al. 2023 (arXiv 2210.16140), section 4 and appendix D.
  """
  found = votes(
    key,
    apply,
    params,
    x,
    noise,
    groups,
    num_samples,
    num_classes=num_classes,
    first_sample=first_sample,
    chunk_size=chunk_size,
    mesh=mesh,
    windows=windows,
    prng=prng,
  )
  if not isinstance(found.counts, jax.core.Tracer):  # inside a compiled function nobody is told
    _tell_of_lost_votes(np.asarray(found.counts).sum(axis=1), num_samples)
  return found.counts


def votes(
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
  prng: str = "threefry2x32",
) -> Votes:
  """Counts votes as `vote_counts` does, and says how many samples there were (device).

  Pieces of a job add up, S with them, and lost votes need no warning: what bounds the votes is told
  of S. See `vote_counts` for arguments and errors; this does not wait for the device.

  Example:
    >>> from lrs_jax import noise
    >>> apply = lambda params, x: jnp.log(jnp.stack([x, -x], axis=-1))  # nan where x is negative
    >>> gaussian = noise.gaussian([[0.1]], cells=[0])
    >>> votes(
    ...   jax.random.key(0), apply, None, np.ones(1, np.float32), gaussian, [0], 10, num_classes=2
    ... )
    Votes(counts=Array([[0, 0]], dtype=int32), num_samples=Array(10, dtype=int32))
  """
  logits_shape, sample_range, args, options = prepare(
    key, apply, params, x, noise, groups, num_samples, first_sample, chunk_size, mesh, prng
  )
  check_classes(num_classes, logits_shape)
  window, starts = None, None
  if windows is not None:
    _check_windows(windows, logits_shape, np.asarray(groups), noise.weights.shape[1])
    starts = jnp.asarray(windows.starts, jnp.int32)
    window = windows.apply, windows.size, logits_shape[:-1]
  counts = _vote_counts(
    sample_range, (*args, starts), num_classes=num_classes, window=window, **options
  )
  return Votes(counts, jnp.asarray(num_samples, jnp.int32))


def check_logits(logits: Any) -> None:
  """Raises `NotLogitsError` unless a model returns one array, with an axis for the classes (host).

  Args:
    logits: what `jax.eval_shape` says of it.

  Example:
    >>> check_logits(jax.eval_shape(lambda x: (x, x), 0.0))
    Traceback (most recent call last):
    ...
    lrs_jax.errors.NotLogitsError: `apply` must return one array of logits, but it returns a...
  """
  if not isinstance(logits, jax.ShapeDtypeStruct):
    hint = "is its `return` missing?" if logits is None else "return the one that is the logits."
    raise NotLogitsError(
      f"`apply` must return one array of logits, but it returns {_kind(logits)}: {hint}"
    )
  if not logits.shape:
    raise NotLogitsError(
      "`apply` must return logits [..., K] with an axis of the K classes, but it returns a scalar."
    )


def _kind(value: Any) -> str:
  if value is None:
    return "None"
  shapes = [getattr(leaf, "shape", leaf) for leaf in jax.tree.leaves(value)]
  return f"a {type(value).__name__} of arrays of shapes {', '.join(map(str, shapes))}"


def check_classes(num_classes: int, logits_shape: tuple[int, ...]) -> None:
  """Raises `MissingClassesError` unless the logits' last axis has as many classes (host).

  Example:
    >>> check_classes(3, (4, 5, 2))
    Traceback (most recent call last):
    ...
    lrs_jax.errors.MissingClassesError: `num_classes` is 3, but `apply` returns logits of shape ...
  """
  if logits_shape[-1] != num_classes:
    raise MissingClassesError(
      f"`num_classes` is {num_classes}, but `apply` returns logits of shape {logits_shape}, "
      f"whose last axis has {logits_shape[-1]} classes."
    )


def _tell_of_lost_votes(kept: np.ndarray, num_samples: int) -> None:
  if not kept.size or kept.min() == num_samples:
    return
  lost = (
    f"{np.mean(kept < num_samples):.1%} of the outputs lost votes, up to "
    f"{num_samples - kept.min()} of {num_samples}, because the greatest logit was not finite"
  )
  if kept.max() < num_samples:
    raise NaNLogitsError(
      f"`apply`: {lost}; of every output at least {num_samples - kept.max()}. Mend the model, or "
      "take `sampling.votes`, and give its `num_samples` to `certificates.from_votes`."
    )
  warnings.warn(
    f"`apply`: {lost}. They count for no class: give `num_samples={num_samples}` (of all calls "
    "together) to `certificates.from_votes`.",
    LostVotesWarning,
    stacklevel=3,
  )


def _check_windows(
  windows: Windows, logits_shape: tuple[int, ...], groups: np.ndarray, num_groups: int
) -> None:
  starts = np.asarray(windows.starts)
  if len(logits_shape) != 3:
    raise ValueError(f"`windows` needs logits [H, W, K], but they have shape {logits_shape}.")
  if starts.shape != (num_groups, 2) or starts.dtype.kind not in "iu":
    raise ValueError(
      f"`windows.starts` must be int [G, 2] = ({num_groups}, 2), but is {starts.dtype} of shape "
      f"{starts.shape}."
    )
  if starts.min() < 0 or (starts >= logits_shape[:-1]).any():
    raise ValueError(f"`windows.starts` must lie inside {logits_shape[:-1]}, but is {starts}.")
  place = np.stack(np.unravel_index(np.arange(groups.size), logits_shape[:-1]), axis=1)
  inside = (place >= starts[groups]) & (place < starts[groups] + np.asarray(windows.size))
  if not inside.all():
    output = int(np.flatnonzero(~inside.all(axis=1))[0])
    group = groups[output]
    raise ValueError(
      f"`windows` must hold their groups, but output {tuple(place[output].tolist())} of group "
      f"{group} lies outside that group's window, {windows.size[0]}x{windows.size[1]} from "
      f"{tuple(starts[group].tolist())} on; `partition.windows` makes windows that do."
    )


def default_chunk_size(size: int) -> int:
  """Power of two that puts about 2^18 coordinates of inputs of this size into a chunk (host).

  Example:
    >>> default_chunk_size(64 * 96 * 3)
    8
  """
  return 1 << max(0, min(256, 2**18 // max(size, 1)).bit_length() - 1)


def prepare(
  key: jax.Array,
  apply: Apply,
  params: Any,
  x: ArrayLike,
  noise: SmoothingDistribution,
  groups: ArrayLike,
  num_samples: int,
  first_sample: int,
  chunk_size: int | None,
  mesh: Mesh | None,
  prng: str,
) -> tuple[tuple[int, ...], jax.Array, tuple, dict[str, Any]]:
  """Checks what was asked for: logits' shape, sample range, arrays and options of the loop (host).

  See `vote_counts` for arguments and errors.

  Example:
    >>> from lrs_jax import noise
    >>> shape, sample_range, *_ = prepare(
    ...   jax.random.key(0), lambda params, x: jnp.stack([x, -x], axis=-1), None,
    ...   np.zeros(3, np.float32), noise.gaussian([[0.1]], [0, 0, 0]), [0, 0, 0], 10, 5,
    ...   None, None, "threefry2x32",
    ... )
    >>> shape, sample_range.tolist()
    ((3, 2), [5, 15])
  """
  x, groups = as_input(x), np.asarray(groups)
  if jax.random.key_impl(key) != prng:
    raise ValueError(
      f"`key` must be a {prng} key, but it is a {jax.random.key_impl(key)} one: make it with "
      f"`jax.random.key(seed, impl={prng!r})`, or name its implementation as `prng`."
    )
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise IntegerInputError(
      f"`x` must be floating-point, but its type is {x.dtype}; convert it first, and 8-bit images "
      "to the scale of the noise (`x / np.float32(255)`)."
    )
  if not isinstance(x, jax.core.Tracer):
    _check_finite(x)
  if len(x.shape) != noise.cells.ndim or any(
    cells not in (size, 1) for cells, size in zip(noise.cells.shape, x.shape, strict=True)
  ):
    raise ValueError(
      f"`noise.cells` must have the axes of `x`, {x.shape}, each of the same size or 1, "
      f"but its shape is {noise.cells.shape}."
    )
  num_groups = noise.weights.shape[1]
  if groups.size and (groups.min() < 0 or groups.max() >= num_groups):
    raise ValueError(
      f"`groups` must lie in [0, G) with G = {num_groups} groups in `noise`, "
      f"but they range from {groups.min()} to {groups.max()}."
    )
  logits = jax.eval_shape(apply, params, jax.ShapeDtypeStruct(x.shape, x.dtype))
  check_logits(logits)
  num_outputs = math.prod(logits.shape[:-1])
  if groups.shape != (num_outputs,):
    raise ValueError(
      f"`groups` must have shape [N] = ({num_outputs},) for logits of shape {logits.shape}, "
      f"but its shape is {groups.shape}: one of the two is not for this input."
    )
  if mesh is None:
    mesh = jax.make_mesh((jax.device_count(),), ("samples",))
  chunk_size = default_chunk_size(x.size) if chunk_size is None else chunk_size
  sample_range = check_range(first_sample, num_samples, chunk_size * mesh.size)
  levels = jax.tree.map(jnp.asarray, noise.levels), jnp.asarray(noise.cells)
  args = (key, params, x, levels, jnp.asarray(groups, jnp.int32))
  options = {
    "apply": apply,
    "draw": noise.draw,
    "perturb": noise.perturb,
    "chunk_size": chunk_size,
    "mesh": mesh,
  }
  return logits.shape, sample_range, args, options


def check_range(first_sample: int, num_samples: int, stride: int) -> jax.Array:
  """The range of samples as the loop takes it, int32 [2], if 32 bits can number it (host).

  Args:
    first_sample: number of the first.
    num_samples: S.
    stride: samples that all devices evaluate at once, of which the last ones may be beyond S.

  Raises:
    ValueError: a range that is negative, or ends within `stride` of 2^31.

  Example:
    >>> check_range(5, 10, 8).tolist()
    [5, 15]
  """
  if num_samples < 0 or first_sample < 0:
    raise ValueError(
      "`num_samples` and `first_sample` must be at least 0, "
      f"but they are {num_samples} and {first_sample}."
    )
  if first_sample + num_samples > MAX_SAMPLES - stride:
    raise ValueError(
      f"`first_sample + num_samples` must be at most {MAX_SAMPLES - stride}, so that the last "
      f"chunk stays under 2^31, but it is {first_sample + num_samples}: take another key instead."
    )
  return jnp.asarray((first_sample, first_sample + num_samples), jnp.int32)


def _check_finite(x: jax.Array) -> None:
  if not bool(jnp.isfinite(x).all()):
    values = np.asarray(x, np.float32)
    index = tuple(np.argwhere(~np.isfinite(values))[0].tolist())
    raise NonFiniteInputError(
      f"`x` must be finite, but {int(np.sum(~np.isfinite(values)))} of its {values.size} entries "
      f"are not, such as {values[index]} at index {index}: there is nothing to certify about it."
    )


@partial(
  jax.jit,
  static_argnames=("apply", "draw", "perturb", "num_classes", "chunk_size", "mesh", "window"),
)
def _vote_counts(
  sample_range: jax.Array,
  args: tuple,
  *,
  apply: Apply,
  draw: Callable,
  perturb: Callable,
  num_classes: int,
  chunk_size: int,
  mesh: Mesh,
  window: tuple[Callable, tuple[int, int], tuple[int, int]] | None = None,
) -> jax.Array:
  def add_votes(
    counts: jax.Array, sample_ids: jax.Array, valid: jax.Array, args: tuple
  ) -> jax.Array:
    *arrays, starts = args
    see = whole_frame(apply, predict) if window is None else in_windows(*window, starts, predict)
    predictions = stitched(sample_ids, *arrays, see=see, draw=draw, perturb=perturb)
    votes = jax.nn.one_hot(predictions, num_classes, dtype=jnp.int32)
    return counts + jnp.where(valid[:, None, None], votes, 0).sum(axis=0, dtype=jnp.int32)

  groups = args[-2]
  init = jnp.zeros((groups.size, num_classes), jnp.int32)
  return sum_over_samples(add_votes, init, sample_range, args, chunk_size=chunk_size, mesh=mesh)


def predict(logits: jax.Array) -> jax.Array:
  """The class of every output, int32 [N]: the first of its greatest logits (device).

  It is `NOBODY` if one of the logits is nan, or the greatest infinite.

  Example:
    >>> predict(jnp.asarray([[0.1, 0.9], [0.5, 0.5], [jnp.nan, 0.0], [-jnp.inf, 0.0]]))
    Array([ 1,  0, -1,  1], dtype=int32)
  """
  last = logits.ndim - 1
  finite = ~jnp.isnan(logits).any(axis=last) & jnp.isfinite(logits.max(axis=last))
  return jnp.where(finite, jax.lax.argmax(logits, last, jnp.int32), NOBODY).reshape(-1)


def stitched(
  sample_ids: jax.Array,
  key: jax.Array,
  params: Any,
  x: jax.Array,
  levels: tuple[Any, jax.Array],
  groups: jax.Array,
  *,
  see: See,
  draw: Callable,
  perturb: Callable,
) -> jax.Array:
  """What every output saw of its own group's noise, for a chunk of samples (device).

  Args:
    sample_ids: int32 [S]; sample i draws from `fold_in(key, i)`.
    key: typed key.
    params: pytree, passed to the model.
    x: one input.
    levels: levels [G, C] and cells, as in a smoothing distribution.
    groups: int32 [N].
    see: evaluates the model for one group: `whole_frame` or `in_windows`.
    draw: (key, x, cells) -> standard draw.
    perturb: (x, standard draw, level) -> noisy x.

  Returns:
    int32 [S, N].

  Example:
    >>> from lrs_jax import noise
    >>> gaussian = noise.gaussian([[0.1]], cells=[0, 0])
    >>> levels = jnp.asarray(gaussian.levels), jnp.asarray(gaussian.cells)
    >>> see = whole_frame(lambda params, x: jnp.stack([x, -x], axis=-1), predict)
    >>> stitched(
    ...   jnp.arange(2), jax.random.key(0), None, jnp.asarray([1.0, -1.0]), levels,
    ...   jnp.asarray([0, 0]), see=see, draw=gaussian.draw, perturb=gaussian.perturb,
    ... )
    Array([[0, 1],
           [0, 1]], dtype=int32)
  """
  levels, cells = levels
  num_groups = jax.tree.leaves(levels)[0].shape[0]
  keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, sample_ids)
  standard = jax.vmap(draw, in_axes=(0, None, None))(keys, x, cells)

  def add_group(group: jax.Array, values: jax.Array) -> jax.Array:
    level = level_at(levels, cells, group)
    noisy = jax.vmap(perturb, in_axes=(None, 0, None))(x, standard, level)
    return see(params, noisy, group, groups, values)

  init = jnp.zeros((sample_ids.size, groups.size), jnp.int32)
  return jax.lax.fori_loop(0, num_groups, add_group, init)


def whole_frame(apply: Apply, read: Callable[[jax.Array], jax.Array]) -> See:
  """Evaluates the model on whole inputs.

  Args:
    apply: (params, x) -> logits of one input.
    read: logits of one input -> one int32 per output, [N]: the predicted class, or a score.

  Example:
    >>> see = whole_frame(lambda params, x: jnp.stack([x, 1 - x], axis=-1), predict)
    >>> noisy, groups = jnp.asarray([[0.9, 0.9], [0.1, 0.1]]), jnp.asarray([0, 1])
    >>> see(None, noisy, jnp.asarray(1), groups, jnp.zeros((2, 2), jnp.int32))  # of group 1 alone
    Array([[0, 0],
           [0, 1]], dtype=int32)
  """

  def see(
    params: Any, noisy: jax.Array, group: jax.Array, groups: jax.Array, values: jax.Array
  ) -> jax.Array:
    seen = jax.vmap(lambda z: read(apply(params, z)))(noisy)
    return jnp.where(groups == group, seen, values)

  return see


def in_windows(
  apply: Callable[[Any, jax.Array, jax.Array], jax.Array],
  size: tuple[int, int],
  shape: tuple[int, int],
  starts: jax.Array,
  read: Callable[[jax.Array], jax.Array],
) -> See:
  """Evaluates the model on the window of the output that holds the group.

  Args:
    apply: (params, x, start) -> logits [h, w, K].
    size: (h, w).
    shape: (H, W) of the whole output.
    starts: int32 [G, 2].
    read: logits [h, w, K] -> int32 [h w].

  Example:
    >>> def apply(params, x, start):
    ...   pixel = jax.lax.dynamic_slice(x, start, (1, 1))
    ...   return jnp.stack([pixel, 1 - pixel], axis=-1)
    >>> see = in_windows(apply, (1, 1), (1, 2), jnp.asarray([[0, 0], [0, 1]]), predict)
    >>> noisy, groups = jnp.asarray([[[0.9, 0.9]], [[0.1, 0.1]]]), jnp.asarray([0, 1])
    >>> see(None, noisy, jnp.asarray(1), groups, jnp.zeros((2, 2), jnp.int32))  # of group 1 alone
    Array([[0, 0],
           [0, 1]], dtype=int32)
  """

  def see(
    params: Any, noisy: jax.Array, group: jax.Array, groups: jax.Array, values: jax.Array
  ) -> jax.Array:
    start = starts[group]
    seen = jax.vmap(lambda z: read(apply(params, z, start)))(noisy).reshape(-1, *size)
    beyond = (0, size[0]), (0, size[1])
    frames = jnp.pad(values.reshape(-1, *shape), ((0, 0), *beyond))
    owner = jnp.pad(groups.reshape(shape), beyond, constant_values=-1)
    mine = jax.lax.dynamic_slice(owner, start, size) == group
    corner = (jnp.zeros((), jnp.int32), *start)
    before = jax.lax.dynamic_slice(frames, corner, (len(frames), *size))
    frames = jax.lax.dynamic_update_slice(frames, jnp.where(mine, seen, before), corner)
    return frames[:, : shape[0], : shape[1]].reshape(values.shape)

  return see


def sum_over_samples(
  add: Callable[[Any, jax.Array, jax.Array, Any], Any],
  init: Any,
  sample_range: jax.Array,
  args: Any,
  *,
  chunk_size: int,
  mesh: Mesh,
) -> Any:
  """Accumulates a statistic over samples, chunk by chunk on every device: the one device mapping.

  Args:
    add: (total, sample_ids [chunk], valid [chunk], args) -> total; leaves out samples not valid.
    init: pytree of integer arrays, the total of no samples.
    sample_range: int32 [2], first sample and one past the last.
    args: pytree, replicated on every device and passed to `add`.
    chunk_size: samples per call of `add`.
    mesh: one-dimensional mesh; device d takes the chunks d, d + devices, ...

  Returns:
    The sum of the devices' totals, replicated.

  Example:
    >>> mesh = jax.make_mesh((1,), ("samples",), devices=jax.devices()[:1])
    >>> add = lambda total, sample_ids, valid, args: total + jnp.where(valid, sample_ids, 0).sum()
    >>> zero, sample_range = jnp.zeros((), jnp.int32), jnp.asarray([2, 5], jnp.int32)
    >>> sum_over_samples(add, zero, sample_range, None, chunk_size=2, mesh=mesh)  # 2 + 3 + 4
    Array(9, dtype=int32)
  """
  axis = mesh.axis_names[0]

  def on_device(sample_range: jax.Array, args: Any) -> Any:
    first, end = sample_range[0], sample_range[1]
    device = jax.lax.axis_index(axis)

    def add_chunk(i: jax.Array, total: Any) -> Any:
      chunk = i * mesh.size + device
      sample_ids = first + chunk * chunk_size + jnp.arange(chunk_size, dtype=jnp.int32)
      return add(total, sample_ids, sample_ids < end, args)

    rounds = -((first - end) // (chunk_size * mesh.size))
    return jax.lax.psum(jax.lax.fori_loop(0, rounds, add_chunk, init), axis)

  # Each device holds a total of its own until psum; vma tracking would want the zeros marked so.
  return jax.shard_map(on_device, mesh=mesh, in_specs=(P(), P()), out_specs=P(), check_vma=False)(
    sample_range, args
  )
