"""What an image job is: its configuration, and the data, noise and network that follow from it."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from lrs_jax import keys, noise, storage
from lrs_jax.cells import locality, partition
from lrs_jax.sampling.counting import Windows
from lrs_jax.tasks import training
from lrs_jax.tasks.data import camvid, cityscapes, scenes, voc
from lrs_jax.tasks.data.images import LabelledImages
from lrs_jax.tasks.models import deeplab, folded_deeplab, folded_unet
from lrs_jax.tasks.models.folding import Folded
from lrs_jax.tasks.models.unet import UNet


class ImageJob(NamedTuple):
  """Configuration of a whole job on images; `lrs-jax certify scenes --help` explains the fields."""

  data: str = "scenes"
  data_dir: str | None = None
  size: tuple[int, int] = (48, 64)
  images: int = 4
  grid: tuple[int, int] = (2, 3)
  std_min: float = 0.15
  std_max: float = 0.6
  interpolation: str = "std"
  reach: str = "grid"
  hide_beyond: float | None = None
  isotropic_std: float | None = None
  network: str = "unet"
  train_split: str = "train"
  width: int = 8
  depth: int = 3
  steps: int = 800
  batch_size: int = 16
  learning_rate: float = 5e-3
  seed: int = 0
  alpha: float = 0.01
  samples: int = 1000
  selection_samples: int = 100
  budgets: tuple[float, ...] | None = None
  method: str = "envelope"
  bins: int | None = None
  gap: float = 0.01
  time_limit: float | None = None
  precision: str = "float32"


DEFAULTS = {
  "scenes": ImageJob(),
  "camvid": ImageJob(
    data="camvid", size=(64, 96), images=8, grid=(3, 5), std_min=0.2, std_max=1.0, width=16,
    steps=2500, learning_rate=3e-3,
  ),
  "voc": ImageJob(
    data="voc", size=(64, 96), images=8, grid=(3, 5), std_min=0.2, std_max=1.0, width=16,
    steps=2500, learning_rate=3e-3,
  ),
  "cityscapes": ImageJob(
    data="cityscapes", size=(64, 128), images=8, grid=(4, 6), std_min=0.2, std_max=1.0, width=16,
    steps=2500, learning_rate=3e-3,
  ),
}  # fmt: skip
"""Every image data set with its job's defaults."""


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


class Network(NamedTuple):
  """An architecture: the module that is trained, and the functions that it is certified by."""

  model: Callable[..., nn.Module]  # (num_classes, width, depth)
  fold: Callable[[Any], Folded]  # variables -> params
  apply: Callable[[Folded, jax.Array], jax.Array]  # one image [H, W, .] -> logits [H, W, K]
  window: Callable[[tuple[int, int]], Callable]  # size -> (params, x, start) -> logits [h, w, K]
  alignment: Callable[[ImageJob], int]  # what a window's start must be a multiple of


NETWORKS = {
  "unet": Network(
    UNet, folded_unet.fold, folded_unet.apply, folded_unet.window, lambda job: 1 << job.depth
  ),
  "deeplab": Network(
    deeplab.DeepLab,
    folded_deeplab.fold,
    folded_deeplab.apply,
    folded_deeplab.window,
    lambda job: deeplab.STRIDE,
  ),
}
"""Every architecture by its name on the command line."""

_NETWORK = (
  *("data", "train_split", "size", "network", "width", "depth", "grid", "std_min", "std_max"),
  *("interpolation", "reach", "hide_beyond", "steps", "batch_size", "learning_rate", "seed"),
)
"""Fields that decide what is trained."""


_OPTIONS: Mapping[str, tuple[str, ...]] = {
  "data": tuple(DEFAULTS),
  "network": tuple(NETWORKS),
  "interpolation": ("std", "variance"),
  "reach": ("grid", "border"),
  "method": ("naive", "lp", "envelope", "milp"),
  "precision": ("float32", "tensorfloat32", "bfloat16"),
}
"""Fields that are one of several words."""


def check(job: ImageJob) -> None:
  """Raises a ValueError that names the first field of a job that cannot be right."""
  for name, options in _OPTIONS.items():
    if getattr(job, name) not in options:
      raise ValueError(
        f"{flag(name)} must be one of {', '.join(options)}, but it is {getattr(job, name)!r}."
      )
  for name in ("images", "width", "depth", "steps", "batch_size", "samples", "selection_samples"):
    if getattr(job, name) < 1:
      raise ValueError(f"{flag(name)} must be at least 1, but it is {getattr(job, name)}.")
  splits = FILES[job.data].train if job.data in FILES else ("train",)
  if job.train_split not in splits:
    raise ValueError(
      f"--train-split of {job.data} must be one of {', '.join(splits)}, but it is "
      f"{job.train_split}."
    )
  if not 0 < job.alpha < 1:
    raise ValueError(f"--alpha must lie strictly between 0 and 1, but it is {job.alpha}.")
  for epsilon in job.budgets or ():
    if not 0 <= epsilon < np.inf:
      raise ValueError(f"--budgets must be finite and at least 0, but one of them is {epsilon}.")
  if not 0 < job.std_min <= job.std_max < np.inf:
    raise ValueError(
      "--std-min and --std-max must satisfy 0 < std-min <= std-max, "
      f"but they are {job.std_min} and {job.std_max}."
    )
  if job.isotropic_std is not None and not 0 < job.isotropic_std < np.inf:
    raise ValueError(f"--isotropic-std must be positive, but it is {job.isotropic_std}.")
  if not 0 <= job.gap < 1:
    raise ValueError(f"--gap must lie in [0, 1), but it is {job.gap}.")
  if job.bins is not None and job.bins < 1:
    raise ValueError(f"--bins must be at least 1, but it is {job.bins}.")
  if job.time_limit is not None and not job.time_limit > 0:
    raise ValueError(f"--time-limit must be positive, but it is {job.time_limit}.")
  if not job.learning_rate > 0:
    raise ValueError(f"--learning-rate must be positive, but it is {job.learning_rate}.")
  (height, width), (rows, columns) = job.size, job.grid
  if not (1 <= rows <= height and 1 <= columns <= width):
    raise ValueError(
      f"--grid must lie between 1x1 and --size {height}x{width}, but it is {rows}x{columns}."
    )


def plain(job: ImageJob) -> dict[str, Any]:
  """A job as it comes back from JSON, without the paths of a machine."""
  return json.loads(json.dumps(job._replace(data_dir=None)._asdict()))


def from_plain(fields: Mapping[str, Any]) -> ImageJob:
  """The job that `plain` was given.

  Raises:
    ValueError: options that there are not, or values of another type.

  Example:
    >>> from_plain(plain(ImageJob(size=(16, 24)))) == ImageJob(size=(16, 24))
    True
  """
  return storage.from_plain(ImageJob, fields)


def flag(field: str) -> str:
  """The command line's name of a field."""
  return "--" + field.replace("_", "-")


def load_images(job: ImageJob, split: str, count: int | None) -> LabelledImages:
  """Images to train on ("train"), to choose by ("val") or to certify ("test").

  Args:
    job: says which data, and which of its splits is "train".
    split: "train", "val" or "test". Of Pascal VOC and Cityscapes, whose test labels are not
      published, "test" is the validation split, and there is no other "val".
    count: number of images; None means all (1,000 scenes).

  Raises:
    ValueError: data that cannot be read, or "val" where that would be what is certified.
  """
  if job.data == "scenes":
    return scenes.load(split, job.size, 1000 if count is None else count, job.seed)
  data_dir = job.data_dir or os.environ.get("LRS_JAX_DATA")
  if data_dir is None:
    raise ValueError(f"{job.data} needs --data-dir DIR, or LRS_JAX_DATA in the environment.")
  files = FILES[job.data]
  if split == files.test != "test":
    raise ValueError(
      f"the {split} images of {job.data} are those that are certified: nothing may be chosen by "
      "them; take training images."
    )
  named = {"train": job.train_split, "test": files.test}
  return files.load(data_dir, named.get(split, split), job.size, count)


def localized_noise(job: ImageJob) -> noise.SmoothingDistribution:
  """The job's smoothing distribution: little noise in a group's own cell, more with distance."""
  distances = locality.chebyshev_distances(job.grid)
  fraction = {"grid": locality.fraction_of_grid, "border": locality.fraction_of_border}[job.reach]
  interpolate = {"std": locality.interpolate_std, "variance": locality.interpolate_variance}
  scale = interpolate[job.interpolation](fraction(distances), job.std_min, job.std_max)
  if job.hide_beyond is not None:
    scale = locality.hide_beyond(scale, distances, job.hide_beyond)
  return noise.gaussian(scale, partition.pixel_cells(output_groups(job), channels=3))


def isotropic_noise(job: ImageJob) -> noise.SmoothingDistribution:
  """The baseline's: the same pipeline on a 1x1 grid."""
  std = job.std_min if job.isotropic_std is None else job.isotropic_std
  return noise.gaussian(np.array([[std]]), np.zeros((*job.size, 3), np.int32))


def output_groups(job: ImageJob) -> np.ndarray:
  """The group of every pixel, int32 [H, W]: its cell."""
  return partition.image_grid(job.size, job.grid)


def network(job: ImageJob, num_classes: int) -> nn.Module:
  """The job's network, to be trained."""
  model = NETWORKS[job.network].model
  return model(num_classes=num_classes, width=job.width, depth=job.depth)


def network_windows(job: ImageJob, groups: np.ndarray) -> Windows:
  """The windows in which the job's network, folded, is evaluated for groups [H, W]."""
  network = NETWORKS[job.network]
  starts, size = partition.windows(groups, alignment=network.alignment(job))
  return Windows(network.window(size), starts, size)


def model_path(job: ImageJob, out: Path) -> Path:
  """Where the job's network lies unless the user says otherwise: named by what decides it."""
  text = json.dumps([getattr(job, name) for name in _NETWORK])
  return out / "models" / f"{job.network}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npz"


def train(job: ImageJob, path: Path) -> float:
  """Trains the job's network and stores it; returns the seconds that this took, from a stop on."""
  start = time.perf_counter()
  data = load_images(job, "train", None)
  path.parent.mkdir(parents=True, exist_ok=True)  # better refused now than after training
  unfinished = path.with_name(f"{path.stem}.partial.npz")
  augment = training.keep if job.data == "scenes" else training.mirror_and_rescale
  variables, losses = training.train(
    keys.tagged(jax.random.key(job.seed), "training"),
    network(job, len(data.classes)),
    data.images,
    data.labels,
    training.random_group(localized_noise(job)),
    num_steps=job.steps,
    batch_size=job.batch_size,
    learning_rate=job.learning_rate,
    augment=augment,
    checkpoint=training.Checkpoint(unfinished, _network_fields(job)),
  )
  arrays = flax.traverse_util.flatten_dict(jax.device_get(variables), sep="/")
  meta = {"network": _network_fields(job), "classes": data.classes, "loss": losses.tolist()}
  storage.save_arrays(path, {**arrays, "meta": storage.json_array(meta)})
  unfinished.unlink(missing_ok=True)
  return time.perf_counter() - start


def load_model(job: ImageJob, path: Path) -> tuple[Folded, str]:
  """Loads a stored network.

  Returns:
    The network with BatchNorm folded, for its `Network.apply`, and a digest of its variables.

  Raises:
    ValueError: a file that is no network, or one trained by another configuration.
  """
  arrays = storage.load_arrays(path)
  if "meta" not in arrays:
    raise ValueError(f"{path} is not a network stored by lrs-jax train: it has no array `meta`.")
  try:
    meta = storage.from_json_array(arrays.pop("meta"))
  except ValueError as error:
    raise ValueError(f"{path} is not a network stored by lrs-jax train: {error}") from None
  trained, classes = (
    meta.get(name) if isinstance(meta, Mapping) else None for name in ("network", "classes")
  )
  if not isinstance(trained, Mapping) or not isinstance(classes, list):
    raise ValueError(f"{path} holds no network for images.")
  for name, value in _network_fields(job).items():
    if trained.get(name) != value and name != "seed":
      raise ValueError(
        f"{path} was trained with {flag(name)} {_show(trained.get(name))}, but this job has "
        f"{_show(value)}: give the same, or another --model."
      )
  model, image = network(job, len(classes)), jax.ShapeDtypeStruct((*job.size, 3), np.float32)
  wanted = jax.eval_shape(model.init, jax.random.key(0), image)
  variables = check_variables(path, arrays, wanted)
  return NETWORKS[job.network].fold(variables), storage.digest(arrays)


def check_variables(path: Path, arrays: Mapping[str, np.ndarray], wanted: Any) -> Any:
  """The variables of a network, from the arrays of its file.

  Args:
    path: the file, for messages.
    arrays: by names with slashes.
    wanted: pytree of the shapes and types that the variables must have.

  Raises:
    ValueError: a variable that is missing, that the network has not, or of another shape or type.
  """
  shapes = flax.traverse_util.flatten_dict(wanted, sep="/")
  for name in sorted({*shapes, *arrays}):
    here, there = (
      f"{found[name].dtype}{list(found[name].shape)}" if name in found else "none"
      for found in (arrays, shapes)
    )
    if here != there:
      raise ValueError(
        f"{path} holds another network: variable {name!r} is {here}, where {there} is needed."
      )
  return flax.traverse_util.unflatten_dict(dict(arrays), sep="/")


def _network_fields(job: ImageJob) -> Mapping[str, Any]:
  """What decides the network, as it comes back from JSON."""
  return json.loads(json.dumps({name: getattr(job, name) for name in _NETWORK}))


def _show(value: Any) -> str:
  return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
