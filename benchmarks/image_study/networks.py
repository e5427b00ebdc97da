"""The study's networks: what each is trained on, trained once and stored."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from lrs_jax import noise
from lrs_jax.cells import partition
from lrs_jax.jobs import networks as networks_of_jobs
from lrs_jax.jobs.networks import Obtained
from lrs_jax.tasks import images, training
from lrs_jax.tasks.data import camvid
from lrs_jax.tasks.models import folded_unet
from lrs_jax.tasks.models.unet import UNet
from lrs_jax.tasks.task import Data, Models, Network

EARLY = (0.1, 0.15, 0.2, 0.3)
"""Levels of the network whose loss counts everywhere, also where the noise is strong."""

STARTS = {"localized": "base", "isotropic": "base", "crops": "isotropic"}
"""Networks that go on from another one, with as many steps again."""


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


def obtain(name: str, sizes: Sizes, data_dir: str, folder: Path) -> Obtained:
  """The network of this name, folded; trained first if `folder` has none."""
  found = _obtain(name, sizes, data_dir, folder)
  return found._replace(params=folded_unet.fold(found.params))


def _obtain(name: str, sizes: Sizes, data_dir: str, folder: Path) -> Obtained:
  models = Models(
    network=lambda sizes, data, name: Network("unet", {"name": name, **_trained(sizes)}),
    train=functools.partial(_train, data_dir),
    shapes=lambda sizes, data: training.initial.eval_shape(
      jax.random.key(0), _unet(sizes), jax.ShapeDtypeStruct((*sizes.size, 3), np.float32)
    ),
    finish=lambda sizes, data, variables: variables,  # another network may go on from them
    predict=images.TASK.models.predict,
  )
  data = Data((), camvid.CLASSES)
  task = images.TASK._replace(models=models)
  return networks_of_jobs.obtain(task, sizes, data, name, folder / f"{name}.npz")


def _trained(sizes: Sizes) -> dict[str, Any]:
  """What decides how any of the networks is trained."""
  known = plain(sizes)
  return {field: known[field] for field in ("size", "crop", "width", "depth", "steps", "seed")}


def _unet(sizes: Sizes) -> UNet:
  return UNet(num_classes=len(camvid.CLASSES), width=sizes.width, depth=sizes.depth)


def _train(
  data_dir: str,
  key: jax.Array,
  sizes: Sizes,
  data: Data,
  name: str,
  unfinished: Path,
  manifest: Mapping[str, Any],
) -> tuple[Any, Mapping[str, Any]]:
  start = None
  if name in STARTS:
    smaller = sizes._replace(size=sizes.start, crop=None)
    start = _obtain(STARTS[name], smaller, data_dir, unfinished.parent).params
  augment, seen = training.mirror_and_rescale, sizes
  if sizes.crop is not None:
    augment, seen = training.random_crop(sizes.crop, augment), sizes._replace(size=sizes.crop)
  learned = camvid.load(data_dir, "train", sizes.size)
  variables, losses = training.train(
    key,
    _unet(sizes),
    learned.images,
    learned.labels,
    networks(seen)[name],
    num_steps=sizes.steps // 2 if name == "strict" else sizes.steps,  # compared with none other
    augment=augment,
    variables=start,
    checkpoint=training.Checkpoint(unfinished, manifest),
  )
  return variables, {"classes": learned.classes, "loss": losses.tolist()}
