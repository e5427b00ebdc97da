"""Models that can be enumerated or solved: claims are never wrong, and tight where possible."""

import os

import numpy as np
import pytest

from lrs_jax import collective, noise, soundness
from lrs_jax.soundness import known
from tests.soundness import judge, ours

MODELS = 2000 if os.environ.get("LRS_JAX_THOROUGH") else 200


@pytest.mark.parametrize("dimension", [1, 3, 6])
@pytest.mark.parametrize("soft", [False, True])
def test_flips(dimension, soft):
  report = soundness.check_base(
    ours.flips_soft if soft else known.flips, "flips", MODELS, soft=soft, dimension=dimension
  )
  assert report.overclaims == 0, report.example
  assert report.claims > 0


@pytest.mark.parametrize("dimension", [1, 3, 4])
@pytest.mark.parametrize("soft", [False, True])
def test_ablation(dimension, soft):
  certificate = ours.ablation_soft if soft else known.ablation
  report = soundness.check_base(certificate, "ablation", MODELS, soft=soft, dimension=dimension)
  assert report.overclaims == 0, report.example
  assert report.claims > 0


def test_ablation_is_tight():
  judge.tight_ablation(known.ablation)


def test_flips_are_tight_for_scores():
  judge.tight_flips(ours.flips_soft)


def collective_certify(method):
  def certify(weights, groups, eta, budgets):
    return collective.certify(weights, groups, eta, budgets, method=method, integral=True).certified

  return certify


@pytest.mark.parametrize("method", ["naive", "envelope"])
@pytest.mark.parametrize("seed", range(3))
def test_collective(method, seed):
  judge.collective_exactness(collective_certify(method), known.flips, seed=seed)


@pytest.mark.parametrize("family", judge.ETA)
def test_eta_is_rounded_down(family):
  level = ([[0.5]], [[0.5]]) if family == "flips" else ([[0.5]],)
  judge.eta_rounding(family, getattr(noise, family)(*level, [0]).eta)


def test_gaussian_pipeline():
  near = judge.gaussian_pipeline(ours.gaussian_pipeline, judge.linear_task())
  assert near < 1


def test_an_attack_at_the_price_succeeds():
  """What costs exactly eta is an attack: Phi(-1) of the half-space is then one half."""
  eta, weights = np.array([1.0, 2.0]), np.array([[1.0]])
  for method in ("naive", "envelope"):
    certificate = collective.certify(weights, [0, 0], eta, [1.0, 2.0], method=method)
    np.testing.assert_array_equal(certificate.certified, [1, 0])
