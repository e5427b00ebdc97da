r"""The MILP in its incremental formulation, solved by HiGHS for an attack (host).

.. math::

  \max_{b, z} \sum_g \sum_j (N_{gj} - N_{g,j-1}) z_{gj} \quad \text{s.t.} \quad
  s_g \ge \sum_j (\eta_{gj} - \eta_{g,j-1}) z_{gj},\ z_{gj} \ge z_{g,j+1},\ z \in \{0, 1\}

over a few levels :math:`\eta_{gj}` of every group: thresholds, so that whatever is feasible is an
attack that makes at least so many targets fall. Its bound is not used.
"""

from typing import Any

import numpy as np

from lrs_jax.collective import highs
from lrs_jax.collective.problem import Problem, Region

_NUM_LEVELS = 16  # per group; HiGHS solves 15 groups of 16 levels in a second or so


def coarse_levels(problem: Problem, region: Region) -> list[np.ndarray]:
  """Indices of thresholds: all of them, if few; else those that many targets lie between."""
  levels = []
  for eta, counts, reach in zip(problem.thresholds, problem.counts, region.reach, strict=True):
    last = int(eta.searchsorted(reach, "right")) if np.isfinite(reach) else 0
    wanted = np.linspace(0, counts[last], _NUM_LEVELS + 1)[1:]
    levels.append(np.unique(np.minimum(counts[1:].searchsorted(wanted), last - 1))[: last or 0])
  return levels


def fine_levels(
  problem: Problem, region: Region, levels: list[np.ndarray], s: np.ndarray
) -> list[np.ndarray]:
  """Levels around s: the coarse ones next to it, and thresholds between them."""
  finer = []
  for eta, level, reach, x in zip(problem.thresholds, levels, region.reach, s, strict=True):
    last = int(eta.searchsorted(reach, "right")) if np.isfinite(reach) else 0
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
  solver: Any,
  problem: Problem,
  region: Region,
  levels: list[np.ndarray],
  *,
  time_limit: float,
  gap: float,
) -> np.ndarray | None:
  """An attack, float64 [A, C], that is feasible up to the solver's tolerances; or None.

  Args:
    solver: from `highs.new_solver`.
    problem: the thresholds.
    region: the attacks.
    levels: per group, increasing indices of its thresholds.
    time_limit: seconds.
    gap: relative gap at which to stop.
  """
  num_kinds, num_groups, num_cells = region.weights.shape
  lost = np.isinf(region.reach)
  reach = np.where(lost | (region.reach == 0), 1.0, region.reach)
  size = np.where(np.isfinite(region.upper) & (region.upper > 0), region.upper, 1.0)
  budget = np.where(np.isfinite(region.budget) & (region.budget > 0), region.budget, 1.0)
  num_attack, num_levels = num_kinds * num_cells, sum(level.size for level in levels)
  group = np.repeat(np.arange(num_groups), [level.size for level in levels])
  step = np.concatenate(
    [
      np.diff(eta[k], prepend=0.0) / r
      for eta, k, r in zip(problem.thresholds, levels, reach, strict=True)
    ]
    + [np.zeros(0)]
  )
  gain = np.concatenate(
    [np.diff(n[k + 1], prepend=0.0) for n, k in zip(problem.counts, levels, strict=True)]
    + [np.zeros(0)]
  )
  chain = np.flatnonzero(group[1:] == group[:-1])
  units = np.ones_like(size) if problem.integral else size
  matrix = np.zeros((num_groups + chain.size + num_kinds, num_attack + num_levels))
  attack = (region.weights * units[:, None] / reach[:, None]).transpose(1, 0, 2)
  matrix[:num_groups, :num_attack] = attack.reshape(num_groups, num_attack)
  matrix[group, num_attack + np.arange(num_levels)] = -step
  rows = num_groups + np.arange(chain.size)
  matrix[rows, num_attack + chain] = 1.0
  matrix[rows, num_attack + chain + 1] = -1.0
  for a in range(num_kinds):
    matrix[-num_kinds + a, a * num_cells : (a + 1) * num_cells] = units[a] / budget[a]
  usable = (region.upper > 0) & np.isfinite(region.upper)
  model = highs.dense(
    cost=np.append(np.zeros(num_attack), -gain),
    lower=np.zeros(num_attack + num_levels),
    upper=np.append(np.where(usable, region.upper / units, 0.0), np.ones(num_levels)),
    row_lower=np.append(np.zeros(num_groups + chain.size), np.full(num_kinds, -np.inf)),
    row_upper=np.append(np.full(num_groups + chain.size, np.inf), np.ones(num_kinds)),
    matrix=matrix,
  )
  integer = np.append(np.full(num_attack, problem.integral), np.ones(num_levels, bool))
  model = model._replace(integer=integer)
  solution = highs.solve(solver, model, time_limit=time_limit, presolve=True, gap=gap)
  if solution.primal is None or solution.primal.shape != model.cost.shape:
    return None
  found = solution.primal[:num_attack].reshape(units.shape) * units
  return np.clip(found, 0.0, region.upper) if np.isfinite(found).all() else None
