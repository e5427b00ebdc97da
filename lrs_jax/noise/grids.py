r"""Noise in whole steps of a grid that the input lies on: exact, where floats only stand for reals.

Certificates are about real numbers, but a model is shown float32 ones. The low bits of
fl(x + noise) say more about x than x + noise does, and a model that reads them can be certified
where it is easily attacked (Voracek & Hein 2023, arXiv 2207.07207; Jin et al. 2022, arXiv
2205.10159). Images of 8 bits lie on a grid, x = k h for integers k and the step h = 1/255. There,

.. math:: k + \mathrm{round}(\sigma \xi / h) = \mathrm{round}((x + \sigma \xi) / h)

for every real number xi. So if :math:`Z = \mathrm{round}(\sigma \xi / h)` is drawn as such, and
the model f is shown a function of the integers k + Z, then what is sampled is f after rounding to
the grid, under real noise :math:`\sigma \xi`. Certificates of real noise hold for it as they are,
against all inputs on the grid.

Z is drawn by inversion. With a uniform number V of 63 bits and a sign, :math:`|Z| > a` where V is
less than

.. math:: t_a = \mathrm{round}\left(2^{63}\, P\big(|\xi| > (a + \tfrac12) h / \sigma\big)\right) ,

which is compared in integers. What is drawn differs from Z by this rounding alone: by at most
:math:`2^{-64}` for every t > 0, of which there are less than 2^16, so for all coordinates, of which
there are 2^24 at most, by less than `DISTANCE` in total variation.
"""

import dataclasses
import functools
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax.errors import OffGridError
from lrs_jax.noise import draws, tails
from lrs_jax.noise.distributions import Family, SmoothingDistribution
from lrs_jax.noise.tails import Tail

DISTANCE = 2.0**-24
"""Total variation distance, at most, between what is drawn of all coordinates and what is meant."""

MAX_COORDINATES = 2**24
"""Numbers of an input."""

MAX_STEPS = 500.0
"""Steps in a scale of the noise."""


class Thresholds(NamedTuple):
  """For each of L different scales, the thresholds 2 t_a of magnitudes, in units of 2^-64."""

  high: Any  # uint32 [L, M], their high words; zeros behind the last of them
  low: Any  # uint32 [L, M]


def on_grid(noise: SmoothingDistribution, step: float) -> SmoothingDistribution:
  r"""The same additive noise, in whole steps: :math:`z_d = h (k_d + \mathrm{round}(\sigma \xi/h))`.

  For inputs :math:`x = h k` with integers k, such as images of 8 bits with h = 1/255, and against
  perturbations that leave them there, :math:`\delta \in h \mathbb{Z}^D`. There it is the noise
  :math:`\sigma \xi` of real numbers, rounded to the grid, exactly: weights are those of `noise`,
  and so is eta, once all bounds on probabilities are lowered by `DISTANCE`.

  The claim is about the model that is smoothed by the stated law. Votes bound probabilities under
  the law that is drawn, :math:`q \le \hat P(f = y)`, and no event's differs by more than the
  distance d of the two: :math:`P(f = y) \ge q - d` and :math:`P(f = k) \le u_k + d`. So it is
  enough to subtract d once: what follows from there is about the stated law alone. A score's
  variance is at most its expected square about any fixed number, and is raised by d.

  Args:
    noise: Gaussian, uniform or Laplace, on the scale of the input.
    step: h, in the same units; scales may be 500 steps at most. A fraction such as 1/255 that
      float64 rounds is meant: weights are rounded up by more than that.

  Raises:
    ValueError: noise that is not additive, or on a grid already; a step that is not positive, or
      too small for a scale.

  Example:
    >>> from lrs_jax.noise import gaussian, sample
    >>> exact = on_grid(gaussian([[0.5]], [0, 0]), step=1 / 255)
    >>> z = sample(jax.random.key(0), exact, jnp.asarray([0.0, 51 / 255]), 0)
    >>> jnp.rint(z * 255).tolist()
    [8.0, 48.0]

  References: Voracek & Hein 2023 (arXiv 2207.07207), on smoothing images soundly in floating point;
    Cohen et al. 2019 (arXiv 1902.02918), theorem 1, for f after rounding.
  """
  family, scale = noise.family, noise.scale
  if family.tail is None or family.step is not None:
    kind = f"{family.name} noise" + (" on a grid" if family.step is not None else "")
    raise ValueError(f"`noise` must be additive, and not yet on a grid, but it is {kind}.")
  visible = np.isfinite(scale)
  least = scale.max(initial=0.0, where=visible) / MAX_STEPS
  if not (0 < step < np.inf and step >= least):
    raise ValueError(
      f"`step` must be positive, and at least {least:g} for scales up to {MAX_STEPS:g} steps, but "
      f"it is {step}."
    )
  different, row = np.unique(scale[visible], return_inverse=True)
  table = _table(family.tail, tuple(different.tolist()), float(step))
  start, steps = np.full(scale.shape, -1, np.int32), np.zeros(scale.shape, np.float32)
  start[visible], steps[visible] = row * table.high.shape[1], scale[visible] / step
  exact = _family(family, family.tail, float(step))
  return noise._replace(family=exact, levels=(start, steps), shared=table)


@functools.cache  # so that one program serves all distributions of a family and a step
def _family(family: Family, tail: Tail, step: float) -> Family:
  margin = family.margin and functools.partial(_lowered, family.margin)
  return dataclasses.replace(
    family,
    step=step,
    distance=DISTANCE,
    perturbations=f"{family.perturbations[:-1]}, in whole steps of {shown(step)}.",
    draw=_words,
    perturb=functools.partial(_add_steps, tail.near, step),
    eta=functools.partial(_lowered, family.eta),
    eta_soft=functools.partial(_soft, family.eta_soft),
    margin=margin,
  )


def shown(step: float) -> str:
  """A step as one would say it.

  Example:
    >>> shown(1 / 255), shown(2.0)
    ('1/255', '2')
  """
  fraction = Fraction(step).limit_denominator(2**16)
  return str(fraction) if float(fraction) == step else f"{step:g}"


def _lowered(of: Any, *bounds: Any) -> np.ndarray:
  return of(*(np.asarray(bound, np.float64) - DISTANCE for bound in bounds))


def _soft(of: Any, mean: Any, variance: Any) -> np.ndarray:
  mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
  return of(mean - DISTANCE, variance + DISTANCE)


@functools.cache
def _table(tail: Tail, scales: tuple[float, ...], step: float) -> Thresholds:
  columns = [thresholds(tail, scale, step) for scale in scales]
  size = 1 << max(map(len, columns), default=0).bit_length()  # few sizes, few programs
  table = np.zeros((max(len(scales), 1), size), np.uint64)
  for row, column in zip(table, columns, strict=False):
    row[: len(column)] = column
  return Thresholds((table >> 32).astype(np.uint32), (table & 0xFFFFFFFF).astype(np.uint32))


@functools.cache
def thresholds(tail: Tail, scale: float, step: float) -> tuple[int, ...]:
  r""":math:`2 t_a` for a = 0, 1, ..., as long as they are positive (host).

  Of the floats `scale` and `step` as they are; the probabilities are good to 1e-40.

  Example:
    >>> [word / 2**64 for word in thresholds(tails.UNIFORM, 1.0, 0.25)]
    [0.875, 0.625, 0.375, 0.125]
  """
  found: list[int] = []
  with localcontext(tails.DIGITS):
    half = Decimal(step) / Decimal(scale) / 2
    while word := round(tail.probability((2 * len(found) + 1) * half) * 2**63):
      found.append(2 * word)
  return tuple(found)


def _words(key: jax.Array, x: jax.Array, cells: jax.Array) -> jax.Array:
  return draws.bits(key, (2, x.size)).reshape(2, *x.shape)  # flat ones are drawn faster


def steps_of(
  words: jax.Array, level: tuple[jax.Array, jax.Array], table: Thresholds, near: Callable
) -> jax.Array:
  r"""Whole steps Z of noise, int32 [...], from uniform words uint32 [2, ...] (device).

  The last bit is the sign, the others are V. With c about :math:`|\xi| \sigma / h`, which is off by
  less than 1/2, the magnitude is the integer b below c, or b + 1: the latter where :math:`V < t_b`.

  Args:
    words: high and low ones.
    level: where the thresholds of each scale start in the table, int32, and how many steps the
      scale has, float32; both broadcast to [...].
    table: the thresholds.
    near: of the tail, off by less than 1e-3, which is 1/2 of a step at most: see `MAX_STEPS`.

  Example:
    >>> table = Thresholds(*map(jnp.asarray, _table(tails.UNIFORM, (1.0,), 0.25)))
    >>> words = jnp.asarray([[2**31, 2**28], [0, 1]], jnp.uint32)  # 1/2 and -1/16
    >>> steps_of(words, (jnp.int32(0), jnp.float32(4)), table, tails.near_uniform)
    Array([ 2, -4], dtype=int32)
  """
  start, steps = level
  high, low = words[0], words[1] >> 1 << 1
  below = jnp.floor(near(high, low) * steps).astype(jnp.int32)
  at = start + jnp.minimum(below, table.high.shape[1] - 1)
  of_high, of_low = (part.reshape(-1).at[at].get(mode="promise_in_bounds") for part in table)
  above = (high < of_high) | ((high == of_high) & (low < of_low))
  magnitude = below + above.astype(jnp.int32)
  return jnp.where((words[1] & 1) != 0, -magnitude, magnitude)


def _add_steps(
  near: Callable, step: float, x: jax.Array, words: jax.Array, level: tuple[Any, Thresholds]
) -> jax.Array:
  # All that a model is shown is a function of the integers k + Z.
  (start, steps), table = level
  per_unit = jnp.float32(1 / step)
  whole = jnp.rint(x.astype(jnp.float32) * per_unit).astype(jnp.int32)
  noisy = whole + steps_of(words, (jnp.maximum(start, 0), steps), table, near)
  shown = (noisy.astype(jnp.float32) / per_unit).astype(x.dtype)
  return jnp.where(start < 0, jnp.zeros_like(x), shown)


def check_on_grid(x: np.ndarray, noise: SmoothingDistribution) -> None:
  """Raises an `OffGridError` unless an input is what noise of whole steps is for (host).

  It must be float32, of `MAX_COORDINATES` numbers at most, that are multiples of the step, 2^20 at
  most, but for the rounding of two float32 operations. Any input will do for noise of real numbers.

  Example:
    >>> from lrs_jax.noise import gaussian
    >>> check_on_grid(np.float32([0.2]), on_grid(gaussian([[0.5]], [0]), 1 / 255))
    >>> check_on_grid(np.float32([0.3]), on_grid(gaussian([[0.5]], [0]), 1 / 255))
    Traceback (most recent call last):
    ...
    lrs_jax.errors.OffGridError: `x` must lie on the grid of the noise, multiples of 1/255, ...
  """
  step = noise.family.step
  if step is None:
    return
  if x.dtype != np.float32 or x.size > MAX_COORDINATES:
    raise OffGridError(
      f"`x` must be float32, of {MAX_COORDINATES:,} numbers at most, for noise on a grid, but it "
      f"is {x.dtype}, of {x.size:,}."
    )
  values = x.astype(np.float64)
  whole = np.rint(values / step)
  off = ~((np.abs(values - whole * step) <= 2.0**-22 * np.abs(values)) & (np.abs(whole) <= 2**20))
  if off.any():
    index = tuple(np.argwhere(off)[0].tolist())
    raise OffGridError(
      f"`x` must lie on the grid of the noise, multiples of {shown(step)}, but {int(off.sum())} "
      f"of its {x.size} numbers do not, such as {x[index]:g} at index {index}, "
      f"{values[index] / step:.6g} steps: exact noise is for inputs such as images of 8 bits."
    )
