"""A graph of software: modules that import each other, with the words that they define.

    PYTHONPATH=. python benchmarks/software_graph.py software.npz
    lrs-jax certify citeseer --graph software.npz

reads installed packages, no download: a node is a module, an edge an import between two of them, an
attribute whether a word is in the names that the module defines or in its docstring, and the class
is the package. Names of packages are no attributes. Other versions of packages make another graph.
"""

import argparse
import ast
import importlib.util
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import sparse

PACKAGES = ("jax", "matplotlib", "numpy", "scipy", "sklearn")
WORDS = 1500
"""Attributes: the most frequent words that less than every fifth module has."""


def modules(package: str) -> Iterator[tuple[str, ast.Module]]:
  """Name and syntax tree of all modules of a package but its tests."""
  found = importlib.util.find_spec(package)
  if found is None or found.origin is None:
    raise ValueError(f"the package {package!r} is not installed.")
  root = Path(found.origin).parent
  for path in sorted(root.rglob("*.py")):
    parts = path.relative_to(root.parent).with_suffix("").parts
    if not {"tests", "test", "_vendor", "externals"} & set(parts):
      name = ".".join(parts).removesuffix(".__init__")
      yield name, ast.parse(path.read_text(encoding="utf-8"))


def imported(name: str, tree: ast.Module) -> Iterator[str]:
  """Full names of what a module imports: of modules, or of what is in them."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      parents = name.split(".")
      base = ".".join(parents[: len(parents) - node.level]) if node.level else ""
      base = ".".join(filter(None, (base, node.module)))
      yield base
      yield from (f"{base}.{alias.name}" for alias in node.names)


def words(tree: ast.Module) -> set[str]:
  """Words of three letters and more in a module's docstring and in the names that it defines."""
  defined = [
    node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
  ]
  text = " ".join([ast.get_docstring(tree) or "", *defined])
  return {word.lower() for word in re.findall(r"[A-Z]?[a-z]{2,}", text)}


def build(packages: Sequence[str], num_words: int = WORDS) -> dict[str, np.ndarray]:
  """The arrays of a graph file, see `lrs_jax.tasks.data.citation`."""
  trees = {name: tree for package in packages for name, tree in modules(package)}
  number = {name: i for i, name in enumerate(trees)}
  edges = {
    (i, number[target])
    for i, (name, tree) in enumerate(trees.items())
    for target in imported(name, tree)
    if target in number
  }
  has = [words(tree) - set(packages) for tree in trees.values()]
  counts = Counter(word for of in has for word in of)
  common = [word for word, count in counts.most_common() if count < len(has) / 5][:num_words]
  column = {word: j for j, word in enumerate(sorted(common))}
  ones = [(i, column[word]) for i, of in enumerate(has) for word in sorted(of) if word in column]
  labels = [packages.index(name.partition(".")[0]) for name in trees]
  arrays = {"labels": np.array(labels)}
  matrices = {"adj_": (sorted(edges), len(trees)), "attr_": (ones, len(column))}
  for prefix, (entries, columns) in matrices.items():
    rows, cols = np.array(entries).T
    matrix = sparse.csr_array((np.ones(rows.size), (rows, cols)), shape=(len(trees), columns))
    for part in ("data", "indices", "indptr"):
      arrays[prefix + part] = getattr(matrix, part)
    arrays[f"{prefix}shape"] = np.array(matrix.shape)
  return arrays


def main(arguments: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("file", type=Path, help="the .npz file to write")
  parser.add_argument("--packages", nargs="+", default=list(PACKAGES))
  options = parser.parse_args(arguments)
  arrays = build(options.packages)
  np.savez_compressed(options.file, **arrays)
  edges, ones, nodes = arrays["adj_data"].size, arrays["attr_data"].size, arrays["labels"].size
  print(f"{options.file}: {nodes} modules, {edges} imports, {ones / nodes:.0f} words a module")


if __name__ == "__main__":
  main()
