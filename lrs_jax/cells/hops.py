"""What the nodes of a graph see: those that are few enough hops away (host).

A graph network that passes messages k times lets an output see k hops. An adversary who wants to
change it by attributes has to pay there. A reach that is too small makes a certificate wrong and
nothing in its numbers would show that: it comes from the architecture.
"""

import numpy as np
from jax.typing import ArrayLike
from scipy import sparse


def within(adjacency: ArrayLike | sparse.sparray, hops: int) -> sparse.csr_array:
  r"""Which nodes every node sees after so many hops.

  .. math:: R = [(A + I)^k > 0]

  A network sees that much if each of k layers reads a node and its neighbors, as graph convolutions
  and attention do, and if all else that it reads of the graph, such as degrees, is fixed.

  Args:
    adjacency: A, [N, N], dense or sparse: entry (n, m) is not zero where n listens to m.
    hops: k, an integer of at least 0.

  Returns:
    Sparse bool [N, N]: row n says what node n sees, always also itself.

  Raises:
    ValueError: an adjacency that is not square, or hops that are no integer >= 0.

  Example:
    >>> path = np.array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]])
    >>> within(path, 2).toarray().astype(int)
    array([[1, 1, 1, 0],
           [1, 1, 1, 1],
           [1, 1, 1, 1],
           [0, 1, 1, 1]])

  References: Schuchardt, Bojchevski, Gasteiger & Günnemann 2021, "Collective robustness
    certificates: exploiting interdependence in graph neural networks", ICLR, section 4.
  """
  matrix = sparse.csr_array(adjacency)
  if matrix.shape[0] != matrix.shape[1]:
    raise ValueError(f"`adjacency` must be square, but its shape is {matrix.shape}.")
  if isinstance(hops, bool) or not isinstance(hops, int | np.integer) or hops < 0:
    raise ValueError(f"`hops` must be an integer >= 0, but it is {hops!r}.")
  itself = sparse.eye_array(matrix.shape[0], dtype=bool, format="csr")
  near, seen = sparse.csr_array((matrix != 0) + itself), itself
  for _ in range(hops):
    seen = sparse.csr_array(seen @ near)
  seen.sort_indices()
  return seen
