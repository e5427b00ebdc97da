import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, jaccard_score

from lrs_jax import metrics

K = 4
pairs = st.lists(st.tuples(st.integers(0, K - 1), st.integers(0, K - 1)), min_size=1, max_size=50)


@given(pairs)
def test_without_abstention_metrics_are_scikit_learns(drawn):
  labels, predictions = np.array(drawn).T
  confusion = metrics.confusion_matrix(labels, predictions, K)
  assert metrics.accuracy(confusion) == pytest.approx(accuracy_score(labels, predictions))
  present = np.union1d(labels, predictions)
  expected = jaccard_score(labels, predictions, labels=present, average="macro")
  assert metrics.mean_iou(confusion) == pytest.approx(expected)


def test_abstention_is_wrong_but_no_other_class():
  confusion = metrics.confusion_matrix([0, 0, 1], [0, metrics.ABSTAIN, 1], K)
  assert metrics.accuracy(confusion) == pytest.approx(2 / 3)
  assert metrics.mean_iou(confusion) == pytest.approx((1 / 2 + 1) / 2)


def test_void_labels_do_not_count():
  confusion = metrics.confusion_matrix([0, K, -1], [0, 0, 0], K)
  assert confusion.sum() == 1


def test_nothing_labelled_has_no_accuracy():
  empty = metrics.confusion_matrix([], np.zeros(0, int), K)
  assert np.isnan(metrics.accuracy(empty))
  assert np.isnan(metrics.mean_iou(empty))
  assert np.isnan(metrics.certified_fraction([0], 0)).all()


def test_radius_of_a_falling_curve_is_at_most_the_integral():
  radii = np.linspace(0, 2, 30)
  curve = np.exp(-radii)
  area = metrics.average_certifiable_radius(radii, curve)
  assert 1 - np.exp(-2) - 2 / 30 * (1 - np.exp(-2)) * 1.1 < area < 1 - np.exp(-2)
