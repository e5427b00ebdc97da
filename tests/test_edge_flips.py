"""Flips of edges: every pair of nodes once, with the stated probabilities, whatever N is."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse, stats

from lrs_jax import noise
from lrs_jax.sampling import edge_flips
from lrs_jax.tasks.models import gnn

PLUS = np.array([[0.3, 0.05], [0.1, 0.3]])
MINUS = np.array([[0.6, 0.2], [0.6, 0.0]])


def graph(num_nodes, seed=0, share=0.5):
  upper = np.triu(np.random.default_rng(seed).random((num_nodes, num_nodes)) < share, 1)
  return (upper | upper.T) * 1.0


def toy_plan(adjacency, plus=PLUS, minus=MINUS):
  """Pairs within the first two nodes or within the others are of one cell, the rest of another."""
  first, second = edge_flips.ends(len(adjacency))
  cells = ((first < 2) != (second < 2)).astype(int)
  levels = noise.flips(plus, minus, cells)
  return edge_flips.plan_edges(sparse.csr_array(adjacency), levels), cells


@partial(jax.jit, static_argnames="sizes")
def pairs_of(keys, arrays, sizes):
  return jax.lax.map(lambda key: edge_flips.flipped_pairs(key, arrays, sizes), keys)


def draw(plan, num_samples, seed=0):
  """Noisy adjacency matrices [S, G, N, N], by adding up what was drawn."""
  keys = jax.random.split(jax.random.key(seed), num_samples)
  pairs, overflow = pairs_of(keys, plan.arrays, plan.sizes)
  assert not overflow.any()
  first, second, present = map(np.asarray, pairs)
  found = np.zeros((num_samples, present.shape[2], plan.sizes.nodes, plan.sizes.nodes), int)
  for g in range(present.shape[2]):
    sample = np.broadcast_to(np.arange(num_samples)[:, None], first.shape)
    np.add.at(found[:, g], (sample, first, second), present[:, :, g])
    np.add.at(found[:, g], (sample, second, first), present[:, :, g])
  return found


@pytest.mark.parametrize("num_nodes", range(2, 8))
def test_folding_has_every_pair_once(num_nodes):
  first, second = edge_flips.ends(num_nodes)
  pairs = np.sort(np.stack([first, second], axis=-1).reshape(-1, 2), axis=1).tolist()
  wanted = [list(pair) for pair in itertools.combinations(range(num_nodes), 2)]
  again = num_nodes // 2 if num_nodes % 2 == 0 else 0
  assert len(pairs) == len(wanted) + again
  assert sorted(map(tuple, pairs)) == sorted(
    [*map(tuple, wanted), *((i, i + num_nodes // 2) for i in range(again))]
  )
  adjacency = graph(num_nodes, num_nodes)
  folded = edge_flips.fold(sparse.csr_array(adjacency)).toarray() != 0
  assert folded.sum() * 2 == adjacency.sum()
  assert (adjacency[first[folded], second[folded]] == 1).all()


@pytest.mark.parametrize("num_nodes", [3, 4])
def test_joint_distribution_is_the_bernoulli_one(num_nodes):
  adjacency, samples = graph(num_nodes, 1), 10_000
  plan, _ = toy_plan(adjacency)
  found = draw(plan, samples)
  upper = np.triu_indices(num_nodes, 1)
  assert (found <= 1).all()
  assert not np.diagonal(found, axis1=2, axis2=3).any()
  cell = ((upper[0] < 2) != (upper[1] < 2)).astype(int)
  x = adjacency[upper]
  bits = (np.arange(2**x.size)[:, None] >> np.arange(x.size)) & 1
  for g in range(2):
    patterns = (found[:, g][:, *upper] << np.arange(x.size)).sum(axis=1)
    observed = np.bincount(patterns, minlength=len(bits))

    def p_value(shift, g=g, observed=observed):
      flip = np.where(x == 1, MINUS[g, cell], PLUS[g, cell] + shift)
      expected = np.where(bits == x, 1 - flip, flip).prod(axis=1) * samples
      keep = expected > 5
      assert not observed[expected == 0].any() or shift
      rare = observed[~keep].sum(), expected[~keep].sum()
      found, wanted = np.r_[observed[keep], rare[0]], np.r_[expected[keep], rare[1]]
      found, wanted = found[wanted > 5], wanted[wanted > 5]
      return stats.chisquare(found, wanted * (found.sum() / wanted.sum())).pvalue

    assert p_value(0.0) > 1e-4
    assert p_value(0.03) < 1e-4  # it can fail


def test_a_large_even_graph_adds_what_it_should():
  adjacency = graph(40, share=0.1)
  plan, _ = toy_plan(adjacency, np.full((1, 2), 0.05), np.full((1, 2), 0.4))
  found = draw(plan, 2000)[:, 0]
  assert (found <= 1).all()
  upper = np.triu(np.ones((40, 40), bool), 1)
  for ones, probability in ((1, 0.6), (0, 0.05)):
    where = upper & (adjacency == ones)
    error = np.sqrt(probability * (1 - probability) / 2000)
    assert abs(found[:, where].mean(axis=0) - probability).max() < 5 * error
  column = found[:, np.arange(20), np.arange(20, 40)]  # pairs that the layout has twice
  assert abs(column.mean() - np.where(adjacency[np.arange(20), np.arange(20, 40)], 0.6, 0.05).mean(
  )) < 5 * np.sqrt(0.06 / column.size)  # fmt: skip


def test_networks_see_the_noisy_graph():
  adjacency = graph(6, share=0.4)
  plan, _ = toy_plan(adjacency)
  drawn, _ = pairs_of(jax.random.split(jax.random.key(3), 1), plan.arrays, plan.sizes)
  pairs = jax.tree.map(lambda part: part[0], drawn)
  found = jax.jit(gnn.noisy_edges, static_argnums=1)(pairs, 6)
  for g in range(2):
    kept = np.asarray(pairs.present)[:, g]
    ends = [np.asarray(end)[kept] for end in (pairs.first, pairs.second)]
    seen = np.zeros((6, 6))
    seen[ends[0], ends[1]] = seen[ends[1], ends[0]] = 1
    wanted = gnn.normalized_edges(sparse.csr_array(seen))
    matrices = []
    for edges, weights in ((found, found.weights[:, g]), (wanted, wanted.weights)):
      matrices.append(np.zeros((6, 6)))
      np.add.at(matrices[-1], (np.asarray(edges.receivers), np.asarray(edges.senders)), weights)
    np.testing.assert_allclose(*matrices, rtol=1e-6)


def test_sums_do_not_depend_on_chunks_or_pieces():
  plan, _ = toy_plan(graph(6, share=0.4))

  def apply(params, pairs):  # whether a node has more than one neighbor
    degree = sum(
      jax.ops.segment_sum(pairs.present.astype(jnp.float32), end, num_segments=6)
      for end in (pairs.first, pairs.second)
    )
    return jnp.stack([1.5 - degree, degree - 1.5], axis=-1) * params

  asked = jax.random.key(0), apply, jnp.ones(()), plan, np.arange(6) % 2
  whole = edge_flips.class_sums(*asked, 50, chunk_size=1)
  assert whole.votes.min() < whole.votes.max()
  for size in (4, 16):
    parts = [edge_flips.class_sums(*asked, n, first_sample=m, chunk_size=size)
             for n, m in ((16, 0), (34, 16))]  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, whole, jax.tree.map(np.add, *parts))


def test_bad_input_is_named():
  flips = noise.flips([[0.1]], [[0.5]], np.zeros((4, 1), int))
  with pytest.raises(ValueError, match=r"\[N, N // 2\] = \(4, 2\)"):
    edge_flips.plan_edges(sparse.csr_array(graph(4)), flips)
  with pytest.raises(ValueError, match="two nodes at least"):
    edge_flips.plan_edges(sparse.csr_array((1, 1)), flips)
  plan, _ = toy_plan(graph(4))
  with pytest.raises(ValueError, match=r"\[N\] = \(4,\)"):
    edge_flips.class_sums(jax.random.key(0), None, None, plan, np.zeros(3, int), 1)
  cramped = plan._replace(sizes=plan.sizes._replace(capacity=1))
  with pytest.raises(OverflowError, match="larger `deviations`"):
    edge_flips.class_sums(
      jax.random.key(0), lambda params, pairs: jnp.zeros((4, 2, 2)), None, cramped,
      np.zeros(4, int), 20,
    )  # fmt: skip
