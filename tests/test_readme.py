"""The README's and the documentation's Python runs as it stands, and their links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path):
  return re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL)


def test_the_five_lines_run(capsys):
  front, *_ = blocks(ROOT / "README.md")
  namespace: dict = {}
  exec(front, namespace)
  certified = namespace["certified"]
  assert 0 < certified.certified[24] < certified.certified[0] <= 48 * 64
  assert "2 pixels to every side" in certified.view.origin
  assert capsys.readouterr().out.startswith("3072 outputs, ")


def test_a_network_and_the_ten_lines_run(capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  network, steps = blocks(ROOT / "docs" / "own_model.md")
  namespace: dict = {}
  exec(network, namespace)
  assert 0 < namespace["certified"].certified[1] <= 32 * 48
  assert (tmp_path / "mine.npz").exists()
  exec(steps, namespace)
  certified = namespace["certificate"].certified
  assert 0 < certified[0] <= 24 * 32
  assert certified[-1] < certified[0]
  assert capsys.readouterr().out


def test_groups_and_cells_that_are_no_grid(capsys):
  tokens, call = blocks(ROOT / "docs" / "own_cells.md")
  namespace: dict = {}
  exec(tokens, namespace)
  certified = namespace["certificate"].certified
  assert 0 < certified[0] <= 60
  assert 0 < certified[1] < certified[0]
  assert capsys.readouterr().out
  exec(call, namespace)
  assert 0 < namespace["certified"].certified[1] <= 60


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
  for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
    if not link.startswith("https://"):
      assert (path.parent / link).exists(), link


RUN = {"README.md", "own_cells.md", "own_model.md"}  # above
RUN |= {"other_frameworks.md", "units.md"}  # by `test_frameworks` and `test_docs`


def test_what_python_the_documentation_shows_runs():
  for path in PAGES:
    for block in blocks(path) if path.name not in RUN else ():
      exec(block, {})
