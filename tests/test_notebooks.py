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
  "03_throughput": "CPU, SIZE = True, (16, 24)\nWIDTH, DEPTH, CLASSES = 2, 1, 3\n"
  "SAMPLES, TURNS, CHUNKS = 4, 2, (1, 2)",
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


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
  """One for all notebooks, which is emptied between them: imports take longer than toys."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("PYTHONPATH", str(ROOT))
    patch.setenv("MPLBACKEND", "agg")
    where = {"metadata": {"path": str(tmp_path_factory.mktemp("notebooks"))}}
    client = NotebookClient(nbformat.v4.new_notebook(), kernel_name="python3", resources=where)
    with client.setup_kernel(cleanup_kc=True):
      yield client


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_beginning_to_end(path, kernel):
  notebook = load(path)
  assert names(sizes(notebook).source) == names(TOY[path.stem])
  sizes(notebook).source = f"{TOY[path.stem]}\n{SMALL_CHUNKS}"
  notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
  kernel.nb = notebook
  kernel.execute(cleanup_kc=False)  # raises what a cell raises
  drawn = [
    out for cell in code(notebook) for out in cell.outputs if "image/png" in out.get("data", {})
  ]
  assert drawn


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_stored_without_outputs_and_opens_in_colab(path):
  notebook = load(path)
  assert notebook.cells[0].source.startswith("# ")
  assert all(not cell.outputs and cell.execution_count is None for cell in code(notebook))
  first = [[cell.source for cell in code(load(other))[:2]] for other in NOTEBOOKS]
  assert all(cells == first[0] for cells in first)  # installs, prints devices
  install, devices = first[0]
  assert "--no-deps" in install
  assert "--upgrade" not in install
  assert "WARNING: JAX runs on the CPU" in devices


def test_they_need_no_repository_and_name_it_once_at_most():
  """An account is one constant, empty as it is stored; without it, the published package serves."""
  for path in NOTEBOOKS:
    text = "\n".join(cell.source for cell in load(path).cells)
    assert "import benchmarks" not in text
    assert "from benchmarks" not in text
    assert text.count("github.com") == text.count('REPOSITORY = ""') == 1
    assert 'if REPOSITORY else "lrs_jax"' in text


@pytest.mark.parametrize(
  ("repository", "wanted"),
  [("", "lrs_jax"), ("someone/lrs_jax", "git+https://github.com/someone/lrs_jax")],
)
def test_what_is_installed_where_the_package_is_not_there(monkeypatch, repository, wanted):
  source = code(load(NOTEBOOKS[0]))[0].source
  source = source.replace('REPOSITORY = ""', f"REPOSITORY = {repository!r}")
  source = source.replace("%pip install --quiet --no-deps highspy {source}", "found.append(source)")
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  found = []
  exec(source, {"found": found})
  assert found == [wanted]
