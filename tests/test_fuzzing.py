"""Files from strangers: a few of each kind, and those that once were no line for the user."""

import json
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from benchmarks import fuzzing
from lrs_jax import storage
from lrs_jax.tasks import counts, denoising
from lrs_jax.tasks.data import citation, folders, images


@pytest.mark.parametrize("kind", fuzzing.KINDS)
def test_honest_files_are_read_and_changed_ones_read_or_refused(kind, tmp_path):
  of = fuzzing.KINDS[kind]
  path = tmp_path / "alone" / f"honest{of.suffix}"
  path.parent.mkdir()
  of.make(path)
  assert fuzzing.outcome(of.read, path, 60.0) == ("read", "")
  found, faults = fuzzing.fuzz(kind, 12, seed=1, seconds=60.0)
  assert not faults
  assert found["refused"] > 0


def test_a_fault_is_found_and_kept(tmp_path, monkeypatch):
  def read(path):
    raise KeyError("x")

  kind = fuzzing.KINDS["summary"]
  monkeypatch.setitem(fuzzing.KINDS, "summary", kind._replace(read=read))
  arguments = ["--kinds", "summary", "--inputs", "3", "--out", str(tmp_path)]
  assert fuzzing.main(arguments) == 1
  assert json.loads((tmp_path / "fuzzing.json").read_text()) == {"summary": {"fault": 3}}
  assert len(list((tmp_path / "faults").glob("summary-*.json"))) == 3
  assert fuzzing.outcome(lambda path: time.sleep(5), tmp_path, 0.1)[1] == "more than 0.1 s"


def test_row_pointers_that_fall_are_refused(tmp_path):
  """SciPy believes those of a matrix whose last one is 0, and reads beyond its arrays."""
  path = tmp_path / "graph.npz"
  fuzzing.make_graph(path)
  arrays = dict(np.load(path))
  arrays["attr_indptr"][-1] = 0
  np.savez(path, **arrays)
  with pytest.raises(ValueError, match="non-decreasing"):
    citation.load_graph(path)


def test_what_is_no_family_is_told_in_a_line(tmp_path):
  path = tmp_path / "counts.npz"
  fuzzing.make_counts(path)
  arrays = dict(np.load(path))
  np.savez(path, **{**arrays, "family": np.full((3, 3), "gaussian")})
  with pytest.raises(ValueError, match=r"but it is an array of shape \(3, 3\): a file"):
    counts.read(path)


def test_an_archive_that_quotes_itself_is_told_in_a_line(tmp_path):
  path = tmp_path / "quoted.npz"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a.npy", b"x" * 5000)
  content = bytearray(path.read_bytes())
  at = content.index(b"\x05\x00", 26)  # the length of the name, in the file's own header
  content[at : at + 2] = (4000).to_bytes(2, "little")
  path.write_bytes(content)
  with pytest.raises(ValueError, match="cannot read") as error:
    storage.load_arrays(path)
  assert len(str(error.value)) < 600


def test_a_picture_with_a_broken_part_is_refused(tmp_path):
  """Pillow raises a SyntaxError for a chunk that is none, and an error of its own for bombs."""
  path = tmp_path / "x.png"
  Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)).save(path)
  content = bytearray(path.read_bytes())
  start = content.index(b"IDAT") - 4
  length = int.from_bytes(content[start : start + 4], "big") // 2
  content[start : start + 4] = length.to_bytes(4, "big")
  path.write_bytes(content)
  for read in (
    lambda: folders.read(str(tmp_path), None),
    lambda: images.read_pair(path, path, None),
  ):
    with pytest.raises(ValueError, match="cannot read the image"):
      read()


@pytest.mark.parametrize(("depth", "message"), [(None, "must be int"), (2**40, "too few arrays")])
def test_a_denoiser_without_end_is_refused(depth, message, tmp_path):
  path = tmp_path / "denoiser.npz"
  fuzzing.make_denoiser(path)
  arrays = storage.load_arrays(path)
  meta = storage.from_json_array(arrays["meta"])
  meta["network"]["depth"] = depth
  storage.save_arrays(path, {**arrays, "meta": storage.json_array(meta)})
  with pytest.raises(ValueError, match=message):
    denoising.load(str(path))
