"""The DeepLab as it is certified: BatchNorm folded in, whole or window by window.

Every function here is one of plain arrays, for one image. The mean over the image needs the
features of all of it; a window of the logits needs the head only there and in its receptive field.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lrs_jax.cells import views
from lrs_jax.cells.views import View
from lrs_jax.tasks.models import deeplab, folding
from lrs_jax.tasks.models.deeplab import STRIDE
from lrs_jax.tasks.models.folding import Folded, convolve, fold

__all__ = ["STRIDE", "Folded", "alignment", "apply", "fold", "view", "window"]


def apply(params: Folded, x: jax.Array) -> jax.Array:
  """Logits [H, W, K] of an image [H, W, channels]: equal to `DeepLab.apply` up to rounding."""
  features = _encode(params, x)
  seen = [features, *(jnp.pad(features, ((r, r), (r, r), (0, 0))) for r in _rates(params))]
  logits = _head(params, seen, features)
  edged = jnp.pad(logits, ((1, 1), (1, 1), (0, 0)), mode="edge")
  return _enlarge(edged)[: x.shape[0], : x.shape[1]]


@functools.cache  # one function a size, so that what samples is compiled once
def window(size: tuple[int, int]) -> Callable[[Folded, jax.Array, jax.Array], jax.Array]:
  """As `folded_unet.window`, for starts that are multiples of `STRIDE`."""
  # Interpolation needs a pixel of the features more on every side.
  rows, columns = (-(-n // STRIDE) + 2 for n in size)

  def apply_window(params: Folded, x: jax.Array, start: jax.Array) -> jax.Array:
    features = _encode(params, x)
    height, width, _ = features.shape
    first = start // STRIDE - 1

    def cut(margin: int) -> jax.Array:
      """What a kernel of this reach needs; zero outside the image, as before any convolution."""
      before = margin + 1
      padded = jnp.pad(features, ((before, before + rows), (before, before + columns), (0, 0)))
      return folding.cut(padded, first + 1, (rows + 2 * margin, columns + 2 * margin))

    logits = _head(params, [cut(margin) for margin in (0, *_rates(params))], features)
    # Outside the image the logits are those of its nearest pixel, as `apply` interpolates.
    row = jnp.clip(first[0] + jnp.arange(rows, dtype=jnp.int32), 0, height - 1) - first[0]
    column = jnp.clip(first[1] + jnp.arange(columns, dtype=jnp.int32), 0, width - 1) - first[1]
    edged = logits[jnp.clip(row, 0, rows - 1)][:, jnp.clip(column, 0, columns - 1)]
    return _enlarge(edged)[: size[0], : size[1]]

  return apply_window


def view(depth: int, shape: tuple[int, ...]) -> View:
  """What the network lets every logit of an image [H, W] see: all of it, by its mean."""
  return views.whole(shape)


def alignment(params: Folded) -> int:
  """As `folded_unet.alignment`: `STRIDE`."""
  return STRIDE


def _rates(params: Folded) -> list[int]:
  return sorted(int(name.split("_")[1]) for name in params if name.startswith("atrous_"))


def _encode(params: Folded, x: jax.Array) -> jax.Array:
  depth = sum(name.startswith("stage_0_") and name.endswith("_conv_0") for name in params)
  return deeplab.encode(folding.folded(params), x, depth)


def _head(params: Folded, seen: list[jax.Array], features: jax.Array) -> jax.Array:
  """Logits [h, w, K] at the features' resolution, of all features and of what is `seen` of them.

  That is what the 1 x 1 kernel sees, [h, w, .], and those of every rate, with a margin of the rate.
  """
  branches = [convolve(params["point_conv_0"], seen[0], "VALID")]
  for rate, x in zip(_rates(params), seen[1:], strict=True):
    branches.append(convolve(params[f"atrous_{rate}_conv_0"], x, "VALID", rate=rate))
  mean = convolve(params["mean_conv_0"], features.mean(axis=(0, 1), keepdims=True), "VALID")
  # The mean is the same everywhere: what is made of it is a bias of the projection.
  kernel, bias = params["project_conv_0"]
  local = sum(branch.shape[-1] for branch in branches)
  rest = convolve((kernel[:, :, local:], bias), jax.nn.relu(mean), "VALID")[0, 0]
  x = jax.nn.relu(jnp.concatenate(branches, axis=-1))
  x = jax.nn.relu(convolve((kernel[:, :, :local], rest), x, "VALID"))
  return convolve(params["logits"], x, "VALID")


def _enlarge(x: jax.Array) -> jax.Array:
  """Bilinear interpolation by `STRIDE`, of what lies within a margin of one pixel."""
  after = (jnp.arange(STRIDE, dtype=x.dtype) + 0.5) / STRIDE  # between two pixels' centers
  for axis in (0, 1):
    x = jnp.moveaxis(x, axis, 0)
    weight = after[None, :, None, None]
    between = x[:-1, None] * (1 - weight) + x[1:, None] * weight
    x = between.reshape(-1, *x.shape[1:])[STRIDE // 2 : -STRIDE // 2]
    x = jnp.moveaxis(x, 0, axis)
  return x
