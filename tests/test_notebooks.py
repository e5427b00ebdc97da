"""The notebooks run from beginning to end at toy size, and are stored as Colab should open them."""

import ast
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
  "03_throughput": "SIZE, GRID = (16, 24), (2, 2)\n"
  "WIDTH, DEPTH = 2, 1\nSAMPLES, CHUNKS = 4, (1, 2)",
  "04_understanding": "SIZE, GRID = (12, 18), (1, 2)\nSAMPLES = 200",
}
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
  monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
  notebook = load(path)
  assert names(sizes(notebook).source) == names(TOY[path.stem])
  sizes(notebook).source = TOY[path.stem]
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
