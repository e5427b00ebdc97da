"""The models against plain dense NumPy, written from the papers' equations."""

from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from lrs_jax.tasks.graph_training import head_of
from lrs_jax.tasks.models import gnn


def random_graph(nodes=12, seed=0):
  upper = np.triu(np.random.default_rng(seed).random((nodes, nodes)) < 0.25, 1)
  return (upper | upper.T) * 1.0


def randomized(variables, seed=0):
  """Every parameter random: zero biases would hide mistakes."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape) * 0.5, jnp.float32), variables)


@cache
def setup(name, nodes=12, attributes=7, classes=3):
  """Model and data; `apply` is compiled once for all tests."""
  adjacency = random_graph(nodes)
  x = (np.random.default_rng(1).random((nodes, attributes)) < 0.4).astype(np.float32)
  edges = gnn.normalized_edges(sparse.csr_array(adjacency))
  model = gnn.make_model(name, attributes, classes)
  shapes = jax.eval_shape(model.init, jax.random.key(0), x, edges)
  variables = randomized(shapes)
  params = jax.tree.map(lambda a: np.asarray(a, np.float64), variables["params"])
  return model, jax.jit(model.apply), variables, params, adjacency, x, edges


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
  _, apply, variables, params, adjacency, x, edges = setup(name)
  a_hat = normalized(adjacency)
  wanted = {
    "appnp": lambda: dense_appnp(params, a_hat, x),
    "gcn": lambda: dense_gcn(params, a_hat, x, 2),
    "gcn6": lambda: dense_gcn(params, a_hat, x, 6),
    "gat": lambda: dense_gat(params, adjacency, x),
  }[name]()
  logits = apply(variables, x, edges)
  np.testing.assert_allclose(logits, wanted, rtol=2e-4, atol=2e-4 * abs(wanted).max())


@pytest.mark.parametrize("name", ["appnp", "gcn", "gat"])
def test_head_takes_the_product_and_middle_axes_are_a_batch(name):
  model, apply, variables, _, _, x, edges = setup(name)
  inputs = x, 1 - x
  products = jnp.stack([z @ variables["params"]["first_kernel"] for z in inputs], axis=1)
  both = jax.jit(head_of(model))((variables, edges), products)
  for i, z in enumerate(inputs):
    np.testing.assert_allclose(both[:, i], apply(variables, z, edges), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["appnp", "gcn", "gat"])
def test_nodes_without_neighbors_are_graphs_of_one_node(name):
  _, apply, variables, _, _, x, _ = setup(name)
  edgeless = gnn.normalized_edges(sparse.csr_array((12, 12)))
  single = gnn.normalized_edges(sparse.csr_array((1, 1)))
  logits = apply(variables, x, edgeless)
  for n in range(2):
    alone = apply(variables, x[n : n + 1], single)
    np.testing.assert_allclose(logits[n : n + 1], alone, rtol=1e-4, atol=1e-4)


def test_dropout_acts_in_training_only():
  model, apply, variables, _, _, x, edges = setup("appnp")
  plain = apply(variables, x, edges)
  train = jax.jit(lambda key: model.apply(variables, x, edges, train=True, rngs={"dropout": key}))
  noisy = [train(jax.random.key(seed)) for seed in (0, 0, 1)]
  np.testing.assert_array_equal(noisy[0], noisy[1])
  assert not np.allclose(noisy[0], noisy[2])
  assert not np.allclose(noisy[0], plain)


def test_unknown_name_is_refused():
  with pytest.raises(ValueError, match="'mlp'"):
    gnn.make_model("mlp", 3, 2)


@pytest.mark.parametrize("rate", [0.5, 0.6])
@pytest.mark.parametrize("shape", [(40,), (150, 101)])
def test_dropout_has_the_masks_of_flax(shape, rate):
  """Whatever number of random words is drawn; see `draws.bits`."""
  x, rngs = jnp.ones(shape), {"dropout": jax.random.key(5)}
  ours, theirs = (
    np.asarray(drop(rate).apply({}, x, deterministic=False, rngs=rngs))
    for drop in (gnn._Dropout, nn.Dropout)
  )
  assert 0.2 < (ours == 0).mean() < 0.8
  np.testing.assert_array_equal(ours, theirs)
