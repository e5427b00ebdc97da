r"""The U-Net as it is certified: BatchNorm folded into the convolutions, whole or window by window.

At inference BatchNorm is an affine map, so that convolution and norm are one convolution:
:math:`\gamma (k * x - \mu) / \sqrt{v + \epsilon} + \beta = k' * x + b'`. Every function here is one
of plain arrays, for one image. A window of the logits needs the decoder on the window alone, and
the encoder on its receptive field, which makes most of the work unnecessary.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lrs_jax.tasks.models.folding import Folded, convolve, fold

__all__ = ["Folded", "alignment", "apply", "fold", "reach", "window"]


def apply(params: Folded, x: jax.Array) -> jax.Array:
  """Logits [H, W, K] of an image [H, W, channels]: equal to `UNet.apply` up to rounding."""
  skips, x = _encode(params, x)
  for level, skip in reversed(list(enumerate(skips))):
    x = _upsample(convolve(params[f"up_{level}"], x, "SAME"))
    x = jnp.concatenate([x[: skip.shape[0], : skip.shape[1]], skip], axis=-1)
    x = _block(params, f"up_{level}", x)
  return convolve(params["logits"], x, "SAME")


def window(size: tuple[int, int]) -> Callable[[Folded, jax.Array, jax.Array], jax.Array]:
  """Makes the function that evaluates the logits of one window of an image.

  The image is cut to the window's receptive field first (46 pixels on every side for depth 3). A
  cut ends there or at the image's own border, so that the zeros which a convolution sees beyond it
  are either the image's or too far away to matter.

  At level l the decoder works on the window, which starts at start / 2^l there, and a margin on
  every side: none at the end, and for two 3 x 3 convolutions and an upsampling, half of 2 more on
  the next coarser level, rounded up. What lies outside the image is zero before every convolution.

  Args:
    size: (h, w) of the window.

  Returns:
    (params, x, start) -> logits [h, w, K] of the rows start[0], ... and columns start[1], ...,
    equal to those of `apply` up to rounding. `start` is int32 [2], non-negative multiples of
    `alignment(params)`, and may be traced. The window may leave the image by less than that on the
    right and below, where its logits mean nothing.
  """

  def apply_window(params: Folded, x: jax.Array, start: jax.Array) -> jax.Array:
    depth = _depth(params)
    margins = _margins(depth)
    x, start = _receptive_field(x, start, size, depth)
    skips, bottom = _encode(params, x)
    x = _cut(bottom, start, size, depth, margins[-1], depth)
    for level, skip in reversed(list(enumerate(skips))):
      margin = margins[level] + 2
      x = _upsample(convolve(params[f"up_{level}"], x, "VALID"))
      surplus = 2 * margins[level + 1] - margin
      rows, columns = (_at(n, level) + 2 * margin for n in size)
      x = x[surplus : surplus + rows, surplus : surplus + columns]
      first = (start >> level) - margin
      x = jnp.where(_inside(first, x, skip), x, 0)
      x = jnp.concatenate([x, _cut(skip, start, size, level, margin, depth)], axis=-1)
      x = jax.nn.relu(convolve(params[f"up_{level}_conv_0"], x, "VALID"))
      x = jnp.where(_inside(first + 1, x, skip), x, 0)
      x = jax.nn.relu(convolve(params[f"up_{level}_conv_1"], x, "VALID"))
    return convolve(params["logits"], x, "VALID")

  return apply_window


def alignment(params: Folded) -> int:
  """What a window's start must be a multiple of: 2^depth."""
  return 1 << _depth(params)


def reach(params: Folded) -> int:
  """How far the network sees: beyond so many pixels (Chebyshev), no logit depends on the input.

  A window's receptive field is about a block of 2^depth pixels, wherever in it the logit lies.
  """
  depth = _depth(params)
  return _field(depth) + (1 << depth) - 1


def _field(depth: int) -> int:
  """Pixels around a block of 2^depth on which its logits depend: two at the bottom beside the
  decoder's margin, then for two convolutions and a pooling twice as much and 2 more a level."""
  margin = _margins(depth)[-1] + 2
  for _ in range(depth):
    margin = 2 * margin + 2
  return margin


def _depth(params: Folded) -> int:
  return sum(name.startswith("up_") and "_conv_" not in name for name in params)


def _encode(params: Folded, x: jax.Array) -> tuple[list[jax.Array], jax.Array]:
  """Skip connections [h, w, features], finest first, and the bottom's features."""
  x = (x - 0.5) / 0.25
  skips = []
  for level in range(_depth(params)):
    x = _block(params, f"down_{level}", x)
    skips.append(x)
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 2, 1), (2, 2, 1), "SAME")
  return skips, _block(params, "bottom", x)


def _block(params: Folded, name: str, x: jax.Array) -> jax.Array:
  for i in range(2):
    x = jax.nn.relu(convolve(params[f"{name}_conv_{i}"], x, "SAME"))
  return x


def _upsample(x: jax.Array) -> jax.Array:
  return jnp.repeat(jnp.repeat(x, 2, axis=0), 2, axis=1)


def _at(size: int, level: int) -> int:
  """A size at full resolution in pixels of a level, rounded up."""
  return -(-size >> level)


def _margins(depth: int) -> list[int]:
  """How far beyond the window the decoder's output at every level is needed, in its pixels."""
  margins = [0]
  for _ in range(depth):
    margins.append((margins[-1] + 3) // 2)
  return margins


def _receptive_field(
  x: jax.Array, start: jax.Array, size: tuple[int, int], depth: int
) -> tuple[jax.Array, jax.Array]:
  """Cuts out of the image what a window's logits depend on; also where the window starts in it.

  The cut's start and what it ends with are those of the pooling's grid.
  """
  step = 1 << depth
  margin = _up(_field(depth), step)
  height, width = (
    min(whole, _up(n, step) + 2 * margin + whole % step)
    for whole, n in zip(x.shape[:2], size, strict=True)
  )
  last = jnp.asarray((x.shape[0] - height, x.shape[1] - width), jnp.int32)
  first = jnp.clip(start - margin, 0, last)
  corner = (*first, jnp.zeros((), jnp.int32))
  return jax.lax.dynamic_slice(x, corner, (height, width, x.shape[2])), start - first


def _up(size: int, step: int) -> int:
  """The next multiple of step."""
  return -(-size // step) * step


def _cut(
  x: jax.Array, start: jax.Array, size: tuple[int, int], level: int, margin: int, depth: int
) -> jax.Array:
  """The window with its margin out of a level's features, zero outside the image."""
  beyond = margin + (1 << (depth - level))
  padded = jnp.pad(x, ((margin, beyond), (margin, beyond), (0, 0)))
  rows, columns = (_at(n, level) + 2 * margin for n in size)
  first = start >> level
  corner = (*first, jnp.zeros((), jnp.int32))
  return jax.lax.dynamic_slice(padded, corner, (rows, columns, x.shape[-1]))


def _inside(first: jax.Array, x: jax.Array, whole: jax.Array) -> jax.Array:
  """Which pixels of x, whose first one is `first` of `whole`, lie inside `whole`: [h, w, 1]."""
  row, column = (first[i] + jnp.arange(x.shape[i], dtype=jnp.int32) for i in range(2))
  rows = (row >= 0) & (row < whole.shape[0])
  columns = (column >= 0) & (column < whole.shape[1])
  return rows[:, None, None] & columns[None, :, None]
