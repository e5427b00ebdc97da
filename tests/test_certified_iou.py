"""Certified IoU against every attack and every relabelling of tiny segmentations."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrs_jax import certified_iou, metrics
from lrs_jax.certificates import BaseCertificates

NUM_CLASSES = 3  # 3 is void, or an abstention


def random_base(seed, num_groups, num_cells, num_outputs):
  """Small whole numbers, so that sums are exact and ties frequent; some pixels abstain."""
  rng = np.random.default_rng(seed)
  weights = rng.integers(0, 5, (1, num_groups, num_cells)).astype(float)
  groups = rng.integers(0, num_groups, num_outputs)
  eta = rng.integers(0, 9, num_outputs).astype(float)
  truth = rng.choice(NUM_CLASSES + 1, num_outputs, p=[0.4, 0.35, 0.1, 0.15])
  labels = np.where(rng.random(num_outputs) < 0.7, truth, rng.integers(0, 3, num_outputs)) % 3
  return BaseCertificates(weights, groups, eta, labels, labels), truth


def reachable(base, budget):
  """Sets of pixels that are the adversary's: what abstains, and what falls under some attack."""
  num_cells = base.weights.shape[2]
  for cuts in itertools.product(np.arange(17) / 16, repeat=num_cells - 1):
    share = np.diff([0.0, *np.sort(cuts), 1.0]) * budget
    yield (base.weights[0] @ share)[base.groups] >= base.eta  # eta = 0 always


def ious(truth, predictions):
  """IoU [..., K'] of predictions [..., N] for the classes of the truth."""
  known = truth < NUM_CLASSES
  classes = np.unique(truth[known])
  label, prediction = truth == classes[:, None], predictions[..., None, :] == classes[:, None]
  union = ((label | prediction) & known).sum(axis=-1)
  return (label & prediction & known).sum(axis=-1) / union


def worst(base, truth, budget):
  """The least IoU of every class [K'], and the least mean, over attacks and relabellings."""
  everything = []
  for theirs in {tuple(theirs) for theirs in reachable(base, budget)}:
    places = np.flatnonzero(theirs)
    choices = np.array(list(itertools.product(range(NUM_CLASSES + 1), repeat=places.size)), int)
    predictions = np.tile(base.labels, (len(choices), 1))
    predictions[:, places] = choices.reshape(len(choices), places.size)
    everything.append(ious(truth, predictions))
  found = np.concatenate(everything)
  return found.min(axis=0), found.mean(axis=-1).min()


problems = st.tuples(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), st.integers(1, 6))
budgets = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0])


@settings(deadline=None, max_examples=150)
@given(problems, budgets, st.sampled_from(["naive", "envelope", "milp"]))
def test_no_attack_and_no_relabelling_is_worse(problem, budget, method):
  base, truth = random_base(*problem)
  found = certified_iou.per_class(base, truth, [budget], num_classes=NUM_CLASSES, method=method)
  if not found.classes.size:
    assert np.isnan(found.mean_iou).all()
    return
  least, least_mean = worst(base, truth, budget)
  assert (found.iou[0] <= least).all()
  assert found.mean_iou[0] <= least_mean
  certified_iou.verify(base, truth, found, num_classes=NUM_CLASSES)


@pytest.mark.parametrize("seed", range(40))
def test_every_class_alone_is_exact_where_the_attack_is_unique(seed):
  """One group: what falls is known, and every class can be hurt by all of it."""
  base, truth = random_base(seed, 1, 1, 6)
  found = certified_iou.per_class(base, truth, [1.0], num_classes=NUM_CLASSES)
  np.testing.assert_allclose(found.iou[0], worst(base, truth, 1.0)[0], rtol=1e-15)


def test_without_attack_and_abstention_it_is_the_iou_itself():
  base, truth = random_base(3, 2, 2, 200)
  base = base._replace(eta=base.eta + 1)
  found = certified_iou.per_class(base, truth, [0.0], num_classes=NUM_CLASSES)
  expected = ious(truth, base.labels)
  np.testing.assert_allclose(found.iou[0], expected, rtol=1e-12)
  assert set(truth) == {0, 1, 2, 3}
  confusion = metrics.confusion_matrix(truth, base.labels, NUM_CLASSES)
  assert found.mean_iou[0] == pytest.approx(metrics.mean_iou(confusion))


def test_classes_that_the_truth_lacks_are_not_in_the_mean():
  """One pixel taken for an absent class is an error of its label, and no class more."""
  weights, groups, labels = np.ones((1, 1, 1)), np.zeros(4, int), np.array([0, 0, 1, 2])
  base = BaseCertificates(weights, groups, np.full(4, 9.0), labels, labels)
  found = certified_iou.per_class(base, [0, 0, 1, 1], [0.0], num_classes=5)
  assert found.classes.tolist() == [0, 1]
  np.testing.assert_allclose(found.iou, [[1.0, 0.5]])
  confusion = metrics.confusion_matrix([0, 0, 1, 1], labels, 5)
  assert metrics.mean_iou(confusion) == pytest.approx(0.5)
  assert found.mean_iou[0] == pytest.approx(0.75)


def test_abstentions_count_against_the_label_and_as_false_positives():
  weights, groups, labels = np.ones((1, 1, 1)), np.zeros(4, int), np.array([0, 0, 1, 1])
  base = BaseCertificates(weights, groups, np.array([9.0, 9.0, 9.0, 0.0]), labels, labels)
  found = certified_iou.per_class(base, labels, [0.0], num_classes=2)
  np.testing.assert_allclose(found.iou, [[2 / 3, 1 / 2]])


def test_void_pixels_count_nowhere():
  base, truth = random_base(5, 2, 2, 50)
  known = truth < NUM_CLASSES
  assert not known.all()
  kept = base._replace(groups=base.groups[known], eta=base.eta[known], labels=base.labels[known])
  ours, without = (
    certified_iou.per_class(b, t, [0.5], num_classes=NUM_CLASSES)
    for b, t in ((base, truth), (kept, truth[known]))
  )
  np.testing.assert_array_equal(ours.iou, without.iou)
  nothing = certified_iou.per_class(base, np.full(50, -1), [0.5, 1.0], num_classes=NUM_CLASSES)
  assert nothing.iou.shape == (2, 0)
  assert np.isnan(nothing.mean_iou).all()


def test_forfeited_bounds_count_twice():
  base, truth = random_base(5, 1, 1, 60)
  base = base._replace(eta=base.eta + 1)
  found = certified_iou.per_class(base._replace(forfeit=2), truth, [0.0], num_classes=NUM_CLASSES)
  whole = certified_iou.per_class(base, truth, [0.0], num_classes=NUM_CLASSES)
  np.testing.assert_array_equal(found.true_positives, whole.true_positives - 2)
  np.testing.assert_array_equal(found.union, whole.union + 2)


def test_no_outputs():
  empty = np.zeros(0, int)
  base = BaseCertificates(np.ones((1, 1, 1)), empty, np.zeros(0), empty, np.zeros(0))
  assert np.isnan(certified_iou.per_class(base, empty, [1.0], num_classes=2).mean_iou).all()


def test_changed_numbers_are_refused():
  base, truth = random_base(7, 2, 2, 30)
  found = certified_iou.per_class(base, truth, [0.5, 1.0], num_classes=NUM_CLASSES)
  certified_iou.verify(base, truth, found, num_classes=NUM_CLASSES, exact=True)
  for changed, message in (
    (found._replace(iou=found.iou + 1e-9), "`iou`"),
    (found._replace(mean_iou=found.mean_iou + 1e-9), "`mean_iou`"),
    (found._replace(hits=found.hits[::-1]), "targets"),
    (found._replace(union=found.union - 1), "`union`"),
    (found._replace(rejections=found.hits), "targets"),
    (found._replace(hits=found.hits[:1]), "certificate"),
  ):
    with pytest.raises(ValueError, match=message):
      certified_iou.verify(base, truth, changed, num_classes=NUM_CLASSES)
  loose = found.hits[0]._replace(certified=found.hits[0].certified + 1)
  with pytest.raises(ValueError, match="Budget 0"):
    certified_iou.verify(
      base, truth, found._replace(hits=(loose, *found.hits[1:])), num_classes=NUM_CLASSES
    )


def test_truth_of_another_shape_is_refused():
  base, truth = random_base(7, 2, 2, 30)
  with pytest.raises(ValueError, match="`truth`"):
    certified_iou.per_class(base, truth[:-1], [0.5], num_classes=NUM_CLASSES)
