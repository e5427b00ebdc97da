"""Cells: which coordinates share a noise level, and which outputs a distribution (host)."""

import numpy as np
from scipy import ndimage


def image_grid(image_shape: tuple[int, ...], grid_shape: tuple[int, ...]) -> np.ndarray:
  r"""Cuts an image or a volume into a grid of cells, whose sizes differ by at most one pixel.

  Pixel (i, j) of an image of H x W pixels lies in row :math:`\lfloor i R / H \rfloor` and column
  :math:`\lfloor j Q / W \rfloor` of a grid of R x Q cells, numbered row by row: the grid need not
  divide the image. So it is with the voxels of a volume, and in any number of dimensions.

  Returns:
    int32, shaped like the image, the cell of every pixel, in [0, R Q). Flattened, it is `groups` of
    a pixel-wise classifier; broadcast over the channels, `cells` of a smoothing distribution.

  Raises:
    ValueError: a grid finer than the image, an empty one, or one of another number of dimensions.

  Example:
    >>> image_grid((2, 5), (1, 2))
    array([[0, 0, 0, 1, 1],
           [0, 0, 0, 1, 1]], dtype=int32)

  References: Schuchardt et al. 2023 (arXiv 2210.16140), section 7.
  """
  image_shape, grid_shape = tuple(image_shape), tuple(grid_shape)
  if len(image_shape) != len(grid_shape) or not all(
    1 <= cells <= pixels for cells, pixels in zip(grid_shape, image_shape, strict=True)
  ):
    least, most, given = (
      "x".join(map(str, shape)) for shape in ((1,) * len(image_shape), image_shape, grid_shape)
    )
    raise ValueError(
      f"`grid_shape` must lie between {least} and the image's {most} pixels, but it is {given}."
    )
  grid = np.zeros(image_shape, np.int32)
  at = np.ogrid[tuple(slice(pixels) for pixels in image_shape)]
  for along, pixels, cells in zip(at, image_shape, grid_shape, strict=True):
    grid = grid * cells + along * cells // pixels
  return grid.astype(np.int32)


def coloring(grid_shape: tuple[int, ...], colors: tuple[int, ...]) -> np.ndarray:
  r"""Colors the cells of a grid so that those of one color lie apart.

  Cell (r, q) gets color :math:`(r \bmod a) b + (q \bmod b)` of a x b, and so in any number of
  dimensions. Outputs in cells of one color can share a field of noise: little in these cells, more
  in all others, a pass per color instead of one per cell.

  Returns:
    int32 [R, Q], in [0, a b).

  Raises:
    ValueError: `colors` is not one number >= 1 for every axis.

  Example:
    >>> coloring((2, 5), (2, 2))
    array([[0, 1, 0, 1, 0],
           [2, 3, 2, 3, 2]], dtype=int32)
  """
  if len(colors) != len(grid_shape) or min(colors, default=1) < 1:
    raise ValueError(f"`colors` must be {len(grid_shape)} numbers >= 1, but they are {colors}.")
  found = np.zeros(grid_shape, np.int32)
  at = np.ogrid[tuple(slice(size) for size in grid_shape)]
  for place, number in zip(at, colors, strict=True):
    found = found * number + place % number
  return found.astype(np.int32)


def colored_grid(
  image_shape: tuple[int, ...], grid_shape: tuple[int, ...], colors: tuple[int, ...]
) -> np.ndarray:
  """The color of every pixel's cell in an `image_grid`: int32 [H, W]; errors as of both.

  Example:
    >>> colored_grid((2, 6), (1, 3), (1, 2))
    array([[0, 0, 1, 1, 0, 0],
           [0, 0, 1, 1, 0, 0]], dtype=int32)
  """
  return coloring(grid_shape, colors).reshape(-1)[image_grid(image_shape, grid_shape)]


def windows(groups: np.ndarray, alignment: int = 1) -> tuple[np.ndarray, tuple[int, int]]:
  """Windows of one size, one per group, that hold the group's outputs.

  Of the group of every output, int [H, W], where every group in [0, G) has some, it makes int32
  [G, 2], the row and column where each window starts, multiples of `alignment`, and their common
  size (h, w). On the right and below, a window leaves the frame by less than `alignment`.

  Example:
    >>> windows(image_grid((2, 5), (1, 2)), alignment=2)
    (array([[0, 0],
           [0, 2]], dtype=int32), (2, 3))
  """
  starts, ends = np.zeros((2, groups.max() + 1, 2), np.int64)
  for group in range(len(starts)):
    inside = np.argwhere(groups == group)
    starts[group], ends[group] = inside.min(axis=0), inside.max(axis=0) + 1
  starts -= starts % alignment
  size = (ends - starts).max(axis=0)
  last = groups.shape - size + alignment - 1
  starts = np.minimum(starts, last - last % alignment)
  return starts.astype(np.int32), (int(size[0]), int(size[1]))


def pixel_distances(groups: np.ndarray, cells: np.ndarray) -> np.ndarray:
  """Chebyshev distances between the nearest pixels of every group and every cell, in pixels.

  A network that sees no farther than a number of pixels loses nothing if cells at a greater
  distance are hidden from the group: `locality.hide_beyond` with these distances, float64 [G, C],
  which are 0 where the two overlap and inf where one is empty. Groups and cells of every pixel are
  int [H, W], or of any number of dimensions, in [0, G) and [0, C).

  Example:
    >>> grid = image_grid((2, 6), (1, 3))
    >>> pixel_distances(grid, grid)
    array([[0., 1., 3.],
           [1., 0., 1.],
           [3., 1., 0.]])
  """
  distances = np.full((groups.max() + 1, cells.max() + 1), np.inf)
  for group, row in enumerate(distances):
    if (groups == group).any():
      away = ndimage.distance_transform_cdt(groups != group, metric="chessboard")
      np.minimum.at(row, cells, away)
  return distances


def pixel_cells(grid: np.ndarray, channels: int) -> np.ndarray:
  """Gives all channels of a pixel the pixel's cell: [..., H, W] -> [..., H, W, channels].

  Example:
    >>> pixel_cells(image_grid((1, 2), (1, 2)), channels=3)
    array([[[0, 0, 0],
            [1, 1, 1]]], dtype=int32)
  """
  return np.repeat(grid[..., None], channels, axis=-1)
