"""The value of a witness: rounded up in float64, exact in rational arithmetic, from LPs' duals."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import optimize

from lrs_jax import collective
from lrs_jax.collective import witness
from lrs_jax.collective.hulls import bound_hulls, extend, hull_of, join, point
from lrs_jax.collective.problem import knapsack, make_problem, make_region, prices, whole_region


def random_leaf(seed):
  """A problem, a random leaf of a random tree over it, and multipliers of any sign."""
  rng = np.random.default_rng(seed)
  shape = rng.integers(1, 3), rng.integers(1, 4), rng.integers(1, 5)
  weights = 10 ** rng.uniform(-2, 2, shape) * (rng.random(shape) < 0.8)
  groups, eta = rng.integers(0, shape[1], 20), 10 ** rng.uniform(-2, 3, 20)
  caps = rng.uniform(0, 3, (shape[0], shape[2])) if rng.random() < 0.5 else None
  integral = bool(rng.integers(2))
  budgets = rng.integers(0, 5, (1, shape[0])) * (1 if integral else rng.random())
  problem, _ = make_problem(weights, groups, eta, budgets, None, caps, integral)
  box = witness.whole_box(problem)
  for _ in range(rng.integers(0, 5)):
    if rng.random() < 0.6 or not integral:
      g = int(rng.integers(shape[1]))
      value = float(rng.choice(np.append(problem.thresholds[g], rng.uniform(0, 9))))
    else:
      g, value = shape[1] + int(rng.integers(problem.caps.size)), float(rng.integers(1, 3))
    box = witness.split(box, g, value, integral)[rng.integers(2)]
  region = make_region(problem, problem.budgets[0], box.b_lower, box.b_upper)
  multipliers = rng.normal(size=shape[1]) * 10 ** rng.uniform(-3, 3, shape[1])
  multipliers *= rng.random(shape[1]) < 0.8
  return problem, region, box, np.abs(multipliers) if rng.random() < 0.5 else multipliers


def plainly(problem, box, multipliers):
  """`exact_bound` without any filter, for problems of finite numbers."""
  total = Fraction(0)
  shares = []
  for a, budget in enumerate(problem.budgets[0].tolist()):
    lower = [Fraction(x) for x in box.b_lower[a]]
    spare = Fraction(budget) - sum(lower)
    room = [min(Fraction(u), Fraction(l) + spare) - Fraction(l) if np.isfinite(u) else spare
            for u, l in zip(box.b_upper[a], box.b_lower[a], strict=True)]  # fmt: skip
    if spare < 0 or any(x < 0 for x in room):
      return -np.inf
    shares.append((lower, room, spare))

  def most(values):
    result = Fraction(0)
    for a, (lower, room, spare) in enumerate(shares):
      result += sum(v * l for v, l in zip(values[a], lower, strict=True))
      for c in sorted(range(len(room)), key=lambda c: -values[a][c]):
        bought = min(room[c], spare)
        result += max(values[a][c], 0) * bought
        spare -= bought
    return result

  weights = [[[Fraction(w) for w in row] for row in kind] for kind in problem.weights]
  num_kinds, num_groups, num_cells = problem.weights.shape
  for g in range(num_groups):
    reach = most([weights[a][g] for a in range(num_kinds)])
    price = Fraction(multipliers[g])
    lower, upper = Fraction(box.lower[g]), reach
    closed = True
    if np.isfinite(box.upper[g]) and Fraction(box.upper[g]) <= reach:
      upper, closed = Fraction(box.upper[g]), not box.open[g]
    if lower > upper or (lower == upper and not closed):
      return -np.inf
    steps = [(Fraction(x), int(k)) for x, k in
             zip(problem.thresholds[g], problem.counts[g][1:], strict=True)]  # fmt: skip
    reached = [(x, k) for x, k in steps if x < upper or (closed and x == upper)]
    values = [k - price * x for x, k in reached if x > lower]
    values.append(max([k for x, k in reached if x <= lower], default=0) - price * lower)
    values.append(max([k for _, k in reached], default=0) - price * upper)
    total += max(values)
  prices = [
    [sum(Fraction(multipliers[g]) * weights[a][g][c] for g in range(num_groups))
     for c in range(num_cells)] for a in range(num_kinds)
  ]  # fmt: skip
  return total + most(prices)


def test_float_bounds_are_above_the_exact_one_and_close():
  empty = 0
  for seed in range(400):
    problem, region, box, multipliers = random_leaf(seed)
    exact = witness.exact_bound(problem, problem.budgets[0], box, multipliers)
    assert exact == plainly(problem, box, multipliers), seed
    value = witness.bound(problem, region, box, multipliers)
    empty += exact == -np.inf
    if exact == -np.inf:
      continue  # what is empty exactly may, rounded, be a single point
    scale = 20 + float(np.abs(multipliers) @ np.minimum(region.reach, 1e300))
    assert exact <= value <= float(exact) + 1e-12 * scale, seed
    hulls = [hull_of(problem, region, box, g) for g in range(multipliers.size)]
    hulled = bound_hulls(join(hulls), region, box, multipliers)
    assert exact <= hulled <= float(exact) + 1e-12 * scale, seed
  assert 0 < empty < 200


def test_knapsack_is_above_the_optimum_and_close():
  rng = np.random.default_rng(0)
  for _ in range(200):
    n = rng.integers(1, 6)
    values, lower = rng.normal(size=n), rng.integers(0, 2, n).astype(float)
    upper = lower + rng.choice([0, 0.5, 1, np.inf], n)
    budget = lower.sum() + rng.choice([0, 0.7, 2])
    result = optimize.linprog(
      -values, np.ones((1, n)), [budget], bounds=np.stack([lower, upper], axis=1)
    )
    bound = knapsack(values, lower, upper, np.float64(budget))
    np.testing.assert_allclose(bound, -result.fun, rtol=1e-12, atol=1e-12)


def test_regions_without_caps_are_those_of_their_boxes_to_the_bit():
  """Of budgets and weights over all of float64, and prices within them."""
  rng = np.random.default_rng(0)
  kinds = {True: 0, False: 0}
  for _ in range(300):
    shape = rng.integers(1, 3), rng.integers(1, 4), rng.integers(1, 4)
    weights = 10 ** rng.uniform(-160, 160, shape) * rng.choice([0, 1, 1, 1, 1, np.inf], shape)
    budgets = 10 ** rng.uniform(-160, 160, shape[0]) * rng.choice([0, 1, 1, 1, np.inf], shape[0])
    caps = np.where(rng.random((shape[0], shape[2])) < 0.9, np.inf, budgets.max())
    problem, _ = make_problem(weights, np.zeros(0, int), [], [budgets], None, caps, False)
    region, box = whole_region(problem, 0), witness.whole_box(problem)
    expected = make_region(problem, problem.budgets[0], box.b_lower, box.b_upper)
    assert not expected.is_plain
    kinds[region.is_plain] += 1
    for one, other in zip(region[:-1], expected[:-1], strict=True):
      np.testing.assert_array_equal(one, other, strict=True)
    multipliers = np.where(region.lost, 0.0, 10 ** rng.uniform(-160, 160, shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):
      found = prices(region, multipliers)
      np.testing.assert_array_equal(found, prices(expected, multipliers), strict=True)
  assert min(kinds.values()) > 50, kinds


def test_hull_is_the_least_concave_majorant_however_it_is_built():
  rng = np.random.default_rng(0)
  for size in (1, 2, 3, 10, 1000):
    s, height = np.cumsum(rng.gamma(0.3, 1, size) + 1e-9), np.cumsum(rng.integers(1, 5, size)) * 1.0
    (whole,) = extend([point(0.0, 0.0)], [s], [height])
    parts = point(0.0, 0.0)
    for chunk in np.array_split(np.arange(size), 4):
      (parts,) = extend([parts], [s[chunk]], [height[chunk]])
    np.testing.assert_array_equal(whole.s, parts.s)
    assert (np.diff(np.diff(whole.height) / np.diff(whole.s)) < 1e-9).all()
    assert (height <= np.interp(s, whole.s, whole.height) + whole.slack).all()
    assert whole.slack < 1e-9 * height[-1]
    assert np.isin(whole.s[1:], s).all()


def test_hulls_of_many_groups_are_those_of_each_to_the_bit(monkeypatch):
  """Of slopes over hundreds of decades, too, which no 24 numbers keep apart; and in halves."""
  rng = np.random.default_rng(0)
  hulls, more = [], []
  for size in (0, 1, 2, 3, 50, 700, 0, 40) * 3:
    scale = 10.0 ** rng.integers(-40, 40)
    s = scale * np.cumsum(rng.gamma(0.3, 1, 2 * size) ** rng.integers(1, 9) + 1e-9)
    height = np.cumsum(rng.integers(1, 5, 2 * size)) * 1.0
    hulls += extend([point(0.0, 0.0)], [s[:size]], [height[:size]])
    more.append((s[size:], height[size:]))
  alone = [extend([hull], [s], [height])[0] for hull, (s, height) in zip(hulls, more, strict=True)]
  for many in (2**16, 1000, 1):
    monkeypatch.setattr("lrs_jax.collective.hulls._MANY_POINTS", many)
    together = extend(hulls, *(list(x) for x in zip(*more, strict=True)))
    for found, expected in zip(together, alone, strict=True):
      for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
  assert extend([], [], []) == []


@pytest.mark.parametrize("price", [1.0, 1e17])
def test_points_that_a_solver_cannot_tell_apart_are_one_that_is_above_both(price):
  problem, _ = make_problem([[1.0]], [0, 0, 0], [1.0, 1 + 2.0**-52, 0.5], [2.0], None, None, False)
  region, box = whole_region(problem, 0), witness.whole_box(problem)
  for lower in (0.0, 1.0):
    part = box._replace(lower=np.array([lower]))
    hull = hull_of(problem, region, part, 0)
    assert hull.s[-1] == 1.0
    proven = bound_hulls(join([hull]), region, part, np.array([price]))
    exact = witness.exact_bound(problem, problem.budgets[0], part, np.array([price]))
    assert exact <= proven


def test_lp_and_envelope_reach_the_optima_of_their_lps():
  """Against scipy's HiGHS on models that are built otherwise, row by row."""
  for seed in range(12):
    rng = np.random.default_rng(seed)
    weights = rng.gamma(2, 1, (1, 3, 4))
    groups, eta = rng.integers(0, 3, 60), rng.integers(1, 40, 60) / 8
    caps = rng.uniform(0.2, 1, (1, 4)) if seed % 2 else None
    problem, _ = make_problem(weights, groups, eta, [1.5], None, caps, False)
    region = whole_region(problem, 0)
    s, upper = weights[0], np.full(4, 1.5) if caps is None else caps[0]
    # Envelope: u_g <= every line through two points that lies above all points.
    rows, rhs = [], []
    for g in range(3):
      inside = eta[(groups == g) & (eta <= region.reach[g])]
      x = np.concatenate([[0.0], np.unique(inside), [region.reach[g]]])
      y = np.array([(inside <= v).sum() for v in x], float)
      for i in range(x.size):
        for j in range(i + 1, x.size):
          if x[j] > x[i]:
            slope = (y[j] - y[i]) / (x[j] - x[i])
            if (y <= y[i] + slope * (x - x[i]) + 1e-9).all():
              rows.append(np.concatenate([np.eye(3)[g], -slope * s[g]]))
              rhs.append(y[i] - slope * x[i])
    rows.append(np.append(np.zeros(3), np.ones(4)))
    rhs.append(1.5)
    bounds = [(None, None)] * 3 + [(0, v) for v in upper]
    best = -optimize.linprog(np.append(-np.ones(3), np.zeros(4)), rows, rhs, bounds=bounds).fun
    certificate = collective.certify(weights, groups, eta, [1.5], caps=caps)
    assert certificate.attackable[0] == pytest.approx(best, rel=1e-9)
    # Outputs: t_n eta_n <= s.
    able = np.flatnonzero(eta <= region.reach[groups])
    rows = np.hstack([np.diag(eta[able]), -s[groups[able]]])
    rows = np.vstack([rows, np.append(np.zeros(able.size), np.ones(4))])
    bounds = [(0, 1)] * able.size + [(0, v) for v in upper]
    cost = np.append(-np.ones(able.size), np.zeros(4))
    best = -optimize.linprog(cost, rows, np.append(np.zeros(able.size), 1.5), bounds=bounds).fun
    certificate = collective.certify(weights, groups, eta, [1.5], caps=caps, method="lp")
    assert certificate.attackable[0] == pytest.approx(best, rel=1e-9)


def test_trees_that_are_none_are_refused():
  problem, _ = make_problem([[1.0], [2.0]], [0, 1], [1.0, 1.0], [1.0], None, None, False)

  def leaves(variables, num_leaves=1):
    nodes = len(variables)
    tree = witness.Witness(
      np.array([0, nodes]), np.array(variables), np.ones(nodes), np.zeros((num_leaves, 2))
    )
    return list(witness.leaves(tree, problem, 0))

  assert len(leaves([0, -1, 1, -1, -1], 3)) == 3
  with pytest.raises(ValueError, match="its tree ends before its nodes do"):
    leaves([-1, -1], 2)
  with pytest.raises(ValueError, match="its tree lacks 1 subtrees"):
    leaves([0, -1], 1)
  with pytest.raises(ValueError, match="its tree splits variable 9"):
    leaves([9, -1, -1], 2)
