r"""Witnesses: numbers that prove how many targets can fall, and their evaluation (host).

For one budget a witness is a binary tree over the attacks and a vector of multipliers per leaf. A
split of s_g at v sends s_g < v to the left and s_g >= v to the right, so the leaves cover all
attacks by construction. In a leaf, :math:`l_g \le s_g \le u_g` (or :math:`< u_g`), and any real
:math:`\lambda` proves

.. math::

  \max_b \sum_g N_g(s_g) \le \sum_g \max_{l_g \le s \le u_g} (N_g(s) - \lambda_g s)
    + \sum_a \max_{b_a} \sum_c b_{ac} \sum_g \lambda_g W_{agc} ,

a step function's maximum, taken at :math:`l_g` and at every threshold in the interval for
:math:`\lambda_g \ge 0` and at its right end otherwise, and a fractional knapsack per kind. One leaf
with :math:`\lambda = 0` is the naive certificate. The bound is the largest of all leaves'.

`bound` evaluates it in float64, every operation rounded up; `exact_bound`, independently of it, in
rational arithmetic.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from lrs_jax.collective.problem import EPS, Problem, Region, make_region, prices, whole_region

Exact = Any  # a Fraction, or a float inf


class Witness(NamedTuple):
  """Trees of all budgets, nodes in preorder (a node, its left subtree, its right subtree)."""

  starts: np.ndarray  # int64 [B + 1]: nodes starts[i]:starts[i + 1] are the tree of budget i
  variables: np.ndarray  # int64 [nodes]: g splits s_g, G + a C + c splits b[a, c], -1 is a leaf
  values: np.ndarray  # float64 [nodes]: where; 0 in a leaf
  multipliers: np.ndarray  # float64 [leaves, G], in the order of the leaves


def tree(variables: list[int], values: list[float], multipliers: list[np.ndarray]) -> Witness:
  """The witness of one budget."""
  starts = np.array([0, len(variables)], np.int64)
  return Witness(starts, np.array(variables, np.int64), np.array(values), np.stack(multipliers))


class Box(NamedTuple):
  """Attacks with lower <= s <= upper (or s < upper) and b_lower <= b <= b_upper."""

  lower: np.ndarray  # float64 [G]
  upper: np.ndarray  # float64 [G]
  open: np.ndarray  # bool [G]: the upper end is excluded
  b_lower: np.ndarray  # float64 [A, C]
  b_upper: np.ndarray  # float64 [A, C]


def whole_box(problem: Problem) -> Box:
  """The box of all attacks."""
  nothing = np.zeros(problem.weights.shape[1])
  unlimited = np.full(nothing.size, np.inf)
  return Box(nothing, unlimited, nothing > 0, np.zeros_like(problem.caps), problem.caps)


def split(box: Box, variable: int, value: float, integral: bool) -> tuple[Box, Box]:
  """The parts of a box in which s_g or b[a, c] is less than, and not less than, `value`."""
  num_groups, num_cells = box.lower.size, box.b_lower.shape[1]
  if variable < num_groups:
    upper, open_, lower = box.upper.copy(), box.open.copy(), box.lower.copy()
    if value <= upper[variable]:
      upper[variable], open_[variable] = value, True
    lower[variable] = max(lower[variable], value)
    return box._replace(upper=upper, open=open_), box._replace(lower=lower)
  cell = divmod(variable - num_groups, num_cells)
  b_upper, b_lower = box.b_upper.copy(), box.b_lower.copy()
  b_upper[cell] = min(b_upper[cell], math.ceil(value) - 1 if integral else value)
  b_lower[cell] = max(b_lower[cell], math.ceil(value) if integral else value)
  return box._replace(b_upper=b_upper), box._replace(b_lower=b_lower)


def leaves(witness: Witness, problem: Problem, index: int) -> Iterator[tuple[Box, np.ndarray]]:
  """The leaves of budget `index` and their multipliers.

  Raises:
    ValueError: the nodes do not form one tree.
  """
  start, end = witness.starts[index : index + 2]
  multipliers = iter(witness.multipliers[(witness.variables[:start] < 0).sum() :])
  num_groups = problem.weights.shape[1]
  # Only integral b are split, and where whole numbers are exact.
  num_variables = num_groups + problem.caps.size * problem.integral
  pending = [whole_box(problem)]
  nodes = witness.variables[start:end].tolist(), witness.values[start:end].tolist()
  for variable, value in zip(*nodes, strict=True):
    if not pending:
      raise ValueError("its tree ends before its nodes do")
    box = pending.pop()
    if variable < 0:
      yield box, next(multipliers)
      continue
    largest = math.inf if variable < num_groups else 2.0**50
    if variable >= num_variables or not abs(value) < largest:
      raise ValueError(f"its tree splits variable {variable} at {value}")
    pending.extend(reversed(split(box, variable, value, problem.integral)))
  if pending:
    raise ValueError(f"its tree lacks {len(pending)} subtrees")


def evaluate(problem: Problem, witness: Witness, index: int) -> float:
  """The bound that the witness proves for budget `index`, rounded up."""
  whole, bounds = whole_region(problem, index), [0.0]
  for box, multipliers in leaves(witness, problem, index):
    is_whole = box.b_upper is problem.caps and not box.b_lower.any()
    region = whole if is_whole else make_region(problem, whole.budget, box.b_lower, box.b_upper)
    bounds.append(bound(problem, region, box, multipliers))
  return float(np.max(bounds))  # NaN, if there were one


def evaluate_exactly(problem: Problem, witness: Witness, index: int) -> Exact:
  """The bound that the witness proves for budget `index`, in rational arithmetic (or inf)."""
  budget, parts = problem.budgets[index], leaves(witness, problem, index)
  return max((exact_bound(problem, budget, *part) for part in parts), default=Fraction(0))


def interval(thresholds: np.ndarray, box: Box, region: Region, g: int) -> tuple[int, int] | None:
  """Thresholds[first:last] of group g lie in (lower, upper], and upper <= S_g; None if empty."""
  lower, upper = box.lower[g], min(box.upper[g], region.reach[g])
  is_open = box.open[g] and box.upper[g] == upper
  if lower > upper or (is_open and lower == upper):
    return None
  first = thresholds.searchsorted(lower, "right")
  return int(first), int(thresholds.searchsorted(upper, "left" if is_open else "right"))


@np.errstate(over="ignore", invalid="ignore")
def bound(problem: Problem, region: Region, box: Box, multipliers: np.ndarray) -> float:
  r"""How many targets can fall inside a box, at most, as its multipliers prove it.

  A multiplier :math:`\lambda > 0` is lowered by 2 units in the last place before it meets
  :math:`\eta_{(k)}`, so that the rounded product is at most the true one; k minus that is rounded
  once and raised by one unit, which may wait until after the maximum. Prices of the cells are sums
  of G products with a relative error (to the sum of absolute values) below (G + 3) EPS. `fsum` is
  correctly rounded. Where s_g has no bound, its multiplier counts as 0. The bound is -inf for an
  empty box, inf if it overflows or a multiplier is no number.
  """
  multipliers = np.where(region.lost, 0.0, multipliers)
  terms = []
  nearer, farther = lowered(multipliers, 0).tolist(), lowered(multipliers, -np.inf).tolist()
  for g, price in enumerate(multipliers.tolist()):
    eta, counts = problem.thresholds[g], problem.counts[g]
    cut = interval(eta, box, region, g)
    if cut is None:
      return -np.inf
    first, last = cut
    if price == 0:
      terms.append(counts[last])
    elif price < 0:
      end = min(box.upper[g], region.reach[g])
      terms.append(np.nextafter(counts[last] - farther[g] * end, np.inf))
    else:
      best = counts[first] - nearer[g] * box.lower[g]
      if last > first:
        best = max(best, (counts[first + 1 : last + 1] - nearer[g] * eta[first:last]).max())
      terms.append(np.nextafter(best, np.inf))
  if not multipliers.any():  # whole numbers: exact
    return math.fsum(terms)
  return round_up(np.append(terms, prices(region, multipliers)))


def lowered(multipliers: np.ndarray, toward: float) -> np.ndarray:
  """Multipliers moved by 2 units in the last place: more than their products are rounded by."""
  return np.nextafter(np.nextafter(multipliers, toward), toward)


def round_up(terms: np.ndarray) -> float:
  """The sum, rounded up; inf if a term is no finite number, or if it overflows."""
  if not np.isfinite(terms).all():
    return math.inf
  try:
    return math.nextafter(math.fsum(terms.tolist()), math.inf)
  except OverflowError:
    return math.inf


def exact_bound(problem: Problem, budget: np.ndarray, box: Box, multipliers: np.ndarray) -> Exact:
  """`bound`, evaluated again in rational arithmetic, from the numbers alone; inf if unbounded."""
  if not np.isfinite(multipliers).all():
    return math.inf
  num_kinds, _, num_cells = problem.weights.shape
  shares, terms = [], []
  for a in range(num_kinds):
    lower = [_exact(x) for x in box.b_lower[a]]
    spare = _exact(budget[a]) - sum(lower)
    room = [min(_exact(u) - l, spare) for u, l in zip(box.b_upper[a], lower, strict=True)]
    if spare < 0 or min(room, default=0) < 0:
      return -math.inf
    shares.append((lower, room, spare))
  weights = [[[_exact(w) for w in row] for row in kind] for kind in problem.weights]
  prices = [[Fraction(0)] * num_cells for _ in range(num_kinds)]
  for g, (eta, counts) in enumerate(zip(problem.thresholds, problem.counts, strict=True)):
    reach = _sum([_most(weights[a][g], *shares[a]) for a in range(num_kinds)])
    price = Fraction(0) if reach == math.inf else Fraction(float(multipliers[g]))
    for a in range(num_kinds):
      for c in range(num_cells if price else 0):
        if shares[a][0][c] + shares[a][1][c] > 0:  # weights are finite where b can be positive
          prices[a][c] += price * weights[a][g][c]
    lower, upper = _exact(box.lower[g]), min(_exact(box.upper[g]), reach)
    is_open = box.open[g] and box.upper[g] <= reach
    if lower > upper or (is_open and lower == upper):
      return -math.inf
    first = bisect_right(eta, lower)
    last = (bisect_left if is_open else bisect_right)(eta, upper)
    terms.append(_steepest(eta[first:last], counts[first : last + 1], price, lower, upper))
  return _sum([*terms, *(_most(prices[a], *shares[a]) for a in range(num_kinds))])


def _steepest(
  eta: np.ndarray, counts: np.ndarray, price: Fraction, lower: Fraction, upper: Exact
) -> Fraction:
  """The maximum of counts - price eta; only thresholds that float64 cannot rule out are tried."""
  if price <= 0:
    return int(counts[-1]) - _product(price, upper)
  best = int(counts[0]) - price * lower
  with np.errstate(over="ignore", invalid="ignore"):
    cost = float(price) * eta
    value, error = counts[1:] - cost, EPS * (counts[1:] + cost)  # twice what rounding can do
    hopeless = value + error < np.fmax.reduce(value - error, initial=-np.inf)
  for k in np.flatnonzero(~hopeless).tolist():
    best = max(best, int(counts[k + 1]) - price * Fraction(float(eta[k])))
  return best


def _most(values: list, lower: list, room: list, spare: Exact) -> Exact:
  """The fractional knapsack, exactly: the dearest cells first."""
  terms = [_product(v, l) for v, l in zip(values, lower, strict=True)]
  for value, size in sorted(zip(values, room, strict=True), key=lambda item: -item[0]):
    if value <= 0:
      break
    bought = min(size, spare)
    terms.append(_product(value, bought))
    spare = spare - bought if bought < spare else 0
  return _sum(terms)


def _product(x: Exact, y: Exact) -> Exact:
  if x == 0 or y == 0:
    return Fraction(0)
  if isinstance(x, float) or isinstance(y, float):  # inf; a fraction may be too large for a float
    return math.inf if (x > 0) == (y > 0) else -math.inf
  return x * y


def _sum(terms: list[Exact]) -> Exact:
  """The sum of fractions or inf; no summand is -inf."""
  return math.inf if any(isinstance(x, float) for x in terms) else sum(terms, Fraction(0))


def _exact(x: float) -> Exact:
  return Fraction(float(x)) if math.isfinite(x) else float(x)
