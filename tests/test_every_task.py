"""Every task through every verb, at toy size: all that a job does, it does for all of them."""

import json
import os
import runpy
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from lrs_jax import storage
from lrs_jax.cli import main
from lrs_jax.jobs import checkpoints, machines, records, running
from lrs_jax.tasks import TASKS
from tests.toys import toys

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture(
  scope="module", params=[name for name in TASKS if name != "counts"]
)  # it has no network
def job(request, tmp_path_factory):
  """A toy job that is done: (its arguments without a command, its folder, its network's file)."""
  folder = tmp_path_factory.mktemp(request.param)
  toy = toys(folder)[request.param]
  arguments = [toy.data, *toy.options]
  model = folder / "network.npz"
  assert main(["train", *arguments, "--model", str(model)]) == 0
  arguments += ["--model", str(model)]
  out = folder / "out"
  assert main(["certify", *arguments, "--out", str(out)]) == 0
  return arguments, out, model


def certificates(out):
  return sorted(path for path in out.glob("*/*.npz") if path.parent.name != "models")


def same_but_for_times(one, other):
  """Whether two files hold the same record, whatever it took to make them."""
  arrays = [
    {name: a for name, a in storage.load_arrays(path).items() if not timed(name)}
    for path in (one, other)
  ]
  assert set(arrays[0]) == set(arrays[1])
  for name, array in arrays[0].items():
    np.testing.assert_array_equal(array, arrays[1][name], err_msg=name)


def timed(name):
  return name == "digest" or name.endswith(("/solve_time", "/seals", "/digest"))


def test_a_job_leaves_records_cards_figures_and_a_summary(job):
  _, out, _ = job
  summary = json.loads((out / "summary.json").read_text())
  task = TASKS[summary["task"]]
  views = {"isotropic-view"} if task.name == "images" else set()
  assert set(summary["smoothings"]) == {"certificate", "isotropic"} | views
  assert len(certificates(out)) == len(summary["smoothings"]) * len(summary["inputs"])
  for name in summary["inputs"]:
    assert (out / name / "card.md").read_text().startswith("# Certificate")
  assert list(out.glob("*.png"))
  for name, report in summary["smoothings"].items():
    assert report["accuracy"] is not None, name
    for by_kind in report["certified_accuracy"].values():
      for of_kind in by_kind.values():
        assert (np.diff(of_kind["curve"]) <= 1e-12).all()
  methods = summary["smoothings"]["certificate"]["certified_accuracy"]
  for kind, envelope in methods["envelope"].items():
    for weaker in {"naive", "lp"} & set(methods):
      assert (np.array(methods[weaker][kind]["curve"]) <= envelope["curve"]).all()
  assert summary["unit"] == task.unit


def test_training_is_not_done_twice_and_the_second_run_does_nothing(job, capsys):
  arguments, out, _ = job
  assert main(["train", *arguments]) == 0
  assert "was trained before" in capsys.readouterr().out
  before = {path: path.stat().st_mtime_ns for path in certificates(out)}
  assert main(["certify", *arguments, "--out", str(out)]) == 0
  assert {path: path.stat().st_mtime_ns for path in certificates(out)} == before
  text = capsys.readouterr().out
  assert "localized, " in text
  assert "always answering" in text


def test_verify_and_card(job, capsys):
  _, out, _ = job
  assert main(["verify", str(out)]) == 0
  told = capsys.readouterr().out
  assert told.count("proven") == len(certificates(out))
  assert "summary.json: agrees" in told
  assert main(["card", str(certificates(out)[0])]) == 0
  assert "With probability at least" in capsys.readouterr().out
  alone = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "check_record.py"))
  assert alone["main"]([str(out)]) == 0
  assert capsys.readouterr().out.count(": holds") == len(certificates(out))


def test_a_stopped_job_goes_on_and_ranges_add_up(job, tmp_path, monkeypatch):
  """Interrupted within the second piece, and counted as two machines would."""
  arguments, out, model = job
  monkeypatch.setattr(machines, "_PIECE", 8)
  stops, counting = [], running._count

  def stopping(setting, item, counter, part, *rest):
    def count(key, num_samples, first_sample):
      if num_samples and first_sample and not stops:
        stops.append(first_sample)
        os.kill(os.getpid(), signal.SIGTERM)
      return counter(key, num_samples, first_sample)

    return counting(setting, item, count, part, *rest)

  monkeypatch.setattr(running, "_count", stopping)
  resumed = ["certify", *arguments, "--out", str(tmp_path / "resumed")]
  assert main(resumed) == 130
  found = [checkpoints.load(path).done for path in (tmp_path / "resumed").rglob("*.partial.npz")]
  assert any(done > 0 for done in found)
  assert main(resumed) == 0
  monkeypatch.undo()
  config = json.loads((out / "summary.json").read_text())["job"]
  half = config["samples"] // 2 // 8 * 8
  for name, bounds in (("a", f"0:{half}"), ("b", f"{half}:{config['samples']}")):
    where = ["--sample-range", bounds, "--out", str(tmp_path / name)]
    assert main(["certify", *arguments, *where]) == 0
  merge = ["merge", str(tmp_path / "b"), str(tmp_path / "a"), "--model", str(model)]
  merge += ["--data-dir", str(model.parent)]  # where the graph lies
  assert main([*merge, "--out", str(tmp_path / "merged")]) == 0
  for path in certificates(out):
    for other in ("resumed", "merged"):
      same_but_for_times(path, tmp_path / other / path.relative_to(out))
  assert not list((tmp_path / "resumed").rglob("*.partial.npz"))


def test_what_was_changed_is_refused(job, tmp_path, capsys):
  _, out, _ = job
  path = certificates(out)[0]
  record = records.load(path)
  task = TASKS[record.task]
  name = next(iter(record.certified))
  certificate = record.certified[name]
  votes = record.estimation.votes.copy()
  votes[:, [0, 1]] = votes[:, [1, 0]]
  for changed in (
    record._replace(certified={name: certificate._replace(certified=certificate.certified + 1)}),
    record._replace(estimation=record.estimation._replace(votes=votes)),
    record._replace(bounds=record.bounds._replace(alpha=0.5)),
    record._replace(base=record.base._replace(eta=record.base.eta * 1.01)),
    record._replace(meta={**record.meta, "job": {**record.meta["job"], "alpha": 0.5}}),
    record._replace(counted=~record.counted),
  ):
    with pytest.raises(ValueError, match=r"`|'|all/|correct/"):
      records.verify(changed, task=task)
    records.save(tmp_path / "certificate.npz", changed)
    assert main(["verify", str(tmp_path / "certificate.npz")]) == 1
    assert "REFUSED" in capsys.readouterr().err


def test_another_job_does_not_replace_it(job, tmp_path, capsys):
  arguments, out, _ = job
  copy = shutil.copytree(out, tmp_path / "copy")
  before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
  assert main(["certify", *arguments, "--alpha", "0.05", "--out", str(copy)]) == 1
  error = capsys.readouterr().err
  assert "(alpha: 0.01 there, 0.05 asked for)" in error
  assert error.count("\n") == 1
  assert {path: path.read_bytes() for path in before} == before


def test_outputs_may_be_given_up_for_better_bounds(job, tmp_path):
  arguments, out, _ = job
  given_up = ["certify", *arguments, "--k-fwer", "0.1", "--out", str(tmp_path)]
  assert main(given_up) == 0
  path = certificates(out)[0]
  without, record = records.load(path), records.load(tmp_path / path.relative_to(out))
  assert record.base.forfeit == int(0.1 * record.groups.size)
  assert record.base.eta.sum() > without.base.eta.sum()
  assert main(["verify", str(tmp_path)]) == 0


def test_no_two_parts_draw_from_one_key(job):
  _, out, _ = job
  drawn = {}
  for path in certificates(out):
    meta = records.load(path).meta
    shared = "isotropic" if meta["smoothing"] == "isotropic-view" else meta["smoothing"]
    for part, key in meta["keys"].items():
      drawn.setdefault(tuple(key), set()).add((path.parent, shared, part))
  assert all(len(samples) == 1 for samples in drawn.values())
  parts = len(set.union(*drawn.values()))
  assert len(drawn) == parts == 2 * len({path.parent for path in certificates(out)}) * 2


def test_scores_serve_where_a_family_has_them(job, tmp_path):
  arguments, _, _ = job
  scored = ["certify", *arguments, "--scores", "votes,kl", "--out", str(tmp_path)]
  assert main(scored) == 0
  record = records.load(certificates(tmp_path)[0])
  assert record.estimation.scores.shape == record.estimation.votes.shape
  assert set(record.base.method) <= {"votes", "kl"}
  assert main(["verify", str(tmp_path)]) == 0


def test_nothing_is_left_by_input_that_cannot_be(job, tmp_path, capsys):
  arguments, _, _ = job
  out = tmp_path / "out"
  for options, message in (
    (("--alpha", "1"), "--alpha must lie strictly between 0 and 1"),
    (("--k-fwer", "-0.5"), "--k-fwer must lie in [0, 1)"),
    (("--samples", "3"), "samples are needed"),
    (("--sample-range", "5:2"), "--sample-range must lie in"),
  ):
    assert main(["certify", *arguments, *options, "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()
