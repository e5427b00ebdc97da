r"""The envelope LP: the tightest concave relaxation of every group's step function (host).

.. math:: \max_{b, u} \sum_g u_g \quad \text{s.t.} \quad u_g \le \hat N_g(s_g),\ l \le s \le u

with :math:`\hat N_g` the concave envelope of :math:`N_g` on its interval: the upper hull of
:math:`(l_g, N_g(l_g))`, :math:`(\eta_{(k)}, k)` and :math:`(u_g, N_g(u_g))`. The LP has a row per
group and kind and a column in [0, 1] per hull edge and cell, so HiGHS solves it in less than a
millisecond. Only its duals are used: they are the multipliers of a witness.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from lrs_jax.collective import highs
from lrs_jax.collective.problem import EPS, Problem, Region
from lrs_jax.collective.witness import Box, interval, prices, round_up


class Hull(NamedTuple):
  """A concave envelope that never falls, from the left end of its interval; then it is flat."""

  s: np.ndarray  # float64 [vertices], increasing
  height: np.ndarray  # float64 [vertices], increasing
  width: np.ndarray  # float64 [vertices - 1]
  gain: np.ndarray  # float64 [vertices - 1]
  slack: float  # no point of the step function exceeds the hull by more


class Layout(NamedTuple):
  """The part of the LP that depends on the region alone.

  Lengths are in units of the reach of the group, attacks in units of the most a cell can take.
  """

  reach: np.ndarray  # float64 [G], 1 where it is 0 or inf
  lost: np.ndarray  # bool [G], the reach is inf
  size: np.ndarray  # float64 [A, C]
  lower: np.ndarray  # float64 [A C]
  upper: np.ndarray  # float64 [A C]
  budget: np.ndarray  # float64 [A], upper sides of the budgets' rows
  rows: np.ndarray  # int [A C (G + 1)]
  values: np.ndarray  # float64 [A C (G + 1)]


class Relaxation(NamedTuple):
  """What an LP proposes; only a witness's evaluation says what it is worth."""

  status: str
  multipliers: np.ndarray  # float64 [G]
  attack: np.ndarray | None  # float64 [A, C]


def point(s: float, height: float) -> Hull:
  """The hull of a single point."""
  return Hull(np.array([s]), np.array([height]), np.zeros(0), np.zeros(0), 0.0)


def extend(hull: Hull, s: np.ndarray, height: np.ndarray) -> Hull:
  """The upper hull of a hull and of points to its right, in linear time.

  The slopes of an upper hull are the antitonic regression of the slopes between neighbors,
  weighted by their distances (Barlow et al. 1972, theorem 1.2.1). Rounding may drop a point that
  is above the hull; `slack` bounds by how much, with a margin for the interpolation's own rounding
  (below 5 EPS height).
  """
  if not s.size:
    return hull
  s, height = np.concatenate([hull.s, s]), np.concatenate([hull.height, height])
  vertices = np.flatnonzero(np.append(True, s[1:] - s[:-1] > 1e-15 * s[-1]))
  vertices[-1] = s.size - 1  # closer than that is the same point to a solver
  if vertices.size > 2:
    width, gain = np.diff(s[vertices]) / s[-1], np.diff(height[vertices])
    blocks = optimize.isotonic_regression(gain / width, weights=width, increasing=False).blocks
    vertices = vertices[blocks]
  top_s, top = s[vertices], height[vertices]
  with np.errstate(over="ignore", invalid="ignore"):
    excess = float((height - np.interp(s, top_s, top)).max())
  slack = hull.slack + max(excess, 0.0) + 16 * EPS * float(top[-1])
  return Hull(top_s, top, np.diff(top_s), np.diff(top), slack if excess < np.inf else np.inf)


def hull_of(problem: Problem, region: Region, box: Box, g: int) -> Hull | None:
  """The envelope of group g on its interval in the box; None if that is empty."""
  eta, counts = problem.thresholds[g], problem.counts[g]
  cut = interval(eta, box, region, g)
  if cut is None:
    return None
  first, last = cut
  start = point(box.lower[g], counts[first])
  if np.isinf(region.reach[g]):  # everything may fall, whatever s
    return point(box.lower[g], counts[last])
  return extend(start, eta[first:last], counts[first + 1 : last + 1])


def bound_hulls(hulls: list[Hull], region: Region, box: Box, multipliers: np.ndarray) -> float:
  """`witness.bound`, from the hulls: a linear function is largest at a vertex, but for the slack.

  The same roundings, and at least as large up to them.
  """
  multipliers = np.where(np.isinf(region.reach), 0.0, multipliers)
  if not multipliers.any():
    return float(sum(hull.height[-1] for hull in hulls))
  starts = np.cumsum([0] + [hull.s.size for hull in hulls[:-1]])
  s, height = np.concatenate([h.s for h in hulls]), np.concatenate([h.height for h in hulls])
  with np.errstate(over="ignore", invalid="ignore"):
    nearer = np.nextafter(np.nextafter(multipliers, 0), 0)
    group = np.repeat(np.arange(len(hulls)), np.diff(starts, append=s.size))
    terms = np.maximum.reduceat(height - nearer[group] * s, starts)
    if (multipliers <= 0).any():
      farther = np.nextafter(np.nextafter(multipliers, -np.inf), -np.inf)
      ends = np.minimum(box.upper, region.reach)
      last = height[np.append(starts[1:], s.size) - 1]
      flat = np.where(multipliers == 0, last, last - np.where(multipliers < 0, farther * ends, 0))
      terms = np.where(multipliers > 0, terms, flat)
    terms = np.nextafter(terms + [hull.slack for hull in hulls], np.inf)
    return round_up(np.concatenate([np.nextafter(terms, np.inf), prices(region, multipliers)]))


def make_layout(region: Region) -> Layout:
  """What all LPs over a region share."""
  num_kinds, num_groups, num_cells = region.weights.shape
  lost = np.isinf(region.reach)
  reach = np.where(lost | (region.reach == 0), 1.0, region.reach)
  bounded = np.isfinite(region.upper) & (region.upper > 0)
  size = np.where(bounded, region.upper, 1.0)
  limited = np.isfinite(region.budget) & (region.budget > 0)
  columns = np.empty((num_kinds, num_cells, num_groups + 1))
  columns[..., :-1] = (-region.weights * size[:, None] / reach[:, None]).transpose(0, 2, 1)
  columns[..., -1] = size / np.where(limited, region.budget, 1.0)[:, None]
  rows = np.empty(columns.shape, np.int64)
  rows[..., :-1] = np.arange(num_groups)
  rows[..., -1] = num_groups + np.arange(num_kinds)[:, None]
  return Layout(
    reach,
    lost,
    size,
    (region.lower / size).ravel(),
    np.where(bounded, 1.0, np.where(region.upper > 0, np.inf, 0.0)).ravel(),
    np.where(limited, 1.0, np.inf),
    rows.ravel(),
    columns.ravel(),
  )


def relax(
  solver: Any,
  hulls: list[Hull],
  layout: Layout,
  region: Region,
  box: Box,
  *,
  elastic: bool = False,
  time_limit: float | None = None,
) -> Relaxation:
  """Solves the envelope LP over a box.

  The columns are the attack; the fraction climbed of every hull edge; the flat end of an interval
  that is cut on the right; and, if `elastic`, the violation of every group's row.

  Args:
    solver: from `highs.new_solver`.
    hulls: one per group, from `hull_of`.
    layout: of the region.
    region: the attacks.
    box: intervals of s.
    elastic: minimize the sum of violations instead, for multipliers that prove a box empty.
    time_limit: seconds.
  """
  num_groups, num_attack = layout.reach.size, layout.size.size
  sizes = [hull.width.size for hull in hulls]
  group = np.repeat(np.arange(num_groups), sizes)
  width = np.concatenate([hull.width for hull in hulls] + [np.zeros(0)]) / layout.reach[group]
  gain = np.concatenate([hull.gain for hull in hulls] + [np.zeros(0)])
  unit = gain.max(initial=1.0)  # of the objective: HiGHS gives up where duals are excessive
  is_cut = (box.upper < region.reach) & ~layout.lost
  cut = np.flatnonzero(is_cut)
  last = np.array([hulls[g].s[-1] for g in cut])
  num_edges, num_elastic = group.size, 2 * num_groups if elastic else 0
  # Rows: climbed + flat - s <= -lower, an equation where the interval is cut on the right.
  row_upper = np.where(layout.lost, np.inf, -box.lower / layout.reach)
  row_lower = np.where(is_cut, row_upper, -np.inf)
  first_edge = (num_groups + 1) * num_attack
  model = highs.Model(
    cost=np.concatenate(
      [np.zeros(num_attack), gain * -(not elastic) / unit, np.zeros(cut.size), np.ones(num_elastic)]
    ),
    lower=np.concatenate([layout.lower, np.zeros(num_edges + cut.size + num_elastic)]),
    upper=np.concatenate(
      [
        layout.upper,
        np.ones(num_edges),
        (box.upper[cut] - last) / layout.reach[cut],
        np.full(num_elastic, np.inf),
      ]
    ),
    row_lower=np.concatenate([row_lower, np.full(layout.budget.size, -np.inf)]),
    row_upper=np.concatenate([row_upper, layout.budget]),
    starts=np.concatenate(
      [
        np.arange(0, first_edge, num_groups + 1),
        np.arange(first_edge, first_edge + num_edges + cut.size + num_elastic + 1),
      ]
    ),
    rows=np.concatenate([layout.rows, group, cut, np.tile(np.arange(num_groups), 2)[:num_elastic]]),
    values=np.concatenate(
      [
        layout.values,
        width,
        np.ones(cut.size),
        np.repeat([-1.0, 1.0], num_groups)[:num_elastic],
      ]
    ),
  )
  solution = highs.solve(solver, model, time_limit=time_limit)
  multipliers = np.zeros(num_groups)
  if solution.dual is not None and solution.dual.shape == model.row_lower.shape:
    with np.errstate(over="ignore", invalid="ignore"):
      multipliers = -solution.dual[:num_groups] / layout.reach * unit
    multipliers[layout.lost | ~np.isfinite(multipliers)] = 0.0
    multipliers = np.where(is_cut, multipliers, np.maximum(multipliers, 0.0))
  attack = None
  if solution.primal is not None and solution.primal.shape == model.cost.shape:
    attack = solution.primal[:num_attack].reshape(layout.size.shape) * layout.size
    attack = np.clip(attack, region.lower, region.upper) if np.isfinite(attack).all() else None
  return Relaxation(solution.status, multipliers, attack)
