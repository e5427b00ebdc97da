"""Steps of certifying, some of them also of going through it again (host)."""

import math
from typing import NamedTuple, TypedDict

import jax
import numpy as np
from jax.typing import ArrayLike

from lrs_jax import noise
from lrs_jax.cells import locality, partition
from lrs_jax.cells.views import View
from lrs_jax.confidence import corrections, margins
from lrs_jax.confidence.certificates import BaseCertificates, from_votes
from lrs_jax.confidence.corrections import Levels
from lrs_jax.noise import SmoothingDistribution
from lrs_jax.sampling import checks

Fields = tuple[SmoothingDistribution, ArrayLike]
"""What is drawn: K noise fields, and int [N], that of every output."""


class Options(TypedDict, total=False):
  """What the functions for images hand on to those for any inputs."""

  num_samples: int
  selection_samples: int
  alpha: float
  k_fwer: float
  method: str
  time_limit: float | None
  targets: ArrayLike | None
  truth: ArrayLike | None
  until: tuple[float, float] | None


class Smoothed(NamedTuple):
  """How an image is smoothed: what is drawn, and what the outputs see of it."""

  drawn: SmoothingDistribution  # K fields
  field: np.ndarray  # int32 [N], the field of every output
  noise: SmoothingDistribution  # G groups, as they see it
  groups: np.ndarray  # int32 [N]


def smoothed(
  shape: tuple[int, ...],
  std: float,
  std_max: float | None,
  grid: tuple[int, int] | None,
  colors: tuple[int, int] | None,
  view: View | None,
  block: int | None,
  step: float | None,
) -> Smoothed:
  """Gaussian noise of one field, of one for every block of a grid, or for every color of them."""
  if (std_max is None) != (grid is None):
    raise ValueError(
      "`std_max` is for localized noise, which needs a `grid` of (R, Q) blocks as well, such as "
      "(3, 5), and a `grid` needs `std_max`: every block of it takes a pass per sample."
    )
  if colors is not None and grid is None:
    raise ValueError("`colors` are of the blocks of a `grid`.")
  if block is not None and view is None:
    raise ValueError("`block` is for outputs of a limited `view`.")
  grid = grid or (1, 1)
  fields, far = partition.image_grid(shape[:2], grid), std if std_max is None else std_max
  fraction = locality.fraction_of_grid(locality.chebyshev_distances(grid))
  scale = locality.interpolate_std(fraction, std, far)
  if colors is not None:
    fields = partition.colored_grid(shape[:2], grid, colors)
    scale = locality.own_color(math.prod(colors), std, far)
  channels = (1,) * (len(shape) - 2)
  cells, field = fields.reshape(fields.shape + channels), fields.reshape(-1)
  drawn = noise.make("gaussian", [scale], cells, step)
  if view is None:
    return Smoothed(drawn, field, drawn, field)
  return Smoothed(drawn, field, *noise.in_blocks(drawn, fields, view, block))


def as_image(image: ArrayLike) -> jax.Array:
  """An image as it gets noise, or a ValueError."""
  image = noise.as_input(image)
  if image.ndim not in (2, 3):
    raise ValueError(
      f"`image` must have shape [H, W, channels] or [H, W], but its shape is {image.shape}."
    )
  return image


def check_fields(
  distribution: SmoothingDistribution, groups: np.ndarray, fields: Fields, num_outputs: int
) -> None:
  """Raises a ValueError unless groups see of their fields what they are said to.

  Where nothing is hidden from a group, its noise must be that of the one field of its outputs.
  """
  drawn = fields[0]
  field = of_outputs("fields", fields[1], "int", num_outputs)
  checks.check_groups(field, drawn.num_groups, "fields")
  of_group = np.zeros(distribution.num_groups, np.int64)
  of_group[groups] = field
  shows = (distribution.weights > 0).any(axis=0)
  again = noise.seen(drawn, of_group, distribution.cells, shows)
  same = again.family == distribution.family
  if not (same and np.array_equal(of_group[groups], field)) or not np.array_equal(
    again.weights, distribution.weights
  ):
    raise ValueError(
      "`noise` must be what groups see of `fields`, of one of them each, as `noise.seen` makes it."
    )


def bounded(
  distribution: SmoothingDistribution,
  groups: np.ndarray,
  selection: np.ndarray,
  estimation: np.ndarray,
  levels: Levels,
  num_samples: int,
) -> BaseCertificates:
  """Base certificates from votes, with margins where they are known for the noise."""
  of_votes = from_votes if distribution.family.margin is None else margins.from_margins
  votes = selection, estimation
  return of_votes(distribution, groups, *votes, alpha=levels, num_samples=num_samples)


def looks(num_samples: int, share: float | None) -> list[int]:
  """Numbers of samples at which sampling may stop: all, or `corrections.looks` if a share will do.

  Example:
    >>> looks(1000, None), looks(1000, 0.8)
    ([1000], [125, 250, 500, 1000])
  """
  if share is None:
    return [num_samples]
  if not 0 < share <= 1:
    raise ValueError(
      "`until` must be a part of the outputs, in (0, 1], and a radius, such as (0.8, 0.5), but its "
      f"part is {share!r}."
    )
  return corrections.looks(num_samples)


def of_outputs(name: str, values: ArrayLike, kind: str, num_outputs: int) -> np.ndarray:
  """One value for every output, bool or int [N], or a ValueError."""
  values = np.asarray(values).reshape(-1)
  kinds = {"bool": "b", "int": "iu"}[kind]
  if values.shape != (num_outputs,) or values.dtype.kind not in kinds:
    raise ValueError(
      f"`{name}` must be {kind} [N] = ({num_outputs},), but is {values.dtype} of shape "
      f"{values.shape}."
    )
  return values


def counted_of(
  targets: ArrayLike | None, truth: ArrayLike | None, num_outputs: int, num_classes: int
) -> np.ndarray:
  """Outputs that are counted: those asked for that have a label, bool [N]."""
  counted = np.ones(num_outputs, bool)
  if targets is not None:
    counted = of_outputs("targets", targets, "bool", num_outputs)
  if truth is None:
    return counted
  labels = of_outputs("truth", truth, "int", num_outputs)
  return counted & (labels >= 0) & (labels < num_classes)


def targets_of(counted: np.ndarray, truth: np.ndarray | None, base: BaseCertificates) -> np.ndarray:
  """Counted outputs whose prediction is the label, if labels are known, bool [N]."""
  return counted if truth is None else counted & (base.labels == truth)


def checked_radii(radii: ArrayLike, distribution: SmoothingDistribution) -> np.ndarray:
  """Radii [B], or budgets [B, A] of several kinds, as float64."""
  kinds = len(distribution.weights)
  radii = np.asarray(radii, np.float64)
  if kinds == 1:
    radii = np.atleast_1d(radii)
  if radii.shape[1:] != (() if kinds == 1 else (kinds,)):
    form = "[B]" if kinds == 1 else f"[B, {kinds}], a budget for each kind of perturbation"
    raise ValueError(f"`radii` must have shape {form}, but their shape is {radii.shape}.")
  if not ((radii >= 0) & np.isfinite(radii)).all():
    raise ValueError(f"`radii` must be finite and at least 0, but they are {radii}.")
  return radii
