"""The study on images, at toy size, from training to tables and figures."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks import images, images_report
from benchmarks.image_study import certifying, counting, figures, pilots, points, tables
from benchmarks.image_study.configurations import Sizes
from lrs_jax.evaluation import metrics
from tests.drawn_keys import assert_disjoint, recorded
from tests.figures import check_saved, check_texts
from tests.test_data import make_camvid

SIZES = Sizes(
  size=(16, 24), start=(16, 24), images=2, width=2, depth=1, steps=2, marks=(20, 40), more=2,
  selection=(4, 10), radii=3,
)  # fmt: skip
NAMES = (
  "localized-0.4", "isotropic-0.4", "strict-2x2-0.3", "certified-iou", "choice", "noises", "rates",
)  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
  """The folder of a study that is done, and what it drew from."""
  folder = tmp_path_factory.mktemp("study")
  make_camvid(folder / "camvid", size=(32, 24))
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(pilots.CHOICES, False, ([(2, 2)], (0.2,), (0.4, 0.8), (1.0,)))
    known = {name: pilots.NOISES[name] for name in ("1x1, 0.2", "3x5, 0.2 to 1")}
    patch.setattr(pilots, "NOISES", known)
    patch.setattr(pilots, "RUNS", 3)
    patch.setattr(pilots, "PASSES", 24)
    patch.setattr(counting, "CANDIDATES", 12)
    with recorded() as streams:
      images.run(SIZES, str(folder), folder / "work", folder / "results", NAMES)
  return folder, streams


@pytest.fixture
def study(ran):
  return ran[0]


def test_no_two_parts_draw_from_one_key(ran):
  """Before, a network and an image had one key."""
  _, streams = ran
  assert_disjoint(streams, at_least=20)
  number = Counter(name.rpartition(".")[-1] for name, _ in streams)
  assert number["train"] == 4
  assert number["votes"] == 4 * 2  # two smoothings of two images, each in two parts
  assert number["hamming_distances"] == 2 * 3  # center smoothing of two images, in three steps


def test_every_piece_leaves_a_file(study):
  assert {path.stem for path in (study / "results").glob("*.json")} == set(NAMES)
  result = json.loads((study / "results" / "isotropic-0.4.json").read_text())
  marks = {"20", "40", "80"}
  assert set(result["samples"]) == marks | {f"{mark}, k-FWER" for mark in marks}
  for at in result["samples"].values():
    for curve in at["curves"].values():
      certified = np.asarray(curve["certified"])
      assert (np.diff(certified) <= 0).all()
      assert ((certified >= 0) & (certified <= 1)).all()
      right, trapezoid, left = (curve["radius"][k] for k in ("right", "trapezoid", "left"))
      assert right <= trapezoid <= left


def test_more_samples_are_the_fewer_and_others(study):
  folder = study / "work" / "counts" / "isotropic-0.4" / "000"
  found = {mark: counting.votes(folder, "estimation", mark) for mark in (20, 40, 80)}
  assert all((votes.sum(axis=1) == mark).all() for mark, votes in found.items())
  assert (found[80] >= found[40]).all()


def test_what_was_counted_is_not_counted_again(study, monkeypatch):
  monkeypatch.setattr(counting.sampling, "votes", None)
  before = (study / "results" / "localized-0.4.json").read_text()
  images.run(SIZES, str(study), study / "work", study / "results", ("localized-0.4",))
  again, before = (json.loads(text) for text in (
    (study / "results" / "localized-0.4.json").read_text(), before
  ))  # fmt: skip
  assert again == before
  with pytest.raises(ValueError, match="another configuration"):
    images.run(SIZES._replace(seed=1), str(study), study / "work", study / "results", NAMES[:1])


def test_the_report_has_every_comparison(study, monkeypatch):
  check_saved(monkeypatch)
  text = images_report.report(study / "results")
  for title in (
    "40 samples per output",
    "Ablation",
    "Strictly local",
    "Certified mean IoU",
    "by network and noise",
  ):
    assert title in text
  for name in ("pareto.png", "curves.png", "images.md"):
    assert (study / "results" / name).stat().st_size > 1000


@pytest.mark.parametrize("folder", ["", "180x240", "180x240/equal-time"])
def test_stored_results_are_drawn_without_overlaps(folder, tmp_path, monkeypatch):
  """As they are on the pages: the numbers of a figure decide where its texts find room."""
  for path in (Path(images_report.__file__).parent / "results" / "images" / folder).glob("*.json"):
    shutil.copy(path, tmp_path)
  check_saved(monkeypatch)
  images_report.report(tmp_path)
  assert (tmp_path / "curves.png").exists()


def test_larger_images_start_from_the_network_of_smaller_ones(study, monkeypatch):
  monkeypatch.setattr(pilots, "RUNS", 3)
  monkeypatch.setattr(pilots, "PASSES", 24)
  sizes = SIZES._replace(size=(32, 24), crop=(16, 16), images=1)
  names = ("localized-0.3", "isotropic-0.4-more", "localized-0.3-more", "rates")
  images.run(sizes, str(study), study / "work", study / "large", names)
  with np.load(study / "work" / "networks" / "crops.npz") as stored:
    assert json.loads(str(stored["meta"]))["network"]["size"] == [32, 24]
  assert "equal forward passes" not in images_report.report(study / "large")  # 24 times as many
  text = (study / "large" / "images.md").read_text()
  assert "| localized, envelope | 0.3–0.6 |" in text


def test_sums_enclose_the_integral():
  radii = np.linspace(0, 2, 30) ** 1.5
  sums = certifying.radius_sums(radii, np.exp(-radii))
  area = 1 - np.exp(-radii[-1])
  assert sums["right"] < area < sums["trapezoid"] < sums["left"]  # a convex curve
  assert sums["right"] == metrics.average_certifiable_radius(radii, np.exp(-radii))
  assert sums["trapezoid"] == pytest.approx(np.trapezoid(np.exp(-radii), radii))
  assert set(certifying.radius_sums(np.zeros(1), np.ones(1)).values()) == {0}


def test_there_is_no_left_sum_without_a_radius_of_0():
  with pytest.raises(ValueError, match=r"must start at 0, but they start at 0\.5"):
    certifying.radius_sums(np.array([0.5, 1.0]), np.array([0.9, 0.1]))


def point(method, samples, miou, right, grid=(1, 1)):
  radius = {"right": right, "trapezoid": right, "left": right}
  return points.Point(method, "0.3", grid, samples, miou, miou, radius, {})


SEGCERTIFY = points.ISOTROPIC["segcertify"]
ENVELOPE = points.LOCALIZED["envelope"]


@pytest.mark.parametrize(
  ("miou", "expected"), [(0.5, (0.9 / 0.3, False)), (0.3, (0.9 / 0.4, True)), (0.7, None)]
)
def test_radius_at_equal_quality_is_between_the_rivals_levels(miou, expected):
  rivals = [point(SEGCERTIFY, 10, q, r) for q, r in ((0.4, 0.4), (0.6, 0.2))]
  ours = point(ENVELOPE, 10, miou, 0.9)
  found = points.over(ours, rivals, lambda p: p.miou)
  assert found == (None if expected is None else pytest.approx(expected))


def test_a_ratio_is_a_bound_if_one_rival_is_of_greater_quality_at_all_levels():
  center = points.CENTER["ranks_by_dkw"]
  rivals = [point(SEGCERTIFY, 10, 0.6, 0.3), *(point(center, 10, q, 0.1) for q in (0.2, 0.7))]
  found = points.over(point(ENVELOPE, 10, 0.5, 0.9), rivals, lambda p: p.miou)
  assert found == pytest.approx((0.9 / 0.3, True))


def test_k_fwer_is_compared_with_k_fwer():
  rivals = [point(SEGCERTIFY, 10, 0.5, 0.3), point("isotropic, k-FWER", 10, 0.5, 0.4)]
  for method, radius in ((ENVELOPE, 0.3), (f"{ENVELOPE}, k-FWER", 0.4)):
    found = points.over(point(method, 10, 0.5, 0.9), rivals, lambda p: p.miou)
    assert found == pytest.approx((0.9 / radius, False))


def test_rivals_at_equal_cost_have_as_many_passes_or_more():
  ours = {n: [point(ENVELOPE, n, 0.5, 0.9, (2, 3))] for n in (10, 100, 200)}
  ours[100].append(point(points.LOCALIZED["lp"], 100, 0.5, 0.8, (2, 3)))
  theirs = {n: [point(SEGCERTIFY, n, 0.5, 0.3)] for n in (100, 200, 300)}
  matches = points.equal_cost(ours, theirs, lambda p: 6 * 0.25, 100)
  assert [(m.point.samples, m.rivals[0].samples) for m in matches] == [
    (10, 100), (100, 200), (200, 300),
  ]  # fmt: skip
  assert "| 200 | 300 |" in tables.cost_table("Equal time", matches)
  figure = figures.cost_figure(matches)
  check_texts(figure)
  lines = figure.axes[0].get_lines()
  assert lines[0].get_xydata().tolist() == [[n, 0.9 / 0.3] for n in (100, 200, 300)]
