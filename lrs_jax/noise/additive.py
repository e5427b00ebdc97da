r"""Noise that is added to the input: Gaussian, uniform, Laplace."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lrs_jax.noise import draws, eta, tails
from lrs_jax.noise.distributions import Family, SmoothingDistribution, check_levels


def gaussian(scale: ArrayLike, cells: ArrayLike) -> SmoothingDistribution:
  r"""Anisotropic Gaussian noise, :math:`z_d \sim \mathcal{N}(x_d, \sigma_{g,c(d)}^2)`; p = 2.

  An output of group g that predicts its class with probability at least :math:`q_n > 1/2` survives
  every :math:`\delta` with :math:`\sum_c w_{g,c} \sum_{d \in c} \delta_d^2 < \eta_n`, where
  :math:`w_{g,c} = \sigma_{g,c}^{-2}` and :math:`\eta_n = \Phi^{-1}(q_n)^2`.

  Args:
    scale: standard deviations [G, C], in the units of the input; inf hides the cell.
    cells: int, shaped like the input x: the cell of every coordinate, by any partition of them.

  Raises:
    ValueError: a standard deviation that is not positive, or a cell index outside [0, C).

  Example:
    >>> gaussian([[0.5, 2.0]], [0, 1]).weights
    array([[[4.  , 0.25]]])

  References:
    Cohen et al. 2019 (arXiv 1902.02918), theorem 1, after rescaling each coordinate by its
    standard deviation; Schuchardt et al. 2023 (arXiv 2210.16140), proposition 4.1 and section 6.
  """
  return _location_scale(GAUSSIAN, scale, cells)


def uniform(scale: ArrayLike, cells: ArrayLike) -> SmoothingDistribution:
  r"""Anisotropic uniform noise, :math:`z_d \sim \mathcal{U}(x_d - \lambda, x_d + \lambda)`; p = 1.

  :math:`w_{g,c} = 1/\lambda_{g,c}` and :math:`\eta_n = 2 q_n - 1`: the total variation distance
  between the noise at x and at :math:`x + \delta` is at most :math:`\sum_d |\delta_d| / 2\lambda`.
  `scale` are half-widths lambda; units, shapes, hidden cells and errors are as of `gaussian`.

  Example:
    >>> uniform([[0.5, 2.0]], [0, 1]).eta([0.5, 0.75])
    array([0. , 0.5])

  References: Yang et al. 2020 (arXiv 2002.08118), section 4, the uniform distribution against l1.
  """
  return _location_scale(UNIFORM, scale, cells)


def laplace(scale: ArrayLike, cells: ArrayLike) -> SmoothingDistribution:
  r"""Anisotropic Laplace noise, of a density :math:`\propto e^{-|z_d - x_d| / s_{g,c(d)}}`; p = 1.

  :math:`w_{g,c} = 1/s_{g,c}` and :math:`\eta_n = -\ln(2(1 - q_n))`. `scale` is s; units, shapes,
  hidden cells and errors are as of `gaussian`.

  Example:
    >>> laplace([[0.5, 2.0]], [0, 1]).weights
    array([[[2. , 0.5]]])

  References:
    Teng et al. 2020, "l1 adversarial robustness certificates: a randomized smoothing approach",
    theorem 1. Variance: Schuchardt et al. 2023 (arXiv 2210.16140), appendix F, with
    :math:`\tfrac23 e^t + \tfrac13 e^{-2t} \le e^t`.
  """
  return _location_scale(LAPLACE, scale, cells)


def _location_scale(family: Family, scale: ArrayLike, cells: ArrayLike) -> SmoothingDistribution:
  scale, cells = check_levels("scale", scale, cells)
  hidden = np.isinf(scale)
  if not ((scale >= 1e-30) & ((scale <= 1e30) | hidden)).all():
    raise ValueError(
      "`scale` must be positive, between 1e-30 and 1e30, or inf to hide a cell, "
      f"but it ranges from {scale.min()} to {scale.max()}."
    )
  level = scale.astype(np.float32)
  level = np.where(level < scale, np.nextafter(level, np.float32(np.inf)), level)
  weights = np.where(hidden, 0.0, eta.round_up(1 / scale**family.p))[None]
  return SmoothingDistribution(family, (scale,), level, cells, weights)


def _add_scaled(x: jax.Array, standard: jax.Array, level: jax.Array) -> jax.Array:
  # The sum is formed in float32: with narrower inputs it is rounded once, to their type.
  noisy = (x.astype(jnp.float32) + level * standard).astype(x.dtype)
  return jnp.where(jnp.isinf(level), jnp.zeros_like(x), noisy)


def _draw(standard: Callable, key: jax.Array, x: jax.Array, cells: jax.Array) -> jax.Array:
  return standard(key, x.shape)


def _family(
  name: str,
  title: str,
  p: int,
  standard: Callable[..., jax.Array],
  tail: tails.Tail,
  of_votes: Callable[..., np.ndarray],
  of_scores: Callable[..., np.ndarray],
  margin: Callable[..., np.ndarray] | None = None,
) -> Family:
  return Family(
    name=name,
    parameters=("scale",),
    titles=(title,),
    hidden=(np.inf,),
    p=p,
    kinds=("epsilon",),
    perturbations=f"Every delta added to the input with ||delta||_{p} <= epsilon, over all cells "
    "together.",
    draw=partial(_draw, standard),
    perturb=_add_scaled,
    eta=of_votes,
    eta_soft=partial(of_scores, of_votes),
    margin=margin,
    tail=tail,
  )


GAUSSIAN = _family(
  "gaussian",
  "standard deviation",
  2,
  draws.normal,
  tails.GAUSSIAN,
  eta.gaussian,
  eta.better,
  eta.gaussian_margin,
)
UNIFORM = _family(
  "uniform", "half-width", 1, draws.uniform, tails.UNIFORM, eta.uniform, eta.mean_alone
)
LAPLACE = _family("laplace", "scale", 1, draws.laplace, tails.LAPLACE, eta.laplace, eta.better)
