"""Jobs on a toy graph: what only graphs have, beside `test_every_task`."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from lrs_jax.baselines import sparse_smoothing
from lrs_jax.cli import main
from lrs_jax.jobs import records, reports, running
from lrs_jax.tasks import graph_regions, graph_training, graphs
from tests.toys import write_graph


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
  return write_graph(tmp_path_factory.mktemp("graph") / "toy.npz")


def toy_job(toy, **options):
  defaults = {
    "graph": str(toy), "model_name": "gcn", "per_class": 4, "clusters": 3, "steps": 60,
    "samples": 400, "selection_samples": 100, "budgets": (2, 4), "theta_plus": (0.02, 0.05),
    "theta_minus": (0.4, 0.8),
  }  # fmt: skip
  return graphs.GraphConfig(**{**defaults, **options})


def certify(config, out, model=None, **options):
  return running.certify(graphs.TASK, config, out, model, **options)


@pytest.fixture(scope="module")
def done(toy, tmp_path_factory):
  out = tmp_path_factory.mktemp("out")
  return certify(toy_job(toy), out), out


def test_the_page_has_curves_and_cards_but_no_pictures(done):
  _, out = done
  (text,) = re.findall(r'application/json">(.*?)</script>', (out / "report.html").read_text())
  page = json.loads(text)
  axes = [of["axis"] for of in page["curves"]["kinds"]]
  assert axes == [
    "additions, over the whole input",
    "deletions, over the whole input",
    "additions, and as many deletions, over the whole input",
  ]
  assert all(1 < len(of["series"]) <= 6 for of in page["curves"]["kinds"])
  assert page["inputs"][0]["card"].startswith("# Certificate")
  assert "image" not in page["inputs"][0]


def methods(summary, smoothing="certificate"):
  return summary["smoothings"][smoothing]["certified_accuracy"]


def test_curves_start_at_the_accuracy(done):
  summary, out = done
  for name, report in summary["smoothings"].items():
    assert report["accuracy"] > 0.8
    for kind in ("additions", "deletions"):
      curve = methods(summary, name)["envelope"][kind]["curve"]
      assert curve[0] == pytest.approx(report["accuracy"])
  regions, orders = (methods(summary, "certificate")[name] for name in ("regions", "orders"))
  for kind in ("additions", "deletions"):
    assert (np.array(regions[kind]["curve"]) >= orders[kind]["curve"]).all()
  assert regions["deletions"]["area"] > orders["deletions"]["area"]
  region, envelope = (methods(summary, "isotropic")[name] for name in ("region", "envelope"))
  for kind in ("additions", "deletions"):
    assert len(region[kind]["curve"]) == len(envelope[kind]["curve"])
    orders = methods(summary)["orders"][kind]["curve"]
    assert (np.array(orders) >= methods(summary)["envelope"][kind]["curve"]).all()
  both, grid = regions["both"], (out / "toy" / "certificate.npz")
  assert both["budgets"] == [0, 1, 2]
  kept, record = graph_regions.localized(records.load(grid))["correct"], records.load(grid)
  (one_of_each,) = kept[(record.budgets == 1).all(axis=1)] / record.labelled.sum()
  assert both["curve"][1] == one_of_each
  for name in ("additions.png", "deletions.png", "both.png", "heatmap.png"):
    assert (out / name).stat().st_size > 1000
  assert summary["facts"]["test_nodes"] == summary["facts"]["nodes"] - 24


def test_each_smoothing_has_a_network_of_its_own(done):
  summary, out = done
  assert len(set(summary["model"].values())) == 2
  assert len(list((out / "models").glob("*.npz"))) == 2


def test_results_of_another_graph_of_the_same_name_are_not_replaced(done, toy, tmp_path):
  out, other = shutil.copytree(done[1], tmp_path / "out"), tmp_path / "toy.npz"
  arrays = dict(np.load(toy))
  arrays["attr_matrix.indices"] = (arrays["attr_matrix.indices"] + 1) % 24
  np.savez(other, **arrays)
  with pytest.raises(ValueError, match=r"another job \(input \(SHA-256\): "):
    certify(toy_job(other), out)


def test_results_of_another_network_are_not_replaced(done, toy, tmp_path):
  out = shutil.copytree(done[1], tmp_path / "out")
  model = sorted((out / "models").glob("*.npz"))
  with pytest.raises(ValueError, match=r"holds results of another job \(network \(SHA-256\): "):
    certify(toy_job(toy), out, model[0])  # one of both is not its own


def test_areas_that_the_budgets_cut_short_are_marked(done):
  summary, _ = done
  text = reports.table(summary)
  assert "area: the sum over 1, 2, ... additions" in text
  curves = [of["deletions"]["curve"] for of in methods(summary).values()]
  rows = [line.split() for line in text.splitlines() if line.startswith("  localized, ")]
  marked = [row[-1].startswith(">") for row in rows[len(curves) : 2 * len(curves)]]
  assert sorted(marked) == sorted(curve[-1] > 0 for curve in curves)


def test_a_network_that_learned_nothing_is_called_that(done):
  summary, _ = done
  share = summary["majority"]["share"]
  assert share == pytest.approx(1 / 3, abs=0.1)
  assert "NOTE" not in reports.table(summary)
  poor = {**summary["smoothings"]["certificate"], "accuracy": share + 0.03}
  text = reports.table({**summary, "smoothings": {**summary["smoothings"], "certificate": poor}})
  (note,) = (line for line in text.splitlines() if line.startswith("NOTE"))
  assert note.endswith("or less often: localized")


def test_command_line_describes_the_same_job(toy, done, capsys, no_figures):
  _, out = done
  arguments = (
    f"--graph {toy} --model-name gcn --per-class 4 --clusters 3 --steps 60 --samples 400 "
    "--selection-samples 100 --budgets 2,4 --theta-plus 0.02,0.05 --theta-minus 0.4,0.8"
  ).split()
  before = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
  assert main(["certify", "citeseer", *arguments, "--out", str(out)]) == 0
  assert {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")} == before
  for wrong in ("--theta-plus x", "--budgets 3", "--scores dkw", "--theta-minus 1,2,3"):
    with pytest.raises(SystemExit):
      main(["certify", "citeseer", *wrong.split()])


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"theta_plus": (0.1, 1.0)}, r"--theta-plus must lie in \[0, 1\), but one of them is 1.0"),
    ({"isotropic_theta_minus": 1.5}, "--isotropic-theta-minus"),
    ({"samples": 12}, "at least 13 samples are needed"),
    ({"theta_minus": (0.9, 0.1)}, "--theta-minus must be LOW,HIGH with LOW at most HIGH.* 0.9,0.1"),
    ({"clusters": 43}, "number of nodes, 42, but it is 43"),
    ({"per_class": 7}, "leaves none of the 42 nodes for testing"),
    ({"model_name": "mlp"}, "'mlp'"),
  ],
)
def test_impossible_jobs_are_named(toy, tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    certify(toy_job(toy, **changes), tmp_path)
  assert not list(tmp_path.iterdir())


def test_no_noise_is_legal_and_certifies_no_flip(done, toy, tmp_path, no_figures):
  job = toy_job(toy, theta_plus=(0.0, 0.0), theta_minus=(0.0, 0.0), budgets=(1, 1))
  summary = certify(job, tmp_path)
  report = summary["smoothings"]["certificate"]
  curve = report["certified_accuracy"]["orders"]["additions"]["curve"]
  assert report["accuracy"] > 0.8
  assert curve[0] == pytest.approx(report["accuracy"])
  assert curve[1] < 1


def test_another_network_is_refused(done, toy, tmp_path):
  _, out = done
  model = next((out / "models").glob("*.npz"))
  with pytest.raises(ValueError, match="was trained with --model-name gcn, but this job has gat"):
    certify(toy_job(toy, model_name="gat"), tmp_path, model)


def test_a_stopped_training_goes_on(toy, tmp_path, monkeypatch, no_figures):
  """Through the job: the file of the unfinished training is found again, and removed."""
  validate, calls = graph_training._validate, []

  def stopping(*args, **options):
    calls.append(1)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return validate(*args, **options)

  job = toy_job(toy, steps=80, samples=60, selection_samples=30)
  with monkeypatch.context() as patch:
    patch.setattr(graph_training, "_validate", stopping)
    with pytest.raises(KeyboardInterrupt):
      certify(job, tmp_path / "a")
  (unfinished,) = (tmp_path / "a" / "models").iterdir()
  assert unfinished.name.endswith(".partial.npz")
  one, other = certify(job, tmp_path / "a"), certify(job, tmp_path / "b")
  assert one["model"] == other["model"]
  assert not list((tmp_path / "a" / "models").glob("*.partial.npz"))


def test_the_exact_region_certificate_rests_on_the_same_bounds_as_the_others(done):
  """Before, it had bounds of its own votes at alpha, and the better of both was taken."""
  summary, out = done
  record = records.load(out / "toy" / "isotropic.npz")
  plus, minus = record.noise.parameters
  right = record.counted & (record.base.labels == record.truth)
  expected = sparse_smoothing.certified_grid(
    record.base.q_lower[right], plus.item(), minus.item(), 2, 4
  )
  region, counted = methods(summary, "isotropic")["region"], record.counted.sum()
  np.testing.assert_allclose(region["additions"]["curve"], expected[:, 0] / counted)
  np.testing.assert_allclose(region["deletions"]["curve"], expected[0] / counted)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda s: s.update(inputs=["../toy"]), "must be names of folders"),
    (lambda s: s["smoothings"]["certificate"].update(accuracy=1.5), "certificate.accuracy"),
    (lambda s: methods(s, "isotropic").update(best={}), "best does not follow"),
    (lambda s: s["job"].update(alpha=0.5), "its `job` is not that of"),
    (lambda s: s["job"].update(colour=1), "there is no option colour"),
  ],
)
def test_verify_compares_the_summary_with_the_certificates(done, tmp_path, capsys, change, message):
  shutil.copytree(done[1], tmp_path / "out")
  path = tmp_path / "out" / "summary.json"
  summary = json.loads(path.read_text())
  change(summary)
  path.write_text(json.dumps(summary))
  assert main(["verify", str(tmp_path / "out")]) == 1
  error = capsys.readouterr().err
  assert "summary.json: REFUSED" in error
  assert message in error
  assert error.count("\n") == 1


def test_samples_of_a_damaged_certificate_are_drawn_again(done, toy, tmp_path, no_figures):
  """What can be read but cannot be is not certified from."""
  shutil.copytree(done[1], tmp_path / "out")
  path = tmp_path / "out" / "toy" / "certificate.npz"
  record = records.load(path)
  twice = record.estimation._replace(votes=record.estimation.votes * 2)
  records.save(path, record._replace(estimation=twice))
  certify(toy_job(toy), tmp_path / "out")
  again = records.load(path)
  records.verify(again, task=graphs.TASK)
  jax.tree.map(np.testing.assert_array_equal, again.estimation, record.estimation)
