"""The benchmark of what nodes see: against brute force on a tiny graph, and whole, on a toy job."""

import json
from itertools import combinations_with_replacement

import numpy as np
import pytest

from benchmarks import graph_views
from lrs_jax import noise
from lrs_jax.baselines import sparse_smoothing
from lrs_jax.cells import hops
from lrs_jax.cli import main
from lrs_jax.jobs import records
from lrs_jax.jobs.records import Bounds
from lrs_jax.tasks import common, graphs
from lrs_jax.tasks.task import Adversary, Smoothing
from tests.making import class_sums
from tests.toys import GRAPH, write_graph

NODES, ATTRIBUTES = 9, 4
SPENT = np.arange(3.0)
ORDERS = "1", "4"


def tiny(seed):
  """Records of isotropic and of localized flips, what nodes see, and the zeros and ones of each."""
  rng = np.random.default_rng(seed)
  upper = np.triu(rng.random((NODES, NODES)) < 0.15, 1)
  sees = hops.within((upper | upper.T) * 1.0, 2)
  num_ones = rng.integers(0, ATTRIBUTES + 1, NODES)
  room = np.stack([ATTRIBUTES - num_ones, num_ones]).astype(float)
  clusters = np.arange(NODES) * 3 // NODES
  budgets = np.stack(np.meshgrid(SPENT, SPENT, indexing="ij"), axis=-1).reshape(-1, 2)
  names = common.certificates_of(("envelope",), orders=(1.0, 4.0), targets=("correct",))
  ranks = np.array([[0, 1, 2], [2, 0, 1], [1, 2, 0]])
  settings = {
    "isotropic": ([[0.1]], [[0.5]], np.zeros_like(clusters)),
    "localized": (0.1 + 0.1 * ranks, 0.4 + 0.15 * ranks, clusters),
  }
  found = {}
  for name, (plus, minus, groups) in settings.items():
    flips = noise.flips(np.asarray(plus), np.asarray(minus), groups[:, None])
    agree = rng.binomial(1000, rng.choice([0.6, 0.75, 0.85, 0.95, 0.999], NODES))
    votes = [np.stack([part, size - part], axis=1) for part, size in ((agree // 10, 100),
                                                                      (agree, 1000))]  # fmt: skip
    caps = graphs.flip_caps(num_ones, ATTRIBUTES, flips.cells, flips.weights.shape[2])
    found[name] = records.make_record(
      "graphs",
      Smoothing(name, flips, groups, names),
      (class_sums(votes[0], 0.9, 100), class_sums(votes[1], 0.9, 1000)),
      Bounds(0.01, 0.0, ("votes", "kl")),
      Adversary(budgets, None, caps, True),
      truth=np.where(rng.random(NODES) < 0.1, 1, 0),
      counted=rng.random(NODES) < 0.9,
      meta={},
    )
  return found, sees, room


def attacks(room, most):
  """All whole numbers of flips of one kind in every node, `most` of them at most: int [*, N]."""
  found = [np.zeros(NODES, int)]
  for size in range(1, int(most) + 1):
    for nodes in combinations_with_replacement(range(NODES), size):
      found.append(np.bincount(nodes, minlength=NODES))
  return np.array([b for b in found if (b <= room).all()])


def kept_linear(record, sees, room, order, most, axis):
  """The fewest correct nodes that no attack of so many flips reaches, by the linear interface."""
  weights, eta = record.base.weights, record.base.eta
  if order:
    weights, eta = noise.discrete.FLIPS.renyi(record.noise, record.base.q_lower, float(order))
  price = weights[axis][record.groups][:, record.noise.cells[:, 0]] * sees.toarray()  # [N, N]
  fallen = attacks(room[axis], most) @ price.T >= eta
  return (graph_views.correct(record) & ~fallen).sum(axis=1).min()


def kept_regions(record, sees, room, most, axis):
  """The same by the exact certificate of isotropic flips."""
  plus, minus = (theta.item() for theta in record.noise.parameters)
  sizes = (most, 0) if axis == 0 else (0, most)
  required = sparse_smoothing.required_probability(plus, minus, *map(int, sizes)).ravel()
  perceived = attacks(room[axis], most) @ sees.toarray().T
  fallen = record.base.q_lower <= required[perceived]
  return (graph_views.correct(record) & ~fallen).sum(axis=1).min()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", graph_views.KINDS)
def test_no_more_than_brute_force_and_no_less_than_without_views(seed, kind):
  parts, sees, room = tiny(seed)
  axis, isotropic = graph_views.KINDS.index(kind), parts["isotropic"]
  alone = graph_views.of_regions(isotropic, SPENT, kind).certified
  together = graph_views.of_regions_seen(isotropic, sees, room, SPENT, kind).certified
  truth = [kept_regions(isotropic, sees, room, most, axis) for most in SPENT]
  assert (alone <= together).all()
  assert (together <= truth).all()
  for record in parts.values():
    views = graph_views.views_of(record, sees, room)
    assert views.noise.weights.shape[1] <= graph_views.correct(record).sum()
    assert views.caps.sum() == NODES * ATTRIBUTES
    own = graph_views.of_views(record, views, ["", *ORDERS], SPENT, kind).certified
    bounds = []
    for order in ("", *ORDERS):
      found = graph_views.of_views(record, views, [order], SPENT, kind)
      assert found.not_optimal == 0
      truth = [kept_linear(record, sees, room, order, most, axis) for most in SPENT]
      assert (found.certified <= truth).all()
      bounds.append(found.certified)
    np.testing.assert_array_equal(own, np.max(bounds, axis=0))
    assert own[0] == (graph_views.correct(record) & (record.base.eta > 0)).sum()
    if record is isotropic:  # one group: nothing is lost by another view of it
      assert (own >= graph_views.of_stored(record, SPENT, kind).certified).all()


def test_views_are_worth_something_on_tiny_graphs():
  gains = {"isotropic": 0, "regions": 0, "localized": 0}
  for seed in range(6):
    parts, sees, room = tiny(seed)
    for name, record in parts.items():
      views = graph_views.views_of(record, sees, room)
      own = graph_views.of_views(record, views, ["", *ORDERS], SPENT, "deletions").certified
      gains[name] += (own - graph_views.of_stored(record, SPENT, "deletions").certified).sum()
    given = parts["isotropic"], sees, room, SPENT, "deletions"
    alone = graph_views.of_regions(parts["isotropic"], SPENT, "deletions").certified
    gains["regions"] += (graph_views.of_regions_seen(*given).certified - alone).sum()
  assert min(gains.values()) > 0


def test_nodes_that_see_everything_are_the_groups_that_they_were():
  parts, _, room = tiny(0)
  everything = hops.within(np.ones((NODES, NODES)), 1)
  for record in parts.values():
    views = graph_views.views_of(record, everything, room)
    chosen = graph_views.correct(record)
    assert views.noise.weights.shape[1] == np.unique(record.groups[chosen]).size
    for kind in graph_views.KINDS:
      found = graph_views.of_views(record, views, ["", *ORDERS], SPENT, kind)
      stored = graph_views.of_stored(record, SPENT, kind)
      np.testing.assert_array_equal(found.certified, stored.certified)
  isotropic = parts["isotropic"]
  given = isotropic, everything, room, SPENT, "deletions"
  alone = graph_views.of_regions(isotropic, SPENT, "deletions")
  np.testing.assert_array_equal(graph_views.of_regions_seen(*given).certified, alone.certified)


@pytest.mark.usefixtures("no_figures")
def test_the_benchmark_on_a_toy_job(tmp_path, capsys):
  toy = write_graph(tmp_path / "toy.npz")
  options = *GRAPH, "--budgets", "4,4", "--steps", "20", "--samples", "200"
  job = tmp_path / "toy-gcn"
  assert main(["certify", "citeseer", "--graph", str(toy), *options, "--out", str(job)]) == 0
  asked = str(job), "--out", str(tmp_path), "--budgets", "0,1,2,4"
  graph_views.main([*asked, "--data-dir", str(tmp_path)])
  found = json.loads((tmp_path / "graph-views.json").read_text())["jobs"]["toy-gcn"]
  assert list(found["methods"]) == list(graph_views.ROWS)
  summary = json.loads((job / "summary.json").read_text())["smoothings"]
  for part, name, method in (
    ("isotropic, region", "isotropic", "region"), ("localized, envelope", "certificate", "orders")
  ):  # fmt: skip
    for kind in graph_views.KINDS:
      curve = summary[name]["certified_accuracy"][method][kind]
      number = found["parts"][part.partition(",")[0]]["labelled"]
      own = np.array(found["methods"][part][kind]["certified"]) / number
      np.testing.assert_allclose(own, np.array(curve["curve"])[[0, 1, 2, 4]])
  assert "| localized, what nodes see (linear) | " in capsys.readouterr().out
  with pytest.raises(SystemExit):
    graph_views.main([str(job), "--data-dir", str(tmp_path)])  # budgets up to 50
  assert "must be at most 4" in capsys.readouterr().err
  write_graph(toy, seed=1)
  with pytest.raises(ValueError, match="another graph"):
    graph_views.main([*asked, "--data-dir", str(tmp_path)])
