r"""Noise scales from distances between cells: little noise nearby, much far away (host).

A scale is built in three steps: distances [G, C], their fraction of the farthest cell, and the
interpolation of the noise level over that fraction.
"""

import numpy as np
from jax.typing import ArrayLike


def chebyshev_distances(grid_shape: tuple[int, ...]) -> np.ndarray:
  r"""Chebyshev distances between the cells of a grid, float64 [G, C] with G = C, in cells.

  :math:`d_{g,c} = \max(|r_g - r_c|, |q_g - q_c|)` for cells in rows r and columns q of a grid of
  shape (R, Q), numbered as by `partition.image_grid`, and so in any number of dimensions.

  Example:
    >>> chebyshev_distances((1, 3))
    array([[0., 1., 2.],
           [1., 0., 1.],
           [2., 1., 0.]])

  References: Schuchardt et al. 2023 (arXiv 2210.16140), section 7.
  """
  cells = np.indices(grid_shape).reshape(len(grid_shape), -1)
  return np.abs(cells[:, :, None] - cells[:, None]).max(axis=0).astype(np.float64)


def fraction_of_grid(distances: ArrayLike) -> np.ndarray:
  r"""Distances relative to the largest in the grid, :math:`d_{g,c} / \max_{g',c'} d_{g',c'}`.

  Only groups at the grid's ends reach 1: noise depends on the distance alone.

  Example:
    >>> fraction_of_grid(chebyshev_distances((1, 3)))[1]
    array([0.5, 0. , 0.5])
  """
  return _fraction(distances, axis=None)


def fraction_of_border(distances: ArrayLike) -> np.ndarray:
  r"""Distances relative to each group's farthest cell, :math:`d_{g,c} / \max_{c'} d_{g,c'}`.

  Every group reaches 1, at the border of the image that is farthest from it.

  Example:
    >>> fraction_of_border(chebyshev_distances((1, 3)))[1]
    array([1., 0., 1.])
  """
  return _fraction(distances, axis=1)


def interpolate_std(fraction: ArrayLike, low: float, high: float) -> np.ndarray:
  r"""Noise scale linear in the fraction, :math:`s = s_{low} + (s_{high} - s_{low}) f`.

  The fraction is [G, C], in [0, 1]; low and high are in the units of the input. Unless 0 < low <=
  high < inf, there is a `ValueError`.

  Example:
    >>> interpolate_std([[0.0, 0.5, 1.0]], 0.2, 1.0)
    array([[0.2, 0.6, 1. ]])
  """
  _check_range(low, high)
  return low + (high - low) * np.asarray(fraction, np.float64)


def interpolate_variance(fraction: ArrayLike, low: float, high: float) -> np.ndarray:
  r"""Noise scale whose square is linear, :math:`s^2 = s_{low}^2 + (s_{high}^2 - s_{low}^2) f`.

  Arguments, result and errors as in `interpolate_std`.

  Example:
    >>> interpolate_variance([[0.0, 0.5, 1.0]], 0.2, 1.0).round(4)
    array([[0.2   , 0.7211, 1.    ]])
  """
  _check_range(low, high)
  return np.sqrt(low**2 + (high**2 - low**2) * np.asarray(fraction, np.float64))


def own_color(num_colors: int, low: float, high: float) -> np.ndarray:
  """Noise scales of cells of some colors: low in a field's own color, high in others, [K, K].

  Unless 0 < low <= high < inf, there is a `ValueError`.

  Example:
    >>> own_color(2, 0.3, 0.6)
    array([[0.3, 0.6],
           [0.6, 0.3]])
  """
  _check_range(low, high)
  return np.where(np.eye(num_colors, dtype=bool), low, high)


def hide_beyond(scale: ArrayLike, distances: ArrayLike, reach: float) -> np.ndarray:
  """Hides the cells farther than `reach` from the group, for strictly local models: scale = inf.

  Scale and distances are [G, C]; `reach`, in units of the latter, is the farthest that is seen.

  Example:
    >>> hide_beyond([[0.2, 0.6, 1.0]], [[0, 1, 2]], reach=1)
    array([[0.2, 0.6, inf]])
  """
  return np.where(np.asarray(distances) > reach, np.inf, np.asarray(scale, np.float64))


def _fraction(distances: ArrayLike, axis: int | None) -> np.ndarray:
  distances = np.asarray(distances, np.float64)
  largest = distances.max(axis=axis, keepdims=True, initial=0.0)
  return np.divide(distances, largest, out=np.zeros_like(distances), where=largest > 0)


def _check_range(low: float, high: float) -> None:
  if not 0 < low <= high < np.inf:
    raise ValueError(
      f"noise scales must satisfy 0 < low <= high < inf, but low is {low} and high is {high}."
    )
