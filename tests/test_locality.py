import numpy as np
import pytest

from lrs_jax.cells import locality


def test_chebyshev_distance_equals_its_definition():
  distances = locality.chebyshev_distances((3, 5))
  for g in range(15):
    for c in range(15):
      assert distances[g, c] == max(abs(g // 5 - c // 5), abs(g % 5 - c % 5))


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (2, 1, 3, 2)])
def test_chebyshev_distances_in_any_number_of_dimensions(shape):
  cells = list(np.ndindex(shape))  # as `partition.image_grid` numbers them
  wanted = [[max(abs(i - j) for i, j in zip(g, c, strict=True)) for c in cells] for g in cells]
  np.testing.assert_array_equal(locality.chebyshev_distances(shape), wanted)


def test_only_the_grids_ends_reach_the_largest_distance_in_it():
  fraction = locality.fraction_of_grid(locality.chebyshev_distances((3, 5)))
  assert fraction.max() == 1
  assert fraction[7].max() == 0.5  # the center's farthest cell is 2 of 4 away
  assert (np.diagonal(fraction) == 0).all()


def test_every_group_reaches_its_farthest_border():
  fraction = locality.fraction_of_border(locality.chebyshev_distances((3, 5)))
  assert (fraction.max(axis=1) == 1).all()


@pytest.mark.parametrize("fractions", [locality.fraction_of_grid, locality.fraction_of_border])
def test_one_cell_is_at_fraction_zero(fractions):
  np.testing.assert_array_equal(fractions(locality.chebyshev_distances((1, 1))), [[0]])


@pytest.mark.parametrize("interpolate", [locality.interpolate_std, locality.interpolate_variance])
def test_interpolation_runs_from_low_to_high(interpolate):
  scale = interpolate(np.linspace(0, 1, 11)[None], 0.2, 1.0)
  assert scale[0, 0] == pytest.approx(0.2)
  assert scale[0, -1] == pytest.approx(1.0)
  assert (np.diff(scale) > 0).all()
  np.testing.assert_allclose(interpolate([[0.0, 1.0]], 0.3, 0.3), 0.3)


def test_interpolation_is_linear_in_what_it_says():
  fraction = np.linspace(0, 1, 11)[None]
  assert np.ptp(np.diff(locality.interpolate_std(fraction, 0.2, 1.0))) < 1e-12
  assert np.ptp(np.diff(locality.interpolate_variance(fraction, 0.2, 1.0) ** 2)) < 1e-12


@pytest.mark.parametrize("low_high", [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, np.inf)])
@pytest.mark.parametrize("interpolate", [locality.interpolate_std, locality.interpolate_variance])
def test_a_range_that_is_none_is_refused(interpolate, low_high):
  with pytest.raises(ValueError, match=r"0 < low <= high < inf"):
    interpolate([[0.0]], *low_high)


def test_hidden_cells_are_those_beyond_the_reach():
  distances = locality.chebyshev_distances((3, 5))
  scale = locality.hide_beyond(np.ones((15, 15)), distances, reach=1)
  np.testing.assert_array_equal(np.isinf(scale), distances > 1)
