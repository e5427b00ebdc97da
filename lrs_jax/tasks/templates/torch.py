"""Certifies a segmentation network of PyTorch on images of your own.

lrs-jax certify my_task.py:TASK --images 'photos/*.png'

That runs as it is, with a network that is not trained. Put yours in its place;
`lrs-jax certify my_task.py:TASK --help` explains all options.
"""

import numpy as np
import torch

from lrs_jax.tasks.photos import external_segmentation

# The classes, in the order of the logits.
CLASSES = ("background", "object")

# Files that decide what the model is: their SHA-256 is on record. Put the weights here, too.
FILES = [__file__]


def load():
  """The model, as a function of batches of images."""
  torch.manual_seed(0)
  model = torch.nn.Sequential(  # yours instead: images [B, 3, H, W] -> logits [B, K, H, W]
    torch.nn.Conv2d(3, 8, 3, padding=1),
    torch.nn.ReLU(),
    torch.nn.Conv2d(8, len(CLASSES), 3, padding=1),
  )
  # model.load_state_dict(torch.load("weights.pt", weights_only=True))
  # Of one that was trained under noise of --std far more is certified.
  model.eval()  # dropout off, running averages instead of the batch's statistics

  def predict(images):
    """Logits [B, H, W, K] of images, float32 [B, H, W, 3].

    The values are those of the files over 255, with noise added to them, so that they leave [0, 1].
    If your model wants them otherwise, such as with a mean subtracted, do it here.
    """
    with torch.inference_mode():
      logits = model(torch.from_numpy(np.moveaxis(images, -1, 1).copy()))
    return np.moveaxis(logits.cpu().numpy(), 1, -1)

  return predict


def view(shape):
  """How many pixels away from a pixel the network looks, at most, in an image of (H, W) pixels.

  The less it is, the more is certified. One that is too small makes certificates wrong: what is
  said here is tested by changing pixels farther away, but it must follow from the layers: dilations
  and the strides before a layer multiply what it adds (docs/other_frameworks.md). Where you
  do not know, give `external_segmentation` no view.
  """
  return 2  # one for each convolution of 3 x 3


TASK = external_segmentation("my_task", load, CLASSES, FILES, view=view)
