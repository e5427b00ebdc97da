r"""The paper's LP over outputs, the published method and baseline (host).

.. math:: \max_{b, t} \sum_n t_n \quad \text{s.t.} \quad \eta_n t_n \le s_{g(n)},\ 0 \le t_n \le 1

has one variable per output that can be attacked at all, :math:`\eta_n \le S_{g(n)}` (without that
it can be looser than the naive certificate). Given s, its optimum is :math:`\sum_g L_g(s_g)` with
:math:`L_g(s) = \sum_n \min(1, s / \eta_n) \ge N_g(s)`, a concave function, so that the multipliers
of the rows of s prove its value in the way of `lrs_jax.collective.witness`, with L in the place of
N.

References: Schuchardt et al. 2023 (arXiv 2210.16140), section 4 and appendix on its relaxation.
"""

from typing import Any, NamedTuple

import numpy as np

from lrs_jax.collective import highs
from lrs_jax.collective.problem import EPS, Problem, Region, knapsack
from lrs_jax.collective.witness import lowered


class Attackable(NamedTuple):
  """Thresholds of one group that are at most its reach, rounded down to the bins."""

  eta: np.ndarray  # float64 [k], positive, increasing
  times: np.ndarray  # float64 [k], what the targets that have each of them count for


def attackable(problem: Problem, region: Region, bins: int | None) -> list[Attackable]:
  """What can be attacked in every group, in at most `bins` bins of equally many targets.

  Every threshold is rounded down to the smallest of its bin, which only weakens the certificate.
  """
  result = []
  for g, last in enumerate(problem.reached(region.reach)):
    eta, counts = problem.thresholds[g][:last], problem.counts[g][: last + 1]
    if bins is not None and last > bins:
      edges = np.linspace(0, counts[-1], bins, endpoint=False)
      firsts = np.unique(counts[1:].searchsorted(edges, "right"))
      eta, counts = eta[firsts], np.append(counts[firsts], counts[-1])
    result.append(Attackable(eta, np.diff(counts)))
  return result


def relax_outputs(
  solver: Any, groups: list[Attackable], region: Region, *, merge: bool, time_limit: float | None
) -> tuple[str, np.ndarray]:
  """Status and multipliers of the LP over outputs.

  Merged, it has one variable per distinct threshold, not per count.
  """
  reach, size, budget = region.scales
  num_kinds, num_groups, num_cells = region.weights.shape
  # A group whose reach is inf falls as a whole and gets no variable.
  sizes = [0 if lost else g.eta.size for g, lost in zip(groups, region.lost, strict=True)]
  group = np.repeat(np.arange(num_groups), sizes)
  alive = [g for g, lost in zip(groups, region.lost, strict=True) if not lost]
  gain = np.concatenate([np.zeros(0), *(g.times for g in alive)])
  eta = np.concatenate([np.zeros(0), *(g.eta for g in alive)]) / reach[group]
  if not merge:
    times = gain.astype(int)
    eta, group, gain = np.repeat(eta, times), np.repeat(group, times), np.ones(times.sum())
  n = eta.size
  unit = gain.max(initial=1.0)  # of the objective: HiGHS gives up where duals are excessive
  # Columns: t [n], s [G], b [A C]. Rows: eta t - s <= 0 [n], s - W b <= 0 [G], budgets [A].
  columns = [highs.Columns(-gain / unit, 0.0, 1.0, np.arange(n)[:, None], eta[:, None])]
  for g in range(num_groups):
    rows = np.append(np.flatnonzero(group == g), n + g)[None]
    columns.append(highs.Columns(0.0, 0.0, np.inf, rows, np.where(rows < n, -1.0, 1.0)))
  rows = np.tile(n + np.arange(num_groups + 1), (num_kinds, num_cells, 1))
  rows[..., -1] += np.arange(num_kinds)[:, None]
  perceived = (-region.weights * size[:, None] / reach[:, None]).transpose(0, 2, 1)
  values = np.concatenate([perceived, (size / budget[:, None])[..., None]], axis=2)
  upper = np.where(region.upper > 0, np.where(np.isinf(region.upper), np.inf, 1.0), 0.0)
  entries = (x.reshape(-1, num_groups + 1) for x in (rows, values))
  columns.append(highs.Columns(0.0, (region.lower / size).ravel(), upper.ravel(), *entries))
  limited = np.isfinite(region.budget) & (region.budget > 0)
  row_upper = np.append(np.zeros(n + num_groups), np.where(limited, 1.0, np.inf))
  model = highs.from_columns(columns, np.full(row_upper.size, -np.inf), row_upper)
  solution = highs.solve(solver, model, time_limit=time_limit, presolve=True)
  multipliers = np.zeros(num_groups)
  if solution.dual is not None and solution.dual.shape == row_upper.shape:
    with np.errstate(over="ignore", invalid="ignore"):
      multipliers = np.maximum(-solution.dual[n : n + num_groups] / reach * unit, 0.0)
    multipliers[region.lost | ~np.isfinite(multipliers)] = 0.0
  return solution.status, multipliers


@np.errstate(over="ignore", invalid="ignore")
def bound_outputs(groups: list[Attackable], region: Region, multipliers: np.ndarray) -> float:
  r"""The value that multipliers prove for the LP over outputs, rounded up.

  :math:`\sum_g \max_k (L_g(\eta_{(k)}) - \lambda_g \eta_{(k)})` and the knapsack. All sums are of
  non-negative terms: L has a relative error below (K + 4) EPS for K thresholds.
  """
  total = 0.0
  multipliers = np.where(region.lost, 0.0, multipliers)
  for (eta, count), price in zip(groups, lowered(multipliers, 0), strict=True):
    if price == 0:
      total += count.sum()
    elif eta.size:
      rest = np.append(np.cumsum((count / eta)[:0:-1])[::-1], 0.0)  # sum over larger thresholds
      reached = (np.cumsum(count) + rest * eta) * (1 + EPS * (eta.size + 4))
      total += np.maximum(0.0, (reached - price * eta).max())  # NaN stays NaN
  values = np.einsum("g,agc->ac", multipliers, region.weights)
  values *= 1 + EPS * (multipliers.size + 3)
  prices = knapsack(values, region.lower, region.upper, region.budget).sum()
  total = (total + prices) * (1 + EPS * (multipliers.size + region.budget.size + 8))
  return float(total) if np.isfinite(total) else np.inf
