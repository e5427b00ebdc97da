"""Figures say no more than is proven: drawn curves are read back from their axes."""

import numpy as np
import pytest
from matplotlib import cbook

from benchmarks import graphs as graph_study
from benchmarks import picture
from lrs_jax.cli import main
from lrs_jax.evaluation import plots
from lrs_jax.jobs import reports
from lrs_jax.tasks import graphs
from tests.test_cli import SCENES

pytestmark = pytest.mark.usefixtures("small_chunks")


def drawn(line, epsilon):
  """The height at which a line is drawn at some budgets."""
  x, y = cbook.STEP_LOOKUP_MAP[line.get_drawstyle()](*line.get_data())
  return np.interp(epsilon, x, y)


def curves(radii, fraction, **options):
  figure = plots.curves_figure(
    np.asarray(radii), {"one": np.asarray(fraction)}, xlabel="x", ylabel="y", title="t", **options
  )
  return figure.axes[0], figure.axes[0].get_lines()[0]


def test_between_two_budgets_the_larger_ones_value_is_drawn():
  radii, fraction = np.array([0.0, 0.1, 0.25, 1.0]), np.array([0.9, 0.8, 0.3, 0.0])
  _, line = curves(radii, fraction)
  epsilon = np.linspace(0.001, 0.999, 201)
  proven = fraction[np.searchsorted(radii, epsilon)]  # of the next larger budget
  assert (drawn(line, epsilon) <= proven + 1e-12).all()
  np.testing.assert_allclose(drawn(line, epsilon), proven)


def test_what_holds_at_the_first_budget_is_drawn_from_0_on():
  _, line = curves([0.5, 1.0], [0.8, 0.2])
  assert drawn(line, [0.0, 0.3, 0.7]) == pytest.approx([0.8, 0.8, 0.2])
  axes, line = curves([0.0], [0.8])
  assert line.get_marker() == "o"  # or nothing would be seen
  assert axes.get_xlim() == (0, 1)


@pytest.mark.parametrize("radii", [[0.5, 0.1], [-1.0, 0.5], [0.5, np.nan]])
def test_budgets_that_do_not_rise(radii):
  with pytest.raises(ValueError, match="`radii` must rise, from 0 or more"):
    curves(radii, [0.5, 0.1])


def test_a_curve_of_other_budgets():
  with pytest.raises(ValueError, match=r"for each of 2 radii, but 'one' has shape \(3,\)"):
    curves([0.0, 1.0], [0.9, 0.8, 0.7])


def whole(ticks):
  return (np.asarray(ticks) >= 0).all() and (np.asarray(ticks) == np.round(ticks)).all()


@pytest.mark.parametrize("last", [0, 1, 2, 3, 7, 50])
def test_flips_are_whole(last):
  fraction = np.linspace(0.8, 0.1, last + 1)
  by_kind = {"additions": {"budgets": list(range(last + 1)), "curve": fraction.tolist()}}
  summary = {
    "smoothings": {"certificate": {"certified_accuracy": {"envelope": by_kind}}},
    "job": {"data": "toy", "samples": 10, "alpha": 0.01}, "inputs": ["toy"], "unit": "nodes",
  }  # fmt: skip
  figure = reports.curves_figure(summary, "additions")
  figure.draw_without_rendering()
  axes, line = figure.axes[0], figure.axes[0].get_lines()[0]
  assert whole(axes.get_xticks())
  between = np.arange(last) + 0.5
  np.testing.assert_allclose(drawn(line, between), fraction[1:])

  figure = graphs.surface_figure(np.outer(fraction, fraction), "t")
  figure.draw_without_rendering()
  axes = figure.axes[0]
  for ticks in (axes.get_xticks(), axes.get_yticks()):
    assert whole(ticks)
    assert ticks.max() <= last


def test_a_front_is_joined_by_what_the_more_robust_one_has():
  figure = graph_study.pareto_figure({"one": [(1.0, 0.9), (3.0, 0.5), (2.0, 0.4)]}, "area")
  (line,) = figure.axes[0].get_lines()
  assert drawn(line, [1.5, 2.5]) == pytest.approx([0.5, 0.5])


def test_the_picture_draws_steps_and_attacks_that_hold(tmp_path, monkeypatch):
  options = ("--images", "1", "--budgets", "0,0.05,0.1", "--method", "milp")
  assert main([*SCENES, *options, "--out", str(tmp_path)]) == 0
  figures, whole_figure = [], picture.figure

  def figure(*args):
    figures.append(whole_figure(*args))
    return figures[-1]

  monkeypatch.setattr(picture, "figure", figure)
  picture.main([str(tmp_path), "--out", str(tmp_path)])
  axes = figures[0].axes[3]
  record = picture.records.load(tmp_path / "scene-000" / "certificate.npz")
  exact = record.certified["all/milp"]
  proven = exact.certified / record.base.eta.size
  assert drawn(axes.get_lines()[0], [0.02, 0.07]) == pytest.approx(proven[1:])
  found = ((record.base.eta > 0).sum() - exact.attack.num_attacked) / record.base.eta.size
  (area,) = axes.collections
  corners = area.get_paths()[0].vertices
  for left, right, low, high in zip(
    record.adversary.radii[:-1], record.adversary.radii[1:], proven[1:], found[:-1], strict=True
  ):
    for x in (left, right):
      for y in (low, high):
        assert np.isclose(corners, [x, y]).all(axis=1).any()
