"""Images: every pixel's class under Gaussian noise that grows with the distance between cells."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax import keys, noise, sampling
from lrs_jax.baselines import segcertify
from lrs_jax.cells import locality, partition, views
from lrs_jax.cells.views import View
from lrs_jax.sampling import Windows
from lrs_jax.tasks import common, options, training
from lrs_jax.tasks.data.sets import FILES, load_images
from lrs_jax.tasks.models.architectures import NETWORKS, Architecture, architecture
from lrs_jax.tasks.models.folding import Folded, fold
from lrs_jax.tasks.options import ONE, POSITIVE, TRAINED, TRAINING, Option
from lrs_jax.tasks.task import Case, Count, Data, Network, Smoothing, Task

if TYPE_CHECKING:
  from matplotlib.figure import Figure

Block = Annotated[
  int | None,
  Option(
    "outputs in a block of so many rows and columns are thought to see what one of them sees; by "
    "default as few as is feasible",
    "noise",
    "PIXELS",
    **ONE,
  ),
]


class Config(options.Shared):
  """Configuration of a job on images; `lrs-jax certify scenes --help` explains the fields."""

  data: str = "scenes"
  size: Annotated[
    tuple[int, int], Option("pixels, images are resized", "images", "HxW", separator="x", **ONE)
  ] = (64, 96)
  images: Annotated[int, Option("test images to certify", "images", **ONE)] = 4
  std_min: Annotated[
    float,
    Option("noise on the input's [0, 1] scale; of localized noise in a group's own cell", "noise"),
  ] = 0.15
  std_max: Annotated[
    float | None,
    Option(
      "localized noise: that in the farthest cell, a pass per cell and sample; by default noise "
      "is the same everywhere",
      "noise",
      "STD",
    ),
  ] = None
  grid: Annotated[
    tuple[int, int],
    Option("cells of localized noise, rows by columns", "noise", "RxQ", separator="x", **ONE),
  ] = (2, 3)
  colors: Annotated[
    tuple[int, int] | None,
    Option(
      "color the cells, by row and column modulo these numbers, for a pass per color: --std-min in "
      "the cells of an output's color, --std-max in all others; by default a pass per cell",
      "noise",
      "RxQ",
      separator="x",
      **ONE,
    ),
  ] = None
  view: Annotated[
    str,
    Option(
      "what an adversary must pay for to change an output: what the network's layers let it see "
      "(tested before sampling), or the whole image",
      "noise",
      choices=("network", "whole"),
    ),
  ] = "network"
  block: Block = None
  exact_noise: options.ExactNoise = None
  interpolation: Annotated[
    str,
    Option(
      "what grows linearly with the Chebyshev distance between cells",
      "noise",
      choices=("std", "variance"),
    ),
  ] = "std"
  reach: Annotated[
    str,
    Option(
      "where std-max is reached: at the largest distance in the grid, or at every group's "
      "farthest cell",
      "noise",
      choices=("grid", "border"),
    ),
  ] = "grid"
  hide_beyond: Annotated[
    float | None,
    Option(
      "hide cells farther away than this from the group (strictly local); by default none",
      "noise",
      "CELLS",
    ),
  ] = None
  isotropic_std: Annotated[
    float | None,
    Option(
      "noise of the isotropic baseline, which sees the whole image; by default --std-min",
      "noise",
      "STD",
      **POSITIVE,
    ),
  ] = None
  network: Annotated[
    str,
    Option(
      "U-Net; patchnet, residual blocks at 1/4 of the resolution, which sees less and is cheaper; "
      "or DeepLabv3's atrous convolutions at 1/8, which sees all",
      TRAINING,
      choices=tuple(NETWORKS),
    ),
  ] = "unet"
  positions: Annotated[
    bool, Option("let the network know where in the image a pixel lies, by two channels", TRAINING)
  ] = False
  train_split: Annotated[
    str, Option("what to train on; for voc also trainaug, with SegmentationClassAug", TRAINING)
  ] = "train"
  width: Annotated[
    int,
    Option(
      "channels of unet at full resolution, of deeplab at 1/2 and of patchnet at 1/4 of it",
      TRAINING,
      **ONE,
    ),
  ] = 8
  depth: Annotated[
    int,
    Option(
      "poolings of unet, each of which doubles its view; blocks of patchnet, each of which sees 8 "
      "pixels farther; of deeplab residual blocks per stage",
      TRAINING,
      **ONE,
    ),
  ] = 2
  steps: options.Steps = 800
  batch_size: options.BatchSize = 16
  learning_rate: options.LearningRate = 5e-3
  scores: options.Scores = ("votes", "margins")


_STREETS: Any = {"images": 8, "std_min": 0.2, "width": 16, "depth": 3, "steps": 2500,
  "learning_rate": 3e-3}  # fmt: skip
DEFAULTS = {
  "scenes": Config(),
  "camvid": Config(data="camvid", size=(64, 96), grid=(3, 5), **_STREETS),
  "voc": Config(data="voc", size=(64, 96), grid=(3, 5), **_STREETS),
  "cityscapes": Config(data="cityscapes", size=(64, 128), grid=(4, 6), **_STREETS),
}
"""Every image data set with its job's defaults."""

ABOUT = {
  "scenes": "handwritten digits on textured canvases: embedded, no download",
  "camvid": "street scenes; --data-dir holds camvid/{train,val,test}{,annot}",
  "voc": "Pascal VOC 2012; --data-dir holds VOCdevkit/VOC2012; certifies validation images",
  "cityscapes": "street scenes; --data-dir holds leftImg8bit and gtFine; certifies validation "
  "images",
}

_NETWORK = (
  *("data", "train_split", "size", "network", "width", "depth", "grid", "colors", "std_min"),
  *("std_max", "interpolation", "reach", "hide_beyond", *TRAINED),
)
"""Fields that decide what is trained."""


def _trained(config: Config) -> dict[str, Any]:
  """What decides what is trained; positions only if used, for networks stored before they were."""
  return common.plain_fields(config, (*_NETWORK, *("positions",) * config.positions))


def check(config: Config) -> None:
  """Raises a ValueError that names the first options that cannot go together."""
  splits = FILES[config.data].train if config.data in FILES else ("train",)
  if config.train_split not in splits:
    raise ValueError(
      f"--train-split of {config.data} must be one of {', '.join(splits)}, but it is "
      f"{config.train_split}."
    )
  if not 0 < config.std_min <= _std_max(config) < np.inf:
    raise ValueError(
      "--std-min and --std-max must satisfy 0 < std-min <= std-max, "
      f"but they are {config.std_min} and {options.shown(config.std_max)}."
    )
  if config.colors is not None and (config.std_max is None or config.hide_beyond is not None):
    raise ValueError("--colors need --std-max, and hide nothing: not with --hide-beyond.")
  (height, width), (rows, columns) = config.size, config.grid
  if not (1 <= rows <= height and 1 <= columns <= width):
    raise ValueError(
      f"--grid must lie between 1x1 and --size {height}x{width}, but it is {rows}x{columns}."
    )


def load(config: Config) -> Data:
  """The test images; void labels are K."""
  test = load_images(config, "test", config.images)
  inside = (test.labels >= 0) & (test.labels < (void := len(test.classes)))
  truth = np.where(inside, test.labels, void).astype(np.int32).reshape(len(inside), -1)
  inputs = test.images
  if config.exact_noise:  # those of files lie there already
    inputs = np.rint(inputs * np.float32(255)) / np.float32(255)
  cases = [Case(*case) for case in zip(test.names, inputs, truth, strict=True)]
  return Data(cases, test.classes)


def _std_max(config: Config) -> float:
  return config.std_min if config.std_max is None else config.std_max


def grid_of(config: Config) -> tuple[int, int]:
  """Rows and columns of cells whose noise differs: one cell, or those of localized noise."""
  return (1, 1) if config.std_max is None else config.grid


def fields(config: Config) -> noise.SmoothingDistribution:
  """The noise that is drawn: of one field, or localized, more with the distance from every cell."""
  if config.colors is not None:
    scale = locality.own_color(math.prod(config.colors), config.std_min, _std_max(config))
    return noise.gaussian(scale, partition.pixel_cells(field_of_pixels(config), channels=3))
  distances = locality.chebyshev_distances(grid_of(config))
  fraction = {"grid": locality.fraction_of_grid, "border": locality.fraction_of_border}
  interpolate = {"std": locality.interpolate_std, "variance": locality.interpolate_variance}
  scale = interpolate[config.interpolation](
    fraction[config.reach](distances), config.std_min, _std_max(config)
  )
  if config.hide_beyond is not None:
    scale = locality.hide_beyond(scale, distances, config.hide_beyond)
  return noise.gaussian(scale, partition.pixel_cells(field_of_pixels(config), channels=3))


def field_of_pixels(config: Config) -> np.ndarray:
  """The field of every pixel, int32 [H, W]: its cell, or its cell's color."""
  if config.colors is None:
    return partition.image_grid(config.size, grid_of(config))
  return partition.colored_grid(config.size, grid_of(config), config.colors)


def of(config: Config) -> Architecture:
  """The job's network."""
  return architecture(config.network, config.positions)


def network(config: Config, data: Data) -> nn.Module:
  """The job's network, to be trained."""
  return of(config).module(num_classes=len(data.classes), width=config.width, depth=config.depth)


def network_windows(config: Config, params: Folded, groups: np.ndarray) -> Windows:
  """The windows in which the job's network, folded, is evaluated for groups [H, W]."""
  starts, size = partition.windows(groups, alignment=of(config).alignment(params))
  return Windows(of(config).window(size), starts, size)


def network_view(config: Config) -> View:
  """What the job's network lets every pixel see."""
  return of(config).view(config.depth, config.size)


def smoothings(config: Config) -> tuple[Smoothing, ...]:
  """The job's noise, as blocks of pixels see it, and isotropic noise, as those see it that see all.

  Isotropic noise is a third one, as the blocks see it, if the first differs. Whatever draws the
  same noise takes the same samples.
  """
  drawn, field = common.exact(config, fields(config)), field_of_pixels(config)
  view = views.whole(config.size) if config.view == "whole" else network_view(config)
  ours = common.as_seen(config, drawn, field, view, config.block)
  one, nothing = common.exact(config, common.isotropic(config, drawn)), 0 * field
  less = common.certificates_of(("envelope",))
  baseline = Smoothing("isotropic", one, nothing.ravel(), less)
  if common.noise_digest(one) == common.noise_digest(drawn):
    return (ours, baseline._replace(samples=ours.name)) if ours.fields else (ours,)
  seen = common.as_seen(config, one, nothing, view, config.block)
  seen = seen._replace(name="isotropic-view", certificates=less, samples=baseline.name)
  return (ours, baseline, seen) if seen.fields else (ours, baseline)


def counter(config: Config, data: Data, params: Folded, case: Case, smoothing: Smoothing) -> Count:
  """Counts in windows, each holding the pixels of a field, where there are several fields."""
  drawn, field = smoothing.drawn
  local = drawn.num_groups > 1 and config.colors is None  # colors lie everywhere
  windows = network_windows(config, params, field.reshape(config.size)) if local else None
  given = config, of(config).apply, params, case.x, smoothing, len(data.classes)
  return common.counter(*given, windows=windows)


def check_network(config: Config, data: Data, params: Folded) -> None:
  """Raises a `FartherViewError` if some pixel sees more than certificates count on."""
  if config.view == "network" and data.cases:
    sampling.check_view(of(config).apply, params, data.cases[0].x, network_view(config))


def lesson(config: Config) -> common.Lesson:
  """All training images, each under the noise of a field drawn at random."""
  images, labels, _, classes = load_images(config, "train", None)
  shown = jax.vmap(of(config).shown)(jnp.asarray(images))
  expose = of(config).exposed(training.random_group(fields(config)))
  augment = training.keep if config.data == "scenes" else training.mirror_and_rescale
  return common.Lesson(shown, labels, expose, augment, facts={"classes": classes})


def against_segcertify(record: Any) -> dict[str, np.ndarray] | None:
  """What SegCertify, with Holm's correction, certifies of isotropic noise.

  Every radius has a test of its own: each holds, where certificates hold at all radii together.
  """
  if record.noise.p != 2 or record.noise.weights.shape != (1, 1, 1):
    return None
  given = record.selection.votes, record.estimation.votes, float(record.noise.scale[0, 0])
  how = {"alpha": record.bounds.level, "num_samples": int(record.estimation.num_samples)}
  how["distance"] = record.noise.family.distance
  radii = map(float, record.adversary.radii)
  kept = [segcertify.at_radius(*given, radius, **how).labels for radius in radii]
  return {
    "all": np.array([np.sum(labels >= 0) for labels in kept], np.int64),
    "correct": np.array([np.sum(labels == record.truth) for labels in kept], np.int64),
  }


def check_record(config: Config, record: Any) -> None:
  """Raises a ValueError if noise, cells or groups of a record are not those of its job."""
  if record.noise.cells.shape != (*config.size, 3):
    raise ValueError(
      f"`meta` says that size is {config.size}, but `cells` has shape {record.noise.cells.shape}."
    )
  common.check_smoothing(smoothings(config), record)


def figures(
  config: Config, data: Data, done: Sequence[Any], summary: Mapping[str, Any]
) -> "dict[str, Figure]":
  """`noise.png`, and every image's `image.png`."""
  from lrs_jax.evaluation import plots  # Matplotlib is heavy

  groups, distribution = field_of_pixels(config), fields(config)
  found = {}
  if distribution.num_groups > 1 and config.colors is None:
    found["noise.png"] = plots.noise_figure(distribution.scale, grid_of(config))
  corners = tuple(dict.fromkeys(int(groups[i, j]) for i in (0, -1) for j in (0, -1)))
  key = keys.tagged(jax.random.key(config.seed), "figures")
  for case, record in zip(data.cases, done, strict=True):
    image = jnp.asarray(case.x)
    view = plots.ImageView(
      name=case.name,
      image=case.x,
      truth=np.asarray(case.truth).reshape(config.size),
      prediction=record.base.predictions.reshape(config.size),
      radius=(common.lone_budgets(record.base) ** (1 / distribution.p)).reshape(config.size),
      noisy=[np.asarray(noise.sample(key, distribution, image, group)) for group in corners],
      noisy_groups=corners,
      groups=groups,
      classes=data.classes,
    )
    found[f"{case.name}/image.png"] = plots.image_figure(view)
  return found


TASK = Task(
  name="images",
  unit="pixels",
  data=DEFAULTS,
  about=ABOUT,
  check=check,
  load=load,
  models=common.models(
    network=lambda config, data: Network(config.network, _trained(config)),
    model=network,
    lesson=lesson,
    apply=lambda config: of(config).apply,
    finish=fold,
    shown=lambda config, x: of(config).shown(x),
  ),
  smoothings=lambda config, data, case: smoothings(config),
  counter=counter,
  chunk_size=common.chunk_size,
  adversaries=common.ball,
  rivals={"segcertify": against_segcertify},
  check_network=check_network,
  check_record=check_record,
  figures=figures,
)
