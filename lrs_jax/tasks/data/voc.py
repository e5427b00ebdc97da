"""Pascal VOC 2012 segmentation, in the official layout of VOCdevkit/VOC2012 (host)."""

from pathlib import Path

from lrs_jax.tasks.data.images import LabelledImages, Root, Size, find_folders, read_split
from lrs_jax.tasks.data.splits import check_split

CLASSES = (
  *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
  *("cow", "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa"),
  *("train", "tv/monitor"),
)
VOID = 255


def load(data_dir: Root, split: str, size: Size = None, count: int | None = None) -> LabelledImages:
  """Loads one split of Pascal VOC 2012: 21 classes, label 255 is void.

  The images are `JPEGImages/*.jpg`, the label maps `SegmentationClass/*.png`, the splits
  `ImageSets/Segmentation/*.txt`. "trainaug" are the 10,582 training images with the Semantic
  Boundaries Dataset's annotations, as commonly laid out beside: `SegmentationClassAug/*.png` and
  `trainaug.txt`, or `train_aug.txt`, of names or of pairs of paths.

  Args, beside those of `images.read_split`:
    data_dir: folder that holds `VOCdevkit/VOC2012`, or `VOC2012`, or `JPEGImages` itself.
    split: "train", "val", "trainval" or "trainaug"; its images are in the order of its list, and
      their own sizes differ.

  References: Everingham et al. 2010, International Journal of Computer Vision 88(2); Hariharan et
  al. 2011, "Semantic contours from inverse detectors", for the additional annotations.
  """
  check_split(split, ("train", "val", "trainval", "trainaug"))
  labels = "SegmentationClassAug" if split == "trainaug" else "SegmentationClass"
  needs = f"Pascal VOC needs VOCdevkit/VOC2012/JPEGImages and {labels}"
  inside, folders = ["VOCdevkit", "VOC2012"], ["JPEGImages", labels]
  image_dir, label_dir = find_folders(data_dir, inside, folders, needs)
  folder = image_dir.parent / "ImageSets" / "Segmentation"
  lists = ("trainaug.txt", "train_aug.txt") if split == "trainaug" else (f"{split}.txt",)
  path = next((folder / name for name in lists if (folder / name).is_file()), None)
  if path is None:
    raise ValueError(f"no list {' or '.join(lists)} in {folder}: one name of an image per line.")
  names = [Path(line.split()[0]).stem for line in path.read_text().splitlines() if line.strip()]
  if not names:
    raise ValueError(f"{path} lists no images.")
  files = {name: (image_dir / f"{name}.jpg", label_dir / f"{name}.png") for name in names}
  return read_split(files, CLASSES, void=VOID, size=size, count=count)
