"""The U-Net as it is certified: BatchNorm folded into the convolutions, whole or window by window.

Every function is one of plain arrays, for one image. A window of the logits needs the decoder on
the window alone, and the encoder on its receptive field: most of the work is unnecessary.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax.cells import views
from lrs_jax.cells.views import View
from lrs_jax.tasks.models import folding, unet
from lrs_jax.tasks.models.folding import Folded, convolve, fold

__all__ = ["Folded", "alignment", "apply", "fold", "reach", "view", "window"]


def apply(params: Folded, x: jax.Array) -> jax.Array:
  """Logits [H, W, K] of an image [H, W, channels]: equal to `UNet.apply` up to rounding."""
  layer = folding.folded(params)
  x = unet.decode(layer, *unet.encode(layer, x, _depth(params)))
  return convolve(params["logits"], x, "SAME")


@functools.cache  # one function a size, so that what samples is compiled once
def window(size: tuple[int, int]) -> Callable[[Folded, jax.Array, jax.Array], jax.Array]:
  """Makes the function that evaluates the logits of one window of an image.

  The image is cut to the window's receptive field first (46 pixels on every side for depth 3). A
  cut ends there or at the image's own border, so that the zeros which a convolution sees beyond it
  are either the image's or too far away to matter.

  At level l the decoder works on the window, which starts at start / 2^l there, and a margin on
  every side: none at the end, and for two 3 x 3 convolutions and an upsampling, half of 2 more on
  the next coarser level, rounded up. What lies outside the image is zero before every convolution.

  Returns:
    (params, x, start) -> logits of the (h, w) = `size` pixels from row start[0] and column start[1]
    on, equal to those of `apply` up to rounding. `start` is int32 [2], non-negative multiples of
    `alignment(params)`, and may be traced. The window may leave the image by less than that on the
    right and below, where its logits mean nothing.
  """

  def apply_window(params: Folded, x: jax.Array, start: jax.Array) -> jax.Array:
    depth = _depth(params)
    margins, (x, start) = _margins(depth), _receptive_field(x, start, size, depth)

    def cut(features: jax.Array, level: int, margin: int) -> jax.Array:
      """The window with its margin out of a level's features, zero outside the image."""
      beyond = margin + (1 << (depth - level))
      padded = jnp.pad(features, ((margin, beyond), (margin, beyond), (0, 0)))
      return folding.cut(padded, start >> level, extent(level, margin))

    def extent(level: int, margin: int) -> tuple[int, int]:
      return _at(size[0], level) + 2 * margin, _at(size[1], level) + 2 * margin

    skips, bottom = unet.encode(folding.folded(params), x, depth)
    x = cut(bottom, depth, margins[-1])
    for level, skip in reversed(list(enumerate(skips))):
      margin = margins[level] + 2
      x = unet.upsample(convolve(params[f"up_{level}"], x, "VALID"))
      surplus, (rows, columns) = 2 * margins[level + 1] - margin, extent(level, margin)
      x = x[surplus : surplus + rows, surplus : surplus + columns]
      first = (start >> level) - margin
      x = jnp.where(_inside(first, x, skip), x, 0)
      x = jnp.concatenate([x, cut(skip, level, margin)], axis=-1)
      x = jax.nn.relu(convolve(params[f"up_{level}_conv_0"], x, "VALID"))
      x = jnp.where(_inside(first + 1, x, skip), x, 0)
      x = jax.nn.relu(convolve(params[f"up_{level}_conv_1"], x, "VALID"))
    return convolve(params["logits"], x, "VALID")

  return apply_window


def alignment(params: Folded) -> int:
  """What a window's start must be a multiple of: 2^depth."""
  return 1 << _depth(params)


def view(depth: int, shape: tuple[int, ...]) -> View:
  """What the network lets every logit of an image [H, W] see, exactly.

  Level by level: two 3 x 3 convolutions see two pixels of their level farther, poolings put two
  pixels together, by their place in the image, and the decoder goes back the same way. At depth 3
  a block of 8 pixels that poolings put together sees 46 pixels around it.
  """

  def along(size: int) -> np.ndarray:
    seen, skips = views.places(size), []
    for _ in range(depth):
      skips.append(views.spread(seen, 2))
      seen = views.pooled(skips[-1], 2)
    seen = views.spread(seen, 2)
    for skip in reversed(skips):
      seen = views.spread(views.joined(views.repeated(seen, 2, len(skip)), skip), 2)
    return seen

  origin = f"the layers of a U-Net of {depth} poolings, each two 3 x 3 convolutions"
  return View(tuple(along(size) for size in shape), origin)


def reach(params: Folded) -> int:
  """How far the network sees to any side (Chebyshev), whatever the pixel's place in `view` is.

  A window's receptive field is about a block of 2^depth pixels, wherever in it the logit lies.
  """
  return _field(_depth(params)) + alignment(params) - 1


def _field(depth: int) -> int:
  """Pixels around a block of 2^depth on which its logits depend: two at the bottom beside the
  decoder's margin, then for two convolutions and a pooling twice as much and 2 more a level."""
  margin = _margins(depth)[-1] + 2
  for _ in range(depth):
    margin = 2 * margin + 2
  return margin


def _depth(params: Folded) -> int:
  return sum(name.startswith("up_") and "_conv_" not in name for name in params)


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
  """Cuts out, along the pooling's grid, what a window's logits depend on, and its start in that."""
  margin = _at(_field(depth), depth) << depth
  height, width = (
    min(whole, (_at(n, depth) << depth) + 2 * margin + whole % (1 << depth))
    for whole, n in zip(x.shape[:2], size, strict=True)
  )
  last = jnp.asarray((x.shape[0] - height, x.shape[1] - width), jnp.int32)
  first = jnp.clip(start - margin, 0, last)
  return folding.cut(x, first, (height, width)), start - first


def _inside(first: jax.Array, x: jax.Array, whole: jax.Array) -> jax.Array:
  """Which pixels of x, whose first one is `first` of `whole`, lie inside `whole`: [h, w, 1]."""
  at = (first[i] + jnp.arange(x.shape[i], dtype=jnp.int32) for i in range(2))
  rows, columns = ((a >= 0) & (a < n) for a, n in zip(at, whole.shape[:2], strict=True))
  return rows[:, None, None] & columns[None, :, None]
