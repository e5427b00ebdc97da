"""Bodies: volumes of textured balls, boxes and tubes, one label per voxel. No download (host).

Every volume is a smooth, noisy background with bodies in it, none in another's way. A body has the
brightness of its surroundings and is told by its shape and by a texture of the finest scale that
there is, between light and dark from voxel to voxel: along all three axes in a ball, along the
first in a box, along the other two in a tube, wherever it points. Training, validation and test
volumes come from seeds of their own.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from lrs_jax.tasks.data.splits import generators

CLASSES = ("background", "ball", "box", "tube")
SPLITS = ("train", "val", "test")
TEXTURES: tuple[list[int], ...] = ([], [0, 1, 2], [0], [1, 2])
"""Along which axes a body of every class alternates from voxel to voxel."""

CONTRAST = 0.3  # how far the texture goes up and down


class LabelledVolumes(NamedTuple):
  """Volumes and the label of every voxel."""

  volumes: np.ndarray  # float32 [M, D, H, W, 1] in [0, 1]
  labels: np.ndarray  # int32 [M, D, H, W]
  names: tuple[str, ...]  # M
  classes: tuple[str, ...]  # K


def load(split: str, size: tuple[int, int, int], count: int, seed: int = 0) -> LabelledVolumes:
  """Makes `count` volumes, M; the first ones are the same for any count, others for any seed.

  The split is "train", "val" or "test", and the size (D, H, W) at least 8 voxels each, or there is
  a ValueError.

  Example:
    >>> bodies = load("test", size=(8, 12, 16), count=2)
    >>> bodies.volumes.shape, bodies.labels.shape
    ((2, 8, 12, 16, 1), (2, 8, 12, 16))
  """
  rngs = generators(split, SPLITS, count, seed)
  if min(size) < 8:
    raise ValueError(f"`size` must be at least 8x8x8 voxels, but it is {'x'.join(map(str, size))}.")
  pairs = [_compose(rng, size) for rng in rngs]
  volumes = np.array([volume for volume, _ in pairs], np.float32).reshape(-1, *size, 1)
  labels = np.array([label for _, label in pairs], np.int32).reshape(-1, *size)
  return LabelledVolumes(volumes, labels, tuple(f"volume-{i:03d}" for i in range(count)), CLASSES)


def _compose(rng: np.random.Generator, size: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
  at = np.indices(size)
  smooth = ndimage.gaussian_filter(rng.standard_normal(size), sigma=4, mode="nearest")
  volume = 0.5 + 0.1 * smooth / smooth.std() + 0.05 * rng.standard_normal(size)
  labels = np.zeros(size, np.int32)
  for _ in range(volume.size // 60):  # tries; those in another's way are dropped
    label = int(rng.integers(1, len(CLASSES)))
    inside = _body(rng, label, at)
    if (labels[inside] > 0).any():
      continue
    parity = at[TEXTURES[label]].sum(axis=0) % 2 * 2 - 1
    volume[inside] += CONTRAST * parity[inside]
    labels[inside] = label
  return volume.clip(0, 1), labels


def _body(rng: np.random.Generator, label: int, at: np.ndarray) -> np.ndarray:
  """Which voxels a body of a random size takes at a random place, bool [D, H, W]."""
  center = rng.uniform(0, 1, 3) * (np.array(at.shape[1:]) - 1)
  away = np.abs(at - center[:, None, None, None])
  if CLASSES[label] == "ball":
    return (away**2).sum(axis=0) <= rng.uniform(2.5, 4.5) ** 2
  if CLASSES[label] == "box":
    return (away <= rng.uniform(1.5, 4.0, 3)[:, None, None, None]).all(axis=0)
  radius, length, along = rng.uniform(1.6, 2.6), rng.uniform(4, 9), rng.integers(3)
  beside = (np.delete(away, along, 0) ** 2).sum(axis=0)
  return (beside <= radius**2) & (away[along] <= length)
