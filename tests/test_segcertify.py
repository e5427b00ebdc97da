"""SegCertify: against the general naive certificate, closed forms, and its joint error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lrs_jax import noise
from lrs_jax.baselines import segcertify
from lrs_jax.confidence import naive
from lrs_jax.confidence.corrections import bonferroni, holm
from lrs_jax.evaluation.metrics import ABSTAIN


def votes(successes, trials=1000):
  successes = np.asarray(successes)
  return np.stack([successes, trials - successes], axis=1)


@settings(deadline=None, max_examples=60)
@given(
  st.lists(st.integers(0, 1000), min_size=1, max_size=8),
  st.floats(0, 2),
  st.sampled_from([0.1, 0.25, 1.0]),
)
def test_at_radius_is_the_naive_certificate_with_holm(successes, radius, std):
  counts = votes(successes)
  gaussian = noise.gaussian([[std]], cells=[0])
  groups = np.zeros(len(successes), int)
  selection = 2 * counts  # chooses the same labels
  alone = naive.naive_holm(gaussian, groups, selection, counts, radius**2, alpha=0.01)
  ours = segcertify.at_radius(selection, counts, std, radius, alpha=0.01)
  # The thresholds are rounded up by different steps; a p-value at a level may tell.
  assert (alone == (ours.labels != ABSTAIN)).all()
  assert ours.radius == radius


def by_bonferroni(p_values, alpha):
  """Bonferroni's test, of the same fixed hypotheses."""
  p_values = np.asarray(p_values, np.float64)
  return p_values <= bonferroni(alpha, p_values.size).alpha


def test_fixed_threshold_by_hand():
  counts = votes([1000, 800, 400])
  for reject, levels in ((holm, [0.01 / 3, 0.01 / 2, 0.01]), (by_bonferroni, [0.01 / 3] * 3)):
    result = segcertify.fixed_threshold(counts, counts, 0.5, alpha=0.01, reject=reject)
    p_values = stats.binom.sf(np.array([999, 799, 599]), 1000, 0.75)  # the last one's label is 1
    assert ((result.labels != ABSTAIN) == (p_values <= levels)).all()
    assert result.labels.tolist() == [0, 0, ABSTAIN]
    assert result.radius <= 0.5 * stats.norm.ppf(0.75)
    assert result.radius == pytest.approx(0.5 * stats.norm.ppf(0.75), rel=1e-12)


def test_holm_rejects_what_bonferroni_does_and_more():
  p_values = np.array([1e-9, 0.003, 0.2, 0.0049])
  assert (holm(p_values, 0.01) >= by_bonferroni(p_values, 0.01)).all()
  assert holm(p_values, 0.01).sum() == 3 > by_bonferroni(p_values, 0.01).sum()
  assert by_bonferroni([], 0.01).shape == (0,)


def test_corners():
  counts = votes([1000, 500])
  half = segcertify.fixed_threshold(counts, counts, 1.0, alpha=0.01, tau=0.5)
  assert half.radius == 0
  assert half.labels.tolist() == [0, ABSTAIN]
  at_zero = segcertify.at_radius(counts, counts, 1.0, 0.0, alpha=0.01)
  assert at_zero.labels.tolist() == [0, ABSTAIN]
  far = segcertify.at_radius(counts, counts, 1e-3, 1.0, alpha=0.01)
  assert (far.labels == ABSTAIN).all()
  empty = np.zeros((0, 2), int)
  assert segcertify.fixed_threshold(empty, empty, 1.0, alpha=0.01).labels.shape == (0,)


def test_labels_never_come_from_the_estimate():
  result = segcertify.fixed_threshold([[6, 4]], [[0, 1000]], 1.0, alpha=0.01)
  assert result.labels.tolist() == [ABSTAIN]


@pytest.mark.parametrize("reject", [holm, by_bonferroni])
def test_the_joint_error_is_at_most_alpha(reject):
  """All hypotheses are true by a hair: any rejection is an error."""
  alpha, tau, num_outputs, rounds = 0.2, 0.8, 20, 2000
  rng = np.random.default_rng(0)
  wrong = 0
  for successes in rng.binomial(300, tau, (rounds, num_outputs)):
    counts = votes(successes, 300)
    selection = np.tile([1, 0], (num_outputs, 1))
    result = segcertify.fixed_threshold(selection, counts, 1.0, alpha=alpha, tau=tau, reject=reject)
    wrong += (result.labels != ABSTAIN).any()
  assert wrong / rounds < alpha + 4 * np.sqrt(alpha * (1 - alpha) / rounds)
  assert wrong / rounds > alpha / 4  # binomial tests are conservative, not idle


@pytest.mark.parametrize(
  ("arguments", "message"),
  [({"tau": 0.4}, "`tau`"), ({"tau": 1.0}, "`tau`"), ({"std": 0.0}, "`std`")],
)
def test_errors_name_the_argument(arguments, message):
  counts = votes([900])
  std = arguments.pop("std", 1.0)
  with pytest.raises(ValueError, match=message):
    segcertify.fixed_threshold(counts, counts, std, alpha=0.01, **arguments)


def test_errors_of_shape_and_radius():
  counts = votes([900])
  with pytest.raises(ValueError, match="one shape"):
    segcertify.fixed_threshold(counts, [[1, 2, 3]], 1.0, alpha=0.01)
  with pytest.raises(ValueError, match="`radius`"):
    segcertify.at_radius(counts, counts, 1.0, -1.0, alpha=0.01)
