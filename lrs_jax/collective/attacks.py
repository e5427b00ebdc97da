"""Attacks, and what falls under them: lower bounds that are attained (host)."""

import math
from bisect import bisect_right
from fractions import Fraction

import numpy as np

from lrs_jax.collective.problem import Problem


def fallen_exactly(problem: Problem, index: int, b: np.ndarray) -> list[int]:
  """How many distinct thresholds of each group an attack reaches, in rational arithmetic.

  Args:
    problem: thresholds and weights.
    index: of the budget.
    b: float64 [A, C].

  Returns:
    Per group, the number of its thresholds that are at most s_g.

  Raises:
    ValueError: the attack does not fit the budget, the caps or integrality.
  """
  if not (np.isfinite(b) & (b >= 0)).all():
    raise ValueError(f"the attack must be finite and >= 0, but it is {b.tolist()}")
  if (b > problem.caps).any() or (problem.integral and (b != np.floor(b)).any()):
    raise ValueError(f"the attack {b.tolist()} exceeds the caps or is not integral")
  exact = [[Fraction(x) for x in kind] for kind in b.tolist()]
  for kind, budget in zip(exact, problem.budgets[index].tolist(), strict=True):
    if sum(kind) > budget:
      raise ValueError(f"the attack spends {float(sum(kind))} of a budget of {budget}")
  used = [(a, c) for a, kind in enumerate(exact) for c, x in enumerate(kind) if x > 0]
  fallen = []
  for g, eta in enumerate(problem.thresholds):
    perceived: Fraction | float = Fraction(0)
    for a, c in used:
      weight = float(problem.weights[a, g, c])
      perceived += exact[a][c] * Fraction(weight) if math.isfinite(weight) else weight
    fallen.append(bisect_right(eta, perceived))
  return fallen


def outputs(problem: Problem, fallen: list[int], groups: np.ndarray, eta: np.ndarray) -> np.ndarray:
  """Which outputs have one of the smallest thresholds of their group: bool [N]."""
  largest = np.full(len(fallen), -np.inf)
  for g, count in enumerate(fallen):
    if count:
      largest[g] = problem.thresholds[g][count - 1]
  return eta <= largest[groups]


def gap(attackable: float, count: int, num_targets: int) -> float:
  """(floor(attackable) - count) / targets: 0 if the certificate cannot be improved."""
  return (math.floor(attackable) - count) / max(num_targets, 1)
