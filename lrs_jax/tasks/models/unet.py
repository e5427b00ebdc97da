"""U-Net: pixel-wise classification with BatchNorm, which at inference is a fixed affine map."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lrs_jax.tasks.models import folding
from lrs_jax.tasks.models.folding import Layer


class UNet(nn.Module):
  """Encoder and decoder with skip connections, for images of any size (device).

  Level l of `depth` + 1 has `width` 2^l channels at 1 / 2^l of the resolution; every level is two
  3 x 3 convolutions, each followed by BatchNorm and ReLU. Odd sizes are pooled upwards and cropped
  on the way back.

  References: Ronneberger et al. 2015 (arXiv 1505.04597), with BatchNorm and "same" padding.
  """

  num_classes: int  # K
  width: int = 16  # channels at full resolution
  depth: int = 3  # number of poolings

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Logits [..., H, W, K] of images [..., H, W, channels] in [0, 1], noise included."""
    layer = folding.trained(self.width, train)
    x = decode(layer, *encode(layer, x, self.depth))
    return nn.Conv(self.num_classes, (1, 1), name="logits")(x)


def encode(layer: Layer, x: jax.Array, depth: int) -> tuple[list[jax.Array], jax.Array]:
  """Skip connections [..., h, w, features], finest first, and the bottom's features."""
  x = folding.scaled(x)
  by_two = (*(1,) * (x.ndim - 3), 2, 2, 1)
  skips = []
  for level in range(depth):
    x = _block(layer, x, level, f"down_{level}")
    skips.append(x)
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, by_two, by_two, "SAME")
  return skips, _block(layer, x, depth, "bottom")


def decode(layer: Layer, skips: list[jax.Array], x: jax.Array) -> jax.Array:
  """The features [..., H, W, width] of which logits are made."""
  for level, skip in reversed(list(enumerate(skips))):
    x = upsample(layer(x, 1 << level, f"up_{level}", size=1))
    x = jnp.concatenate([x[..., : skip.shape[-3], : skip.shape[-2], :], skip], axis=-1)
    x = _block(layer, x, level, f"up_{level}")
  return x


def upsample(x: jax.Array) -> jax.Array:
  """Doubles every pixel along both axes."""
  return jnp.repeat(jnp.repeat(x, 2, axis=-3), 2, axis=-2)


def _block(layer: Layer, x: jax.Array, level: int, name: str) -> jax.Array:
  for i in range(2):
    x = nn.relu(layer(x, 1 << level, f"{name}_conv_{i}"))
  return x
