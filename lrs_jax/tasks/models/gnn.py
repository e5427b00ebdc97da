r"""Graph neural networks in Flax: GCN, GAT and APPNP on sparse edges.

All three start with the product of the attributes and a kernel, and that is where the input is
large: a sparse sampler makes it by itself. Axes between the first and the last are a batch, so one
call serves the copies that several groups see. The node axis comes first because gather and
segment-sum then move whole rows.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from lrs_jax.noise import draws
from lrs_jax.sampling.edge_flips import Pairs


class Edges(NamedTuple):
  """Directed edges with self-loops, weighted as a GCN does, for all alike or for each of G groups.

  A GAT wants them for all alike, and sorted by receiver, as `normalized_edges` makes them.
  """

  senders: jax.Array  # int32 [E]
  receivers: jax.Array  # int32 [E]
  weights: jax.Array  # float32 [E] or [E, G]


def normalized_edges(adjacency: sparse.csr_array) -> Edges:
  r"""Edges of :math:`\hat A = D^{-1/2} (A + I) D^{-1/2}`, D the degrees of A + I (host).

  `adjacency` [N, N] is symmetric, 0 or 1, without self-loops; A + I has E non-zeros.

  Example:
    >>> normalized_edges(sparse.csr_array(np.array([[0, 1], [1, 0]]))).weights
    Array([0.5, 0.5, 0.5, 0.5], dtype=float32)

  References: Kipf & Welling 2017 (arXiv 1609.02907), equation 2.
  """
  looped = sparse.csr_array(adjacency + sparse.eye_array(adjacency.shape[0]))
  receivers, senders = looped.tocoo().coords
  degree = np.diff(looped.indptr)
  weights = jnp.asarray(1 / np.sqrt(degree[receivers] * degree[senders]), jnp.float32)
  return Edges(jnp.asarray(senders, jnp.int32), jnp.asarray(receivers, jnp.int32), weights)


def noisy_edges(pairs: Pairs, num_nodes: int) -> Edges:
  r"""Edges of :math:`\hat A`, as `normalized_edges`, of the graph that each group sees (device).

  A pair that is no edge of a group's graph has weight 0 there.

  Example:
    >>> pair = Pairs(*jnp.array([[0], [1]]), jnp.array([[True, False]]))  # of group 0 alone
    >>> noisy_edges(pair, 2).weights.round(2)
    Array([[0.5, 0. ],
           [0.5, 0. ],
           [0.5, 1. ],
           [0.5, 1. ]], dtype=float32)
  """
  present, nodes = pairs.present.astype(jnp.float32), jnp.arange(num_nodes, dtype=jnp.int32)
  receivers = jnp.concatenate([pairs.second, pairs.first, nodes])
  senders = jnp.concatenate([pairs.first, pairs.second, nodes])
  present = jnp.concatenate([present, present, jnp.ones((num_nodes, present.shape[1]))])
  scale = 1 / jnp.sqrt(jax.ops.segment_sum(present, receivers, num_segments=num_nodes))
  return Edges(senders, receivers, present * scale[senders] * scale[receivers])


def propagate(hidden: jax.Array, edges: Edges, weights: jax.Array) -> jax.Array:
  """Weighted sum over incoming edges: hidden [N, ..., H], weights [E, ...] -> [N, ..., H].

  Edges are in any order.

  Example:
    >>> edges = normalized_edges(sparse.csr_array(np.array([[0, 1], [1, 0]])))
    >>> propagate(jnp.asarray([[1.0], [3.0]]), edges, edges.weights)
    Array([[2.],
           [2.]], dtype=float32)
  """
  weights = weights.reshape(weights.shape + (1,) * (hidden.ndim - weights.ndim))
  messages = hidden[edges.senders] * weights
  return jax.ops.segment_sum(messages, edges.receivers, num_segments=hidden.shape[0])


class _Dropout(nn.Module):
  """Flax's dropout, the very masks of it, drawn by `draws.bits`: on a CPU that is faster."""

  rate: float

  def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
    """Zeros a part of the entries, `rate`, and enlarges the others accordingly."""
    if deterministic:
      return x
    uniform = (draws.bits(self.make_rng("dropout"), x.shape) >> 9).astype(jnp.float32) * 2.0**-23
    return jnp.where(uniform < 1 - self.rate, x / (1 - self.rate), 0.0)


class _Network(nn.Module):
  num_attributes: int
  num_classes: int

  def __call__(self, attributes: jax.Array, edges: Edges, *, train: bool = False) -> jax.Array:
    """Attributes [N, ..., D] -> logits [N, ..., K]."""
    return self.head(attributes @ self.first_kernel, edges, train=train)

  def head(self, product: jax.Array, edges: Edges, *, train: bool = False) -> jax.Array:
    """Attributes times `first_kernel`, [N, ..., H] -> logits [N, ..., K]."""
    raise NotImplementedError

  def _kernel(self, width: int) -> jax.Array:
    glorot = nn.initializers.glorot_uniform()
    return self.param("first_kernel", glorot, (self.num_attributes, width))

  def _bias(self, name: str, width: int) -> jax.Array:
    return self.param(name, nn.initializers.zeros, (width,))


class GCN(_Network):
  r"""Graph convolutions :math:`h \leftarrow \mathrm{relu}(\hat A h W + b)`, linear at last.

  `widths` lists the hidden layers: (64,) is the usual network of two layers.

  References: Kipf & Welling 2017 (arXiv 1609.02907).
  """

  widths: Sequence[int] = (64,)
  dropout: float = 0.5

  def setup(self) -> None:  # noqa: D102
    widths = (*self.widths, self.num_classes)
    self.first_kernel = self._kernel(widths[0])
    self.dense = [nn.Dense(width, use_bias=False) for width in widths[1:]]
    self.biases = [self._bias(f"bias_{layer}", width) for layer, width in enumerate(widths)]
    self.drop = _Dropout(self.dropout)

  def head(self, product: jax.Array, edges: Edges, *, train: bool = False) -> jax.Array:  # noqa: D102
    hidden = _plus(propagate(product, edges, edges.weights), self.biases[0])
    for dense, bias in zip(self.dense, self.biases[1:], strict=True):
      hidden = dense(self.drop(nn.relu(hidden), deterministic=not train))
      hidden = _plus(propagate(hidden, edges, edges.weights), bias)
    return hidden


class GAT(_Network):
  r"""Graph attention, two layers: 8 heads that are concatenated, then one.

  :math:`\alpha_{ij} = \mathrm{softmax}_j \mathrm{LeakyReLU}(a_r^\top h_i + a_s^\top h_j)` over the
  neighbors j of i, i included.

  References: Veličković et al. 2018 (arXiv 1710.10903), section 2.1.
  """

  heads: int = 8
  hidden: int = 8
  dropout: float = 0.6

  def setup(self) -> None:  # noqa: D102
    self.first_kernel = self._kernel(self.heads * self.hidden)
    self.second = nn.Dense(self.num_classes, use_bias=False)
    glorot = nn.initializers.glorot_uniform()
    shapes = (2, self.heads, self.hidden), (2, 1, self.num_classes)
    self.attend = [self.param(f"attend_{i}", glorot, shape) for i, shape in enumerate(shapes)]
    self.bias_0 = self._bias("bias_0", self.heads * self.hidden)
    self.bias_1 = self._bias("bias_1", self.num_classes)
    self.drop = _Dropout(self.dropout)

  def head(self, product: jax.Array, edges: Edges, *, train: bool = False) -> jax.Array:  # noqa: D102
    hidden = nn.elu(_plus(self._attention(product, edges, self.attend[0], train), self.bias_0))
    hidden = self.second(self.drop(hidden, deterministic=not train))
    return _plus(self._attention(hidden, edges, self.attend[1], train), self.bias_1)

  def _attention(
    self, hidden: jax.Array, edges: Edges, attend: jax.Array, train: bool
  ) -> jax.Array:
    heads, width = attend.shape[1:]
    split = hidden.reshape(hidden.shape[:-1] + (heads, width))
    to_receiver = jnp.einsum("...hw,hw->...h", split, attend[0])
    from_sender = jnp.einsum("...hw,hw->...h", split, attend[1])
    scores = nn.leaky_relu(to_receiver[edges.receivers] + from_sender[edges.senders], 0.2)
    options: dict[str, Any] = {"num_segments": hidden.shape[0], "indices_are_sorted": True}
    highest = jax.ops.segment_max(scores, edges.receivers, **options)
    shares = jnp.exp(scores - highest[edges.receivers])
    total = jax.ops.segment_sum(shares, edges.receivers, **options)
    shares = self.drop(shares / total[edges.receivers], deterministic=not train)
    return propagate(split, edges, shares).reshape(hidden.shape)


class APPNP(_Network):
  r"""A perceptron per node, then personalized PageRank.

  :math:`z \leftarrow (1 - \beta) \hat A z + \beta h`, `hops` times from z = h, where h are the
  perceptron's logits and :math:`\beta` is the teleport probability.

  References: Gasteiger et al. 2019 (arXiv 1810.05997), equations 5 to 7.
  """

  hidden: int = 64
  hops: int = 10
  teleport: float = 0.15
  dropout: float = 0.5

  def setup(self) -> None:  # noqa: D102
    self.first_kernel = self._kernel(self.hidden)
    self.first_bias = self._bias("first_bias", self.hidden)
    self.second = nn.Dense(self.num_classes)
    self.drop = _Dropout(self.dropout)

  def head(self, product: jax.Array, edges: Edges, *, train: bool = False) -> jax.Array:  # noqa: D102
    hidden = nn.relu(_plus(product, self.first_bias))
    logits = self.second(self.drop(hidden, deterministic=not train))
    weights = edges.weights
    masks = jnp.ones((self.hops, *(weights.shape if train else (1,) * weights.ndim)))
    masks = self.drop(masks, deterministic=not train)

    def hop(spread: jax.Array, mask: jax.Array) -> tuple[jax.Array, None]:
      further = propagate(spread, edges, weights * mask)
      return (1 - self.teleport) * further + self.teleport * logits, None

    return jax.lax.scan(hop, logits, masks)[0]


def make_model(name: str, num_attributes: int, num_classes: int) -> nn.Module:
  """One of the networks by name: ``appnp``, ``gcn``, ``gcn6`` (six layers) or ``gat``.

  Example:
    >>> make_model("appnp", 3703, 6).hops
    10
  """
  models: Mapping[str, Callable[..., nn.Module]]
  models = {"appnp": APPNP, "gcn": GCN, "gcn6": partial(GCN, widths=(64,) * 5), "gat": GAT}
  if name not in models:
    raise ValueError(f"`name` must be appnp, gcn, gcn6 or gat, but it is {name!r}.")
  return models[name](num_attributes, num_classes)


def _plus(hidden: jax.Array, bias: jax.Array) -> jax.Array:
  return hidden + bias.reshape((1,) * (hidden.ndim - 1) + bias.shape)
