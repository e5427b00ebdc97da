"""The notebooks run from beginning to end at toy size, and are stored as Colab should open them."""

import ast
import re
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
TOY = {
  "01_segmentation": "SIZE, GRID = (16, 24), (2, 2)\n"
  "STEPS, WIDTH, DEPTH, SELECTION, SAMPLES = 3, 2, 1, 10, 40",
  "02_graphs": "GRAPH_FILE = None\nNODES, ATTRIBUTES = 200, 40\n"
  "STEPS, SELECTION, SAMPLES = 20, 20, 60\nCLUSTERS, MOST = 3, 2",
  "03_throughput": 'CPU, SECTIONS, SECONDS = True, ("naive", "bare", "scaling"), 0.1\n'
  'SIZE, GRID, PRECISION = (16, 24), (2, 2), "float32"\n'
  "WIDTH, DEPTH = 2, 1\nSAMPLES, CHUNKS = 4, (1, 2)",
  "04_understanding": "SIZE, GRID = (12, 18), (1, 2)\nSAMPLES = 200",
}
SMALL_CHUNKS = "from lrs_jax.sampling import checks\n\nchecks.LARGEST_CHUNK = 16"
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))


def load(path):
  return nbformat.read(path, as_version=4)


def code(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == "code"]


def names(source):
  tree = ast.walk(ast.parse(source))
  return {
    node.id for node in tree if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
  }


def sizes(notebook):
  (cell,) = (cell for cell in notebook.cells if "sizes" in cell.metadata.get("tags", ()))
  return cell


def test_every_notebook_has_a_toy_size():
  assert [path.stem for path in NOTEBOOKS] == sorted(TOY)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_beginning_to_end(path, monkeypatch, tmp_path):
  monkeypatch.setenv("PYTHONPATH", str(ROOT))
  monkeypatch.setenv("MPLBACKEND", "agg")
  notebook = load(path)
  assert names(sizes(notebook).source) == names(TOY[path.stem])
  sizes(notebook).source = f"{TOY[path.stem]}\n{SMALL_CHUNKS}"
  NotebookClient(
    notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
  ).execute()  # raises what a cell raises
  drawn = [
    out for cell in code(notebook) for out in cell.outputs if "image/png" in out.get("data", {})
  ]
  assert drawn


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_stored_without_outputs_and_opens_in_colab(path):
  notebook = load(path)
  assert f"/blob/main/colab/{path.name})" in notebook.cells[0].source
  assert all(not cell.outputs and cell.execution_count is None for cell in code(notebook))
  first = [[cell.source for cell in code(load(other))[:2]] for other in NOTEBOOKS]
  assert all(cells == first[0] for cells in first)  # installs, prints devices
  install, devices = first[0]
  assert "--no-deps" in install
  assert "--upgrade" not in install
  assert "WARNING: JAX runs on the CPU" in devices


def test_all_addresses_name_the_same_repository():
  texts = "".join(path.read_text() for path in NOTEBOOKS)
  named = re.findall(r"(?:github\.com|colab\.research\.google\.com/github)/([\w-]+/\w+)", texts)
  assert len(named) == 2 * len(NOTEBOOKS) + 1  # badge and installation; the benchmarks' clone
  assert len(set(named)) == 1


def test_benchmarks_are_cloned_where_they_are_not_at_hand(monkeypatch, tmp_path):
  there, kernel = tmp_path / "there", tmp_path / "colab" / "kernel"
  (there / "benchmarks").mkdir(parents=True)
  (there / "benchmarks" / "throughput.py").write_text('"""Cloned."""\n')
  (there / "benchmarks" / "__init__.py").touch()
  kernel.mkdir(parents=True)
  who = "-c", "user.name=test", "-c", "user.email=test@example.org"
  for command in (("init", "--quiet"), ("add", "."), (*who, "commit", "--quiet", "-m", "test")):
    subprocess.run(["git", *command], cwd=there, check=True)
  notebook = load(ROOT / "colab" / "03_throughput.ipynb")
  (cell,) = (cell for cell in code(notebook) if "!git clone" in cell.source)
  address = re.search(r"https://\S+", cell.source)[0]
  monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
  monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{there}.insteadOf")
  monkeypatch.setenv("GIT_CONFIG_VALUE_0", address)
  monkeypatch.delenv("PYTHONPATH", raising=False)
  shown = nbformat.v4.new_code_cell("from benchmarks import throughput\nprint(throughput.__doc__)")
  notebook.cells = [cell, shown, cell, shown]  # again after a restart, say
  NotebookClient(
    notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(kernel)}}
  ).execute()
  assert [out.text for out in shown.outputs] == ["Cloned.\n"]
  assert not cell.outputs
