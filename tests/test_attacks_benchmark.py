"""The benchmark of attacks at toy size; flips of a graph, and the report."""

import json
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

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
  found = graphs.attack(jax.random.key(0), loaded, np.array([[0, 1], [2, 4]]), SETTINGS)
  assert found.targets == loaded.record.counted.sum()
  assert (found.kept <= found.unchanged).all()
  assert (found.unchanged <= found.targets).all()
  assert found.unchanged[1] <= found.unchanged[0]
  assert graphs.certified(loaded, np.zeros((1, 2))) == found.targets > found.certified[1]


@pytest.mark.parametrize("budget", [(3, 0), (0, 5), (2, 4), (0, 0)])
def test_flips_are_as_many_as_may_be_and_those_that_gain_most(loaded, budget):
  given = graphs.graph_training.matrix(loaded.case.x.attributes).toarray() > 0
  score = np.random.default_rng(0).normal(size=given.shape)
  attacked = given.copy()
  attacked[0] = ~attacked[0]  # flipped before
  chosen = graphs.best_flips(score, given, attacked, budget)
  assert (chosen[0] > 0).all()
  assert ((~given[chosen]).sum(), given[chosen].sum()) == budget
  for ones, sign, number in zip((False, True), (1, -1), budget, strict=True):
    best = np.sort((sign * score)[1:][given[1:] == ones])[::-1][:number]
    np.testing.assert_array_equal(
      np.sort((sign * score[chosen])[given[chosen] == ones])[::-1], best
    )


def test_larger_budgets_go_on_from_smaller_ones(loaded):
  before = graphs.graph_training.matrix(loaded.case.x.attributes).toarray()
  budgets = np.array([(1, 0), (1, 3), (5, 9)])
  labels, targets = loaded.record.base.labels, loaded.record.counted
  asked = jax.random.key(0), loaded, labels, targets, budgets, 6
  found = graphs.flipped(*asked, draws=2, sharpness=2.0)
  changes = [each.toarray() - before for each in found]
  spent = [((change == 1).sum(), (change == -1).sum()) for change in changes]
  np.testing.assert_array_equal(spent, budgets)
  for smaller, larger in pairwise(changes):
    assert (larger[smaller != 0] == smaller[smaller != 0]).all()


def test_an_attack_lowers_the_margins_that_it_is_after(loaded):
  attributes = graphs.graph_training.matrix(loaded.case.x.attributes)
  labels, targets = loaded.record.base.labels, loaded.record.counted
  asked = jax.random.key(1), loaded, labels, targets, np.array([(40, 40)]), 8
  (found,) = graphs.flipped(*asked, draws=8, sharpness=2.0)
  rng = np.random.default_rng(0)
  aimless = attributes.toarray()
  for ones in (0, 1):
    places = np.flatnonzero(attributes.toarray() == ones)
    aimless.ravel()[rng.choice(places, 40, replace=False)] = 1 - ones
  key = jax.random.key(2)
  left = [
    np.take_along_axis(graphs.votes(key, loaded, x, 200, 40), labels[:, None], axis=1)[
      targets
    ].sum()
    for x in (found, sparse.csr_array(aimless), attributes)
  ]
  assert left[0] < min(left[1:])


def test_votes_are_those_of_the_attributes_whatever_room_there_is(loaded):
  attributes = graphs.graph_training.matrix(loaded.case.x.attributes)
  rooms = [graphs.votes(jax.random.key(0), loaded, attributes, 400, room) for room in (0, 7)]
  assert (abs(rooms[0] - rooms[1]) <= 8 * np.sqrt(200)).all()  # other words, the same noise
  assert (rooms[1].sum(axis=1) == 400).all()


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
