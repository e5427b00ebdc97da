"""The study's networks: what each is trained on, trained once and stored."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from benchmarks.image_study.configurations import (
  LEVELS,
  MORE_LEVELS,
  PAPER,
  Sizes,
  Smoothing,
  distribution,
  plain,
)
from lrs_jax import keys, noise, storage
from lrs_jax.cells import partition
from lrs_jax.tasks import training
from lrs_jax.tasks.data.images import LabelledImages
from lrs_jax.tasks.models import folded_unet
from lrs_jax.tasks.models.unet import UNet

EARLY = (0.1, 0.15, 0.2, 0.3)
"""Levels of the network whose loss counts everywhere, also where the noise is strong."""

STARTS = {"localized": "base", "isotropic": "base", "crops": "isotropic"}
"""Networks that go on from another one, with as many steps again."""

Load = Callable[[tuple[int, int]], LabelledImages]
"""(height, width) -> the training images in this size."""


def networks(sizes: Sizes) -> dict[str, training.Expose]:
  """What every network is trained on; one network serves all noise levels of its kind."""
  wide = [_noise(sizes, PAPER, s, r * s) for s in (0.15, *LEVELS) for r in (2.0, 3.0, 5.0)]
  early = [_noise(sizes, PAPER, s, r * s) for s in EARLY for r in (3.0, 5.0, 10.0)]
  fine = (2 * PAPER[0], 2 * PAPER[1])  # cells of which both grids consist
  strict = [_refined(sizes, grid, fine, s) for grid in (PAPER, (2, 2)) for s in LEVELS]
  return {
    "base": training.random_group(_isotropic(sizes, (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5))),
    "everywhere": training.random_group(_stacked(early)),
    "strict": training.random_group(_stacked(strict)),
    "localized": training.own_pixels(_stacked(wide), partition.image_grid(sizes.size, PAPER)),
    "isotropic": training.random_group(_isotropic(sizes, (0.15, *MORE_LEVELS))),
    "crops": training.random_group(_isotropic(sizes, (0.1, 0.15, *MORE_LEVELS))),
  }


def _isotropic(sizes: Sizes, stds: tuple[float, ...]) -> noise.SmoothingDistribution:
  return _stacked([_noise(sizes, (1, 1), s, s) for s in stds])


def _noise(
  sizes: Sizes, grid: tuple[int, int], low: float, high: float
) -> noise.SmoothingDistribution:
  return distribution(Smoothing("", grid, low, high), sizes)


def _refined(
  sizes: Sizes, grid: tuple[int, int], fine: tuple[int, int], std: float
) -> noise.SmoothingDistribution:
  """Strictly local noise on `grid`, expressed in the cells of a finer grid."""
  cells = partition.image_grid(sizes.size, fine)
  coarse = partition.image_grid(fine, grid).ravel()
  own = coarse[None, :] == np.arange(coarse.max() + 1)[:, None]
  return noise.gaussian(np.where(own, std, np.inf), cells[..., None])


def _stacked(distributions: list[noise.SmoothingDistribution]) -> noise.SmoothingDistribution:
  """The groups of several distributions over the same cells, to train for all of them."""
  return noise.gaussian(np.concatenate([d.scale for d in distributions]), distributions[0].cells)


def train(name: str, sizes: Sizes, load_images: Load, path: Path) -> None:
  """Trains one network and stores it with its configuration; goes on after a stop."""
  start = time.perf_counter()
  data = load_images(sizes.size)
  manifest = {"name": name, "sizes": plain(sizes), "classes": list(data.classes)}
  unfinished = path.with_name(f"{path.stem}.partial.npz")
  start_from = None
  if name in STARTS:
    started = path.with_name(f"{STARTS[name]}.npz")
    if not started.exists():
      train(STARTS[name], sizes._replace(size=sizes.start, crop=None), load_images, started)
    start_from = _load_variables(started)
  augment, seen = training.mirror_and_rescale, sizes
  if sizes.crop is not None:
    augment, seen = training.random_crop(sizes.crop, augment), sizes._replace(size=sizes.crop)
  variables, losses = training.train(
    keys.tagged(jax.random.key(sizes.seed), f"network {name}"),
    UNet(num_classes=len(data.classes), width=sizes.width, depth=sizes.depth),
    data.images,
    data.labels,
    networks(seen)[name],
    num_steps=sizes.steps // 2 if name == "strict" else sizes.steps,  # compared with none other
    augment=augment,
    variables=start_from,
    checkpoint=training.Checkpoint(unfinished, manifest),
  )
  arrays = flax.traverse_util.flatten_dict(jax.device_get(variables), sep="/")
  meta = {**manifest, "loss": losses.tolist(), "seconds": time.perf_counter() - start}
  storage.save_arrays(path, {**arrays, "meta": storage.json_array(meta)})
  unfinished.unlink(missing_ok=True)


def load(path: Path) -> tuple[folded_unet.Folded, str]:
  """A stored network, folded, and the digest of its arrays."""
  variables = _load_variables(path)
  arrays = flax.traverse_util.flatten_dict(variables, sep="/")
  digest = hashlib.sha256()
  for name in sorted(arrays):
    digest.update(name.encode() + arrays[name].tobytes())
  return folded_unet.fold(variables), digest.hexdigest()


def _load_variables(path: Path) -> dict[str, Any]:
  arrays = storage.load_arrays(path)
  return flax.traverse_util.unflatten_dict(
    {k: v for k, v in arrays.items() if k != "meta"}, sep="/"
  )
