"""Images of one's own: a folder of them, or a pattern, and their labels if there are any (host)."""

import glob
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from lrs_jax.tasks.data.images import Size
from lrs_jax.tasks.options import ONE, POSITIVE, Option
from lrs_jax.tasks.task import Case, Data

Images = Annotated[
  str, Option("a folder of images, or a pattern such as 'photos/*.png'", "images", "PATH")
]
Masks = Annotated[
  str | None,
  Option(
    "their labels, if there are any: a folder, or a pattern, of images of 8 bit with the same "
    "names, whose values are class numbers; others are void",
    "images",
    "PATH",
  ),
]
Resized = Annotated[
  tuple[int, int] | None,
  Option(
    "pixels, images are resized; by default as they are", "images", "HxW", separator="x", **ONE
  ),
]
Std = Annotated[float, Option("noise on the images' [0, 1] scale", "noise", **POSITIVE)]

_ENDINGS = ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"


def read(images: str, size: Size, masks: str | None = None, classes: tuple[str, ...] = ()) -> Data:
  """The images of a job, [H, W, 3] in [0, 1], and their labels if there are any.

  Raises:
    ValueError: no images, or some that cannot be read or differ in size, or masks that do not fit.
  """
  paths = _files(images, "--images")
  labels = None if masks is None else _files(masks, "--masks")
  cases: list[Case] = []
  for name, path in paths.items():
    image = _open(path, size, Image.Resampling.BOX, "RGB")
    x, truth = np.asarray(image, np.float32) / np.float32(255), None
    if cases and x.shape != cases[0].x.shape:
      first, other = (f"{shape[0]}x{shape[1]}" for shape in (cases[0].x.shape, x.shape))
      raise ValueError(
        f"images differ in size: {cases[0].name} has {first} pixels, {name} {other}; give --size "
        "to resize them."
      )
    if labels is not None:
      if name not in labels:
        raise ValueError(f"--masks has none for the image {name}: they must have the same names.")
      mask = _open(labels[name], size, Image.Resampling.NEAREST, None)
      if mask.size != image.size or mask.mode not in ("L", "P", "1"):
        there, here = (f"{height}x{width}" for width, height in (image.size, mask.size))
        raise ValueError(
          f"{labels[name]} must have as many pixels as its image, {there}, of 8 bit each, but has "
          f"{here} of mode {mask.mode}."
        )
      truth = np.asarray(mask, np.int32).reshape(-1)
    cases.append(Case(name, x, truth))
  return Data(cases, classes, facts={"images": len(cases), "labels": labels is not None})


def _files(where: str, flag: str) -> dict[str, Path]:
  """Images in a folder, or of a pattern, by their names without endings."""
  folder = Path(where).is_dir()
  found = sorted(Path(where).iterdir() if folder else map(Path, glob.glob(where, recursive=True)))
  found = [path for path in found if path.suffix.lower() in _ENDINGS]
  if not found:
    raise ValueError(f"{flag} {where}: there are no images ({', '.join(_ENDINGS)}).")
  names = {path.stem: path for path in found}
  if len(names) < len(found):
    raise ValueError(f"{flag} {where}: two images have the same name without its ending.")
  return names


def _open(path: Path, size: Size, resample: Image.Resampling, mode: str | None) -> Image.Image:
  try:
    with Image.open(path) as opened:
      image = opened.copy() if mode is None else opened.convert(mode)
  except Exception as error:  # a damaged file may raise anything, such as a SyntaxError
    raise ValueError(f"cannot read the image {path}: {error}") from error
  return image if size is None else image.resize(size[::-1], resample)
