"""Draws: exact granularity, tails of the stated law, and what jax.random does instead."""

import json

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import special, stats

from benchmarks import draws as benchmark
from lrs_jax.noise import draws

WORDS = np.array([0, 1, 2, 255, 2**16, 2**24 + 1, 2**31, 2**32 - 129, 2**32 - 1], np.uint32)


def test_logarithms_keep_their_relative_precision_in_both_tails():
  """Near u = 1 a float32 number was rounded to 1, and the radius to 0, for one word in 2^25."""
  high, low = (grid.ravel() for grid in np.meshgrid(WORDS, WORDS))
  values = np.asarray(draws.minus_log(jnp.asarray(high), jnp.asarray(low)))
  with mpmath.workprec(200):
    for value, h, l in zip(values, high.tolist(), low.tolist(), strict=True):
      exact = -mpmath.log(mpmath.mpf(2**33 * h + 2 * l + 1) / 2**65)
      assert abs(mpmath.mpf(float(value)) / exact - 1) <= 2.0**-22
  assert values.min() > 0


@pytest.mark.parametrize("size", [0, 1, 6])
def test_any_size(size):
  for draw in (draws.normal, draws.laplace, draws.uniform):
    values = jax.eval_shape(lambda key: draw(key, (size,)), jax.random.key(0))  # noqa: B023
    assert (values.shape, values.dtype) == ((size,), jnp.float32)


@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (10_000,), (10_001,), (3, 71, 73)])
def test_words_are_those_of_the_generator_whatever_their_number(shape):
  key = jax.random.key(3)
  np.testing.assert_array_equal(draws.bits(key, shape), jax.random.bits(key, shape, jnp.uint32))


def test_normal_draws_are_normal_and_independent():
  flat = np.asarray(draws.normal(jax.random.key(3), (500, 400)), np.float64).ravel()
  assert stats.kstest(flat, "norm").pvalue > 1e-4
  assert abs(flat.mean()) < 5 / np.sqrt(flat.size)
  assert abs(flat.var() - 1) < 5 * np.sqrt(2 / flat.size)
  first, second = flat.reshape(2, -1)  # the two numbers of a pair
  for one, other in ((first, second), (first**2, second**2), (np.abs(first), second)):
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(first.size)
  radius, angle = np.hypot(first, second), np.arctan2(second, first)
  assert stats.kstest(radius, stats.rayleigh.cdf).pvalue > 1e-4
  assert stats.kstest(angle / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-4


def test_normal_tails():
  rounds = 40
  key = jax.random.key(1)
  lowered = benchmark.tail_counts.lower(key, draw=draws.normal, rounds=rounds)
  optimized = lowered.compile({"xla_backend_optimization_level": 1})  # runs more than it compiles
  count, greatest = optimized(key)
  expected = 2 * special.ndtr(-benchmark.SPLIT) * rounds * 2**20
  assert stats.poisson.ppf(1e-6, expected) <= int(count) <= stats.poisson.ppf(1 - 1e-6, expected)
  assert greatest > benchmark.SPLIT


def test_laplace_tails():
  values = np.abs(np.asarray(draws.laplace(jax.random.key(1), (1_000_000,))))
  for split in (1.0, 5.0, 10.0):
    expected = np.exp(-split) * values.size
    error = 5 * np.sqrt(expected) + 5
    assert abs((values > split).sum() - expected) < error


def test_uniform_draws_are_symmetric_and_never_reach_the_end(monkeypatch):
  words = jnp.asarray([0, 255, 256, 2**31 - 1, 2**31, 2**32 - 1], jnp.uint32)
  monkeypatch.setattr(draws, "bits", lambda *_: words)
  values = np.asarray(draws.uniform(jax.random.key(0), words.shape), np.float64) * 2**24
  np.testing.assert_array_equal(values, [1 - 2**24, 1 - 2**24, 3 - 2**24, -1, 1, 2**24 - 1])


def test_jax_normal_is_what_the_benchmark_enumerates():
  key = jax.random.key(5)
  words = np.asarray(jax.random.bits(key, (1000,), jnp.uint32))
  outcomes = benchmark.every_jax_normal()
  np.testing.assert_array_equal(outcomes[words >> 9], jax.random.normal(key, (1000,)))
  assert outcomes.max() < 5.23 < 5.41 < -outcomes.min() < 5.43


def test_small_probabilities():
  row = benchmark.bernoulli(1e-8)
  assert row["jax.random.bernoulli"] > 1e-7
  assert 1e-8 <= row["draws.below"] < 1.03e-8
  key = jax.random.key(0)
  words = np.asarray(jax.random.bits(key, (2**20,)))
  multiples = (words >> 9).astype(np.float32) * np.float32(2.0**-23)
  drawn = jax.random.bernoulli(key, 1e-4, (2**20,))
  np.testing.assert_array_equal(drawn, multiples < np.float32(1e-4))


def test_benchmark_runs(tmp_path):
  benchmark.main(f"--out {tmp_path} --draws 1000 --step 4096 --repetitions 1 --shape 3 4".split())
  assert json.loads((tmp_path / "draws.json").read_text())["enumerated"]["outcomes"] == 2048
  assert "| draws.normal |" in (tmp_path / "draws.md").read_text()
