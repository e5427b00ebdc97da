"""Bodies: volumes of textured balls, boxes and tubes, one label per voxel. No download (host).

Every volume is a smooth, noisy background with bodies in it, none in another's way. A body has the
brightness of its surroundings and is told by its shape and by a texture of the finest scale that
there is: a ball alternates from voxel to voxel along all three axes, a tube along the two across
it, and a box along one. Training, validation and test volumes come from seeds of their own.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

CLASSES = ("background", "ball", "box", "tube")

SPLITS = ("train", "val", "test")

CONTRAST = 0.2
"""How far the texture goes up and down."""


class LabelledVolumes(NamedTuple):
  """Volumes and the label of every voxel."""

  volumes: np.ndarray  # float32 [M, D, H, W, 1] in [0, 1]
  labels: np.ndarray  # int32 [M, D, H, W]
  names: tuple[str, ...]  # M
  classes: tuple[str, ...]  # K


def load(split: str, size: tuple[int, int, int], count: int, seed: int = 0) -> LabelledVolumes:
  """Makes `count` volumes; the first ones are the same for any count.

  Args:
    split: "train", "val" or "test".
    size: (D, H, W) in voxels, at least 8 each.
    count: number of volumes M.
    seed: a different seed gives different volumes.

  Returns:
    `LabelledVolumes` with 4 classes.

  Raises:
    ValueError: an unknown split, or too small a volume.

  Example:
    >>> bodies = load("test", size=(8, 12, 16), count=2)
    >>> bodies.volumes.shape, bodies.labels.shape
    ((2, 8, 12, 16, 1), (2, 8, 12, 16))
  """
  if split not in SPLITS:
    raise ValueError(f"`split` must be one of {', '.join(SPLITS)}, but it is {split!r}.")
  if min(size) < 8:
    raise ValueError(
      f"`size` must be at least 8x8x8 voxels, but it is {'x'.join(map(str, size))}."
    )
  root = np.random.SeedSequence([seed, SPLITS.index(split)])
  pairs = [_compose(np.random.default_rng(s), size) for s in root.spawn(count)]
  volumes = np.array([volume for volume, _ in pairs], np.float32).reshape(-1, *size, 1)
  labels = np.array([label for _, label in pairs], np.int32).reshape(-1, *size)
  return LabelledVolumes(volumes, labels, tuple(f"volume-{i:03d}" for i in range(count)), CLASSES)


def _compose(
  rng: np.random.Generator, size: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
  at = np.indices(size)
  smooth = ndimage.gaussian_filter(rng.standard_normal(size), sigma=4, mode="nearest")
  volume = 0.5 + 0.1 * smooth / smooth.std() + 0.05 * rng.standard_normal(size)
  labels = np.zeros(size, np.int32)
  for _ in range(volume.size // 150):  # tries; those in another's way are dropped
    label = int(rng.integers(1, len(CLASSES)))
    along = int(rng.integers(3))  # the axis of a tube, and of a box's layers
    inside, alternating = _body(rng, label, along, at, size)
    grown = ndimage.binary_dilation(inside, iterations=1)
    if (labels[grown] > 0).any():
      continue
    parity = at[alternating].sum(axis=0) % 2 * 2 - 1
    volume[inside] += CONTRAST * parity[inside]
    labels[inside] = label
  return volume.clip(0, 1), labels


def _body(
  rng: np.random.Generator, label: int, along: int, at: np.ndarray, size: tuple[int, int, int]
) -> tuple[np.ndarray, list[int]]:
  """Which voxels a body takes, bool [D, H, W], and the axes along which its texture alternates."""
  center = rng.uniform(0, 1, 3) * (np.array(size) - 1)
  away = np.abs(at - center[:, None, None, None])
  across = [axis for axis in range(3) if axis != along]
  if label == 1:
    return (away**2).sum(axis=0) <= rng.uniform(2.5, 4.5) ** 2, [0, 1, 2]
  if label == 2:
    return (away <= rng.uniform(1.5, 4.0, 3)[:, None, None, None]).all(axis=0), [along]
  radius, length = rng.uniform(1.6, 2.6), rng.uniform(4, 9)
  return ((away[across] ** 2).sum(axis=0) <= radius**2) & (away[along] <= length), across
