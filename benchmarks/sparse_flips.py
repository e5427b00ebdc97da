"""Samples per second of an APPNP under flips: the sparse sampler against dense Bernoulli draws.

`python -m benchmarks.sparse_flips` makes a random graph of Citeseer's size; `--graph FILE` loads
one. Both paths evaluate the same network on the same smoothing distribution, stitched over the
groups; their votes are compared before anything is timed.
"""

import argparse
import json
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from lrs_jax import noise, sampling
from lrs_jax.cells import clusters
from lrs_jax.sampling import sparse_flips
from lrs_jax.tasks.data import citation
from lrs_jax.tasks.graph_training import head_of
from lrs_jax.tasks.models import gnn


def random_graph(nodes: int, attributes: int, seed: int = 0) -> citation.CitationGraph:
  """A connected graph with Citeseer's density of edges and attributes."""
  rng = np.random.default_rng(seed)
  senders = np.concatenate([np.arange(nodes - 1), rng.integers(0, nodes, 3 * nodes // 4)])
  receivers = np.concatenate([np.arange(1, nodes), rng.integers(0, nodes, 3 * nodes // 4)])
  shape = nodes, nodes
  adjacency = sparse.csr_array((np.ones(senders.size), (senders, receivers)), shape=shape)
  words = sparse.csr_array((rng.random((nodes, attributes)) < 32 / 3703).astype(np.float32))
  return citation.standardize(adjacency, words, rng.integers(0, 6, nodes))


def measure(
  graph: citation.CitationGraph, num_clusters: int, sparse_samples: int, dense_samples: int
) -> dict:
  nodes, attributes = graph.attributes.shape
  groups = clusters.spectral_clusters(graph.adjacency, num_clusters, seed=0)
  ranks = clusters.affinity_ranks(clusters.cluster_affinity(graph.adjacency, groups))
  flips = noise.flips(
    clusters.levels_by_rank(ranks, 0.01, 0.01),
    clusters.levels_by_rank(ranks, 0.6, 0.95),
    groups[:, None],
  )
  edges = gnn.normalized_edges(graph.adjacency)
  num_classes = int(graph.labels.max()) + 1
  model = gnn.make_model("appnp", attributes, num_classes)
  x = jnp.asarray(graph.attributes.toarray())
  variables = model.init(jax.random.key(0), x, edges)
  plan = sparse_flips.plan_flips(graph.attributes, flips)
  mesh = jax.make_mesh((1,), ("samples",), devices=jax.devices()[:1])

  def by_ones(num_samples: int) -> np.ndarray:
    return sparse_flips.class_sums(
      jax.random.key(1), head_of(model), (variables, edges), variables["params"]["first_kernel"],
      plan, groups, num_samples, mesh=mesh,
    ).votes  # fmt: skip

  def apply(params: tuple, z: jax.Array) -> jax.Array:
    return model.apply(params[0], z, params[1])

  def by_entries(num_samples: int) -> np.ndarray:
    counts = sampling.vote_counts(
      jax.random.key(2), apply, (variables, edges), x, flips, groups, num_samples,
      num_classes=num_classes, chunk_size=1, mesh=mesh,
    )  # fmt: skip
    return np.asarray(counts)

  found = {"nodes": nodes, "attributes": attributes, "clusters": num_clusters}
  rates = []
  for name, path, num_samples in (
    ("sparse", by_ones, sparse_samples),
    ("dense", by_entries, dense_samples),
  ):
    compile_seconds, _ = timed(path, 1)
    seconds, votes = timed(path, num_samples)
    found[f"{name}_compile_seconds"] = compile_seconds
    found[f"{name}_samples_per_second"] = num_samples / seconds
    rates.append(votes / num_samples)
  # two independent Monte Carlo estimates of the same probabilities, at 5 standard errors
  error = np.sqrt(0.25 * (1 / sparse_samples + 1 / dense_samples))
  if abs(rates[0] - rates[1]).mean() > 5 * error:
    raise AssertionError("the two paths disagree: nothing was measured")
  found["ratio"] = found["sparse_samples_per_second"] / found["dense_samples_per_second"]
  return found


def timed(path: Callable, num_samples: int) -> tuple[float, np.ndarray]:
  start = time.perf_counter()
  votes = path(num_samples)
  return time.perf_counter() - start, votes


def main(arguments: list[str] | None = None) -> list[dict]:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--graph")
  parser.add_argument("--nodes", type=int, default=2110)
  parser.add_argument("--attributes", type=int, default=3703)
  parser.add_argument("--sparse-samples", type=int, default=100)
  parser.add_argument("--dense-samples", type=int, default=10)
  options = parser.parse_args(arguments)
  if options.graph:
    graph = citation.load_graph(options.graph, binarize=True)
  else:
    graph = random_graph(options.nodes, options.attributes)
  results = []
  for num_clusters in (1, 5):
    found = measure(graph, num_clusters, options.sparse_samples, options.dense_samples)
    results.append({**found, "jax": jax.__version__, "device": jax.devices()[0].device_kind})
    print(json.dumps(results[-1], indent=2))
  return results


if __name__ == "__main__":
  main()
