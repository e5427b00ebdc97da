"""The benchmarks of jobs on graphs, at toy size."""

import json

import numpy as np
import pytest

from benchmarks import graph_choices, graph_defaults, graphs, software_graph
from lrs_jax.tasks import TASKS
from lrs_jax.tasks.data import citation
from tests.toys import write_graph

pytestmark = pytest.mark.usefixtures("no_figures_in_module")


@pytest.fixture
def where(monkeypatch, tmp_path):
  """Options of a benchmark in a folder with a toy graph, whose jobs are small."""
  write_graph(tmp_path / "citeseer.npz")
  small = {"model_name": "gcn", "per_class": 4, "clusters": 2, "steps": 20}
  for task in ("graphs", "edges"):
    name, config = next(iter(TASKS[task].data.items()))
    data = {name: config._replace(**small)}
    monkeypatch.setitem(TASKS, task, TASKS[task]._replace(data=data))
  folders = ["--data-dir", str(tmp_path), "--work", str(tmp_path / "work"), "--out", str(tmp_path)]
  return [*folders, *("--samples", "150", "--selection-samples", "50", "--budgets", "2", "3")]


def test_a_toy_runs_and_goes_on_where_it_was(where, tmp_path, monkeypatch):
  arguments = [*where, "--graphs", "citeseer", "--seeds", "1"]
  graph_defaults.main(arguments)
  text = (tmp_path / "graph-defaults.md").read_text()
  assert "| citeseer, 1 | isotropic | 150 |" in text
  assert " times (" in text
  jobs = json.loads((tmp_path / "graph-defaults.json").read_text())["citeseer"]
  assert len(jobs) == 1
  assert jobs[0]["certificate"]["accuracy"] > 0.5
  assert jobs[0]["certificate"]["deletions"] > 0
  ratio = (
    jobs[0]["certificate"]["seconds"]["sampling"] / jobs[0]["isotropic"]["seconds"]["sampling"]
  )
  assert jobs[0]["equal time"]["samples"] == round(150 * min(max(ratio, 1), 20), -1)
  curve = jobs[0]["certificate"]["curves"]["deletions"]
  assert sum(curve[1:]) == pytest.approx(jobs[0]["certificate"]["deletions"])
  monkeypatch.setattr(graph_defaults.running, "certify", None)  # all is there
  graph_defaults.main(arguments)
  assert json.loads((tmp_path / "graph-defaults.json").read_text())["citeseer"] == jobs
  monkeypatch.setattr(graphs, "THETAS", (0.6,))  # the default: what is there serves this study, too
  graphs.main(arguments)
  (of_seed,) = json.loads((tmp_path / "graphs.json").read_text())["citeseer"]["0.6"]
  for name in graphs.FAMILIES:
    assert of_seed[name]["additions"] == jobs[0][name]["additions"]
  assert "| citeseer, 1 | localized | 0.6 |" in (tmp_path / "graphs.md").read_text()


def test_options_are_chosen_on_validation_nodes(where, tmp_path, monkeypatch):
  candidates = {"edges": [(2, (0.01, 0.01), (0.4, 0.8)), (1, (0.01, 0.01), (0.4, 0.4))]}
  monkeypatch.setattr(graph_choices, "CANDIDATES", candidates)
  graph_choices.main([*where, "--tasks", "edges"])
  found = json.loads((tmp_path / "graph-choices.json").read_text())["edges"]
  (localized,), (isotropic,) = found
  assert localized["isotropic"] == isotropic["isotropic"]
  (out,) = (tmp_path / "work").glob("citeseer_edges-10-2-*")
  assert json.loads((out / "summary.json").read_text())["facts"]["validation_nodes"] == 12
  assert "**" in (tmp_path / "graph-choices.md").read_text()


def test_the_best_is_as_accurate_as_isotropic_smoothing():
  def job(area, accuracy):
    kinds = dict.fromkeys(graph_defaults.KINDS, area)
    return {"certificate": {"accuracy": accuracy, **kinds}, "isotropic": {"accuracy": 0.7}}

  score, eligible, best = graph_choices.choose([[job(1, 0.7)], [job(3, 0.6)], [job(2, 0.8)]])
  assert eligible.tolist() == [True, False, True]
  assert best == 2
  np.testing.assert_allclose(score, [1.05, 3.05, 2.05])
  assert graph_choices.choose([[job(1, 0.5)], [job(3, 0.6)]])[2] == 1


def test_a_graph_of_software_is_one_that_jobs_load(tmp_path):
  arrays = software_graph.build(["lrs_jax", "chex"], 50)
  np.savez(tmp_path / "software.npz", **arrays)
  graph = citation.load_graph(tmp_path / "software.npz")
  assert graph.attributes.shape[1] == 50
  assert graph.adjacency.nnz > graph.labels.size > 100
  names = [name for name, _ in software_graph.modules("lrs_jax")]
  assert "lrs_jax.tasks.graphs" in names
  tree = dict(software_graph.modules("lrs_jax"))["lrs_jax.tasks.graphs"]
  assert "lrs_jax.tasks.graph_parts" in set(software_graph.imported("lrs_jax.tasks.graphs", tree))
  assert {"citation", "graphs", "smoothings"} <= software_graph.words(tree)
