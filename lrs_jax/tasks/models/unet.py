"""U-Net: pixel-wise classification with BatchNorm, which at inference is a fixed affine map."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class UNet(nn.Module):
  """Encoder and decoder with skip connections, for images of any size (device).

  Level l of `depth` + 1 has `width` 2^l channels at 1 / 2^l of the resolution; every level is two
  3 x 3 convolutions, each followed by BatchNorm and ReLU. Odd sizes are pooled upwards and cropped
  on the way back.

  Attributes:
    num_classes: K.
    width: channels at full resolution.
    depth: number of poolings.

  References:
    Ronneberger et al. 2015 (arXiv 1505.04597), with BatchNorm and "same" padding.
  """

  num_classes: int
  width: int = 16
  depth: int = 3

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Logits [..., H, W, K] of images [..., H, W, channels] in [0, 1], noise included."""
    x = (x - 0.5) / 0.25
    skips = []
    for level in range(self.depth):
      x = self._block(x, self.width << level, f"down_{level}", train)
      skips.append(x)
      x = nn.max_pool(x, (2, 2), strides=(2, 2), padding="SAME")
    x = self._block(x, self.width << self.depth, "bottom", train)
    for level in reversed(range(self.depth)):
      skip = skips[level]
      x = nn.Conv(self.width << level, (1, 1), name=f"up_{level}")(x)
      x = jnp.repeat(jnp.repeat(x, 2, axis=-3), 2, axis=-2)
      x = x[..., : skip.shape[-3], : skip.shape[-2], :]
      x = self._block(
        jnp.concatenate([x, skip], axis=-1), self.width << level, f"up_{level}", train
      )
    return nn.Conv(self.num_classes, (1, 1), name="logits")(x)

  def _block(self, x: jax.Array, features: int, name: str, train: bool) -> jax.Array:
    for i in range(2):
      x = nn.Conv(features, (3, 3), use_bias=False, name=f"{name}_conv_{i}")(x)
      x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name=f"{name}_norm_{i}")(x)
      x = nn.relu(x)
    return x
