r"""Smoothing distributions: how to sample them (device), what they certify (host).

Every distribution is anisotropic: group g of the outputs adds noise of its own level to each cell c
of the input. A level of infinity hides the cell from the group (a strictly local model), at no cost
in the certificate: its weight is 0 and the model sees a constant there.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy import special


class SmoothingDistribution(NamedTuple):
  """Anisotropic input noise and its base certificate: arrays, and pure functions of them.

  `draw` and `perturb` are module-level functions, the same for every level, so that a compiled
  sampling loop serves every distribution of a family: levels and cells are its arguments.
  """

  family: str  # the factory's name, enough to make the distribution again from its arrays
  scale: np.ndarray  # float64 [G, C]: noise level that group g adds to cell c; inf hides the cell
  cells: np.ndarray  # int32, shaped like x: the cell of every input coordinate
  draw: Callable[[jax.Array, jax.Array], jax.Array]  # device: (key, x) -> standard draw, like x
  perturb: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
  # device: (x, standard draw, level shaped like x) -> one noisy copy of x
  weights: np.ndarray  # float64 [A, G, C]: price of perturbing each cell, rounded up
  eta: Callable[[ArrayLike], np.ndarray]  # host: q_lower [N] -> eta [N], rounded down
  p: int  # exponent of |delta| in the certificate


def gaussian(scale: ArrayLike, cells: ArrayLike) -> SmoothingDistribution:
  r"""Anisotropic Gaussian noise, :math:`z_d \sim \mathcal{N}(x_d, \sigma_{g,c(d)}^2)` for group g.

  If output :math:`n` predicts its class with probability at least :math:`q_n > 1/2`, it survives
  every :math:`\delta` with :math:`\sum_c w_{g,c} \sum_{d \in c} \delta_d^2 < \eta_n`, where
  :math:`w_{g,c} = \sigma_{g,c}^{-2}` and :math:`\eta_n = \Phi^{-1}(q_n)^2`.

  Args:
    scale: standard deviations [G, C], in the units of the input; inf hides the cell.
    cells: int, shaped like the input x: the cell of every input coordinate.

  Returns:
    A `SmoothingDistribution` with p = 2.

  Raises:
    ValueError: a standard deviation that is not positive, or a cell index outside [0, C).

  Example:
    >>> gaussian([[0.5, 2.0]], [0, 1]).weights
    array([[[4.  , 0.25]]])

  References:
    Cohen et al. 2019 (arXiv 1902.02918), theorem 1, after rescaling each coordinate by its
    standard deviation; Schuchardt et al. 2023 (arXiv 2210.16140), proposition 4.1 and section 6.
  """
  scale, cells = _levels_and_cells(scale, cells)
  if not (scale > 0).all():
    raise ValueError(f"`scale` must be positive, but its minimum is {scale.min()}.")
  weights = (1 / scale**2)[None]
  return SmoothingDistribution(
    "gaussian", scale, cells, _draw_normal, _add_scaled, weights, _eta_gaussian, p=2
  )


def _draw_normal(key: jax.Array, x: jax.Array) -> jax.Array:
  return jax.random.normal(key, x.shape, x.dtype)


def _add_scaled(x: jax.Array, standard: jax.Array, level: jax.Array) -> jax.Array:
  return jnp.where(jnp.isinf(level), jnp.zeros_like(x), x + level * standard)


def _eta_gaussian(q_lower: ArrayLike) -> np.ndarray:
  return special.ndtri(np.clip(np.asarray(q_lower, np.float64), 0.5, 1.0)) ** 2


def _levels_and_cells(scale: ArrayLike, cells: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  scale, cells = np.asarray(scale, np.float64), np.asarray(cells)
  if scale.ndim != 2:
    raise ValueError(f"`scale` must have shape [G, C], but its shape is {scale.shape}.")
  if cells.size and (cells.min() < 0 or cells.max() >= scale.shape[1]):
    raise ValueError(
      f"`cells` must lie in [0, C) with C = {scale.shape[1]} cells in `scale`, "
      f"but they range from {cells.min()} to {cells.max()}."
    )
  return scale, cells.astype(np.int32)
