"""Volumes: the class of every voxel, with cells in three dimensions.

An adversary perturbs all of a volume, within an l2 ball. Every group has little noise in its own
cell of a grid and more in the others; what lies beyond the network's reach is hidden from it.

What that gains, and where it does not help: `docs/choosing.md`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax import noise
from lrs_jax.cells import locality, partition
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.tasks import common, options, training
from lrs_jax.tasks.data import bodies
from lrs_jax.tasks.models import slabs
from lrs_jax.tasks.models.slabs import Slabs
from lrs_jax.tasks.options import ONE, TRAINED, TRAINING, Option, at_least, positive
from lrs_jax.tasks.task import Case, Data, Network, Smoothing, Task

if TYPE_CHECKING:
  from matplotlib.figure import Figure

TRAINING_VOLUMES = 256
_SIZE = at_least(8, "must be at least 8 each")
_STD = positive("must be positive and finite")


class Config(options.Shared):
  """Configuration of a job on volumes."""

  data: str = "bodies"
  size: Annotated[
    tuple[int, int, int], Option("voxels of a volume", "data", "DxHxW", separator="x", **_SIZE)
  ] = (16, 24, 24)
  volumes: Annotated[int, Option("test volumes to certify", "data", **ONE)] = 4
  grid: Annotated[
    tuple[int, int, int], Option("cells of a volume", "smoothing", "PxRxQ", separator="x", **ONE)
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
  width: Annotated[int, Option("channels of the network at full resolution", TRAINING, **ONE)] = 8
  depth: Annotated[
    int,
    Option(
      "convolutions at half the resolution: the network sees 2 voxels for each, and 2 more",
      TRAINING,
      **ONE,
    ),
  ] = 3
  steps: options.Steps = 1500
  batch_size: options.BatchSize = 8
  learning_rate: options.LearningRate = 1e-2
  scores: options.Scores = ("votes", "margins")


_NETWORK = ("data", "size", "grid", "std_min", "std_max", "width", "depth", *TRAINED)
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
  test = bodies.load("test", config.size, config.volumes, config.seed)
  truth = test.labels.reshape(config.volumes, -1)
  cases = [Case(*case) for case in zip(test.names, test.volumes, truth, strict=True)]
  return Data(cases, test.classes, facts={"size": list(config.size)})


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


def smoothings(config: Config) -> tuple[Smoothing, ...]:
  """Localized noise, and the isotropic baseline of the same network."""
  return common.on_grid(config, localized_noise(config))


def mirror(key: jax.Array, volume: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Flips every other volume, along every axis."""
  for axis, flip in enumerate(jax.random.bernoulli(key, shape=(labels.ndim,))):
    volume = jnp.where(flip, jnp.flip(volume, axis), volume)
    labels = jnp.where(flip, jnp.flip(labels, axis), labels)
  return volume, labels


def lesson(config: Config) -> common.Lesson:
  """Training volumes, each under the noise of a random group, whose own voxels alone count.

  Elsewhere the volume is under strong noise, or hidden: where that counts too, the same network
  gets 83 rather than 94 % of the validation voxels right.
  """
  learned = bodies.load("train", config.size, TRAINING_VOLUMES, config.seed)
  expose = training.own_pixels(localized_noise(config), output_groups(config))
  return common.Lesson(learned.volumes, learned.labels, expose, mirror)


def figures(
  config: Config, data: Data, records: Sequence[Any], summary: Mapping[str, Any]
) -> "dict[str, Figure]":
  """`noise.png`, and every volume's `volume.png`."""
  found = {"noise.png": noise_figure(localized_noise(config).scale, config.grid)}
  for case, record in zip(data.cases, records, strict=True):
    found[f"{case.name}/volume.png"] = volume_figure(case, record.base, data.classes)
  return found


def noise_figure(scale: np.ndarray, grid: tuple[int, int, int]) -> "Figure":
  """Draws what every group adds to every cell, the layers of the grid one below the other.

  It is `plots.noise_figure` of a grid of (P, R, Q) cells.

  Example:
    >>> len(noise_figure(np.full((8, 8), 0.5), (2, 2, 2)).axes)  # 8 groups, a scale
    9
  """
  from lrs_jax.evaluation import plots  # Matplotlib is heavy

  layers, rows, columns = grid
  figure = plots.noise_figure(scale, (layers * rows, columns))
  for axes in figure.axes[: len(scale)]:
    for layer in range(1, layers):
      axes.axhline(layer * rows - 0.5, color="black", linewidth=2)
  figure.suptitle("What every group (red) adds to every cell;\na line parts layers", fontsize=10)
  return figure


def volume_figure(case: Case, base: BaseCertificates, classes: Sequence[str]) -> "Figure":
  """Draws three orthogonal slices: input, labels, smoothed prediction, every voxel's own radius.

  The slices are those with most of the labels' bodies, along each axis; dashed lines in each show
  where the other two cut it, thin white ones the cells. The case is a volume [D, H, W, 1] in [0, 1]
  with its labels, `base` its base certificates, against an l2 ball, for every voxel.

  Example:
    >>> zeros = np.zeros(24, int)
    >>> base = BaseCertificates(np.ones((1, 1, 1)), zeros, zeros + 0.5, zeros, zeros)
    >>> case = Case("a volume", np.zeros((2, 3, 4, 1)), zeros)
    >>> volume_figure(case, base, ("a class",)).get_suptitle()
    'a volume'
  """
  from matplotlib.colors import ListedColormap  # Matplotlib is heavy
  from matplotlib.figure import Figure
  from matplotlib.patches import Patch

  from lrs_jax.evaluation import plots

  gray, size = len(classes), case.x.shape[:-1]
  truth, predicted = (
    np.where((a >= 0) & (a < gray), a, gray).reshape(size)
    for a in (np.asarray(case.truth), base.predictions)
  )
  groups, radius = base.groups.reshape(size), np.sqrt(common.lone_budgets(base)).reshape(size)
  colors = np.resize(["#f2efe6", *plots.COLORS], gray).tolist()
  palette = ListedColormap([*colors, "#999999"])
  bodies_at = np.nonzero((truth > 0) & (truth < gray))
  at = [int(np.bincount(i, minlength=n).argmax()) for i, n in zip(bodies_at, size, strict=True)]
  figure = Figure(figsize=(11.5, 8.2), layout="constrained")
  panels = figure.subplots(3, 4)
  labels: dict[str, Any] = {"cmap": palette, "vmin": -0.5, "vmax": gray + 0.5}
  radii = {"cmap": "viridis", "vmin": 0, "vmax": max(float(radius.max(initial=0.0)), 1e-9)}
  columns: tuple[tuple[str, np.ndarray, dict[str, Any]], ...] = (
    ("input", case.x[..., 0], {"cmap": "gray", "vmin": 0, "vmax": 1}),
    ("labels", truth, labels),
    (f"smoothed prediction, {np.mean(predicted == gray):.1%} abstain", predicted, labels),
    ("radius of every voxel on its own", np.ma.masked_equal(radius, 0), radii),
  )
  for axis, row in enumerate(panels):
    down, right = (other for other in range(3) if other != axis)
    cells = groups.take(at[axis], axis)
    edges = [np.flatnonzero(np.diff(cells, axis=i).any(axis=1 - i)) + 0.5 for i in range(2)]
    for axes, (title, values, style) in zip(row, columns, strict=True):
      shown = axes.imshow(values.take(at[axis], axis), interpolation="nearest", **style)
      axes.axhline(at[down], color="red", linestyle="--", linewidth=0.7)
      axes.axvline(at[right], color="red", linestyle="--", linewidth=0.7)
      for draw, borders in zip((axes.axhline, axes.axvline), edges, strict=True):
        for border in borders:
          draw(border, color="white", linewidth=0.6)
      axes.patch.set_facecolor("#999999")
      axes.set(xticks=[], yticks=[])
      if axis == 0:
        axes.set_title(title, fontsize=10)
    row[0].set_ylabel(f"{['depth', 'height', 'width'][axis]} {at[axis]}")
  figure.colorbar(shown, ax=panels[:, 3], label=r"$\ell_2$ radius on the [0, 1] scale", shrink=0.6)
  handles = [
    Patch(facecolor=palette(k), edgecolor="0.5", label=(*classes, "abstains / void")[k])
    for k in sorted({*truth.flat, *predicted.flat})
  ]
  figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9)
  figure.suptitle(case.name)
  return figure


TASK = Task(
  name="volumes",
  unit="voxels",
  data={"bodies": Config()},
  about={"bodies": "synthetic volumes with textured balls, boxes and tubes, no download"},
  check=check,
  load=load,
  models=common.models(
    network=lambda config, data: Network("slabs", common.plain_fields(config, _NETWORK)),
    model=lambda config, data: Slabs(len(data.classes), config.width, config.depth),
    lesson=lesson,
    apply=lambda config: slabs.apply,
    finish=slabs.fold,
  ),
  smoothings=lambda config, data, case: smoothings(config),
  counter=lambda config, data, params, case, smoothing: common.counter(
    config, slabs.apply, params, case.x, smoothing, len(data.classes)
  ),
  chunk_size=common.chunk_size,
  adversaries=common.ball,
  check_record=lambda config, record: common.check_smoothing(smoothings(config), record),
  figures=figures,
)
"""Classes of voxels, against an l2 perturbation of the whole volume."""
