"""The attack sandwich: gradient attacks on smoothed models never beat a certificate.

Attacks go through the noise, over the whole input or with all of the budget on one cell. The plot
of the gap goes to LRS_JAX_PLOTS if that is set.
"""

import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from scipy import stats

from lrs_jax import collective, noise, sampling
from lrs_jax.confidence.certificates import BaseCertificates, from_votes

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SIZE = 8  # pixels a side: 2 x 2 cells, of which each is a group of outputs too
CELLS = np.add.outer(np.arange(SIZE) // 4 * 2, np.arange(SIZE) // 4)
GROUPS = CELLS.ravel()
SCALE = np.where(np.eye(4), 0.25, 1.0)
EPSILON = np.array([0.05, 0.15, 0.3, 0.5, 0.8, 1.3])
NOISE = noise.gaussian(SCALE, CELLS)
NUM_SAMPLES = 8_000


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


class Setting(NamedTuple):
  params: tuple
  x: jax.Array
  base: BaseCertificates


@pytest.fixture(scope="module")
def setting():
  keys = jax.random.split(jax.random.key(7), 3)
  params = make_params()
  x = jax.random.uniform(keys[0], (SIZE, SIZE))
  selection, counts = (count(key, params, x) for key in keys[1:])
  return Setting(params, x, from_votes(NOISE, GROUPS, selection, counts, alpha=0.001))


def count(key, params, x):
  counts = sampling.vote_counts(
    key, network, params, x, NOISE, GROUPS, NUM_SAMPLES, num_classes=2, chunk_size=1000
  )
  return np.asarray(counts)


@partial(jax.jit, static_argnames="num_steps")
def attack(key, params, x, labels, epsilon, mask, *, num_steps=40):
  """Gradient descent on the smoothed margins of all outputs, in the ball and inside the mask."""
  levels = jnp.asarray(NOISE.levels)

  def loss(delta, key):
    keys = jax.random.split(key, 32)
    standard = jax.vmap(NOISE.draw, in_axes=(0, None, None))(keys, x, jnp.asarray(CELLS))

    def probability(group):
      level = noise.level_at(levels, jnp.asarray(CELLS), group)
      noisy = jax.vmap(NOISE.perturb, in_axes=(None, 0, None))(x + delta, standard, level)
      logits = jax.vmap(network, in_axes=(None, 0))(params, noisy)
      margin = (logits[..., 0] - logits[..., 1]) * jnp.where(labels == 0, 1.0, -1.0)[None]
      return jax.nn.sigmoid(margin).mean(axis=0)

    own = jnp.stack([probability(g) for g in range(4)])[jnp.asarray(GROUPS), jnp.arange(SIZE**2)]
    return jax.nn.sigmoid(20 * (own - 0.5)).sum()

  def step(i, delta):
    gradient = jax.grad(loss)(delta, jax.random.fold_in(key, i)) * mask
    delta = delta - 0.15 * epsilon * gradient / (jnp.linalg.norm(gradient) + 1e-12)
    return delta * jnp.minimum(1.0, epsilon / (jnp.linalg.norm(delta) + 1e-12))

  start = jax.random.normal(key, x.shape) * mask
  start = 0.5 * epsilon * start / jnp.linalg.norm(start)
  return jax.lax.fori_loop(0, num_steps, step, start)


def changed(setting, delta, seed):
  """Targets whose smoothed label is certainly another one: as a count, after the attack."""
  counts = count(jax.random.key(seed), setting.params, setting.x + delta)
  votes = counts[np.arange(len(GROUPS)), setting.base.labels]
  upper = stats.beta.ppf(1 - 1e-7, votes + 1, NUM_SAMPLES - votes)
  return int(((upper < 0.5) & (setting.base.eta > 0)).sum())


@pytest.fixture(scope="module")
def damage(setting):
  """The most outputs that any attack changed, at every epsilon."""
  masks = np.concatenate([np.ones((1, SIZE, SIZE)), np.arange(4)[:, None, None] == CELLS])
  masks = jnp.asarray(masks, jnp.float32)
  labels = jnp.asarray(setting.base.labels)
  most = []
  for i, epsilon in enumerate(EPSILON.astype(np.float32)):
    run = jax.vmap(attack, in_axes=(None, None, None, None, None, 0))
    deltas = run(jax.random.key(i), setting.params, setting.x, labels, epsilon, masks)
    assert (np.linalg.norm(deltas.reshape(5, -1), axis=1) <= epsilon * (1 + 1e-5)).all()
    most.append(max(changed(setting, delta, 100 + i) for delta in deltas))
  return np.maximum.accumulate(most)


def certified(base, method, weights=None):
  weights = base.weights if weights is None else weights
  return collective.certify(
    weights, base.groups, base.eta, EPSILON**2 * (1 + 1e-5), method=method
  ).certified


@pytest.mark.parametrize("method", ["naive", "lp", "envelope"])
def test_attacks_never_beat_a_certificate(setting, damage, method):
  targets = (setting.base.eta > 0).sum()
  assert targets > 40
  assert (certified(setting.base, method) <= targets - damage).all()
  assert damage[-1] > 0.5 * targets, "an attack that is worth the name"


def test_attacks_beat_a_certificate_for_eight_times_the_noise(setting, damage):
  targets = (setting.base.eta > 0).sum()
  claimed = certified(setting.base, "envelope", setting.base.weights / 64)
  assert (claimed > targets - damage).any()


def test_plot_of_the_gap(setting, damage, tmp_path):
  targets = (setting.base.eta > 0).sum()
  figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
  axes.plot(EPSILON, targets - damage, "o-", label="survive the attacks")
  for method in ("envelope", "lp", "naive"):
    axes.plot(EPSILON, certified(setting.base, method), ".--", label=f"certified, {method}")
  axes.set(
    xlabel="epsilon, l2", ylabel=f"outputs of {targets}", xscale="log", ylim=(0, 1.4 * targets)
  )
  axes.legend()
  path = Path(os.environ.get("LRS_JAX_PLOTS", tmp_path)) / "attack_sandwich.png"
  figure.savefig(path, dpi=120)
  plt.close(figure)
  assert path.stat().st_size > 1000
