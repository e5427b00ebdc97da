"""A network for volumes that sees only so far: slab convolutions, with BatchNorm.

A convolution of 3 x 3 x 3 voxels is one of 3 x 3 pixels whose channels are those of three slices.
Every layer is made so: XLA runs it five to twenty times faster on a CPU than its three-dimensional
convolutions, and it is folded as that of an image is.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lrs_jax.tasks.models import folding
from lrs_jax.tasks.models.folding import Folded, Layer, fold

__all__ = ["Folded", "Slabs", "apply", "fold", "reach"]


class Slabs(nn.Module):
  """Voxel-wise classification of volumes of any size (device).

  A convolution at full resolution; one of stride 2, and `depth` more at half the resolution; and
  for every voxel a perceptron of what both say of it.
  """

  num_classes: int  # K
  width: int = 8  # channels at full resolution, half of those at half the resolution
  depth: int = 3  # convolutions at half the resolution

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Logits [..., D, H, W, K] of volumes [..., D, H, W, 1] in [0, 1], noise included."""
    x = _features(folding.trained(self.width, train), x, self.depth)
    return nn.Conv(self.num_classes, (1, 1), name="logits")(x)


def apply(params: Folded, x: jax.Array) -> jax.Array:
  """Logits [D, H, W, K] of a volume [D, H, W, 1]: equal to `Slabs.apply` up to rounding."""

  def layer(x: jax.Array, units: int, name: str, *, size: int = 3, stride: int = 1) -> jax.Array:
    return jax.vmap(lambda image: folding.convolve(params[name], image, "SAME", stride))(x)

  depth = sum(name.startswith("middle_") for name in params)
  return layer(_features(layer, x, depth), 1, "logits")


def _features(layer: Layer, x: jax.Array, depth: int) -> jax.Array:
  """What the perceptrons make of volumes [..., D, H, W, 1]: [..., D, H, W, 2 width]."""
  skip = nn.relu(layer(stack(folding.scaled(x)), 1, "stem_conv_0"))
  x = nn.relu(layer(pair(skip), 2, "down_conv_0", size=2, stride=2))
  for i in range(depth):
    x = nn.relu(layer(stack(x), 2, f"middle_{i}_conv_0"))
  x = jnp.concatenate([enlarge(x, skip.shape), skip], axis=-1)
  return nn.relu(layer(x, 2, "head_conv_0", size=1))


def reach(depth: int) -> int:
  """How far the network sees: beyond so many voxels (Chebyshev), no logit depends on the input.

  The stem sees 1 voxel farther, every convolution at half the resolution 2, and a logit stands for
  either half of a pair.

  Example:
    >>> reach(3)
    8
  """
  return 2 * depth + 2


def stack(x: jax.Array) -> jax.Array:
  """Gives every slice the channels of its neighbours: [..., D, H, W, c] -> [..., D, H, W, 3 c].

  Example:
    >>> stack(jnp.arange(3).reshape(3, 1, 1, 1)).tolist()
    [[[[0, 0, 1]]], [[[0, 1, 2]]], [[[1, 2, 0]]]]
  """
  slices, depth_axis = x.shape[-4], x.ndim - 4
  padded = jnp.pad(x, [(int(axis == depth_axis),) * 2 for axis in range(x.ndim)])
  shifted = [jax.lax.slice_in_dim(padded, i, i + slices, axis=depth_axis) for i in range(3)]
  return jnp.concatenate(shifted, axis=-1)


def pair(x: jax.Array) -> jax.Array:
  """Makes one slice of two: [..., D, H, W, c] -> [..., D / 2, H, W, 2 c], D / 2 rounded up.

  Example:
    >>> pair(jnp.arange(3).reshape(3, 1, 1, 1)).tolist()
    [[[[0, 1]]], [[[2, 0]]]]
  """
  depth_axis = x.ndim - 4
  padded = jnp.pad(x, [(0, x.shape[-4] % 2 if axis == depth_axis else 0) for axis in range(x.ndim)])
  even, odd = (
    jax.lax.slice_in_dim(padded, i, padded.shape[-4], stride=2, axis=depth_axis) for i in range(2)
  )
  return jnp.concatenate([even, odd], axis=-1)


def enlarge(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Doubles every voxel along every axis, and cuts to the volumes of `shape` [..., D, H, W, .].

  Example:
    >>> enlarge(jnp.ones((1, 1, 2, 5)), (2, 2, 3, 1)).shape
    (2, 2, 3, 5)
  """
  for axis in (-4, -3, -2):
    x = jnp.repeat(x, 2, axis=axis)
  return x[..., : shape[-4], : shape[-3], : shape[-2], :]
