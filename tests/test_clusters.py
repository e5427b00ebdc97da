import numpy as np
import pytest
from scipy import sparse

from lrs_jax.cells import clusters


def two_cliques(size=5):
  adjacency = np.kron(np.eye(2), np.ones((size, size))) - np.eye(2 * size)
  adjacency[size - 1, size] = adjacency[size, size - 1] = 1
  return sparse.csr_array(adjacency)


def random_graph(nodes=20, seed=0):
  upper = np.triu(np.random.default_rng(seed).random((nodes, nodes)) < 0.2, 1)
  return sparse.csr_array((upper | upper.T) * 1.0)


def test_spectral_clusters_find_the_cliques():
  found = clusters.spectral_clusters(two_cliques(), 2, seed=0)
  assert len(set(found[:5])) == 1 == len(set(found[5:]))
  assert found[0] != found[9]


def test_metis_clusters_are_of_equal_size_and_found_again():
  pytest.importorskip("pymetis")
  found = clusters.metis_clusters(two_cliques(), 2, seed=0)
  assert len(set(found[:5])) == 1 == len(set(found[5:]))
  large = random_graph(nodes=200)
  found = clusters.metis_clusters(large, 5, seed=0)
  assert np.ptp(np.bincount(found, minlength=5)) <= 4
  np.testing.assert_array_equal(found, clusters.metis_clusters(large, 5, seed=0))
  assert clusters.metis_clusters(large, 1, seed=0).tolist() == [0] * 200


def test_clusters_are_numbered_by_size():
  found = clusters.spectral_clusters(random_graph(), 4, seed=0)
  sizes = np.bincount(found, minlength=4)
  assert (sizes > 0).all()
  assert (np.diff(sizes) <= 0).all()


def test_extreme_numbers_of_clusters():
  assert clusters.spectral_clusters(two_cliques(), 1, seed=0).tolist() == [0] * 10
  assert clusters.spectral_clusters(two_cliques(), 10, seed=0).tolist() == list(range(10))
  for number in (0, 11):
    with pytest.raises(ValueError, match=f"number of nodes, 10, but it is {number}"):
      clusters.spectral_clusters(two_cliques(), number, seed=0)


def test_affinity_is_where_random_walks_stop():
  adjacency = random_graph()
  groups = np.random.default_rng(1).integers(0, 3, 20)
  affinity = clusters.cluster_affinity(adjacency, groups, teleport=0.2)
  np.testing.assert_allclose(affinity.sum(axis=1), 1)
  looped = adjacency.toarray() + np.eye(20)
  walk = looped / looped.sum(axis=1, keepdims=True)
  stops = sum(0.2 * 0.8**k * np.linalg.matrix_power(walk, k) for k in range(200))
  wanted = [
    [stops[groups == g][:, groups == c].sum() / (groups == g).sum() for c in range(3)]
    for g in range(3)
  ]
  np.testing.assert_allclose(affinity, wanted, rtol=1e-9)


def test_a_cluster_without_nodes_is_the_farthest():
  groups = np.array([0] * 5 + [2] * 5)
  ranks = clusters.affinity_ranks(clusters.cluster_affinity(two_cliques(), groups))
  assert ranks[0].tolist() == [0, 2, 1]
  assert ranks[2].tolist() == [1, 2, 0]


def test_ranks_count_the_closer_clusters():
  rng = np.random.default_rng(0)
  affinity = rng.random((6, 6))
  ranks = clusters.affinity_ranks(affinity)
  np.fill_diagonal(affinity, np.inf)
  brute = (affinity[:, :, None] < affinity[:, None, :]).sum(axis=2)
  np.testing.assert_array_equal(ranks, brute)
  # an ordering is another matrix: the mistake would be seen
  assert (np.argsort(-affinity, axis=1) != ranks).any()
  with pytest.raises(ValueError, match="square"):
    clusters.affinity_ranks(np.zeros((2, 3)))


def test_levels_follow_the_ranks():
  ranks = clusters.affinity_ranks(np.random.default_rng(0).random((5, 5)))
  levels = clusters.levels_by_rank(ranks, 0.6, 0.95)
  assert (np.diag(levels) == 0.6).all()
  assert levels.max() == pytest.approx(0.95)
  np.testing.assert_array_equal(np.argsort(levels, axis=1), np.argsort(ranks, axis=1))
  assert clusters.levels_by_rank([[0]], 0.6, 0.95).tolist() == [[0.6]]
  assert clusters.levels_by_rank([[0, 1]], 0.0, 0.0).tolist() == [[0, 0]]
  for low, high, name in ((-0.1, 0.5, "low"), (0.5, 1.0, "high")):
    with pytest.raises(ValueError, match=name):
      clusters.levels_by_rank([[0]], low, high)
