"""Certifies a segmentation network of Flax Linen on images of your own.

lrs-jax certify my_task.py:TASK --images 'photos/*.png'

That runs as it is, with a network that is not trained. Put yours in its place;
`lrs-jax certify my_task.py:TASK --help` explains all options.
"""

import flax.linen as nn
import jax
import numpy as np

from lrs_jax.tasks.photos import segmentation

# The classes, in the order of the logits.
CLASSES = ("background", "object")


class Network(nn.Module):
  """Two convolutions; yours goes here, or is imported."""

  @nn.compact
  def __call__(self, image):
    """Logits [H, W, K] of an image [H, W, 3]."""
    hidden = nn.relu(nn.Conv(8, (3, 3))(image))
    return nn.Conv(len(CLASSES), (3, 3))(hidden)


def load():
  """The network's variables: read those that you trained from your file here.

  Of a network that was trained under noise of --std far more is certified.
  """
  return Network().init(jax.random.key(0), np.zeros((16, 16, 3), np.float32))


def apply(variables, image):
  """Logits [H, W, K] of one image, float32 [H, W, 3].

  The values are those of the file over 255, with noise added to them, so that they leave [0, 1]. If
  your network wants them otherwise, such as with a mean subtracted, do it here. Batch normalization
  must use its stored statistics (`train=False` or `use_running_average=True`).
  """
  return Network().apply(variables, image)


def view(shape):
  """How many pixels away from a pixel the network looks, at most, in an image of (H, W) pixels.

  The less it is, the more is certified. One that is too small makes certificates wrong: what is
  said here is tested by changing pixels farther away, but it must follow from the layers: dilations
  and the strides before a layer multiply what it adds (docs/other_frameworks.md). Where you
  do not know, give `segmentation` no view.
  """
  return 2  # one for each convolution of 3 x 3


TASK = segmentation("my_task", apply, load, CLASSES, view=view)
