"""Labelled images: the container that every segmentation data set fills, and reading it (host)."""

from collections.abc import Mapping
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


def read_split(
  files: Mapping[str, tuple[Path, Path]],
  classes: tuple[str, ...],
  *,
  void: int,
  size: tuple[int, int] | None,
  count: int | None,
  relabel: np.ndarray | None = None,
) -> LabelledImages:
  """Reads the images of a split.

  Args:
    files: name -> paths of the image and of its label map, at least one.
    classes: K.
    void: the label that does not count.
    size: (H, W) to resize to, see `read_pair`: nothing is cropped, and the aspect is not kept. None
      keeps the files' own size, if they have one.
    count: number of images, spread evenly over `files`; all if None.
    relabel: int [256], the label that each value of a label map stands for; itself if None.

  Returns:
    `LabelledImages`.

  Raises:
    ValueError: a file that is missing, sizes that differ, or a label that is neither in [0, K) nor
      void.
  """
  chosen = list(files.items())
  if count is not None:
    if not 1 <= count <= len(files):
      raise ValueError(
        f"`count` must lie in [1, {len(files)}], the images of this split, but it is {count}."
      )
    chosen = [chosen[i] for i in np.linspace(0, len(files) - 1, count).round().astype(int)]
  images: list[np.ndarray] = []
  labels: list[np.ndarray] = []
  for name, (image_path, label_path) in chosen:
    image, label = read_pair(image_path, label_path, size)
    if images and image.shape != images[0].shape:
      raise ValueError(
        "the images differ in size: {}x{} pixels and, {}, {}x{}; give a size to resize to.".format(
          *images[0].shape[1::-1], name, *image.shape[1::-1]
        )
      )
    label = label if relabel is None else relabel[label]
    wrong = label[(label >= len(classes)) & (label != void)]
    if wrong.size:
      raise ValueError(
        f"the labels in {label_path} must lie in [0, {len(classes)}) or be {void} (void), "
        f"but {wrong[0]} is among them."
      )
    images.append(image)
    labels.append(label)
  names = tuple(name for name, _ in chosen)
  return LabelledImages(np.stack(images), np.stack(labels).astype(np.int32), names, classes)


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
