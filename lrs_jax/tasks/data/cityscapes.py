"""Cityscapes, fine annotations, in the official layout of leftImg8bit and gtFine (host)."""

import numpy as np

from lrs_jax.tasks.data.images import LabelledImages, Root, Size, find_folders, read_split
from lrs_jax.tasks.data.splits import check_split

CLASSES = (
  *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
  *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
  *("motorcycle", "bicycle"),
)
IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Which of the 34 ids in `*_gtFine_labelIds.png` the classes have; the others are void."""
VOID = 255


def load(data_dir: Root, split: str, size: Size = None, count: int | None = None) -> LabelledImages:
  """Loads one split of Cityscapes: the 19 classes that are evaluated, label 255 is void.

  The images are `leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`, named by what comes before
  "_leftImg8bit". The label maps in `gtFine/SPLIT/CITY` are `*_gtFine_labelTrainIds.png` if the
  split has such, or else the official `*_gtFine_labelIds.png`, whose 34 ids are renumbered.

  Args, beside those of `images.read_split`:
    data_dir: folder that holds `cityscapes/leftImg8bit` and `cityscapes/gtFine`, or these two.
    split: "train", "val" or "test", whose published label maps are all void; its images are in the
      order of cities and names, and of 1024 x 2048 pixels.

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
  files = {}
  for path in paths:
    name = path.name.removesuffix(ending)
    files[name] = path, label_dir / path.parent.name / f"{name}_gtFine_{kind}.png"
  relabel = np.arange(256)  # any value but the 34 ids stays as it is, and wrong
  if not renumbered:
    relabel[:34] = VOID
    relabel[list(IDS)] = np.arange(len(IDS))
  return read_split(files, CLASSES, void=VOID, size=size, count=count, relabel=relabel)
