r"""Geometric gaps between independent flips, to 64 bits (device)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax.noise import draws


class Tail(NamedTuple):
  """P(X >= j) of an integer X, for j = 0, 1, ..., in units of 2^-64: two words each."""

  high: jax.Array  # uint32 [J]
  low: jax.Array  # uint32 [J]


class GapScale(NamedTuple):
  """A geometric gap is 1 + m Q + R: Q whole strides of m entries without a flip, then R more."""

  stride: jax.Array  # int32 [], m, about sqrt(1 / h) with h = -ln(1 - theta)
  strides: jax.Array  # float32 [], 1 / (m h), to guess Q
  entries: jax.Array  # float32 [], 1 / h, to guess R
  within: jax.Array  # float32 [], P(flip within a stride) = 1 - (1 - theta)^m
  tail_strides: Tail  # of Q
  tail_entries: Tail  # of R


def gap_scale(theta: float) -> GapScale:
  """Constants and tables of the gaps; theta must be a multiple of 2^-32 in (0, 1) (host).

  Example:
    >>> [hex(word) for word in gap_scale(0.5).tail_strides.high[:3].tolist()]  # 1, 1/2, 1/4
    ['0xffffffff', '0x80000000', '0x40000000']
  """
  hazard = -np.log1p(-theta)
  stride = max(1, round(hazard**-0.5))
  one, survive = 1 << 128, (1 << 128) - (int(theta * 2**32) << 96)
  entries = _powers(survive, stride + 1)
  within = one - entries[-1]
  strides = _powers(entries[-1], math.ceil(65 * math.log(2) / (stride * hazard)) + 2)
  return GapScale(
    jnp.asarray(stride, jnp.int32),
    jnp.asarray(1 / (stride * hazard), jnp.float32),
    jnp.asarray(1 / hazard, jnp.float32),
    jnp.asarray(-np.expm1(-stride * hazard), jnp.float32),
    _tail(strides),
    _tail([((power - entries[-1]) << 128) // within for power in entries]),
  )


def _powers(base: int, count: int) -> list[int]:
  """base^0, base^1, ... in units of 2^-128, each rounded down."""
  powers = [1 << 128]
  for _ in range(count - 1):
    powers.append(powers[-1] * base >> 128)
  return powers


def _tail(probabilities: list[int]) -> Tail:
  """Probabilities in units of 2^-128 to the nearest multiple of 2^-64; the last one must be 0."""
  words = np.array([min((p + (1 << 63)) >> 64, 2**64 - 1) for p in probabilities], np.uint64)
  return Tail(*(jnp.asarray(half.astype(np.uint32)) for half in (words >> 32, words & 0xFFFFFFFF)))


def gaps(words: jax.Array, scale: GapScale, largest: int) -> jax.Array:
  r"""Geometric gaps, :math:`P(\mathrm{gap} = k) = \theta (1 - \theta)^{k-1}` (device).

  By the lack of memory, gap - 1 = m Q + R with independent Q and R, and
  :math:`P(Q \ge j) = (1 - \theta)^{m j}`,
  :math:`P(R \ge r) = ((1 - \theta)^r - (1 - \theta)^m) / (1 - (1 - \theta)^m)`. A number of 64
  random bits is below as many of these, each rounded to 2^-64, as Q and R are large: float32
  logarithms guess how many, to within one, and two comparisons with the table tell.

  Of uniform words, uint32 [4, ...], it makes int32 in [1, largest]; `largest` is a gap that leaves
  the block from anywhere.

  Example:
    >>> words = jnp.full((4, 1), 2**30, jnp.uint32)  # the first number is about 1/4
    >>> gaps(words, gap_scale(0.5), 100)  # P(Q >= 1) = 1/2 exceeds it, P(Q >= 2) = 1/4 does not
    Array([2], dtype=int32)
  """
  high, low, high_rest, low_rest = words
  strides = _read(scale.tail_strides, high, low, draws.minus_log(high, low) * scale.strides)
  part = ((~high_rest).astype(jnp.float32) + 0.5) * 2.0**-32
  rest = -jnp.log1p(-part * scale.within) * scale.entries
  rest = _read(scale.tail_entries, high_rest, low_rest, rest)
  strides = jnp.minimum(strides, largest // scale.stride + 1)  # enough to leave, no overflow
  return jnp.minimum(1 + scale.stride * strides + rest, largest)


def _read(tail: Tail, high: jax.Array, low: jax.Array, guess: jax.Array) -> jax.Array:
  """How many of P(X >= 1), P(X >= 2), ... exceed a 64-bit number; int32, from a guess of it."""
  guess = jnp.clip(guess, 0, tail.high.size - 2).astype(jnp.int32)

  def exceeds(j: jax.Array) -> jax.Array:
    bound = tail.high[j]
    return ((high < bound) | ((high == bound) & (low < tail.low[j]))).astype(jnp.int32)

  return jnp.maximum(guess - 1 + exceeds(guess) + exceeds(guess + 1), 0)
