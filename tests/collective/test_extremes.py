"""Numbers at both ends of what a float can be: no warning, and the right result."""

import math
import subprocess
import sys

import numpy as np
import pytest

from lrs_jax import collective
from lrs_jax.collective.methods import METHODS
from lrs_jax.soundness.tiny import optimum, random_problem

INF = math.inf


def certified(weights, groups, eta, budgets, **options):
  """What the exact method certifies, proven."""
  certificate = collective.certify(weights, groups, eta, budgets, method="milp", gap=0.0, **options)
  collective.verify(weights, groups, eta, certificate)
  collective.verify(weights, groups, eta, certificate, exact=True)
  return certificate.certified.tolist()


@pytest.mark.parametrize("seed", range(120))
def test_huge_tiny_and_infinite_numbers_raise_no_warning(seed):
  rng = np.random.default_rng(seed)
  num_kinds, num_groups, num_cells = rng.integers(1, 4, 3)
  some = [0, 1, 2, 0.5, INF, *([1e-300, 1e300, 1e-160, 1e160, 1.7e308] if seed % 2 else [])]
  weights = rng.choice(some, (num_kinds, num_groups, num_cells))
  eta = rng.choice(some, rng.integers(0, 7))
  groups = rng.integers(0, num_groups, eta.size)
  budgets = rng.choice([*some, 1, 2, 3], (2, num_kinds))
  caps = rng.choice(some, (num_kinds, num_cells)) if rng.random() < 0.6 else None
  for method in METHODS:
    certificate = collective.certify(
      weights, groups, eta, budgets, method=method, caps=caps, integral=bool(rng.integers(2)),
      time_limit=2.0,
    )  # fmt: skip
    collective.verify(weights, groups, eta, certificate)
    collective.verify(weights, groups, eta, certificate, exact=True)


def test_integral_with_infinite_weights_and_thresholds():
  """One unit of an infinite weight fells all of a group; finite weights leave infinite eta."""
  weights, eta = [[INF, 0.0, 100.0], [0.0, INF, 0.0]], [5.0, INF, 5.0, INF]
  groups, options = [0, 0, 1, 1], {"integral": True}
  assert certified(weights, groups, eta, [0.0, 1.0, 2.0], **options) == [4, 2, 0]
  assert certified(weights, groups, eta, [0.0, 1.0, 2.0, INF], **options) == [4, 2, 0, 0]
  assert certified(weights, groups, eta, [1.0, 1e308], **options) == [2, 0]
  caps = [0.0, INF, INF]
  assert certified(weights, groups, eta, [0.0, 1.0, 2.0], caps=caps, **options) == [4, 2, 1]
  assert certified(weights, groups, eta, [INF], caps=[0.0, 0.0, 9.0], **options) == [3]
  assert certified(weights, groups, eta, [INF], caps=[0.0, 0.0, 0.5], **options) == [4]
  assert certified(weights, groups, eta, [INF], caps=[0.0, 1e300, 1e300], **options) == [1]


@pytest.mark.parametrize("seed", range(40))
def test_other_budgets_change_nothing(seed):
  """Nor does an infinite one: every budget's bound is the optimum, whatever else is asked."""
  rng = np.random.default_rng(seed)
  problem = random_problem(rng)
  shape = problem.weights.shape
  weights = np.where(rng.random(shape) < 0.4, INF, problem.weights)
  eta = np.where(rng.random(problem.eta.size) < 0.4, INF, problem.eta)
  budgets = np.ceil(np.minimum(problem.budgets, 2))
  problem = problem._replace(weights=weights, eta=eta, budgets=budgets, integral=True)
  budgets = np.concatenate([budgets, rng.choice([0, 1, INF], (2, shape[0]))])
  certificate = collective.certify(
    *problem.inputs, budgets, method="milp", gap=0.0, **problem.options
  )
  collective.verify(*problem.inputs, certificate, exact=True)
  assert np.floor(certificate.attackable[0]) == optimum(problem)


def test_an_attack_with_finite_weights_leaves_infinite_thresholds():
  """At an infinite budget the bound may count them; an attack is what is attained."""
  weights, eta = [[INF, 100.0]], [5.0, INF]
  certificate = collective.certify(
    weights, [0, 0], eta, [1.0, INF], method="milp", integral=True, caps=[INF, INF]
  )
  assert certificate.attack.num_attacked.tolist() == [2, 2]
  capped = collective.certify(
    weights, [0, 0], eta, [1.0, INF], method="milp", integral=True, caps=[0.0, INF]
  )
  assert capped.attack.num_attacked.tolist() == [1, 1]
  assert capped.certified.tolist() == [1, 0]
  collective.verify(weights, [0, 0], eta, capped)


def test_sums_that_underflow_are_rounded_up():
  """Three times 0.4 units in the last place of the least float are more than one of them."""
  least = 5e-324
  eta, weights = [least], np.full((1, 3), 0.4)
  certificate = collective.certify(weights, [0], eta, [9 * least], caps=[least] * 3)
  assert certificate.certified.tolist() == [0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("integral", [False, True])
def test_solvers_are_silent(capfd, method, integral):
  rng = np.random.default_rng(0)
  weights, groups, eta = rng.gamma(2, 1, (4, 4)), rng.integers(0, 4, 200), rng.gamma(2, 2, 200)
  collective.certify(
    weights, groups, eta, [1.0, 2.0], method=method, integral=integral, time_limit=0.5
  )
  assert capfd.readouterr() == ("", "")


def test_the_first_solver_of_a_process_is_silent():
  """HiGHS prints its version once, when it is first used: that would tear the progress bar."""
  program = """
from lrs_jax import collective
from lrs_jax.collective.methods import METHODS
for method in METHODS:
  for integral in (False, True):
    collective.certify(
      [[4.0, 1.0], [1.0, 4.0]], [0, 0, 1, 1], [1.0, 9.0, 1.0, 9.0], [0.3, 3.0],
      method=method, integral=integral,
    )
"""
  found = subprocess.run(
    [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
  )
  assert (found.stdout, found.stderr) == ("", "")


@pytest.mark.parametrize("method", ["envelope", "milp"])
def test_a_group_that_one_budget_loses_is_whole_again_at_the_next(method):
  """Of two kinds, of which one is fatal: nothing but that budget takes all targets for lost."""
  weights = [[[INF], [0.0]], [[1.0], [1.0]]]
  groups, eta = [0, 0, 0, 1], [0.5, 5.0, 6.0, 0.5]
  budgets = [[0.0, 1.0], [1.0, 1.0], [0.0, 2.0]]
  found = collective.certify(weights, groups, eta, budgets, method=method)
  collective.verify(weights, groups, eta, found)
  np.testing.assert_array_equal(found.certified, [2, 0, 2])


def test_a_budget_without_end_of_a_kind_that_does_nothing_leaves_the_next_as_it_is():
  """Before, the linear program of the next budget had its price in the place of another column."""
  weights, groups = [np.zeros((2, 2)), np.eye(2)], np.repeat([0, 1], 50)
  eta = np.random.default_rng(0).random(100)
  budgets = [[INF, 1.0], [1.2, 1.01]]
  found = collective.certify(weights, groups, eta, budgets)
  collective.verify(weights, groups, eta, found)
  alone = [collective.certify(weights, groups, eta, [budget]) for budget in budgets]
  np.testing.assert_array_equal(found.certified, [one.certified[0] for one in alone])
  assert found.certified[1] > 0
