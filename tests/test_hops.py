"""What nodes see after some hops, and that networks see exactly that, or no more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from benchmarks.graph_views import HOPS
from lrs_jax.cells import hops
from lrs_jax.tasks.models import gnn


def sparse_graph(num_nodes=24, seed=0):
  """Some nodes in a long path, others at random, one alone."""
  rng = np.random.default_rng(seed)
  upper = np.triu(rng.random((num_nodes, num_nodes)) < 0.05, 1)
  upper[np.arange(13), np.arange(13) + 1] = True
  upper[:, -1] = False
  return (upper | upper.T) * 1.0


def influence(name, adjacency, positive):
  """Whether the logits of n change with the attributes of m, by more than rounding: bool [N, N]."""
  num_nodes, width = len(adjacency), 3
  rng = np.random.default_rng(1)
  edges = gnn.normalized_edges(sparse.csr_array(adjacency))
  model = gnn.make_model(name, width, 2)
  x = jnp.asarray(rng.random((num_nodes, width)), jnp.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), x, edges)

  def weight(leaf):
    values = rng.uniform(0.5, 1, leaf.shape) if positive else rng.normal(size=leaf.shape)
    return jnp.asarray(values, jnp.float32)

  variables = jax.tree.map(weight, shapes)
  # Node m's attributes change in copy m: axes between the first and the last are a batch.
  changed = x[:, None] + jnp.eye(num_nodes, dtype=jnp.float32)[:, :, None]
  logits = jax.jit(model.apply)(variables, jnp.concatenate([x[:, None], changed], axis=1), edges)
  return ~np.isclose(logits[:, 1:], logits[:, :1], rtol=1e-5, atol=1e-6).all(axis=-1)


@pytest.mark.parametrize("seed", range(3))
def test_a_graph_convolution_of_two_layers_sees_exactly_two_hops(seed):
  adjacency = sparse_graph(seed=seed)
  seen = hops.within(sparse.csr_array(adjacency), HOPS["gcn"]).toarray()
  np.testing.assert_array_equal(influence("gcn", adjacency, positive=True), seen)
  assert 0 < seen.mean() < 0.7


@pytest.mark.parametrize("name", list(HOPS))
def test_no_network_sees_more_than_its_hops(name):
  adjacency = sparse_graph()
  seen = hops.within(adjacency, HOPS[name]).toarray()
  assert not seen.all()
  assert not (influence(name, adjacency, positive=False) & ~seen).any()


def test_hops_are_powers():
  adjacency = sparse_graph(num_nodes=16) + np.eye(16) * 3  # whatever is not zero is an edge
  looped = (adjacency != 0) | np.eye(16, dtype=bool)
  for k in range(5):
    found = hops.within(adjacency, k)
    assert found.dtype == bool
    power = np.linalg.matrix_power(looped.astype(int), k)
    np.testing.assert_array_equal(found.toarray(), power > 0)
  assert hops.within(np.zeros((0, 0)), 2).shape == (0, 0)
  one_way = np.array([[0, 1], [0, 0]])
  assert hops.within(one_way, 1).toarray().tolist() == [[True, True], [False, True]]


def test_bad_input_is_named():
  with pytest.raises(ValueError, match=r"square, but its shape is \(1, 2\)"):
    hops.within(np.zeros((1, 2)), 1)
  for wrong in (-1, 1.5, True):
    with pytest.raises(ValueError, match="`hops` must be an integer >= 0"):
      hops.within(np.eye(2), wrong)
