"""From noise to collective certificate, on a model whose probabilities are known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lrs_jax import collective, noise, sampling
from lrs_jax.confidence import certificates

NUM_SAMPLES, ALPHA = 4000, 0.01
RNG = np.random.default_rng(1)
SCALE = np.array([[0.5, 2.0, 1.0], [1.0, 0.25, 2.0]])
CELLS = np.repeat([0, 1, 2], 2)
GROUPS = np.repeat([0, 1], 10)
X = RNG.normal(size=6).astype(np.float32)
PARAMS = RNG.normal(size=(20, 6)).astype(np.float32)
BUDGETS = np.linspace(0, 3, 13) ** 2


def linear(params, x):
  margin = (params * x[None]).sum(axis=1)
  return jnp.stack([-margin, margin], axis=-1)


@pytest.fixture(scope="module")
def base():
  gaussian = noise.gaussian(SCALE, CELLS)
  selection, counts = (
    sampling.vote_counts(key, linear, PARAMS, X, gaussian, GROUPS, n, num_classes=2)
    for key, n in zip(jax.random.split(jax.random.key(0)), (200, NUM_SAMPLES), strict=True)
  )
  return certificates.from_votes(gaussian, GROUPS, selection, counts, alpha=ALPHA)


def exact_probability(labels):
  std = np.sqrt((PARAMS**2 * SCALE[GROUPS][:, CELLS] ** 2).sum(axis=1))
  return stats.norm.cdf(np.where(labels == 1, 1, -1) * (PARAMS @ X) / std)


def test_bounds_are_below_the_truth_and_near_it(base):
  q = exact_probability(base.labels)
  assert (base.q_lower <= q).all()  # fails for a correct bound in less than ALPHA of the seeds
  slack = stats.norm.isf(ALPHA / 20) + 4  # the bound's quantile and four standard errors
  assert (base.q_lower >= q - slack * np.sqrt(q * (1 - q) / NUM_SAMPLES) - 20 / NUM_SAMPLES).all()


@pytest.mark.parametrize("method", ["naive", "lp", "envelope"])
def test_certificates_are_no_stronger_than_those_of_the_truth(base, method):
  q = exact_probability(base.labels)
  eta = np.where(q > 0.5, stats.norm.ppf(q) ** 2, 0.0)
  sampled, exact = (
    collective.certify(base.weights, GROUPS, e, BUDGETS, method=method).certified
    for e in (base.eta, eta)
  )
  assert (sampled <= exact).all()
  assert sampled[0] > 10
  assert sampled[-1] < sampled[0]


def test_certified_perturbations_change_no_more_than_allowed(base):
  """The worst perturbation for a linear model is known: it never beats the certificate."""
  certificate = collective.certify(base.weights, GROUPS, base.eta, BUDGETS)
  alive = base.eta > 0
  for epsilon, certified in zip(np.sqrt(BUDGETS), certificate.certified, strict=True):
    for n in range(20):
      direction = -np.where(base.labels[n] == 1, 1, -1) * PARAMS[n]
      attacked = X + epsilon * direction / np.linalg.norm(direction)
      labels = (PARAMS @ attacked > 0).astype(int)
      assert (labels == base.labels)[alive].sum() >= certified


def test_one_by_one_grid_is_ordinary_smoothing():
  """Cohen et al. 2019: every output is certified up to sigma ndtri(q), and so are all together."""
  sigma = 0.7
  isotropic = noise.gaussian([[sigma]], np.zeros(6, int))
  selection, counts = (
    sampling.vote_counts(
      jax.random.key(seed), linear, PARAMS, X, isotropic, np.zeros(20, int), 500, num_classes=2
    )
    for seed in (1, 2)
  )
  base = certificates.from_votes(isotropic, np.zeros(20, int), selection, counts, alpha=ALPHA)
  radius = np.where(base.q_lower > 0.5, sigma * stats.norm.ppf(base.q_lower), 0.0)
  epsilons = np.linspace(0.01, 2, 50)
  for method in ("naive", "lp", "envelope"):
    certificate = collective.certify(
      base.weights, base.groups, base.eta, epsilons**2, method=method
    )
    expected = (radius[None] > epsilons[:, None]).sum(axis=1)
    if method == "lp":  # a relaxation, even with one group
      assert (certificate.certified <= expected).all()
    else:
      np.testing.assert_array_equal(certificate.certified, expected)
