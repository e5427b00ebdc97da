"""The PatchNet as it is certified: BatchNorm folded into the convolutions, whole or in windows."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax.cells import views
from lrs_jax.cells.views import View
from lrs_jax.tasks.models import folding, patchnet
from lrs_jax.tasks.models.folding import Folded, convolve, fold
from lrs_jax.tasks.models.patchnet import PATCH

__all__ = ["PATCH", "Folded", "alignment", "apply", "fold", "view", "window"]


def apply(params: Folded, x: jax.Array) -> jax.Array:
  """Logits [H, W, K] of an image [H, W, channels]: equal to `PatchNet.apply` up to rounding."""
  height, width, _ = x.shape
  return _logits(params, patchnet.patches(x))[:height, :width]


@functools.cache  # one function a size, so that what samples is compiled once
def window(size: tuple[int, int]) -> Callable[[Folded, jax.Array, jax.Array], jax.Array]:
  """As `folded_unet.window`, for starts that are multiples of `PATCH`.

  The network is evaluated on what the window sees. That is cut out along patches, inside the image
  or at its own border, where zeros are what a convolution sees beyond it.
  """

  def apply_window(params: Folded, x: jax.Array, start: jax.Array) -> jax.Array:
    x, margin = patchnet.patches(x), 2 * PATCH * _depth(params)
    needed = (n + -n % PATCH + 2 * margin for n in size)
    height, width = map(min, needed, x.shape[:2])
    last = jnp.asarray((x.shape[0] - height, x.shape[1] - width), jnp.int32)
    first = jnp.clip(start - margin, 0, last)
    logits = _logits(params, folding.cut(x, first, (height, width)))
    beyond = jnp.pad(logits, ((0, size[0]), (0, size[1]), (0, 0)))  # a window may leave the image
    return folding.cut(beyond, start - first, size)

  return apply_window


def alignment(params: Folded) -> int:
  """As `folded_unet.alignment`: `PATCH`."""
  return PATCH


def view(depth: int, shape: tuple[int, ...]) -> View:
  """What the network lets every logit of an image [H, W] see, exactly.

  Two 3 x 3 convolutions a block, of patches: 2 `depth` of them around a pixel's own.
  """

  def along(size: int) -> np.ndarray:
    patches = views.spread(views.pooled(views.places(size), PATCH), 2 * depth)
    return views.repeated(patches, PATCH, size)

  origin = f"the layers of a PatchNet of {depth} blocks, each two 3 x 3 convolutions of patches"
  return View(tuple(along(size) for size in shape), origin)


def _logits(params: Folded, x: jax.Array) -> jax.Array:
  x = patchnet.features(folding.folded(params), x, _depth(params))
  return patchnet.pixels(convolve(params["logits"], x, "SAME"))


def _depth(params: Folded) -> int:
  return sum(name.startswith("block_") and name.endswith("_conv_0") for name in params)
