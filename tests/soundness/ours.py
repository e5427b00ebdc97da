"""lrs_jax behind the functions that `judge` asks for."""

import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax import noise, sampling
from lrs_jax.confidence.certificates import from_scores, from_votes
from lrs_jax.confidence.corrections import Levels, bonferroni, k_fwer
from lrs_jax.sampling.scores import ScoreSums

ANY = noise.flips([[0.1]], [[0.1]], [0])  # coverage does not depend on the noise


def votes(sample, alpha, correction=None):
  selection, counts = sample(), sample()
  levels = alpha if correction is None else correction(alpha, selection)
  base = from_votes(ANY, np.zeros(len(counts), int), selection, counts, alpha=levels)
  return base.labels, base.q_lower, base.forfeit


def votes_weighted(sample, alpha):
  """Levels that depend on the selection samples."""

  def weighted(alpha, selection):
    weights = selection.max(axis=1)
    return Levels(alpha * weights / weights.sum(), 0)

  return votes(sample, alpha, weighted)


def votes_k_fwer(sample, alpha, m=5):
  return votes(sample, alpha, lambda alpha, selection: k_fwer(alpha, len(selection), m))


def scores(*methods):
  def procedure(sample, alpha):
    selection, estimate = (ScoreSums(*sample()) for _ in range(2))
    zeros = np.zeros(len(selection.total), int)
    base = from_scores(ANY, zeros, zeros, selection, estimate, alpha=alpha, methods=methods)
    return base.q_lower, base.variance_upper, base.method == "votes"

  return procedure


def flips_soft(theta_plus, theta_minus, cells):
  distribution = noise.flips(theta_plus, theta_minus, cells)
  return distribution.weights, distribution.eta_soft


def ablation_soft(rho, cells):
  distribution = noise.ablation(rho, cells)
  return distribution.weights, distribution.eta_soft


def linear_logits(params, z):
  """A model that normalizes its input itself."""
  x, slopes, margins, mean, std = params
  offset = ((z - mean) / std - (x - mean) / std) * std
  value = slopes @ offset + margins
  return jnp.stack([value, -value], axis=-1)


def linear_params(task):
  arrays = task.x, task.slopes, task.margins, np.float32(task.mean), np.float32(task.std)
  return tuple(map(jnp.asarray, arrays))


def gaussian_pipeline(task, num_samples=20_000, alpha=1e-3):
  distribution = noise.gaussian(task.scale, task.cells)
  selection, counts = (
    np.asarray(
      sampling.vote_counts(
        key,
        linear_logits,
        linear_params(task),
        task.x,
        distribution,
        task.groups,
        size,
        num_classes=2,
        chunk_size=1000,
      )
    )
    for key, size in zip(
      jax.random.split(jax.random.key(1)), (num_samples // 10, num_samples), strict=True
    )
  )
  base = from_votes(distribution, task.groups, selection, counts, alpha=alpha)
  return base.weights, base.eta


def level_of(alpha, num_outputs):
  return bonferroni(alpha, num_outputs).alpha
