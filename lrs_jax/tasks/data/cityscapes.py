"""Cityscapes, fine annotations, in the official layout of leftImg8bit and gtFine (host)."""

import os

import numpy as np

from lrs_jax.tasks.data.images import LabelledImages, Size, find_folders, read_split
from lrs_jax.tasks.data.splits import check_split

CLASSES = (
  *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
  *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
  *("motorcycle", "bicycle"),
)
IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Which of the 34 ids in `*_gtFine_labelIds.png` the classes have; the others are void."""
VOID = 255


def load(
  data_dir: str | os.PathLike, split: str, size: Size = None, count: int | None = None
) -> LabelledImages:
  """Loads one split of Cityscapes: the 19 classes that are evaluated, label 255 is void.

  The images are `leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`, named by what comes before
  "_leftImg8bit". The label maps in `gtFine/SPLIT/CITY` are `*_gtFine_labelTrainIds.png` if the
  split has such, or else the official `*_gtFine_labelIds.png`, whose 34 ids are renumbered.

  Args:
    data_dir: folder that holds `cityscapes/leftImg8bit` and `cityscapes/gtFine`, or these two.
    split: "train", "val" or "test", whose published label maps are all void.
    size: (H, W) to resize to, see `images.Size`; the files' own is 1024 x 2048.
    count: number of images, spread evenly over the split in the order of cities and names; all if
      None.

  Raises:
    ValueError: an unknown split, a folder or label map that is missing, sizes that differ, or
      labels that are neither a class nor void.

  References:
    Cordts et al. 2016 (arXiv 1604.01685); the ids and their classes are those of the evaluation.
  """
  check_split(split, ("train", "val", "test"))
  folders = [f"leftImg8bit/{split}", f"gtFine/{split}"]
  needs = f"Cityscapes needs {' and '.join(folders)}, or both in cityscapes,"
  image_dir, label_dir = find_folders(data_dir, ["cityscapes"], folders, needs)
  ending = "_leftImg8bit.png"
  paths = sorted(image_dir.glob(f"*/*{ending}"))
  if not paths:
    raise ValueError(f"no files CITY/*{ending} in {image_dir}.")
  renumbered = any(label_dir.glob("*/*_gtFine_labelTrainIds.png"))
  kind = "labelTrainIds" if renumbered else "labelIds"
  files = {
    name: (path, label_dir / path.parent.name / f"{name}_gtFine_{kind}.png")
    for path in paths
    for name in [path.name.removesuffix(ending)]
  }
  relabel = None if renumbered else _class_of_id()
  return read_split(files, CLASSES, void=VOID, size=size, count=count, relabel=relabel)


def _class_of_id() -> np.ndarray:
  """Class or void of each of the 34 ids, int [256]; any other value stays as it is, and wrong."""
  classes = np.arange(256)
  classes[:34] = VOID
  classes[list(IDS)] = np.arange(len(IDS))
  return classes
