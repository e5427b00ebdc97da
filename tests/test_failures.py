"""What goes wrong in a long run is one clear line, and loses nothing: files and signals."""

import errno
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tqdm import std as tqdm_clock
from tqdm import tqdm

from lrs_jax import sampling, storage
from lrs_jax.cli import main
from lrs_jax.jobs import checkpoints, claims, machines, records, running
from tests.test_cli import TOY

pytestmark = pytest.mark.usefixtures("no_figures_in_module")

JOB = ("certify", "scenes", *TOY, "--samples", "5000", "--images", "1", "--budgets", "0,0.03")
CERTIFICATE = "scene-000/certificate.npz"
PARTIAL = "scene-000/certificate-estimation.partial.npz"
HOLDS = """
import fcntl, sys
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_SH)
print("held", flush=True)
sys.stdin.read()
"""
"""Another process, which holds the folder of a file that some job claimed."""


def votes(key, apply, params, x, noise, groups, num_samples, *, num_classes, first_sample=0, **_):
  """Stands for the model: sample i votes alike for all outputs, by its number and the key."""
  word = int(jax.random.key_data(key)[-1])
  ids = np.arange(first_sample, first_sample + num_samples)
  counts = np.bincount((ids * word) % 97 // 90, minlength=num_classes)
  counts = jnp.broadcast_to(jnp.asarray(counts, jnp.int32), (len(groups), num_classes))
  return sampling.Votes(counts, jnp.asarray(num_samples, jnp.int32))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  path = tmp_path_factory.mktemp("model") / "unet.npz"
  assert main(["train", *JOB[1:], "--model", str(path)]) == 0
  return path


@pytest.fixture
def job(model, tmp_path, monkeypatch):
  """(out, status) -> runs the job on the stand-in for the model."""
  monkeypatch.setattr(sampling, "votes", votes)

  def run(out=tmp_path / "out", *options):
    return main([*JOB, "--model", str(model), "--out", str(out), *options])

  return run


@pytest.fixture
def stopped(job, tmp_path, monkeypatch):
  """A job that SIGTERM ended after 4,096 of its 5,000 samples: the file it left."""

  def stopping(*asked, first_sample, **options):
    if asked[-1] and first_sample == 4096:
      os.kill(os.getpid(), signal.SIGTERM)
    return votes(*asked, first_sample=first_sample, **options)

  with monkeypatch.context() as patch:
    patch.setattr(sampling, "votes", stopping)
    assert job() == 130
  return tmp_path / "out" / PARTIAL


def test_sigterm_keeps_what_was_counted_and_the_job_goes_on(job, stopped, tmp_path):
  assert checkpoints.load(stopped).done == 4096
  assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
  assert job() == 0
  assert job(tmp_path / "straight") == 0
  one, other = (records.load(tmp_path / out / CERTIFICATE) for out in ("out", "straight"))
  np.testing.assert_array_equal(one.estimation.votes, other.estimation.votes)
  assert (one.estimation.votes.sum(axis=1) == 5000).all()
  assert not list(tmp_path.rglob("*.partial.npz"))


def test_a_record_names_all_processors_that_counted(job, stopped, tmp_path, monkeypatch):
  here = machines.processor()
  monkeypatch.setattr(machines, "processor", lambda: "another")
  assert job() == 0
  record = records.load(tmp_path / "out" / CERTIFICATE)
  assert record.meta["processor"] == " | ".join(sorted({here, "another"}))
  written = (tmp_path / "out" / CERTIFICATE).stat().st_mtime_ns
  monkeypatch.undo()
  monkeypatch.setattr(sampling, "votes", votes)
  assert job() == 0  # what is done stays, whoever did it
  assert (tmp_path / "out" / CERTIFICATE).stat().st_mtime_ns == written


def test_the_bar_of_a_resumed_job_starts_where_it_was_left(job, stopped, monkeypatch):
  """Else its rate would be of samples that were counted before."""
  bars = []

  class Bar(tqdm):
    def __init__(self, *args, **options):
      super().__init__(*args, **options)
      bars.append(self)

  monkeypatch.setattr(running, "tqdm", Bar)
  assert job() == 0
  assert [(bar.initial, bar.n, bar.total) for bar in bars] == [(10 + 4096, 10020, 10020)]
  assert job() == 0  # all is there already
  assert [(bar.initial, bar.n, bar.total) for bar in bars[1:]] == [(10020, 10020, 10020)]


def test_force_starts_again_where_samples_of_another_job_are_in_the_way(
  job, stopped, capsys, tmp_path
):
  other = ("--samples", "4500")
  capsys.readouterr()
  assert job(tmp_path / "out", *other) == 1
  assert "holds samples of another job, which differs in job.samples" in capsys.readouterr().err
  assert job(tmp_path / "out", *other, "--force") == 0
  assert (records.load(tmp_path / "out" / CERTIFICATE).estimation.votes.sum(axis=1) == 4500).all()
  assert not list(tmp_path.rglob("*.partial.npz"))


def test_force_goes_on_with_samples_of_the_same_job(job, stopped, tmp_path, monkeypatch):
  counted = []

  def counting(*asked, **options):
    counted.append(asked[-1])
    return votes(*asked, **options)

  monkeypatch.setattr(sampling, "votes", counting)
  assert job(tmp_path / "out", "--force") == 0
  assert sum(counted) == 5000 - 4096 + 10 + 5000  # what was left, and the isotropic baseline


def refused(job, capsys, message):
  capsys.readouterr()
  assert job() == 1
  error = capsys.readouterr().err.splitlines()[-1]
  assert re.search(message, error), error
  assert error.startswith("lrs-jax: error: ")


@pytest.mark.parametrize("field", ["model", "input", "noise", "device"])
def test_a_checkpoint_of_another_model_or_input_is_refused_and_stays(job, stopped, capsys, field):
  counts = checkpoints.load(stopped)
  checkpoints.save(stopped, counts._replace(manifest={**counts.manifest, field: "another"}))
  before = stopped.read_bytes()
  refused(job, capsys, f"holds samples of another job, which differs in {field}: run that one")
  assert stopped.read_bytes() == before


@pytest.mark.parametrize("keep", [0, 100, -30])
def test_a_truncated_checkpoint_is_refused_and_stays(job, stopped, capsys, keep):
  content = stopped.read_bytes()[:keep]
  stopped.write_bytes(content)
  refused(job, capsys, r"cannot read .*certificate-estimation\.partial\.npz")
  assert stopped.read_bytes() == content


def test_a_corrupted_checkpoint_is_refused_and_stays(job, stopped, capsys):
  arrays = storage.load_arrays(stopped)
  storage.save_arrays(stopped, {**arrays, "done": arrays["done"] + 1})
  before = stopped.read_bytes()
  refused(job, capsys, "is damaged, its digest does not fit")
  assert stopped.read_bytes() == before


@pytest.mark.parametrize("full_at", [PARTIAL, CERTIFICATE])
def test_a_full_disk_ends_the_job_and_loses_nothing(job, stopped, capsys, monkeypatch, full_at):
  out, save = stopped.parents[1], np.savez_compressed

  def filling(partial, **arrays):
    if Path(partial).name.startswith("." + Path(full_at).stem + "-" + str(os.getpid())):
      Path(partial).write_bytes(b"half a file")
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    save(partial, **arrays)

  with monkeypatch.context() as patch:
    patch.setattr(np, "savez_compressed", filling)
    refused(job, capsys, rf"cannot write .*{Path(full_at).name}: No space left on device")
  assert checkpoints.load(stopped).done >= 4096
  assert not [path for path in out.rglob("*") if path.name.startswith(".")]
  assert job() == 0
  assert (records.load(out / CERTIFICATE).estimation.votes.sum(axis=1) == 5000).all()


def test_a_folder_that_cannot_be_written_to_is_refused_before_sampling(
  job, tmp_path, capsys, monkeypatch
):
  (tmp_path / "out").write_text("a file is in the way")
  sampled = []
  monkeypatch.setattr(
    sampling, "votes",
    lambda *asked, **options: (sampled.append(asked[-1]), votes(*asked, **options))[1],
  )  # fmt: skip
  refused(job, capsys, "cannot write .*certificate-selection.partial.npz: ")
  assert sum(sampled) == 0
  assert (tmp_path / "out").read_text() == "a file is in the way"


@pytest.fixture
def meanwhile(job, monkeypatch):
  """(function) -> it is called once, as soon as a job samples; what it returned, in a list."""

  def arrange(function):
    returned = []

    def sampled(*asked, **options):
      if asked[-1] and not returned:
        returned.append(None)
        returned[0] = function()
      return votes(*asked, **options)

    monkeypatch.setattr(sampling, "votes", sampled)
    return returned

  return arrange


def of_one_left_alone(job, folder):
  """Makes sure that a job's counts are those of one that nothing happened to."""
  assert job(folder / "alone") == 0
  one, other = (records.load(folder / out / CERTIFICATE) for out in ("out", "alone"))
  np.testing.assert_array_equal(one.estimation.votes, other.estimation.votes)
  np.testing.assert_array_equal(one.selection.votes, other.selection.votes)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="there is no SIGSTOP")
def test_a_job_that_is_stopped_for_a_while_goes_on(job, meanwhile, tmp_path):
  def stopped():
    with subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT {os.getpid()}"]) as waking:
      os.kill(os.getpid(), signal.SIGSTOP)
    return waking.returncode

  said = meanwhile(stopped)
  assert job() == 0
  assert said == [0]
  of_one_left_alone(job, tmp_path)


def test_a_folder_that_vanishes_is_made_again(job, meanwhile, tmp_path):
  said = meanwhile(lambda: shutil.rmtree(tmp_path / "out"))
  assert job() == 0
  assert said == [None]
  assert main(["verify", str(tmp_path / "out")]) == 0
  of_one_left_alone(job, tmp_path)


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_clock_that_is_changed_changes_nothing(job, stopped, jump, monkeypatch, tmp_path):
  """Every look at the clock finds that it was changed by days, before the stop and after it."""
  before = checkpoints.load(stopped).seconds
  changes, clock = itertools.count(1), time.time
  for module in (time, tqdm_clock):
    monkeypatch.setattr(module, "time", lambda: clock() + next(changes) * jump)
  assert job() == 0
  assert next(changes) > 2
  seconds = storage.load_json(tmp_path / "out" / "summary.json")["seconds"]
  assert before >= 0
  assert all(0 <= value < 1000 for value in seconds.values())
  assert main(["verify", str(tmp_path / "out")]) == 0
  assert job() == 0  # all is there
  of_one_left_alone(job, tmp_path)


def in_use(status, capsys, name):
  error = capsys.readouterr().err.rpartition("lrs-jax: error: ")[2]
  assert status == 1
  assert "is in use, another job runs there (process " in error
  assert f"which differs in {name}: wait until it has ended, or choose another --out.\n" in error


locks = pytest.mark.skipif(claims.fcntl is None, reason="there are no locks of files")


@locks
@pytest.mark.parametrize("options", [("--force",), ("--sample-range", "0:20")])
def test_another_job_is_refused_as_long_as_one_runs(
  job, meanwhile, model, options, capsys, tmp_path
):
  """Even where nothing would be replaced by it, and whether options or the network differ."""
  out, network = tmp_path / "out", tmp_path / "unet.npz"
  network.write_bytes(model.read_bytes() + b"0")

  def tried():
    in_use(job(out, "--seed", "1", *options), capsys, "job.seed")
    in_use(job(out, "--model", str(network), *options), capsys, "model")
    return True

  said = meanwhile(tried)
  assert job() == 0
  assert said == [True]
  assert job(out, "--seed", "1", *options) == 0  # for it has ended
  assert not list(out.rglob(".*"))
  assert main(["verify", str(out)]) == 0


def test_ranges_of_one_job_share_a_folder_and_so_do_equal_jobs(job, meanwhile, model, tmp_path):
  out = tmp_path / "out"
  said = meanwhile(lambda: job(out, "--sample-range", "256:5000"))
  assert job(out, "--sample-range", "0:256") == 0
  assert said == [0]
  said = meanwhile(job)
  assert job() == 0
  assert said == [0]
  assert main(["merge", str(out), "--out", str(tmp_path / "m"), "--model", str(model)]) == 0
  one, other = (records.load(tmp_path / folder / CERTIFICATE) for folder in ("out", "m"))
  np.testing.assert_array_equal(one.estimation.votes, other.estimation.votes)
  assert not list(tmp_path.rglob(".*"))


@locks
def test_a_claim_ends_with_its_process_even_by_sigkill(job, meanwhile, capsys, tmp_path):
  """What is left of it then, `.running`, is in nobody's way."""
  out = tmp_path / "out"
  file = out / ".running"
  kept = meanwhile(file.read_bytes)
  assert job() == 0
  file.write_bytes(kept[0])
  holding = [sys.executable, "-S", "-E", "-c", HOLDS, str(file)]
  with subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
    assert other.stdout.readline() == b"held\n"
    in_use(job(out, "--samples", "4500", "--force"), capsys, "job.samples")
    assert job() == 0
    other.kill()
  assert job(out, "--samples", "4500", "--force") == 0
  assert not file.exists()


@locks
@pytest.mark.parametrize("content", [b"\xff", b"[]", b'{"who": "process \\u001b[2J"}'])
def test_what_no_job_wrote_is_told_on_one_line_at_most(job, content, capsys, tmp_path):
  file = tmp_path / "out" / ".running"
  file.parent.mkdir()
  file.write_bytes(content)
  holding = [sys.executable, "-S", "-E", "-c", HOLDS, str(file)]
  with subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
    assert other.stdout.readline() == b"held\n"
    if b"who" in content:
      in_use(job(), capsys, "job, task")
    else:
      assert job() == 0
    other.kill()


@pytest.mark.parametrize("error", [errno.ENOLCK, None])
def test_where_there_are_no_locks_jobs_run_all_the_same(job, error, monkeypatch):
  def fails(*_):
    raise OSError(error, os.strerror(error))

  if error is None:
    monkeypatch.setattr(claims, "fcntl", None)
  elif claims.fcntl is not None:
    monkeypatch.setattr(claims.fcntl, "flock", fails)
  assert job() == 0


@pytest.mark.parametrize("keep", [0, 50, 1000, -20])
def test_a_truncated_network_is_refused_and_stays(model, tmp_path, capsys, keep):
  path = tmp_path / "unet.npz"
  content = model.read_bytes()[:keep]
  path.write_bytes(content)
  assert main([*JOB, "--model", str(path), "--out", str(tmp_path / "out")]) == 1
  error = capsys.readouterr().err
  assert "cannot read" in error
  assert "unet.npz" in error
  assert error.count("\n") == 1
  assert path.read_bytes() == content
  assert not (tmp_path / "out").exists()


def test_no_changed_byte_of_a_network_passes(model, tmp_path):
  """A network with a changed byte is not read, or has the arrays that were stored."""
  whole, expected = model.read_bytes(), storage.load_arrays(model)
  path, rng, refused = tmp_path / "unet.npz", np.random.default_rng(0), 0
  for i in rng.choice(len(whole), 200, replace=False):
    changed = bytearray(whole)
    changed[i] ^= 1 << int(rng.integers(8))
    path.write_bytes(changed)
    try:
      found = storage.load_arrays(path)
    except ValueError:
      refused += 1
      continue
    for name in set(found) & set(expected):
      np.testing.assert_array_equal(found[name], expected[name])
  assert refused > 100


def test_what_is_no_network_for_images_is_refused(tmp_path, capsys):
  """Such as the network of a graph."""
  path = tmp_path / "gcn.npz"
  storage.save_arrays(
    path, {"params/a": np.zeros(1), "meta": storage.json_array({"task": "graphs", "network": {}})}
  )
  assert main([*JOB, "--model", str(path), "--out", str(tmp_path / "out")]) == 1
  assert "gcn.npz holds no network for images" in capsys.readouterr().err


def test_what_a_killed_process_was_writing_is_not_taken_for_a_certificate(job, tmp_path):
  assert job() == 0
  for name in (".certificate-1.npz", "certificate-estimation.partial.npz"):
    (tmp_path / "out" / "scene-000" / name).write_bytes(b"half a file")
  assert main(["verify", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
  ("change", "named"),
  [
    ({"bounds/alpha": np.full(2, 0.01)}, False),
    ({"estimation/votes": np.full((384, 10), "3")}, False),
    ({"estimation/votes": None}, False),
    ({"format": None}, False),
    ({"meta": np.asarray("[" * 60_000)}, True),
    ({"meta": np.asarray("[]")}, True),
    ({"meta": np.asarray(["{}"])}, True),
  ],
)
def test_a_damaged_certificate_is_made_again(job, tmp_path, capsys, change, named):
  """What is wrong with it does not matter; if not even its job can be read, --force is needed."""
  path = tmp_path / "out" / CERTIFICATE
  assert job() == 0
  before = records.load(path)
  arrays = {k: v for k, v in storage.load_arrays(path).items() if k != "digest"} | change
  arrays = {name: array for name, array in arrays.items() if array is not None}
  storage.save_arrays(path, {**arrays, "digest": np.asarray(storage.digest(arrays))})
  if named:
    refused(job, capsys, r"certificate\.npz is in the way, .*--force")
  assert job(tmp_path / "out", *["--force"] * named) == 0
  again = records.load(path)
  records.verify(again)
  np.testing.assert_array_equal(again.estimation.votes, before.estimation.votes)


def test_a_certificate_of_which_methods_were_removed_is_made_again(job, tmp_path):
  path = tmp_path / "out" / CERTIFICATE
  assert job() == 0
  record = records.load(path)
  fewer = {name: one for name, one in record.certified.items() if name != "correct/lp"}
  records.save(path, record._replace(certified=fewer))
  records.verify(records.load(path))
  assert job() == 0
  assert set(records.load(path).certified) == set(record.certified)


def test_a_network_that_is_none_is_one_clear_error(model, tmp_path, capsys):
  arrays = storage.load_arrays(model)
  name = next(name for name in arrays if name.endswith("kernel"))
  path = tmp_path / "unet.npz"
  for change, message in (
    ({"meta": np.asarray("[1]")}, "holds no network for images"),
    ({"meta": np.asarray("[" * 60_000)}, "nested too deeply"),
    ({"meta": np.asarray(["{}"])}, "must be one string"),
    ({"meta": np.asarray('{"network": 3, "classes": 4}')}, "holds no network for images"),
    ({name: arrays[name].astype(complex)}, "is complex128"),
    ({name: arrays[name].astype(np.float64)}, "is float64"),
    ({name: arrays[name][:1]}, "where float32"),
    ({name: np.full(3, "a")}, "is <U1[3]"),
    ({name: None}, "is none, where float32"),
    ({"params/more": np.zeros(1)}, "where none is needed"),
    ({"params": np.zeros(1)}, "where none is needed"),
  ):
    changed = {k: v for k, v in {**arrays, **change}.items() if v is not None}
    np.savez(path, **changed)
    assert main([*JOB, "--model", str(path), "--out", str(tmp_path / "out")]) == 1, message
    error = capsys.readouterr().err
    assert message in error
    assert "unet.npz" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
