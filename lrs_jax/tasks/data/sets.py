"""Image data sets by their names: what a job trains on, chooses by and certifies (host)."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from lrs_jax.tasks.data import camvid, cityscapes, scenes, voc
from lrs_jax.tasks.data.images import LabelledImages


class Files(NamedTuple):
  """An image data set on disk."""

  load: Callable[..., LabelledImages]  # (data_dir, split, size, count)
  train: tuple[str, ...]  # splits that a network may be trained on
  test: str  # split that is certified: the published one


FILES = {
  "camvid": Files(camvid.load, ("train",), "test"),
  "voc": Files(voc.load, ("train", "trainaug"), "val"),
  "cityscapes": Files(cityscapes.load, ("train",), "val"),
}
"""Every image data set that needs --data-dir."""


SCENES = 1000
"""Scenes of a split of which no number is asked for."""


def load_images(config: Any, split: str, count: int | None) -> LabelledImages:
  """`count` images to train on ("train"), to choose by ("val") or to certify ("test").

  None means all, or `SCENES`. Of Pascal VOC and Cityscapes, whose test labels are not public,
  "test" is the validation split, and there is no other "val": it is a ValueError, as are data that
  cannot be read.
  """
  if config.data == "scenes":
    return scenes.load(split, config.size, SCENES if count is None else count, config.seed)
  data_dir = config.data_dir or os.environ.get("LRS_JAX_DATA")
  if data_dir is None:
    raise ValueError(f"{config.data} needs --data-dir DIR, or LRS_JAX_DATA in the environment.")
  files = FILES[config.data]
  if split == files.test != "test":
    raise ValueError(
      f"the {split} images of {config.data} are those that are certified: nothing may be chosen by "
      "them; take training images."
    )
  named = {"train": config.train_split, "test": files.test}
  return files.load(data_dir, named.get(split, split), config.size, count)
