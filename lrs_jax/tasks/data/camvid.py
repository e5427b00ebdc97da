"""CamVid street scenes, in the SegNet tutorial's layout: {train,val,test}{,annot}/*.png (host)."""

from lrs_jax.tasks.data.images import LabelledImages, Root, Size, find_folders, read_split

CLASSES = (
  *("sky", "building", "pole", "road", "pavement", "tree"),
  *("sign", "fence", "car", "pedestrian", "bicyclist"),
)


def load(data_dir: Root, split: str, size: Size = None, count: int | None = None) -> LabelledImages:
  """Loads "train", "val" or "test" of CamVid: 11 classes, label 11 is void.

  Args, beside those of `images.read_split`:
    data_dir: folder that holds `camvid/train`, `camvid/trainannot` and so on, or `train` itself.
    split: its images are in the order of their names.

  References: Brostow et al. 2009, Pattern Recognition Letters 30(2); Badrinarayanan et al. 2017
  (SegNet, arXiv 1511.00561) for the 11 classes and the split.
  """
  needs = f"CamVid needs camvid/{split} and camvid/{split}annot, with PNG files of the same names,"
  image_dir, label_dir = find_folders(data_dir, ["camvid"], [split, f"{split}annot"], needs)
  paths = sorted(image_dir.glob("*.png"))
  if not paths:
    raise ValueError(f"no PNG files in {image_dir}.")
  files = {path.stem: (path, label_dir / path.name) for path in paths}
  return read_split(files, CLASSES, void=len(CLASSES), size=size, count=count)
