"""Counting in pieces, kept on disk: a job that was stopped goes on, and several add up (host)."""

import json
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import jax
import numpy as np

from lrs_jax import storage

Ranges = Sequence[tuple[int, int]]
"""Disjoint ranges of sample numbers, (first, one past the last), rising."""


class Counts(NamedTuple):
  """What a checkpoint holds."""

  manifest: Mapping[str, Any]  # JSON values that tell the job from all others; "ranges" among them,
  # and the "processor", or all of them, that counted, which may be others
  sums: tuple[np.ndarray, ...]  # leaves of what was counted
  done: int  # samples: the first so many of the ranges
  seconds: float  # that counting took


def count_in_pieces(
  count: Callable[[int, int], Any],
  ranges: Ranges,
  path: Path,
  manifest: Mapping[str, Any],
  *,
  piece: int,
  progress: Callable[[int], Any],
  interval: float = 10.0,
  looks: Collection[int] = (),
  enough: Callable[[Any], bool] = lambda sums: False,
) -> tuple[Any, float]:
  """Counts samples from where an interrupted run of the same job stopped.

  The counts of samples 0, ..., n - 1 and n, ..., S - 1 add up to those of all S, so that a job in
  pieces counts what one in a single call would. They are stored before the first piece, so that a
  folder that cannot be written to costs nothing, then every `interval` seconds, when an exception
  stops the job and at the end; whoever stores the result calls `discard`. Returned are the sums,
  and the seconds that counting took, those before the stop included.

  Args:
    count: (first sample, number of samples) -> pytree of integer arrays.
    ranges: the samples to count.
    path: the file, whole or not there at any time.
    manifest: JSON values that tell this job from all others; the ranges are added to them.
    piece: samples a call; a multiple of the chunk size, so that chunks are the same after a stop.
    progress: told how many samples were done.
    interval: seconds of work that a kill may cost, beside the piece that was being counted.
    looks: numbers of samples after which it is asked whether the sums so far are enough.
    enough: sums -> whether they are, which ends the counting; it must depend on nothing else.

  Raises:
    ValueError: the file is damaged, or holds samples of another job.
    OSError: the file cannot be written; what it held before is unchanged.
  """
  leaves, structure = jax.tree.flatten(jax.device_get(count(0, 0)))
  counts = _resume(path, _with_ranges(manifest, ranges), tuple(leaves))
  progress(counts.done)
  save(path, counts)
  kept = time.monotonic()
  try:
    for first, size in _pieces(ranges, counts.done, piece, looks):
      if counts.done in looks and enough(jax.tree.unflatten(structure, counts.sums)):
        break
      start = time.perf_counter()
      new = jax.tree.leaves(jax.device_get(count(first, size)))
      counts = counts._replace(
        sums=tuple(np.add(one, other) for one, other in zip(counts.sums, new, strict=True)),
        done=counts.done + size,
        seconds=counts.seconds + time.perf_counter() - start,
      )
      progress(size)
      if time.monotonic() - kept > interval:
        save(path, counts)
        kept = time.monotonic()
  finally:
    save(path, counts)
  return jax.tree.unflatten(structure, counts.sums), counts.seconds


def save(path: Path, counts: Counts) -> None:
  """Stores counts, whole or not at all."""
  leaves = {f"sums/{i}": leaf for i, leaf in enumerate(counts.sums)}
  state = {"done": np.asarray(counts.done), "seconds": np.asarray(counts.seconds)}
  arrays = {"manifest": storage.json_array(counts.manifest), **state, **leaves}
  storage.save_arrays(path, {**arrays, "digest": np.asarray(storage.digest(arrays))})


def load(path: Path) -> Counts:
  """Reads counts; ValueError: a missing or damaged file, or one that is no checkpoint."""
  arrays = storage.load_arrays(path)
  again = "delete it to start again"
  try:
    if str(arrays.pop("digest")) != storage.digest(arrays):
      raise ValueError(f"{path} is damaged, its digest does not fit: {again}.")
    sums = tuple(arrays[f"sums/{i}"] for i in range(len(arrays) - 3))
    manifest, done, seconds = arrays.pop("manifest"), arrays["done"], arrays["seconds"]
  except KeyError as error:
    raise ValueError(f"{path} is no checkpoint, its array {error} is missing: {again}.") from None
  try:
    for name, array in arrays.items():
      kind = "f" if name == "seconds" else "i"
      if array.dtype.kind != kind or (array.ndim and not name.startswith("sums/")):
        raise ValueError(f"its array {name!r} is {array.dtype} of shape {array.shape}")
    plain = storage.from_json_array(manifest)
    ranges = plain.get("ranges") if isinstance(plain, Mapping) else None
    if not are_ranges(ranges):
      raise ValueError(f"its manifest has {storage.shortened(ranges)} as `ranges` of samples")
    if not 0 <= done <= num_samples(ranges):
      raise ValueError(f"it has {done} of {num_samples(ranges)} samples")
    if not 0 <= seconds < math.inf:
      raise ValueError(f"it says that counting took {float(seconds)} seconds")
  except ValueError as error:
    raise ValueError(f"{path} is no checkpoint, {error}: {again}.") from None
  return Counts(plain, sums, int(done), float(seconds))


def discard(path: Path, manifest: Mapping[str, Any], ranges: Ranges) -> None:
  """Deletes what `count_in_pieces` left of a job whose result is stored; nothing of another job."""
  if holds(path, manifest, ranges):
    path.unlink()


def holds(path: Path, manifest: Mapping[str, Any], ranges: Ranges) -> bool:
  """Whether a file is there that `count_in_pieces` would go on with."""
  try:
    return not _of_other_jobs(load(path).manifest, _with_ranges(manifest, ranges))
  except ValueError:
    return False


def num_samples(ranges: Ranges) -> int:
  """How many samples ranges hold."""
  return sum(end - first for first, end in ranges)


def are_ranges(value: Any) -> TypeGuard[Ranges]:
  """Whether a JSON value is a list of ranges, each (first, one past the last) and not empty."""
  return isinstance(value, list | tuple) and all(
    isinstance(pair, list | tuple)
    and [type(i) for i in pair] == [int, int]
    and 0 <= pair[0] < pair[1]
    for pair in value
  )


def shown(ranges: Ranges) -> str:
  """Ranges as one would type them."""
  return ", ".join(f"{first}:{end}" for first, end in ranges)


def add_up(parts: Mapping[Path, Counts]) -> Counts:
  """Adds the counts of disjoint samples of one job, such as several machines made.

  Any set of distinct samples will do, so gaps are possible; but which ones must not depend on what
  they said, so a file whose samples are not all counted yet is refused.

  `parts`, at least one, are by the files that hold them. The sum's manifest has their ranges, those
  that touch as one.

  Raises:
    ValueError: samples that are in two files, unfinished files, and files of different jobs.
  """
  (one, counts), *others = parts.items()
  for path, other in others:
    differing = _of_other_jobs(counts.manifest, other.manifest) - {"ranges"}
    refuse(f"{path} holds samples of another job than {one}", differing)
  for path, part in parts.items():
    wanted = num_samples(part.manifest["ranges"])
    if part.done < wanted:
      raise ValueError(
        f"{path} is unfinished, {part.done} of {wanted} samples: run its command to the end first."
      )
  owned = sorted(
    (*bounds, str(path)) for path, part in parts.items() for bounds in part.manifest["ranges"]
  )
  merged: list[list[int]] = []
  for i, (first, end, path) in enumerate(owned):
    if merged and first < merged[-1][1]:
      raise ValueError(
        f"{owned[i - 1][2]} and {path} overlap: both hold sample {first}, which counts only once."
      )
    if merged and first == merged[-1][1]:
      merged[-1][1] = end
    else:
      merged.append([first, end])
  for path, other in others:
    if [leaf.shape for leaf in other.sums] != [leaf.shape for leaf in counts.sums]:
      raise ValueError(f"{path} holds sums of other shapes than {one}.")
  _, sums, done, seconds = zip(*parts.values(), strict=True)
  return Counts(
    {**_by_all(*(part.manifest for part in parts.values())), "ranges": merged},
    tuple(np.sum(leaves, axis=0, dtype=leaves[0].dtype) for leaves in zip(*sums, strict=True)),
    sum(done),
    sum(seconds),
  )


def differences(one: Any, other: Any, name: str = "") -> list[str]:
  """Names of the JSON values in which two manifests differ, with dots where they are nested.

  Example:
    >>> differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 0})
    ['a.c', 'd']
  """
  if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
    return [] if one == other else [name]
  missing = object()
  return [
    found
    for key in {**one, **other}
    for found in differences(
      one.get(key, missing), other.get(key, missing), f"{name}.{key}" if name else key
    )
  ]


def _of_other_jobs(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
  """`differences` of two manifests but for the processor, which any part of a job may have."""
  return set(differences(one, other)) - {"processor"}


def processors(*manifests: Mapping[str, Any]) -> str:
  """The names of the processors that counted, each once.

  Example:
    >>> processors({"processor": "A | B"}, {"processor": "B"}, {})
    'A | B | unknown'
  """
  named = [str(manifest.get("processor", "unknown")).split(" | ") for manifest in manifests]
  return " | ".join(sorted({name for names in named for name in names}))


def _by_all(*manifests: Mapping[str, Any]) -> dict[str, Any]:
  """The first of some manifests, with the processors of all if it names any."""
  named = any("processor" in manifest for manifest in manifests)
  return {**manifests[0], **({"processor": processors(*manifests)} if named else {})}


def refuse(what: str, differing: Collection[str]) -> None:
  """Raises a ValueError that says `what` if there is anything in which two manifests differ."""
  if differing:
    raise ValueError(f"{what}: they differ in {', '.join(sorted(differing))}.")


def _with_ranges(manifest: Mapping[str, Any], ranges: Ranges) -> dict[str, Any]:
  """A manifest as it comes back from JSON."""
  return json.loads(json.dumps({**manifest, "ranges": ranges}))


def _pieces(ranges: Ranges, done: int, piece: int, looks: Collection[int]) -> list[tuple[int, int]]:
  """(first sample, number of samples) of every call left after so many; none goes over a look."""
  pieces, before = [], 0
  for first, end in ranges:
    place = first - before  # of the sample that would be the first of all
    stops = [end, *(place + look for look in looks if first < place + look < end)]
    start = max(first, place + done)
    for stop in sorted(stops):
      pieces += [(i, min(piece, stop - i)) for i in range(start, stop, piece)]
      start = max(start, stop)
    before += end - first
  return pieces


def _resume(path: Path, manifest: Mapping[str, Any], nothing: tuple[np.ndarray, ...]) -> Counts:
  """What was counted before; `nothing` if there is no file."""
  if not path.exists():
    return Counts(manifest, nothing, 0, 0.0)
  stored = load(path)
  differing = _of_other_jobs(manifest, stored.manifest)
  if differing:
    raise ValueError(
      f"{path} holds samples of another job, which differs in {', '.join(sorted(differing))}: "
      "run that one to its end, delete the file to start again, or choose another folder."
    )
  there, here = (
    [(np.shape(leaf), np.asarray(leaf).dtype) for leaf in of] for of in (stored.sums, nothing)
  )
  if there != here:
    raise ValueError(f"{path} holds sums of other shapes or types: delete it to start again.")
  return stored._replace(manifest=_by_all(stored.manifest, manifest))
