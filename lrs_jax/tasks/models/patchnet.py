"""PatchNet: a residual network on patches of pixels, which sees little of an image and is cheap."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lrs_jax.tasks.models import folding
from lrs_jax.tasks.models.folding import Layer

PATCH = 4  # pixels of a patch, in rows and columns


class PatchNet(nn.Module):
  """Residual blocks at a quarter of the resolution, for images of any size (device).

  One convolution takes every patch of 4 x 4 pixels to `width` channels; `depth` blocks of two 3 x 3
  convolutions follow, and a linear layer says the logits of all pixels of a patch. Convolutions are
  followed by BatchNorm and ReLU. A pixel sees 8 `depth` pixels around its patch, and no more.

  References: He et al. 2016 (arXiv 1512.03385) for the blocks, Shi et al. 2016 (arXiv 1609.05158)
    for the way back to pixels.
  """

  num_classes: int  # K
  width: int = 48
  depth: int = 2  # residual blocks

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Logits [..., H, W, K] of images [..., H, W, channels] in [0, 1], noise included."""
    height, width = x.shape[-3:-1]
    x = features(folding.trained(self.width, train), patches(x), self.depth)
    x = nn.Conv(PATCH**2 * self.num_classes, (1, 1), name="logits")(x)
    return pixels(x)[..., :height, :width, :]


def patches(x: jax.Array) -> jax.Array:
  """Images of whole patches, scaled: patches begin at the first pixel, zeros fill up the last."""
  rest = [(0, -n % PATCH) for n in x.shape[-3:-1]]
  return jnp.pad(folding.scaled(x), (*((0, 0),) * (x.ndim - 3), *rest, (0, 0)))


def features(layer: Layer, x: jax.Array, depth: int) -> jax.Array:
  """What is known of every patch, [..., h, w, width]."""
  x = nn.relu(layer(x, 1, "stem_conv_0", size=PATCH, stride=PATCH))
  for block in range(depth):
    y = nn.relu(layer(x, 1, f"block_{block}_conv_0"))
    x = nn.relu(x + layer(y, 1, f"block_{block}_conv_1"))
  return x


def pixels(x: jax.Array) -> jax.Array:
  """Logits [..., H, W, K] of pixels, from those of patches [..., h, w, 16 K]."""
  *batch, rows, columns, _ = x.shape
  x = x.reshape(*batch, rows, columns, PATCH, PATCH, -1)
  return jnp.swapaxes(x, -4, -3).reshape(*batch, rows * PATCH, columns * PATCH, x.shape[-1])
