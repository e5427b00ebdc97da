"""Exact regions of localized flips, against enumeration of all outcomes and of all attacks."""

import itertools
import os
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lrs_jax import collective, noise
from lrs_jax.baselines import sparse_smoothing
from lrs_jax.collective import regions
from lrs_jax.noise.regions import required_probability

PROBLEMS = 10_000 if os.environ.get("LRS_JAX_THOROUGH") else 40


def outcomes(x, plus, minus, cells):
  """The probability of every noisy input, exactly, by enumeration of all of them."""
  found = {}
  for z in itertools.product((0, 1), repeat=len(x)):
    mass = Fraction(1)
    for bit, shown, cell in zip(x, z, cells, strict=True):
      flip = Fraction(minus[cell]) if bit else Fraction(plus[cell])
      mass *= flip if bit != shown else 1 - flip
    found[z] = mass
  return found


def worst(x, attacked, plus, minus, cells):
  """The largest mass at x of what holds one half at the attacked input: exact, over all inputs."""
  clean, other = (outcomes(each, plus, minus, cells) for each in (x, attacked))
  order = sorted(clean, key=lambda z: clean[z] / other[z] if other[z] else np.inf, reverse=True)
  left, held = Fraction(1, 2), Fraction(0)
  for z in order:
    if other[z] >= left:
      return held + (clean[z] * left / other[z] if left else 0)
    left, held = left - other[z], held + clean[z]
  return held


def random_levels(rng, shape):
  plus = rng.choice([0, 0.01, 0.1, 0.25, 0.4], shape)
  return plus, np.minimum(rng.choice([0, 0.1, 0.3, 0.6, 0.9], shape), 1 - plus)


def test_the_regions_are_those_of_all_outcomes():
  rng = np.random.default_rng(0)
  for _ in range(PROBLEMS):
    cells = np.sort(rng.integers(0, 3, rng.integers(1, 7)))
    x = rng.integers(0, 2, cells.size)
    flipped = rng.integers(0, 2, cells.size).astype(bool)
    plus, minus = random_levels(rng, 3)
    numbers = [np.bincount(cells[flipped & (x == bit)], minlength=3).tolist() for bit in (0, 1)]
    exact = worst(x, np.where(flipped, 1 - x, x), plus, minus, cells)
    found = required_probability(plus, minus, *numbers)
    assert exact <= Fraction(found)
    assert found <= float(exact) + 1e-11


@example(0.0, 2.0**-1025, 1, 0)  # a ratio that no float holds
@given(
  st.floats(0, 0.99),
  st.floats(0, 0.99),
  st.integers(0, 6),
  st.integers(0, 6),
)
@settings(max_examples=1000 if PROBLEMS > 1000 else 50, deadline=None)
def test_one_cell_is_isotropic_smoothing(plus, minus, additions, deletions):
  minus = min(minus, 1 - plus)
  if minus == 1:
    return
  exact = sparse_smoothing.required_probability(plus, minus, additions, deletions)
  found = required_probability([plus], [minus], [additions], [deletions])
  assert 0 <= found - exact[-1, -1] <= 1e-11 or found == exact[-1, -1] == 1


def test_more_flips_never_require_less():
  rng = np.random.default_rng(1)
  for _ in range(PROBLEMS):
    plus, minus = random_levels(rng, 2)
    numbers = rng.integers(0, 4, (2, 2))
    more = numbers + rng.integers(0, 2, (2, 2))
    assert required_probability(plus, minus, *numbers) <= required_probability(
      plus, minus, *more
    ) * (1 + 1e-11)


def test_no_attack_on_any_input_makes_more_outputs_fall():
  """All attacks on all bits of a small input, by the exact worst case of every output."""
  rng, attacked = np.random.default_rng(2), 0
  for _ in range(max(5, PROBLEMS // 10)):
    cells = np.array([0, 0, 0, 1, 1])
    x, groups = rng.integers(0, 2, 5), rng.integers(0, 2, 6)
    plus, minus = random_levels(rng, (2, 2))
    q = rng.uniform(0.5, 1, 6)
    grid = np.array(list(itertools.product(range(3), range(3))))
    certified = regions.certified_flips(plus, minus, groups, q, grid)
    for flips in itertools.product((False, True), repeat=5):
      flipped = np.array(flips)
      budget = np.array([(flipped & (x == 0)).sum(), (flipped & (x == 1)).sum()])
      other = np.where(flipped, 1 - x, x)
      required = [worst(x, other, plus[g], minus[g], cells) for g in range(2)]
      kept = sum(Fraction(value) > required[g] for value, g in zip(q, groups, strict=True))
      bounds = certified[(grid >= budget).all(axis=1)]
      assert (bounds <= kept).all()
      attacked += kept < 6
  assert attacked


def test_never_below_linear_certificates():
  """Variance and all orders are outer bounds of the same regions."""
  rng = np.random.default_rng(3)
  plus, minus = np.array([[0.05, 0.2], [0.2, 0.05]]), np.array([[0.5, 0.7], [0.7, 0.5]])
  flips = noise.flips(plus, minus, np.repeat([0, 1], 4)[:, None])
  groups, q = np.repeat([0, 1], 20), rng.uniform(0.6, 0.999, 40)
  budgets = np.array([[a, d] for a in range(4) for d in range(5)])
  exact = regions.certified_flips(plus, minus, groups, q, budgets)
  for order in (0.6, 1.0, 2.0, 8.0):
    weights, eta = flips.family.renyi(flips, q, order)
    linear = collective.certify(weights, groups, eta, budgets, integral=True)
    assert (linear.certified <= exact).all()
  assert (exact > collective.certify(weights, groups, eta, budgets).certified).any()


def test_what_is_not_enumerated_is_not_certified():
  levels = np.array([[0.4, 0.41, 0.42]])
  budgets = [[0, 0], [1, 0], [2, 0]]
  q = np.full(4, 1 - 1e-9)
  assert regions.certified_flips(levels, levels, np.zeros(4, int), q, budgets).tolist() == [4, 4, 4]
  few = regions.certified_flips(levels, levels, np.zeros(4, int), q, budgets, most_splits=4)
  assert few.tolist() == [4, 4, 0]
  assert regions.certified_flips(levels, levels, np.zeros(0, int), [], budgets).tolist() == [0] * 3
  abstaining = regions.certified_flips(levels, levels, [0, 0], [0.5, 0.2], budgets)
  assert abstaining.tolist() == [0, 0, 0]


def test_splits_that_no_group_tells_apart_are_one():
  """Blocks of pairs between three clusters: near to both of them, at one level."""
  near = np.array([[1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 1, 0], [0, 0, 1, 0, 1, 1]], bool)
  plus, minus = np.where(near, 0.1, 0.3), np.where(near, 0.3, 0.6)
  rng = np.random.default_rng(4)
  groups, q = rng.integers(0, 3, 30), rng.uniform(0.7, 1, 30)
  budgets = np.array([[a, d] for a in range(3) for d in range(3)])
  found = regions.certified_flips(plus, minus, groups, q, budgets)
  for budget, certified in zip(budgets, found, strict=True):
    fallen = 0
    for additions in splits(budget[0], 6):
      for deletions in splits(budget[1], 6):
        required = [required_probability(plus[g], minus[g], additions, deletions) for g in range(3)]
        fallen = max(fallen, (q <= np.array(required)[groups]).sum())
    assert certified == 30 - fallen
  assert found[1] > found[-1]
  few = regions.certified_flips(plus, minus, groups, q, [[0, 2]], most_splits=20)  # of 21
  assert few == found[2] > 0


def splits(number, num_cells):
  return [
    split
    for split in itertools.product(range(number + 1), repeat=num_cells)
    if sum(split) == number
  ]


@pytest.mark.parametrize("hidden", [True, False])
def test_a_hidden_cell_costs_nothing_to_no_one(hidden):
  plus, minus = ([0.1, 0.0], [0.3, 1.0]) if hidden else ([0.1], [0.3])
  numbers = ([1, 3], [0, 2]) if hidden else ([1], [0])
  assert required_probability(plus, minus, *numbers) == pytest.approx(
    required_probability([0.1], [0.3], [1], [0])
  )
