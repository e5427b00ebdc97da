"""Certifies a segmentation network of Flax NNX on images of your own.

lrs-jax certify my_task.py:TASK --images 'photos/*.png'

That runs as it is, with a network that is not trained. Put yours in its place;
`lrs-jax certify my_task.py:TASK --help` explains all options.
"""

from flax import nnx

from lrs_jax.tasks.photos import segmentation

# The classes, in the order of the logits.
CLASSES = ("background", "object")


class Network(nnx.Module):
  """Two convolutions; yours goes here, or is imported."""

  def __init__(self, rngs):
    self.first = nnx.Conv(3, 8, (3, 3), rngs=rngs)
    self.second = nnx.Conv(8, len(CLASSES), (3, 3), rngs=rngs)

  def __call__(self, image):
    """Logits [H, W, K] of an image [H, W, 3]."""
    return self.second(nnx.relu(self.first(image)))


# The network without its weights: read yours from its file, and call its `eval()`.
STRUCTURE, WEIGHTS = nnx.split(Network(nnx.Rngs(0)))


def load():
  """The network's weights. Of one that was trained under noise of --std far more is certified."""
  return WEIGHTS


def apply(weights, image):
  """Logits [H, W, K] of one image, float32 [H, W, 3].

  The values are those of the file over 255, with noise added to them, so that they leave [0, 1]. If
  your network wants them otherwise, such as with a mean subtracted, do it here.
  """
  return nnx.merge(STRUCTURE, weights)(image)


def view(shape):
  """How many pixels away from a pixel the network looks, at most, in an image of (H, W) pixels.

  The less it is, the more is certified. One that is too small makes certificates wrong: what is
  said here is tested by changing pixels farther away, but it must follow from the layers: dilations
  and the strides before a layer multiply what it adds (docs/other_frameworks.md). Where you
  do not know, give `segmentation` no view.
  """
  return 2  # one for each convolution of 3 x 3


TASK = segmentation("my_task", apply, load, CLASSES, view=view)
