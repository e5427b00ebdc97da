"""The choice of the noise, on models for which the best noise is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lrs_jax import collective, noise, sampling
from lrs_jax.cells import views
from lrs_jax.confidence import certificates
from lrs_jax.confidence.bounds import clopper_pearson_lower
from lrs_jax.evaluation import choosing

SHAPE, GRID, K = (6, 10), (3, 5), 2
NUM_SAMPLES, ALPHA = 1000, 0.01
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, K, (3, *SHAPE))
# Margins from 0.1 to 0.5 around the threshold of 1/2.
IMAGES = (0.5 + (LABELS - 0.5) * RNG.uniform(0.2, 1.0, LABELS.shape))[..., None].astype(np.float32)
HAND_MADE = choosing.grid_candidates(SHAPE, [GRID], [0.2], [1.0])


def each_pixel(params, x):
  """Every pixel by itself: noise in other cells costs nothing and makes attacks there useless."""
  return jnp.stack([0.5 - x[..., 0], x[..., 0] - 0.5], axis=-1)


def whole_image(params, x):
  """Every pixel by the sum of all, which noise anywhere disturbs."""
  total = jnp.broadcast_to((x - 0.5).sum(), x.shape[:2])
  return jnp.stack([-total, total], axis=-1)


def choose(candidates, *, apply=each_pixel, images=IMAGES, labels=LABELS, epsilon=0.4, **options):
  return choosing.choose(
    jax.random.key(0), candidates, apply, None, images, labels, np.atleast_1d(epsilon) ** 2,
    **{"num_classes": K, "num_samples": NUM_SAMPLES, "alpha": ALPHA, **options},
  )  # fmt: skip


def test_a_local_model_gets_the_noise_that_rises_soonest_and_highest():
  proposals = choosing.grid_candidates(SHAPE, [(1, 1), GRID], [0.2], [1.0, 2.0], [0.5, 1.0])
  choice = choose([*HAND_MADE, *proposals], epsilon=np.linspace(0.1, 1.0, 10))
  assert choice.names[choice.best] == "3x5, std 0.2 to 2, power 0.5"
  score = dict(zip(choice.names[1:], choice.score[1:], strict=True))
  assert choice.score[0] == score["3x5, std 0.2 to 1, power 1"]  # the same noise, the same draws
  assert choice.score[choice.best] > 1.2 * choice.score[0]  # than the paper's grid by hand
  for power in ("0.5", "1"):
    assert score[f"3x5, std 0.2 to 2, power {power}"] > score[f"3x5, std 0.2 to 1, power {power}"]
  for high in "12":
    assert score[f"3x5, std 0.2 to {high}, power 0.5"] > score[f"3x5, std 0.2 to {high}, power 1"]
  assert score["1x1, std 0.2"] < choice.score[0]
  np.testing.assert_array_equal(choice.accuracy, choice.accuracy[0])  # its own cell decides


def test_a_global_model_gains_nothing_from_strong_noise_far_away():
  """The sum of 60 pixels is 3 from its threshold, and the noise anywhere is the noise in it."""
  candidates = [
    *choosing.grid_candidates(SHAPE, [(1, 1)], [0.2], [0.2]),  # a std of 0.2 sqrt(60) = 1.5
    *choosing.grid_candidates(SHAPE, [GRID], [0.2], [10.0]),  # one of about 30
  ]
  images, labels = np.full((1, *SHAPE, 1), 0.55, np.float32), np.ones((1, *SHAPE), int)
  choice = choose(candidates, apply=whole_image, images=images, labels=labels, epsilon=0.2)
  assert choice.best == 0
  assert choice.eligible.tolist() == [True, False]
  assert choice.certified.tolist() == [[[1.0]], [[0.0]]]
  assert choice.accuracy.tolist() == choice.mean_iou.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("pilot_samples", [32, 200])
def test_promises_are_kept(pilot_samples):
  """What certificates with as many samples as planned give, from other keys."""
  epsilon = np.linspace(0.05, 0.8, 6)
  choice = choose(HAND_MADE, epsilon=epsilon, pilot_samples=pilot_samples)
  (candidate,) = HAND_MADE
  certified = []
  for i, image in enumerate(IMAGES):
    votes = (
      sampling.vote_counts(
        jax.random.key(seed), each_pixel, None, image, candidate.smoothing, candidate.groups, n,
        num_classes=K,
      )
      for seed, n in ((10 + i, 100), (20 + i, NUM_SAMPLES))
    )  # fmt: skip
    base = certificates.from_votes(candidate.smoothing, candidate.groups, *votes, alpha=ALPHA)
    certified.append(
      collective.certify(base.weights, base.groups, base.eta, epsilon**2).certified / LABELS[i].size
    )
  kept = np.mean(certified, axis=0)
  assert kept.max() > 0.7
  assert kept.min() < 0.3
  np.testing.assert_allclose(choice.certified.mean(axis=1)[0], kept, atol=0.1)


def test_planned_votes_have_the_distribution_of_the_planned_samples():
  """U-shaped probabilities: most are so near to 1 that 64 votes say nothing of how near."""
  rng = np.random.default_rng(1)
  p = stats.norm.cdf(rng.gamma(2, 2, 20_000))
  planned = choosing._planned_votes(jax.random.key(0), rng.binomial(64, p), 64, NUM_SAMPLES)
  gaussian = noise.gaussian([[1.0]], [0])
  found, truth = (
    gaussian.eta(clopper_pearson_lower(votes, NUM_SAMPLES, 1e-6))
    for votes in (planned, rng.binomial(NUM_SAMPLES, p))
  )
  assert found.mean() == pytest.approx(truth.mean(), rel=0.05)
  for s in (0.1, 1.0, 2.0, 4.0):
    assert (found > s).mean() == pytest.approx((truth > s).mean(), abs=0.04)


@pytest.mark.parametrize(("votes", "planned"), [(64, NUM_SAMPLES), (0, 0)])
def test_unanimous_pilots_promise_unanimity(votes, planned):
  found = choosing._planned_votes(jax.random.key(0), np.full(1000, votes), 64, NUM_SAMPLES)
  assert (found == planned).mean() > 0.99


WEAK_AND_STRONG = choosing.grid_candidates(SHAPE, [GRID], [0.05, 0.4], [1.0])


def test_accuracy_limits_the_choice():
  """Strong noise makes the pixels of small margins abstain, weak noise certifies no such radius."""
  strict, lax = (
    choose(WEAK_AND_STRONG, epsilon=0.5, tolerance=tolerance) for tolerance in (0.01, 1.0)
  )
  np.testing.assert_array_equal(strict.accuracy, lax.accuracy)
  assert strict.accuracy[1] < strict.accuracy[0] - 0.01
  assert strict.score[1] > strict.score[0]
  assert (strict.best, lax.best) == (0, 1)
  assert strict.eligible.tolist() == [True, False]


def test_void_labels_count_nowhere_and_void_alone_sets_no_limit():
  half = LABELS.copy()
  half[:, :3] = 255
  first, second = (
    choose(HAND_MADE, labels=labels) for labels in (half, np.where(half == 255, -1, half))
  )
  assert first.accuracy == second.accuracy > 0.9
  choice = choose(WEAK_AND_STRONG, labels=np.full_like(LABELS, 255), epsilon=0.5)
  assert np.isnan(choice.accuracy).all()
  assert choice.best == 1


def test_where_nothing_is_certified_the_reference_stays():
  """Too few samples planned for any certificate: all abstain."""
  choice = choose([*HAND_MADE, *HAND_MADE], num_samples=10)
  assert choice.score.tolist() == choice.accuracy.tolist() == [0.0, 0.0]
  assert choice.best == 0


def test_zero_budget_certifies_what_does_not_abstain():
  choice = choose(HAND_MADE, epsilon=0.0)
  assert choice.score[0] == pytest.approx(choice.accuracy[0], abs=0.02)  # some certain, but wrong


def test_candidates_are_all_different_combinations():
  found = choosing.grid_candidates(SHAPE, [(1, 1), (2, 2)], [0.2, 0.5], [0.5, 0.1], [1.0, 2.0, 1.0])
  # 2x2 cells are at fraction 0 or 1: the power changes nothing.
  assert [c.name for c in found] == [
    "1x1, std 0.2", "1x1, std 0.5", "2x2, std 0.2 to 0.5, power 1", "2x2, std 0.5",
  ]  # fmt: skip
  np.testing.assert_array_equal(found[2].smoothing.scale, 0.5 - 0.3 * np.eye(4))


def test_what_the_model_does_not_see_is_hidden():
  (found,) = choosing.grid_candidates((4, 12), [(1, 3)], [0.2], [1.0], sees=4)
  np.testing.assert_allclose(found.smoothing.scale[0], [0.2, 0.6, np.inf])


def test_windows_are_made_once_per_grid():
  made = []

  def windows(groups):
    made.append(groups.shape)
    return sampling.Windows(lambda params, x, start: x, np.zeros((15, 2), np.int32), SHAPE)

  found = choosing.grid_candidates(SHAPE, [GRID], [0.1, 0.2], [1.0], windows=windows)
  assert made == [SHAPE]
  assert found[0].windows is found[1].windows


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"candidates": []}, "`candidates` must hold at least one"),
    ({"images": IMAGES[:0]}, "of the same M >= 1 images"),
    ({"labels": LABELS[:2]}, "of the same M >= 1 images"),
    ({"labels": LABELS[:, :3]}, "must have N = 60 labels per image"),
  ],
)
def test_arguments_that_do_not_fit(change, message):
  with pytest.raises(ValueError, match=message):
    choose(**{"candidates": HAND_MADE, **change})


def test_what_outputs_see_and_what_passes_cost():
  """Equal passes: four fields have a quarter of the samples, and a view only ever adds."""
  view = views.around(SHAPE, 0)
  (one,) = choosing.grid_candidates(SHAPE, [(1, 1)], [0.2], [0.2])
  (four,) = choosing.color_candidates(SHAPE, [(2, 2)], [0.2], [2.0])
  candidates = [one, choosing.as_seen(one, view), four, choosing.as_seen(four, view)]
  assert [c.drawn[0].num_groups for c in candidates] == [1, 1, 4, 4]
  assert candidates[1].smoothing.num_groups == candidates[1].groups.max() + 1 == np.prod(SHAPE)
  np.testing.assert_array_equal(four.smoothing.scale, np.where(np.eye(4), 0.2, 0.4))
  found = choose(candidates, num_samples=None, num_passes=400)
  assert found.score[1] > found.score[0]
  assert found.score[3] >= found.score[2]
  np.testing.assert_array_equal(found.accuracy[[0, 2]], found.accuracy[[1, 3]])
  per_field = choose(candidates, num_samples=100)
  np.testing.assert_array_equal(per_field.score[2:], found.score[2:])
  assert per_field.score[1] < found.score[1]
  for wrong in (None, None), (9, 9):
    with pytest.raises(ValueError, match="one of `num_samples`, per field, and `num_passes`"):
      choose(candidates, num_samples=wrong[0], num_passes=wrong[1])
