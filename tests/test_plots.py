"""Figures say no more than is proven: drawn curves are read back from their axes."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib import cbook
from matplotlib.text import Text

from benchmarks import graphs as graph_study
from benchmarks import picture
from lrs_jax.cli import main
from lrs_jax.evaluation import labels, plots
from lrs_jax.jobs import reports
from lrs_jax.tasks import graph_parts
from tests import figures
from tests.test_cli import SCENES


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
  figures.check_texts(figure)
  axes, line = figure.axes[0], figure.axes[0].get_lines()[0]
  assert whole(axes.get_xticks())
  between = np.arange(last) + 0.5
  np.testing.assert_allclose(drawn(line, between), fraction[1:])

  figure = graph_parts.surface_figure(np.outer(fraction, fraction), "t")
  figure.draw_without_rendering()
  axes = figure.axes[0]
  for ticks in (axes.get_xticks(), axes.get_yticks()):
    assert whole(ticks)
    assert ticks.max() <= last


def test_a_front_is_joined_by_what_the_more_robust_one_has():
  found = [graph_study.Point(*at, "") for at in ((1.0, 0.9), (3.0, 0.5), (2.0, 0.4))]
  figure = graph_study.pareto_figure({"additions": {"one": found}}, "t")
  _, line = figure.axes[0].get_lines()  # after the markers
  assert line.get_ydata()[0] == 0.9
  assert drawn(line, [1.5, 2.5]) == pytest.approx([0.5, 0.5])


def test_the_points_of_graphs_are_named_without_overlaps():
  path = Path(graph_study.__file__).parent / "results" / "graphs.json"
  results = json.loads(path.read_text())
  panels = {kind: graph_study.points(results, kind) for kind in ("additions", "deletions")}
  figure = graph_study.pareto_figure(panels, graph_study.title_of(panels))
  figures.check_texts(figure)
  for axes, series in zip(figure.axes, panels.values(), strict=True):
    shown = [text.get_text() for text in axes.texts]
    assert sorted(shown) == sorted([*series, *(p.name for of in series.values() for p in of)])


def test_a_title_says_no_more_than_the_points():
  def points(*areas):
    return [graph_study.Point(area, 0.7, "") for area in areas]

  both = {"a, localized": points(3.0, 1.99, 1.0), "a, isotropic": points(1.0, 1.0, 0.0)}
  assert " 1.9 times " in graph_study.title_of({"additions": both})


NAMES = "exact", "envelope", "LP", "naive", "Holm", "Bonferroni"


def many(number, names=NAMES):
  """Curves that fall at different rates, as those of jobs do."""
  radii = np.linspace(0, 2, 41)
  falls = {i: np.maximum(0.9 - 1.8 * radii / (i + 1), 0) for i in range(number)}
  return radii, {f"{names[i % len(names)]} {i}": fall for i, fall in falls.items()}


def checked(radii, curves, title="a title"):
  figure = plots.curves_figure(
    radii, curves, title=title, ylabel="certified accuracy (fraction of labelled pixels)",
    xlabel=r"$\ell_2$ budget $\varepsilon$ of one perturbation of the whole image, [0, 1] scale",
  )  # fmt: skip
  figures.check_texts(figure)
  return figure


@pytest.mark.parametrize("number", [0, 1, 2, 4, 6, 12, 30])
def test_curves_of_any_number_are_named_without_overlaps(number):
  figure = checked(*many(number))
  shown = [text.get_text() for text in figure.axes[0].texts]
  if figure.legends:
    assert shown == []
    assert len(figure.legends[0].get_texts()) == number
  else:
    assert len(shown) == number
  assert number > 4 or not figure.legends


def test_curves_without_a_value_are_drawn():
  """As of no outputs: fractions are not numbers, and there is no place to name them at."""
  nothing = np.full(3, np.nan)
  figure = plots.curves_figure(
    np.arange(3.0), {"none": nothing, "some": np.ones(3)}, xlabel="b", ylabel="c", title="t"
  )
  assert figure.legends


def test_curves_that_coincide_have_a_legend():
  radii, curves = many(1)
  figure = checked(radii, {"one": curves["exact 0"], "another": curves["exact 0"]})
  assert len(figure.legends[0].get_texts()) == 2


def test_long_names_and_titles_are_not_cut_off():
  radii, curves = many(5, ["a name that says more than there is room for on half of a page"])
  checked(radii, curves, "a title in so many words that no figure is as wide as they are " * 2)


def test_names_hide_no_curve():
  figure = checked(*many(4))
  (axes,) = figure.axes
  assert len(axes.texts) == 4
  for text in axes.texts:
    low, high = np.reshape(Text.get_window_extent(text).extents, (2, 2))
    for line in axes.get_lines():
      points = labels.trace(line, 1.0)
      assert not ((points > low) & (points < high)).all(axis=1).any()


@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (3, 5), (6, 2)])
def test_noise_is_drawn_without_overlaps(grid):
  cells = grid[0] * grid[1]
  figures.check_texts(plots.noise_figure(np.linspace(0.1, 1, cells**2).reshape(-1, cells), grid))


def test_the_picture_draws_steps_and_attacks_that_hold(tmp_path, monkeypatch):
  options = ("--images", "1", "--budgets", "0,0.05,0.1", "--method", "milp")
  assert main([*SCENES, *options, "--out", str(tmp_path)]) == 0
  drawn_figures, whole_figure = [], picture.figure

  def figure(*args):
    drawn_figures.append(whole_figure(*args))
    return drawn_figures[-1]

  monkeypatch.setattr(picture, "figure", figure)
  picture.main([str(tmp_path), "--out", str(tmp_path)])
  axes = drawn_figures[0].axes[3]
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
