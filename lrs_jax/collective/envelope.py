r"""The envelope LP: the tightest concave relaxation of every group's step function (host).

.. math:: \max_{b, u} \sum_g u_g \quad \text{s.t.} \quad u_g \le \hat N_g(s_g),\ l \le s \le u

with :math:`\hat N_g` the concave envelope of :math:`N_g` on its interval: the upper hull of
:math:`(l_g, N_g(l_g))`, :math:`(\eta_{(k)}, k)` and :math:`(u_g, N_g(u_g))`. The LP has a row per
group and kind and a column in [0, 1] per hull edge and cell, so HiGHS solves it in about a
millisecond. Only its duals leave: they are the multipliers of a witness.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from lrs_jax.collective import highs
from lrs_jax.collective.problem import Problem, Region
from lrs_jax.collective.witness import Box, interval


class Hull(NamedTuple):
  """Vertices of a concave envelope that never falls, from the left end of the interval."""

  s: np.ndarray  # float64 [vertices], increasing
  height: np.ndarray  # float64 [vertices], increasing


class Relaxation(NamedTuple):
  """What an LP proposes; only `witness.bound` says what it is worth."""

  status: str
  multipliers: np.ndarray  # float64 [G]
  attack: np.ndarray | None  # float64 [A, C]


def extend(hull: Hull, s: np.ndarray, count: np.ndarray) -> Hull:
  """The upper hull of a hull and of points to its right, in linear time.

  The slopes of an upper hull are the antitonic regression of the slopes between neighbors,
  weighted by their distances (Barlow et al. 1972, theorem 1.2.1).
  """
  if not s.size:
    return hull
  s, count = np.append(hull.s, s), np.append(hull.height, count)
  width = np.diff(s) / s[-1]
  keep = np.append(True, width > 1e-15)  # closer than that is the same point to a solver
  keep[-1] = True
  if not keep.all():
    s, count = s[keep], count[keep]
    width = np.diff(s) / s[-1]
  if s.size > 2:
    vertices = optimize.isotonic_regression(
      np.diff(count) / width, weights=width, increasing=False
    ).blocks
    s, count = s[vertices], count[vertices]
  return Hull(s, count)


def hull_of(problem: Problem, region: Region, box: Box, g: int) -> Hull | None:
  """The envelope of group g on its interval in the box, without its flat end; None if empty."""
  cut = interval(problem.thresholds[g], box, region, g)
  if cut is None:
    return None
  first, last = cut
  start = Hull(box.lower[g : g + 1], problem.counts[g][first : first + 1])
  return extend(start, problem.thresholds[g][first:last], problem.counts[g][first + 1 : last + 1])


def relax(
  solver: Any,
  hulls: list[Hull],
  region: Region,
  box: Box,
  *,
  elastic: bool = False,
  time_limit: float | None = None,
) -> Relaxation:
  """Solves the envelope LP over a box.

  Lengths are in units of the reach of the group, attacks in units of the most a cell can take.
  The columns are the fraction climbed of every hull edge; the flat end of an interval that is cut
  on the right; the attack; and, if `elastic`, the violation of every group's row.

  Args:
    solver: from `highs.new_solver`.
    hulls: one per group, from `hull_of`.
    region: the attacks.
    box: intervals of s.
    elastic: minimize the sum of violations instead, for multipliers that prove a box empty.
    time_limit: seconds.
  """
  num_kinds, num_groups, num_cells = region.weights.shape
  lost = np.isinf(region.reach)
  reach = np.where(lost | (region.reach == 0), 1.0, region.reach)
  size = np.where(np.isfinite(region.upper) & (region.upper > 0), region.upper, 1.0)  # [A, C]
  # Edges.
  edges = [np.diff(hull.s) / scale for hull, scale in zip(hulls, reach, strict=True)]
  gains = [np.diff(hull.height) for hull in hulls]
  group = np.repeat(np.arange(num_groups), [len(edge) for edge in edges])
  # Flat ends.
  cut = np.flatnonzero((box.upper < region.reach) & ~lost)
  flat = np.array([(box.upper[g] - hulls[g].s[-1]) / reach[g] for g in cut])
  # Rows: climbed + flat - s <= -lower, an equation where the interval is cut on the right.
  row_upper = np.where(lost, np.inf, -box.lower / reach)
  row_lower = np.full(num_groups, -np.inf)
  row_lower[cut] = row_upper[cut]
  attack = -region.weights * size[:, None] / reach[:, None]  # [A, G, C]
  finite_budget = np.where(np.isfinite(region.budget) & (region.budget > 0), region.budget, 1.0)
  spend = size / finite_budget[:, None]  # [A, C]
  columns = np.zeros((num_kinds, num_cells, num_groups + 1))
  columns[..., :-1] = attack.transpose(0, 2, 1)
  columns[..., -1] = spend
  rows = np.empty((num_kinds, num_cells, num_groups + 1), np.int64)
  rows[..., :-1] = np.arange(num_groups)
  rows[..., -1] = num_groups + np.arange(num_kinds)[:, None]
  num_edges, num_elastic = group.size, 2 * num_groups if elastic else 0
  violation = np.arange(num_groups)
  num_attack = num_kinds * num_cells
  ones = num_edges + cut.size
  model = highs.Model(
    cost=np.concatenate(
      [
        np.zeros(num_edges) if elastic else -np.concatenate([*gains, np.zeros(0)]),
        np.zeros(cut.size + num_attack),
        np.ones(num_elastic),
      ]
    ),
    lower=np.concatenate([np.zeros(ones), (region.lower / size).ravel(), np.zeros(num_elastic)]),
    upper=np.concatenate(
      [
        np.ones(num_edges),
        flat,
        np.where(region.upper > 0, np.where(np.isfinite(region.upper), 1.0, np.inf), 0.0).ravel(),
        np.full(num_elastic, np.inf),
      ]
    ),
    row_lower=np.append(row_lower, np.full(num_kinds, -np.inf)),
    row_upper=np.append(row_upper, np.where(region.budget == finite_budget, 1.0, np.inf)),
    starts=np.concatenate(
      [
        np.arange(ones),
        ones + (num_groups + 1) * np.arange(num_attack),
        ones + (num_groups + 1) * num_attack + np.arange(num_elastic + 1),
      ]
    ),
    rows=np.concatenate([group, cut, rows.ravel(), np.tile(violation, 2)[:num_elastic]]),
    values=np.concatenate(
      [
        *edges,
        np.ones(cut.size),
        columns.ravel(),
        np.repeat([-1.0, 1.0], num_groups)[:num_elastic],
      ]
    ),
  )
  solution = highs.solve(solver, model, time_limit=time_limit)
  multipliers = np.zeros(num_groups)
  if solution.dual is not None and solution.dual.shape == model.row_lower.shape:
    multipliers = np.where(lost, 0.0, -solution.dual[:num_groups] / reach)
    multipliers[~np.isfinite(multipliers)] = 0.0
    uncut = np.ones(num_groups, bool)
    uncut[cut] = False
    multipliers[uncut] = np.maximum(multipliers[uncut], 0.0)
  proposed = None
  if solution.primal is not None and solution.primal.shape == model.cost.shape:
    proposed = (solution.primal[ones : ones + num_attack]).reshape(num_kinds, num_cells) * size
  return Relaxation(solution.status, multipliers, proposed)
