r"""Noise that changes whole entries: ablation, which hides them, and flips of binary ones."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lrs_jax.noise import draws, eta, renyi
from lrs_jax.noise.distributions import Family, SmoothingDistribution, check_levels


def ablation(rho: ArrayLike, cells: ArrayLike, *, fill: ArrayLike = 0.0) -> SmoothingDistribution:
  r"""Each entry of cell c is hidden from group g with probability :math:`\rho_{g,c}`; p = 0.

  :math:`w_{g,c} = -\ln \rho_{g,c}` and :math:`\eta_n = -\ln(3/2 - q_n)`: the output can only change
  while a perturbed entry is visible, which has probability :math:`1 - \prod_d \rho_d`. Budgets
  count perturbed entries.

  An entry is an element of `cells`: with x of shape [H, W, 3], `cells` of shape [H, W, 1] hides all
  channels of a pixel together. A hidden entry shows `fill` to the model: the mean keeps hidden
  entries unremarkable, a value outside the data's range (also nan) marks them. The certificate is
  the same.

  Args:
    rho: [G, C], in (0, 1); 1 hides the cell.
    cells: int, with as many axes as the input x, each of x's size or 1.
    fill: what the model sees of a hidden entry; one number, or [G, C].

  Raises:
    ValueError: a probability outside (0, 1], a cell index outside [0, C), another shape of `fill`.

  Example:
    >>> ablation([[0.5, 1.0]], [0, 1]).weights
    array([[[0.69314718, 0.        ]]])

  References: Levine & Feizi 2020 (arXiv 1911.09272), theorem 1, with independent entries.
  """
  rho, cells = check_levels("rho", rho, cells)
  fill = np.asarray(fill, np.float64)
  if not ((rho > 0) & (rho <= 1)).all():
    raise ValueError(f"`rho` must lie in (0, 1], but it ranges from {rho.min()} to {rho.max()}.")
  if fill.shape not in ((), rho.shape):
    raise ValueError(
      f"`fill` must be one number, or have the shape of `rho`, {rho.shape}, "
      f"but its shape is {fill.shape}."
    )
  fill = np.broadcast_to(fill, rho.shape).copy()
  threshold = draws.threshold(rho, up=np.full(rho.shape, True))
  weights = 0.0 - np.log(np.minimum(rho, draws.probability(threshold)))[None]
  levels = threshold, fill.astype(np.float32)
  return SmoothingDistribution(ABLATION, (rho, fill), levels, cells, eta.round_up(weights))


def flips(theta_plus: ArrayLike, theta_minus: ArrayLike, cells: ArrayLike) -> SmoothingDistribution:
  r"""Binary entries flip: 0 to 1 with probability theta_plus, 1 to 0 with probability theta_minus.

  There are A = 2 kinds of perturbation, counted apart (p = 0). An addition (0 to 1) in the attack
  costs :math:`w^0_{g,c} = \ln(1 + t^2 / (\theta_+(1-\theta_+)))` and a deletion :math:`w^1_{g,c} =
  \ln(1 + t^2 / (\theta_-(1-\theta_-)))`, with :math:`t = 1 - \theta_+ - \theta_-`, which is
  :math:`\ln((1-\theta_-)^2/\theta_+ + \theta_-^2/(1-\theta_+))` and its mirror image. A vote is an
  indicator, of variance q(1 - q): :math:`\eta_n = -\ln(4 q_n (1 - q_n))`.

  Theta_plus = 0 makes additions infinitely expensive (one of them counts as an attack), theta_minus
  = 0 deletions. Of x it is only seen whether an entry is 0; noisy entries are 0 or 1.

  Args:
    theta_plus: [G, C], in [0, 1).
    theta_minus: [G, C], in [0, 1); with theta_plus = 0, theta_minus = 1 hides the cell, which then
      shows 0.
    cells: int, shaped like the input x.

  Raises:
    ValueError: a probability outside [0, 1), or a cell index outside [0, C).

  Example:
    >>> flips([[0.5, 0.0]], [[0.25, 0.5]], [0, 1]).weights[:, 0]
    array([[0.22314355,        inf],
           [0.28768207, 0.69314718]])

  References:
    Bojchevski et al. 2020 (arXiv 2008.12952) for the noise; Schuchardt et al. 2023 (arXiv
    2210.16140), proposition 4.3 and appendix F, for the certificate (there the variance enters
    squared in the published code; here to the first power).
  """
  plus, cells = check_levels("theta_plus", theta_plus, cells)
  minus, _ = check_levels("theta_minus", theta_minus, cells)
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
  weights = np.where(hidden, 0.0, np.maximum(_flip_weights(plus, minus), drawn))
  return SmoothingDistribution(FLIPS, (plus, minus), levels, cells, weights)


def _draw_bits(key: jax.Array, x: jax.Array, cells: jax.Array) -> jax.Array:
  return draws.bits(key, x.shape)


def _draw_bits_per_entry(key: jax.Array, x: jax.Array, cells: jax.Array) -> jax.Array:
  return draws.bits(key, cells.shape)


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


def _flips_renyi(
  noise: SmoothingDistribution, q_lower: ArrayLike, order: float
) -> tuple[np.ndarray, np.ndarray]:
  """Weights [2, G, C] that hold for the stated and for the drawn probabilities, and eta [N]."""
  drawn = (draws.probability(np.asarray(threshold)) for threshold in noise.levels)
  weights = [renyi.flip_weights(plus, minus, order) for plus, minus in (noise.parameters, drawn)]
  return np.maximum(*weights), renyi.eta(q_lower, order)


ABLATION = Family(
  name="ablation",
  parameters=("rho", "fill"),
  titles=("probability hidden",),
  hidden=(1.0, None),
  p=0,
  kinds=("entries",),
  perturbations="Every change of at most the stated number of entries, to any values; an entry is "
  "what is hidden together.",
  draw=_draw_bits_per_entry,
  perturb=_hide,
  eta=eta.ablation,
  eta_soft=partial(eta.mean_alone, eta.ablation),
)
FLIPS = Family(
  name="flips",
  parameters=("theta_plus", "theta_minus"),
  titles=("P(0 becomes 1)", "P(1 becomes 0)"),
  hidden=(0.0, 1.0),
  p=0,
  kinds=("additions", "deletions"),
  perturbations="At most the stated numbers of additions (0 to 1) and deletions (1 to 0) of "
  "entries.",
  draw=_draw_bits,
  perturb=_flip,
  eta=eta.flips,
  eta_soft=eta.variance,
  renyi=_flips_renyi,
  binary=True,
)
