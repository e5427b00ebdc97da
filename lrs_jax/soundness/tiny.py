"""Random tiny collective problems, and their exact optimum by enumeration in rationals (host)."""

import itertools
import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np


class Tiny(NamedTuple):
  """Arguments of `collective.certify`."""

  weights: np.ndarray  # float64 [A, G, C]
  groups: np.ndarray  # int [N]
  eta: np.ndarray  # float64 [N]
  budgets: np.ndarray  # float64 [B, A]
  targets: np.ndarray | None = None  # bool [N]
  caps: np.ndarray | None = None  # float64 [A, C]
  integral: bool = False

  @property
  def inputs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first three arguments."""
    return self.weights, self.groups, self.eta

  @property
  def options(self) -> dict[str, Any]:
    """The keywords."""
    return {"targets": self.targets, "caps": self.caps, "integral": self.integral}


def random_problem(rng: np.random.Generator, *, infinite: bool = True, max_kinds: int = 2) -> Tiny:
  """A problem small enough to enumerate; ties, decades, masks and corners are all frequent.

  Args:
    rng: decides everything.
    infinite: whether weights may be infinite, where b is integral.
    max_kinds: perturbation kinds A, at most.

  Example:
    >>> problem = random_problem(np.random.default_rng(16))
    >>> problem.weights.shape, problem.eta.size, optimum(problem)
    ((2, 3, 1), 6, 3)
  """
  num_kinds = int(rng.integers(1, max_kinds + 1))
  num_groups, num_cells = rng.choice([1, 2, 3, 4], 2, p=[0.1, 0.3, 0.4, 0.2])
  num_outputs = int(rng.choice([0, 1, 4, 6, 8, 10]))
  integral = bool(rng.integers(2))
  shape = (num_kinds, num_groups, num_cells)
  weights = {
    0: lambda: rng.integers(0, 5, shape).astype(float),
    1: lambda: rng.uniform(0.15, 1, shape) ** -2.0,
    2: lambda: 10 ** rng.uniform(-2, 2, shape),  # std ratios of 100
    3: lambda: 10 ** rng.uniform(-4, 4, shape),
  }[int(rng.integers(4))]()
  weights[rng.random(shape) < rng.choice([0, 0.3])] = 0
  if infinite and integral and rng.random() < 0.25:
    weights[rng.random(shape) < 0.3] = np.inf
  eta = {
    0: lambda: rng.integers(-1, 8, num_outputs).astype(float),
    1: lambda: rng.choice([0.5, 1, 2.5, 4], num_outputs),
    2: lambda: 10 ** rng.uniform(-3, 4, num_outputs),  # seven decades
    3: lambda: rng.gamma(2, 2, num_outputs),
  }[int(rng.integers(4))]()
  eta[rng.random(num_outputs) < 0.1] = np.inf
  eta[rng.random(num_outputs) < 0.1] = 0
  # Budgets at which the thresholds are in reach of some groups, not of all.
  typical = weights[np.isfinite(weights) & (weights > 0)]
  reachable = eta[np.isfinite(eta) & (eta > 0)]
  unit = np.median(reachable) / np.median(typical) if typical.size and reachable.size else 1.0
  budgets = rng.choice([0, 0.5, 1, 1.5, 2, 3], (1, num_kinds), p=[0.04, 0.16, 0.2, 0.2, 0.2, 0.2])
  if integral:
    eta = eta / unit * float(rng.choice([0.5, 1, 2]))
    budgets = np.ceil(budgets)
  else:
    budgets = budgets * unit
  caps = None
  if rng.random() < 0.4:
    caps = rng.integers(0, 3, (num_kinds, num_cells)).astype(float)
    if not integral:
      caps *= _few_bits(unit * rng.choice([0.25, 0.5, 1]))
  # Few bits, so that products are exact in float64 and ties are ties.
  weights, budgets = _few_bits(weights), _few_bits(budgets)
  groups = rng.integers(0, num_groups, num_outputs)
  if rng.random() < 0.7:  # contested: every group is in reach, hardly all of them at once
    usable = np.where(np.isfinite(weights), weights, 0)
    reach = (usable.max(axis=2) * budgets[0][:, None]).sum(axis=0)[groups]
    part = (
      rng.choice([0.25, 0.5, 0.75, 1], num_outputs)
      if rng.random() < 0.5
      else rng.random(num_outputs)
    )
    contested = rng.random(num_outputs) < 0.9
    eta = np.where(contested, np.ceil(reach * part) if integral else reach * part, eta)
  targets = rng.random(num_outputs) < 0.8 if rng.random() < 0.4 else None
  return Tiny(weights, groups, eta, budgets, targets, caps, integral)


def _few_bits(x: Any) -> np.ndarray:
  mantissa, exponent = np.frexp(x)
  return np.ldexp(np.round(mantissa * 2**12), exponent - 12)


def survivors(problem: Tiny, index: int = 0) -> int:
  """The targets that no attack of a budget can make fall, exactly: what may be certified."""
  return int(_alive(problem).sum()) - optimum(problem, index)


def optimum(problem: Tiny, index: int = 0) -> int:
  """The most targets that can fall at a budget, exactly.

  Integral attacks are enumerated. Others are not, but what they can reach is: every choice of a
  threshold for each group is a linear program, whose feasibility the simplex method decides in
  rational arithmetic.
  """
  return int((_integral_optimum if problem.integral else _continuous_optimum)(problem, index))


def _alive(problem: Tiny) -> np.ndarray:
  targets = np.ones(problem.eta.size, bool) if problem.targets is None else problem.targets
  return targets & (problem.eta > 0)


def _integral_optimum(problem: Tiny, index: int) -> int:
  """Every integral attack."""
  num_kinds, _, num_cells = problem.weights.shape
  caps = np.full((num_kinds, num_cells), np.inf) if problem.caps is None else problem.caps
  alive, per_kind = _alive(problem), []
  for a in range(num_kinds):
    budget = int(problem.budgets[index, a])
    ranges = [range(int(min(budget, cap)) + 1) for cap in caps[a]]
    per_kind.append([b for b in itertools.product(*ranges) if sum(b) <= budget])
  best = 0
  for b in itertools.product(*per_kind):
    s = [
      sum(
        (
          _times(problem.weights[a, g, c], b[a][c])
          for a in range(num_kinds)
          for c in range(num_cells)
        ),
        Fraction(0),
      )
      for g in range(problem.weights.shape[1])
    ]
    best = max(best, sum(s[problem.groups[n]] >= problem.eta[n] for n in np.flatnonzero(alive)))
  return best


def _continuous_optimum(problem: Tiny, index: int) -> int:
  """Every choice of a threshold per group, each an exact LP feasibility problem."""
  num_kinds, num_groups, num_cells = problem.weights.shape
  alive, choices = _alive(problem), []
  for g in range(num_groups):
    eta = problem.eta[alive & (problem.groups == g)]
    eta = eta[np.isfinite(eta)]
    choices.append(
      [(0, Fraction(0))] + [(int((eta <= x).sum()), Fraction(x)) for x in np.unique(eta)]
    )
  budgets = [Fraction(x) for x in problem.budgets[index]]
  best = 0
  for choice in sorted(itertools.product(*choices), key=lambda c: -sum(k for k, _ in c)):
    if sum(k for k, _ in choice) <= best:
      break
    # W b >= eta, -sum b >= -B, -b >= -caps, b >= 0.
    rows, rhs = [], []
    for g, (_, level) in enumerate(choice):
      rows.append(
        [Fraction(problem.weights[a, g, c]) for a in range(num_kinds) for c in range(num_cells)]
      )
      rhs.append(level)
    for a in range(num_kinds):
      rows.append([Fraction(-int(k == a)) for k in range(num_kinds) for _ in range(num_cells)])
      rhs.append(-budgets[a])
    if problem.caps is not None:
      for j, cap in enumerate(problem.caps.ravel()):
        if math.isfinite(cap):
          rows.append([Fraction(-int(j == i)) for i in range(problem.caps.size)])
          rhs.append(-Fraction(cap))
    if _feasible(rows, rhs):
      best = max(best, sum(k for k, _ in choice))
  return best


def _feasible(rows: list[list[Fraction]], rhs: list[Fraction]) -> bool:
  """Whether A x >= r has a solution x >= 0: phase one of the simplex method, by Bland's rule."""
  m, n = len(rows), len(rows[0])
  table = []
  for i, (row, r) in enumerate(zip(rows, rhs, strict=True)):
    sign = 1 if r > 0 else -1
    surplus = [Fraction(-sign * int(k == i)) for k in range(m)]
    table.append([sign * x for x in row] + surplus + [sign * r])
  basis = [n + i if rhs[i] <= 0 else None for i in range(m)]  # None: artificial, leaves for good
  while True:
    short = [i for i in range(m) if basis[i] is None]
    if not any(table[i][-1] for i in short):
      return True
    cost = [sum(table[i][j] for i in short) for j in range(n + m)]
    entering = next((j for j in range(n + m) if cost[j] > 0), None)
    if entering is None:
      return False
    ratios = [
      (table[i][-1] / table[i][entering], -1 if basis[i] is None else basis[i], i)
      for i in range(m)
      if table[i][entering] > 0
    ]
    _, _, leaving = min(ratios)
    pivot = table[leaving][entering]
    table[leaving] = [x / pivot for x in table[leaving]]
    for i in range(m):
      factor = table[i][entering]
      if i != leaving and factor:
        table[i] = [x - factor * y for x, y in zip(table[i], table[leaving], strict=True)]
    basis[leaving] = entering


def _times(weight: float, b: int) -> Fraction | float:
  if b == 0:
    return Fraction(0)
  return Fraction(weight) * b if math.isfinite(weight) else math.inf
