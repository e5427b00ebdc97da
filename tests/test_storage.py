import json

import numpy as np
import pytest

from lrs_jax import storage


def test_arrays_come_back(tmp_path):
  arrays = {"a/b": np.arange(3), "text": storage.json_array({"x": [1, 2]})}
  storage.save_arrays(tmp_path / "new" / "file.npz", arrays)
  loaded = storage.load_arrays(tmp_path / "new" / "file.npz")
  np.testing.assert_array_equal(loaded["a/b"], [0, 1, 2])
  assert storage.from_json_array(loaded["text"]) == {"x": [1, 2]}


def test_a_failing_write_leaves_nothing_and_keeps_the_old(tmp_path):
  path = tmp_path / "file.txt"
  path.write_text("old")

  def fail(partial):
    partial.write_text("half")
    raise RuntimeError("disk on fire")

  with pytest.raises(RuntimeError, match="disk on fire"):
    storage.write_whole(path, fail)
  assert path.read_text() == "old"
  assert list(tmp_path.iterdir()) == [path]


def test_objects_are_refused_at_writing_and_at_reading(tmp_path):
  with pytest.raises(ValueError, match="array 'bad' holds Python objects"):
    storage.save_arrays(tmp_path / "file.npz", {"bad": np.array([None])})
  np.savez(tmp_path / "pickled.npz", bad=np.array([None]))
  with pytest.raises(ValueError, match="cannot read"):
    storage.load_arrays(tmp_path / "pickled.npz")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_one_clear_error(tmp_path, content):
  (tmp_path / "file.npz").write_bytes(content)
  with pytest.raises(ValueError, match=r"cannot read .*file\.npz"):
    storage.load_arrays(tmp_path / "file.npz")


def test_json_has_null_for_nan(tmp_path):
  storage.save_json(tmp_path / "file.json", {"a": [1.0, float("nan")]})
  assert json.loads((tmp_path / "file.json").read_text()) == {"a": [1.0, None]}
