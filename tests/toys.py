"""A job of toy size for every task, as a user would give it on the command line."""

from typing import NamedTuple

import numpy as np
from scipy import sparse


class Toy(NamedTuple):
  """A job: the data set's name, and options that make it small."""

  data: str
  options: tuple[str, ...]
  unit: str


def write_graph(path, num_nodes=42, seed=0):
  """Three communities with their own words, in the layout of a graph file."""
  rng = np.random.default_rng(seed)
  labels = np.arange(num_nodes) * 3 // num_nodes
  same = labels[:, None] == labels
  upper = np.triu(rng.random((num_nodes, num_nodes)) < np.where(same, 0.35, 0.02), 1)
  likely = labels[:, None] == np.arange(24) % 3
  words = rng.random((num_nodes, 24)) < np.where(likely, 0.6, 0.05)
  arrays = {"labels": labels}
  for name, matrix in (("adj_matrix", upper), ("attr_matrix", words)):
    matrix = sparse.csr_array(matrix * 1.0)
    arrays |= {
      f"{name}.{part}": np.asarray(getattr(matrix, part))
      for part in ("data", "indices", "indptr", "shape")
    }
  np.savez(path, **arrays)
  return path


GRAPH = (
  *("--model-name", "gcn", "--per-class", "4", "--clusters", "3", "--steps", "30"),
  *("--samples", "200", "--selection-samples", "50", "--budgets", "2,4"),
  *("--theta-plus", "0.02,0.05", "--theta-minus", "0.4,0.8"),
)


def toys(folder):
  """Toy jobs by the tasks' names; `folder` gets the files that they need."""
  graph = write_graph(folder / "toy.npz")
  training = ("--steps", "3", "--batch-size", "2")
  radii = ("--budgets", "0,0.02,0.05,0.1,0.2,0.4,0.8,1.6")
  sampling = ("--samples", "40", "--selection-samples", "10")
  return {
    "images": Toy(
      "scenes",
      (
        *("--size", "16x40", "--grid", "2x2", "--width", "2", "--depth", "1", "--images", "2"),
        *("--std-max", "0.6", "--block", "8"),
        *(*training, *sampling, *radii),
      ),
      "pixels",
    ),
    "tokens": Toy(
      "documents",
      (
        *("--documents", "2", "--segments", "4", "--width", "4", "--depth", "2"),
        *(*training, *sampling),
      ),
      "words",
    ),
    "volumes": Toy(
      "bodies",
      (
        *("--size", "8x8x8", "--grid", "1x2x2", "--volumes", "2", "--width", "2", "--depth", "1"),
        *(*training, *sampling, *radii),
      ),
      "voxels",
    ),
    "graphs": Toy("citeseer", ("--graph", str(graph), *GRAPH), "nodes"),
    "edges": Toy(
      "citeseer_edges",
      ("--graph", str(graph), *GRAPH, "--steps", "20"),
      "nodes",
    ),
  }
