r"""Geometric gaps between independent flips, to 64 bits (device)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax.noise import draws


class GapScale(NamedTuple):
  """A geometric gap is 1 + m Q + R: Q whole strides of m entries without a flip, then R more.

  P(Q >= j) and P(R >= j), for j = 0, 1, ..., are in units of 2^-64, in two words each. The last one
  is 0.
  """

  stride: jax.Array  # int32 [], m, about sqrt(1 / h) with h = -ln(1 - theta)
  strides: jax.Array  # float32 [], 1 / (m h), to guess Q
  entries: jax.Array  # float32 [], 1 / h, to guess R
  within: jax.Array  # float32 [], P(flip within a stride) = 1 - (1 - theta)^m
  high: jax.Array  # uint32 [2, J], of Q and of R
  low: jax.Array  # uint32 [2, J]
  last: jax.Array  # float32 [2], the last j of Q and of R


def gap_scale(theta: float) -> GapScale:
  """Constants and tables of the gaps; theta must be a multiple of 2^-32 in (0, 1) (host).

  Example:
    >>> [hex(word) for word in gap_scale(0.5).high[0, :3].tolist()]  # 1, 1/2, 1/4
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
    *_words(strides, [((power - entries[-1]) << 128) // within for power in entries]),
  )


def _powers(base: int, count: int) -> list[int]:
  """base^0, base^1, ... in units of 2^-128, each rounded down."""
  powers = [1 << 128]
  for _ in range(count - 1):
    powers.append(powers[-1] * base >> 128)
  return powers


def _words(*tails: list[int]) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Of probabilities in units of 2^-128 the nearest multiples of 2^-64; and the last of each."""
  words = np.zeros((len(tails), max(map(len, tails))), np.uint64)
  for row, tail in zip(words, tails, strict=True):
    row[: len(tail)] = [min((p + (1 << 63)) >> 64, 2**64 - 1) for p in tail]
  high, low = words >> 32, words & 0xFFFFFFFF
  last = jnp.asarray([len(tail) - 1 for tail in tails], jnp.float32)
  return jnp.asarray(high.astype(np.uint32)), jnp.asarray(low.astype(np.uint32)), last


def gaps(words: jax.Array, scale: GapScale, largest: int) -> jax.Array:
  r"""Geometric gaps, :math:`P(\mathrm{gap} = k) = \theta (1 - \theta)^{k-1}` (device).

  By the lack of memory, gap - 1 = m Q + R with independent Q and R, and
  :math:`P(Q \ge j) = (1 - \theta)^{m j}`,
  :math:`P(R \ge r) = ((1 - \theta)^r - (1 - \theta)^m) / (1 - (1 - \theta)^m)`. A number of 64
  random bits is below as many of these, each rounded to 2^-64, as Q and R are large. Which of them
  is closest, float32 logarithms tell; a comparison with it tells the rest.

  Of uniform words, uint32 [4, ...], it makes int32 in [1, largest]; `largest` is a gap that leaves
  the block from anywhere.

  Example:
    >>> words = jnp.full((4, 1), 2**30, jnp.uint32)  # the first number is about 1/4
    >>> gaps(words, gap_scale(0.5), 100)  # P(Q >= 1) = 1/2 exceeds it, P(Q >= 2) = 1/4 does not
    Array([2], dtype=int32)
  """
  high, low = words[0::2], words[1::2]  # of two numbers
  part = ((~high[1]).astype(jnp.float32) + 0.5) * 2.0**-32
  guess = jnp.stack(
    [
      draws.minus_log(high[0], low[0]) * scale.strides,
      -jnp.log1p(-part * scale.within) * scale.entries,
    ]
  )

  def closest(last: jax.Array, guess: jax.Array, *tail: jax.Array) -> tuple[jax.Array, ...]:
    j = jnp.clip(jnp.rint(guess), 1, last).astype(jnp.int32)
    return j, *(word[j] for word in tail)

  nearest, tail_high, tail_low = jax.vmap(closest)(scale.last, guess, scale.high, scale.low)
  exceeds = (high < tail_high) | ((high == tail_high) & (low < tail_low))
  strides, rest = nearest - 1 + exceeds.astype(jnp.int32)
  strides = jnp.minimum(strides, largest // scale.stride + 1)  # enough to leave, no overflow
  return jnp.minimum(1 + scale.stride * strides + rest, largest)
