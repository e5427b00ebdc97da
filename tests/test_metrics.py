import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, jaccard_score

from lrs_jax.evaluation import metrics

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


def test_what_is_certified_at_the_first_radius_is_certified_below_it():
  assert metrics.average_certifiable_radius([0.5], [0.8]) == pytest.approx(0.4)
  assert metrics.average_certifiable_radius([0.5, 1], [0.8, 0.2]) == pytest.approx(0.5)
  assert metrics.average_certifiable_radius([], []) == 0


@pytest.mark.parametrize(
  ("radii", "fraction", "message"),
  [
    ([1.0, 0.5], [0.1, 0.9], "`radii` must be finite and rise"),
    ([-1.0, 0.5], [0.9, 0.1], "`radii` must be finite and rise"),
    ([0.0, np.nan], [0.9, 0.1], "`radii` must be finite and rise"),
    ([0.0, np.inf], [0.9, 0.1], "`radii` must be finite and rise"),
    ([0.0, 1.0], [0.9], "shapes are"),
    (0.5, 0.5, "shapes are"),
  ],
)
def test_radii_that_are_no_axis_have_no_area(radii, fraction, message):
  with pytest.raises(ValueError, match=message):
    metrics.average_certifiable_radius(radii, fraction)


@given(st.floats(1e-6, 1e6), st.integers(1, 6))
def test_what_is_shown_is_rounded_down(number, digits):
  assert number * (1 - 10.0 ** (1 - digits)) <= metrics.round_down(number, digits) <= number * (
    1 + 1e-12
  )  # fmt: skip
  assert number - 10.0**-digits <= metrics.round_down(number, decimals=digits) <= number * (
    1 + 1e-12
  )  # fmt: skip
  shown = float(f"{metrics.round_down(number):.3g}")
  assert metrics.round_down(shown) == pytest.approx(shown, rel=1e-12)


def test_classes_in_neither_labels_nor_predictions_are_left_out():
  confusion = metrics.confusion_matrix([0, 0, 1], [0, 1, 1], 5)
  assert metrics.mean_iou(confusion) == pytest.approx(0.5)
  with_false_positive = metrics.confusion_matrix([0, 0, 1], [0, 4, 1], 5)
  assert metrics.mean_iou(with_false_positive) == pytest.approx((1 / 2 + 1 + 0) / 3)


coordinate = st.sampled_from([0.0, 0.5, 1.0, np.nan])


@given(st.lists(st.tuples(coordinate, coordinate), max_size=8))
def test_the_front_is_what_none_beats(points):
  def beats(p, q):
    return all(a >= b for a, b in zip(p, q, strict=True)) and p != q

  expected = [
    not np.isnan(q).any() and not any(beats(p, q) for p in points if not np.isnan(p).any())
    for q in points
  ]
  front = metrics.pareto_front(np.reshape(points, (-1, 2)))
  assert front.tolist() == expected


def test_the_front_needs_a_matrix():
  with pytest.raises(ValueError, match="`points`"):
    metrics.pareto_front([1.0, 2.0])
