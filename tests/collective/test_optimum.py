"""Certificates against the exact optimum of tiny problems."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrs_jax import collective
from lrs_jax.collective.methods import METHODS
from lrs_jax.soundness.tiny import Tiny, optimum, random_problem

THOROUGH = bool(os.environ.get("LRS_JAX_THOROUGH"))
NUM_PROBLEMS = 10_000 if THOROUGH else 160


def check(problem):
  """Optimum = milp <= envelope <= lp <= naive; every certificate verifies, exactly too."""
  best, bounds = optimum(problem), {}
  for method in METHODS:
    certificate = collective.certify(
      *problem.inputs, problem.budgets, method=method, gap=0.0, **problem.options
    )
    assert certificate.status[0] in ("optimal", "precision limit"), certificate.status
    collective.verify(*problem.inputs, certificate)
    collective.verify(*problem.inputs, certificate, exact=True)
    bounds[method] = int(np.floor(certificate.attackable[0]))
    if method == "milp":
      assert certificate.attack.num_attacked[0] <= best
  found = collective.attack(*problem.inputs, problem.budgets, **problem.options)
  assert found.num_attacked[0] <= best
  assert (found.b.sum(axis=2) <= problem.budgets).all()
  assert best == bounds["milp"] <= bounds["envelope"] <= bounds["lp"] <= bounds["naive"], bounds
  return bounds, certificate.attack.num_attacked[0] == best


@pytest.mark.parametrize("part", range(4))
def test_random_problems(part):
  """All options crossed, ratios of weights up to 10^8, thresholds over seven decades."""
  attacked = looser = 0
  for seed in range(part, NUM_PROBLEMS, 4):
    bounds, attained = check(random_problem(np.random.default_rng(seed)))
    attacked += attained
    looser += bounds["envelope"] > bounds["milp"]
  print(f"{NUM_PROBLEMS // 4} problems: {attacked} optima attained, envelope above {looser}")
  assert attacked >= 0.98 * (NUM_PROBLEMS // 4)
  assert looser or NUM_PROBLEMS < 1000  # they are not all easy


@st.composite
def whole_numbers(draw):
  """Problems of small whole numbers, where everything ties with everything."""
  num_kinds, num_groups, num_cells = (draw(st.integers(1, n)) for n in (2, 3, 3))
  num_outputs = draw(st.integers(0, 7))

  def array(shape, most, least=0):
    size = int(np.prod(shape))
    values = draw(st.lists(st.integers(least, most), min_size=size, max_size=size))
    return np.array(values, np.float64).reshape(shape)

  return Tiny(
    array((num_kinds, num_groups, num_cells), 4),
    array(num_outputs, num_groups - 1).astype(np.int64),
    array(num_outputs, 12, -1),
    array((1, num_kinds), 3),
    array(num_outputs, 1) > 0 if draw(st.booleans()) else None,
    array((num_kinds, num_cells), 2) if draw(st.booleans()) else None,
    draw(st.booleans()),
  )


@settings(max_examples=1000 if THOROUGH else 60, deadline=None, derandomize=True)
@given(whole_numbers())
def test_whole_numbers(problem):
  check(problem)


def test_std_ratios_of_100_and_eta_over_decades():
  """Where a solver's own bounds are wrong at its tolerances; larger than what is enumerated."""
  for seed in range(4):
    rng = np.random.default_rng(seed)
    weights = 10 ** rng.uniform(-4, 0, (1, 4, 4))
    groups, eta = rng.integers(0, 4, 60), 10 ** rng.uniform(-5, 2, 60)
    certificate = collective.certify(weights, groups, eta, [1.0, 30.0], method="milp", gap=0.0)
    collective.verify(weights, groups, eta, certificate, exact=True)
    assert (certificate.attack.num_attacked == np.floor(certificate.attackable)).all()


@pytest.mark.parametrize("seed", range(60))
def test_worth_is_as_many_copies(seed):
  """An output of worth w is w outputs, for every method; of worth 0 it is none."""
  rng = np.random.default_rng(seed)
  problem = random_problem(rng)
  worth = rng.integers(0, 4, problem.eta.size)
  copies = [np.repeat(array, worth) for array in (problem.groups, problem.eta)]
  options = problem.options
  if options["targets"] is not None:
    options = options | {"targets": np.repeat(options["targets"], worth)}
  for method in METHODS:
    ours, copied = (
      collective.certify(*inputs, problem.budgets, method=method, gap=0.0, **keywords)
      for inputs, keywords in (
        (problem.inputs, problem.options | {"worth": worth}),
        ((problem.weights, *copies), options),
      )
    )
    collective.verify(*problem.inputs, ours, exact=True)
    np.testing.assert_allclose(ours.attackable, copied.attackable, rtol=1e-6, atol=1e-6)
    if ours.attack is not None:
      assert ours.attack.num_attacked == copied.attack.num_attacked
