"""Attacks, and what falls under them: lower bounds that are attained (host)."""

import math
import time
from bisect import bisect_right
from fractions import Fraction
from typing import Any

import numpy as np
from scipy import sparse

from lrs_jax.collective import highs, incremental
from lrs_jax.collective.problem import Given, Problem, Region, shown


def fallen_exactly(problem: Problem, budget: np.ndarray, b: np.ndarray) -> list[int]:
  """How many distinct thresholds of each group an attack b, [A, C], reaches, exactly.

  Raises:
    ValueError: the attack does not fit the budget, the caps or integrality.
  """
  if not (np.isfinite(b) & (b >= 0)).all():
    raise ValueError(f"the attack must be finite and >= 0, but it is {b.tolist()}")
  if (b > problem.caps).any() or (problem.integral and (b != np.floor(b)).any()):
    raise ValueError(f"the attack {b.tolist()} exceeds the caps or is not integral")
  for kind, most in zip(b.tolist(), budget.tolist(), strict=True):
    if (spent := sum(map(Fraction, kind))) > most:
      raise ValueError(f"the attack spends {shown(spent)} of a budget of {most}")
  kinds, cells = np.nonzero(b)
  weights = problem.weights[kinds, :, cells].T  # [G, spent on]
  lost = np.any(weights >= problem.stand_in[:, None], axis=1)
  (spent_there, of_spent), (perceived, of_weights) = map(
    _integers, (b[kinds, cells], np.where(lost[:, None], 0.0, weights))
  )
  totals, unit = perceived @ spent_there, Fraction(2) ** (of_spent + of_weights)
  fallen = []
  for g, eta in enumerate(problem.thresholds):
    s = math.inf if lost[g] else totals[g] * unit
    last = eta.size - (problem.stand_in[g] < math.inf and not lost[g])  # eta = inf, not just M
    fallen.append(bisect_right(eta, s, hi=last))
  return fallen


def _integers(x: np.ndarray) -> tuple[np.ndarray, int]:
  """Numbers as Python's integers, times 2 to a power that is returned: exactly the same."""
  mantissa, exponent = np.frexp(x)
  integers = (mantissa * 2.0**53).astype(np.int64).astype(object)
  least = int(exponent[mantissa != 0].min(initial=0))
  return integers << np.where(mantissa == 0, 0, exponent - least).astype(object), least - 53


def outputs(problem: Problem, given: Given, budget: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Which targets fall under an attack, exactly: bool [N]; raises as `fallen_exactly` does."""
  largest = np.full(len(problem.thresholds), -np.inf)
  for g, count in enumerate(fallen_exactly(problem, budget, b)):
    eta_g = problem.thresholds[g]
    if count:  # all of a group: its last threshold may stand for an infinite one
      largest[g] = eta_g[count - 1] if count < eta_g.size else np.inf
  return (given.targets > 0) & (given.eta > 0) & (given.eta <= largest[given.groups])


def near(
  solver: Any, problem: Problem, region: Region, b: np.ndarray, best: int
) -> tuple[np.ndarray, int]:
  """A feasible attack near what a solver proposes, and how many targets fall under it.

  What falls up to the solver's tolerances, if it beats `best`, is sought again with a margin.
  """
  fallen = problem.reached(perceive(region, b) * (1 + 1e-7))
  if problem.worth(fallen) <= best:
    return b, 0
  reached = zip(problem.thresholds, fallen, strict=True)
  floors = np.array([eta[k - 1] if k else 0.0 for eta, k in reached])
  candidates = [b, *with_margin(solver, region, floors)]
  if problem.integral:
    candidates += [np.round(b), greedy(problem, region, np.floor(b + 1e-6))]
  else:
    candidates += extremes(problem, region, b)
  candidates = [feasible(problem, region.budget, x) for x in candidates]
  counts = [problem.worth(fallen_exactly(problem, region.budget, x)) for x in candidates]
  most = int(np.argmax(counts))
  return candidates[most], counts[most]


def seek(
  solver: Any,
  problem: Problem,
  region: Region,
  proposed: np.ndarray | None,
  enough: float,
  deadline: float,
) -> tuple[np.ndarray, int]:
  """The best attack that rounding an LP's finds and, if that is not enough, the MILP's.

  The latter over coarse levels, then over finer ones around what it found, while that helps, in a
  tenth of the time until the deadline.
  """
  attack, best = np.zeros_like(problem.caps), 0
  if proposed is not None:
    attack, best = near(solver, problem, region, proposed, -1)
  limit = min(1.0, (deadline - time.perf_counter()) / 40)
  levels = incremental.coarse_levels(problem, region)
  for _ in range(4):
    if best >= enough or limit <= 0:
      break
    found = incremental.propose(solver, problem, region, levels, limit)
    if found is None:
      break
    candidate, count = near(solver, problem, region, found, best)
    if count <= best:
      break
    attack, best = candidate, count
    levels = incremental.fine_levels(problem, region, levels, perceive(region, attack))
  return attack, best


def perceive(region: Region, b: np.ndarray) -> np.ndarray:
  """S of every group, up to rounding; inf where it has no bound."""
  return np.where(region.lost, np.inf, np.einsum("agc,ac->g", region.weights, b))


def with_margin(solver: Any, region: Region, floors: np.ndarray) -> list[np.ndarray]:
  """The attack that exceeds the floors of s by the largest factor, if any, and one on a near grid.

  Thresholds that can just be met are often met there.
  """
  wanted = np.flatnonzero((floors > 0) & np.isfinite(region.reach))
  if not wanted.size or not np.isfinite(region.budget).all():
    return []
  size = region.scales[1]
  with np.errstate(over="ignore"):
    rows = (region.weights[:, wanted] * size[:, None] / floors[wanted, None]).transpose(1, 0, 2)
  if not np.isfinite(rows).all():
    return []
  rows = np.hstack([rows.reshape(wanted.size, -1), np.full((wanted.size, 1), -1.0)])
  model = incremental.attack_model(region, size, sparse.csr_array(rows), np.ones(1), 2.0)
  share = highs.leading(highs.solve(solver, model), model, np.ones_like(size))
  if share is None:
    return []
  share = np.clip(share, 0, 1)
  nice = [[float(Fraction(x).limit_denominator(1000)) for x in kind] for kind in share.tolist()]
  return [share * size, np.array(nice).reshape(size.shape) * size]


def greedy(problem: Problem, region: Region, b: np.ndarray) -> np.ndarray:
  """An integral attack that spends what is left, one unit at a time, where most targets fall."""
  b = b.copy()
  for a, kind in enumerate(b):
    for _ in range(int(min(region.budget[a] - kind.sum(), 64))):
      open_ = np.flatnonzero(kind + 1 <= region.upper[a])
      if not open_.size:
        break
      s = perceive(region, b)
      gains = [problem.worth(problem.reached(s + region.weights[a, :, c])) for c in open_]
      kind[open_[int(np.argmax(gains))]] += 1
  return b


def extremes(problem: Problem, region: Region, b: np.ndarray) -> list[np.ndarray]:
  """Attacks for budgets and weights without bound, which no LP proposes.

  One spends in every cell all that any group needs there, one a trifle wherever that is fatal.
  """
  largest = [eta[np.isfinite(eta)].max(initial=0.0) for eta in problem.thresholds]
  with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
    needs = np.array(largest)[:, None] / problem.weights * (1 + 2.0**-30)
  enough = np.where(np.isfinite(needs), needs, 0.0).max(axis=1, initial=0.0)
  infinite = np.isinf(problem.weights).any(axis=1) & (region.upper > 0)
  spare = np.where(np.isfinite(region.budget), region.budget, 1.0)[:, None]
  trifle = np.minimum(region.upper, spare) * 2.0**-40
  return [
    np.maximum(np.minimum(enough, region.upper), np.where(infinite, trifle, 0.0)),
    np.where(infinite, np.maximum(b, trifle), b * (1 - 2.0**-30)),
  ]


def feasible(problem: Problem, budget: np.ndarray, b: np.ndarray) -> np.ndarray:
  """The attack, changed as little as need be to fit the caps, integrality and the budget."""
  b = np.clip(b, 0, problem.caps)
  b[~np.isfinite(b)] = 0.0
  if problem.integral:
    b = np.floor(b + 1e-6)
  for kind, most in zip(b, budget.tolist(), strict=True):
    if np.isinf(most):
      continue
    spent = sum(map(Fraction, kind.tolist()))
    if spent > most and not problem.integral:
      kind *= float(Fraction(most) / spent) * (1 - 4 * kind.size * 2.0**-53)
    if sum(map(Fraction, kind.tolist())) > most:
      kind[:] = 0
  return b


def gap(attackable: np.ndarray, num_attacked: np.ndarray, num_targets: int) -> np.ndarray:
  """(floor(attackable) - attacked) / targets: 0 if the certificate cannot be improved."""
  return (np.floor(attackable) - num_attacked) / max(num_targets, 1)
