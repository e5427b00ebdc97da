"""Samples of a finished job that are drawn again: counts that were made up are found."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from lrs_jax import storage
from lrs_jax.cli import main
from lrs_jax.jobs import machines, records, resampling
from lrs_jax.sampling import ClassSums

FILE = Path(__file__).parents[1] / "docs" / "toy_task.py"
NAME = f"{FILE}:TASK"

pytestmark = pytest.mark.usefixtures("no_figures_in_module")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
  out = tmp_path_factory.mktemp("job")
  options = ["--strips", "1", "--samples", "200", "--selection-samples", "40"]
  assert main(["certify", NAME, *options, "--out", str(out), "--quiet"]) == 0
  return out


def forged(job, folder, **changes):
  """The job in another folder, with a record that was made up from other parts."""
  shutil.copytree(job, folder, dirs_exist_ok=True)
  path = folder / "strip-0" / "certificate.npz"
  record = records.load(path)._replace(**changes)
  given = record.task, record.smoothing, (record.selection, record.estimation)
  kept = {"truth": record.truth, "counted": record.counted, "meta": record.meta}
  records.save(path, records.make_record(*given, record.bounds, record.adversary, **kept))
  return path


def said(path, capsys, *options):
  """What `verify` prints, and whether it refuses."""
  capsys.readouterr()
  status = main(["verify", str(path), "--task", NAME, *options])
  told = capsys.readouterr()
  assert (status == 1) == ("REFUSED" in told.err)
  return told.err if status else told.out


def raised(record, share):
  """Estimation votes of which a share of the others went to the label."""
  votes, labels = np.asarray(record.estimation.votes).copy(), record.base.labels
  for row, label in zip(votes, labels, strict=True):
    moved = ((row.sum() - row[label]) * share).astype(int)
    row[1 - label] -= moved
    row[label] += moved
  return record.estimation._replace(votes=votes)


def test_a_true_record_passes_with_any_number_of_samples(job, capsys):
  assert main(["verify", str(job), "--task", NAME, "--resample", "50"]) == 0
  told = capsys.readouterr().out
  assert told.count("drawn again: 40 of 40 selection samples, 50 of 200 estimation samples") == 2
  assert "found with probability 99 %" in told
  told = said(job / "strip-0" / "isotropic.npz", capsys, "--resample", "999")
  assert "200 of 200 estimation samples, whose counts are the stored ones" in told


def test_votes_that_were_made_up_pass_verify_and_not_a_new_draw(job, tmp_path, capsys):
  record = records.load(job / "strip-0" / "certificate.npz")
  path = forged(job, tmp_path, estimation=raised(record, 1.0))
  after = records.load(path).certified["all/envelope"].certified
  assert (after > record.certified["all/envelope"].certified).any()
  assert ": proven" in said(path, capsys)
  assert "`estimation/votes` are not those of its samples" in said(path, capsys, "--resample", "50")


@pytest.mark.parametrize("changes", [{"device": "another"}, {"processor": "A | B"}, {}])
def test_a_device_that_rounds_otherwise_is_asked_by_a_test(job, changes, tmp_path, capsys):
  """And so is a processor that is another, or that a record does not name."""
  record = records.load(job / "strip-0" / "certificate.npz")
  assert record.meta["processor"] == machines.processor() != ""
  elsewhere = {name: value for name, value in record.meta.items() if name != "processor"} | changes
  path = forged(job, tmp_path / "true", meta=elsewhere)
  told = said(path, capsys, "--resample", "200")
  assert "as well as can be seen on another device, processor or version" in told
  path = forged(job, tmp_path / "forged", meta=elsewhere, estimation=raised(record, 1.0))
  told = said(path, capsys, "--resample", "200")
  assert "such a difference has probability" in told


def test_a_single_vote_is_found_if_all_samples_are_drawn_again(job, tmp_path, capsys):
  record = records.load(job / "strip-0" / "certificate.npz")
  votes = np.asarray(record.estimation.votes).copy()
  n = int(np.abs(votes[:, 0] - 100).argmin())  # where it is no proof of anything
  votes[n] += [1, -1]
  path = forged(job, tmp_path, estimation=record.estimation._replace(votes=votes))
  assert ": proven" in said(path, capsys)
  told = said(path, capsys, "--resample", "200")
  assert f"of output {n}, class " in told


def test_what_is_not_what_the_record_names_is_refused(job, tmp_path, capsys):
  record = records.load(job / "strip-0" / "certificate.npz")
  meta, truth = record.meta, 1 - record.truth
  fewer = np.arange(record.truth.size) > 2
  keys = {"selection": [1, 2], "estimation": [3, 4]}
  for i, (changes, message) in enumerate((
    ({"meta": {**meta, "input": "0" * 64}}, "input differ"),
    ({"meta": {**meta, "model": "0" * 64}}, "model differ"),
    ({"meta": {**meta, "keys": keys}}, "keys.estimation, keys.selection differ"),
    ({"meta": {**meta, "job": {**meta["job"], "seed": 7}}}, "input"),
    ({"truth": truth}, "`truth`, are not those of the data"),
    ({"counted": fewer}, "`counted` are not those of the data"),
  )):  # fmt: skip
    path = forged(job, tmp_path / str(i), **changes)
    assert ": proven" in said(path, capsys)
    assert message in said(path, capsys, "--resample", "5"), changes
  path = forged(job, tmp_path / "lost")
  for file in (tmp_path / "lost" / "models").glob("*.npz"):
    file.unlink()
  assert "give its --model" in said(path, capsys, "--resample", "5")
  assert "must be at least 1" in said(path, capsys, "--resample", "0")
  arrays = storage.load_arrays(path)
  lone = {key: value for key, value in meta.items() if key != "keys"}
  records.save(path, records.from_arrays({**arrays, "meta": storage.json_array(lone)}))
  assert "cannot be drawn again here" in said(path, capsys, "--resample", "5")


def sums(votes):
  votes = np.asarray(votes)
  return ClassSums(votes, None, None, np.asarray(int(votes[0].sum())))


def test_true_records_are_hardly_ever_refused(monkeypatch):
  """At a level of 10 %, of samples on the same device and on others: at most so often."""
  monkeypatch.setattr(resampling, "LEVEL", 0.1)
  rng, trials = np.random.default_rng(0), 300
  for exact in (True, False):
    refused = 0
    for _ in range(trials):
      votes = rng.random((60, 5)) < (0.5, 0.7, 0.9, 0.99, 1.0)
      whole, part = (np.stack([of.sum(0), (~of).sum(0)], 1) for of in (votes, votes[20:40]))
      try:
        resampling.compare("estimation", sums(whole), sums(part), np.zeros(5, int), exact=exact)
      except ValueError:
        refused += 1
    assert refused <= trials * 0.05 + 3 * np.sqrt(trials * 0.05)  # half of it is for selection


def test_what_would_have_been_found_is_found_so_often():
  """Of an output that is stored as unanimous, among a million; a binomial standard error."""
  rng, trials = np.random.default_rng(1), 300
  for exact in (True, False):
    share = resampling.found_for_sure(100, 1000, exact)
    found = 0
    for other in rng.binomial(100, share, trials):
      again = ClassSums(np.array([[100 - other, other]]), None, None, np.asarray(100))
      try:
        resampling.compare("estimation", sums([[1000, 0]]), again, np.array([0]), exact=exact)
      except ValueError:
        found += 1
    assert found >= trials * 0.99 - 3 * np.sqrt(trials * 0.01)


def test_a_block_is_what_its_place_among_the_ranges_says():
  ranges = [(3, 7), (10, 11), (20, 26)]
  numbers = [i for first, end in ranges for i in range(first, end)]
  for start in range(len(numbers)):
    for size in range(len(numbers) - start + 1):
      pieces = resampling.block(ranges, start, size)
      found = [i for first, number in pieces for i in range(first, first + number)]
      assert found == numbers[start : start + size]
