"""A denoiser, trained on images without labels, for models that never saw noise (both).

Such a model is certified together with it: noise is added to the image, the denoiser takes most of
it away again, and the model is shown what is left. Certificates are of the two as one model.

References: Salman et al. 2020 (arXiv 2003.01908), section 3: denoised smoothing.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax import noise, sampling, storage
from lrs_jax.cells.views import View
from lrs_jax.sampling import Predict
from lrs_jax.tasks import common, options, training
from lrs_jax.tasks.data import folders
from lrs_jax.tasks.models.architectures import NETWORKS, architecture
from lrs_jax.tasks.models.folding import fold
from lrs_jax.tasks.options import ONE, TRAINED, TRAINING, Option
from lrs_jax.tasks.task import Adversary, Data, Network, Smoothing, Task

__all__ = ["Denoiser", "before", "before_predict", "load", "squared_error"]

_HIDDEN = tuple(name for name in options.Shared.__annotations__ if name not in ("data", "seed"))

_CROP = 96  # pixels of what it learns from, in rows and columns


class Config(options.Shared, hidden=_HIDDEN):
  """Configuration of a denoiser's training; `lrs-jax train denoiser --help` explains the fields."""

  data: str = "denoiser"
  images: folders.Images = "."
  size: folders.Resized = None
  std: folders.Std = 0.25
  network: Annotated[
    str,
    Option("architecture, see `lrs-jax train scenes --help`", TRAINING, choices=tuple(NETWORKS)),
  ] = "patchnet"
  width: Annotated[int, Option("channels", TRAINING, **ONE)] = 64
  depth: Annotated[
    int, Option("blocks of patchnet, or poolings of unet: how far it looks", TRAINING, **ONE)
  ] = 2
  steps: options.Steps = 1500
  batch_size: options.BatchSize = 8
  learning_rate: options.LearningRate = 3e-3


_DECISIVE = ("std", "network", "width", "depth", *TRAINED)
"""Options that decide what is trained, beside the images."""


class _Denoiser(nn.Module):
  """What a network takes an image for; it says 0 of a medium gray."""

  network: nn.Module

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Images [..., H, W, channels] of noisy ones."""
    return _unscaled(self.network(x, train))


def _unscaled(outputs: jax.Array) -> jax.Array:
  """Intensities as they are, of what `folding.scaled` makes of them."""
  return 0.25 * outputs + 0.5


class Denoiser(NamedTuple):
  """A denoiser as it is certified."""

  apply: sampling.Apply  # (params, noisy image [H, W, 3]) -> image [H, W, 3] in [0, 1]
  params: Any
  view: Callable[[tuple[int, int]], View]  # (H, W) -> what every pixel sees
  std: float  # that it was trained for


def load(file: str) -> Denoiser:
  """Reads what `lrs-jax train denoiser` stored, or raises a ValueError.

  Example:
    >>> load("missing.npz")
    Traceback (most recent call last):
    ...
    ValueError: cannot read missing.npz: ...
  """
  path = Path(file)
  arrays = storage.load_arrays(path)
  try:
    meta = storage.from_json_array(arrays.pop("meta"))
    if meta["task"] != TASK.name:
      raise ValueError("it is of another task.")
    plain = Config()._asdict() | {name: meta["network"][name] for name in _DECISIVE}
    config = storage.from_plain(Config, plain)
    options.check(config)
    if config.depth > len(arrays):
      raise ValueError(f"it has too few arrays, {len(arrays)}, for {config.depth} blocks.")
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(f"{path} is no denoiser of lrs-jax train denoiser: {error!r}.") from None
  shapes = training.initial.eval_shape(jax.random.key(0), _module(config), jnp.zeros((8, 8, 3)))
  params = fold(_inner(common.variables_of(path, arrays, shapes)))
  of = architecture(config.network)
  return Denoiser(
    _applied(config.network), params, functools.partial(of.view, config.depth), config.std
  )


@functools.cache  # one function a network, so that what samples is compiled once
def _applied(name: str) -> sampling.Apply:
  of = architecture(name)

  def denoise(params: Any, x: jax.Array) -> jax.Array:
    return jnp.clip(_unscaled(of.apply(params, x)), 0.0, 1.0)

  return denoise


def before(denoiser: Denoiser, apply: sampling.Apply) -> sampling.Apply:
  """A model that is shown what a denoiser leaves: ({"denoiser", "model"}, image) -> logits.

  Example:
    >>> nothing = Denoiser(lambda params, x: x + params, 1.0, None, 0.25)
    >>> before(nothing, lambda params, x: x * params)({"denoiser": 1.0, "model": 2.0}, 3.0)
    8.0
  """

  def denoised(params: Mapping[str, Any], x: jax.Array) -> jax.Array:
    return apply(params["model"], denoiser.apply(params["denoiser"], x))

  return denoised


def before_predict(denoiser: Denoiser, predict: Predict) -> Predict:
  """`before`, of a model that is not in JAX: images [B, H, W, 3] -> what it says of them."""
  denoise = jax.jit(jax.vmap(denoiser.apply, in_axes=(None, 0)))

  def denoised(images: np.ndarray) -> Any:
    return predict(np.asarray(denoise(denoiser.params, images)))

  return denoised


def squared_error(images: jax.Array, levels: jax.Array) -> jax.Array:
  """The mean squared error of images, against what they should be in 255 steps from 0 to 1.

  Example:
    >>> squared_error(jnp.asarray([0.5, 1.0]), jnp.asarray([0, 255]))
    Array(0.125, dtype=float32)
  """
  return jnp.mean((images - levels.astype(images.dtype) / 255) ** 2)


def _module(config: Config) -> nn.Module:
  of = architecture(config.network).module
  return _Denoiser(of(num_classes=3, width=config.width, depth=config.depth))


def _inner(variables: Any) -> Any:
  return {kind: of["network"] for kind, of in variables.items()}


def _noise(config: Config, shape: tuple[int, ...]) -> noise.SmoothingDistribution:
  return noise.gaussian(np.array([[config.std]]), np.zeros((*shape[:2], 1), np.int32))


def _lesson(config: Config) -> common.Lesson:
  """Crops of all images, mirrored or not, under the noise that will be certified."""
  images = np.stack([case.x for case in folders.read(config.images, config.size).cases])
  crop = tuple(min(size, _CROP) for size in images.shape[1:3])
  levels = np.rint(images * 255).astype(np.int32)
  augment = training.random_crop(crop, training.mirror)
  expose = training.random_group(_noise(config, crop))
  return common.Lesson(images, levels, expose, augment, squared_error, {"images": len(images)})


TASK = Task(
  name="denoiser",
  unit="pixels",
  data={"denoiser": Config()},
  about={"denoiser": "what to put before a model that never saw noise, of images without labels"},
  check=lambda config: None,
  load=lambda config: folders.read(config.images, config.size),
  models=common.models(
    network=lambda config, data: Network(
      config.network, common.plain_fields(config, _DECISIVE), storage.digest(_images(data))
    ),
    model=lambda config, data: _module(config),
    lesson=_lesson,
    apply=lambda config: _applied(config.network),
    finish=lambda variables: fold(_inner(variables)),
  ),
  smoothings=lambda config, data, case: (
    Smoothing("denoiser", _noise(config, case.x.shape), np.zeros(0, np.int32), ()),
  ),
  counter=common.refusing("a denoiser is trained, and then put before a model by --denoiser."),
  chunk_size=common.chunk_size,
  adversaries=lambda config, data, case, smoothings: (Adversary(np.zeros((0, 1))),),
)
"""Training of a denoiser; nothing is certified."""


def _images(data: Data) -> dict[str, np.ndarray]:
  return {case.name: case.x for case in data.cases}
