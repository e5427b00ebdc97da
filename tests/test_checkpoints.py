import numpy as np
import pytest

from lrs_jax import checkpoints, storage

VALUES = np.random.default_rng(0).integers(0, 9, (100, 3))


def count(first, size):
  return {"sum": VALUES[first : first + size].sum(axis=0), "n": np.asarray(size)}


def run(path, count=count, manifest=None, num_samples=100, interval=1e9, piece=7):
  return checkpoints.count_in_pieces(
    count, num_samples, path, manifest or {"job": [1, 2]},
    piece=piece, progress=lambda size: None, interval=interval,
  )  # fmt: skip


@pytest.mark.parametrize("num_samples", [0, 1, 7, 100])
@pytest.mark.parametrize("interval", [0.0, 1e9])
def test_pieces_count_what_one_call_does(tmp_path, num_samples, interval):
  total, seconds = run(tmp_path / "a.npz", num_samples=num_samples, interval=interval)
  np.testing.assert_array_equal(total["sum"], VALUES[:num_samples].sum(axis=0))
  assert total["n"] == num_samples
  assert seconds >= 0


@pytest.mark.parametrize("stop_after", range(0, 15, 2))
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_stopped_job_goes_on_where_it_was(tmp_path, stop_after, error):
  path, calls = tmp_path / "a.npz", []

  def stopping(first, size):
    calls.append(first)
    if size and len(calls) > stop_after + 1:
      raise error
    return count(first, size)

  with pytest.raises(error):
    run(path, stopping)
  assert path.exists()
  again = []

  def noting(first, size):
    again.append(first)
    return count(first, size)

  total, _ = run(path, noting)
  np.testing.assert_array_equal(total["sum"], VALUES.sum(axis=0))
  assert total["n"] == 100
  assert again[1] == 7 * stop_after  # after the call for no samples: nothing is counted twice


def test_a_kill_costs_one_interval_at_most(tmp_path):
  """What is on disk while counting goes on is whole: as if the process were killed there."""
  path, states = tmp_path / "a.npz", []

  def watching(first, size):
    if path.exists():
      states.append((first, int(storage.load_arrays(path)["done"])))
    return count(first, size)

  run(path, watching, interval=0.0)
  assert len(states) == 14
  assert all(first == done for first, done in states)


def test_samples_of_another_job_are_refused(tmp_path):
  run(tmp_path / "a.npz", interval=0.0)
  with pytest.raises(ValueError, match="holds samples of another job, which differs in job, seed"):
    run(tmp_path / "a.npz", manifest={"job": [1, 3], "seed": 0})


def test_other_shapes_are_refused(tmp_path):
  run(tmp_path / "a.npz", interval=0.0)
  with pytest.raises(ValueError, match="holds sums of other shapes"):
    run(tmp_path / "a.npz", lambda first, size: {"sum": np.zeros(4, int), "n": np.asarray(size)})


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_truncated_file_is_refused_and_stays(tmp_path, keep):
  path = tmp_path / "a.npz"
  run(path, interval=0.0)
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(ValueError, match="cannot read"):
    run(path)
  assert path.stat().st_size == keep


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
  storage.save_arrays(tmp_path / "a.npz", {"x": np.zeros(1)})
  with pytest.raises(ValueError, match="is no checkpoint, its array 'manifest' is missing"):
    run(tmp_path / "a.npz")
