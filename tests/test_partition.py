import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_jax.cells import partition


@given(
  st.integers(1, 40).flatmap(lambda h: st.tuples(st.just(h), st.integers(1, h))),
  st.integers(1, 40).flatmap(lambda w: st.tuples(st.just(w), st.integers(1, w))),
)
def test_cells_are_rectangles_of_nearly_equal_size(rows, columns):
  (height, r), (width, q) = rows, columns
  grid = partition.image_grid((height, width), (r, q))
  assert grid.dtype == np.int32
  assert set(grid.flat) == set(range(r * q))
  for cell in range(r * q):
    inside = np.argwhere(grid == cell)
    extent = np.ptp(inside, axis=0) + 1
    assert extent.prod() == len(inside)  # a rectangle without holes
    assert extent[0] in (height // r, -(-height // r))
    assert extent[1] in (width // q, -(-width // q))


def test_cells_are_numbered_row_by_row():
  grid = partition.image_grid((2, 2), (2, 2))
  np.testing.assert_array_equal(grid, [[0, 1], [2, 3]])


@pytest.mark.parametrize("shape", [(0, 1), (1, 0), (5, 1), (1, 7)])
def test_a_grid_finer_than_the_image_is_refused(shape):
  with pytest.raises(ValueError, match=rf"4x6 pixels, but it is {shape[0]}x{shape[1]}"):
    partition.image_grid((4, 6), shape)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1, 1), (0, 1, 1), (1, 1, 8)])
def test_a_grid_of_a_volume_is_checked_as_well(shape):
  with pytest.raises(ValueError, match=rf"1x1x1 .* 4x6x7 pixels, .* {'x'.join(map(str, shape))}"):
    partition.image_grid((4, 6, 7), shape)


@pytest.mark.parametrize(
  ("shape", "grid"), [((7,), (3,)), ((5, 6, 7), (2, 3, 2)), ((2, 3, 4, 5), (2, 1, 3, 2))]
)
def test_cells_in_any_number_of_dimensions_are_products_of_intervals(shape, grid):
  cells = partition.image_grid(shape, grid)
  assert cells.dtype == np.int32
  for at in np.ndindex(shape):
    cell = [i * n // length for i, n, length in zip(at, grid, shape, strict=True)]
    assert cells[at] == np.ravel_multi_index(cell, grid)


def test_all_channels_of_a_pixel_share_its_cell():
  cells = partition.pixel_cells(partition.image_grid((4, 6), (2, 3)), channels=3)
  assert cells.shape == (4, 6, 3)
  assert (cells == cells[..., :1]).all()


@pytest.mark.parametrize("shape", [(5, 6), (9,), (3, 4, 5)])
def test_distances_between_pixels_are_the_least_of_all_pairs(shape):
  rng = np.random.default_rng(0)
  groups, cells = rng.integers(0, 3, shape), rng.integers(0, 4, shape)
  cells[cells == 1] = 0  # an empty cell
  at = np.argwhere(np.ones(shape, bool))
  apart = np.abs(at[:, None] - at[None]).max(axis=-1).astype(float)
  for g, row in enumerate(partition.pixel_distances(groups, cells)):
    for c, distance in enumerate(row):
      pairs = apart[np.ix_(groups.ravel() == g, cells.ravel() == c)]
      assert distance == pairs.min(initial=np.inf)
