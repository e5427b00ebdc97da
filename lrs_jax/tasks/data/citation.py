r"""Attributed citation graphs: loading, standardizing, splitting (host).

Graphs are distributed in two layouts, and both are read: an ``.npz`` file with ``labels`` and the
CSR arrays ``adj_matrix.{data,indices,indptr,shape}`` and ``attr_matrix.{...}``, as Citeseer and
Cora-ML here, or ``adj_{data,...}`` and ``attr_{...}``, as Amazon, Coauthor and Polblogs often are.
Files are opened with ``allow_pickle=False``; nothing else in them is read.
"""

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse

from lrs_jax import storage

NAMES = ("citeseer", "cora_ml")

_LAYOUTS = ("adj_matrix.", "attr_matrix."), ("adj_", "attr_")
_PARTS = "data", "indices", "indptr", "shape"


class CitationGraph(NamedTuple):
  """An undirected graph without self-loops, with binary attributes and one label per node."""

  adjacency: sparse.csr_array  # float32 [N, N], symmetric, 0 or 1
  attributes: sparse.csr_array  # float32 [N, D], 0 or 1
  labels: np.ndarray  # int32 [N], in [0, K)
  notes: tuple[str, ...]  # what standardizing changed, to be printed by whoever loads the graph


class Split(NamedTuple):
  """Node indices, each int64 and sorted; every node is in exactly one of them."""

  train: np.ndarray
  validation: np.ndarray
  test: np.ndarray


def find_graph(name: str, data_dir: str | Path | None = None) -> Path:
  """Path of a named data set: ``data_dir/name.npz``, or ``$LRS_JAX_DATA/name.npz``.

  A name that is not known, or no directory, is a ValueError; no file a FileNotFoundError.
  """
  if name not in NAMES:
    raise ValueError(f"`name` must be one of {', '.join(NAMES)}, but it is {name!r}.")
  directory = data_dir or os.environ.get("LRS_JAX_DATA")
  if directory is None:
    raise ValueError(
      f"No directory for {name}.npz: give `data_dir` (--data-dir) or set LRS_JAX_DATA."
    )
  path = Path(directory) / f"{name}.npz"
  if not path.is_file():
    raise FileNotFoundError(f"{path} does not exist; `data_dir` must hold {name}.npz.")
  return path


def load_graph(path: str | Path, *, binarize: bool = False) -> CitationGraph:
  """Loads a graph file, an ``.npz`` of either layout, for `standardize`, and `binarize` there.

  An array that is missing, pickled, or not what the layout says is a ValueError.
  """
  path, every = Path(path), [[f"{name}{part}" for name in of for part in _PARTS] for of in _LAYOUTS]
  arrays = storage.load_arrays(path, ["labels", *itertools.chain(*every)])
  number = max(range(len(every)), key=lambda i: len(arrays.keys() & set(every[i])))
  for name in (*every[number], "labels"):
    if name not in arrays:
      raise ValueError(
        f"{path} has no array `{name}`; it holds {', '.join(storage.array_names(path))}. A graph "
        "file needs labels, and CSR arrays of the adjacency and of attributes: adj_matrix.data, "
        "..., attr_matrix.data, ..., or adj_data, ..., attr_data, ..."
      )
    kinds = "bifu" if name.endswith("data") else "iu"
    if arrays[name].dtype.kind not in kinds or arrays[name].ndim != 1:
      raise ValueError(
        f"array `{name}` of {path} must be a vector of {'numbers' if 'f' in kinds else 'integers'},"
        f" but it is {arrays[name].dtype} of shape {arrays[name].shape}."
      )
  try:
    adjacency, attributes = (_matrix(arrays, name) for name in _LAYOUTS[number])
    return standardize(adjacency, attributes, arrays["labels"], binarize=binarize)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from None


def _matrix(arrays: Mapping[str, np.ndarray], name: str) -> sparse.csr_array:
  """A CSR matrix, if its arrays are one: an index out of range could read anything."""
  *parts, shape = (arrays[f"{name}{part}"] for part in _PARTS)
  shape = shape.tolist()
  if len(shape) != 2 or min(shape) < 0:
    raise ValueError(f"`{name}shape` must be two numbers of at least 0, but it is {shape}.")
  try:
    matrix = sparse.csr_array(tuple(parts), shape=tuple(shape))
    if (np.diff(matrix.indptr) < 0).any():  # SciPy does not look where the last one is 0
      raise ValueError("index pointer values must form a non-decreasing sequence")
    matrix.check_format(full_check=True)
  except (ValueError, OverflowError) as error:
    raise ValueError(f"the arrays {name}... are no CSR matrix: {error}.") from None
  return matrix


def standardize(
  adjacency: sparse.csr_array,
  attributes: sparse.csr_array,
  labels: np.ndarray,
  *,
  binarize: bool = False,
) -> CitationGraph:
  """Undirected, unweighted, without self-loops, restricted to the largest connected component.

  Classes that do not occur in the component are dropped and the others renumbered in order. Ties
  between components are broken towards the one with the lowest node.

  Args:
    adjacency: [N, N]; any entry that is not zero is an edge, in both directions.
    attributes: [N, D], finite.
    labels: int [N].
    binarize: turn attributes that are not 0 or 1 into "is not zero"; a ValueError otherwise, as
      shapes are that do not fit.

  Returns:
    A `CitationGraph`, with a note for everything that changed.

  Example:
    >>> adjacency = sparse.csr_array(np.array([[1, 1, 0], [0, 0, 0], [0, 0, 0]]))
    >>> graph = standardize(adjacency, sparse.csr_array(np.eye(3)), np.array([4, 7, 9]))
    >>> graph.adjacency.toarray()
    array([[0., 1.],
           [1., 0.]], dtype=float32)
    >>> graph.labels
    array([0, 1], dtype=int32)
    >>> graph.notes
    ('2 of 3 nodes are in the largest connected component', '2 of 3 classes occur in it')
  """
  adjacency, attributes = sparse.csr_array(adjacency), sparse.csr_array(attributes, copy=True)
  labels, num_nodes = np.asarray(labels), np.size(labels)
  if adjacency.shape != (num_nodes, num_nodes) or attributes.shape[0] != num_nodes:
    raise ValueError(
      f"`adjacency` must be [N, N] and `attributes` [N, D] for N = {num_nodes} `labels`, "
      f"but their shapes are {adjacency.shape} and {attributes.shape}."
    )
  if num_nodes == 0:
    raise ValueError("`labels` is empty: the graph has no nodes.")
  notes = []
  attributes.sum_duplicates()
  attributes.eliminate_zeros()
  real = int((attributes.data != 1).sum())
  if real and not binarize:
    value = attributes.data[attributes.data != 1][0]
    raise ValueError(
      f"`attributes` must be 0 or 1, but {real} of them are not (the first is {value}). "
      "Pass binarize=True (--binarize) to use whether an attribute is zero."
    )
  if real:
    notes.append(f"{real} attributes were not 0 or 1 and became 1")
  edges = sparse.coo_array(adjacency)
  keep = (edges.row != edges.col) & (edges.data != 0)
  row, col = edges.row[keep], edges.col[keep]
  ends = np.concatenate([row, col]), np.concatenate([col, row])
  undirected = sparse.csr_array((np.ones(ends[0].size, np.float32), ends), shape=adjacency.shape)
  undirected.sum_duplicates()
  undirected.data[:] = 1
  count, component = sparse.csgraph.connected_components(undirected, directed=False)
  inside = component == np.bincount(component, minlength=count).argmax()
  if not inside.all():
    notes.append(f"{inside.sum()} of {num_nodes} nodes are in the largest connected component")
  classes, relabeled = np.unique(labels[inside], return_inverse=True)
  occurring = np.unique(labels).size
  if classes.size < occurring:
    notes.append(f"{classes.size} of {occurring} classes occur in it")
  binary = attributes[inside]
  binary.data = np.ones(binary.data.size, np.float32)
  return CitationGraph(
    undirected[inside][:, inside], binary, relabeled.astype(np.int32), tuple(notes)
  )


def split_nodes(labels: np.ndarray, seed: int, *, per_class: int = 20) -> Split:
  """Draws `per_class` nodes of every class for training, as many for validation; the rest test.

  A class in [0, K) with fewer than 2 `per_class` nodes, or nothing to train on, is a ValueError.

  Example:
    >>> split_nodes(np.array([0, 1, 0, 1, 0, 1]), seed=0, per_class=1).test.size
    2
  """
  if per_class < 1:
    raise ValueError(f"`per_class` must be at least 1, but it is {per_class}.")
  counts = np.bincount(labels)
  if counts.min() < 2 * per_class:
    raise ValueError(
      f"Class {counts.argmin()} has {counts.min()} nodes, but {per_class} for training and "
      f"{per_class} for validation are wanted; a smaller `per_class` (--per-class) would do."
    )
  order = np.random.default_rng(seed).permutation(labels.size)
  rank = np.empty(labels.size, np.int64)  # a node's place among those of its class
  for k, count in enumerate(counts):
    rank[order[labels[order] == k]] = np.arange(count)
  turn = np.minimum(rank // per_class, 2)
  return Split(*(np.flatnonzero(turn == part) for part in range(3)))
