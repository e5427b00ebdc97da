"""Pascal VOC 2012 segmentation, in the official layout of VOCdevkit/VOC2012 (host)."""

import os
from pathlib import Path

from lrs_jax.tasks.data.images import LabelledImages, read_split

CLASSES = (
  *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
  *("cow", "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa"),
  *("train", "tv/monitor"),
)
VOID = 255


def load(
  data_dir: str | os.PathLike,
  split: str,
  size: tuple[int, int] | None = None,
  count: int | None = None,
) -> LabelledImages:
  """Loads one split of Pascal VOC 2012: 21 classes, label 255 is void.

  The images are `JPEGImages/*.jpg`, the label maps `SegmentationClass/*.png`, the splits
  `ImageSets/Segmentation/*.txt`. "trainaug" are the 10,582 training images with the Semantic
  Boundaries Dataset's annotations, as commonly laid out beside: `SegmentationClassAug/*.png` and
  `trainaug.txt`, or `train_aug.txt`, of names or of pairs of paths.

  Args:
    data_dir: folder that holds `VOCdevkit/VOC2012`, or `VOC2012`, or `JPEGImages` itself.
    split: "train", "val", "trainval" or "trainaug".
    size: (H, W) to resize to: nothing is cropped, and the aspect is not kept. The images differ in
      size, so that None serves few of them.
    count: number of images, spread evenly over the split in the order of its list; all if None.

  Returns:
    `LabelledImages`.

  Raises:
    ValueError: an unknown split, a folder, list or label map that is missing, sizes that differ, or
      labels that are neither a class nor void.

  References:
    Everingham et al. 2010, International Journal of Computer Vision 88(2); Hariharan et al. 2011,
    "Semantic contours from inverse detectors", for the additional annotations.
  """
  splits = ("train", "val", "trainval", "trainaug")
  if split not in splits:
    raise ValueError(f"`split` must be one of {', '.join(splits)}, but it is {split!r}.")
  root = Path(data_dir)
  for inside in ("VOCdevkit", "VOC2012"):
    root = root / inside if (root / inside).is_dir() else root
  image_dir = root / "JPEGImages"
  label_dir = root / ("SegmentationClassAug" if split == "trainaug" else "SegmentationClass")
  for folder in (image_dir, label_dir):
    if not folder.is_dir():
      raise ValueError(
        f"no folder {folder}: Pascal VOC needs VOCdevkit/VOC2012/JPEGImages and {label_dir.name} "
        "under the data folder (--data-dir or LRS_JAX_DATA)."
      )
  names = _names(root / "ImageSets" / "Segmentation", split)
  files = {name: (image_dir / f"{name}.jpg", label_dir / f"{name}.png") for name in names}
  return read_split(files, CLASSES, void=VOID, size=size, count=count)


def _names(folder: Path, split: str) -> list[str]:
  files = ("trainaug.txt", "train_aug.txt") if split == "trainaug" else (f"{split}.txt",)
  for path in (folder / file for file in files):
    if path.is_file():
      names = [Path(line.split()[0]).stem for line in path.read_text().splitlines() if line.strip()]
      if not names:
        raise ValueError(f"{path} lists no images.")
      return names
  raise ValueError(f"no list {' or '.join(files)} in {folder}: one name of an image per line.")
