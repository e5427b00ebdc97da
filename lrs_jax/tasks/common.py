"""What tasks have in common: a Flax network, counting, balls of radii, names (host)."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from lrs_jax import noise, sampling, storage
from lrs_jax.cells import partition
from lrs_jax.cells.views import View
from lrs_jax.confidence import corrections, planning, statistics
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.sampling import ClassSums
from lrs_jax.tasks import training
from lrs_jax.tasks.task import Adversary, Case, Config, Count, Data, Models, Network, Smoothing

COMPARED = ("envelope", "lp", "naive")
"""Methods that every job reports of its own smoothing, beside the one that it was asked for."""


def certificates_of(
  methods: Sequence[str],
  *,
  orders: Sequence[float] = (),
  targets: Sequence[str] = ("all", "correct"),
) -> tuple[str, ...]:
  """Names of certificates: every method, and the envelope of every Rényi order.

  Example:
    >>> certificates_of(("envelope",), orders=(2.0,))
    ('all/envelope', 'all/envelope@2', 'correct/envelope', 'correct/envelope@2')
  """
  names = [*dict.fromkeys(methods), *(f"envelope@{order:g}" for order in orders)]
  return tuple(f"{target}/{name}" for target in targets for name in names)


def plain_config(config: Config) -> dict[str, Any]:
  """A configuration as it comes back from JSON, without the paths of a machine."""
  plain = {**config._asdict(), "data_dir": None}
  if plain.get("graph") is not None:  # a file of the user's own
    plain["graph"] = Path(plain["graph"]).name
  return json.loads(json.dumps(plain))


def plain_fields(config: Config, names: Sequence[str]) -> dict[str, Any]:
  """Some fields of a configuration as they come back from JSON."""
  plain = plain_config(config)
  return {name: plain[name] for name in names}


def noise_digest(distribution: noise.SmoothingDistribution) -> str:
  """SHA-256 of a smoothing distribution: family, levels, cells, and the grid if it has one."""
  levels = dict(zip(distribution.family.parameters, distribution.parameters, strict=True))
  arrays = {f"parameters/{name}": level for name, level in levels.items()}
  if distribution.family.step is not None:
    arrays["step"] = np.asarray(distribution.family.step)
  family = np.asarray(distribution.family.name)
  return storage.digest({"family": family, "cells": distribution.cells, **arrays})


def with_baseline(
  config: Config,
  localized: noise.SmoothingDistribution,
  groups: np.ndarray,
  isotropic: noise.SmoothingDistribution,
) -> tuple[Smoothing, ...]:
  """A task's `smoothings`: localized noise, and the isotropic baseline of the same network."""
  methods = certificates_of((config.method, *COMPARED))
  baseline = certificates_of(("envelope",))
  return (
    Smoothing("certificate", localized, groups, methods, title="localized"),
    Smoothing("isotropic", isotropic, np.zeros_like(groups), baseline),
  )


def isotropic(
  config: Config, localized: noise.SmoothingDistribution
) -> noise.SmoothingDistribution:
  """The baseline's Gaussian noise, the same everywhere: of --isotropic-std, or else --std-min."""
  std = config.std_min if config.isotropic_std is None else config.isotropic_std
  return noise.gaussian(np.array([[std]]), np.zeros_like(localized.cells))


def exact(config: Config, drawn: noise.SmoothingDistribution) -> noise.SmoothingDistribution:
  """Noise of images of 8 bits in their own steps if --exact-noise is given, else as it is."""
  return noise.on_grid(drawn, 1 / 255) if config.exact_noise else drawn


def on_grid(config: Config, localized: noise.SmoothingDistribution) -> tuple[Smoothing, ...]:
  """`with_baseline` for Gaussian noise in the cells of --grid in an input of --size."""
  groups = partition.image_grid(config.size, config.grid).ravel()
  return with_baseline(config, localized, groups, isotropic(config, localized))


def as_seen(
  config: Config,
  drawn: noise.SmoothingDistribution,
  field: np.ndarray,
  view: View,
  block: int | None,
) -> Smoothing:
  """A task's own smoothing: the noise of every output's field, priced by what blocks of them see.

  `field` is of the outputs' shape; `block` is how many outputs are thought to see the same, along
  every axis, None as few as is feasible.
  """
  seen, groups = noise.in_blocks(drawn, field, view, block)
  title = "isotropic" if drawn.num_groups == 1 else "localized"
  if seen is drawn:
    methods = certificates_of((config.method, *COMPARED))
    return Smoothing("certificate", seen, groups, methods, title=title)
  methods = certificates_of((config.method, "envelope", "naive"))  # the paper's LP is slow
  found = Smoothing("certificate", seen, groups, methods, fields=(drawn, field.ravel()))
  told = f"{view.origin}; tested before sampling, by changing what should not be seen"
  return found._replace(view=told, title=f"{title}, limited view")


def check_smoothing(smoothings: Sequence[Smoothing], record: Any) -> None:
  """Raises a ValueError if a record's noise or groups are not those of the job that it names."""
  known, name = {smoothing.name: smoothing for smoothing in smoothings}, record.smoothing.name
  if name not in known:
    raise ValueError(
      f"`smoothing` must be one of {', '.join(known)} in the job in `meta`, but it is {name!r}."
    )
  wanted = known[name]
  if noise_digest(wanted.noise) != noise_digest(record.noise):
    raise ValueError("`noise` or `cells` are not those of the noise of the job in `meta`.")
  if record.meta.get("view", "") != wanted.view:
    raise ValueError("`view` of `meta` is not what the job in `meta` counts on.")
  if not np.array_equal(wanted.groups, record.groups):
    raise ValueError("`groups` are not those of the grid of the job in `meta`.")


def local_mesh() -> Mesh:
  """The devices of this process, to spread samples over."""
  return jax.make_mesh((jax.local_device_count(),), ("samples",), devices=jax.local_devices())


def counter(
  config: Config,
  apply: sampling.Apply,
  params: Any,
  x: Any,
  smoothing: Smoothing,
  num_classes: int,
  *,
  windows: sampling.Windows | None = None,
) -> Count:
  """A task's `counter` for a model (params, x) -> logits [..., K] of one array x.

  Votes are counted, and scores as well if the configuration's `scores` ask for others than votes.
  """
  soft, asked = statistics.needs_scores(config.scores), smoothing.drawn
  how: dict[str, Any] = {"num_classes": num_classes, "windows": windows, "mesh": local_mesh()}

  def count(key: jax.Array, num_samples: int, first_sample: int) -> ClassSums:
    given = key, apply, params, x, *asked, num_samples
    with jax.default_matmul_precision(config.precision):
      if soft:
        return sampling.class_sums(*given, first_sample=first_sample, **how)
      votes = sampling.votes(*given, first_sample=first_sample, **how)
      return ClassSums(votes.counts, None, None, votes.num_samples)

  return count


def chunk_size(config: Config, case: Case) -> int:
  """A task's `chunk_size` where a case is one array."""
  return sampling.default_chunk_size(np.size(case.x))


def ball(
  config: Config, data: Data, case: Case, smoothings: Sequence[Smoothing]
) -> tuple[Adversary, ...]:
  """A task's `adversaries`, a ball over the whole input: at --budgets, or `planning.radii`."""
  if config.budgets is not None:
    radii = np.unique(np.asarray(config.budgets, np.float64))
  else:
    distributions = [smoothing.noise for smoothing in smoothings]
    level = config.alpha / len(looks(config))
    num_outputs = smoothings[0].groups.size
    if config.k_fwer and num_outputs:
      levels = corrections.levels(level, num_outputs, config.k_fwer)
      num_outputs, level = 1, float(levels.alpha[0])
    radii = planning.radii(distributions, config.samples, num_outputs=num_outputs, alpha=level)
  return tuple(
    Adversary(noise.budgets_from_radii(radii, smoothing.noise.p)[:, None], radii)
    for smoothing in smoothings
  )


def looks(config: Config) -> list[int]:
  """Numbers of samples at which a job may stop: all, or fewer if --until is given."""
  return [config.samples] if config.until is None else corrections.looks(config.samples)


def lone_budgets(base: BaseCertificates) -> np.ndarray:
  """How much every output of base certificates survives on its own, in its dearest cell, [N]."""
  return base.eta / base.weights[0].max(axis=1)[base.groups]


class Lesson(NamedTuple):
  """What a network learns from, and under what noise: arguments of `training.train`."""

  images: ArrayLike
  labels: ArrayLike
  expose: training.Expose
  augment: training.Augment = training.keep
  loss: training.Loss = training.cross_entropy
  facts: Mapping[str, Any] = {}  # JSON values to remember of it


def models(
  network: Callable[[Config, Data], Network],
  model: Callable[[Config, Data], nn.Module],
  lesson: Callable[[Config], Lesson],
  apply: Callable[[Config], sampling.Apply],
  finish: Callable[[Any], Any] = lambda variables: variables,
  shown: Callable[[Config, jax.Array], jax.Array] = lambda config, x: x,
) -> Models:
  """A task's `models`: one Flax network, trained by `training.train`, for all smoothings.

  Args:
    network: every option that its variables depend on: with one left out, that of another is taken.
    model: the module that is trained.
    lesson: what it learns from; loaded only for training.
    apply: (params, x) -> logits [..., K] of one case; no new function per call, which is compiled
      again: sizes are best read off `params`.
    finish: variables -> params.
    shown: what the module is shown of an input, as in a lesson.
  """

  def learn(
    key: jax.Array,
    config: Config,
    data: Data,
    name: str,
    unfinished: Path,
    manifest: Mapping[str, Any],
  ) -> tuple[Any, Mapping[str, Any]]:
    images, labels, expose, augment, loss, facts = lesson(config)
    variables, losses = training.train(
      key,
      model(config, data),
      images,
      labels,
      expose,
      num_steps=config.steps,
      batch_size=config.batch_size,
      learning_rate=config.learning_rate,
      augment=augment,
      loss=loss,
      checkpoint=training.Checkpoint(unfinished, manifest),
    )
    return variables, {**facts, "loss": losses.tolist()}

  def shapes(config: Config, data: Data) -> Any:
    x = jax.ShapeDtypeStruct(np.shape(data.cases[0].x), np.float32)
    seen = jax.eval_shape(lambda x: shown(config, x), x)
    return training.initial.eval_shape(jax.random.key(0), model(config, data), seen)

  def predict(config: Config, data: Data, params: Any, case: Case) -> np.ndarray:
    logits = jax.jit(apply(config))(params, jnp.asarray(case.x))
    return np.asarray(logits).argmax(axis=-1).astype(np.int32).reshape(-1)

  return Models(
    network=lambda config, data, name: network(config, data),
    train=learn,
    shapes=shapes,
    finish=lambda config, data, variables: finish(variables),
    predict=predict,
  )


def refusing(why: str) -> Callable[..., NoReturn]:
  """What a task has in the place of a function that no job of it can use: it says why."""

  def refuse(*arguments: Any) -> NoReturn:
    raise ValueError(why)

  return refuse


def variables_of(path: Path, arrays: Mapping[str, np.ndarray], wanted: Any) -> Any:
  """The variables of a network, from arrays by names with slashes, if they are as is `wanted`."""
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


def digest_of(value: Any) -> str:
  """The first 12 digits of the SHA-256 of a JSON value."""
  return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
