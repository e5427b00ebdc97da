"""What was asked for, checked once, and as the compiled loops take it (host)."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from lrs_jax.errors import (
  IntegerInputError,
  MissingClassesError,
  NonFiniteInputError,
  NotLogitsError,
)
from lrs_jax.noise.distributions import SmoothingDistribution, as_input, to_device
from lrs_jax.sampling.stitching import MAX_SAMPLES, Apply, Window, Windows

PRNG = "threefry2x32"
"""The generator whose draws depend on nothing but the key."""


class Setting(NamedTuple):
  """What samples are drawn of: a tree of arrays, all of them arguments of a compiled loop."""

  key: jax.Array
  params: Any
  x: jax.Array
  noise: SmoothingDistribution  # as `to_device` leaves it
  groups: jax.Array  # int32 [N]


class Request(NamedTuple):
  """What was asked for, as a compiled loop takes it."""

  sample_range: jax.Array  # int32 [2], first sample and one past the last
  setting: Setting
  logits_shape: tuple[int, ...]
  chunk_size: int
  mesh: Mesh


def check_request(
  key: jax.Array,
  apply: Apply,
  params: Any,
  x: ArrayLike,
  noise: SmoothingDistribution,
  groups: ArrayLike,
  num_samples: int,
  *,
  first_sample: int = 0,
  chunk_size: int | None = None,
  mesh: Mesh | None = None,
  prng: str = PRNG,
) -> Request:
  """Checks what was asked for, and fills in what was not.

  See `sampling.vote_counts` for arguments and errors.

  Example:
    >>> from lrs_jax import noise
    >>> request = check_request(
    ...   jax.random.key(0), lambda params, x: jnp.stack([x, -x], axis=-1), None,
    ...   np.zeros(3, np.float32), noise.gaussian([[0.1]], [0, 0, 0]), [0, 0, 0], 10, first_sample=5
    ... )
    >>> request.logits_shape, request.sample_range.tolist(), request.chunk_size
    ((3, 2), [5, 15], 256)
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
  if groups.size and (groups.min() < 0 or groups.max() >= noise.num_groups):
    raise ValueError(
      f"`groups` must lie in [0, G) with G = {noise.num_groups} groups in `noise`, "
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
  setting = Setting(key, params, x, to_device(noise), jnp.asarray(groups, jnp.int32))
  return Request(sample_range, setting, logits.shape, chunk_size, mesh)


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


def check_windows(
  windows: Windows | None, logits_shape: tuple[int, ...], groups: ArrayLike, num_groups: int
) -> tuple[Window | None, jax.Array | None]:
  """Windows that hold their groups, as a compiled loop takes them; None for none.

  Args:
    windows: of the output.
    logits_shape: of the whole output, (H, W, K).
    groups: int [N].
    num_groups: G.

  Returns:
    What is static of them, and where they start, int32 [G, 2].

  Raises:
    ValueError: windows of another shape, or that do not hold their groups.

  Example:
    >>> windows = Windows(lambda params, x, start: x, np.array([[0, 0], [0, 2]]), (1, 2))
    >>> check_windows(windows, (1, 4, 3), [0, 0, 1, 1], 2)[1].tolist()
    [[0, 0], [0, 2]]
    >>> check_windows(windows, (1, 4, 3), [0, 1, 1, 1], 2)
    Traceback (most recent call last):
    ...
    ValueError: `windows` must hold their groups, but output (0, 1) of group 1 lies outside that...
  """
  if windows is None:
    return None, None
  groups = np.asarray(groups)
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
  (height, width), (rows, columns, _) = windows.size, logits_shape
  window = Window(windows.apply, (int(height), int(width)), (rows, columns))
  return window, jnp.asarray(starts, jnp.int32)


def default_chunk_size(size: int) -> int:
  """Power of two that puts about 2^18 coordinates of inputs of this size into a chunk (host).

  Example:
    >>> default_chunk_size(64 * 96 * 3)
    8
  """
  return 1 << max(0, min(256, 2**18 // max(size, 1)).bit_length() - 1)


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
