r"""Noise of a few fields, as it is seen by outputs whose view is limited (host).

A pass through a model under one field of noise gives a vote to every output of that field. What an
adversary has to pay to change it depends on what the output sees.
"""

import jax
import numpy as np
from jax.typing import ArrayLike

from lrs_jax.cells import views
from lrs_jax.cells.views import View
from lrs_jax.noise.distributions import SmoothingDistribution
from lrs_jax.noise.families import make


def seen(
  fields: SmoothingDistribution, field: ArrayLike, cells: ArrayLike, sees: ArrayLike
) -> SmoothingDistribution:
  r"""K fields of noise, as groups of outputs see them.

  Where group g sees cell c it has the level of its field k(g) there, elsewhere c is hidden from it:

  .. math:: W_{g,c} = W_{k(g),c} \text{ if an output of g sees a coordinate of c, else } 0 .

  An output that sees R(n) is a function of the noisy coordinates in R(n), whose law is as if all
  others had been hidden. So votes that it casts under the whole field k(g), in the same pass as all
  other outputs of that field, bound its probability under this distribution.

  Args:
    fields: what is drawn, K groups.
    field: int [G], the field of every group.
    cells: int, of as many axes as those of `fields`: a finer partition, into C cells.
    sees: bool [G, C]; a wrong False makes certificates wrong.

  Raises:
    ValueError: shapes that do not fit, or a cell whose coordinates have different levels.

  Example:
    >>> from lrs_jax import noise
    >>> one = noise.gaussian([[0.5]], [0, 0, 0])
    >>> seen(one, [0, 0], [0, 0, 1], [[True, True], [False, True]]).weights
    array([[[4., 4.],
            [0., 4.]]])

  References: Cohen et al. 2019 (arXiv 1902.02918), theorem 1, on the coordinates that are seen;
    Schuchardt et al. 2021 (arXiv 2302.02829) for isotropic noise, one field.
  """
  cells, sees, field = np.asarray(cells), np.asarray(sees, bool), np.asarray(field)
  coarse = np.asarray(fields.cells)
  if cells.ndim != coarse.ndim or sees.ndim != 2 or sees.shape[0] != field.size:
    raise ValueError(
      f"`cells` must have {coarse.ndim} axes, and `sees` the shape [G, C] with G = {field.size}, "
      f"but their shapes are {cells.shape} and {sees.shape}."
    )
  fine, coarse = (part.ravel() for part in np.broadcast_arrays(cells, coarse))
  inside = np.zeros(sees.shape[1], np.int64)
  inside[fine] = coarse
  if not np.array_equal(inside[fine], coarse):
    raise ValueError("`cells` must lie within those of `fields`, but one is in several of them.")
  levels = []
  for value, level in zip(fields.family.hidden, fields.parameters, strict=True):
    own = level[field][:, inside]
    levels.append(own if value is None else np.where(sees, own, value))
  return make(fields.family.name, levels, cells, fields.family.step)


def in_blocks(
  fields: SmoothingDistribution, field: ArrayLike, view: View, block: int | None = None
) -> tuple[SmoothingDistribution, np.ndarray]:
  """K fields of noise in an image or a volume, as blocks of outputs see them (host).

  Args:
    fields: what is drawn; its cells are shaped like the outputs, with the channels' axis behind.
    field: int, of the outputs' shape: the field of every output.
    view: what every output sees.
    block: places of a block along every axis; None: as small as is feasible, `views.block_size`.

  Returns:
    The noise of G groups, and int32 [N], the group of every output; `fields` and `field` as they
    are if every output sees everything.

  Example:
    >>> from lrs_jax import noise
    >>> one = noise.gaussian([[0.5]], np.zeros((4, 1), int))
    >>> blocks, groups = in_blocks(one, np.zeros(4, int), views.around((4,), 0), block=2)
    >>> blocks.scale.tolist(), groups.tolist()
    ([[0.5, inf], [inf, 0.5]], [0, 0, 1, 1])
  """
  field, coarse = np.asarray(field), np.asarray(fields.cells)
  coarse = np.broadcast_to(coarse, field.shape + coarse.shape[field.ndim :])
  labels = []  # along an axis: where field and cells are the same for all other places
  for axis in range(field.ndim):
    parts = [np.moveaxis(part, axis, 0).reshape(field.shape[axis], -1) for part in (field, coarse)]
    labels.append(np.unique(np.concatenate(parts, axis=1), axis=0, return_inverse=True)[1])
  found = views.blocks(view, block, [label.reshape(-1) for label in labels])
  groups = found.groups.reshape(-1)
  if found.seen.all():
    return fields, field.reshape(-1).astype(np.int32)
  of_group = np.zeros(len(found.seen), np.int64)
  of_group[groups] = field.reshape(-1)
  cells = found.cells.reshape(field.shape + (1,) * (coarse.ndim - field.ndim))
  return seen(fields, of_group, np.broadcast_to(cells, coarse.shape), found.seen), groups


def distinct(
  distribution: SmoothingDistribution, groups: np.ndarray
) -> tuple[SmoothingDistribution, np.ndarray]:
  """One group for all that have the same noise, and which one every output's has become, [N].

  Example:
    >>> from lrs_jax import noise
    >>> fields, field = distinct(noise.gaussian([[0.5], [0.2], [0.5]], [0]), np.array([0, 1, 2]))
    >>> fields.scale.tolist(), field.tolist()
    ([[0.2], [0.5]], [1, 0, 1])
  """
  leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(distribution.levels)]
  rows = np.concatenate([leaf.astype(np.float64) for leaf in leaves], axis=1)
  _, first, field_of_group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
  fields = distribution._replace(
    parameters=tuple(level[first] for level in distribution.parameters),
    levels=jax.tree.map(lambda level: np.asarray(level)[first], distribution.levels),
    weights=distribution.weights[:, first],
  )
  return fields, field_of_group.reshape(-1)[groups]
