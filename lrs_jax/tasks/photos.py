"""Images of one's own, segmented by a model of one's own: a task of a few functions (host).

`lrs-jax init my_task.py` writes a file that makes one, `lrs-jax certify my_task.py:TASK` runs it.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax import keys, noise, sampling, storage
from lrs_jax.cells import views
from lrs_jax.cells.views import View
from lrs_jax.confidence import statistics
from lrs_jax.errors import NotLogitsError
from lrs_jax.sampling import ClassSums, Predict, external, guards
from lrs_jax.tasks import common, denoising, options
from lrs_jax.tasks.data import folders
from lrs_jax.tasks.images import Block, against_segcertify
from lrs_jax.tasks.options import Option
from lrs_jax.tasks.task import Case, Count, Data, Models, Network, Smoothing, Task

if TYPE_CHECKING:
  from matplotlib.figure import Figure

__all__ = ["external_segmentation", "segmentation"]


class Config(options.Shared):
  """Configuration of a job on images of one's own."""

  data: str = "photos"
  images: folders.Images = "."
  masks: folders.Masks = None
  size: folders.Resized = None
  std: folders.Std = 0.25
  denoiser: Annotated[
    str | None,
    Option(
      "what lrs-jax train denoiser made: images pass through it before the model sees them, as one "
      "that was not trained under noise needs",
      "noise",
      "FILE.npz",
    ),
  ] = None
  block: Block = None
  exact_noise: options.ExactNoise = None
  scores: options.Scores = ("votes", "margins")


def segmentation(
  name: str,
  apply: sampling.Apply,
  load: Callable[[], Any],
  classes: Sequence[str],
  *,
  view: Callable[[tuple[int, int]], View | int] | None = None,
) -> Task:
  """A task: every pixel of images of one's own gets a class from a model of one's own.

  Noise is isotropic, and an adversary has to pay wherever the model looks (`noise.in_blocks`). The
  same samples are certified as if every pixel saw the whole image, too.

  Args:
    name: of the task, such as "crops"; records say it.
    apply: pure function (params, image [H, W, 3] in [0, 1]) -> logits [H, W, K]; normalization of
      images, if the model needs any, belongs in here. Noisy images leave [0, 1].
    load: () -> params, a pytree of arrays, such as the model's weights.
    classes: K names.
    view: (H, W) -> what every pixel sees, a `cells.views.View` or a number of pixels; None: all of
      the image. It is tested before anything is sampled, by changing what should not be seen.

  Example:
    >>> def apply(params, image):
    ...   gray = image.mean(axis=-1)
    ...   return jnp.stack([params["threshold"] - gray, gray - params["threshold"]], axis=-1)
    >>> load = lambda: {"threshold": np.full((), 0.5, np.float32)}
    >>> task = segmentation("brightness", apply, load, ["dark", "bright"], view=lambda shape: 0)
    >>> task.name, task.unit
    ('brightness', 'pixels')
  """
  num_classes = len(classes)

  @functools.cache  # by the denoiser: one function each, which is compiled once
  def model(denoiser: str | None) -> tuple[sampling.Apply, Any]:
    if denoiser is None:
      return apply, load()
    first = denoising.load(denoiser)
    return denoising.before(first, apply), {"model": load(), "denoiser": first.params}

  def variables(config: Config) -> dict[str, np.ndarray]:
    return _numbered(model(config.denoiser)[1])

  def check(
    config: Config, key: jax.Array, params: Any, x: np.ndarray, noise: Drawn, seen: View | None
  ) -> None:
    asked, _ = model(config.denoiser)
    guards.check_model(key, asked, params, x, *noise, num_classes=num_classes)
    if seen is not None:
      sampling.check_view(asked, params, x, seen)

  def predict(config: Config, data: Data, params: Any, case: Case) -> np.ndarray:
    logits = jax.jit(model(config.denoiser)[0])(params, jnp.asarray(case.x))
    return np.asarray(logits).argmax(axis=-1).astype(np.int32).reshape(-1)

  def counter(config: Config, params: Any, x: np.ndarray, smoothing: Smoothing) -> Count:
    return common.counter(config, model(config.denoiser)[0], params, x, smoothing, num_classes)

  models = Models(
    network=lambda config, data, name_of: Network(name, {}, storage.digest(variables(config))),
    train=lambda key, config, data, name_of, unfinished, manifest: (variables(config), {}),
    shapes=lambda config, data: variables(config),
    finish=lambda config, data, found: jax.tree.unflatten(
      jax.tree.structure(model(config.denoiser)[1]), [found[number] for number in sorted(found)]
    ),
    predict=predict,
  )
  return _task(name, classes, view, models, counter, check)


def external_segmentation(
  name: str,
  load: Callable[[], Predict],
  classes: Sequence[str],
  files: Sequence[str | Path],
  *,
  view: Callable[[tuple[int, int]], View | int] | None = None,
  batch_size: int | None = None,
) -> Task:
  """The task of `segmentation`, by a model that is not in JAX: PyTorch, ONNX, a server.

  Votes are counted on the host, by `sampling.external_votes`: a pass for every sample.

  Args:
    name: of the task.
    load: () -> predict, images [B, H, W, 3] in [0, 1] -> logits [B, H, W, K], or labels [B, H, W]
      of an integer type. It must be a function of every image, whatever else is in the batch.
    classes: K names.
    files: that say what the model is, such as its weights; their contents' SHA-256 is on record,
      and other contents are another network.
    view: (H, W) -> what every pixel sees, as for `segmentation`.
    batch_size: B, always the same; by default chosen from the images' size.

  Example:
    >>> predict = lambda images: np.stack([1 - images.mean(-1), images.mean(-1)], axis=-1)
    >>> external_segmentation("brightness", lambda: predict, ["dark", "bright"], []).name
    'brightness'
  """
  num_classes = len(classes)
  how: dict[str, Any] = {"num_classes": num_classes, "batch_size": batch_size}

  @functools.cache
  def model(denoiser: str | None) -> Predict:
    if denoiser is None:
      return load()
    return denoising.before_predict(denoising.load(denoiser), load())

  def variables(config: Config) -> dict[str, np.ndarray]:
    paths = [*files] if config.denoiser is None else [*files, config.denoiser]
    for path in paths:
      if not Path(path).is_file():
        raise ValueError(f"there is no file {path}, which the task {name} says its model is in.")
    sums = [hashlib.sha256(Path(path).read_bytes()).digest() for path in paths]
    return _numbered([np.frombuffer(of_file, np.uint8) for of_file in sums])

  def answer_of(config: Config, x: np.ndarray) -> np.ndarray:
    """What the model says of a batch of one image, again and again."""
    size = external.check_batch_size(batch_size, x.size)
    return external.ask(model(config.denoiser), np.repeat(x[None], size, axis=0))

  def check(
    config: Config, key: jax.Array, params: Any, x: np.ndarray, noise: Drawn, seen: View | None
  ) -> None:
    shape, _ = external.shape_of(answer_of(config, x), num_classes)
    if shape != x.shape[:2]:
      told = "x".join(map(str, shape))
      raise NotLogitsError(
        "the model must say something of every pixel, but of an image of "
        f"{x.shape[0]}x{x.shape[1]} pixels it returns {told} outputs: resize them in `predict`, or "
        "take a --size that it keeps, such as multiples of its strides."
      )
    sampling.check_predict(key, model(config.denoiser), x, *noise, **how)
    if seen is not None:
      sampling.check_predict_view(model(config.denoiser), x, seen, batch_size=batch_size)

  def predict(config: Config, data: Data, params: Any, case: Case) -> np.ndarray:
    answer = answer_of(config, case.x)
    labels = external.labels_of(answer, case.x.shape[0] * case.x.shape[1], num_classes)
    return labels[0].astype(np.int32)

  def counter(config: Config, params: Any, x: np.ndarray, smoothing: Smoothing) -> Count:
    if statistics.needs_scores(config.scores):
      raise ValueError("--scores: a model that is not in JAX has votes, and margins, alone.")

    def count(key: jax.Array, num_samples: int, first_sample: int) -> ClassSums:
      asked = key, model(config.denoiser), x, *smoothing.drawn, num_samples
      votes = sampling.external_votes(*asked, first_sample=first_sample, **how)
      return ClassSums(votes.counts, None, None, np.asarray(votes.num_samples))

    return count

  models = Models(
    network=lambda config, data, name_of: Network(name, {}, storage.digest(variables(config))),
    train=lambda key, config, data, name_of, unfinished, manifest: (variables(config), {}),
    shapes=lambda config, data: variables(config),
    finish=lambda config, data, found: found,
    predict=predict,
  )
  return _task(name, classes, view, models, counter, check)


Drawn = tuple[noise.SmoothingDistribution, np.ndarray]
"""Fields of noise, and int [N], the field of every output."""


def _task(
  name: str,
  classes: Sequence[str],
  view: Callable[[tuple[int, int]], View | int] | None,
  models: Models,
  counter: Callable[[Config, Any, np.ndarray, Smoothing], Count],
  check: Callable[[Config, jax.Array, Any, np.ndarray, Drawn, View | None], None],
) -> Task:
  """A task of what models, counts votes, and asks a model of an image before it is sampled."""

  denoiser = functools.cache(denoising.load)

  def seen_of(config: Config, shape: tuple[int, int]) -> View:
    if view is None:
      return views.whole(shape)
    seen = views.as_view(view(shape), shape)
    if config.denoiser is None:
      return seen
    return views.through(seen, denoiser(config.denoiser).view(shape))

  def smoothings(config: Config, shape: tuple[int, int]) -> tuple[Smoothing, ...]:
    """Isotropic noise, as blocks of pixels see it, and as if they saw the whole image."""
    field = np.zeros(shape, np.int32)
    one = common.exact(config, noise.gaussian(np.array([[config.std]]), field[..., None]))
    ours = common.as_seen(config, one, field, seen_of(config, shape), config.block)
    if ours.fields is None:
      return (ours,)
    less = common.certificates_of(("envelope",))
    return ours, Smoothing("isotropic", one, field.ravel(), less, samples=ours.name)

  def check_network(config: Config, data: Data, params: Any) -> None:
    for case in data.cases[:1]:
      shape = case.x.shape[:2]
      (ours, *_), seen = smoothings(config, shape), None if view is None else seen_of(config, shape)
      key = keys.tagged(jax.random.key(config.seed), "guards")
      check(config, key, params, case.x, ours.drawn, seen)

  def load(config: Config) -> Data:
    data = folders.read(config.images, config.size, config.masks, tuple(classes))
    trained = config.std if config.denoiser is None else denoiser(config.denoiser).std
    if trained == config.std:
      return data
    note = f"NOTE: the denoiser was trained for --std {trained:g}, but this job has {config.std:g}"
    return data._replace(notes=(*data.notes, note))

  return Task(
    name=name,
    unit="pixels",
    data={name: Config(data=name)},
    about={name: f"images of your own, by the model of the task {name}"},
    check=lambda config: None,
    load=load,
    models=models,
    smoothings=lambda config, data, case: smoothings(config, case.x.shape[:2]),
    counter=lambda config, data, params, case, smoothing: counter(
      config, params, case.x, smoothing
    ),
    chunk_size=common.chunk_size,
    adversaries=common.ball,
    rivals={"segcertify": against_segcertify},
    check_network=check_network,
    check_record=lambda config, record: common.check_smoothing(
      smoothings(config, record.noise.cells.shape[:2]), record
    ),
    figures=_figures,
  )


def _numbered(tree: Any) -> dict[str, np.ndarray]:
  """The leaves of a pytree as a network's file has them, whatever its structure."""
  return {f"{i:06d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def _figures(
  config: Config, data: Data, done: Sequence[Any], summary: Mapping[str, Any]
) -> "dict[str, Figure]":
  """Every image's `image.png`."""
  from lrs_jax.evaluation import plots  # Matplotlib is heavy

  found, key = {}, keys.tagged(jax.random.key(config.seed), "figures")
  for case, record in zip(data.cases, done, strict=True):
    shape = case.x.shape[:2]
    one = noise.gaussian(np.array([[config.std]]), np.zeros((1, 1, 1), np.int32))
    truth = np.full(shape, -1) if case.truth is None else case.truth.reshape(shape)
    view = plots.ImageView(
      name=case.name,
      image=case.x,
      truth=truth,
      prediction=record.base.predictions.reshape(shape),
      radius=np.sqrt(common.lone_budgets(record.base)).reshape(shape),
      noisy=[np.asarray(noise.sample(key, one, jnp.asarray(case.x), 0))],
      noisy_groups=[0],
      groups=np.zeros(shape, np.int32),
      classes=data.classes,
    )
    found[f"{case.name}/image.png"] = plots.image_figure(view)
  return found
