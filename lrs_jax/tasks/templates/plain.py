"""Certifies a segmentation model, a function of JAX, on images of your own.

lrs-jax certify my_task.py:TASK --images 'photos/*.png'

That runs as it is. Put your model in the place of this one, which tells bright pixels from dark
ones; `lrs-jax certify my_task.py:TASK --help` explains all options.
"""

import jax.numpy as jnp
import numpy as np

from lrs_jax.tasks.photos import segmentation

# The classes, in the order of the logits.
CLASSES = ("dark", "bright")


def load():
  """The model's weights, any pytree of arrays: read them from your file here."""
  return {"threshold": np.full((), 0.5, np.float32)}


def apply(params, image):
  """Logits [H, W, K] of one image, float32 [H, W, 3].

  The values are those of the file over 255, with noise added to them, so that they leave [0, 1]. If
  your model wants them otherwise, such as with a mean subtracted, do it here.
  """
  gray = image.mean(axis=-1)
  return jnp.stack([params["threshold"] - gray, gray - params["threshold"]], axis=-1)


def view(shape):
  """How many pixels away from a pixel the model looks, at most, in an image of (H, W) pixels.

  The less it is, the more is certified. One that is too small makes certificates wrong: what is
  said here is tested by changing pixels farther away, but it must follow from the model's layers.
  Where you do not know, give `segmentation` no view.
  """
  return 0


TASK = segmentation("my_task", apply, load, CLASSES, view=view)
