r"""Smoothing distributions: how to sample them (device), what they certify (host).

Every distribution is anisotropic: group g of the outputs perturbs each cell c of the input at a
level of its own. A level at which nothing of the input is left hides the cell from the group (a
strictly local model), at no cost in the certificate: its weight is 0 and the model sees a constant
there. That level is `inf` for Gaussian, uniform and Laplace noise, :math:`\rho = 1` for ablation
and :math:`(\theta_+, \theta_-) = (0, 1)` for flips.

The noise and the weights come from the same arrays. What a device can represent (float32 levels,
probabilities that are multiples of :math:`2^{-32}`) is rounded to the noisier side, so that the
weights of the stated level hold for what is drawn.

=========  ===  =======================================================
family     p    weights
=========  ===  =======================================================
gaussian   2    :math:`1/\sigma^2`
uniform    1    :math:`1/\lambda`
laplace    1    :math:`1/s`
ablation   0    :math:`-\ln\rho`
flips      0    :math:`\ln(1 + \chi^2)`, for additions and for deletions
=========  ===  =======================================================
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lrs_jax.noise import draws, eta


class SmoothingDistribution(NamedTuple):
  """Anisotropic input noise and its base certificate: arrays, and pure functions of them.

  `draw` and `perturb` are module-level functions, the same for every level, so that a compiled
  sampling loop serves every distribution of a family: levels and cells are its arguments.
  """

  family: str  # the factory's name: with `scale` and `cells` it makes the distribution again
  scale: Any  # float64 [G, C], or a tuple of such: the level at which group g perturbs cell c
  levels: Any  # the same as the device uses it: pytree of arrays [G, C]
  cells: np.ndarray  # int32: the cell of every input coordinate; axes of size 1 are broadcast to x
  draw: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
  # device: (key, x, cells) -> standard draw, which all groups of a sample may share
  perturb: Callable[[jax.Array, jax.Array, Any], jax.Array]
  # device: (x, standard draw, level = levels[g, cells]) -> one noisy copy of x
  weights: np.ndarray  # float64 [A, G, C]: price of perturbing each cell, rounded up
  eta: Callable[[ArrayLike], np.ndarray]  # host: q_lower [N] -> eta [N], rounded down
  eta_soft: Callable[[ArrayLike, ArrayLike], np.ndarray]
  # host: (lower bound on the mean score, upper bound on its variance) [N] -> eta [N]
  p: int  # exponent of |delta| in the certificate; 0 counts changed entries


def sample(
  key: jax.Array, noise: SmoothingDistribution, x: jax.Array, group: ArrayLike
) -> jax.Array:
  """One noisy copy of x, as the outputs of a group see it (device).

  Args:
    key: typed key. Groups that are given the same key share their standard draw.
    noise: smoothing distribution.
    x: one input, of a floating-point type; float64 is rounded to float32 (`as_input`).
    group: int, may be traced.

  Returns:
    Like x.

  Example:
    >>> noise = gaussian([[0.5, np.inf]], cells=[0, 1])
    >>> sample(jax.random.key(0), noise, jnp.ones(2), 0)
    Array([1.1583..., 0.       ], dtype=float32)
  """
  x, cells = as_input(x), jnp.asarray(noise.cells)
  level = level_at(jax.tree.map(jnp.asarray, noise.levels), cells, group)
  return noise.perturb(x, noise.draw(key, x, cells), level)


def as_input(x: ArrayLike) -> jax.Array:
  """An input as noise is added to it: float64 is rounded to float32 (device).

  Draws are float32. Under `JAX_ENABLE_X64` the low bits of a float64 input would pass through the
  noise untouched, for a model to read; no certificate allows for that. What is certified is the
  rounded input, whatever the flag says.

  Args:
    x: one input.

  Returns:
    x, or x in float32.

  Example:
    >>> as_input(np.ones(1, np.float64)).dtype, as_input(jnp.ones(1, jnp.bfloat16)).dtype
    (dtype('float32'), dtype(bfloat16))
  """
  x = jnp.asarray(x)
  return x.astype(jnp.float32) if x.dtype == jnp.float64 else x


def level_at(levels: Any, cells: jax.Array, group: ArrayLike) -> Any:
  """The level of every coordinate for one group, `levels[group][cells]` (device).

  Args:
    levels: pytree of arrays [G, C].
    cells: int32.
    group: int, may be traced.

  Returns:
    Pytree of arrays shaped like `cells`.

  Example:
    >>> level_at(jnp.asarray([[0.1, 0.2]]), jnp.asarray([1, 0, 0]), 0)
    Array([0.2, 0.1, 0.1], dtype=float32)
  """
  return jax.tree.map(lambda level: level[group][cells], levels)


def gaussian(scale: ArrayLike, cells: ArrayLike) -> SmoothingDistribution:
  r"""Anisotropic Gaussian noise, :math:`z_d \sim \mathcal{N}(x_d, \sigma_{g,c(d)}^2)` for group g.

  If output :math:`n` predicts its class with probability at least :math:`q_n > 1/2`, it survives
  every :math:`\delta` with :math:`\sum_c w_{g,c} \sum_{d \in c} \delta_d^2 < \eta_n`, where
  :math:`w_{g,c} = \sigma_{g,c}^{-2}` and :math:`\eta_n = \Phi^{-1}(q_n)^2`.

  Args:
    scale: standard deviations [G, C], in the units of the input; inf hides the cell.
    cells: int, shaped like the input x: the cell of every input coordinate. Any index will do: per
      pixel, channel or entry.

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
  return _location_scale("gaussian", scale, cells, _draw_normal, 2, eta.gaussian, eta.better)


def uniform(scale: ArrayLike, cells: ArrayLike) -> SmoothingDistribution:
  r"""Anisotropic uniform noise, :math:`z_d \sim \mathcal{U}(x_d - \lambda, x_d + \lambda)`.

  :math:`w_{g,c} = 1/\lambda_{g,c}` and :math:`\eta_n = 2 q_n - 1`: the total variation distance
  between the noise at x and at :math:`x + \delta` is at most :math:`\sum_d |\delta_d| / 2\lambda`.

  Args:
    scale: half-widths lambda [G, C], in the units of the input; inf hides the cell.
    cells: int, shaped like the input x.

  Returns:
    A `SmoothingDistribution` with p = 1.

  Raises:
    ValueError: a half-width that is not positive, or a cell index outside [0, C).

  Example:
    >>> uniform([[0.5, 2.0]], [0, 1]).eta([0.5, 0.75])
    array([0. , 0.5])

  References:
    Yang et al. 2020 (arXiv 2002.08118), section 4, the uniform distribution against l1.
  """
  return _location_scale("uniform", scale, cells, _draw_uniform, 1, eta.uniform, eta.mean_alone)


def laplace(scale: ArrayLike, cells: ArrayLike) -> SmoothingDistribution:
  r"""Anisotropic Laplace noise, of density proportional to :math:`e^{-|z_d - x_d| / s_{g,c(d)}}`.

  :math:`w_{g,c} = 1/s_{g,c}` and :math:`\eta_n = -\ln(2(1 - q_n))`.

  Args:
    scale: s [G, C], in the units of the input; inf hides the cell.
    cells: int, shaped like the input x.

  Returns:
    A `SmoothingDistribution` with p = 1.

  Raises:
    ValueError: a scale that is not positive, or a cell index outside [0, C).

  Example:
    >>> laplace([[0.5, 2.0]], [0, 1]).weights
    array([[[2. , 0.5]]])

  References:
    Teng et al. 2020, "l1 adversarial robustness certificates: a randomized smoothing approach",
    theorem 1. Variance: Schuchardt et al. 2023 (arXiv 2210.16140), appendix F, with
    :math:`\tfrac23 e^t + \tfrac13 e^{-2t} \le e^t`.
  """
  return _location_scale("laplace", scale, cells, _draw_laplace, 1, eta.laplace, eta.better)


def ablation(rho: ArrayLike, cells: ArrayLike, *, fill: float = 0.0) -> SmoothingDistribution:
  r"""Each entry of cell c is hidden from group g with probability :math:`\rho_{g,c}`.

  :math:`w_{g,c} = -\ln \rho_{g,c}` and :math:`\eta_n = -\ln(3/2 - q_n)`: the output can only change
  while a perturbed entry is visible, which has probability :math:`1 - \prod_d \rho_d`. Budgets
  count perturbed entries.

  An entry is an element of `cells`. With x of shape [H, W, 3], `cells` of shape [H, W, 1] hides all
  channels of a pixel together, and `cells` of shape [H, W, 3] each channel by itself. A hidden
  entry shows `fill` to the model, which therefore sees that it is hidden if no visible entry has
  that value: the mean keeps hidden entries unremarkable, a value outside the data's range (also
  nan, for a model that looks for it) marks them. The certificate is the same.

  Args:
    rho: [G, C], in (0, 1); 1 hides the cell.
    cells: int, with as many axes as the input x, each of x's size or 1.
    fill: what the model sees of a hidden entry.

  Returns:
    A `SmoothingDistribution` with p = 0.

  Raises:
    ValueError: a probability outside (0, 1], or a cell index outside [0, C).

  Example:
    >>> ablation([[0.5, 1.0]], [0, 1]).weights
    array([[[0.69314718, 0.        ]]])

  References:
    Levine & Feizi 2020 (arXiv 1911.09272), theorem 1, with independent entries.
  """
  rho, cells = _levels_and_cells("rho", rho, cells)
  if not ((rho > 0) & (rho <= 1)).all():
    raise ValueError(f"`rho` must lie in (0, 1], but it ranges from {rho.min()} to {rho.max()}.")
  threshold = draws.threshold(rho, up=np.full(rho.shape, True))
  levels = threshold, np.full(rho.shape, fill, np.float32)
  weights = 0.0 - np.log(np.minimum(rho, draws.probability(threshold)))[None]
  return SmoothingDistribution(
    "ablation",
    rho,
    levels,
    cells,
    _draw_bits_per_entry,
    _hide,
    eta.round_up(weights),
    eta.ablation,
    partial(eta.mean_alone, eta.ablation),
    p=0,
  )


def flips(theta_plus: ArrayLike, theta_minus: ArrayLike, cells: ArrayLike) -> SmoothingDistribution:
  r"""Binary entries flip: 0 to 1 with probability theta_plus, 1 to 0 with probability theta_minus.

  An addition (0 to 1) in the attack costs :math:`w^0_{g,c} = \ln(1 + t^2 / (\theta_+(1-\theta_+)))`
  and a deletion :math:`w^1_{g,c} = \ln(1 + t^2 / (\theta_-(1-\theta_-)))`, with
  :math:`t = 1 - \theta_+ - \theta_-`, which is
  :math:`\ln((1-\theta_-)^2/\theta_+ + \theta_-^2/(1-\theta_+))` and its mirror image. A vote is an
  indicator, of variance q(1 - q): :math:`\eta_n = -\ln(4 q_n (1 - q_n))`.

  Theta_plus = 0 makes additions infinitely expensive (one of them counts as an attack), theta_minus
  = 0 deletions. Of x it is only seen whether an entry is 0; noisy entries are 0 or 1.

  Args:
    theta_plus: [G, C], in [0, 1).
    theta_minus: [G, C], in [0, 1); with theta_plus = 0, theta_minus = 1 hides the cell, which then
      shows 0.
    cells: int, shaped like the input x.

  Returns:
    A `SmoothingDistribution` with p = 0 and A = 2 kinds: additions, then deletions.

  Raises:
    ValueError: a probability outside [0, 1), or a cell index outside [0, C).

  Example:
    >>> flips([[0.5, 0.0]], [[0.25, 0.5]], [0, 1]).weights
    array([[[0.22314355,        inf]],
    <BLANKLINE>
           [[0.28768207, 0.69314718]]])

  References:
    Bojchevski et al. 2020 (arXiv 2008.12952) for the noise; Schuchardt et al. 2023 (arXiv
    2210.16140), proposition 4.3 and appendix F, for the certificate (there the variance enters
    squared in the published code; here to the first power).
  """
  plus, cells = _levels_and_cells("theta_plus", theta_plus, cells)
  minus, _ = _levels_and_cells("theta_minus", theta_minus, cells)
  if plus.shape != minus.shape:
    raise ValueError(
      "`theta_plus` and `theta_minus` must have one shape [G, C], "
      f"but they have {plus.shape} and {minus.shape}."
    )
  hidden = (plus == 0) & (minus == 1)
  for name, theta in (("theta_plus", plus), ("theta_minus", minus)):
    if not (hidden | (theta >= 0) & (theta < 1)).all():
      raise ValueError(
        f"`{name}` must lie in [0, 1) (theta_plus = 0 with theta_minus = 1 hides a cell), "
        f"but it ranges from {theta.min()} to {theta.max()}."
      )
  up = plus + minus < 1  # towards theta_plus + theta_minus = 1, where nothing is left of the input
  levels = draws.threshold(plus, up), draws.threshold(minus, up)
  drawn = _flip_weights(*(draws.probability(threshold) for threshold in levels))
  weights = np.maximum(_flip_weights(plus, minus), drawn)
  weights = np.where(hidden, 0.0, weights)
  return SmoothingDistribution(
    "flips",
    (plus, minus),
    levels,
    cells,
    _draw_bits,
    _flip,
    weights,
    eta.flips,
    eta.variance,
    p=0,
  )


def _location_scale(
  family: str,
  scale: ArrayLike,
  cells: ArrayLike,
  draw: Callable,
  p: int,
  of_votes: Callable,
  of_scores: Callable,
) -> SmoothingDistribution:
  scale, cells = _levels_and_cells("scale", scale, cells)
  hidden = np.isinf(scale)
  if not ((scale >= 1e-30) & ((scale <= 1e30) | hidden)).all():
    raise ValueError(
      "`scale` must be positive, between 1e-30 and 1e30, or inf to hide a cell, "
      f"but it ranges from {scale.min()} to {scale.max()}."
    )
  level = scale.astype(np.float32)
  level = np.where(level < scale, np.nextafter(level, np.float32(np.inf)), level)
  weights = np.where(hidden, 0.0, eta.round_up(1 / scale**p))[None]
  return SmoothingDistribution(
    family,
    scale,
    level,
    cells,
    draw,
    _add_scaled,
    weights,
    of_votes,
    partial(of_scores, of_votes),
    p,
  )


def _levels_and_cells(
  name: str, level: ArrayLike, cells: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
  level, cells = np.asarray(level, np.float64), np.asarray(cells)
  if level.ndim != 2:
    raise ValueError(f"`{name}` must have shape [G, C], but its shape is {level.shape}.")
  if not np.issubdtype(cells.dtype, np.integer) and cells.size:
    raise ValueError(f"`cells` must be integers, but their type is {cells.dtype}.")
  if cells.size and (cells.min() < 0 or cells.max() >= level.shape[1]):
    raise ValueError(
      f"`cells` must lie in [0, C) with C = {level.shape[1]} cells in `{name}`, "
      f"but they range from {cells.min()} to {cells.max()}."
    )
  return level, cells.astype(np.int32)


# Draws and perturbations (device).


def _draw_normal(key: jax.Array, x: jax.Array, cells: jax.Array) -> jax.Array:
  return draws.normal(key, x.shape)


def _draw_uniform(key: jax.Array, x: jax.Array, cells: jax.Array) -> jax.Array:
  return draws.uniform(key, x.shape)


def _draw_laplace(key: jax.Array, x: jax.Array, cells: jax.Array) -> jax.Array:
  return draws.laplace(key, x.shape)


def _draw_bits(key: jax.Array, x: jax.Array, cells: jax.Array) -> jax.Array:
  return draws.bits(key, x.shape)


def _draw_bits_per_entry(key: jax.Array, x: jax.Array, cells: jax.Array) -> jax.Array:
  return draws.bits(key, cells.shape)


def _add_scaled(x: jax.Array, standard: jax.Array, level: jax.Array) -> jax.Array:
  # The sum is formed in float32: with narrower inputs it is rounded once, to their type.
  noisy = (x.astype(jnp.float32) + level * standard).astype(x.dtype)
  return jnp.where(jnp.isinf(level), jnp.zeros_like(x), noisy)


def _hide(x: jax.Array, words: jax.Array, level: tuple[jax.Array, jax.Array]) -> jax.Array:
  threshold, fill = level
  return jnp.where(draws.below(words, threshold), fill.astype(x.dtype), x)


def _flip(x: jax.Array, words: jax.Array, level: tuple[jax.Array, jax.Array]) -> jax.Array:
  plus, minus = level
  return ((x != 0) ^ draws.below(words, jnp.where(x != 0, minus, plus))).astype(x.dtype)


def _flip_weights(plus: np.ndarray, minus: np.ndarray) -> np.ndarray:
  """ln(1 + chi^2) between the distributions of a noisy 0 and a noisy 1, [2, G, C], rounded up."""
  with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
    squared = (np.abs(1 - minus - plus) + 2.0**-53) ** 2
    return eta.round_up(np.log1p(squared / np.stack([plus * (1 - plus), minus * (1 - minus)])))
