"""CamVid street scenes, in the SegNet tutorial's layout: {train,val,test}{,annot}/*.png (host)."""

import os
from pathlib import Path

import numpy as np

from lrs_jax.data.images import LabelledImages, read_pair

CLASSES = (
  *("sky", "building", "pole", "road", "pavement", "tree"),
  *("sign", "fence", "car", "pedestrian", "bicyclist"),
)


def load(
  data_dir: str | os.PathLike,
  split: str,
  size: tuple[int, int] | None = None,
  count: int | None = None,
) -> LabelledImages:
  """Loads one split of CamVid: 11 classes, label 11 is void.

  Args:
    data_dir: folder that holds `camvid/train`, `camvid/trainannot` and so on, or `train` itself.
    split: "train", "val" or "test".
    size: (H, W) to resize to; the files' own size if None.
    count: number of images, spread evenly over the split in the order of their names; all if None.

  Returns:
    `LabelledImages`.

  Raises:
    ValueError: a folder or label map that is missing, sizes that differ, or labels above 11.

  References:
    Brostow et al. 2009, Pattern Recognition Letters 30(2); Badrinarayanan et al. 2017 (SegNet,
    arXiv 1511.00561) for the 11 classes and the split.
  """
  root = Path(data_dir)
  root = root / "camvid" if (root / "camvid").is_dir() else root
  image_dir, label_dir = root / split, root / f"{split}annot"
  for folder in (image_dir, label_dir):
    if not folder.is_dir():
      raise ValueError(
        f"no folder {folder}: CamVid needs camvid/{split} and camvid/{split}annot, with PNG files "
        "of the same names, under the data folder (--data-dir or LRS_JAX_DATA)."
      )
  paths = sorted(image_dir.glob("*.png"))
  if not paths:
    raise ValueError(f"no PNG files in {image_dir}.")
  if count is not None:
    if not 1 <= count <= len(paths):
      raise ValueError(
        f"`count` must lie in [1, {len(paths)}], the images of {image_dir}, not {count}."
      )
    paths = [paths[i] for i in np.linspace(0, len(paths) - 1, count).round().astype(int)]
  pairs = [read_pair(path, label_dir / path.name, size) for path in paths]
  shapes = {image.shape for image, _ in pairs}
  if len(shapes) > 1:
    raise ValueError(
      f"the images of {image_dir} differ in size: {shapes}; give a size to resize to."
    )
  labels = np.stack([label for _, label in pairs])
  if labels.max() > len(CLASSES):
    raise ValueError(f"the labels in {label_dir} must lie in [0, 11], but reach {labels.max()}.")
  images = np.stack([image for image, _ in pairs])
  return LabelledImages(images, labels, tuple(path.stem for path in paths), CLASSES)
