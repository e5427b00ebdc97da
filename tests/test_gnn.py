"""The models against plain dense NumPy, written from the papers' equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from lrs_jax.models import gnn


def random_graph(nodes=12, seed=0):
  upper = np.triu(np.random.default_rng(seed).random((nodes, nodes)) < 0.25, 1)
  return (upper | upper.T) * 1.0


def randomized(variables, seed=0):
  """Every parameter random: zero biases would hide mistakes."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape) * 0.5, jnp.float32), variables)


def setup(name, nodes=12, attributes=7, classes=3):
  adjacency = random_graph(nodes)
  x = (np.random.default_rng(1).random((nodes, attributes)) < 0.4).astype(np.float32)
  edges = gnn.normalized_edges(sparse.csr_array(adjacency))
  model = gnn.make_model(name, attributes, classes)
  variables = randomized(model.init(jax.random.key(0), x, edges))
  params = jax.tree.map(lambda a: np.asarray(a, np.float64), variables["params"])
  return model, variables, params, adjacency, x, edges


def normalized(adjacency):
  looped = adjacency + np.eye(len(adjacency))
  root = np.diag(looped.sum(axis=1) ** -0.5)
  return root @ looped @ root


def dense_gcn(params, a_hat, x, layers):
  h = a_hat @ (x @ params["first_kernel"]) + params["bias_0"]
  for layer in range(1, layers):
    kernel = params[f"dense_{layer - 1}"]["kernel"]
    h = a_hat @ (np.maximum(h, 0) @ kernel) + params[f"bias_{layer}"]
  return h


def dense_attention(h, adjacent, attend):
  heads, width = attend.shape[1:]
  out = []
  for head in range(heads):
    mine = h[:, head * width : (head + 1) * width]
    scores = (mine @ attend[0, head])[:, None] + (mine @ attend[1, head])[None, :]
    scores = np.where(scores > 0, scores, 0.2 * scores)
    shares = np.where(adjacent > 0, np.exp(scores), 0)
    out.append(shares / shares.sum(axis=1, keepdims=True) @ mine)
  return np.concatenate(out, axis=1)


def dense_gat(params, adjacency, x):
  adjacent = adjacency + np.eye(len(adjacency))
  h = dense_attention(x @ params["first_kernel"], adjacent, params["attend_0"]) + params["bias_0"]
  h = np.where(h > 0, h, np.expm1(np.minimum(h, 0))) @ params["second"]["kernel"]
  return dense_attention(h, adjacent, params["attend_1"]) + params["bias_1"]


def dense_appnp(params, a_hat, x):
  h = np.maximum(x @ params["first_kernel"] + params["first_bias"], 0)
  h = h @ params["second"]["kernel"] + params["second"]["bias"]
  z = h
  for _ in range(10):
    z = 0.85 * a_hat @ z + 0.15 * h
  return z


@pytest.mark.parametrize("name", ["appnp", "gcn", "gcn6", "gat"])
def test_equals_dense_numpy(name):
  model, variables, params, adjacency, x, edges = setup(name)
  a_hat = normalized(adjacency)
  wanted = {
    "appnp": lambda: dense_appnp(params, a_hat, x),
    "gcn": lambda: dense_gcn(params, a_hat, x, 2),
    "gcn6": lambda: dense_gcn(params, a_hat, x, 6),
    "gat": lambda: dense_gat(params, adjacency, x),
  }[name]()
  logits = model.apply(variables, x, edges)
  np.testing.assert_allclose(logits, wanted, rtol=2e-4, atol=2e-4 * abs(wanted).max())


@pytest.mark.parametrize("name", ["appnp", "gcn", "gcn6", "gat"])
def test_middle_axes_are_a_batch(name):
  model, variables, _, _, x, edges = setup(name)
  other = 1 - x
  both = model.apply(variables, jnp.stack([x, other], axis=1), edges)
  for i, one in enumerate((x, other)):
    np.testing.assert_allclose(both[:, i], model.apply(variables, one, edges), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["appnp", "gcn", "gat"])
def test_head_continues_from_the_product(name):
  model, variables, _, _, x, edges = setup(name)
  product = x @ variables["params"]["first_kernel"]
  np.testing.assert_allclose(
    model.apply(variables, product, edges, method="head"),
    model.apply(variables, x, edges),
    rtol=1e-5,
    atol=1e-5,
  )


@pytest.mark.parametrize("name", ["appnp", "gcn", "gcn6", "gat"])
def test_one_node_without_edges_and_isolated_nodes(name):
  model = gnn.make_model(name, 4, 2)
  x = np.eye(3, 4, dtype=np.float32)
  edgeless = gnn.normalized_edges(sparse.csr_array((3, 3)))
  variables = randomized(model.init(jax.random.key(0), x, edgeless))
  logits = model.apply(variables, x, edgeless)
  single = gnn.normalized_edges(sparse.csr_array((1, 1)))
  for n in range(3):  # nodes that see nobody are graphs of one node each
    np.testing.assert_allclose(
      logits[n : n + 1], model.apply(variables, x[n : n + 1], single), rtol=1e-5, atol=1e-6
    )


def test_dropout_acts_in_training_only():
  model, variables, _, _, x, edges = setup("appnp")
  plain = model.apply(variables, x, edges)
  noisy = model.apply(variables, x, edges, train=True, rngs={"dropout": jax.random.key(0)})
  assert not np.allclose(plain, noisy)
  np.testing.assert_array_equal(plain, model.apply(variables, x, edges))


def test_unknown_name_is_refused():
  with pytest.raises(ValueError, match="'mlp'"):
    gnn.make_model("mlp", 3, 2)
