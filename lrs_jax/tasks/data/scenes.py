"""Scenes: handwritten digits on textured canvases, one label per pixel. Needs no download (host).

Every scene shows a few of scikit-learn's bundled 8 x 8 digits, enlarged, tinted and placed at
random, behind a bar or each other, over a texture. A pixel's label is the class of the digit whose
stroke covers it, 1 to 10 for the digits 0 to 9, or 0 for background, so that it depends on the
pixel's neighbourhood. Training, validation and test scenes are made of different people's digits.
"""

import numpy as np
from PIL import Image

from lrs_jax.tasks.data.images import LabelledImages
from lrs_jax.tasks.data.splits import generators

CLASSES = ("background", *"0123456789")


def load(split: str, size: tuple[int, int], count: int, seed: int = 0) -> LabelledImages:
  """Composes `count` scenes, M; the first ones are the same for any count, others for any seed.

  The split is "train", "val" or "test", and the size (H, W) at least 16 x 16 pixels, or there is a
  ValueError.

  Example:
    >>> scenes = load("test", size=(32, 48), count=2)
    >>> scenes.images.shape, scenes.labels.shape
    ((2, 32, 48, 3), (2, 32, 48))
  """
  splits = {"train": slice(0, 1200), "val": slice(1200, 1450), "test": slice(1450, 1797)}
  rngs = generators(split, splits, count, seed)
  if min(size) < 16:
    raise ValueError(f"`size` must be at least 16x16 pixels, but it is {size[0]}x{size[1]}.")
  from sklearn.datasets import load_digits  # a second of import that nobody else should pay

  digits = load_digits()
  glyphs, classes = digits.images[splits[split]] / 16, digits.target[splits[split]]
  scenes = [_compose(rng, glyphs, classes, size) for rng in rngs]
  images = np.array([image for image, _ in scenes], np.float32).reshape(-1, *size, 3)
  labels = np.array([label for _, label in scenes], np.int32).reshape(-1, *size)
  return LabelledImages(images, labels, tuple(f"scene-{i:03d}" for i in range(count)), CLASSES)


def _compose(
  rng: np.random.Generator, glyphs: np.ndarray, classes: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
  height, width = size
  image = _texture(rng, size)
  labels = np.zeros(size, np.int32)
  for _ in range(max(4, height * width // 200)):  # tries; those too much in the way are dropped
    i = rng.integers(len(glyphs))
    side = int(rng.integers(min(size) // 3, min(size) * 2 // 3))
    ink = _resize(glyphs[i], (side, side))
    # A glyph may leave the canvas by a quarter of its side.
    top, left = (int(rng.integers(-side // 4, n - side * 3 // 4)) for n in size)
    rows, columns = slice(max(top, 0), top + side), slice(max(left, 0), left + side)
    ink = ink[max(-top, 0) :, max(-left, 0) :][: height - rows.start, : width - columns.start]
    if (labels[rows, columns] > 0).mean() > 0.1:
      continue
    color = rng.uniform(0.6, 1.0, 3)
    image[rows, columns] += ink[..., None] * (color - image[rows, columns])
    labels[rows, columns][ink > 0.4] = classes[i] + 1
  if rng.random() < 0.5:  # a bar in front of everything
    thickness, at = int(rng.integers(2, 5)), int(rng.integers(width))
    image[:, at : at + thickness] = rng.uniform(0, 0.4, 3)
    labels[:, at : at + thickness] = 0
  return image.clip(0, 1), labels


def _texture(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
  """A dark background: blotches of two sizes and stripes of a random direction and wavelength."""
  y, x = np.mgrid[: size[0], : size[1]]
  angle, wavelength = rng.uniform(0, np.pi), rng.uniform(4, 16)
  stripes = np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / wavelength)
  blotches = sum(_resize(rng.random((n, n)), size) for n in (3, 9)) / 2
  brightness = 0.05 + 0.35 * blotches + 0.05 * stripes
  return brightness[..., None] * rng.uniform(0.4, 1.0, 3)


def _resize(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  image = Image.fromarray(array.astype(np.float32))
  return np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC)).clip(0, 1)
