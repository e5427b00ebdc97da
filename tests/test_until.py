"""Jobs that stop sampling an input as soon as enough of it is certified."""

import json

import numpy as np
import pytest

from lrs_jax.cli import main
from lrs_jax.confidence import corrections, statistics
from lrs_jax.jobs import machines, records, running
from tests.toys import GRAPH, write_graph

pytestmark = pytest.mark.usefixtures("no_figures_in_module")

JOB = (
  *("scenes", "--size", "16x32", "--width", "2", "--depth", "1", "--images", "2", "--steps", "3"),
  *("--batch-size", "2", "--samples", "800", "--selection-samples", "20", "--block", "8"),
  *("--budgets", "0,0.05,0.2"),
)


@pytest.fixture(scope="module")
def certify(tmp_path_factory):
  """(name, options) -> the folder of a job of one network, which is done once."""
  folder = tmp_path_factory.mktemp("until")

  def run(name, *options):
    arguments = [*JOB, "--model", str(folder / "network.npz"), "--out", str(folder / name)]
    assert main(["certify", *arguments, *options]) == 0
    return folder / name

  return run


def load(folder, name="certificate"):
  return [records.load(folder / f"scene-00{i}" / f"{name}.npz") for i in (0, 1)]


def summary_of(folder):
  return json.loads((folder / "summary.json").read_text())


def test_the_first_samples_are_certified_at_a_quarter_of_alpha(certify, capsys):
  folder = certify("soon", "--until", "0.01,0")
  whole = load(certify("whole"))
  for name in ("certificate", "isotropic"):
    for record, other in zip(load(folder, name), whole, strict=True):
      n = int(record.estimation.num_samples)
      assert n in (100, 200)
      assert record.bounds.looks == 4
      assert record.alpha == 0.01
      assert record.meta["ranges"] == [[0, n]]
      assert (record.estimation.votes <= other.estimation.votes).all()
      levels = corrections.levels(0.01 / 4, record.groups.size)
      sums = record.selection, record.estimation
      base = statistics.from_class_sums(
        record.noise, record.groups, *sums, alpha=levels, methods=record.bounds.statistics
      )
      np.testing.assert_allclose(record.base.q_lower, base.q_lower, rtol=1e-9)
  told = summary_of(folder)["smoothings"]["certificate"]["samples"]
  assert told == [int(record.estimation.num_samples) for record in load(folder)]
  assert main(["verify", str(folder)]) == 0
  assert "on average" in capsys.readouterr().out
  assert "looks at which sampling could stop" in (folder / "scene-000" / "card.md").read_text()
  before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*.npz")}
  certify("soon", "--until", "0.01,0")
  assert {path: path.stat().st_mtime_ns for path in folder.glob("*/*.npz")} == before


def test_what_is_never_enough_takes_all_samples(certify):
  """The noise from the same keys; certified is less, for the looks before."""
  late, whole = load(certify("late", "--until", "1,9")), load(certify("whole"))
  for record, other in zip(late, whole, strict=True):
    np.testing.assert_array_equal(record.estimation.votes, other.estimation.votes)
    for name, certificate in record.certified.items():
      assert (certificate.certified[0] <= other.certified[name].certified[0]).all()


def test_a_stopped_job_stops_where_one_would_that_was_not(certify, monkeypatch):
  monkeypatch.setattr(machines, "_PIECE", 8)
  pieces, count = [], running.checkpoints.save

  def dying(path, counts):
    pieces.append(counts.done)
    count(path, counts)
    if len(pieces) == 9:
      raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(running.checkpoints, "save", dying)
    with pytest.raises(AssertionError):
      certify("stopped", "--until", "0.01,0", "--checkpoint-interval", "0")
  again = load(certify("stopped", "--until", "0.01,0"))
  for record, other in zip(again, load(certify("soon", "--until", "0.01,0")), strict=True):
    np.testing.assert_array_equal(record.estimation.votes, other.estimation.votes)


@pytest.mark.parametrize(
  "change",
  [{"bounds/looks": None}, {"bounds/looks": np.asarray(3)}, {"bounds/looks": np.asarray(0)}],
)
def test_a_record_that_says_otherwise_is_refused(certify, change):
  record = load(certify("soon", "--until", "0.01,0"))[0]
  arrays = {**records.to_arrays(record), **change}
  arrays = {name: array for name, array in arrays.items() if array is not None}
  with pytest.raises(ValueError, match="bounds/looks"):
    records.verify(records.from_arrays(arrays))


def test_a_number_of_samples_that_is_no_look_is_refused(certify):
  record = load(certify("soon", "--until", "0.01,0"))[0]
  job = record.meta["job"] | {"samples": 1000}  # after 125, 250, 500 or 1,000
  with pytest.raises(ValueError, match="could stop after 125, 250, 500, 1000 samples"):
    records.verify(record._replace(meta={**record.meta, "job": job}))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (("--until", "80,0.5"), "a part of the outputs in (0, 1]"),
    (("--until", "0.8"), "--until"),
    (("--until", "0.8,0.5", "--sample-range", "0:100"), "it cannot go with --sample-range"),
  ],
)
def test_what_cannot_be_is_said(certify, capsys, options, message):
  with pytest.raises((AssertionError, SystemExit)):
    certify("refused", *options)
  assert message in capsys.readouterr().err


def test_flips_have_no_radius(tmp_path, capsys):
  graph = write_graph(tmp_path / "toy.npz")
  arguments = ["citeseer", "--graph", str(graph), *GRAPH, "--until", "0.5,1"]
  assert main(["certify", *arguments, "--out", str(tmp_path / "out")]) != 0
  assert "--until names a radius" in capsys.readouterr().err
  assert not (tmp_path / "out").exists()
