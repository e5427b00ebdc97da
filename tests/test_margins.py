"""Margins: bounds on other classes, too, where votes disagree."""

import numpy as np
import pytest
from scipy import stats

from lrs_jax import noise
from lrs_jax.confidence import certificates, corrections, margins, statistics
from lrs_jax.confidence.bounds import clopper_pearson_lower
from lrs_jax.noise import eta
from lrs_jax.sampling import ClassSums

GAUSSIAN = noise.gaussian([[0.5]], cells=[0])


def test_a_margin_is_that_of_the_theorem():
  q, u = 0.46, 0.31
  found = eta.gaussian_margin(q, 1 - u)
  wanted = stats.norm.ppf(q) / 2 - stats.norm.ppf(u) / 2
  assert GAUSSIAN.eta(found) == pytest.approx(wanted**2, rel=1e-9)
  assert found <= stats.norm.cdf(wanted)


def test_margins_of_two_classes_are_votes():
  q = np.linspace(0.01, 0.999, 50)
  np.testing.assert_allclose(eta.gaussian_margin(q, q), q, rtol=1e-12)
  assert (eta.gaussian_margin(q, q) <= q).all()
  assert eta.gaussian_margin(0.0, 0.0) == 0
  assert GAUSSIAN.eta(eta.gaussian_margin(np.nan, 0.7)) == 0


def test_bounds_are_those_of_three_binomials():
  """By hand: the label, not the runner-up, not the rest, each at a third of the level."""
  selection = np.array([[52, 30, 10, 8], [97, 3, 0, 0]])
  counts = np.array([[510, 310, 100, 80], [990, 10, 0, 0]])
  base = margins.from_margins(GAUSSIAN, [0, 0], selection, counts, alpha=0.01)
  assert base.method.tolist() == ["margins", "votes"]
  q, not_second, not_rest = clopper_pearson_lower([510, 690, 820], 1000, 0.01 / 6)
  root = (stats.norm.ppf(q) - stats.norm.ppf(1 - min(not_second, not_rest))) / 2
  assert base.eta[0] == pytest.approx(root**2, rel=1e-9)
  votes = certificates.from_votes(GAUSSIAN, [0, 0], selection, counts, alpha=0.01)
  assert votes.eta[0] == 0 < base.eta[0]
  assert base.eta[1] == votes.eta[1]
  assert base.predictions.tolist() == [0, 0]


def test_lost_votes_count_against_the_label():
  counts = np.array([[400, 250, 100]])
  whole = margins.from_margins(GAUSSIAN, [0], counts, counts + [[0, 0, 50]], alpha=0.01)
  lost = margins.from_margins(GAUSSIAN, [0], counts, counts, alpha=0.01, num_samples=800)
  assert lost.eta == whole.eta


def coverage(probabilities, trials, seed=0, runs=2000):
  """How often a margin, chosen by other samples, exceeds that of the true probabilities."""
  rng = np.random.default_rng(seed)
  selection = rng.multinomial(100, probabilities, runs)
  counts = rng.multinomial(trials, probabilities, runs)
  alpha = corrections.Levels(np.full(runs, 0.1), 0)
  base = margins.from_margins(GAUSSIAN, np.zeros(runs, int), selection, counts, alpha=alpha)
  others = np.where(np.arange(len(probabilities)) == base.labels[:, None], 0, probabilities)
  true = stats.norm.ppf(np.array(probabilities)[base.labels]) - stats.norm.ppf(others.max(axis=1))
  wrong = (base.eta > 0) & (np.sqrt(base.eta) > true / 2)
  return wrong.mean(), (base.method == "margins").mean()


@pytest.mark.parametrize(
  "probabilities", [(0.4, 0.3, 0.3), (0.45, 0.25, 0.2, 0.1), (0.34, 0.33, 0.33), (0.6, 0.2, 0.2)]
)
def test_margins_are_wrong_no_more_often_than_they_say(probabilities):
  wrong, used = coverage(probabilities, 400)
  assert used > 0.05
  assert wrong <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 2000)


def test_no_outputs_and_one_class():
  none = np.zeros((0, 3), int)
  assert margins.from_margins(GAUSSIAN, np.zeros(0, int), none, none, alpha=0.01).eta.size == 0
  one = np.array([[100]])
  assert margins.from_margins(GAUSSIAN, [0], one, one, alpha=0.01).method == ["votes"]


def test_what_margins_do_not_go_with_is_refused():
  sums = ClassSums(np.array([[90, 10]]), None, None, 100)
  flips = noise.flips([[0.1]], [[0.1]], cells=[0])
  with pytest.raises(ValueError, match="Gaussian noise, not for flips"):
    statistics.from_class_sums(flips, [0], sums, sums, alpha=0.01, methods=["votes", "margins"])
  with pytest.raises(ValueError, match="Gaussian noise, not for flips"):
    margins.from_margins(flips, [0], sums.votes, sums.votes, alpha=0.01)
  with pytest.raises(ValueError, match="go with votes, not with scores"):
    statistics.check(["margins", "kl"], GAUSSIAN)
