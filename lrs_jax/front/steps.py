"""Steps of certifying, some of them also of going through it again (host)."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.typing import ArrayLike

from lrs_jax import noise
from lrs_jax.cells import locality, partition
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.noise import SmoothingDistribution

BLOCK = 16
"""Rows and columns of pixels in a block, where a view is given and no grid."""

MAX_BLOCKS = 24
"""Blocks in a row, or in a column, of such a grid: in large images, blocks are larger."""


def block_grid(
  shape: tuple[int, int], grid: tuple[int, int] | None, std_max: float | None, view: int | None
) -> tuple[int, int]:
  """Rows and columns of blocks: as asked for, one, or blocks of `BLOCK` pixels for a view."""
  if grid is not None:
    return grid
  if std_max is not None:
    raise ValueError(
      "`std_max` is for localized noise, which needs a `grid` of (R, Q) blocks as well, such as "
      "(3, 5): every block takes a pass per sample."
    )
  if view is None:
    return 1, 1
  rows, columns = (min(-(-size // BLOCK), MAX_BLOCKS) for size in shape)
  return rows, columns


def seen(
  distribution: SmoothingDistribution, groups: np.ndarray, view: int | None, shape: Sequence[int]
) -> SmoothingDistribution:
  """The noise as outputs of a limited view see it: cells that no output of a group sees, hidden."""
  if view is None:
    return distribution
  cells = np.asarray(distribution.cells).reshape(shape)
  distances = partition.pixel_distances(np.asarray(groups).reshape(shape), cells)
  scale = locality.hide_beyond(distribution.scale, distances, view)
  return noise.gaussian(scale, distribution.cells)


def fields(distribution: SmoothingDistribution) -> tuple[SmoothingDistribution, np.ndarray]:
  """One group for all that have the same noise, and which one every group has become, int [G]."""
  leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(distribution.levels)]
  rows = np.concatenate([leaf.astype(np.float64) for leaf in leaves], axis=1)
  _, first, field_of_group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
  fields = distribution._replace(
    parameters=tuple(level[first] for level in distribution.parameters),
    levels=jax.tree.map(lambda level: np.asarray(level)[first], distribution.levels),
    weights=distribution.weights[:, first],
  )
  return fields, field_of_group.reshape(-1)


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
