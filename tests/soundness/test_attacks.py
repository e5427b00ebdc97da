"""The attack sandwich: gradient attacks on smoothed models never beat a certificate.

Attacks go through the noise, over the whole input or on the cells where base certificates break.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.attack_study.gradients import Settings, Smoothed, changed, sandwich
from lrs_jax import collective, noise, sampling
from lrs_jax.confidence.certificates import from_votes

SIZE = 8  # pixels a side: 2 x 2 cells, of which each is a group of outputs too
CELLS = np.add.outer(np.arange(SIZE) // 4 * 2, np.arange(SIZE) // 4)
GROUPS = CELLS.ravel()
SCALE = np.where(np.eye(4), 0.25, 1.0)
EPSILON = np.array([0.05, 0.15, 0.3, 0.5, 0.8, 1.3])
NOISE = noise.gaussian(SCALE, CELLS)
SETTINGS = Settings(steps=20, draws=16, restarts=4, pilot=200, samples=8000, level=1e-5)


def network(params, x):
  """Brightness of a neighborhood against a threshold, through soft units: logits [64, 2]."""
  first, second = params
  margin = second @ jnp.tanh(first @ (x.ravel() - 0.5))
  return jnp.stack([margin, -margin], axis=-1)


def make_params(seed=7):
  """Banded matrices [64, 64] with positive entries: each unit sees 3 x 3 pixels or units."""
  rows = np.stack(np.divmod(np.arange(SIZE**2), SIZE))
  near = np.abs(rows[:, :, None] - rows[:, None]).max(axis=0) <= 1
  draws = np.random.default_rng(seed).uniform(0.1, 0.5, (2, SIZE**2, SIZE**2))
  return tuple(jnp.asarray(near * draw, jnp.float32) for draw in draws)


def noisy(key, params, x):
  """Every group's logits under its own noise."""
  standard, cells = NOISE.draw(key, x, jnp.asarray(CELLS)), jnp.asarray(CELLS)
  levels = [noise.level_at(jnp.asarray(NOISE.levels), cells, g) for g in range(4)]
  found = jnp.stack([network(params, NOISE.perturb(x, standard, level)) for level in levels])
  return found[jnp.asarray(GROUPS), jnp.arange(SIZE**2)]


@pytest.fixture(scope="module")
def smoothed():
  params = make_params()

  def count(key, x, num_samples):
    counts = sampling.vote_counts(
      key, network, params, x, NOISE, GROUPS, num_samples, num_classes=2, chunk_size=200
    )
    return np.asarray(counts)

  keys = jax.random.split(jax.random.key(7), 3)
  x = np.asarray(jax.random.uniform(keys[0], (SIZE, SIZE)))
  base = from_votes(NOISE, GROUPS, *(count(key, x, 8000) for key in keys[1:]), alpha=0.001)
  return Smoothed("toy", x, params, noisy, count, base, NOISE, GROUPS)


@pytest.fixture(scope="module")
def found(smoothed):
  return sandwich(jax.random.key(0), smoothed, EPSILON, SETTINGS)


@pytest.mark.parametrize("method", ["naive", "lp", "envelope"])
def test_attacks_never_beat_a_certificate(smoothed, found, method):
  assert found.targets == (smoothed.base.eta > 0).sum() > 40
  assert (certified(smoothed, method, 1) <= found.unchanged).all()
  assert found.unchanged[-1] < 0.5 * found.targets, "an attack that is worth the name"
  np.testing.assert_array_equal(found.certified, certified(smoothed, "envelope", 1))


def test_attacks_beat_a_certificate_for_eight_times_the_noise(smoothed, found):
  assert (certified(smoothed, "envelope", 64) > found.unchanged).any()


def certified(smoothed, method, divisor):
  weights, budgets = smoothed.base.weights / divisor, noise.budgets_from_radii(EPSILON, 2)
  return collective.certify(weights, GROUPS, smoothed.base.eta, budgets, method=method).certified


def test_what_counts_as_changed():
  """By a fair coin: 2 of 3 may be chance, 60 of 60 are not; a label without a vote has lost all."""
  votes = np.array([[1, 2, 0], [0, 60, 0], [30, 30, 0], [60, 0, 0], [0, 0, 0]])
  assert changed(votes, np.zeros(5, int), 0.01).tolist() == [False, True, False, False, False]
  rng = np.random.default_rng(0)
  even = rng.multinomial(1000, [0.45, 0.45, 0.1], (300, 50))
  wrongly = sum(changed(each, np.zeros(50, int), 0.05).any() for each in even)
  assert wrongly <= 30  # 15 are expected at most
