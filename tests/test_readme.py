"""The README's and the documentation's Python runs as it stands, and their links lead somewhere."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path):
  return re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL)


def test_the_five_lines_run(capsys):
  (front,) = blocks(ROOT / "README.md")
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


def rows(text):
  return [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in text.splitlines()
    if line.startswith("|")
  ]


def test_it_is_short_and_its_results_are_those_of_the_results():
  readme, results = (path.read_text() for path in (ROOT / "README.md", ROOT / "docs/results.md"))
  assert len(readme.splitlines()) <= 150
  shown = rows(readme[readme.index("## Results") : readme.index("## Which noise")])[2:]
  found = rows(results)
  assert len(shown) == 8
  network = None
  of_network = {}  # the same row stands below several networks
  for row in found:
    network = row[0] or network
    of_network.setdefault(network, []).append(row[1:])
  for row in shown:
    network = row[0] or network
    assert any(other[: len(row) - 1] == row[1:] for other in of_network[network]), row


def test_every_extra_is_told():
  extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
  readme = (ROOT / "README.md").read_text()
  assert all(f"`{name}`" in readme or f"[{name}]" in readme for name in extras)
  assert 'pip install -e ".[test]"' in readme
  assert "pytest -n 2 --dist loadscope" in readme


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
  for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
    if not link.startswith("https://"):
      assert (path.parent / link).exists(), link


RUN = {"README.md", "own_cells.md", "own_model.md"}  # above
RUN |= {"other_frameworks.md", "units.md"}  # by `test_frameworks` and `test_docs`


def test_what_python_the_documentation_shows_runs(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # some of it writes files
  for path in PAGES:
    for block in blocks(path) if path.name not in RUN else ():
      exec(block, {})
