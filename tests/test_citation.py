import numpy as np
import pytest
from scipy import sparse

from lrs_jax.tasks.data import citation


def save(path, adjacency, attributes, labels, *, layout=("adj_matrix.", "attr_matrix."), **more):
  arrays = {"labels": labels, **more}
  for name, matrix in zip(layout, (adjacency, attributes), strict=True):
    matrix = sparse.csr_array(matrix)
    for part in ("data", "indices", "indptr", "shape"):
      arrays[f"{name}{part}"] = np.asarray(getattr(matrix, part))
  np.savez(path, **arrays)
  return path


def random_graph(seed=0, nodes=30, attributes=8):
  rng = np.random.default_rng(seed)
  adjacency = (rng.random((nodes, nodes)) < 0.05).astype(np.float32) * rng.integers(1, 4)
  return adjacency, (rng.random((nodes, attributes)) < 0.3) * 1.0, rng.integers(0, 3, nodes)


def test_standardized_graph_is_what_networks_textbooks_say(tmp_path):
  adjacency, attributes, labels = random_graph()
  graph = citation.load_graph(save(tmp_path / "g.npz", adjacency, attributes, labels))
  dense = graph.adjacency.toarray()
  assert (dense == dense.T).all()
  assert (np.diag(dense) == 0).all()
  assert set(np.unique(dense)) == {0, 1}
  # brute force: grow the component of each node by matrix powers
  reach = np.linalg.matrix_power(((adjacency + adjacency.T) > 0) * 1.0 + np.eye(30), 30) > 0
  inside = reach[reach.sum(axis=1).argmax()]
  assert graph.labels.size == inside.sum() < 30
  np.testing.assert_array_equal(graph.attributes.toarray(), attributes[inside])
  wanted = ((adjacency + adjacency.T) > 0)[np.ix_(inside, inside)]
  np.testing.assert_array_equal(dense, wanted & ~np.eye(len(dense), dtype=bool))
  assert any("largest connected component" in note for note in graph.notes)


def test_both_layouts_are_read(tmp_path):
  graphs = [
    citation.load_graph(save(tmp_path / f"{i}.npz", *random_graph(), layout=layout))
    for i, layout in enumerate((("adj_matrix.", "attr_matrix."), ("adj_", "attr_")))
  ]
  for one, other in zip(*graphs, strict=True):
    if isinstance(one, tuple):
      assert one == other
    else:
      np.testing.assert_array_equal(
        *(m.toarray() if sparse.issparse(m) else m for m in (one, other))
      )


def test_an_array_that_a_layout_lacks_is_named(tmp_path):
  path = save(tmp_path / "g.npz", *random_graph(), layout=("adj_", "attr_"))
  with np.load(path) as whole:
    arrays = {name: whole[name] for name in whole if name != "attr_indices"}
  np.savez(path, **arrays)
  with pytest.raises(ValueError, match="has no array `attr_indices`; it holds adj_data, "):
    citation.load_graph(path)


def test_pickled_objects_are_never_read(tmp_path):
  adjacency, attributes, labels = random_graph()
  extra = np.array([{"a": 1}], dtype=object)
  path = save(tmp_path / "g.npz", adjacency, attributes, labels, metadata=extra)
  citation.load_graph(path)  # an object array beside the ones needed is left alone
  path = save(tmp_path / "h.npz", adjacency, attributes, labels.astype(object))
  with pytest.raises(
    ValueError, match=r"h\.npz: array 'labels' holds pickled Python objects, which are never loaded"
  ):
    citation.load_graph(path)


def test_real_attributes_are_an_error_or_binarized_with_a_note(tmp_path):
  adjacency, attributes, labels = random_graph()
  path = save(tmp_path / "g.npz", adjacency, attributes * 0.25, labels)
  with pytest.raises(ValueError, match=r"must be 0 or 1.*0\.25"):
    citation.load_graph(path)
  graph = citation.load_graph(path, binarize=True)
  assert set(np.unique(graph.attributes.data)) == {1.0}
  assert any("became 1" in note for note in graph.notes)


def test_missing_arrays_are_named(tmp_path):
  np.savez(tmp_path / "g.npz", labels=np.zeros(3))
  with pytest.raises(ValueError, match=r"no array `adj_matrix\.data`"):
    citation.load_graph(tmp_path / "g.npz")


def test_find_graph_says_what_is_missing(tmp_path, monkeypatch):
  monkeypatch.delenv("LRS_JAX_DATA", raising=False)
  with pytest.raises(ValueError, match="LRS_JAX_DATA"):
    citation.find_graph("citeseer")
  with pytest.raises(ValueError, match="'pubmed'"):
    citation.find_graph("pubmed", tmp_path)
  with pytest.raises(FileNotFoundError, match=r"citeseer\.npz"):
    citation.find_graph("citeseer", tmp_path)
  (tmp_path / "citeseer.npz").touch()
  monkeypatch.setenv("LRS_JAX_DATA", str(tmp_path))
  assert citation.find_graph("citeseer") == tmp_path / "citeseer.npz"


def test_one_node_and_no_edges():
  one = citation.standardize(sparse.csr_array((1, 1)), sparse.csr_array((1, 4)), np.array([5]))
  assert one.labels.tolist() == [0]
  assert one.adjacency.nnz == 0
  edgeless = citation.standardize(sparse.csr_array((3, 3)), sparse.csr_array((3, 4)), np.arange(3))
  assert edgeless.labels.size == 1  # the largest component of a graph without edges is a node
  with pytest.raises(ValueError, match="no nodes"):
    citation.standardize(sparse.csr_array((0, 0)), sparse.csr_array((0, 4)), np.array([], int))
  with pytest.raises(ValueError, match=r"\[N, N\]"):
    citation.standardize(sparse.csr_array((3, 3)), sparse.csr_array((2, 4)), np.arange(3))


def test_split_partitions_the_nodes_with_equal_classes():
  labels = np.repeat([0, 1, 2], [50, 41, 90])
  split = citation.split_nodes(labels, seed=3)
  together = np.concatenate(split)
  assert sorted(together) == list(range(labels.size))
  assert np.bincount(labels[split.train]).tolist() == [20, 20, 20]
  assert np.bincount(labels[split.validation]).tolist() == [20, 20, 20]
  again, other = citation.split_nodes(labels, seed=3), citation.split_nodes(labels, seed=4)
  np.testing.assert_array_equal(split.train, again.train)
  assert set(split.train) != set(other.train)


def test_split_names_the_class_that_is_too_small():
  with pytest.raises(ValueError, match="Class 1 has 39 nodes"):
    citation.split_nodes(np.repeat([0, 1], [60, 39]), seed=0)
  with pytest.raises(ValueError, match="Class 1 has 0 nodes"):
    citation.split_nodes(np.repeat([0, 2], [60, 60]), seed=0)
  with pytest.raises(ValueError, match="per_class"):
    citation.split_nodes(np.zeros(5, int), seed=0, per_class=0)


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    ("adj_matrix.indices", np.array([0, 10**9]), "no CSR matrix"),
    ("adj_matrix.indices", np.array([0, -1]), "no CSR matrix"),
    ("adj_matrix.indices", np.array([0.0, 1.0]), "must be a vector of integers, but it is float64"),
    ("adj_matrix.indptr", np.array([0, 2]), "no CSR matrix"),
    ("adj_matrix.indptr", np.array([0, 5, 1]), "no CSR matrix"),
    ("adj_matrix.indptr", np.array([[0, 1, 2]]), "must be a vector of integers"),
    ("adj_matrix.data", np.array(["a", "b"]), "must be a vector of numbers"),
    ("adj_matrix.data", np.ones(2, complex), "must be a vector of numbers"),
    ("adj_matrix.shape", np.array([2]), r"must be two numbers of at least 0, but it is \[2\]"),
    ("adj_matrix.shape", np.array([2, -2]), "must be two numbers of at least 0"),
    ("adj_matrix.shape", np.array([2, 2**63], np.uint64), "no CSR matrix|must have shape"),
    ("labels", np.array([0.5, 1.5]), "must be a vector of integers"),
  ],
)
def test_what_is_no_graph_is_one_clear_error(tmp_path, name, value, message):
  """An index out of range would read what is not there."""
  adjacency = sparse.csr_array(np.array([[0, 1.0], [1, 0]]))
  path = save(tmp_path / "g.npz", adjacency, np.eye(2), np.arange(2))
  np.savez(path, **{**dict(np.load(path)), name: value})
  with pytest.raises(ValueError, match=rf"g\.npz.*({message})"):
    citation.load_graph(path)


def test_text_in_the_place_of_a_graph_is_called_that(tmp_path):
  (tmp_path / "g.npz").write_text("0 1\n1 2\n")
  with pytest.raises(ValueError, match=r"cannot read .*g\.npz: it is no \.npz archive"):
    citation.load_graph(tmp_path / "g.npz")
