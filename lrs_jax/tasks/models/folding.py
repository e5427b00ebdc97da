r"""Networks as they are certified: BatchNorm folded into the convolutions (device).

At inference BatchNorm is an affine map, so that convolution and norm are one convolution:
:math:`\gamma (k * x - \mu) / \sqrt{v + \epsilon} + \beta = k' * x + b'`.
"""

from collections.abc import Mapping
from typing import Any

import jax

Folded = Mapping[str, tuple[jax.Array, jax.Array]]
"""Kernel [h, w, in, out] and bias [out] of every convolution, by its name in the network."""

_EPSILON = 1e-5  # Flax's BatchNorm


def fold(variables: Any) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Folds every BatchNorm `..._norm_...` into the convolution `..._conv_...` before it.

  Args:
    variables: of a Flax model: {"params": ..., "batch_stats": ...}. A convolution with a bias has
      no norm.

  Returns:
    `Folded`.
  """
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
  kernel, bias = layer
  y = jax.lax.conv_general_dilated(
    x[None],
    kernel,
    (stride, stride),
    padding,
    rhs_dilation=(rate, rate),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  return y[0] + bias[None, None]
