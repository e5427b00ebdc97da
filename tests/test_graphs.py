"""Graphs as a task, on a toy graph: its parts fit together and do what the library's parts do."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from lrs_jax import collective, keys, noise
from lrs_jax.baselines import sparse_smoothing
from lrs_jax.cells import clusters
from lrs_jax.confidence import certificates
from lrs_jax.sampling import sparse_flips
from lrs_jax.sampling.scores import ScoreSums
from lrs_jax.tasks import common, graph_parts, graph_training, graphs, options, training
from lrs_jax.tasks.data import citation
from lrs_jax.tasks.graphs import TASK, GraphConfig
from lrs_jax.tasks.models import gnn
from tests.toys import write_graph


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
  return write_graph(tmp_path_factory.mktemp("graph") / "toy.npz")


def toy_config(toy, **changes):
  defaults = {
    "graph": str(toy), "model_name": "gcn", "per_class": 4, "clusters": 3, "steps": 60,
    "samples": 400, "selection_samples": 100, "budgets": (2, 4), "theta_plus": (0.02, 0.05),
    "theta_minus": (0.4, 0.8),
  }  # fmt: skip
  return GraphConfig(**{**defaults, **changes})


@pytest.fixture(scope="module")
def loaded(toy):
  config = toy_config(toy)
  data = TASK.load(config)
  return config, data, data.cases[0], TASK.smoothings(config, data, data.cases[0])


def train(config, data, network, path, manifest=None):
  key = keys.tagged(jax.random.key(0), f"{network}, training")
  return TASK.models.train(key, config, data, network, path, manifest or {"network": network})


@pytest.fixture(scope="module")
def trained(loaded, tmp_path_factory):
  config, data, *_ = loaded
  folder = tmp_path_factory.mktemp("models")
  return {
    name: train(config, data, name, folder / f"{name}.partial.npz")
    for name in ("certificate", "isotropic")
  }


@pytest.fixture(scope="module")
def records(loaded, trained):
  """What a job makes of the task's parts, as far as rivals, checks and figures read of it."""
  config, data, case, smoothings = loaded
  found = {}
  adversaries = TASK.adversaries(config, data, case, smoothings)
  for smoothing, adversary in zip(smoothings, adversaries, strict=True):
    params = TASK.models.finish(config, data, trained[smoothing.network][0])
    count = TASK.counter(config, data, params, case, smoothing)
    selection, estimation = (
      count(keys.tagged(jax.random.key(1), part), num, 0)
      for part, num in (("selection", 100), ("estimation", 400))
    )
    labels = selection.votes.argmax(axis=1)
    sums = [
      ScoreSums(int(each.num_samples), *(np.take_along_axis(part, labels[:, None], 1)[:, 0]
                                         for part in each[:3]))
      for each in (selection, estimation)
    ]  # fmt: skip
    base = certificates.from_scores(
      smoothing.noise, smoothing.groups, labels, *sums, alpha=config.alpha, methods=config.scores
    )
    certified = {
      name: collective.certify(
        base.weights, smoothing.groups, base.eta, adversary.budgets,
        targets=case.counted & (labels == case.truth), caps=adversary.caps, integral=True,
      )
      for name in ("correct/envelope", "correct/envelope@2")
    }  # fmt: skip
    found[smoothing.name] = SimpleNamespace(
      noise=smoothing.noise, groups=smoothing.groups, base=base, truth=case.truth,
      counted=case.counted, budgets=adversary.budgets, alpha=config.alpha, selection=selection,
      estimation=estimation, certified=certified,
    )  # fmt: skip
  return found


def test_a_loaded_graph_is_one_case(loaded, toy):
  config, data, case, _ = loaded
  graph = citation.load_graph(toy)
  assert case.name == "toy"
  assert data.classes == ("class 0", "class 1", "class 2")
  assert data.notes == graph.notes
  assert data.facts == {
    "nodes": case.truth.size, "edges": graph.adjacency.nnz // 2, "attributes": 24, "classes": 3,
    "test_nodes": case.truth.size - 24, "clusters": np.bincount(case.x.clusters).tolist(),
  }  # fmt: skip
  split = citation.split_nodes(graph.labels, config.seed, per_class=4)
  np.testing.assert_array_equal(np.flatnonzero(case.counted), split.test)
  for ones, expected in (
    (case.x.attributes, graph.attributes), (case.x.adjacency, graph.adjacency)
  ):  # fmt: skip
    np.testing.assert_array_equal(graphs.matrix(ones).toarray(), expected.toarray())
  assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(case.x))


def test_smoothings_are_localized_flips_and_isotropic_ones(loaded, toy):
  config, data, case, (localized, isotropic) = loaded
  adjacency = graphs.matrix(case.x.adjacency)
  ranks = clusters.affinity_ranks(clusters.cluster_affinity(adjacency, case.x.clusters))
  expected = noise.flips(
    clusters.levels_by_rank(ranks, 0.02, 0.05),
    clusters.levels_by_rank(ranks, 0.4, 0.8),
    case.x.clusters[:, None],
  )
  np.testing.assert_array_equal(localized.noise.weights, expected.weights)
  np.testing.assert_array_equal(localized.groups, case.x.clusters)
  np.testing.assert_array_equal(
    isotropic.noise.weights, noise.flips([[0.02]], [[0.4]], [[0]]).weights
  )
  assert not isotropic.groups.any()
  assert (localized.name, isotropic.name) == ("certificate", "isotropic")
  orders = [f"correct/envelope@{order}" for order in ("0.6", "1", "1.5", "2", "4", "1000")]
  assert set(isotropic.certificates) == {"correct/envelope", "all/envelope", *orders}
  more = {"correct/naive", "correct/lp"}
  assert set(localized.certificates) == set(isotropic.certificates) | more
  exact = TASK.smoothings(config._replace(method="milp", orders=()), data, case)
  assert "correct/milp" in exact[0].certificates
  assert exact[1].certificates == ("correct/envelope", "all/envelope")
  own = toy_config(toy, isotropic_theta_plus=0.1, isotropic_theta_minus=0.3)
  np.testing.assert_array_equal(
    TASK.smoothings(own, data, case)[1].noise.weights,
    noise.flips([[0.1]], [[0.3]], [[0]]).weights,
  )


def test_counts_are_those_of_the_sampler(loaded, trained):
  _, data, case, smoothings = loaded
  attributes = graphs.matrix(case.x.attributes)
  edges = gnn.normalized_edges(graphs.matrix(case.x.adjacency))
  key = keys.tagged(jax.random.key(0), "certificate, estimation")
  for smoothing in smoothings:
    config, variables = loaded[0], trained[smoothing.network][0]
    count = TASK.counter(config, data, variables, case, smoothing)
    with jax.default_matmul_precision("float32"):
      expected = sparse_flips.class_sums(
        key,
        graph_training.head_of(gnn.make_model("gcn", 24, 3)),
        (variables, edges),
        variables["params"]["first_kernel"],
        sparse_flips.plan_flips(attributes, smoothing.noise),
        smoothing.groups,
        60,
      )
    jax.tree.map(np.testing.assert_array_equal, count(key, 60, 0), expected)
    pieces = jax.tree.map(np.add, count(key, 16, 0), count(key, 44, 16))
    jax.tree.map(np.testing.assert_array_equal, pieces, expected)


def test_an_adversary_flips_what_there_is(loaded):
  config, data, case, smoothings = loaded
  localized, isotropic = TASK.adversaries(config, data, case, smoothings)
  assert localized.budgets.tolist() == [[a, d] for a in range(3) for d in range(5)]
  assert localized.integral
  assert localized.radii is None
  words = graphs.matrix(case.x.attributes).toarray()
  for c in range(3):
    mine = words[case.x.clusters == c]
    assert localized.caps[:, c].tolist() == [(mine == 0).sum(), (mine == 1).sum()]
  assert isotropic.caps[:, 0].tolist() == [(words == 0).sum(), (words == 1).sum()]
  assert localized.coarse.all()  # a small grid
  large, _ = TASK.adversaries(config._replace(budgets=(50, 30)), data, case, smoothings)
  chosen = {tuple(budget) for budget in large.budgets[large.coarse].astype(int).tolist()}
  assert chosen == (
    {(a, d) for a in range(0, 51, 10) for d in range(0, 31, 6)}
    | {(a, 0) for a in range(51)}
    | {(0, d) for d in range(31)}
  )


def test_networks_are_told_apart(loaded, toy, trained, tmp_path):
  config, data, *_ = loaded
  network = TASK.models.network
  own = network(config, data, "certificate")
  assert own.architecture == "gcn"
  assert own.options == {
    "data": "citeseer", "graph": "toy.npz", "per_class": 4, "model_name": "gcn", "steps": 60,
    "learning_rate": 0.01, "seed": 0,
  }  # fmt: skip
  assert network(config._replace(samples=7), data, "certificate") == own
  assert network(config._replace(seed=1), data, "certificate").options != own.options
  digests = {own.digest, network(config, data, "isotropic").digest}
  digests.add(network(config._replace(theta_minus=(0.4, 0.7)), data, "certificate").digest)
  case = data.cases[0]
  moved = case._replace(x=case.x._replace(clusters=case.x.clusters[::-1]))
  digests.add(network(config, data._replace(cases=(moved,)), "certificate").digest)
  arrays = dict(np.load(toy))
  arrays["attr_matrix.indices"] = (arrays["attr_matrix.indices"] + 1) % 24
  np.savez(tmp_path / "toy.npz", **arrays)
  another = TASK.load(toy_config(tmp_path / "toy.npz"))
  digests.add(network(config, another, "certificate").digest)
  assert len(digests) == 5
  shapes, wanted = (
    jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
    for tree in (trained["certificate"][0], TASK.models.shapes(config, data))
  )
  assert shapes == wanted
  gat = TASK.models.shapes(config._replace(model_name="gat"), data)
  assert jax.tree.structure(gat) != jax.tree.structure(wanted)


def test_training_learns(loaded, trained):
  config, data, case, _ = loaded
  for variables, told in trained.values():
    assert told["validation_accuracy"] > 0.8
    assert 20 <= told["steps"] <= 60
    found = TASK.models.predict(config, data, variables, case)
    assert (found == case.truth)[case.counted].mean() > 0.8


def test_a_stopped_training_goes_on_to_the_same_network(loaded, trained, tmp_path, monkeypatch):
  config, data, *_ = loaded
  path, validate, done = tmp_path / "net.partial.npz", graph_training._validate, []

  def stops(*args, **options):
    done.append(None)
    if len(done) == 3:
      raise KeyboardInterrupt
    return validate(*args, **options)

  with monkeypatch.context() as patch:
    patch.setattr(graph_training, "_validate", stops)
    with pytest.raises(KeyboardInterrupt):
      train(config, data, "certificate", path)
  assert np.load(path)["history"][:, 0].tolist() == [20, 40]
  again = train(config, data, "certificate", path)
  assert again[1] == trained["certificate"][1]
  jax.tree.map(np.testing.assert_array_equal, again[0], trained["certificate"][0])
  with monkeypatch.context() as patch:  # what is finished is not done again
    patch.setattr(graph_training, "_steps", None)
    jax.tree.map(
      np.testing.assert_array_equal, train(config, data, "certificate", path)[0], again[0]
    )
  with pytest.raises(ValueError, match="holds another training"):
    train(config, data, "certificate", path, {"network": "another"})
  path.write_bytes(b"half a file")
  with pytest.raises(ValueError, match="cannot read"):
    train(config, data, "certificate", path)


def test_early_stopping_is_resumed_too(loaded, tmp_path, monkeypatch):
  """A training that had stopped early stays so, and keeps its best parameters, not its last."""
  _, _, case, (localized, _) = loaded
  losses = iter([3.0, 1.0, np.nan, 1.0, 5.0])
  monkeypatch.setattr(graph_training, "_validate", lambda *a, **o: (next(losses), 0.5))

  def run(most, checkpoint=None):
    with jax.default_matmul_precision("float32"):
      return graph_training.train(
        jax.random.key(3),
        gnn.make_model("gcn", 24, 3),
        gnn.normalized_edges(graphs.matrix(case.x.adjacency)),
        sparse_flips.plan_flips(graphs.matrix(case.x.attributes), localized.noise),
        localized.groups,
        case.truth,
        citation.split_nodes(case.truth, 0, per_class=4),
        num_classes=3,
        max_steps=most,
        patience=60,
        evaluate_every=20,
        checkpoint=checkpoint,
      )

  checkpoint = training.Checkpoint(tmp_path / "net.partial.npz", {}, interval=0.0)
  best, history = run(200, checkpoint)
  assert history.steps.tolist() == [20, 40, 60, 80, 100]
  assert history.best == 1
  again, same = run(200, checkpoint)
  np.testing.assert_array_equal(same.validation_loss, history.validation_loss)
  jax.tree.map(np.testing.assert_array_equal, again, best)
  losses = iter([2.0, 1.0])
  jax.tree.map(np.testing.assert_array_equal, run(40)[0], best)
  losses = iter([2.0])
  assert run(10)[1].steps.tolist() == [10]  # fewer steps than between evaluations


def test_the_exact_region_certificate_rests_on_the_same_bounds_as_the_others(loaded, records):
  rival, record = TASK.rivals["region"], records["isotropic"]
  assert rival(records["certificate"]) is None
  right = record.counted & (record.base.labels == record.truth)
  expected = sparse_smoothing.certified_grid(record.base.q_lower[right], 0.02, 0.4, 2, 4)
  found = rival(record)["correct"]
  np.testing.assert_array_equal(found, expected.ravel())
  assert (found > 0).any()
  forfeited = SimpleNamespace(**{**vars(record), "base": record.base._replace(forfeit=2)})
  np.testing.assert_array_equal(rival(forfeited)["correct"], np.maximum(expected.ravel() - 2, 0))
  order = np.random.default_rng(0).permutation(len(found))[:7]
  some = SimpleNamespace(**{**vars(record), "budgets": record.budgets[order]})
  np.testing.assert_array_equal(rival(some)["correct"], found[order])


def test_records_of_other_flips_or_groups_are_refused(loaded, records):
  config = loaded[0]
  for record in records.values():
    TASK.check_record(config, record)
  record = records["certificate"]
  cells, plus = record.noise.cells, np.full((3, 3), 0.02)
  for changes, message in (
    ({"noise": noise.flips(plus * 3, plus * 20, cells)}, "`theta_plus` is from 0.06 .* 0.02,0.05"),
    ({"noise": noise.flips(plus, plus * 10, cells)}, "`theta_minus` is from 0.2 .* 0.4,0.8"),
    ({"noise": noise.gaussian(plus, cells)}, "must be flips"),
    ({"groups": (record.groups + 1) % 3}, "`groups`"),
  ):
    with pytest.raises(ValueError, match=message):
      TASK.check_record(config, SimpleNamespace(**{**vars(record), **changes}))
  wider = config._replace(isotropic_theta_plus=0.06, isotropic_theta_minus=0.3)
  changed = SimpleNamespace(**{**vars(records["isotropic"]), "noise": noise.flips(
    [[0.06]], [[0.3]], np.zeros_like(cells)
  )})  # fmt: skip
  TASK.check_record(wider, changed)
  with pytest.raises(ValueError, match="theta_plus"):
    TASK.check_record(config, changed)


def test_the_surface_is_that_of_the_best_order(loaded, records):
  config, data, case, _ = loaded
  record = records["certificate"]
  better = record.certified["correct/envelope@2"]
  better = better._replace(certified=better.certified + (np.arange(15) == 7))
  certified = {**record.certified, "correct/envelope@2": better}
  found = graph_parts.surface(certified, int(case.counted.sum()))
  assert found.shape == (3, 5)
  np.testing.assert_array_equal(found.ravel() * case.counted.sum(), better.certified)
  figures = TASK.figures(config, data, [record], {})
  assert list(figures) == ["heatmap.png"]
  assert figures["heatmap.png"].axes[0].get_title() == "toy, gcn: 400 samples, level 0.99"


def test_every_field_but_the_data_is_an_option(toy):
  found = options.of(GraphConfig())
  assert set(GraphConfig._fields) - set(found) == {"data"}
  groups = list(dict.fromkeys(option.group for _, option in found.values()))
  assert groups == ["data", "flips", "network and training", "certificate"]
  assert found["theta_minus"][0] == tuple[float, float]
  plain = common.plain_config(toy_config(toy, data_dir="/somewhere"))
  assert (plain["graph"], plain["data_dir"]) == ("toy.npz", None)
  assert common.plain_config(GraphConfig())["graph"] is None
  for name, config in TASK.data.items():
    options.check(config)
    TASK.check(config)
    assert config.data == name in TASK.about


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"theta_plus": (0.1, 1.0)}, r"--theta-plus must lie in \[0, 1\), but one of them is 1.0"),
    ({"theta_minus": (-0.1, 0.5)}, "--theta-minus"),
    ({"isotropic_theta_minus": 1.5}, r"--isotropic-theta-minus must lie in \[0, 1\), .* is 1.5"),
    ({"alpha": 0.0}, "--alpha must lie strictly between 0 and 1, but it is 0.0"),
    ({"samples": 0}, "--samples must be at least 1"),
    ({"orders": (0.0,)}, "--orders must be greater than 0 and finite"),
    ({"budgets": (-1, 2)}, "--budgets must be at least 0"),
    ({"theta_minus": (0.9, 0.1)}, "--theta-minus must be LOW,HIGH with LOW at most HIGH.* 0.9,0.1"),
    ({"theta_plus": (0.05, 0.02)}, "--theta-plus must be LOW,HIGH"),
    ({"theta_plus": (0.3, 0.3)}, "--theta-plus and --theta-minus must not exceed 1 together"),
    (
      {"isotropic_theta_plus": 0.7},
      "--isotropic-theta-plus and --isotropic-theta-minus .* they are 0.7 and 0.4",
    ),
    ({"clusters": 0}, "--clusters must be at least 1"),
    ({"clusters": 43}, "number of nodes, 42, but it is 43"),
    ({"per_class": 0}, "--per-class must be at least 1"),
    ({"per_class": 8}, "has 14 nodes, but 8 for training and 8"),
    ({"per_class": 7}, "leaves none of the 42 nodes for testing"),
    ({"model_name": "mlp"}, "'mlp'"),
    ({"partition": "louvain"}, "--partition"),
    ({"method": "lp"}, "--method must be one of envelope, milp"),
    ({"scores": ("dkw",)}, "--scores"),
    ({"steps": 0}, "--steps must be at least 1"),
    ({"learning_rate": 0.0}, "--learning-rate must be positive"),
  ],
)
def test_impossible_configurations_are_named(toy, changes, message):
  config = toy_config(toy, **changes)

  def begin():  # as a job does
    options.check(config)
    TASK.check(config)
    TASK.load(config)

  with pytest.raises(ValueError, match=message):
    begin()


def test_a_cluster_without_nodes_has_no_caps():
  caps = graphs.flip_caps(np.array([2, 3]), 5, np.array([[0], [2]]), 3)
  assert caps[:, 1].tolist() == [0, 0]
