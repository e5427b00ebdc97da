"""What goes wrong in a long run is one clear line, and loses nothing: files and signals."""

import errno
import os
import re
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tqdm import tqdm

from lrs_jax import sampling, storage
from lrs_jax.cli import main
from lrs_jax.jobs import checkpoints, records, running
from tests.test_cli import TOY

pytestmark = pytest.mark.usefixtures("no_figures")

JOB = ("certify", "scenes", *TOY, "--samples", "5000", "--images", "1", "--budgets", "0,0.03")
CERTIFICATE = "scene-000/certificate.npz"
PARTIAL = "scene-000/certificate-estimation.partial.npz"


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
