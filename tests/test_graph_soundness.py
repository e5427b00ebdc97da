"""Graph certificates against enumeration: all noise outcomes, all flips of up to 6 attributes."""

import os
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from lrs_jax import collective, noise
from lrs_jax.cells import clusters
from lrs_jax.noise import renyi
from lrs_jax.sampling import sparse_flips
from lrs_jax.tasks import graphs
from lrs_jax.tasks.graph_training import head_of
from lrs_jax.tasks.models import gnn

THOROUGH = bool(os.environ.get("LRS_JAX_THOROUGH"))
OUTCOMES = np.array(list(product((0, 1), repeat=6)))  # noisy inputs of 3 nodes x 2 attributes
CELLS = np.array([0, 0, 1])  # nodes
ENTRY_CELLS = np.repeat(CELLS, 2)


def outcome_probabilities(x, plus, minus):
  """P(z | x) of all 64 outcomes, for flip probabilities [C] of one group."""
  flip = np.where(x == 1, minus[ENTRY_CELLS], plus[ENTRY_CELLS])
  return np.where(x != OUTCOMES, flip, 1 - flip).prod(axis=1)


def random_flips(rng):
  plus = rng.choice([0.0, 0.01, 0.1, 0.4, 0.7], (2, 2))
  minus = rng.choice([0.0, 0.1, 0.5, 0.6, 0.95], (2, 2))
  return noise.flips(plus, minus, CELLS[:, None])


def broken_predictions(x, clean, expected):
  """For all 64 perturbed inputs: additions, deletions, and how many predictions changed."""
  for other in OUTCOMES:
    now = expected(other)
    certain = np.take_along_axis(now, clean[:, None], axis=1)[:, 0] > 0.5
    yield (other > x).sum(), (other < x).sum(), ~certain


@pytest.mark.parametrize("seed", range(400 if THOROUGH else 20))
@pytest.mark.parametrize("soft", [False, True])
def test_no_attack_beats_the_certificates(seed, soft):
  """Any classifier at all: a random table of scores over the 64 noisy inputs for every node."""
  rng = np.random.default_rng([seed, soft])
  flips, x = random_flips(rng), rng.integers(0, 2, 6)
  sharpness = rng.choice([0.3, 1, 4, 20])
  logits = rng.normal(size=(3, 64, 2)) * sharpness + rng.normal(size=(3, 1, 2)) * 3
  scores = np.exp(logits - logits.max(axis=2, keepdims=True))
  scores /= scores.sum(axis=2, keepdims=True)
  table = scores if soft else np.eye(2)[scores.argmax(axis=2)]
  groups = rng.integers(0, 2, 3)
  plus, minus = flips.parameters

  def expected(z):
    masses = np.stack([outcome_probabilities(z, plus[g], minus[g]) for g in groups])
    return np.einsum("nz,nzk->nk", masses, table)

  mean = expected(x)
  clean = mean.argmax(axis=1)
  mu = mean.max(axis=1)
  masses = np.stack([outcome_probabilities(x, plus[g], minus[g]) for g in groups])
  chosen = table[np.arange(3), :, clean]
  variance = np.einsum("nz,nz->n", masses, (chosen - mu[:, None]) ** 2)
  with np.errstate(divide="ignore"):
    eta = flips.eta_soft(mu, variance) if soft else flips.eta(mu)
  pairs = [(flips.weights, eta)]
  pairs += [(renyi.flip_weights(plus, minus, a), renyi.eta(mu, a)) for a in (0.5, 1.0, 3.0, 1e3)]
  caps = graphs.flip_caps(x.reshape(3, 2).sum(axis=1), 2, CELLS[:, None], 2)
  most = 7 if THOROUGH else 4
  budgets = np.array(list(product(range(most), range(most))), float)
  attacks = list(broken_predictions(x, clean, expected))
  for weights, eta in pairs:
    # the enumeration rounds at 1e-16: a margin far below any gap that it could show
    eta = np.where(np.isinf(eta), eta, eta * (1 - 1e-9))
    certificate = collective.certify(weights, groups, eta, budgets, caps=caps, integral=True)
    for (additions, deletions), certified in zip(budgets, certificate.certified, strict=True):
      for a, d, broken in attacks:
        if a <= additions and d <= deletions:
          assert certified <= ((eta > 0) & ~broken).sum()


def test_certificates_are_not_empty():
  """The enumeration above would pass if nothing were certified: here much is."""
  flips = noise.flips(np.full((2, 2), 0.1), np.array([[0.3, 0.8], [0.8, 0.3]]), CELLS[:, None])
  eta = flips.eta(np.full(3, 0.999))
  budgets = [[0, 1], [2, 2], [3, 3], [9, 9]]
  found = collective.certify(flips.weights, CELLS, eta, budgets, integral=True)
  assert found.certified.tolist() == [3, 3, 1, 0]


@pytest.mark.parametrize("name", ["appnp", "gcn", "gat"] if THOROUGH else ["appnp"])
def test_sampled_sums_agree_with_enumeration(name):
  """Sampler, first product, head and stitching together, against all 64 noisy inputs."""
  rng = np.random.default_rng(0)
  adjacency = sparse.csr_array(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], float))
  model, edges = gnn.make_model(name, 2, 3), gnn.normalized_edges(adjacency)
  x = np.array([[1, 0], [1, 1], [0, 1]], np.float32)
  variables = jax.jit(model.init)(jax.random.key(0), x, edges)
  variables = jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 1.5, jnp.float32), variables
  )
  ranks = clusters.affinity_ranks(np.zeros((2, 2)))
  plus, minus = clusters.levels_by_rank(ranks, 0.1, 0.3), clusters.levels_by_rank(ranks, 0.2, 0.7)
  plan = sparse_flips.plan_flips(sparse.csr_array(x), noise.flips(plus, minus, CELLS[:, None]))
  num_samples = 3_000
  sums = sparse_flips.class_sums(
    jax.random.key(1), head_of(model), (variables, edges), variables["params"]["first_kernel"],
    plan, CELLS, num_samples,
  )  # fmt: skip
  outcomes = jnp.asarray(OUTCOMES.reshape(64, 3, 2), jnp.float32)
  logits = np.asarray(jax.jit(jax.vmap(lambda z: model.apply(variables, z, edges)))(outcomes))
  votes = np.eye(3)[logits.argmax(axis=2)]
  scores = np.floor(np.asarray(jax.nn.softmax(logits)) * 255)
  for n, g in enumerate(CELLS):
    masses = outcome_probabilities(x.ravel().astype(int), plus[g], minus[g])
    for table, total in ((votes, sums.votes), (scores, sums.scores), (scores**2, sums.squares)):
      mean = masses @ table[:, n]
      spread = np.sqrt(np.maximum(masses @ table[:, n] ** 2 - mean**2, 0) / num_samples)
      # a score on the edge of 1/255 may round either way: 1e-2 of it at most here
      assert (abs(total[n] / num_samples - mean) < 5 * spread + 1e-2 * table.max() / 255).all()
