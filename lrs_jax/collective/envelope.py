r"""The envelope LP: the tightest concave relaxation of every group's step function (host).

.. math:: \max_b \sum_g \hat N_g(s_g) \quad \text{s.t.} \quad l \le s \le u

with :math:`\hat N_g` the concave envelope of :math:`N_g` on its interval: the upper hull of
:math:`(l_g, N_g(l_g))`, :math:`(\eta_{(k)}, k)` and :math:`(u_g, N_g(u_g))`. Only a witness's
multipliers are wanted, so HiGHS solves the dual LP, which minimizes what a witness proves:

.. math:: \min_{\lambda, \mu \ge 0, \nu \ge 0} \sum_g \max_s (\hat N_g(s) - \lambda_g s)
  + \sum_a B_a \mu_a + \sum_{a, c} u_{ac} \nu_{ac}
  \quad \text{s.t.} \quad \sum_g \lambda_g W_{agc} \le \mu_a + \nu_{ac} .

The maximum is convex and piecewise linear in :math:`\lambda_g`, which is a sum of columns: one per
hull edge, from the next edge's slope to its own. Rows are the cells, without those that others
dominate, and the attack is their duals. Another budget changes little but the price of
:math:`\mu`: where the hulls stay what they are, its LP starts from the last one's basis. Neither
leaving out cells nor a start changes the optimum, which HiGHS finds up to its tolerances.
"""

from typing import Any, NamedTuple

import numpy as np

from lrs_jax.collective import highs
from lrs_jax.collective.hulls import Hulls
from lrs_jax.collective.problem import LEAST, Problem, Region
from lrs_jax.collective.witness import Box

_MANY_EDGES = 16  # of a hull


class Entries(NamedTuple):
  """Those of some columns, one after another."""

  lengths: np.ndarray  # int [columns]
  rows: np.ndarray  # int [entries]
  values: np.ndarray  # float64 [entries]


class Incidence(NamedTuple):
  """Which cells which groups perceive: sparse rows, of the cells that an attack needs."""

  kinds: np.ndarray  # int [rows]
  cells: np.ndarray  # int [rows]
  starts: np.ndarray  # int [G + 1]: group g perceives the entries starts[g]:starts[g + 1]
  rows: np.ndarray  # int [entries]


class Layout(NamedTuple):
  """The part of the LP that depends on the region alone, in the units of `Region.scales`."""

  region: Region
  incidence: Incidence
  reach: np.ndarray  # float64 [G], units of s
  size: np.ndarray  # float64 [rows], units of b
  perceived: np.ndarray  # float64 [entries]: weights x size / reach
  price: np.ndarray  # float64 [k]: costs of mu, for every budget, and nu, for every cap that binds
  paid: Entries  # of their columns


class Program(NamedTuple):
  """The LP, and what its columns and rows stand for."""

  model: highs.Model
  layout: Layout
  group: np.ndarray  # int [parts]: the first columns are parts of the multiplier of this group
  unit: float  # of the objective
  is_cut: np.ndarray  # bool [G]: groups whose multiplier may be negative
  hulls: Hulls
  budgets: np.ndarray  # float64 [A], units of the budgets
  is_priced: bool  # attacks are limited by the budgets' prices alone, so that `repriced` may serve


class Relaxation(NamedTuple):
  """What an LP proposes; only a witness's evaluation says what it is worth."""

  status: str
  multipliers: np.ndarray  # float64 [G]
  solution: highs.Solution  # from which a similar LP may start


def incidence_of(problem: Problem) -> Incidence:
  """What all LPs of a problem share. Integral attacks may be split at any cell: all are kept."""
  weights = problem.weights
  kept = np.ones(problem.caps.shape, bool) if problem.integral else _undominated(problem)
  kinds, cells = np.nonzero(kept)
  groups, rows = np.nonzero(weights[kinds, :, cells].T)
  starts = np.append(0, np.cumsum(np.bincount(groups, minlength=weights.shape[1])))
  return Incidence(kinds, cells, starts, rows)


def _undominated(problem: Problem) -> np.ndarray:
  """Cells of which no other does all that they do: bool [A, C].

  Another cell does if no group perceives it less and its cap exceeds all budgets. Only a few are
  tried, in view of the group to which the cell means most.
  """
  kept = np.ones(problem.caps.shape, bool)
  for a, weights in enumerate(problem.weights if problem.weights.shape[1] else ()):
    able = problem.caps[a] >= problem.budgets[:, a].max(initial=0.0)
    with np.errstate(over="ignore", invalid="ignore"):
      share = weights / np.maximum(weights.sum(axis=1, keepdims=True), LEAST)
    witnesses = np.nan_to_num(share, nan=1.0).argmax(axis=0)  # inf / inf
    columns = np.ascontiguousarray(weights.T)
    for c, (g, column) in enumerate(zip(witnesses.tolist(), columns, strict=True)):
      others = (weights[g] >= column[g]) & able & kept[a]
      others[c] = False
      seen, few = np.flatnonzero(column), np.flatnonzero(others)[:64]
      kept[a, c] = not (columns[np.ix_(few, seen)] >= column[seen]).all(axis=1).any()
  return kept


def make_layout(region: Region, incidence: Incidence) -> Layout:
  """What all LPs over a region share."""
  kinds, cells, starts, rows = incidence
  reach, sizes, budgets = region.scales
  size = sizes[kinds, cells]
  groups = np.repeat(np.arange(reach.size), np.diff(starts))
  perceived = region.weights[kinds[rows], groups, cells[rows]] * (size[rows] / reach[groups])
  spare = region.budget - region.lower.sum(axis=1)
  room = (region.upper - region.lower)[kinds, cells]
  limited = np.isfinite(spare)
  budgeted, capped = np.flatnonzero(limited[kinds]), np.flatnonzero(room < spare[kinds])
  price = np.concatenate([(spare / budgets)[limited], room[capped] / size[capped]])
  in_kind = np.bincount(kinds, minlength=limited.size)[limited]
  paid = Entries(
    np.append(in_kind, np.ones(capped.size, int)),
    np.append(budgeted, capped),
    np.append(-(size / budgets[kinds])[budgeted], -np.ones(capped.size)),
  )
  return Layout(region, incidence, reach, size, perceived, price, paid)


def _perceived(layout: Layout, group: np.ndarray, large: np.ndarray) -> Entries:
  """Columns of these groups' parts, then those that are the multipliers of large groups.

  A part of a large group has one entry, in a row of its group after those of the cells: parts minus
  multiplier = 0. That is sparser, but slows the simplex down where most groups have few edges.
  """
  _, _, starts, rows = layout.incidence
  num_groups, links = layout.reach.size, layout.size.size + np.arange(large.size)
  rows = np.append(np.insert(rows, starts[large], links), links)
  values = np.insert(layout.perceived, starts[large], -1.0)
  values = np.append(values, np.ones(large.size))
  starts = starts + np.searchsorted(large, np.arange(num_groups + 1))
  starts = np.append(starts, starts[-1] + 1 + np.arange(large.size))
  source = np.arange(num_groups)
  source[large] = num_groups + np.arange(large.size)
  source = np.append(source[group], large)
  lengths = np.diff(starts)[source]
  entries = np.arange(lengths.sum())
  entries += np.repeat(starts[source] - np.cumsum(lengths) + lengths, lengths)
  return Entries(lengths, rows[entries], values[entries])


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def make_program(hulls: Hulls, layout: Layout, box: Box, *, elastic: bool = False) -> Program:
  """The envelope LP over a box; `elastic` finds multipliers that prove it empty.

  The columns are the parts of every multiplier: below the slope of every hull edge, but not below
  that of the next; above them all, where s has a lower end; below 0, where it has an upper one.
  Elastic, they are what makes the bound fall without end: the last two, within [-1, 1].
  """
  region, reach = layout.region, layout.reach
  s, height, firsts, lasts, _ = hulls
  group = np.repeat(np.arange(reach.size), lasts - firsts)
  right = np.delete(np.arange(s.size), firsts)  # ends of edges
  gain = height[right] - height[right - 1]
  unit = gain.max(initial=1.0)  # of the objective: HiGHS gives up where duals are excessive
  slope = gain / unit / ((s[right] - s[right - 1]) / reach[group])
  step = np.maximum(slope - np.where(np.isin(right, lasts), 0.0, np.append(slope, 0.0)[1:]), 0.0)
  raised = np.flatnonzero((box.lower > 0) & ~region.lost)
  is_cut = (box.upper < region.reach) & ~region.lost
  cut = np.flatnonzero(is_cut)
  limit = 1.0 if elastic else np.inf
  group = np.concatenate([group, raised, cut])
  at = np.concatenate([s[right], box.lower[raised], box.upper[cut]]) / reach[group]
  fixed = _fixed(layout)
  if fixed.any():
    perceived = np.append(0.0, np.cumsum(layout.perceived * fixed[layout.incidence.rows]))
    at -= np.diff(perceived[layout.incidence.starts])[group]
  large = np.flatnonzero(lasts - firsts > _MANY_EDGES)
  seen, num_cells = _perceived(layout, group, large), layout.size.size
  sizes = raised.size, cut.size, large.size, layout.price.size
  model = highs.Model(
    cost=np.concatenate([-at, np.zeros(large.size), layout.price]),
    lower=np.append(np.zeros(right.size), np.repeat([0.0, -limit, -np.inf, 0.0], sizes)),
    upper=np.append(step * (not elastic), np.repeat([limit, 0.0, np.inf, np.inf], sizes)),
    row_lower=np.repeat([-np.inf, 0.0], [num_cells, large.size]),
    row_upper=np.zeros(num_cells + large.size),
    starts=np.append(0, np.cumsum(np.append(seen.lengths, layout.paid.lengths))),
    rows=np.append(seen.rows, layout.paid.rows),
    values=np.append(seen.values, layout.paid.values),
  )
  is_priced = region.is_plain and not raised.size and not cut.size
  return Program(model, layout, group, unit, is_cut, hulls, region.scales[2], is_priced)


def _fixed(layout: Layout) -> np.ndarray:
  """What every attack of the region spends on the cells: [rows], in their units."""
  return layout.region.lower[layout.incidence.kinds, layout.incidence.cells] / layout.size


def repriced(program: Program, hulls: Hulls, region: Region) -> Program | None:
  """The LP of a larger budget, if nothing but the budget's price differs; else None.

  So it is where the hulls are the same, and no attack is limited by anything but the budget. The
  units stay what they were, for budgets up to twice as large.
  """
  layout, budgets = program.layout, program.budgets
  if (
    hulls is not program.hulls
    or not program.is_priced
    or not region.is_plain
    or not ((budgets <= region.budget) & (region.budget <= 2 * budgets)).all()
  ):
    return None
  cost = np.append(program.model.cost[: -budgets.size], region.budget / budgets)
  return program._replace(
    model=program.model._replace(cost=cost), layout=layout._replace(region=region)
  )


def relax(
  solver: Any,
  program: Program,
  *,
  time_limit: float | None = None,
  start: highs.Solution | None = None,
) -> Relaxation:
  """Solves the envelope LP for the multipliers of the groups."""
  model, layout, group, unit, is_cut, *_ = program
  region, reach = layout.region, layout.reach
  solution = highs.solve(solver, model, time_limit=time_limit, start=start)
  multipliers = np.zeros(reach.size)
  with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
    if (found := highs.leading(solution, model, np.ones(group.size))) is not None:
      multipliers = np.bincount(group, found * unit, reach.size) / reach
    multipliers[region.lost | ~np.isfinite(multipliers)] = 0.0
    multipliers = np.where(is_cut, multipliers, np.maximum(multipliers, 0.0))
  status = "infeasible" if solution.status == "unbounded" else solution.status
  return Relaxation(status, multipliers, solution)


@np.errstate(over="ignore", invalid="ignore")
def attack_of(program: Program, solution: highs.Solution) -> np.ndarray | None:
  """The attack that an LP's rows propose by their duals: float64 [A, C], within the region."""
  layout, region = program.layout, program.layout.region
  if solution.dual is None or solution.dual.shape != program.model.row_upper.shape:
    return None
  attack = region.lower.copy()
  spent = (_fixed(layout) - solution.dual[: layout.size.size]) * layout.size
  attack[layout.incidence.kinds, layout.incidence.cells] = spent
  return np.clip(attack, region.lower, region.upper) if np.isfinite(attack).all() else None
