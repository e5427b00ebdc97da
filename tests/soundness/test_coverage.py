"""Joint guarantees hold as often as they say, for every bound, correction and dependence."""

import os

import numpy as np
import pytest

from lrs_jax.confidence.bounds import clopper_pearson_lower
from lrs_jax.confidence.certificates import METHODS as METHODS_BY_DEFAULT
from tests.soundness import judge, ours

REPETITIONS = 600 if os.environ.get("LRS_JAX_THOROUGH") else 80
ALPHA = 0.05
DEPENDENCE = ("independent", "comonotone")
VOTES = {"bonferroni": ours.votes, "weighted": ours.votes_weighted, "k_fwer": ours.votes_k_fwer}


def binary(top):
  top = np.asarray(top)
  return np.stack([top, 1 - top], axis=1)


PROBABILITIES = {
  "distinct": binary(np.linspace(0.5, 0.999, 60)),
  "equal": binary(np.full(60, 0.9)),
  "certain": binary(np.full(60, 0.999)),
  "many tied classes": np.full((20, 30), 1 / 30),
}


@pytest.mark.parametrize("dependence", DEPENDENCE)
@pytest.mark.parametrize("probabilities", PROBABILITIES)
@pytest.mark.parametrize("procedure", VOTES)
def test_votes(procedure, probabilities, dependence):
  judge.vote_coverage(
    VOTES[procedure], PROBABILITIES[probabilities], dependence, 300, ALPHA, REPETITIONS
  )


def test_the_suite_sees_nearly_all_of_alpha():
  """Few outputs and many samples, so that Clopper–Pearson and Bonferroni lose little."""
  rate = judge.vote_coverage(
    ours.votes, binary(np.full(10, 0.7)), "independent", 10_000, 0.2, 3 * REPETITIONS
  )
  assert rate > 0.1


def holm_levels_as_bounds(sample, alpha):
  """The misuse: bounds at the levels at which Holm's test would have tested each output."""
  selection, counts = sample(), sample()
  labels = selection.argmax(axis=1)
  successes = counts[np.arange(len(labels)), labels]
  levels = np.empty(len(labels))
  levels[np.argsort(-successes, kind="stable")] = alpha / np.arange(len(labels), 0, -1)
  return labels, clopper_pearson_lower(successes, counts.sum(axis=1), levels), 0


def test_holm_levels_are_no_simultaneous_levels():
  """Many distinct probabilities: the i-th largest count has level alpha / (N - i + 1), always."""
  probabilities = binary(np.linspace(0.52, 0.98, 200))
  arguments = (probabilities, "independent", 1_000_000, 0.01, 6 * REPETITIONS)
  with pytest.raises(judge.Unsound) as failure:
    judge.vote_coverage(holm_levels_as_bounds, *arguments)
  rate = float(str(failure.value).split("(")[1].split("%")[0])
  assert 2.5 < rate < 9, "alpha times the harmonic number of 200 is 5.9 per cent"
  judge.vote_coverage(ours.votes, *arguments)


def spread(*points):
  """A distribution over scores from pairs (score, probability)."""
  distribution = np.zeros(256)
  for score, probability in points:
    distribution[score] += probability
  return distribution


def bell(mean, width):
  density = np.exp(-0.5 * ((np.arange(256) - mean) / width) ** 2)
  return density / density.sum()


DISTRIBUTIONS = np.stack(
  [
    spread((200, 1.0)),
    spread((0, 0.3), (255, 0.7)),
    spread((0, 0.003), (220, 0.997)),
    spread((0, 0.03), (255, 0.97)),
    spread((100, 0.5), (160, 0.5)),
    bell(180, 3),
    bell(150, 60),
    bell(250, 20),
    np.full(256, 1 / 256),
    spread((129, 0.999), (255, 0.001)),
  ]
)
METHODS = [
  ("votes",),
  ("kl",),
  ("mixed",),
  ("bernstein",),
  ("dkw",),
  METHODS_BY_DEFAULT,
  ("kl", "mixed", "bernstein", "dkw"),
]


@pytest.mark.parametrize(
  ("num_samples", "dependence"), [(50, DEPENDENCE[0]), (2000, DEPENDENCE[1])]
)
@pytest.mark.parametrize("methods", METHODS, ids="-".join)
def test_scores(methods, num_samples, dependence):
  judge.score_coverage(
    ours.scores(*methods), DISTRIBUTIONS, dependence, num_samples, ALPHA, REPETITIONS
  )


def central_limit(sample, alpha):
  """The textbook's bounds, which hold for many samples only."""
  estimate = sample()
  size = estimate.num_samples
  mean = estimate.total / size / 255
  variance = np.maximum(estimate.squares / size / 255**2 - mean**2, 0.0)
  z = -judge.stats.norm.ppf(alpha / 2 / len(mean))
  fourth = np.sqrt(variance * 0.25 / size)
  votes = np.zeros(len(mean), bool)
  return mean - z * np.sqrt(variance / size), variance + z * fourth, votes


@pytest.mark.parametrize("dependence", DEPENDENCE)
def test_the_suite_sees_that_the_central_limit_is_no_bound(dependence):
  with pytest.raises(judge.Unsound):
    judge.score_coverage(central_limit, DISTRIBUTIONS, dependence, 50, ALPHA, REPETITIONS)
