r"""Volumes: the class of every voxel, with cells in three dimensions.

An adversary perturbs all of a volume, within an l2 ball. Every group has little noise in its own
cell of a grid and more in the others; what lies beyond the network's reach is hidden from it.

What that is worth, at the defaults: certified accuracy of the 4 test volumes of seed 0 at some
radii, and the average certifiable radius (ACR), at 1,000 samples and envelopes. An abstention
counts as wrong.

=====================================  =====  =====  =====  =====  =====  =====
smoothing                                  0    0.1   0.25    0.5      1    ACR
=====================================  =====  =====  =====  =====  =====  =====
localized, std 0.25 to 0.8              .942   .922   .883   .782   .483   .910
isotropic, std 0.3, the same network    .953   .895   .749   .255   .000   .355
isotropic, std 0.25, its own network    .974   .937   .823   .459   .000   .405
isotropic, std 0.4, its own network     .925   .885   .791   .601   .000   .510
the same, at 18,000 samples             .944   .910   .834   .663   .107   .626
=====================================  =====  =====  =====  =====  =====  =====

The second row is the best that isotropic noise does for the same network at no lower accuracy: 0.3
among nine levels from 0.25 to 0.7, by the ACR of 2 validation volumes. Those of the last three rows
are trained like it, for the isotropic noise that they are smoothed with.

Where locality does not help: a network trained for isotropic noise of std 0.25 gets more voxels
right, and certifies more of them up to a radius of about 0.1. Nor is it free: a sample takes as
many passes as there are groups, 18. The last row has as many passes. Knowing what the network sees
adds nothing to isotropic noise here: all groups see the two cells in the middle of the grid.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.colors
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lrs_jax import noise
from lrs_jax.cells import locality, partition
from lrs_jax.evaluation import plots
from lrs_jax.tasks import common, options, training
from lrs_jax.tasks.data import bodies
from lrs_jax.tasks.models import slabs
from lrs_jax.tasks.models.slabs import Slabs
from lrs_jax.tasks.options import Option, at_least, positive
from lrs_jax.tasks.task import Adversary, Case, Count, Data, Models, Network, Smoothing, Task

TRAINING_VOLUMES = 256

_STD: Mapping[str, Any] = {"rule": "must be positive and finite", "allowed": positive}


class Config(NamedTuple):
  """Configuration of a job on volumes."""

  data: str = "bodies"
  data_dir: options.DataDir = None
  size: Annotated[
    tuple[int, int, int],
    Option(
      "voxels of a volume",
      "data",
      "DxHxW",
      separator="x",
      rule="must be at least 8 each",
      allowed=at_least(8),
    ),
  ] = (16, 24, 24)
  volumes: Annotated[int, Option("test volumes to certify", "data", **options.ONE)] = 4
  grid: Annotated[
    tuple[int, int, int],
    Option("cells of a volume", "smoothing", "PxRxQ", separator="x", **options.ONE),
  ] = (2, 3, 3)
  std_min: Annotated[
    float, Option("noise in a group's own cell, on the input's [0, 1] scale", "smoothing", **_STD)
  ] = 0.25
  std_max: Annotated[
    float,
    Option(
      "noise in the farthest cells that the network sees from the own one", "smoothing", **_STD
    ),
  ] = 0.8
  isotropic_std: Annotated[
    float | None, Option("the baseline's noise; by default --std-min", "smoothing", **_STD)
  ] = None
  width: Annotated[
    int, Option("channels of the network at full resolution", "network and training", **options.ONE)
  ] = 8
  depth: Annotated[
    int,
    Option(
      "convolutions at half the resolution: the network sees 2 voxels for each, and 2 more",
      "network and training",
      **options.ONE,
    ),
  ] = 3
  steps: options.Steps = 1500
  batch_size: options.BatchSize = 8
  learning_rate: options.LearningRate = 1e-2
  seed: options.Seed = 0
  alpha: options.Alpha = 0.01
  k_fwer: options.KFwer = 0.0
  samples: options.Samples = 1000
  selection_samples: options.SelectionSamples = 100
  scores: options.Scores = ("votes",)
  budgets: options.Radii = None
  method: options.Method = "envelope"
  bins: options.Bins = None
  gap: options.Gap = 0.01
  time_limit: options.TimeLimit = None
  precision: options.Precision = "float32"


_NETWORK = (
  *("data", "size", "grid", "std_min", "std_max", "width", "depth"),
  *("steps", "batch_size", "learning_rate", "seed"),
)
"""Options that decide what is trained."""


def check(config: Config) -> None:
  """Raises a ValueError that names the first option that cannot be right beside the others.

  Example:
    >>> check(Config(std_min=0.5, std_max=0.4))
    Traceback (most recent call last):
    ...
    ValueError: --std-min must be at most --std-max, but they are 0.5 and 0.4.
  """
  if any(cells > voxels for cells, voxels in zip(config.grid, config.size, strict=True)):
    raise ValueError(
      f"--grid must be at most --size {options.shown(config.size, 'x')}, but it is "
      f"{options.shown(config.grid, 'x')}."
    )
  if config.std_min > config.std_max:
    raise ValueError(
      "--std-min must be at most --std-max, but they are "
      f"{config.std_min:g} and {config.std_max:g}."
    )


def load(config: Config) -> Data:
  """The test volumes of a configuration.

  Example:
    >>> data = load(Config(size=(8, 8, 12), volumes=2))
    >>> [(case.x.shape, case.truth.shape) for case in data.cases]
    [((8, 8, 12, 1), (768,)), ((8, 8, 12, 1), (768,))]
  """
  return _data(bodies.load("test", config.size, config.volumes, config.seed))


def _data(volumes: bodies.LabelledVolumes) -> Data:
  cases = tuple(
    Case(name, volume, labels.ravel())
    for name, volume, labels in zip(volumes.names, volumes.volumes, volumes.labels, strict=True)
  )
  return Data(cases, volumes.classes, facts={"size": list(volumes.labels.shape[1:])})


def output_groups(config: Config) -> np.ndarray:
  """The group of every voxel, int32 [D, H, W]: its cell."""
  return partition.image_grid(config.size, config.grid)


def localized_noise(config: Config) -> noise.SmoothingDistribution:
  """Little noise in a group's own cell, more with the distance; what it does not see is hidden.

  Example:
    >>> config = Config(size=(8, 8, 24), grid=(1, 1, 3), std_min=0.1, std_max=0.5, depth=3)
    >>> localized_noise(config).scale
    array([[0.1, 0.5, inf],
           [0.5, 0.1, 0.5],
           [inf, 0.5, 0.1]])
  """
  groups, distances = output_groups(config), locality.chebyshev_distances(config.grid)
  away, sight = partition.pixel_distances(groups, groups), slabs.reach(config.depth)
  seen = np.where(away > sight, 0, distances)
  scale = locality.interpolate_std(locality.fraction_of_grid(seen), config.std_min, config.std_max)
  return noise.gaussian(
    locality.hide_beyond(scale, away, sight), partition.pixel_cells(groups, channels=1)
  )


def isotropic_noise(config: Config) -> noise.SmoothingDistribution:
  """The baseline's: the same pipeline on a 1x1x1 grid.

  Example:
    >>> isotropic_noise(Config(isotropic_std=0.5)).scale
    array([[0.5]])
  """
  std = config.std_min if config.isotropic_std is None else config.isotropic_std
  return noise.gaussian(np.array([[std]]), np.zeros((*config.size, 1), np.int32))


def smoothings(config: Config, data: Data, case: Case) -> tuple[Smoothing, ...]:
  """Localized noise, and the isotropic baseline of the same network."""
  own = output_groups(config).ravel()
  methods = common.certificates_of((config.method, *common.COMPARED))
  baseline = common.certificates_of(("envelope",))
  return (
    Smoothing("certificate", localized_noise(config), own, methods),
    Smoothing("isotropic", isotropic_noise(config), np.zeros_like(own), baseline),
  )


def adversaries(
  config: Config, data: Data, case: Case, smoothings: Sequence[Smoothing]
) -> tuple[Adversary, ...]:
  """A ball of perturbations of the whole volume."""
  return common.ball(config, smoothings, int(np.prod(config.size)))


@functools.cache
def _model(width: int, depth: int) -> nn.Module:
  """One object for all calls with one architecture, so that none compiles again."""
  return Slabs(len(bodies.CLASSES), width, depth)


def mirror(key: jax.Array, volume: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Flips every other volume, along every axis."""
  for axis, flip in enumerate(jax.random.bernoulli(key, shape=(labels.ndim,))):
    volume = jnp.where(flip, jnp.flip(volume, axis), volume)
    labels = jnp.where(flip, jnp.flip(labels, axis), labels)
  return volume, labels


def train(
  key: jax.Array,
  config: Config,
  data: Data,
  name: str,
  unfinished: Path,
  manifest: Mapping[str, Any],
) -> tuple[Any, Mapping[str, Any]]:
  """Trains the network on training volumes, each under the noise of a random group.

  The loss is that of the group's own voxels (`training.own_pixels`): elsewhere the volume is under
  strong noise, or hidden. Where it counts everywhere, the same network gets 83 rather than 94 % of
  the validation voxels right.
  """
  learned = bodies.load("train", config.size, TRAINING_VOLUMES, config.seed)
  variables, losses = training.train(
    key,
    _model(config.width, config.depth),
    learned.volumes,
    learned.labels,
    training.own_pixels(localized_noise(config), output_groups(config)),
    num_steps=config.steps,
    batch_size=config.batch_size,
    learning_rate=config.learning_rate,
    augment=mirror,
    checkpoint=training.Checkpoint(unfinished, manifest),
  )
  return variables, {"loss": losses.tolist()}


def network(config: Config, data: Data, name: str) -> Network:
  """What tells the configuration's network from others."""
  fields = common.plain_config(config)
  return Network("slabs", {field: fields[field] for field in _NETWORK})


def shapes(config: Config, data: Data) -> Any:
  """Shapes and types of the network's variables."""
  volume = jax.ShapeDtypeStruct((*config.size, 1), np.float32)
  return common.shapes_of(_model(config.width, config.depth), volume)


def predict(config: Config, data: Data, params: Any, case: Case) -> np.ndarray:
  """The network's own prediction of a volume, without noise."""
  logits = jax.jit(slabs.apply)(params, jnp.asarray(case.x))
  return np.asarray(logits).argmax(axis=-1).astype(np.int32).ravel()


def counter(config: Config, data: Data, params: Any, case: Case, smoothing: Smoothing) -> Count:
  """Counts the network's votes on a volume."""
  return common.counter(config, slabs.apply, params, case.x, smoothing, len(data.classes))


def figures(
  config: Config, data: Data, records: Sequence[Any], summary: Mapping[str, Any]
) -> dict[str, Figure]:
  """`noise.png`, and every volume's `volume.png`."""
  if not records:
    return {}
  found = {"noise.png": noise_figure(localized_noise(config).scale, config.grid)}
  for case, record in zip(data.cases, records, strict=True):
    base = record.base
    dearest = base.weights[0].max(axis=1)[base.groups]
    found[f"{case.name}/volume.png"] = volume_figure(
      case.name,
      case.x[..., 0],
      np.asarray(case.truth).reshape(config.size),
      np.where(base.eta > 0, base.labels, -1).reshape(config.size),
      np.sqrt(base.eta / dearest).reshape(config.size),
      output_groups(config),
      data.classes,
    )
  return found


def noise_figure(scale: np.ndarray, grid: tuple[int, int, int]) -> Figure:
  """Draws what every group adds to every cell: a row for each layer of the grid, in all groups.

  Args:
    scale: [G, C], in the units of the input; inf (hidden) is hatched.
    grid: (P, R, Q) with G = C = P R Q.

  Returns:
    A Matplotlib figure: in row l and column g, layer l of the cells as group g perceives it.

  Example:
    >>> scale = np.full((8, 8), 0.5)
    >>> len(noise_figure(scale, (2, 2, 2)).axes)  # 8 groups, 2 layers, a scale
    17
  """
  layers, groups = grid[0], len(scale)
  visible = scale[np.isfinite(scale)]
  norm = matplotlib.colors.Normalize(0, visible.max(initial=1e-9))
  figure = Figure(figsize=(0.75 * groups + 1.5, 0.85 * layers + 0.8), layout="constrained")
  panels = figure.subplots(layers, groups, squeeze=False)
  for group in range(groups):
    place = np.unravel_index(group, grid)
    for layer, axes in enumerate(panels[:, group]):
      cells = np.ma.masked_invalid(scale[group].reshape(grid)[layer])
      image = axes.imshow(cells, cmap="cividis", norm=norm)
      axes.patch.set(hatch="////", edgecolor="0.6", facecolor="white")
      axes.set(xticks=[], yticks=[])
      if layer == place[0]:
        axes.add_patch(_frame(place[2] - 0.5, place[1] - 0.5, 1, 1))
    panels[0, group].set_title(str(group), fontsize=8)
  for layer, axes in enumerate(panels[:, 0]):
    axes.set_ylabel(f"layer {layer}", fontsize=8)
  figure.colorbar(image, ax=panels, label="noise std")
  figure.suptitle("What every group (column, its own cell in red) adds to every cell", fontsize=10)
  return figure


def volume_figure(
  name: str,
  volume: np.ndarray,
  truth: np.ndarray,
  prediction: np.ndarray,
  radius: np.ndarray,
  groups: np.ndarray,
  classes: Sequence[str],
) -> Figure:
  """Draws three orthogonal slices: input, labels, smoothed prediction, every voxel's own radius.

  The slices are those with most of the labels' bodies, along each axis; dashed lines in each show
  where the other two cut it, thin white ones the cells.

  Args:
    name: of the volume.
    volume: [D, H, W] in [0, 1].
    truth: int [D, H, W]; outside [0, K) is void.
    prediction: int [D, H, W]; -1 abstains.
    radius: [D, H, W], up to which the voxel is certified on its own.
    groups: int [D, H, W].
    classes: K names.

  Returns:
    A Matplotlib figure.

  Example:
    >>> zeros = np.zeros((2, 3, 4), int)
    >>> figure = volume_figure("a volume", zeros, zeros, zeros, zeros + 0.5, zeros, ("a class",))
    >>> figure.get_suptitle()
    'a volume'
  """
  gray = len(classes)
  known = [np.where((a >= 0) & (a < gray), a, gray) for a in (truth, prediction)]
  colors = ["#f2efe6", *plots.COLORS]
  palette = matplotlib.colors.ListedColormap(
    [colors[i % len(colors)] for i in range(gray)] + ["#999999"]
  )
  at = [
    int(((known[0] > 0) & (known[0] < gray)).sum(axis=tuple({0, 1, 2} - {axis})).argmax())
    for axis in range(3)
  ]
  figure = Figure(figsize=(11.5, 8.2), layout="constrained")
  panels = figure.subplots(3, 4)
  labels: dict[str, Any] = {"cmap": palette, "vmin": -0.5, "vmax": gray + 0.5}
  columns: tuple[tuple[str, np.ndarray, dict[str, Any]], ...] = (
    ("input", volume, {"cmap": "gray", "vmin": 0, "vmax": 1}),
    ("labels", known[0], labels),
    (f"smoothed prediction, {np.mean(known[1] == gray):.1%} abstain", known[1], labels),
    (
      "radius of every voxel on its own",
      np.ma.masked_equal(radius, 0),
      {"cmap": "viridis", "vmin": 0, "vmax": max(float(radius.max(initial=0.0)), 1e-9)},
    ),
  )
  for row, axis in zip(panels, range(3), strict=True):
    down, right = (other for other in range(3) if other != axis)
    cells = groups.take(at[axis], axis)
    edges = [np.flatnonzero(np.diff(cells, axis=i).any(axis=1 - i)) + 0.5 for i in range(2)]
    for axes, (title, values, style) in zip(row, columns, strict=True):
      shown = axes.imshow(values.take(at[axis], axis), interpolation="nearest", **style)
      axes.axhline(at[down], color="red", linestyle="--", linewidth=0.7)
      axes.axvline(at[right], color="red", linestyle="--", linewidth=0.7)
      for horizontal in edges[0]:
        axes.axhline(horizontal, color="white", linewidth=0.6)
      for vertical in edges[1]:
        axes.axvline(vertical, color="white", linewidth=0.6)
      axes.patch.set_facecolor("#999999")
      axes.set(xticks=[], yticks=[])
      if axis == 0:
        axes.set_title(title, fontsize=10)
    row[0].set_ylabel(f"{['depth', 'height', 'width'][axis]} {at[axis]}")
  figure.colorbar(shown, ax=panels[:, 3], label=r"$\ell_2$ radius on the [0, 1] scale", shrink=0.6)
  there = sorted({*known[0].flat, *known[1].flat})
  handles = [
    Patch(facecolor=palette(k), edgecolor="0.5", label=(*classes, "abstains / void")[k])
    for k in there
  ]
  figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9)
  figure.suptitle(name)
  return figure


def _frame(x: float, y: float, width: float, height: float) -> Patch:
  return matplotlib.patches.Rectangle((x, y), width, height, fill=False, color="red", linewidth=1.5)


TASK = Task(
  name="volumes",
  unit="voxels",
  data={"bodies": Config()},
  about={"bodies": "synthetic volumes with textured balls, boxes and tubes, no download"},
  check=check,
  load=load,
  models=Models(
    network, train, shapes, lambda config, data, variables: slabs.fold(variables), predict
  ),
  smoothings=smoothings,
  counter=counter,
  chunk_size=common.chunk_size,
  adversaries=adversaries,
  figures=figures,
)
"""Classes of voxels, against an l2 perturbation of the whole volume."""
