"""Reports of finished image jobs, from records made by hand."""

import numpy as np
import pytest
from scipy import stats

from lrs_jax import noise
from lrs_jax.jobs import records, reports
from lrs_jax.sampling.counting import Votes
from lrs_jax.tasks.data.images import LabelledImages

TRUTH = np.array([0, 1, 1, 2])  # the last one is void, two classes
RADII = np.array([0.0, 0.2, 0.36, 1.0])
VOTES = np.array([1000, 985, 30, 990])  # for class 0


def isotropic_record(std=0.2, alpha=0.01):
  counts = Votes(np.stack([VOTES, 1000 - VOTES], axis=1), 1000)
  smoothing = noise.gaussian([[std]], np.zeros((2, 2, 3), int))
  return records.make_record(
    smoothing, np.zeros(4, int), counts, counts, alpha, TRUTH, RADII, {"envelope": {}}, {}
  )


@pytest.fixture(scope="module")
def data():
  return LabelledImages(
    np.zeros((2, 2, 2, 3), np.float32), np.tile(TRUTH.reshape(2, 2), (2, 1, 1)), ("a", "b"),
    ("one", "two"),
  )  # fmt: skip


def test_segcertify_stands_beside_the_isotropic_curve(data):
  report = reports.report(data, [isotropic_record()] * 2)
  assert set(report["certified"]) == {"envelope", "segcertify"}
  certified, correct = [], []
  for radius in RADII:
    agree = np.array([1000, 985, 970, 990])
    p_values = stats.binom.sf(agree - 1, 1000, stats.norm.cdf(radius / 0.2))
    order = np.argsort(p_values)
    passed = np.logical_and.accumulate(p_values[order] <= 0.01 / np.arange(4, 0, -1))
    survivors = set(order[passed].tolist())
    certified.append(len(survivors) / 4)
    correct.append(len(survivors & {0, 2}) / 3)
  assert report["certified"]["segcertify"] == pytest.approx(certified)
  assert report["certified_accuracy"]["segcertify"] == pytest.approx(correct)
  assert 0 < certified[2] < certified[0] == 1
  assert certified[-1] == 0


def test_there_is_no_segcertify_for_other_noise(data):
  counts = Votes(np.stack([VOTES, 1000 - VOTES], axis=1), 1000)
  for smoothing in (
    noise.laplace([[0.2]], np.zeros((2, 2, 3), int)),
    noise.gaussian([[0.2, 0.4]], np.zeros((2, 2, 3), int)),
  ):
    record = records.make_record(
      smoothing, np.zeros(4, int), counts, counts, 0.01, TRUTH, RADII, {"envelope": {}}, {}
    )
    assert set(reports.report(data, [record] * 2)["certified"]) == {"envelope"}


def summary(data, budgets, radii, curve, accuracy=0.9):
  part = reports.report(data, [isotropic_record()] * 2)
  part |= {"certified_accuracy": {"envelope": curve}, "certified_radius": {"envelope": 0.123456}}
  part |= {"pixel_accuracy": accuracy}
  return {
    "radii": radii, "job": {"budgets": budgets, "isotropic_std": None, "std_min": 0.1},
    "localized": part, "isotropic": part, "base_model": part, "majority": reports.majority(data),
    "seconds": {"sampling": 1.0},
  }  # fmt: skip


def test_the_table_rounds_radii_and_what_is_certified_down(data):
  text = reports.table(summary(data, None, [0.0, 0.25879, 0.5], [0.9, 0.70979, 0.0]))
  head, row, *_ = text.splitlines()
  assert "0.258" in head
  assert row.split()[-2:] == ["0.709", "0.1234"]


def test_the_table_shows_a_job_that_certifies_nothing(data):
  text = reports.table(summary(data, None, [0.0, 0.5], [0.0, 0.0]))
  assert text.splitlines()[1].split()[2:] == ["0.000", "0.1234"]


def test_the_most_frequent_label_is_of_what_counts(data):
  assert reports.majority(data) == {"class": "two", "share": pytest.approx(2 / 3)}


@pytest.mark.parametrize(("accuracy", "noted"), [(0.9, False), (0.69, True), (0.5, True)])
def test_what_is_hardly_better_than_a_constant_is_noted(data, accuracy, noted):
  text = reports.table(summary(data, None, [0.0, 0.5], [0.9, 0.7], accuracy))
  assert "always answering two               pixel accuracy 0.667" in text
  assert ("NOTE: hardly more often right than that" in text) == noted
