"""Labelled images: the container that every segmentation data set fills, and reading it (host)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

Size = tuple[int, int] | None
"""(H, W) in pixels to resize to, without cropping; None keeps the files' own size."""

Root = str | os.PathLike  # a data folder


class LabelledImages(NamedTuple):
  """Images and the label of every pixel; a label outside [0, K) is void and does not count."""

  images: np.ndarray  # float32 [M, H, W, 3] in [0, 1]
  labels: np.ndarray  # int32 [M, H, W]
  names: tuple[str, ...]  # M
  classes: tuple[str, ...]  # K


def find_folders(
  data_dir: Root, inside: Sequence[str], folders: Sequence[str], needs: str
) -> list[Path]:
  """Paths of `folders` in the data folder, or in those `inside` it (one in the other) that exist.

  Raises:
    ValueError: one of the folders is missing; `needs` says what the data set needs.
  """
  root = Path(data_dir)
  for name in inside:
    root = root / name if (root / name).is_dir() else root
  for folder in (root / name for name in folders):
    if not folder.is_dir():
      raise ValueError(
        f"no folder {folder}: {needs} under the data folder (--data-dir or LRS_JAX_DATA)."
      )
  return [root / name for name in folders]


def read_split(
  files: Mapping[str, tuple[Path, Path]],
  classes: tuple[str, ...],
  *,
  void: int,
  size: Size,
  count: int | None,
  relabel: np.ndarray | None = None,
) -> LabelledImages:
  """Reads the images of a split.

  Args:
    files: name -> paths of the image and of its label map, at least one.
    classes: K.
    void: the label that does not count.
    size: (H, W) in pixels to resize to, by `read_pair`; the files' own if None.
    count: number of images, spread evenly over `files`; all if None.
    relabel: int [256], the label that each value of a label map stands for; itself if None.

  Raises:
    ValueError: an unknown split, a folder, list or file that is missing, sizes that differ, or a
      label that is neither in [0, K) nor void.
  """
  names = list(files)
  if count is not None:
    if not 1 <= count <= len(names):
      raise ValueError(
        f"`count` must lie in [1, {len(names)}], the images of this split, but it is {count}."
      )
    names = [names[i] for i in np.linspace(0, len(names) - 1, count).round().astype(int)]
  pairs: list[tuple[np.ndarray, np.ndarray]] = []
  for name in names:
    image, label = read_pair(*files[name], size)
    if pairs and image.shape != pairs[0][0].shape:
      first, other = (f"{i.shape[1]}x{i.shape[0]}" for i in (pairs[0][0], image))
      raise ValueError(
        f"the images differ in size: {first} pixels and, {name}, {other}; give a size to resize to."
      )
    label = label if relabel is None else relabel[label]
    wrong = label[(label >= len(classes)) & (label != void)]
    if wrong.size:
      raise ValueError(
        f"the labels in {files[name][1]} must lie in [0, {len(classes)}) or be {void} (void), "
        f"but {wrong[0]} is among them."
      )
    pairs.append((image, label))
  images, labels = (np.stack(part) for part in zip(*pairs, strict=True))
  return LabelledImages(images, labels.astype(np.int32), tuple(names), classes)


def read_pair(image_path: Path, label_path: Path, size: Size) -> tuple[np.ndarray, np.ndarray]:
  """Reads an RGB image and its label map, of 8 bit, and resizes both if asked.

  Images are resized by a box filter, which is the mean of what a new pixel covers, labels to the
  nearest; the aspect is not kept.

  Returns:
    float32 [H, W, 3] in [0, 1] and int32 [H, W].

  Raises:
    ValueError: an unreadable file, or an image and a label map of different sizes.
  """
  try:
    with Image.open(image_path) as opened, Image.open(label_path) as labels:
      image, label = opened.convert("RGB"), labels.copy()
  except Exception as error:  # a damaged file may raise anything, such as a SyntaxError
    raise ValueError(f"cannot read the image {image_path} with its labels: {error}") from error
  if image.size != label.size or label.mode not in ("L", "P"):
    there, here = (f"{width}x{height}" for width, height in (image.size, label.size))
    raise ValueError(
      f"{image_path} has {there} pixels, but its label map {label_path} has {here} of mode "
      f"{label.mode}; expected the same size and mode L or P."
    )
  if size is not None:
    image = image.resize(size[::-1], Image.Resampling.BOX)
    label = label.resize(size[::-1], Image.Resampling.NEAREST)
  return np.asarray(image, np.float32) / np.float32(255), np.asarray(label, np.int32)
