"""What was asked for, checked once, and as the compiled loops take it (host)."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from lrs_jax import errors
from lrs_jax.noise.distributions import SmoothingDistribution, as_input, to_device
from lrs_jax.noise.grids import check_on_grid
from lrs_jax.sampling.stitching import MAX_SAMPLES, Apply, Window, Windows

PRNG = "threefry2x32"
"""The generator whose draws depend on nothing but the key."""

LARGEST_CHUNK = 256
"""Samples that a device evaluates at once, at most, where no chunk size is given."""


class Setting(NamedTuple):
  """What samples are drawn of: a tree of arrays, all of them arguments of a compiled loop."""

  key: jax.Array
  params: Any
  x: jax.Array
  noise: SmoothingDistribution  # as `to_device` leaves it
  groups: jax.Array  # int32 [N]


class Request(NamedTuple):
  """What was asked for, as a compiled loop takes it."""

  first_sample: int
  num_samples: int
  setting: Setting
  starts: jax.Array | None  # int32 [G, 2], where the groups' windows start, if there are windows
  apply: Apply
  logits_shape: tuple[int, ...]
  chunk_size: int
  mesh: Mesh
  window: Window | None

  @property
  def sample_range(self) -> jax.Array:
    """First sample and one past the last, int32 [2]."""
    return jnp.asarray((self.first_sample, self.first_sample + self.num_samples), jnp.int32)

  @property
  def static(self) -> dict[str, Any]:
    """Static arguments of a loop over samples."""
    names = "apply", "chunk_size", "mesh", "window"
    return {"num_classes": self.logits_shape[-1], **{name: getattr(self, name) for name in names}}


def check_request(
  key: jax.Array,
  apply: Apply,
  params: Any,
  x: ArrayLike,
  noise: SmoothingDistribution,
  groups: ArrayLike,
  num_samples: int,
  *,
  num_classes: int | None,  # None where any number will do
  first_sample: int = 0,
  chunk_size: int | None = None,
  mesh: Mesh | None = None,
  windows: Windows | None = None,
  prng: str = PRNG,
) -> Request:
  """Checks what was asked for, and fills in what was not; see `sampling.vote_counts`.

  Example:
    >>> from lrs_jax import noise
    >>> apply = lambda params, x: jnp.stack([x, -x], axis=-1)
    >>> x, gaussian = np.ones(3, np.float32), noise.gaussian([[0.1]], [0, 0, 0])
    >>> of = jax.random.key(0), apply, None, x, gaussian
    >>> options = {"num_classes": 2, "first_sample": 5, "chunk_size": 8}
    >>> request = check_request(*of, [0, 0, 0], 10, **options)
    >>> request.logits_shape, request.sample_range.tolist(), request.chunk_size
    ((3, 2), [5, 15], 8)
  """
  x, groups = check_inputs(key, x, noise, groups, prng)
  logits = logits_of(apply, params, x)
  num_outputs = math.prod(logits.shape[:-1])
  if groups.shape != (num_outputs,):
    raise ValueError(
      f"`groups` must have shape [N] = ({num_outputs},) for logits of shape {logits.shape}, "
      f"but its shape is {groups.shape}: one of the two is not for this input."
    )
  if mesh is None:
    mesh = jax.make_mesh((jax.device_count(),), ("samples",))
  chunk_size = default_chunk_size(x.size) if chunk_size is None else chunk_size
  check_range(first_sample, num_samples, chunk_size * mesh.size)
  if num_classes is not None:
    check_classes(num_classes, logits.shape)
  window, starts = _windows(windows, logits.shape, groups, noise.num_groups)
  setting = Setting(key, params, x, to_device(noise), jnp.asarray(groups, jnp.int32))
  sizes = logits.shape, chunk_size, mesh
  return Request(first_sample, num_samples, setting, starts, apply, *sizes, window)


def check_inputs(
  key: jax.Array, x: ArrayLike, noise: SmoothingDistribution, groups: ArrayLike, prng: str = PRNG
) -> tuple[jax.Array, np.ndarray]:
  """Raises a ValueError unless samples can be drawn of an input; returns it, and groups (host).

  Example:
    >>> from lrs_jax import noise
    >>> check_inputs(jax.random.key(0), np.ones(2), noise.gaussian([[0.1]], [0, 0]), [0, 0])
    (Array([1., 1.], dtype=float32), array([0, 0]))
  """
  x, groups = as_input(x), np.asarray(groups)
  if jax.random.key_impl(key) != prng:
    raise ValueError(
      f"`key` must be a {prng} key, but it is a {jax.random.key_impl(key)} one: make it with "
      f"`jax.random.key(seed, impl={prng!r})`, or name its implementation as `prng`."
    )
  check_finite(x)
  if len(x.shape) != noise.cells.ndim or any(
    cells not in (size, 1) for cells, size in zip(noise.cells.shape, x.shape, strict=True)
  ):
    raise ValueError(
      f"`noise.cells` must have the axes of `x`, {x.shape}, each of the same size or 1, "
      f"but its shape is {noise.cells.shape}."
    )
  if not isinstance(x, jax.core.Tracer):
    check_on_grid(np.asarray(x), noise)
  check_groups(groups, noise.num_groups, "noise")
  return x, groups


def check_finite(x: jax.Array) -> None:
  """Raises a ValueError unless an input is of a floating-point type, and finite (host).

  Example:
    >>> check_finite(jnp.ones(2))
  """
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise errors.IntegerInputError(
      f"`x` must be floating-point, but its type is {x.dtype}; convert it first, and 8-bit images "
      "to the scale of the noise (`x / np.float32(255)`)."
    )
  if not isinstance(x, jax.core.Tracer) and not bool(jnp.isfinite(x).all()):
    values = np.asarray(x, np.float32)
    wrong = ~np.isfinite(values)
    index = tuple(np.argwhere(wrong)[0].tolist())
    raise errors.NonFiniteInputError(
      f"`x` must be finite, but {int(wrong.sum())} of its {values.size} entries are not, such as "
      f"{values[index]} at index {index}: there is nothing to certify about it."
    )


Asked = ParamSpec("Asked")
Found = TypeVar("Found")


def _asking(
  check: Callable[Asked, Request], statistic: Callable[[Request], Found]
) -> Callable[Asked, Found]:
  @functools.wraps(statistic)
  def ask(*args: Asked.args, **options: Asked.kwargs) -> Found:
    return statistic(check(*args, **options))

  found = inspect.signature(statistic).return_annotation
  signature = inspect.signature(check).replace(return_annotation=found)
  ask.__signature__ = signature  # type: ignore[attr-defined]
  return ask


asking = functools.partial(_asking, check_request)
"""Makes a function of a `Request` one of the arguments of `check_request`."""


def check_groups(groups: np.ndarray, num_groups: int, of: str) -> None:
  """Raises a ValueError unless all groups are among those of the noise, or of a plan (host).

  Example:
    >>> check_groups(np.array([0, 1]), 2, "noise")
  """
  if groups.size and (groups.min() < 0 or groups.max() >= num_groups):
    raise ValueError(
      f"`groups` must lie in [0, G) with G = {num_groups} groups in `{of}`, but they range from "
      f"{groups.min()} to {groups.max()}."
    )


def logits_of(apply: Apply, params: Any, x: jax.Array) -> jax.ShapeDtypeStruct:
  """Shape [..., K] and type of a model's logits for one input, without evaluating it (host).

  Raises:
    NotLogitsError: the model returns something else than one array with an axis for the classes.

  Example:
    >>> logits_of(lambda params, x: jnp.stack([x, -x], axis=-1), None, jnp.zeros(3))
    ShapeDtypeStruct(shape=(3, 2), dtype=float32)
  """
  logits = jax.eval_shape(apply, params, jax.ShapeDtypeStruct(x.shape, x.dtype))
  if not isinstance(logits, jax.ShapeDtypeStruct):
    kind, hint = "None", "is its `return` missing?"
    if logits is not None:
      shapes = [getattr(leaf, "shape", leaf) for leaf in jax.tree.leaves(logits)]
      kind = f"a {type(logits).__name__} of arrays of shapes {', '.join(map(str, shapes))}"
      hint = "return the one that is the logits."
    raise errors.NotLogitsError(
      f"`apply` must return one array of logits, but it returns {kind}: {hint}"
    )
  if not logits.shape:
    raise errors.NotLogitsError(
      "`apply` must return logits [..., K] with an axis of the K classes, but it returns a scalar."
    )
  return logits


def check_classes(num_classes: int, logits_shape: tuple[int, ...]) -> None:
  """Raises `MissingClassesError` unless the logits' last axis has as many classes (host).

  Example:
    >>> check_classes(2, (4, 5, 2))
  """
  if logits_shape[-1] != num_classes:
    hint = " classes."
    if num_classes in logits_shape:
      axis = logits_shape.index(num_classes)
      hint = f": move the axis of the classes to the end (`jnp.moveaxis(logits, {axis}, -1)`)."
    raise errors.MissingClassesError(
      f"`num_classes` is {num_classes}, but `apply` returns logits of shape {logits_shape}, "
      f"whose last axis has {logits_shape[-1]}{hint}"
    )


def _windows(
  windows: Windows | None, logits_shape: tuple[int, ...], groups: np.ndarray, num_groups: int
) -> tuple[Window | None, jax.Array | None]:
  """What is static of windows that hold their groups, and where they start; None for none."""
  if windows is None:
    return None, None
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
  window = windows.apply, (int(height), int(width)), (rows, columns)
  return window, jnp.asarray(starts, jnp.int32)


def default_chunk_size(size: int) -> int:
  """Power of two that puts about 2^18 coordinates of inputs of this size into a chunk (host).

  Example:
    >>> default_chunk_size(64 * 96 * 3)
    8
  """
  return 1 << max(0, min(LARGEST_CHUNK, 2**18 // max(size, 1)).bit_length() - 1)


def check_range(first_sample: int, num_samples: int, stride: int) -> None:
  """Raises a ValueError unless 32 bits can number all samples (host).

  All devices evaluate `stride` samples at once, of which the last ones may be beyond S.

  Example:
    >>> check_range(5, 10, 8)
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
