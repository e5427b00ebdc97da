"""DeepLabv3: atrous convolutions instead of poolings, with BatchNorm, affine at inference."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lrs_jax.tasks.models import folding
from lrs_jax.tasks.models.folding import Layer

STRIDE = 8  # one pixel of the features is so many pixels of the image high and wide
STAGES = ((1, 2, 1), (2, 2, 1), (4, 1, 2), (4, 1, 4))
"""Of every stage: channels in units of `width`, stride of its first block, rate of its kernels."""


class DeepLab(nn.Module):
  """Residual network of atrous convolutions and a pyramid of them, for images of any size (device).

  A 3 x 3 convolution of stride 2 and four stages of `depth` residual blocks (two 3 x 3 convolutions
  each) bring the image to 1 / 8 of its resolution; the last two keep it there with kernels spread
  by rates of 2 and 4. The head sees these features by a 1 x 1 convolution, 3 x 3 ones at several
  rates, and their mean over the image, and projects all that to the logits, which are enlarged by
  bilinear interpolation. Every convolution is followed by BatchNorm, and ReLU.

  References: Chen et al. 2017 (arXiv 1706.05587), section 3, at output stride 8, on a small network
  of He et al. 2016 (arXiv 1512.03385).
  """

  num_classes: int  # K
  width: int = 16  # channels at 1 / 2 of the resolution
  depth: int = 2  # residual blocks per stage
  rates: tuple[int, ...] = (3, 6, 9)  # of the head, in pixels of the features

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Logits [..., H, W, K] of images [..., H, W, channels] in [0, 1], noise included."""
    *batch, height, width, _ = x.shape
    layer = folding.trained(self.width, train)
    x = encode(layer, x, self.depth)
    units = x.shape[-1] // self.width
    seen = [layer(x, units, "point_conv_0", size=1)]
    seen += [layer(x, units, f"atrous_{rate}_conv_0", rate=rate) for rate in sorted(self.rates)]
    mean = layer(x.mean(axis=(-3, -2), keepdims=True), units, "mean_conv_0", size=1)
    seen.append(jnp.broadcast_to(mean, x.shape))
    x = nn.relu(jnp.concatenate(seen, axis=-1))
    x = nn.relu(layer(x, units, "project_conv_0", size=1))
    x = nn.Conv(self.num_classes, (1, 1), name="logits")(x)
    enlarged = (*batch, x.shape[-3] * STRIDE, x.shape[-2] * STRIDE, self.num_classes)
    return jax.image.resize(x, enlarged, "bilinear")[..., :height, :width, :]


def encode(layer: Layer, x: jax.Array, depth: int) -> jax.Array:
  """The features [..., h, w, .] of images [..., H, W, channels]."""
  x = nn.relu(layer(folding.scaled(x), 1, "stem_conv_0", stride=2))
  for stage, (units, first_stride, rate) in enumerate(STAGES):
    for block in range(depth):
      name, stride = f"stage_{stage}_{block}_conv", 1 if block else first_stride
      y = nn.relu(layer(x, units, f"{name}_0", stride=stride, rate=rate))
      y = layer(y, units, f"{name}_1", rate=rate)
      if x.shape != y.shape:
        x = layer(x, units, f"{name}_skip", size=1, stride=stride)
      x = nn.relu(x + y)
  return x
