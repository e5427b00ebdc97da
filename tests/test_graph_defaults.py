"""The benchmark of the default job on a graph, at toy size."""

import json

import pytest

from benchmarks import graph_defaults
from lrs_jax.tasks.graphs import TASK
from tests.toys import write_graph

pytestmark = pytest.mark.usefixtures("no_figures")


def test_a_toy_runs_and_goes_on_where_it_was(monkeypatch, tmp_path):
  write_graph(tmp_path / "citeseer.npz")
  small = {"model_name": "gcn", "per_class": 4, "clusters": 2, "steps": 20}
  monkeypatch.setitem(TASK.data, "citeseer", TASK.data["citeseer"]._replace(**small))
  where = ["--data-dir", str(tmp_path), "--work", str(tmp_path / "work"), "--out", str(tmp_path)]
  counted = ["--samples", "300", "--selection-samples", "100", "--budgets", "2", "3"]
  arguments = [*where, *counted, "--graphs", "citeseer", "--seeds", "1"]
  graph_defaults.main(arguments)
  text = (tmp_path / "graph-defaults.md").read_text()
  assert "| citeseer, 1 | isotropic |" in text
  assert " times (" in text
  jobs = json.loads((tmp_path / "graph-defaults.json").read_text())["citeseer"]
  assert len(jobs) == 1
  assert jobs[0]["certificate"]["accuracy"] > 0.5
  graph_defaults.main(arguments)
  again = json.loads((tmp_path / "graph-defaults.json").read_text())["citeseer"]
  for before, after in zip(jobs, again, strict=True):
    assert after["certificate"] == before["certificate"]
    assert after["seconds"]["training"] == 0
