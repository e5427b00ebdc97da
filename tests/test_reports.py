"""Reports of finished jobs, from records made by hand."""

import numpy as np
import pytest
from scipy import stats

from lrs_jax import noise
from lrs_jax.jobs import records, reports
from lrs_jax.jobs.records import Bounds
from lrs_jax.tasks import images
from lrs_jax.tasks.task import Case, Data, Smoothing
from tests.making import VOTES as STATISTICS
from tests.making import ball, votes

TRUTH = np.array([0, 1, 1, 2])  # the last one is void, two classes
RADII = np.array([0.0, 0.2, 0.36, 1.0])
VOTES = np.array([1000, 985, 30, 990])  # for class 0
CONFIG = images.Config()


def record(smoothing=None):
  smoothing = smoothing or noise.gaussian([[0.2]], np.zeros((2, 2, 3), int))
  counts = votes(np.stack([VOTES, 1000 - VOTES], axis=1), 1000)
  return records.make_record(
    "images", Smoothing("isotropic", smoothing, np.zeros(4, int),
                        ("all/envelope", "correct/envelope")),
    (counts, counts), Bounds(0.01, 0.0, STATISTICS), ball(smoothing, RADII), truth=TRUTH,
  )  # fmt: skip


@pytest.fixture(scope="module")
def data():
  return Data([Case(name, np.zeros((2, 2, 3), np.float32), TRUTH) for name in "ab"], ("one", "two"))


def curve(report, method, name="certified"):
  return report[name][method]["epsilon"]["curve"]


def test_segcertify_stands_beside_the_isotropic_curve():
  report = reports.report(images.TASK, CONFIG, [record()] * 2)
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
  assert curve(report, "segcertify") == pytest.approx(certified)
  assert curve(report, "segcertify", "certified_accuracy") == pytest.approx(correct)
  assert 0 < certified[2] < certified[0] == 1
  assert certified[-1] == 0


def test_there_is_no_segcertify_for_other_noise():
  for smoothing in (
    noise.laplace([[0.2]], np.zeros((2, 2, 3), int)),
    noise.gaussian([[0.2, 0.4]], np.zeros((2, 2, 3), int)),
  ):
    report = reports.report(images.TASK, CONFIG, [record(smoothing)] * 2)
    assert set(report["certified"]) == {"envelope"}


def summary(data, budgets, fractions, accuracy=0.9, area=0.123456):
  report = reports.report(images.TASK, CONFIG, [record()] * 2)
  found = {"epsilon": {"budgets": budgets, "curve": fractions, "area": area}}
  report |= {"certified_accuracy": {"envelope": found}, "accuracy": accuracy}
  return {
    "job": {"budgets": None, "data": "toy"}, "smoothings": {"certificate": report},
    "base_model": {"certificate": report}, "majority": reports.majority(data),
    "seconds": {"sampling": 1.0}, "inputs": ["a", "b"], "unit": "pixels",
  }  # fmt: skip


def test_the_table_rounds_radii_and_what_is_certified_down(data):
  text = reports.table(summary(data, [0.0, 0.25879, 0.5], [0.9, 0.70979, 0.0]))
  head, row, *_ = text.splitlines()
  assert "0.258" in head
  assert row.split()[-2:] == ["0.709", "0.1234"]


def test_the_table_shows_a_job_that_certifies_nothing(data):
  text = reports.table(summary(data, [0.0, 0.5], [0.0, 0.0]))
  assert text.splitlines()[1].split()[2:] == ["0.000", "0.1234"]


def test_the_most_frequent_label_is_of_what_counts(data):
  assert reports.majority(data) == {"class": "two", "share": pytest.approx(2 / 3)}


@pytest.mark.parametrize(("accuracy", "noted"), [(0.9, False), (0.69, True), (0.5, True)])
def test_what_is_hardly_better_than_a_constant_is_noted(data, accuracy, noted):
  text = reports.table(summary(data, [0.0, 0.5], [0.9, 0.7], accuracy))
  assert "always answering two               accuracy 0.667" in text
  assert ("NOTE: hardly more often right than that" in text) == noted


def test_a_job_without_labels_reports_what_is_certified():
  smoothing = noise.gaussian([[0.2]], np.zeros((2, 2, 3), int))
  counts = votes(np.stack([VOTES, 1000 - VOTES], axis=1), 1000)
  unlabelled = records.make_record(
    "images", Smoothing("certificate", smoothing, np.zeros(4, int), ("all/envelope",)),
    (counts, counts), Bounds(0.01, 0.0, STATISTICS), ball(smoothing, RADII),
  )  # fmt: skip
  report = reports.report(images.TASK, CONFIG, [unlabelled])
  assert report["certified_accuracy"] == {}
  assert np.isnan(report["accuracy"])
  data = Data([Case("a", np.zeros(1), None)], ("one", "two"))
  summary = {
    "job": {"budgets": None, "data": "toy", "samples": 1, "alpha": 0.1}, "unit": "pixels",
    "smoothings": {"certificate": report}, "base_model": {"certificate": report},
    "majority": reports.majority(data), "seconds": {"sampling": 1.0}, "inputs": ["a"],
  }  # fmt: skip
  text = reports.table(summary)
  assert text.startswith("certified at radius")
  assert "always answering" not in text
  reports.curves_figure(summary, "epsilon")
