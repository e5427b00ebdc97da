"""Cells: which coordinates share a noise level, and which outputs a distribution (host)."""

import numpy as np


def image_grid(image_shape: tuple[int, int], grid_shape: tuple[int, int]) -> np.ndarray:
  r"""Cuts an image into a grid of rectangular cells, whose sizes differ by at most one pixel.

  Pixel (i, j) of an image of H x W pixels lies in row :math:`\lfloor i R / H \rfloor` and column
  :math:`\lfloor j Q / W \rfloor` of a grid of R x Q cells, numbered row by row: the grid need not
  divide the image.

  Args:
    image_shape: (H, W), in pixels.
    grid_shape: (R, Q), in cells; each at most the image's.

  Returns:
    int32 [H, W], the cell of every pixel, in [0, R Q). Flattened, it is `groups` of a pixel-wise
    classifier; broadcast over the channels, `cells` of a smoothing distribution.

  Raises:
    ValueError: a grid finer than the image, or an empty one.

  Example:
    >>> image_grid((2, 5), (1, 2))
    array([[0, 0, 0, 1, 1],
           [0, 0, 0, 1, 1]], dtype=int32)

  References:
    Schuchardt et al. 2023 (arXiv 2210.16140), section 7.
  """
  (height, width), (rows, columns) = image_shape, grid_shape
  if not (1 <= rows <= height and 1 <= columns <= width):
    raise ValueError(
      f"`grid_shape` must lie between 1x1 and the image's {height}x{width} pixels, "
      f"but it is {rows}x{columns}."
    )
  row = np.arange(height) * rows // height
  column = np.arange(width) * columns // width
  return (row[:, None] * columns + column[None, :]).astype(np.int32)


def pixel_cells(grid: np.ndarray, channels: int) -> np.ndarray:
  """Gives all channels of a pixel the pixel's cell: [H, W] -> [H, W, channels].

  Example:
    >>> pixel_cells(image_grid((1, 2), (1, 2)), channels=3)
    array([[[0, 0, 0],
            [1, 1, 1]]], dtype=int32)
  """
  return np.repeat(grid[..., None], channels, axis=-1)
