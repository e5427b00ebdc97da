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


def test_temporary_names_do_not_collide_where_process_ids_do(tmp_path):
  """As of two machines on one file system."""
  names = []

  def note(partial):
    names.append(partial.name)
    partial.write_text("")

  for _ in range(2):
    storage.write_whole(tmp_path / "file.npz", note)
  assert names[0] != names[1]
  for name in names:
    assert name.startswith(".file-")
    assert name.endswith(".npz")
  assert [path.name for path in tmp_path.iterdir()] == ["file.npz"]


def test_digests_tell_names_types_and_shapes_apart():
  arrays = [
    {"a": np.zeros(4, np.int64)},
    {"b": np.zeros(4, np.int64)},
    {"a": np.zeros(4)},
    {"a": np.zeros((2, 2), np.int64)},
    {"a": np.zeros((1, 4), np.int64)},
    {"a": np.zeros(2, np.int64), "b": np.zeros(2, np.int64)},
    {"a": np.zeros(()), "b": np.zeros(1)},
    {"a": np.zeros(1), "b": np.zeros(())},
  ]
  assert len({storage.digest(one) for one in arrays}) == len(arrays)


@pytest.mark.parametrize(
  ("text", "message"),
  [("[" * 60_000, "nested too deeply"), ("[" * 150 + "]" * 150, "nested"), ("{", "is none")],
)
def test_json_that_is_none_is_one_clear_error(tmp_path, text, message):
  with pytest.raises(ValueError, match=message):
    storage.from_json_array(np.asarray(text))
  (tmp_path / "file.json").write_text(text)
  with pytest.raises(ValueError, match=rf"cannot read .*file\.json.*{message}"):
    storage.load_json(tmp_path / "file.json")
  with pytest.raises(ValueError, match=r"must be one string, but it is <U2 of shape \(1,\)"):
    storage.from_json_array(np.asarray(["{}"]))


def test_numbers_of_another_machine_are_read_as_ours(tmp_path):
  np.savez(tmp_path / "big.npz", a=np.arange(3, dtype=">i4"), f=np.ones((2, 3), order="F"))
  found = storage.load_arrays(tmp_path / "big.npz")
  assert found["a"].dtype == np.int32
  assert found["a"].dtype.isnative
  assert found["a"].tolist() == [0, 1, 2]
  assert found["f"].shape == (2, 3)
