r"""Tails of standard noise, :math:`P(|\xi| > t)`: exactly (host), and roughly inverted (device).

`noise.grids` draws whole steps by comparing 63 random bits with such probabilities. The first
function of a pair makes the probabilities. The second one says where to look among them: at the t
whose tail is :math:`(2^{32} h + l + 1) / 2^{64}` for words h, `high`, and l, `low`, which is even.
"""

import decimal
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Tail(NamedTuple):
  """A law of a standard noise xi that is symmetric about 0."""

  probability: Callable[[Decimal], Decimal]
  # host: t >= 0 -> P(|xi| > t), to 1e-40, or 0 where it is less than 2^-75
  near: Callable[[jax.Array, jax.Array], jax.Array]
  # device: words (high, low), uint32 -> t, float32, to within 1e-3


DIGITS = decimal.Context(prec=50)
"""How many digits are computed with: tails that are added and multiplied keep 40 of them."""

_PI = Decimal("3.14159265358979323846264338327950288419716939937510582")


def gaussian(t: Decimal) -> Decimal:
  r""":math:`1 - 2 \varphi(t) \sum_{j \ge 0} t^{2j+1} / (1 \cdot 3 \cdots (2j+1))` (host).

  All terms of the sum are positive, and it is at most :math:`1.26\, e^{t^2/2}`, so that the result
  is good to 1e-45 for t < 10; from there on, where it is less than 2^-75, it is given as 0.

  Example:
    >>> f"{gaussian(Decimal(2)):.12f}"
    '0.045500263896'

  References: Abramowitz & Stegun 1964, 26.2.11.
  """
  if t >= 10:
    return Decimal(0)
  with decimal.localcontext(DIGITS):
    term = total = t
    odd, least = 1, total.scaleb(-DIGITS.prec)
    while term > least:
      odd += 2
      term *= t * t / odd
      total += term
    return 1 - 2 * total * (-t * t / 2).exp() / (2 * _PI).sqrt()


def near_gaussian(high: jax.Array, low: jax.Array) -> jax.Array:
  """By a rational function of sqrt(-2 ln p) that is off by 4.5e-4 at most (device).

  Example:
    >>> near_gaussian(jnp.asarray(2**31, jnp.uint32), jnp.asarray(0, jnp.uint32)).round(2)
    Array(0.66999996, dtype=float32)

  References: Abramowitz & Stegun 1964, 26.2.23.
  """
  root = jnp.sqrt(2 * (near_laplace(high, low) + 0.69314718))  # of p, one of two tails
  above = 2.515517 + root * (0.802853 + root * 0.010328)
  return root - above / (1 + root * (1.432788 + root * (0.189269 + root * 0.001308)))


def laplace(t: Decimal) -> Decimal:
  """The tail :math:`e^{-t}` (host).

  Example:
    >>> f"{laplace(Decimal(1)):.12f}"
    '0.367879441171'
  """
  with decimal.localcontext(DIGITS):
    return (-t).exp()


def near_laplace(high: jax.Array, low: jax.Array) -> jax.Array:
  """By a logarithm, of the complement where that is smaller: `draws.minus_log` of even words.

  Example:
    >>> near_laplace(jnp.asarray(2**31, jnp.uint32), jnp.asarray(0, jnp.uint32))
    Array(0.6931472, dtype=float32)
  """
  above = high >= jnp.uint32(2**31)
  high, low = jnp.where(above, ~high, high), jnp.where(above, ~low, low | 1)
  rest = high.astype(jnp.float32) * 2.0**-32 + low.astype(jnp.float32) * 2.0**-64
  return -jnp.where(above, jnp.log1p(-rest), jnp.log(rest))  # rest is at most 1/2


def uniform(t: Decimal) -> Decimal:
  """The tail max(1 - t, 0) (host).

  Example:
    >>> uniform(Decimal("0.25")), uniform(Decimal(2))
    (Decimal('0.75'), Decimal('0'))
  """
  with decimal.localcontext(DIGITS):
    return max(1 - t, Decimal(0))


def near_uniform(high: jax.Array, low: jax.Array) -> jax.Array:
  """Of the high word alone (device).

  Example:
    >>> near_uniform(jnp.asarray(2**30, jnp.uint32), jnp.asarray(0, jnp.uint32))
    Array(0.75, dtype=float32)
  """
  return (~high).astype(jnp.float32) * 2.0**-32


GAUSSIAN = Tail(gaussian, near_gaussian)
LAPLACE = Tail(laplace, near_laplace)
UNIFORM = Tail(uniform, near_uniform)
