r"""The MILP in its incremental formulation, solved by HiGHS for an attack (host).

.. math::

  \max_{b, z} \sum_g \sum_j (N_{gj} - N_{g,j-1}) z_{gj} \quad \text{s.t.} \quad
  s_g \ge \sum_j (\eta_{gj} - \eta_{g,j-1}) z_{gj},\ z_{gj} \ge z_{g,j+1},\ z \in \{0, 1\}

over a few levels :math:`\eta_{gj}` of every group: thresholds, so that whatever is feasible is an
attack that makes at least so many targets fall. Its bound is not used.
"""

from typing import Any

import numpy as np
from scipy import sparse

from lrs_jax.collective import highs
from lrs_jax.collective.problem import Problem, Region

_GAP = 1e-3  # relative, at which HiGHS may stop
_NUM_LEVELS = 16  # per group; HiGHS solves 15 groups of 16 levels in a second or so


def coarse_levels(problem: Problem, region: Region) -> list[np.ndarray]:
  """Rising indices of thresholds: all of them, if few; else those that many targets lie between."""
  levels = []
  in_reach = problem.reached(np.where(region.lost, 0.0, region.reach))
  for counts, last in zip(problem.counts, in_reach, strict=True):
    wanted = np.linspace(0, counts[last], _NUM_LEVELS + 1)[1:]
    levels.append(np.unique(np.minimum(counts[1:].searchsorted(wanted), last - 1))[:last])
  return levels


def fine_levels(
  problem: Problem, region: Region, levels: list[np.ndarray], s: np.ndarray
) -> list[np.ndarray]:
  """Levels around s: the coarse ones next to it, and thresholds between them."""
  finer = []
  in_reach = problem.reached(np.where(region.lost, 0.0, region.reach))
  for eta, level, last, x in zip(problem.thresholds, levels, in_reach, s, strict=True):
    if not last:
      finer.append(level)
      continue
    at = int(eta[level].searchsorted(x, "right"))
    low = level[at - 2] if at >= 2 else 0
    high = level[at + 1] if at + 1 < level.size else last - 1
    inside = np.linspace(low, high, _NUM_LEVELS).astype(int)
    here = min(max(int(eta.searchsorted(x, "right")) - 1, 0), last - 1)
    finer.append(np.unique(np.concatenate([inside, [here], level[::4]])))
  return finer


def propose(
  solver: Any, problem: Problem, region: Region, levels: list[np.ndarray], time_limit: float
) -> np.ndarray | None:
  """An attack, float64 [A, C], that is feasible up to the solver's tolerances; or None."""
  reach, size, _ = region.scales
  units = np.ones_like(size) if problem.integral else size
  num_groups, num_attack = reach.size, size.size
  group = np.repeat(np.arange(num_groups), [level.size for level in levels])
  step, gain = np.zeros(group.size), np.zeros(group.size)
  for g, level in enumerate(levels):
    step[group == g] = np.diff(problem.thresholds[g][level], prepend=0.0) / reach[g]
    gain[group == g] = np.diff(problem.counts[g][level + 1], prepend=0.0)
  chain = np.flatnonzero(group[1:] == group[:-1])
  column, links = num_attack + np.arange(group.size), num_groups + np.arange(chain.size)
  kinds, groups, cells = np.nonzero(region.weights)
  perceived = region.weights[kinds, groups, cells] * units[kinds, cells] / reach[groups]
  values = np.concatenate([perceived, -step, np.ones(chain.size), -np.ones(chain.size)])
  row_of = np.concatenate([groups, group, links, links])
  spent = kinds * units.shape[1] + cells
  column_of = np.concatenate([spent, column, column[chain], column[chain] + 1])
  shape = num_groups + chain.size, num_attack + group.size
  rows = sparse.csr_array((values, (row_of, column_of)), shape=shape)
  integer = np.append(np.full(num_attack, problem.integral), np.ones(group.size, bool))
  model = attack_model(region, units, rows, gain, 1.0)._replace(integer=integer)
  solution = highs.solve(solver, model, time_limit=time_limit, presolve=True, gap=_GAP)
  found = highs.leading(solution, model, units)
  return None if found is None else np.clip(found, 0.0, region.upper)


def attack_model(
  region: Region, units: np.ndarray, rows: sparse.csr_array, gain: np.ndarray, most: float
) -> highs.Model:
  """Maximize gain @ z over attacks b and 0 <= z <= most with rows @ (b / units, z) >= 0.

  The rows are [m, A C + n], the units those of b: float64 [A, C]. Cells that can be
  perturbed without bound are left alone.
  """
  (num_kinds, num_cells), budget = units.shape, region.scales[2]
  kinds = np.repeat(np.arange(num_kinds), num_cells)
  spent = (units / budget[:, None]).ravel(), (kinds, np.arange(units.size))
  spent = sparse.csr_array(spent, shape=(num_kinds, rows.shape[1]))
  matrix = sparse.csc_array(sparse.vstack([rows, spent]))
  usable = (region.upper > 0) & np.isfinite(region.upper)
  return highs.Model(
    cost=np.append(np.zeros(units.size), -gain),
    lower=np.append(region.lower / units, np.zeros(gain.size)),
    upper=np.append(np.where(usable, region.upper / units, 0.0), np.full(gain.size, most)),
    row_lower=np.repeat([0.0, -np.inf], [rows.shape[0], num_kinds]),
    row_upper=np.repeat([np.inf, 1.0], [rows.shape[0], num_kinds]),
    starts=matrix.indptr,
    rows=matrix.indices,
    values=matrix.data,
  )
