"""Counting in pieces, kept on disk, so that a job that was stopped goes on where it was (host)."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lrs_jax import storage


def count_in_pieces(
  count: Callable[[int, int], Any],
  num_samples: int,
  path: Path,
  manifest: Mapping[str, Any],
  *,
  piece: int,
  progress: Callable[[int], Any],
  interval: float = 10.0,
) -> tuple[Any, float]:
  """Counts samples from where an interrupted run of the same job stopped.

  The counts of samples 0, ..., n - 1 and n, ..., S - 1 add up to those of all S, so that a job in
  pieces counts what one in a single call would. They are stored every `interval` seconds, when an
  exception stops the job and at the end; whoever stores the result deletes the file.

  Args:
    count: (first sample, number of samples) -> pytree of integer arrays.
    num_samples: S.
    path: the file, whole or not there at any time.
    manifest: JSON values that tell this job from all others.
    piece: samples a call; a multiple of the chunk size, so that chunks are the same after a stop.
    progress: told how many samples were done.
    interval: seconds of work that a kill may cost.

  Returns:
    The sums, and the seconds that counting took, those before the stop included.

  Raises:
    ValueError: the file is damaged, or holds samples of another job.

  Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   count_in_pieces(
    ...     lambda first, size: np.arange(first, first + size).sum(), 10,
    ...     Path(folder) / "counts.npz", {"job": 1}, piece=4, progress=lambda size: None,
    ...   )[0]
    np.int64(45)
  """
  total = jax.device_get(count(0, 0))
  total, done, seconds = _resume(path, manifest, total)
  progress(done)
  kept = time.monotonic()
  try:
    while done < num_samples:
      size, start = min(piece, num_samples - done), time.perf_counter()
      more = jax.tree.map(np.add, total, jax.device_get(count(done, size)))
      total, done, seconds = more, done + size, seconds + time.perf_counter() - start
      progress(size)
      if time.monotonic() - kept > interval:
        _keep(path, manifest, total, done, seconds)
        kept = time.monotonic()
  finally:
    _keep(path, manifest, total, done, seconds)
  return total, seconds


def _keep(path: Path, manifest: Mapping[str, Any], total: Any, done: int, seconds: float) -> None:
  leaves = {f"sums/{i}": leaf for i, leaf in enumerate(jax.tree.leaves(total))}
  state = {"done": np.asarray(done), "seconds": np.asarray(seconds)}
  storage.save_arrays(path, {"manifest": storage.json_array(manifest), **state, **leaves})


def _resume(path: Path, manifest: Mapping[str, Any], nothing: Any) -> tuple[Any, int, float]:
  """What was counted before: sums, samples, seconds; `nothing` if there is no file."""
  if not path.exists():
    return nothing, 0, 0.0
  arrays = storage.load_arrays(path)
  try:
    stored = storage.from_json_array(arrays["manifest"])
    asked = json.loads(json.dumps(manifest))
    differing = [key for key in {**asked, **stored} if stored.get(key) != asked.get(key)]
    if differing:
      raise ValueError(
        f"{path} holds samples of another job, which differs in {', '.join(sorted(differing))}: "
        "run that one to its end, delete the file to start again, or choose another folder."
      )
    leaves, structure = jax.tree.flatten(nothing)
    sums = [arrays[f"sums/{i}"] for i in range(len(leaves))]
    if [leaf.shape for leaf in sums] != [leaf.shape for leaf in leaves]:
      raise ValueError(f"{path} holds sums of other shapes: delete it to start again.")
    return jax.tree.unflatten(structure, sums), int(arrays["done"]), float(arrays["seconds"])
  except KeyError as error:
    raise ValueError(
      f"{path} is no checkpoint, its array {error} is missing: delete it to start again."
    ) from None
