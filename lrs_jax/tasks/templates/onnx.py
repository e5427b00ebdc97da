"""Certifies a segmentation network in an ONNX file on images of your own.

lrs-jax certify my_task.py:TASK --images 'photos/*.png'

That runs as soon as there is a model.onnx beside this file;
`lrs-jax certify my_task.py:TASK --help` explains all options.
"""

from pathlib import Path

import numpy as np
import onnxruntime

from lrs_jax.tasks.photos import external_segmentation

# The classes, in the order of the logits.
CLASSES = ("background", "object")

# The model, images [B, 3, H, W] -> logits [B, K, H, W]. Its SHA-256 is on record.
MODEL = Path(__file__).with_name("model.onnx")


def load():
  """The model, as a function of batches of images."""
  session = onnxruntime.InferenceSession(str(MODEL), providers=["CPUExecutionProvider"])
  name = session.get_inputs()[0].name

  def predict(images):
    """Logits [B, H, W, K] of images, float32 [B, H, W, 3].

    The values are those of the files over 255, with noise added to them, so that they leave [0, 1].
    If your model wants them otherwise, such as with a mean subtracted, do it here.
    """
    (logits,) = session.run(None, {name: np.moveaxis(images, -1, 1).copy()})
    return np.moveaxis(logits, 1, -1)

  return predict


# `view` says how many pixels away from a pixel the network looks, at most, as a function of the
# image's (H, W): the less it is, the more is certified. It is tested by changing pixels farther
# away, but must follow from the layers. A model that was exported for one image: `batch_size=1`.
TASK = external_segmentation("my_task", load, CLASSES, [MODEL, __file__], view=None)
