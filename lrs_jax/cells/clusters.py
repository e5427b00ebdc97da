r"""Clusters of a graph's nodes, their mutual affinity, and noise levels from its ranks (host).

The chain is clusters -> affinity [C, C] -> ranks [C, C] -> flip probabilities [G, C], G = C. A rank
says *how many clusters are closer*: `ranks[g, c]` belongs to cell c. (An ordering, as of `argsort`,
says which cluster comes i-th; noise by one and weights by the other are of two distributions.)
"""

import numpy as np
from jax.typing import ArrayLike
from scipy import sparse


def spectral_clusters(adjacency: sparse.csr_array, num_clusters: int, *, seed: int) -> np.ndarray:
  """Spectral clustering of a connected graph, numbered from the largest cluster to the smallest.

  Args:
    adjacency: [N, N], symmetric, 0 or 1.
    num_clusters: C, in [1, N], else `ValueError`.
    seed: of the eigensolver's start and of k-means.

  Returns:
    int32 [N], the cluster of every node; every cluster in [0, C) has nodes.

  Example:
    >>> two_triangles = np.kron(np.eye(2), 1 - np.eye(3))
    >>> two_triangles[2, 3] = two_triangles[3, 2] = 1
    >>> found = spectral_clusters(sparse.csr_array(two_triangles), 2, seed=0)
    >>> np.array_equal(found == found[0], [True, True, True, False, False, False])
    True

  References: von Luxburg 2007 (arXiv 0711.0189); Schuchardt et al. 2023 (2210.16140), section 7.
  """
  num_nodes = adjacency.shape[0]
  _check_number(num_clusters, num_nodes)
  if num_clusters == 1:
    return np.zeros(num_nodes, np.int32)
  if num_clusters == num_nodes:
    return np.arange(num_nodes, dtype=np.int32)
  matrix = sparse.csr_matrix(adjacency)
  matrix.indices, matrix.indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)
  from sklearn.cluster import SpectralClustering  # seconds of import that images need not pay

  method = SpectralClustering(num_clusters, affinity="precomputed", random_state=seed)
  return _by_size(method.fit_predict(matrix), num_clusters)


def metis_clusters(adjacency: sparse.csr_array, num_clusters: int, *, seed: int) -> np.ndarray:
  """Clusters of nearly equal size with few edges between them, by METIS.

  Arguments and result are those of `spectral_clusters`, and so are errors; PyMetis missing is one.

  References: Karypis & Kumar 1998, SIAM Journal on Scientific Computing 20(1).
  """
  _check_number(num_clusters, adjacency.shape[0])
  try:
    import pymetis
  except ImportError:
    raise ValueError(
      "METIS needs pymetis, which is not here: `pip install 'lrs_jax[graphs]'` compiles it where "
      "there is no wheel; or take spectral clusters (--partition spectral)."
    ) from None
  graph = pymetis.CSRAdjacency(adjacency.indptr.tolist(), adjacency.indices.tolist())
  _, labels = pymetis.part_graph(num_clusters, graph, options=pymetis.Options(seed=seed))
  return _by_size(np.asarray(labels), num_clusters)


def cluster_affinity(
  adjacency: sparse.csr_array, clusters: np.ndarray, *, teleport: float = 0.15
) -> np.ndarray:
  r"""How much the nodes of one cluster hear from those of another, by personalized PageRank.

  :math:`F_{g,c} = \frac{1}{|g|} \sum_{n \in g} \sum_{m \in c} \Pi_{n,m}` with
  :math:`\Pi = \beta (I - (1 - \beta) D^{-1}(A + I))^{-1}`, whose rows sum to 1: a random walk from
  a node of cluster g stops in cluster c with probability F[g, c], float64 [C, C]; `teleport`, in
  (0, 1], is the probability of stopping at every step. Unlike a count of edges it also orders
  clusters that share no edge; one without nodes has affinity 0 with all others.

  Example:
    >>> path = sparse.csr_array(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]))
    >>> cluster_affinity(path, np.array([0, 1, 2])).argsort(axis=1)[0]
    array([2, 1, 0])

  References: Gasteiger et al. 2019 (arXiv 1810.05997), section 2, for the walk.
  """
  num_nodes, num_clusters = clusters.size, int(clusters.max()) + 1
  looped = sparse.csr_array(adjacency + sparse.eye_array(num_nodes))
  walk = sparse.diags_array(1 / looped.sum(axis=1)) @ looped
  member = np.eye(num_clusters)[clusters]
  system = sparse.csc_array(sparse.eye_array(num_nodes) - (1 - teleport) * walk)
  stops = sparse.linalg.splu(system).solve(teleport * member)
  return member.T @ stops / np.maximum(member.sum(axis=0), 1)[:, None]


def affinity_ranks(affinity: ArrayLike) -> np.ndarray:
  """Rank of every cluster in the eyes of every other: 0 for itself, then by falling affinity.

  Of affinities [C, C], the larger the closer, it makes int [G, C]: `ranks[g, c]` is the number of
  clusters closer to g than c is. Ties are broken towards the lower index, so that each row is a
  permutation.

  Example:
    >>> affinity_ranks([[9, 1, 3], [1, 9, 2], [0, 0, 0]])
    array([[0, 2, 1],
           [2, 0, 1],
           [1, 2, 0]])
  """
  affinity = np.array(affinity, np.float64)
  if affinity.ndim != 2 or affinity.shape[0] != affinity.shape[1]:
    raise ValueError(f"`affinity` must be square, but its shape is {affinity.shape}.")
  np.fill_diagonal(affinity, np.inf)
  ordering = np.argsort(-affinity, axis=1, kind="stable")
  return ordering.argsort(axis=1)  # the inverse permutation


def levels_by_rank(ranks: ArrayLike, low: float, high: float) -> np.ndarray:
  r"""Flip probabilities linear in the rank, :math:`\theta_{g,c} = l + (h - l) r_{g,c} / \max r`.

  `low` is the probability at rank 0 (the group's own cluster), `high` that at the last one, both in
  [0, 1), else `ValueError`; the ranks are int [G, C], from 0 on.

  Example:
    >>> levels_by_rank([[0, 1, 2]], 0.6, 0.9)
    array([[0.6 , 0.75, 0.9 ]])

  References: Schuchardt et al. 2023 (arXiv 2210.16140), section 8.3.
  """
  ranks = np.asarray(ranks)
  for name, value in (("low", low), ("high", high)):
    if not 0 <= value < 1:
      raise ValueError(f"`{name}` must be a flip probability in [0, 1), but it is {value}.")
  return low + (high - low) * (ranks / ranks.max(initial=1))


def _check_number(num_clusters: int, num_nodes: int) -> None:
  if not 1 <= num_clusters <= num_nodes:
    raise ValueError(
      f"`num_clusters` must lie between 1 and the number of nodes, {num_nodes}, "
      f"but it is {num_clusters}."
    )


def _by_size(labels: np.ndarray, num_clusters: int) -> np.ndarray:
  sizes = np.bincount(labels, minlength=num_clusters)
  if sizes.min() == 0:
    raise ValueError(
      f"`num_clusters` is {num_clusters}, but only {(sizes > 0).sum()} distinct clusters were "
      "found; ask for fewer."
    )
  ordering = np.argsort(-sizes, kind="stable")
  return ordering.argsort().astype(np.int32)[labels]
