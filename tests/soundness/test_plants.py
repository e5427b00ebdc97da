"""Known mistakes, planted: each must be found, by the check that is there for it.

The last part judges functions of another library in the same way.
"""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lrs_jax import errors, noise, sampling, soundness
from lrs_jax.confidence.bounds import clopper_pearson_lower
from lrs_jax.confidence.certificates import from_votes
from lrs_jax.soundness import known
from tests.soundness import judge, ours

PROBABILITIES = np.stack([np.linspace(0.5, 0.99, 60), 1 - np.linspace(0.5, 0.99, 60)], axis=1)
TIES = np.full((20, 30), 1 / 30)


def test_variance_squared_twice():
  def plant(theta_plus, theta_minus, cells):
    weights, _ = ours.flips_soft(theta_plus, theta_minus, cells)
    return weights, lambda mean, v: np.where(
      mean > 0.5, np.log1p((mean - 0.5) ** 2 / np.maximum(v, 1e-9) ** 2), 0.0
    )

  report = soundness.check_base(plant, "flips", 60, soft=True, dimension=3)
  assert report.overclaims > 0
  with pytest.raises(judge.Unsound):
    judge.tight_flips(plant)


def test_scales_permuted_between_sampling_and_certificate():
  def plant(task):
    _, eta = ours.gaussian_pipeline(task)
    finite = np.where(np.isinf(task.scale), 0.0, task.scale)
    swapped = np.where(np.isinf(task.scale), np.inf, finite[[1, 0, 2]])
    return noise.gaussian(swapped, task.cells).weights, eta

  def plant_cells(task):
    weights, eta = ours.gaussian_pipeline(task)
    return np.where(weights > 0, weights[..., ::-1], 0.0), eta

  for planted in (plant, plant_cells):
    with pytest.raises(judge.Unsound):
      judge.gaussian_pipeline(planted, judge.linear_task())


def test_label_and_bound_from_the_same_samples():
  def plant(sample, alpha):
    counts = sample()
    return ours.votes(lambda: counts, alpha)

  arguments = (TIES, "independent", 300, 0.05, 200)
  judge.vote_coverage(ours.votes, *arguments)
  with pytest.warns(errors.SameSamplesWarning), pytest.raises(judge.Unsound):
    judge.vote_coverage(plant, *arguments)


@pytest.mark.parametrize("dependence", ["independent", "comonotone"])
def test_bonferroni_left_out(dependence):
  def plant(sample, alpha):
    selection, counts = sample(), sample()
    labels = selection.argmax(axis=1)
    successes = counts[np.arange(len(labels)), labels]
    return labels, clopper_pearson_lower(successes, counts.sum(axis=1), alpha), 0

  arguments = (PROBABILITIES, dependence, 300, 0.05, 200)
  judge.vote_coverage(ours.votes, *arguments)
  with pytest.raises(judge.Unsound):
    judge.vote_coverage(plant, *arguments)


def test_k_fwer_without_giving_outputs_up():
  def plant(sample, alpha):
    labels, lower, _ = ours.votes_k_fwer(sample, alpha)
    return labels, lower, 0

  with pytest.raises(judge.Unsound):
    judge.vote_coverage(plant, PROBABILITIES, "independent", 300, 0.05, 200)


@pytest.mark.parametrize("family", judge.ETA)
def test_eta_rounded_up(family):
  level = ([[0.5]], [[0.5]]) if family == "flips" else ([[0.5]],)
  eta = getattr(noise, family)(*level, [0]).eta
  with pytest.raises(judge.Unsound):
    judge.eta_rounding(family, lambda q: eta(q) * (1 + 2.0**-46))


def test_eta_in_single_precision():
  with pytest.raises(judge.Unsound):
    judge.eta_rounding(
      "gaussian",
      lambda q: np.float64(jax.scipy.special.ndtri(jnp.asarray(q, jnp.float32))) ** 2,
    )


@pytest.mark.parametrize("family", ["flips", "ablation"])
def test_strict_inequality_made_non_strict(family):
  arguments = getattr(known, family), family, 60
  assert soundness.check_base(*arguments, dimension=3).overclaims == 0
  assert soundness.check_base(*arguments, dimension=3, survives=operator.le).overclaims > 0


def test_noise_added_after_normalization():
  def plant(task):
    """Radii in input units, from noise on normalized inputs: 4 times weaker than it should be."""
    distribution = noise.gaussian(task.scale, task.cells)
    params = ours.linear_params(task)

    def normalized(params, z):
      return ours.linear_logits(params, z * params[4] + params[3])

    x = (task.x - np.float32(task.mean)) / np.float32(task.std)
    counts = [
      np.asarray(
        sampling.vote_counts(
          key, normalized, params, x, distribution, task.groups, 20_000, num_classes=2,
          chunk_size=1000,
        )
      )
      for key in jax.random.split(jax.random.key(1))
    ]  # fmt: skip
    base = from_votes(distribution, task.groups, *counts, alpha=1e-3)
    return base.weights, base.eta

  with pytest.raises(judge.Unsound):
    judge.gaussian_pipeline(plant, judge.linear_task())


@pytest.mark.parametrize("seed", range(3))
def test_failures_reported_as_collective_certificates(seed):
  """A solver that fails, and is believed to have found no attack."""

  def plant(weights, groups, eta, budgets):
    return np.full(len(budgets), (eta > 0).sum())

  with pytest.raises(judge.Unsound):
    judge.collective_exactness(plant, known.flips, seed=seed)


# Another library's confidence intervals.


def scipy_interval(method):
  def procedure(sample, alpha):
    selection, counts = sample(), sample()
    labels = selection.argmax(axis=1)
    level = alpha / len(labels)
    lower = [
      stats.binomtest(int(k), int(total), alternative="greater")
      .proportion_ci(1 - level, method=method)
      .low
      for k, total in zip(counts[np.arange(len(labels)), labels], counts.sum(axis=1), strict=True)
    ]
    return labels, np.array(lower), 0

  return procedure


CERTAIN = np.stack([np.full(20, 0.9995), np.full(20, 0.0005)], axis=1)


def test_exact_intervals_of_scipy_pass():
  judge.vote_coverage(scipy_interval("exact"), CERTAIN, "independent", 300, 0.05, 60)


def test_wilson_intervals_of_scipy_do_not():
  with pytest.raises(judge.Unsound):
    judge.vote_coverage(scipy_interval("wilson"), TIES, "independent", 60, 0.05, 200)
