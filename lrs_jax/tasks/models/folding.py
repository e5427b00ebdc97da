r"""Layers of convolutional networks, as they are trained and as they are certified (device).

A network is written once, of layers (x, units, name, size, stride, rate) -> y. Where `..._conv_...`
is a layer's name, BatchNorm follows the convolution; any other convolution has a bias.

At inference BatchNorm is an affine map, so that convolution and norm are one convolution:
:math:`\gamma (k * x - \mu) / \sqrt{v + \epsilon} + \beta = k' * x + b'`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Folded = Mapping[str, tuple[jax.Array, jax.Array]]
"""Kernel [h, w, in, out] and bias [out] of every convolution, by its name in the network."""

Layer = Callable[..., jax.Array]
"""A convolution of images: it makes `units` times the network's width of channels, by a kernel of
`size` x `size` pixels spread by `rate`."""

_EPSILON = 1e-5  # Flax's BatchNorm


def trained(width: int, train: bool) -> Layer:
  """The layers of a Flax network, for a compact method; `train` updates BatchNorm's statistics."""

  def layer(
    x: jax.Array, units: int, name: str, *, size: int = 3, stride: int = 1, rate: int = 1
  ) -> jax.Array:
    normed = "_conv_" in name
    features, kernel = width * units, (size, size)
    x = nn.Conv(features, kernel, stride, kernel_dilation=rate, use_bias=not normed, name=name)(x)
    if not normed:
      return x
    norm = name.replace("_conv_", "_norm_")
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, name=norm)(x)

  return layer


def folded(params: Folded) -> Layer:
  """The same layers of one image [H, W, .], from what `fold` makes of a network's variables."""

  def layer(
    x: jax.Array, units: int, name: str, *, size: int = 3, stride: int = 1, rate: int = 1
  ) -> jax.Array:
    return convolve(params[name], x, "SAME", stride, rate)

  return layer


def fold(variables: Any) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Folds every BatchNorm into the convolution before it, of a Flax model's variables."""
  params, statistics = variables["params"], variables["batch_stats"]
  folded = {}
  for name, layer in params.items():
    if "_norm_" in name:
      continue
    if "bias" in layer:
      folded[name] = layer["kernel"], layer["bias"]
      continue
    norm = name.replace("_conv_", "_norm_")
    gain = params[norm]["scale"] * jax.lax.rsqrt(statistics[norm]["var"] + _EPSILON)
    bias = params[norm]["bias"] - statistics[norm]["mean"] * gain
    folded[name] = layer["kernel"] * gain[None, None, None], bias
  return folded


def convolve(
  layer: tuple[jax.Array, jax.Array], x: jax.Array, padding: str, stride: int = 1, rate: int = 1
) -> jax.Array:
  """A folded convolution of an image [H, W, in], its kernel spread by `rate`."""
  (kernel, bias), order = layer, ("NHWC", "HWIO", "NHWC")
  y = jax.lax.conv_general_dilated(
    x[None], kernel, (stride,) * 2, padding, rhs_dilation=(rate,) * 2, dimension_numbers=order
  )
  return y[0] + bias[None, None]


def scaled(x: jax.Array) -> jax.Array:
  """Intensities in [0, 1], noise included, as every network takes them."""
  return (x - 0.5) / 0.25


def cut(x: jax.Array, start: jax.Array, size: tuple[int, int]) -> jax.Array:
  """The window [h, w, channels] of an image that begins at pixel `start`, int32 [2]."""
  return jax.lax.dynamic_slice(x, (*start, jnp.zeros((), jnp.int32)), (*size, x.shape[-1]))
