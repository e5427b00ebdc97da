"""The benchmark of attacks at toy size; flips of a graph, and the report."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import attacks
from benchmarks.attack_study import gradients, graphs, tokens
from benchmarks.attack_study.gradients import Sandwich, Settings
from lrs_jax.jobs import records
from lrs_jax.jobs.records import Bounds
from lrs_jax.tasks.graphs import TASK, GraphConfig
from tests.making import class_sums
from tests.toys import write_graph

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
SETTINGS = Settings(steps=2, draws=2, restarts=1, pilot=10, samples=20)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
  """A graph, a network that has learned nothing, and made-up votes for what it predicts."""
  config = GraphConfig(
    graph=str(write_graph(tmp_path_factory.mktemp("graph") / "toy.npz")),
    model_name="gcn", per_class=4, clusters=3, theta_minus=(0.4, 0.8),
  )  # fmt: skip
  data = TASK.load(config)
  (case,) = data.cases
  rng = np.random.default_rng(0)
  shapes = TASK.models.shapes(config, data)
  params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
  smoothing = TASK.smoothings(config, data, case)[0]
  adversary = TASK.adversaries(config, data, case, [smoothing])[0]
  labels = TASK.models.predict(config, data, params, case)
  sure = np.eye(len(data.classes), dtype=int)[labels]
  record = records.make_record(
    "graphs",
    smoothing._replace(certificates=("all/envelope", "all/envelope@2")),
    (class_sums(100 * sure, 0.9, 100), class_sums(1000 * sure, 0.9, 1000)),
    Bounds(0.01, 0.0, ("votes",)),
    adversary._replace(budgets=np.zeros((1, 2)), coarse=None),
    truth=case.truth,
    counted=case.counted,
  )
  return graphs.Loaded(config, data, case, record, params)


def test_a_graph_is_attacked(loaded):
  found = graphs.attack(jax.random.key(0), loaded, np.array([2, 4]), SETTINGS)
  assert found.targets == loaded.record.counted.sum()
  assert 0 <= found.kept <= found.unchanged <= found.targets
  assert graphs.certified(loaded, np.zeros(2)) == found.targets > found.certified


@pytest.mark.parametrize("budget", [(3, 0), (0, 5), (2, 4), (0, 0)])
def test_flips_are_as_many_as_may_be_and_those_that_gain_most(loaded, budget, monkeypatch):
  before = graphs.graph_training.matrix(loaded.case.x.attributes)
  score = np.random.default_rng(0).normal(size=before.shape)
  monkeypatch.setattr(graphs, "gains", lambda *arguments: score)
  asked = jax.random.key(0), loaded, before, None, None, np.array(budget), SETTINGS
  change = (graphs.flipped(*asked) - before).toarray()
  assert ((change == 1).sum(), (change == -1).sum()) == budget
  for sign, able in ((1, before.toarray() == 0), (-1, before.toarray() == 1)):
    best = np.sort((sign * score)[able])[::-1][: budget[(1 - sign) // 2]]
    np.testing.assert_array_equal(np.sort((sign * score)[change == sign])[::-1], best)


def test_a_document_is_attacked(monkeypatch):
  monkeypatch.setattr(tokens, "MODEL", tokens.Reader(width=4, depth=1))
  names, x, _ = tokens.vectors("test", 1)
  params = jax.jit(tokens.MODEL.init)(jax.random.key(0), jnp.asarray(x[0]))
  smoothed = tokens.smoothed(tokens.Loaded(names, x, params), 0, (20, 200))
  found = gradients.sandwich(jax.random.key(0), smoothed, np.array([0.01, 0.5]), SETTINGS)
  assert smoothed.priced.num_groups > 1
  assert found.certified[0] > 0
  assert (found.certified <= found.unchanged).all()


def test_what_is_finished_is_not_done_again_and_all_of_it_reported(tmp_path):
  counts = [np.array(part) for part in ((8, 3), (9, 9), (9, 7))]
  asked = []

  def attack(index):
    asked.append(index)
    return f"input {index}", np.array([0.5, 1.0]), 10, Sandwich(9, *counts)

  for inputs in (1, 2):
    attacks.run("images", attack, inputs, tmp_path, SETTINGS)
  assert asked == [0, 1]
  rows = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*.json"))]
  assert "In 0 of 4 pairs" in attacks.report(rows)
  assert "| 0.5 | 2 | 80.0% | 90.0% | 90.0% |" in attacks.report(rows)
  assert len(attacks.figure(rows).axes) == 1
  assert attacks.overclaims([*rows, {**rows[0], "certified": [8, 10]}]) == 1


def test_stored_results_hold():
  rows = json.loads((RESULTS / "attacks.json").read_text())["rows"]
  assert attacks.overclaims(rows) == 0
  assert (RESULTS / "attacks.md").read_text() == attacks.report(rows)
