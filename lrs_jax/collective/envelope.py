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
from lrs_jax.collective.problem import EPS, Problem, Region, prices
from lrs_jax.collective.witness import Box, interval, lowered, round_up


class Hull(NamedTuple):
  """A concave envelope that never falls, from the left end of its interval; then it is flat."""

  s: np.ndarray  # float64 [vertices], increasing
  height: np.ndarray  # float64 [vertices], increasing
  slack: float  # no point of the step function exceeds the hull by more


class Layout(NamedTuple):
  """The part of the LP that depends on the region alone, in the units of `Region.scales`."""

  region: Region
  reach: np.ndarray  # float64 [G], units of s
  size: np.ndarray  # float64 [A, C], units of b
  budget: np.ndarray  # float64 [A], upper sides of the budgets' rows
  attack: highs.Columns  # of all A C cells; rows: one per group, one per kind


class Relaxation(NamedTuple):
  """What an LP proposes; only a witness's evaluation says what it is worth."""

  status: str
  multipliers: np.ndarray  # float64 [G]
  attack: np.ndarray | None  # float64 [A, C]


def point(s: float, height: float) -> Hull:
  """The hull of a single point."""
  return Hull(np.array([s]), np.array([height]), 0.0)


def extend(hull: Hull, s: np.ndarray, height: np.ndarray) -> Hull:
  """The upper hull of a hull and of points to its right, in linear time.

  The slopes of an upper hull are the antitonic regression of the slopes between neighbors,
  weighted by their distances (Barlow et al. 1972, theorem 1.2.1). Rounding may drop a point that
  is above the hull: `slack` bounds by how much, and what interpolating rounds (below 5 EPS height).
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
  return Hull(top_s, top, slack if excess < np.inf else np.inf)


def hull_of(problem: Problem, region: Region, box: Box, g: int) -> Hull | None:
  """The envelope of group g on its interval in the box; None if that is empty."""
  eta, counts = problem.thresholds[g], problem.counts[g]
  cut = interval(eta, box, region, g)
  if cut is None:
    return None
  first, last = cut
  if region.lost[g]:  # everything may fall, whatever s
    return point(box.lower[g], counts[last])
  start = point(box.lower[g], counts[first])
  return extend(start, eta[first:last], counts[first + 1 : last + 1])


@np.errstate(over="ignore", invalid="ignore")
def bound_hulls(hulls: list[Hull], region: Region, box: Box, multipliers: np.ndarray) -> float:
  """`witness.bound`, from the hulls: a linear function is largest at a vertex, but for the slack.

  The same roundings, and at least as large up to them.
  """
  multipliers = np.where(region.lost, 0.0, multipliers)
  if not multipliers.any():
    return float(sum(hull.height[-1] for hull in hulls))
  ends = np.cumsum([hull.s.size for hull in hulls])
  starts = np.append(0, ends[:-1])
  s, height = np.concatenate([h.s for h in hulls]), np.concatenate([h.height for h in hulls])
  nearer = lowered(multipliers, 0)
  terms = np.maximum.reduceat(height - np.repeat(nearer, ends - starts) * s, starts)
  if (multipliers <= 0).any():
    last, right = height[ends - 1], np.minimum(box.upper, region.reach)
    cost = np.where(multipliers < 0, lowered(multipliers, -np.inf) * right, 0)
    terms = np.where(multipliers > 0, terms, np.where(multipliers == 0, last, last - cost))
  terms = np.nextafter(terms + [hull.slack for hull in hulls], np.inf)
  return round_up(np.concatenate([np.nextafter(terms, np.inf), prices(region, multipliers)]))


def make_layout(region: Region) -> Layout:
  """What all LPs over a region share."""
  num_kinds, num_groups, num_cells = region.weights.shape
  reach, size, budget = region.scales
  rows = np.tile(np.arange(num_groups + 1), (num_kinds, num_cells, 1))
  rows[..., -1] += np.arange(num_kinds)[:, None]
  values = np.empty(rows.shape)
  values[..., :-1] = (-region.weights * size[:, None] / reach[:, None]).transpose(0, 2, 1)
  values[..., -1] = size / budget[:, None]
  upper = np.where(region.upper > 0, np.where(np.isinf(region.upper), np.inf, 1.0), 0.0)
  limited = np.isfinite(region.budget) & (region.budget > 0)
  entries = rows.reshape(-1, num_groups + 1), values.reshape(-1, num_groups + 1)
  attack = highs.Columns(0.0, (region.lower / size).ravel(), upper.ravel(), *entries)
  return Layout(region, reach, size, np.where(limited, 1.0, np.inf), attack)


def multipliers_of(
  solution: highs.Solution, model: highs.Model, layout: Layout, unit: float, first: int = 0
) -> np.ndarray:
  """The duals of the groups' rows, from row `first` on, in this unit of the objective; else 0."""
  multipliers = np.zeros(layout.reach.size)
  if solution.dual is not None and solution.dual.shape == model.row_lower.shape:
    with np.errstate(over="ignore", invalid="ignore"):
      multipliers = -solution.dual[first : first + multipliers.size] / layout.reach * unit
    multipliers[layout.region.lost | ~np.isfinite(multipliers)] = 0.0
  return multipliers


def relax(
  solver: Any,
  hulls: list[Hull],
  layout: Layout,
  box: Box,
  *,
  elastic: bool = False,
  time_limit: float | None = None,
) -> Relaxation:
  """Solves the envelope LP over a box; `elastic` finds multipliers that prove it empty.

  The columns are the attack; the fraction climbed of every hull edge; the flat end of an interval
  that is cut on the right; and, if elastic, every row's violation: their sum is then minimized.
  """
  region, reach = layout.region, layout.reach
  group = np.repeat(np.arange(reach.size), [hull.s.size - 1 for hull in hulls])
  width = np.concatenate([np.zeros(0), *(np.diff(hull.s) for hull in hulls)]) / reach[group]
  gain = np.concatenate([np.zeros(0), *(np.diff(hull.height) for hull in hulls)])
  unit = gain.max(initial=1.0)  # of the objective: HiGHS gives up where duals are excessive
  is_cut = (box.upper < region.reach) & ~region.lost
  cut = np.flatnonzero(is_cut)
  flat = (box.upper[cut] - np.array([hulls[g].s[-1] for g in cut])) / reach[cut]
  columns = [
    layout.attack,
    highs.Columns(0.0 if elastic else -gain / unit, 0.0, 1.0, group[:, None], width[:, None]),
    highs.Columns(0.0, 0.0, flat, cut[:, None], 1.0),
  ]
  if elastic:
    violated = np.arange(reach.size)[:, None]
    columns += [highs.Columns(1.0, 0.0, np.inf, violated, sign) for sign in (-1.0, 1.0)]
  # Rows: climbed + flat - s <= -lower, an equation where the interval is cut on the right.
  row_upper = np.where(region.lost, np.inf, -box.lower / reach)
  row_lower = np.where(is_cut, row_upper, -np.inf)
  model = highs.from_columns(
    columns,
    np.concatenate([row_lower, np.full(layout.budget.size, -np.inf)]),
    np.concatenate([row_upper, layout.budget]),
  )
  solution = highs.solve(solver, model, time_limit=time_limit)
  multipliers = multipliers_of(solution, model, layout, unit)
  multipliers = np.where(is_cut, multipliers, np.maximum(multipliers, 0.0))
  attack = highs.leading(solution, model, layout.size)
  if attack is not None:
    attack = np.clip(attack, region.lower, region.upper)
  return Relaxation(solution.status, multipliers, attack)
