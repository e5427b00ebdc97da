r"""Standard draws whose tails are those of the stated distribution (device).

A certificate holds for the distribution that was sampled, so the distance between the stated noise
and its float32 draw is an error of the certificate (`benchmarks/results/draws.md`). The 2^23
outcomes of `jax.random.normal` end at -5.420 and 5.220, which some number of a 180 x 240 x 3 image
should exceed in 1.5 % of its draws; `jax.random.bernoulli` draws the multiples of 2^-23 from above,
1.19e-7 for 1e-8.

Everything here is made of the 32-bit words of `jax.random.bits`, so that the granularity is known.
A typed `key` and a `shape` give draws of that shape, in float32 whatever the input's type. Normal
draws reach 9.49 standard deviations (2e-21 lies beyond), Laplace draws 45 scales, and probabilities
are exact multiples of 2^-32.

What is left is that x plus noise is a float32 number, which says a little more about x than a real
one (Jin et al. 2022, arXiv 2205.10159). For inputs on a grid, `noise.on_grid` draws exact noise.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np


def normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  r"""Standard normal draws by Box & Muller's transform, from three 32-bit words a pair.

  :math:`(z_1, z_2) = \sqrt{-2 \ln u}\,(\cos \varphi, \sin \varphi)` with u uniform on a 64-bit grid
  (see `minus_log`) and the angle folded into an octant: three bits choose signs and order, 29 the
  angle inside.

  Example:
    >>> normal(jax.random.key(0), (100_000,)).std().round(1)
    Array(1., dtype=float32)

  References: Box & Muller 1958, Annals of Mathematical Statistics 29(2).
  """
  size = math.prod(shape)
  high, low, turn = bits(key, (3, (size + 1) // 2))
  radius = jnp.sqrt(2 * minus_log(high, low))
  angle = ((turn >> 3).astype(jnp.float32) + 0.5) * (math.pi / 4 * 2.0**-29)
  first, second = radius * jnp.cos(angle), radius * jnp.sin(angle)
  swap = (turn & 4) != 0
  first, second = jnp.where(swap, second, first), jnp.where(swap, first, second)
  pair = _signed(first, turn & 1), _signed(second, turn & 2)
  return jnp.concatenate(pair)[:size].reshape(shape)


def minus_log(high: jax.Array, low: jax.Array) -> jax.Array:
  r"""A unit exponential, :math:`-\ln u` with :math:`u = (2^{32} h + l + 1/2) / 2^{64}`, float32.

  The words h, `high`, and l, `low`, are uniform uint32. To float32's relative precision everywhere,
  and positive: a float32 number near 1 is a multiple of 2^-24, and its logarithm would be 0 for one
  word in 2^25; so where u > 1/2 it is 1 - u, made of the complements of the words, that is rounded.

  Example:
    >>> minus_log(jnp.asarray(2**31, jnp.uint32), jnp.asarray(0, jnp.uint32))
    Array(0.6931472, dtype=float32)
  """
  above = high >= jnp.uint32(2**31)
  high, low = jnp.where(above, ~high, high), jnp.where(above, ~low, low)
  rest = high.astype(jnp.float32) * 2.0**-32 + (low.astype(jnp.float32) + 0.5) * 2.0**-64
  return -jnp.where(above, jnp.log1p(-rest), jnp.log(rest))  # rest is at most 1/2


def laplace(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  r"""Standard Laplace draws, :math:`\pm(-\ln u)`, from two 32-bit words each.

  Example:
    >>> abs(laplace(jax.random.key(0), (100_000,))).mean().round(1)
    Array(1., dtype=float32)
  """
  high, low = bits(key, (2, *shape))
  return _signed(minus_log(high, low >> 1 << 1), low & 1)


def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  r"""Draws from the 2^24 odd multiples of 2^-24 in (-1, 1), all equally likely.

  Each value is the middle of the interval of length 2^-23 it stands for.

  Example:
    >>> abs(uniform(jax.random.key(0), (100_000,))).max() < 1
    Array(True, dtype=bool)
  """
  words = bits(key, shape) >> 8
  return ((words << 1).astype(jnp.int32) - (2**24 - 1)).astype(jnp.float32) * 2.0**-24


def bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Uniform 32-bit words, uint32, to be compared with a threshold: see `below`.

  They are those that `jax.random.bits` makes by default. Many of them are made three times as fast
  on a CPU, where JAX runs the rounds of Threefry in a loop over all words.

  Example:
    >>> bits(jax.random.key(0), (2, 3)).dtype
    dtype('uint32')
  """
  size = math.prod(shape)
  on_cpu = jax.default_backend() == "cpu"
  if on_cpu and size >= _MANY and jax.random.key_impl(key) == "threefry2x32":
    return _threefry(key, size).reshape(shape)
  return jax.random.bits(key, (size,), jnp.uint32).reshape(shape)


_MANY = 10_000  # words, of which less take longer to compile than they ever run


@functools.partial(jax.jit, static_argnames="size")
def _threefry(key: jax.Array, size: int) -> jax.Array:
  """The two words of Threefry-2x32 of each of the counters 0, ..., size - 1, one xor the other.

  References: Salmon et al. 2011 (SC11), Parallel random numbers: as easy as 1, 2, 3; section 3.
  """
  first, second = jax.random.key_data(key)
  parts = first, second, first ^ second ^ jnp.uint32(0x1BD11BDA)

  def words(counters: jax.Array) -> jax.Array:
    one, other = jnp.full_like(counters, parts[0]), counters + parts[1]
    for i in range(5):
      for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[i % 2]:
        one += other
        other = one ^ (other << turn | other >> 32 - turn)
      one += parts[(i + 1) % 3]
      other += parts[(i + 2) % 3] + jnp.uint32(i + 1)
    return one ^ other

  # in two pieces: without a loop XLA would merge it with what reads the words, and do it repeatedly
  counters = jax.lax.iota(jnp.uint32, size + size % 2).reshape(2, -1)
  return jax.lax.map(words, counters).reshape(-1)[:size]


def below(words: jax.Array, threshold: jax.Array) -> jax.Array:
  """Bernoulli draws, bool, of probability threshold / 2^32 exactly, and 1 at `ALWAYS`; both uint32.

  Example:
    >>> below(jnp.asarray([0, 2**31, 2**32 - 1], jnp.uint32), jnp.asarray(2**31, jnp.uint32))
    Array([ True, False, False], dtype=bool)
  """
  return (words < threshold) | (threshold == jnp.uint32(ALWAYS))


ALWAYS = 2**32 - 1
"""The threshold of probability 1, which 32 bits could not tell from 1 - 2^-32."""


def threshold(probability: np.ndarray, up: np.ndarray) -> np.ndarray:
  """Thresholds for `below`, uint32, of probabilities in [0, 1], float64 (host).

  They are multiples of 2^-32, rounded up where `up`, which has the same shape, and down elsewhere.
  Rounded up, only 0 gives 0; only 1 gives `ALWAYS`.

  Example:
    >>> threshold(np.array([0.25, 1.0]), up=np.array([True, True]))
    array([1073741824, 4294967295], dtype=uint32)
  """
  scaled = np.where(up, np.ceil(probability * 2.0**32), np.floor(probability * 2.0**32))
  return np.where(probability == 1, ALWAYS, np.minimum(scaled, ALWAYS - 1)).astype(np.uint32)


def probability(threshold: np.ndarray) -> np.ndarray:
  """The probability, float64, that `below` has at a threshold (uint32), exactly (host).

  Example:
    >>> probability(np.array([2**30, 2**32 - 1], np.uint32))
    array([0.25, 1.  ])
  """
  return np.where(threshold == ALWAYS, 1.0, threshold / 2.0**32)


def _signed(magnitude: jax.Array, negative: jax.Array) -> jax.Array:
  return jnp.where(negative != 0, -magnitude, magnitude)
