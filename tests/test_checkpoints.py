import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lrs_jax import storage
from lrs_jax.jobs import checkpoints
from lrs_jax.jobs.checkpoints import Counts

VALUES = np.random.default_rng(0).integers(0, 9, (100, 3))
SUMS = VALUES[:42].sum(axis=0)


def count(first, size):
  return {"sum": VALUES[first : first + size].sum(axis=0), "n": np.asarray(size)}


def run(path, count=count, manifest=None, ranges=((0, 100),), interval=1e9, piece=7):
  return checkpoints.count_in_pieces(
    count, ranges, path, manifest or {"job": [1, 2]},
    piece=piece, progress=lambda size: None, interval=interval,
  )  # fmt: skip


@pytest.mark.parametrize("ranges", [(), ((0, 1),), ((0, 7),), ((0, 100),), ((3, 20), (20, 91))])
@pytest.mark.parametrize("interval", [0.0, 1e9])
def test_pieces_count_what_one_call_does(tmp_path, ranges, interval):
  total, seconds = run(tmp_path / "a.npz", ranges=ranges, interval=interval)
  expected = sum((VALUES[first:end].sum(axis=0) for first, end in ranges), np.zeros(3, int))
  np.testing.assert_array_equal(total["sum"], expected)
  assert total["n"] == checkpoints.num_samples(ranges)
  assert seconds >= 0


@pytest.mark.parametrize("stop_after", range(0, 15, 2))
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("ranges", [((0, 100),), ((0, 30), (35, 39), (40, 95))])
def test_a_stopped_job_goes_on_where_it_was(tmp_path, stop_after, error, ranges):
  path, seen = tmp_path / "a.npz", []

  def noting(first, size):
    seen.extend(range(first, first + size))
    return count(first, size)

  def stopping(first, size):
    if size and len(seen) >= 5 * stop_after:
      raise error
    return noting(first, size)

  with pytest.raises(error):
    run(path, stopping, ranges=ranges)
  assert path.exists()
  total, _ = run(path, noting, ranges=ranges)
  wanted = [i for first, end in ranges for i in range(first, end)]
  assert seen == wanted  # every sample once, over both runs
  np.testing.assert_array_equal(total["sum"], VALUES[wanted].sum(axis=0))


@pytest.mark.parametrize("stop_after", [0, 3, 8, 100])
@pytest.mark.parametrize("enough_at", [20, 50, 101])
@pytest.mark.parametrize("ranges", [((0, 100),), ((0, 30), (35, 39), (40, 95))])
def test_counting_ends_at_a_look_that_has_enough(tmp_path, stop_after, enough_at, ranges):
  """Also after a stop, wherever it was: the looks before are not looked at again."""
  calls, asked = [], []

  def counting(first, size):
    if size and len(calls) == stop_after:
      calls.append("stopped")
      raise KeyboardInterrupt
    calls.append((first, size))
    return count(first, size)

  def enough(sums):
    asked.append(int(sums["n"]))
    return sums["n"] >= enough_at

  def look():
    return checkpoints.count_in_pieces(
      counting, ranges, tmp_path / "a.npz", {}, piece=7, progress=lambda size: None,
      looks=(10, 20, 50), enough=enough,
    )  # fmt: skip

  try:
    total, _ = look()
  except KeyboardInterrupt:
    total, _ = look()
  expected = min(enough_at, checkpoints.num_samples(ranges))
  wanted = [i for first, end in ranges for i in range(first, end)][:expected]
  assert total["n"] == expected
  np.testing.assert_array_equal(total["sum"], VALUES[wanted].sum(axis=0))
  assert list(dict.fromkeys(asked)) == [n for n in (10, 20, 50) if n <= expected]


def test_a_kill_costs_one_interval_at_most(tmp_path):
  """What is on disk while counting goes on is whole: as if the process were killed there."""
  path, states = tmp_path / "a.npz", []

  def watching(first, size):
    if path.exists():
      states.append((first, checkpoints.load(path).done))
    return count(first, size)

  run(path, watching, interval=0.0)
  assert len(states) == 15
  assert all(first == done for first, done in states)


def test_samples_of_another_job_are_refused(tmp_path):
  run(tmp_path / "a.npz", manifest={"job": {"seed": 0, "std": 1}})
  for change, message in (
    ({"manifest": {"job": {"seed": 1, "std": 1}, "model": "a"}}, "differs in job.seed, model"),
    ({"manifest": {"job": {"seed": 0, "std": 1}}, "ranges": ((0, 50),)}, "differs in ranges"),
  ):
    with pytest.raises(ValueError, match=f"holds samples of another job, which {message}"):
      run(tmp_path / "a.npz", **change)


def test_other_shapes_are_refused(tmp_path):
  run(tmp_path / "a.npz", interval=0.0)
  with pytest.raises(ValueError, match="holds sums of other shapes"):
    run(tmp_path / "a.npz", lambda first, size: {"sum": np.zeros(4, int), "n": np.asarray(size)})


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_a_truncated_file_is_refused_and_stays(tmp_path, keep):
  path = tmp_path / "a.npz"
  run(path, interval=0.0)
  content = path.read_bytes()[:keep]
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"cannot read .*a\.npz"):
    run(path)
  assert path.read_bytes() == content


def test_no_changed_byte_is_believed(tmp_path):
  """A damaged file is refused in one way, or holds what it held."""
  path = tmp_path / "a.npz"
  run(path)
  whole, expected = path.read_bytes(), checkpoints.load(path)
  rng, refused = np.random.default_rng(0), 0
  for i in range(0, len(whole), 3):
    changed = bytearray(whole)
    changed[i] ^= 1 << int(rng.integers(8))
    path.write_bytes(changed)
    try:
      found = checkpoints.load(path)
    except ValueError:
      refused += 1
    else:
      assert found.manifest == expected.manifest
      assert (found.done, found.seconds) == (expected.done, expected.seconds)
      for one, other in zip(found.sums, expected.sums, strict=True):
        np.testing.assert_array_equal(one, other)
  assert refused > len(whole) // 6


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
  storage.save_arrays(tmp_path / "a.npz", {"x": np.zeros(1)})
  with pytest.raises(ValueError, match="is no checkpoint, its array 'digest' is missing"):
    run(tmp_path / "a.npz")


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_sample(tmp_path):
  (tmp_path / "file").write_text("")
  counted = []

  def noting(first, size):
    counted.append(size)
    return count(first, size)

  with pytest.raises(OSError, match=r"cannot write .*a\.npz"):
    run(tmp_path / "file" / "a.npz", noting)
  assert sum(counted) == 0


def test_a_full_disk_stops_the_job_and_keeps_the_older_checkpoint(tmp_path, monkeypatch):
  path, save = tmp_path / "a.npz", np.savez_compressed
  calls = []

  def filling(partial, **arrays):
    calls.append(partial)
    if len(calls) < 4:
      return save(partial, **arrays)
    Path(partial).write_bytes(b"half a file")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(np, "savez_compressed", filling)
  with pytest.raises(OSError, match="No space left on device; the older file is unchanged") as full:
    run(path, interval=0.0)
  assert full.value.errno == errno.ENOSPC
  assert list(tmp_path.iterdir()) == [path]
  assert checkpoints.load(path).done == 14
  monkeypatch.undo()
  total, _ = run(path)
  np.testing.assert_array_equal(total["sum"], VALUES.sum(axis=0))


def test_a_file_that_may_not_grow_is_the_same_as_a_full_disk(tmp_path):
  """The system's own refusal, in a process that may write 2,000 bytes to a file and no more."""
  program = f"""
import resource, sys
from pathlib import Path
import numpy as np
from lrs_jax.jobs import checkpoints
def count(first, size):
  if first >= 50:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
  return np.random.default_rng(0).integers(0, 1 + size, 10_000)
try:
  checkpoints.count_in_pieces(
    count, [(0, 100)], Path({str(tmp_path / "a.npz")!r}), {{}}, piece=10,
    progress=lambda size: None, interval=0.0,
  )
except OSError as error:
  sys.exit(str(error))
"""
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
  assert done.returncode == 1
  assert "cannot write" in done.stderr
  assert "the older file is unchanged" in done.stderr
  assert checkpoints.load(tmp_path / "a.npz").done == 50
  assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_only_the_own_jobs_file_is_discarded(tmp_path):
  path = tmp_path / "a.npz"
  checkpoints.discard(path, {"job": 1}, [(0, 100)])
  run(path, manifest={"job": 1})
  whole = path.read_bytes()
  checkpoints.discard(path, {"job": 2}, [(0, 100)])
  checkpoints.discard(path, {"job": 1}, [(0, 99)])
  path.write_bytes(whole[:-9])
  checkpoints.discard(path, {"job": 1}, [(0, 100)])
  path.write_bytes(whole)
  checkpoints.discard(path, {"job": 1}, [(0, 100)])
  assert not path.exists()


def part(ranges, done=None, **manifest):
  wanted = [i for first, end in ranges for i in range(first, end)]
  sums = VALUES[wanted].sum(axis=0).astype(np.int32), np.asarray(len(wanted))
  manifest = {"job": {"seed": 0}, **manifest, "ranges": [list(bounds) for bounds in ranges]}
  return Counts(manifest, sums, len(wanted) if done is None else done, 1.5)


def add_up(*parts):
  return checkpoints.add_up({Path(f"{i}.npz"): one for i, one in enumerate(parts)})


def test_disjoint_samples_add_up():
  total = add_up(part([(50, 60), (80, 100)]), part([(0, 20)]), part([(20, 50)]))
  assert total.manifest == {"job": {"seed": 0}, "ranges": [[0, 60], [80, 100]]}
  wanted = [*range(60), *range(80, 100)]
  np.testing.assert_array_equal(total.sums[0], VALUES[wanted].sum(axis=0))
  assert total.sums[0].dtype == np.int32
  assert (total.sums[1], total.done, total.seconds) == (80, 80, 4.5)


@pytest.mark.parametrize(
  ("parts", "message"),
  [
    ((part([(0, 20)]), part([(19, 30)])), "0.npz and 1.npz overlap: both hold sample 19"),
    ((part([(0, 50)]), part([(10, 20)]), part([(60, 70)])), "0.npz and 1.npz overlap"),
    ((part([(0, 10)]), part([(0, 10)])), "overlap: both hold sample 0"),
    ((part([(0, 10)]), part([(10, 20)], done=3)), "1.npz is unfinished, 3 of 10 samples"),
    ((part([(0, 10)]), part([(10, 20)], job={"seed": 1})), "they differ in job.seed"),
    ((part([(0, 10)]), part([(10, 20)], model="a")), "1.npz .* than 0.npz: they differ in model"),
  ],
)
def test_what_does_not_add_up_is_refused(parts, message):
  with pytest.raises(ValueError, match=message):
    add_up(*parts)


@pytest.mark.parametrize(
  "change",
  [
    {"done": np.asarray(101)},
    {"done": np.asarray(-1)},
    {"done": np.asarray([14])},
    {"done": np.asarray("14")},
    {"seconds": np.asarray(np.nan)},
    {"seconds": np.asarray(-1.0)},
    {"seconds": np.zeros(2)},
    {"sums/0": np.zeros(3)},
    {"sums/0": np.zeros(3, complex)},
    {"sums/0": np.array(["a", "b", "c"])},
    {"manifest": np.asarray("[1]")},
    {"manifest": np.asarray("[" * 60_000)},
    {"manifest": np.asarray(["{}"])},
    {"manifest": np.asarray("{}")},
    {"manifest": np.asarray('{"ranges": [[0]]}')},
    {"manifest": np.asarray('{"ranges": [[0, "9"]]}')},
    {"manifest": np.asarray('{"ranges": [[9, 3]]}')},
    {"manifest": np.asarray('{"ranges": 100}')},
    {"more": np.zeros(1)},
  ],
)
def test_what_no_checkpoint_can_hold_is_one_clear_error(tmp_path, change):
  path = tmp_path / "a.npz"
  run(path)
  arrays = {k: v for k, v in storage.load_arrays(path).items() if k != "digest"} | change
  storage.save_arrays(path, {**arrays, "digest": np.asarray(storage.digest(arrays))})
  with pytest.raises(ValueError, match=r"a\.npz is no checkpoint.*: delete it to start again\."):
    run(path)


def test_sums_of_another_type_are_not_added_to(tmp_path):
  run(tmp_path / "a.npz", interval=0.0)
  with pytest.raises(ValueError, match="sums of other shapes or types"):
    run(
      tmp_path / "a.npz",
      lambda first, size: {"sum": np.zeros(3, np.int32), "n": np.asarray(size)},
    )
