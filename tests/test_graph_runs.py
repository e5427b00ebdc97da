"""Whole jobs on a toy graph: from a file to certificates on disk, and back by their re-check."""

import argparse
import json
import shutil

import jax
import numpy as np
import pytest
from scipy import sparse
from tqdm import tqdm

from lrs_jax import noise
from lrs_jax.baselines import sparse_smoothing
from lrs_jax.cli import main
from lrs_jax.jobs import checkpoints, graph_cli, graph_records, graph_runs
from lrs_jax.sampling import sparse_flips
from lrs_jax.tasks import graph_training
from lrs_jax.tasks import graphs as graph_jobs
from lrs_jax.tasks.data import citation


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
  """Three communities of 14 nodes with their own words, in the layout of a graph file."""
  rng = np.random.default_rng(0)
  labels = np.repeat([0, 1, 2], 14)
  same = labels[:, None] == labels
  upper = np.triu(rng.random((42, 42)) < np.where(same, 0.35, 0.02), 1)
  words = rng.random((42, 24)) < np.where(labels[:, None] == np.arange(24) % 3, 0.6, 0.05)
  path = tmp_path_factory.mktemp("graph") / "toy.npz"
  arrays = {"labels": labels}
  for name, matrix in (("adj_matrix", upper), ("attr_matrix", words)):
    matrix = sparse.csr_array(matrix * 1.0)
    arrays |= {
      f"{name}.{part}": np.asarray(getattr(matrix, part))
      for part in ("data", "indices", "indptr", "shape")
    }
  np.savez(path, **arrays)
  return path


def toy_job(toy, **options):
  defaults = {
    "graph": str(toy), "model_name": "gcn", "per_class": 4, "clusters": 3, "steps": 60,
    "samples": 400, "selection_samples": 100, "budgets": (2, 4), "theta_plus": (0.02, 0.05),
    "theta_minus": (0.4, 0.8),
  }  # fmt: skip
  return graph_jobs.GraphJob(**{**defaults, **options})


@pytest.fixture(scope="module")
def done(toy, tmp_path_factory):
  out = tmp_path_factory.mktemp("out")
  return graph_runs.certify_graph(toy_job(toy), out), out


def test_a_job_leaves_its_results_on_disk(done):
  summary, out = done
  stored = json.loads((out / "summary.json").read_text())
  assert stored["localized"]["smoothed_accuracy"] == summary["localized"]["smoothed_accuracy"] > 0.8
  assert stored["graph"]["test_nodes"] == stored["graph"]["nodes"] - 24
  for name in ("additions.png", "deletions.png", "heatmap.png"):
    assert (out / name).stat().st_size > 1000
  assert "certified accuracy, deletions" in graph_runs.table(stored)


def test_methods_are_ordered_and_start_at_the_accuracy(done):
  summary, _ = done
  localized = summary["localized"]["certified_accuracy"]
  for kind in ("additions", "deletions"):
    naive, lp, envelope = (
      np.array(localized[m][kind]["curve"]) for m in ("naive", "lp", "envelope")
    )
    assert (naive <= envelope).all()
    assert (lp <= envelope).all()
    assert envelope[0] == pytest.approx(summary["localized"]["smoothed_accuracy"])
    assert (np.diff(envelope) <= 0).all()
  isotropic = summary["isotropic"]["certified_accuracy"]
  for kind in ("additions", "deletions"):
    assert isotropic["region"][kind]["curve"][0] <= 1
    assert len(isotropic["region"][kind]["curve"]) == len(isotropic["envelope"][kind]["curve"])


def test_the_command_line_runs_the_same_job_and_verifies_it(toy, done, capsys):
  """What is done already is not done again, so the same options must mean the same job."""
  _, out = done
  arguments = (
    *("--graph", str(toy), "--model-name", "gcn", "--per-class", "4", "--clusters", "3"),
    *("--steps", "60", "--samples", "400", "--selection-samples", "100", "--budgets", "2,4"),
    *("--theta-plus", "0.02,0.05", "--theta-minus", "0.4,0.8", "--out", str(out)),
  )
  assert main(["train", "citeseer", *arguments]) == 0
  assert capsys.readouterr().out.count("was trained before") == 2
  assert main(["certify", "citeseer", *arguments]) == 0
  assert "certified accuracy, deletions" in capsys.readouterr().out
  assert main(["verify", str(out)]) == 0
  assert capsys.readouterr().out.count("proven") == 2


def test_records_come_back_and_are_proven(done):
  _, out = done
  for name in ("certificate", "isotropic"):
    record = graph_records.load(out / "toy" / f"{name}.npz")
    graph_records.verify(record)
    graph_records.verify(record, exact=True)


def test_tampering_is_refused(done):
  _, out = done
  record = graph_records.load(out / "toy" / "certificate.npz")
  votes = np.roll(record.estimate.votes, 1, axis=1)
  selected = np.roll(record.selection.votes, 1, axis=1)
  plus = record.theta_plus * 1.1
  certificate = record.certified["correct/envelope"]
  fewer = {
    **record.certified,
    "correct/envelope": certificate._replace(caps=certificate.caps * 0.9),
  }
  more = {
    **record.certified, "correct/naive": certificate._replace(certified=certificate.certified + 1)
  }  # fmt: skip
  for changed, message in (
    (record._replace(estimate=record.estimate._replace(votes=votes)), "does not follow"),
    (record._replace(selection=record.selection._replace(votes=selected)), "does not follow"),
    (record._replace(alpha=record.alpha * 2), "`meta` says that alpha is 0.01"),
    (record._replace(alpha=record.alpha * 2, meta={}), "does not follow"),
    (record._replace(theta_plus=plus), "`theta_plus` is from"),
    (record._replace(theta_plus=plus, meta={}), "does not follow"),
    (record._replace(truth=record.truth * 0), "targets of"),
    (record._replace(test=~record.test), "targets of"),
    (record._replace(certified=fewer), "caps of"),
    (record._replace(certified=more), "correct/naive"),
  ):
    with pytest.raises(ValueError, match=message):
      graph_records.verify(changed)


def test_a_second_run_reuses_network_and_samples(done, toy, monkeypatch):
  summary, out = done
  monkeypatch.setattr(graph_training, "train", None)
  counted = []
  whole = sparse_flips.class_sums

  def counting(*args, num_samples, **options):
    counted.append(num_samples)
    return whole(*args, num_samples=num_samples, **options)

  monkeypatch.setattr(sparse_flips, "class_sums", counting)
  again = graph_runs.certify_graph(toy_job(toy), out)
  assert sum(counted) == 0
  for part in ("localized", "isotropic"):
    for field in ("certified_accuracy", "surface", "smoothed_accuracy", "network"):
      assert again[part][field] == summary[part][field]


def test_interrupted_sampling_goes_on_with_the_same_samples(done, toy, monkeypatch, tmp_path):
  _, out = done
  monkeypatch.setattr(graph_runs, "_PIECE", 20)  # 160 samples on 8 devices
  whole, pieces = sparse_flips.class_sums, []

  def stops(*args, num_samples, **options):
    pieces.extend([num_samples] * (num_samples > 0))
    if len(pieces) == 3:
      raise KeyboardInterrupt
    return whole(*args, num_samples=num_samples, **options)

  job = toy_job(toy)
  model = next((out / "models").glob("*.npz"))
  monkeypatch.setattr(sparse_flips, "class_sums", stops)
  with pytest.raises(KeyboardInterrupt):
    graph_runs.certify_graph(job, tmp_path / "a", model)
  assert pieces == [100, 160, 160]
  monkeypatch.setattr(sparse_flips, "class_sums", whole)
  kept = tmp_path / "a" / "toy" / "certificate-estimation.partial.npz"
  assert checkpoints.load(kept).done == 160
  before = kept.read_bytes()
  bars = []

  class Bar(tqdm):
    def __init__(self, *args, **options):
      super().__init__(*args, **options)
      bars.append(self)

  monkeypatch.setattr(graph_runs, "tqdm", Bar)
  with pytest.raises(ValueError, match="holds samples of another job, which differs in ranges"):
    graph_runs.certify_graph(job._replace(samples=500), tmp_path / "a", model)
  assert kept.read_bytes() == before
  bars.clear()
  graph_runs.certify_graph(job, tmp_path / "a", model)
  assert [bar.initial for bar in bars] == [100, 160, 0, 0]  # where counting was left
  assert [bar.n for bar in bars] == [100, 400, 100, 400]
  graph_runs.certify_graph(job, tmp_path / "b", model)
  resumed, straight = (
    graph_records.load(tmp_path / part / "toy" / "certificate.npz") for part in "ab"
  )
  for part in ("selection", "estimate"):
    jax.tree.map(np.testing.assert_array_equal, getattr(resumed, part), getattr(straight, part))
  assert not list(tmp_path.rglob("*.partial.npz"))


def files(folder):
  return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_finished_results_are_not_replaced_by_another_job(done, toy, tmp_path):
  out = shutil.copytree(done[1], tmp_path / "out")
  before = files(out)
  for changes, message in (
    ({"seed": 1}, r"summary.json holds .* another job \(seed: 0 there, 1 asked for\): .* --force"),
    ({"samples": 300}, r"\(samples: 400 there, 300 asked for\)"),
    ({"theta_minus": (0.4, 0.7)}, r"\(theta-minus: 0.4,0.8 there, 0.4,0.7 asked for\)"),
  ):
    with pytest.raises(ValueError, match=message):
      graph_runs.certify_graph(toy_job(toy, **changes), out)
  (out / "summary.json").unlink()
  with pytest.raises(ValueError, match=r"certificate.npz holds results of another job \(samples: "):
    graph_runs.certify_graph(toy_job(toy, samples=300), out)
  (out / "summary.json").write_text("[]")
  with pytest.raises(ValueError, match=r"summary.json is in the way, and is not a result"):
    graph_runs.certify_graph(toy_job(toy), out)
  after = files(out)
  assert all(after[path] == content for path, content in before.items() if path.suffix != ".json")
  smaller = toy_job(toy, samples=300, budgets=(1, 1))
  assert graph_runs.certify_graph(smaller, out, force=True)["job"]["samples"] == 300
  record = graph_records.load(out / "toy" / "certificate.npz")
  assert (record.estimate.votes.sum(axis=1) == 300).all()


def test_results_of_another_graph_of_the_same_name_are_not_replaced(done, toy, tmp_path):
  out, other = shutil.copytree(done[1], tmp_path / "out"), tmp_path / "toy.npz"
  arrays = dict(np.load(toy))
  arrays["attr_matrix.indices"] = (arrays["attr_matrix.indices"] + 1) % 24
  np.savez(other, **arrays)
  with pytest.raises(ValueError, match=r"another job \(attributes of the graph"):
    graph_runs.certify_graph(toy_job(other), out)


def test_results_of_another_network_are_not_replaced(done, toy, tmp_path):
  out = shutil.copytree(done[1], tmp_path / "out")
  model = sorted((out / "models").glob("*.npz"))
  with pytest.raises(ValueError, match=r"holds results of another job \(network \(SHA-256\): "):
    graph_runs.certify_graph(toy_job(toy), out, model[0])  # one of both is not its own


def test_a_network_that_learned_nothing_is_called_that(done):
  summary, _ = done
  share = summary["majority"]["share"]
  assert share == pytest.approx(1 / 3, abs=0.1)
  text = graph_runs.table(summary)
  assert f"always answering class {summary['majority']['class']}: accuracy {share:.3f}" in text
  assert "NOTE" not in text
  poor = {**summary["localized"], "smoothed_accuracy": share + 0.03}
  text = graph_runs.table({**summary, "localized": poor})
  assert text.splitlines()[-1].endswith("or less often: localized smoothing")


def test_areas_that_the_budgets_cut_short_are_marked(done):
  text = graph_runs.table(done[0])
  assert "area: the sum over 1, 2, ... flips; >: as far as --budgets go" in text
  methods = done[0]["localized"]["certified_accuracy"]
  curves = [methods[name][kind]["curve"] for kind in ("additions", "deletions") for name in methods]
  rows = [line.split() for line in text.splitlines() if line.startswith("  localized, ")]
  assert [row[-1].startswith(">") for row in rows] == [curve[-1] > 0 for curve in curves]
  assert {curve[-1] > 0 for curve in curves} == {True, False}


def test_several_jobs_are_compared(done, tmp_path):
  summary, out = done
  text = graph_runs.compare([out / "summary.json", out / "summary.json"], tmp_path)
  assert len(text.splitlines()) == 5
  best = max(m["deletions"]["area"] for m in summary["localized"]["certified_accuracy"].values())
  assert f"{best:.3f}" in text
  assert (tmp_path / "pareto-deletions.png").stat().st_size > 1000


def test_command_line_describes_the_same_job(toy):
  parser = argparse.ArgumentParser()
  graph_cli.add_options(parser, graph_jobs.DEFAULTS["citeseer"])
  assert graph_cli.job_from(parser.parse_args([])) == graph_jobs.DEFAULTS["citeseer"]
  options = parser.parse_args(
    f"--graph {toy} --model-name gcn --per-class 4 --clusters 3 --steps 60 --samples 400 "
    "--selection-samples 100 --budgets 2,4 --theta-plus 0.02,0.05 --theta-minus 0.4,0.8".split()
  )
  assert graph_cli.job_from(options) == toy_job(toy)
  assert parser.parse_args(["--theta-minus", "0.5"]).theta_minus == (0.5, 0.5)
  for wrong in ("--theta-plus x", "--budgets 3", "--scores dkw", "--theta-minus 1,2,3"):
    with pytest.raises(SystemExit):
      parser.parse_args(wrong.split())


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"theta_plus": (0.1, 1.0)}, r"--theta-plus must lie in \[0, 1\), but one of them is 1.0"),
    ({"theta_minus": (-0.1, 0.5)}, "--theta-minus"),
    ({"isotropic_theta_minus": 1.5}, "--isotropic-theta-minus"),
    ({"alpha": 0.0}, "--alpha"),
    ({"samples": 0}, "--samples must be at least 1"),
    ({"samples": 12}, "at least 13 samples are needed"),
    ({"orders": (0.0,)}, "--orders"),
    ({"budgets": (-1, 2)}, "--budgets"),
    ({"theta_minus": (0.9, 0.1)}, "--theta-minus must be LOW,HIGH with LOW at most HIGH.* 0.9,0.1"),
    ({"theta_plus": (0.05, 0.02)}, "--theta-plus must be LOW,HIGH"),
    ({"theta_plus": (0.3, 0.3)}, "--theta-plus and --theta-minus must not exceed 1 together"),
    (
      {"isotropic_theta_plus": 0.7},
      "--isotropic-theta-plus and --isotropic-theta-minus .* they are 0.7 and 0.4",
    ),
    ({"clusters": 43}, "number of nodes, 42, but it is 43"),
    ({"per_class": 8}, "has 14 nodes, but 8 for training and 8"),
    ({"per_class": 7}, "leaves none of the 42 nodes for testing"),
    ({"model_name": "mlp"}, "'mlp'"),
    ({"partition": "louvain"}, "--partition"),
    ({"learning_rate": 0.0}, "--learning-rate"),
  ],
)
def test_impossible_jobs_are_named(toy, tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    graph_runs.certify_graph(toy_job(toy, **changes), tmp_path)
  assert not list(tmp_path.iterdir())


def test_no_noise_is_legal_and_certifies_no_flip(done, toy, tmp_path):
  model = next((done[1] / "models").glob("*.npz"))
  job = toy_job(toy, theta_plus=(0.0, 0.0), theta_minus=(0.0, 0.0), budgets=(1, 1))
  report = graph_runs.certify_graph(job, tmp_path, model)["localized"]
  assert report["smoothed_accuracy"] > 0.8
  assert report["surface"][0][0] == pytest.approx(report["smoothed_accuracy"])
  assert report["surface"][0][1] < 1


def test_another_network_is_refused(done, toy, tmp_path):
  _, out = done
  model = next((out / "models").glob("*.npz"))
  with pytest.raises(ValueError, match="another network than --model-name gat"):
    graph_runs.certify_graph(toy_job(toy, model_name="gat"), tmp_path, model)


def test_training_learns_and_names_what_is_missing(toy):
  job = toy_job(toy, steps=60)
  data = graph_jobs.load(job)
  flips = graph_jobs.localized_flips(job, data)
  plan = sparse_flips.plan_flips(data.graph.attributes, flips)
  labels, split = data.graph.labels, data.split
  arguments = data.model, data.edges, plan, data.clusters, labels
  with jax.default_matmul_precision(job.precision):  # as jobs do: compiled once for all
    _, history = graph_training.train(
      jax.random.key(0), *arguments, split, num_classes=3, max_steps=60
    )
  assert history.validation_loss[history.best] == history.validation_loss.min() < np.log(3) / 2
  without = citation.Split(split.train[labels[split.train] != 1], split.validation, split.test)
  with pytest.raises(ValueError, match="no node of class 1"):
    graph_training.train(jax.random.key(0), *arguments, without, num_classes=3)
  nobody = citation.Split(split.train, split.validation[:0], split.test)
  with pytest.raises(ValueError, match="early stopping"):
    graph_training.train(jax.random.key(0), *arguments, nobody, num_classes=3)


def test_an_empty_cluster_changes_nothing(toy):
  """A cluster without nodes has no caps: whatever its weights, nothing can be spent there."""
  caps = graph_records.flip_caps(np.array([2, 3]), 5, np.array([[0], [2]]), 3)
  assert caps[:, 1].tolist() == [0, 0]
  flips = noise.flips(np.full((3, 3), 0.1), np.full((3, 3), 0.5), np.array([[0], [2]]))
  plan = sparse_flips.plan_flips(sparse.csr_array(np.eye(2, 5)), flips)
  assert plan.arrays.minus_index.shape == (3, 3)


def test_the_exact_region_certificate_rests_on_the_same_bounds_as_the_others(done):
  """Before, it had bounds of its own votes at alpha, and `compare` took the better of both."""
  _, out = done
  record = graph_records.load(out / "toy" / "isotropic.npz")
  flips = noise.flips(record.theta_plus, record.theta_minus, record.cells)
  base = graph_records.base_certificates(
    flips, record.groups, record.selection, record.estimate, alpha=record.alpha, methods=("kl",)
  )
  job = graph_jobs.GraphJob(**tuples(record.meta["job"]))
  report = graph_runs.report(job, record._replace(base=base))
  right = record.test & (base.labels == record.truth)
  expected = sparse_smoothing.certified_grid(
    base.q_lower[right], record.theta_plus.item(), record.theta_minus.item(), *job.budgets
  )
  curves = report["certified_accuracy"]["region"]
  num_test = record.test.sum()
  np.testing.assert_allclose(curves["additions"]["curve"], expected[:, 0] / num_test)
  np.testing.assert_allclose(curves["deletions"]["curve"], expected[0] / num_test)


def tuples(fields):
  return {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda s: s["graph"].update(attributes=1), "it says 1 of graph.attributes"),
    (lambda s: s["graph"].update(test_nodes=10), "it says 10 of graph.test_nodes"),
    (lambda s: s["graph"].update(name="../toy"), "the name of a folder"),
    (lambda s: s["localized"].update(smoothed_accuracy=1.5), "localized.smoothed_accuracy"),
    (lambda s: s["isotropic"]["certified_accuracy"].update(best={}), "best does not follow"),
    (lambda s: s["localized"].update(surface=[[1.0]]), "localized.surface"),
    (lambda s: s["job"].update(alpha=0.5), "its `job` is not that of certificate.npz"),
    (lambda s: s["job"].update(colour=1), "there is no option colour"),
  ],
)
def test_verify_compares_the_summary_with_the_certificates(done, tmp_path, capsys, change, message):
  shutil.copytree(done[1], tmp_path / "out")
  path = tmp_path / "out" / "summary.json"
  assert main(["verify", str(tmp_path / "out")]) == 0
  assert (
    "summary.json: agrees with its 2 certificates, except for device" in capsys.readouterr().out
  )
  summary = json.loads(path.read_text())
  change(summary)
  path.write_text(json.dumps(summary))
  assert main(["verify", str(tmp_path / "out")]) == 1
  error = capsys.readouterr().err
  assert "summary.json: REFUSED" in error
  assert message in error
  assert error.count("\n") == 1


def test_samples_of_a_damaged_certificate_are_drawn_again(done, toy, tmp_path):
  """What can be read but cannot be is not certified from."""
  shutil.copytree(done[1], tmp_path / "out")
  path = tmp_path / "out" / "toy" / "certificate.npz"
  record = graph_records.load(path)
  estimate = record.estimate._replace(votes=record.estimate.votes * 2)
  graph_records.save(path, record._replace(estimate=estimate))
  graph_runs.certify_graph(toy_job(toy), tmp_path / "out")
  again = graph_records.load(path)
  graph_records.verify(again)
  np.testing.assert_array_equal(again.estimate.votes, record.estimate.votes)
