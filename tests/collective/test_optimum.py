"""Certificates against the exact optimum of tiny problems."""

import os

import numpy as np
import pytest

from lrs_jax import collective
from lrs_jax.collective.methods import METHODS
from tests.collective.enumeration import optimum, random_problem

NUM_PROBLEMS = 10_000 if os.environ.get("LRS_JAX_THOROUGH") else 200


@pytest.mark.parametrize("part", range(4))
def test_no_overclaim_and_order(part):
  """Optimum <= envelope <= lp <= naive; every certificate verifies."""
  for seed in range(part, NUM_PROBLEMS, 4):
    problem = random_problem(np.random.default_rng(seed))
    best, bounds = optimum(problem), {}
    for method in METHODS:
      certificate = collective.certify(
        *problem.inputs, problem.budgets, method=method, **problem.options
      )
      assert certificate.status[0] == "optimal", seed
      collective.verify(*problem.inputs, certificate)
      collective.verify(*problem.inputs, certificate, exact=True)
      bounds[method] = int(np.floor(certificate.attackable[0]))
    assert best <= bounds["envelope"] <= bounds["lp"] <= bounds["naive"], (seed, best, bounds)
