"""Labelled images: the container that every segmentation data set fills, and reading one (host)."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError


class LabelledImages(NamedTuple):
  """Images and the label of every pixel; a label outside [0, K) is void and does not count."""

  images: np.ndarray  # float32 [M, H, W, 3] in [0, 1]
  labels: np.ndarray  # int32 [M, H, W]
  names: tuple[str, ...]  # M
  classes: tuple[str, ...]  # K


def read_pair(
  image_path: Path, label_path: Path, size: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray]:
  """Reads an RGB image and its label map, and resizes both if asked.

  Args:
    image_path: any format that Pillow reads.
    label_path: one label per pixel, 8 bit.
    size: (H, W) in pixels to resize to (images by a box filter, which is the mean of what a new
      pixel covers; labels to the nearest); None keeps the files' size.

  Returns:
    float32 [H, W, 3] in [0, 1] and int32 [H, W].

  Raises:
    ValueError: an unreadable file, or an image and a label map of different sizes.
  """
  try:
    image, label = Image.open(image_path).convert("RGB"), Image.open(label_path).copy()
  except (OSError, UnidentifiedImageError) as error:
    raise ValueError(f"cannot read the image {image_path} with its labels: {error}") from error
  if image.size != label.size or label.mode not in ("L", "P"):
    raise ValueError(
      f"{image_path} has {image.size[0]}x{image.size[1]} pixels, but its label map {label_path} "
      f"has {label.size[0]}x{label.size[1]} of mode {label.mode}; "
      "expected the same size and mode L or P."
    )
  if size is not None:
    image = image.resize(size[::-1], Image.Resampling.BOX)
    label = label.resize(size[::-1], Image.Resampling.NEAREST)
  return np.asarray(image, np.float32) / np.float32(255), np.asarray(label, np.int32)
