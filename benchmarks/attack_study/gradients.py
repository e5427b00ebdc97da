"""Gradient attacks on smoothed models, and what they change beside what is certified."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax import collective, keys, noise, sampling
from lrs_jax.cells.views import View
from lrs_jax.confidence import binomial_p_value, certificates
from lrs_jax.confidence.certificates import BaseCertificates

Noisy = Callable[[jax.Array, Any, jax.Array], jax.Array]
"""(key, params, x) -> logits [N, K] of all outputs, for one draw of the noise (device)."""

Counted = Callable[[jax.Array, np.ndarray, int], np.ndarray]
"""(key, x, number of samples) -> votes [N, K]."""


ALPHA = 0.01
"""Probability that what is certified of an input is wrong."""


class Settings(NamedTuple):
  """How hard an attack tries, and when an output counts as changed."""

  steps: int = 50
  draws: int = 8  # of the noise, in every step
  restarts: int = 2  # the best attack of which is kept, at every budget
  pilot: int = 100  # samples that choose it
  samples: int = 1000  # others, that count what it changed
  level: float = 1e-3  # probability that any output is wrongly counted as changed


class Smoothed(NamedTuple):
  """A smoothed model at one input, and what was certified of it."""

  name: str
  x: np.ndarray  # float32
  params: Any
  noisy: Noisy
  count: Counted
  base: BaseCertificates  # whose weights are those of `priced`
  priced: noise.SmoothingDistribution  # how outputs see the noise
  groups: np.ndarray  # int [N], of `priced`


class Sandwich(NamedTuple):
  """Targets that are certified, and those that were not changed, at every budget."""

  targets: int  # outputs that do not abstain
  certified: np.ndarray  # int [B]: no attack leaves fewer
  unchanged: np.ndarray  # int [B]: this attack left no more, up to what could not be told
  kept: np.ndarray  # int [B]: whose label still has the most votes, told or not


def certified_by(
  name: str,
  index: int,
  x: np.ndarray,
  apply: sampling.Apply,
  params: Any,
  one: noise.SmoothingDistribution,
  view: View,
  samples: Sequence[int],
  *,
  num_classes: int,
) -> Smoothed:
  """An input under isotropic Gaussian noise, certified by what outputs see of it.

  `one` is the noise, `samples` are how many select labels, and how many bound their probabilities;
  `name` and `index` decide what is drawn.
  """
  nothing = np.zeros(np.prod(view.shape), int)

  def count(key: jax.Array, x: np.ndarray, num_samples: int) -> np.ndarray:
    votes = sampling.vote_counts(
      key, apply, params, x, one, nothing, num_samples, num_classes=num_classes, mesh=mesh()
    )
    return np.asarray(votes)

  priced, groups = noise.in_blocks(one, nothing.reshape(view.shape), view)
  key = jax.random.fold_in(keys.tagged(jax.random.key(0), f"votes before attacks, {name}"), index)
  given = [
    count(keys.tagged(key, part), x, number)
    for part, number in zip(("selection", "estimation"), samples, strict=True)
  ]
  base = certificates.from_votes(priced, groups, *given, alpha=ALPHA)
  return Smoothed(name, x, params, noisy(apply, one.scale.item()), count, base, priced, groups)


@cache
def noisy(apply: sampling.Apply, std: float) -> Noisy:
  """One draw's logits; the same function for the same network, so that it is compiled once."""

  def logits(key: jax.Array, params: Any, x: jax.Array) -> jax.Array:
    found = apply(params, x + jnp.float32(std) * jax.random.normal(key, x.shape))
    return found.reshape(-1, found.shape[-1])

  return logits


@cache
def mesh() -> jax.sharding.Mesh:
  """One device: small inputs are not worth spreading."""
  return jax.make_mesh((1,), ("samples",), devices=jax.local_devices()[:1])


def margin_of(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Log p_y - max_k log p_k over the other classes [N], p being mean scores of logits [S, N, K]."""
  log_p = jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0)
  own = jax.nn.one_hot(labels, log_p.shape[-1], dtype=bool)
  others = jnp.where(own, -jnp.inf, log_p).max(axis=-1)
  return jnp.where(own, log_p, 0).sum(axis=-1) - others


def descend(
  key: jax.Array,
  noisy: Noisy,
  params: Any,
  x: jax.Array,
  labels: jax.Array,
  targets: jax.Array,
  epsilon: float,
  start: jax.Array,
  mask: jax.Array,
  *,
  steps: int,
  draws: int,
) -> np.ndarray:
  """Projected gradient descent on the targets' margins, all at once: delta, in the l2 ball.

  A margin counts as its sigmoid, so that what has fallen already, or cannot fall, costs nothing.
  Gradients go through the noise, new draws in every step, and have momentum. Only entries in the
  mask are changed.
  """
  delta = jnp.asarray(start, jnp.float32)
  momentum, mask = jnp.zeros_like(delta), jnp.asarray(mask, jnp.float32)
  radius, length = jnp.float32(epsilon * (1 - 1e-5)), jnp.float32(2.5 * epsilon / steps)
  given = params, jnp.asarray(x), jnp.asarray(labels), jnp.asarray(targets)
  for i in range(steps):  # not a loop of XLA, whose convolutions are many times slower in there
    key_i = jax.random.fold_in(key, i)
    delta, momentum = _step(
      key_i, noisy, *given, delta, momentum, mask, radius, length, draws=draws
    )
  return np.asarray(delta)


@partial(jax.jit, static_argnames=("noisy", "draws"))
def _step(
  key: jax.Array,
  noisy: Noisy,
  params: Any,
  x: jax.Array,
  labels: jax.Array,
  targets: jax.Array,
  delta: jax.Array,
  momentum: jax.Array,
  mask: jax.Array,
  radius: jax.Array,
  length: jax.Array,
  *,
  draws: int,
) -> tuple[jax.Array, jax.Array]:
  def loss(delta: jax.Array) -> jax.Array:
    keys = jax.random.split(key, draws)
    found = margin_of(jax.vmap(noisy, in_axes=(0, None, None))(keys, params, x + delta), labels)
    return jnp.where(targets, jax.nn.sigmoid(2 * found), 0).sum()

  gradient = jax.grad(loss)(delta) * mask
  momentum = 0.75 * momentum + gradient / (jnp.linalg.norm(gradient) + 1e-12)
  delta -= length * momentum / (jnp.linalg.norm(momentum) + 1e-12)
  return delta * jnp.minimum(1.0, radius / (jnp.linalg.norm(delta) + 1e-12)), momentum


def changed(votes: np.ndarray, labels: np.ndarray, level: float) -> np.ndarray:
  """Outputs whose label is no more that of the smoothed model, bool [N], by a test.

  Another class has more votes than the label, so much more that it is no chance: by the exact
  test of a fair coin that is thrown for every vote of either, at `level` over all outputs and
  classes together.
  """
  rows = np.arange(len(labels))
  own = votes[rows, labels]
  others = votes.copy()
  others[rows, labels] = -1
  most = others.max(axis=1)
  p_value = binomial_p_value(most, most + own, 0.5)
  return (most > own) & (p_value <= level / (votes.shape[0] * (votes.shape[1] - 1)))


def sandwich(key: jax.Array, smoothed: Smoothed, radii: np.ndarray, settings: Settings) -> Sandwich:
  """Attacks a smoothed model at every radius, from small to large, and certifies it there."""
  base, labels = smoothed.base, np.maximum(smoothed.base.labels, 0)
  targets = base.eta > 0
  budgets = noise.budgets_from_radii(radii, 2)
  problem = smoothed.priced.weights, smoothed.groups, base.eta, budgets
  certified = collective.certify(*problem, forfeit=base.forfeit).certified
  split = collective.attack(*problem).b[:, 0]  # [B, C], what breaks most base certificates
  unchanged, kept, best = [], [], np.zeros_like(smoothed.x)
  for i, radius in enumerate(radii):
    key_i = jax.random.fold_in(key, i)
    where = np.broadcast_to((split[i] > 0)[smoothed.priced.cells], smoothed.x.shape)
    found = [best]
    for restart in range(settings.restarts):
      key_start, key_run = jax.random.split(jax.random.fold_in(key_i, restart))
      mask = where if restart % 2 and where.any() else np.ones_like(where)
      start = np.asarray(jax.random.normal(key_start, smoothed.x.shape)) * mask
      start *= 0.5 * radius / np.linalg.norm(start)
      if restart == 0 and best.any():  # goes on from the smaller ball
        start = best * (radius / np.linalg.norm(best))
      given = smoothed.noisy, smoothed.params, smoothed.x, labels, targets, float(radius)
      found.append(
        descend(key_run, *given, start, mask, steps=settings.steps, draws=settings.draws)
      )
    key_pilot, key_count = (keys.tagged(key_i, purpose) for purpose in ("pilot", "count"))
    pilots = [smoothed.count(key_pilot, smoothed.x + delta, settings.pilot) for delta in found]
    best = found[int(np.argmax([(lost(votes, labels) & targets).sum() for votes in pilots]))]
    attacked = smoothed.x + best
    spent = np.linalg.norm((attacked.astype(np.float64) - smoothed.x).ravel())
    assert spent <= radius, (spent, radius)
    votes = smoothed.count(key_count, attacked, settings.samples)
    unchanged.append((targets & ~changed(votes, labels, settings.level)).sum())
    kept.append((targets & ~lost(votes, labels)).sum())
  return Sandwich(int(targets.sum()), certified, np.minimum.accumulate(unchanged), np.asarray(kept))


def lost(votes: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Outputs whose label has fewer votes than another class, bool [N]."""
  return votes.max(axis=1) > votes[np.arange(len(labels)), labels]
