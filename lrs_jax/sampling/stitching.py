r"""The loop over groups, samples and devices, whatever is read of the model (device).

One sample is one standard draw, which all groups share, each at its own level. The model is
evaluated once per (sample, group), and output n keeps only what its own group g(n) saw: the
*stitched* values. Samples are mapped over a chunk, chunks accumulate in a compiled loop, and chunks
are spread over devices, so memory does not grow with the number of samples.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lrs_jax.noise.distributions import SmoothingDistribution, perturbed, to_device

Apply = Callable[[Any, jax.Array], jax.Array]
"""(params, x) -> logits [..., K] for one input x; N is the product of the leading axes."""

Read = Callable[[jax.Array], jax.Array]
"""logits [..., K] of one input -> int32 [N] or [N, K]: the predicted class, or scores."""

See = Callable[[Any, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
"""(params, noisy [S, ...], group, groups [N], values [S, N(, K)]) -> values, the group's anew."""

NOBODY = -1
"""What an output votes for in a sample whose logits are not finite: no class."""

MAX_SAMPLES = 2**31 - 1
"""Sample ids are 32-bit integers."""


class Windows(NamedTuple):
  """How a model evaluates only the window of the output that holds a group: `partition.windows`."""

  apply: Callable[[Any, jax.Array, jax.Array], jax.Array]  # (params, x, start [2]) -> [h, w, K]
  starts: np.ndarray  # int32 [G, 2], row and column where each group's window starts
  size: tuple[int, int]  # (h, w); a window may leave the frame on the right and below


Window = tuple[Callable[..., jax.Array], tuple[int, int], tuple[int, int]]
"""What is static of `Windows`: `apply`, (h, w), and (H, W) of the whole output."""


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
  noise: SmoothingDistribution,
  groups: jax.Array,
  *,
  see: See,
  num_classes: int | None = None,
) -> jax.Array:
  """What every output saw of its own group's noise, for a chunk of samples (device).

  Sample i, of `sample_ids` [S], draws from `fold_in(key, i)`. `see` evaluates the model for one
  group: `whole_frame` or `in_windows`. The other arguments are those of `sampling.vote_counts`. It
  makes int32 [S, N], or [S, N, K] if `num_classes` is given: one number for each class is read.

  Example:
    >>> from lrs_jax import noise
    >>> gaussian = noise.gaussian([[0.1]], cells=[0, 0])
    >>> see = whole_frame(lambda params, x: jnp.stack([x, -x], axis=-1), predict)
    >>> key, x, groups = jax.random.key(0), jnp.asarray([1.0, -1.0]), jnp.asarray([0, 0])
    >>> votes = jax.jit(stitched, static_argnames="see")
    >>> votes(jnp.arange(2), key, None, x, gaussian, groups, see=see)
    Array([[0, 1],
           [0, 1]], dtype=int32)
  """
  noise = to_device(noise)
  standard = standard_draws(sample_ids, key, x, noise)

  def add_group(group: jax.Array, values: jax.Array) -> jax.Array:
    return see(params, noisy_inputs(standard, x, noise, group), group, groups, values)

  classes = () if num_classes is None else (num_classes,)
  init = jnp.zeros((sample_ids.size, groups.size, *classes), jnp.int32)
  return jax.lax.fori_loop(0, noise.num_groups, add_group, init)


def standard_draws(
  sample_ids: jax.Array, key: jax.Array, x: jax.Array, noise: SmoothingDistribution
) -> jax.Array:
  """Standard draws of a chunk of samples, [S, ...], which all groups share (device).

  Sample i, of `sample_ids` [S], draws from `fold_in(key, i)`; `noise` is as `to_device` leaves it.

  Example:
    >>> from lrs_jax import noise
    >>> gaussian = to_device(noise.gaussian([[0.1]], cells=[0, 0]))
    >>> standard_draws(jnp.arange(3), jax.random.key(0), jnp.ones(2), gaussian).shape
    (3, 2)
  """
  keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, sample_ids)
  return jax.vmap(noise.draw, in_axes=(0, None, None))(keys, x, noise.cells)


def noisy_inputs(
  standard: jax.Array, x: jax.Array, noise: SmoothingDistribution, group: jax.Array
) -> jax.Array:
  """Noisy copies of x, [S, ...], as the outputs of a group see them, of standard draws (device).

  Example:
    >>> from lrs_jax import noise
    >>> gaussian = to_device(noise.gaussian([[0.5], [2.0]], cells=[0]))
    >>> noisy_inputs(jnp.asarray([[1.0], [-1.0]]), jnp.ones(1), gaussian, jnp.asarray(1)).tolist()
    [[3.0], [-1.0]]
  """
  return jax.vmap(perturbed, in_axes=(0, None, None, None))(standard, x, noise, group)


def whole_frame(apply: Apply, read: Read) -> See:
  """Evaluates the model on whole inputs.

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
    return jnp.where(_like(groups == group, values), seen, values)

  return see


def in_windows(
  apply: Callable[[Any, jax.Array, jax.Array], jax.Array],
  size: tuple[int, int],
  shape: tuple[int, int],
  starts: jax.Array,
  read: Read,
) -> See:
  """Evaluates the model on the window of the output that holds the group.

  `apply`, (params, x, start [2]) -> logits [h, w, K], `size`, (h, w), and `starts`, int32 [G, 2],
  are those of `Windows`; `shape` is (H, W) of the whole output.

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
    classes = values.shape[2:]
    seen = jax.vmap(lambda z: read(apply(params, z, start)))(noisy).reshape(-1, *size, *classes)
    beyond = (0, size[0]), (0, size[1])
    frames = values.reshape(-1, *shape, *classes)
    frames = jnp.pad(frames, ((0, 0), *beyond, *((0, 0) for _ in classes)))
    owner = jnp.pad(groups.reshape(shape), beyond, constant_values=-1)
    mine = jax.lax.dynamic_slice(owner, start, size) == group
    zero = jnp.zeros((), jnp.int32)
    corner = (zero, *start, *(zero for _ in classes))
    before = jax.lax.dynamic_slice(frames, corner, (len(frames), *size, *classes))
    seen = jnp.where(_like(mine, seen), seen, before)
    frames = jax.lax.dynamic_update_slice(frames, seen, corner)
    return frames[:, : shape[0], : shape[1]].reshape(values.shape)

  return see


def _like(mask: jax.Array, values: jax.Array) -> jax.Array:
  """A mask of outputs with the axes of values: samples before the outputs', classes after them."""
  return mask.reshape(1, *mask.shape, *(1 for _ in range(values.ndim - mask.ndim - 1)))


def device_totals(
  add: Callable[[Any, jax.Array, jax.Array, Any], Any],
  init: Any,
  sample_range: jax.Array,
  args: Any,
  *,
  chunk_size: int,
  mesh: Mesh,
) -> Any:
  """Every device's total of a statistic over its samples: the one device mapping.

  Args:
    add: (total, sample_ids [chunk], valid [chunk], args) -> total; leaves out samples not valid.
    init: pytree of integer arrays, the total of no samples.
    sample_range: int32 [2], first sample and one past the last.
    args: pytree, replicated on every device and passed to `add`.
    chunk_size: samples per call of `add`.
    mesh: one-dimensional mesh; device d takes the chunks d, d + devices, ...

  Returns:
    The totals, arrays [devices, ...], each on its device; `summed` adds them up.

  Example:
    >>> mesh = jax.make_mesh((1,), ("samples",), devices=jax.devices()[:1])
    >>> add = lambda total, sample_ids, valid, args: total + jnp.where(valid, sample_ids, 0).sum()
    >>> zero, sample_range = jnp.zeros((), jnp.int32), jnp.asarray([2, 5], jnp.int32)
    >>> device_totals(add, zero, sample_range, None, chunk_size=2, mesh=mesh)  # 2 + 3 + 4
    Array([9], dtype=int32)
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
    return jax.tree.map(lambda total: total[None], jax.lax.fori_loop(0, rounds, add_chunk, init))

  # Each device holds a total of its own; vma tracking would want the zeros marked so.
  return jax.shard_map(
    on_device, mesh=mesh, in_specs=(P(), P()), out_specs=P(axis), check_vma=False
  )(sample_range, args)


def summed(totals: Any) -> Any:
  """The sum of `device_totals`, by the host: no device has to wait for another.

  XLA ends the whole process where a device of a CPU waits for another one for more than 40 seconds.
  Inside of a compiled function, and where devices belong to several processes, they do wait.

  Example:
    >>> summed(jnp.asarray([[1, 2], [3, 4]], jnp.int32))
    Array([4, 6], dtype=int32)
  """

  def of_leaf(leaf: jax.Array) -> jax.Array:
    if leaf.shape[0] == 1:
      return leaf[0]
    if leaf.size == 0:  # JAX does not put such parts together again
      return jnp.zeros(leaf.shape[1:], leaf.dtype)
    if isinstance(leaf, jax.core.Tracer):
      return leaf.sum(axis=0, dtype=leaf.dtype)
    if not leaf.is_fully_addressable:
      everywhere = NamedSharding(cast(NamedSharding, leaf.sharding).mesh, P())
      return jax.jit(partial(jnp.sum, axis=0, dtype=leaf.dtype), out_shardings=everywhere)(leaf)
    return jnp.asarray(np.asarray(leaf).sum(axis=0, dtype=leaf.dtype))

  return jax.tree.map(of_leaf, totals)
