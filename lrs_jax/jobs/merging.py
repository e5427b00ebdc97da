"""Adds up the samples that several machines counted of one job, and certifies (host)."""

import collections
import itertools
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrs_jax import storage
from lrs_jax.jobs import certifying, checkpoints, claims, preparing, rechecks, running
from lrs_jax.jobs.preparing import Item, Setting
from lrs_jax.jobs.running import PARTS
from lrs_jax.sampling import ClassSums
from lrs_jax.tasks.task import Config, Task

Share = tuple[str, str, str]
"""Case, smoothing and part: "selection" or "estimation"."""

_OWN = {
  *("case", "smoothing", "part", "ranges", "input", "noise", "key", "model", "chunk_size"),
  "processor",
}
"""What differs between the items of one job; all else is the same for all."""


class Merged(NamedTuple):
  """What was counted of a share."""

  path: Path  # the first of its files, for messages
  counts: checkpoints.Counts


def merge(
  tasks: Mapping[str, Task],
  paths: Sequence[Path],
  out: Path,
  model: Path | None = None,
  data_dir: str | None = None,
  *,
  solvers: int | None = 0,
  force: bool = False,
) -> dict[str, Any]:
  """Certifies what `running.count` counted, as one machine would that counted it all.

  The certificate is for the samples that there are: their number is S, and gaps do no harm. The
  files that are merged stay as they are.

  Args:
    tasks: known tasks by name.
    paths: files `*.counts.npz`, or folders that hold some.
    out: folder for the results, as of `running.certify`, which has the result as well.
    model: file of the job's network; looked for in the folders if None.
    data_dir: folder of the data.
    solvers: processes that certify, see `running.certify`.
    force: replaces results of other jobs or samples, where they are in the way.

  Raises:
    OtherResultsError: `out` holds results of another job, or of other samples; nothing is done.
    FolderInUseError: another job runs in `out`; nothing is done.
    ValueError: before anything is written: no counts, damaged or unfinished ones, counts of
      different jobs, samples that two files hold or only some cases have, no network.
  """
  shares = {share: _add_up(files) for share, files in _shares(find_counts(paths)).items()}
  task, config = _common_job(tasks, shares)
  config = config._replace(data_dir=data_dir)
  with claims.held(out, task, config, model):
    ranges = next(_ranges(of) for (_, _, part), of in shares.items() if part == "estimation")
    replaced = None if force else ranges
    setting = preparing.load(task, config, out, replaced)
    for item, part in itertools.product(setting.items, PARTS):
      if _share(item, part) not in shares:
        searched = ", ".join(map(str, paths))
        raise ValueError(
          f"no {part} samples of {item.case.name} ({item.smoothing.sampled}) under {searched}."
        )
    files = {}
    folders = [path for path in (*paths, out) if path.is_dir()]
    for name, path in preparing.network_files(setting, model).items():
      candidates = [path] if model else [folder / path.relative_to(out) for folder in folders]
      existing = [candidate for candidate in candidates if candidate.exists()]
      if not existing:
        raise ValueError(
          f"found no network at {', '.join(map(str, candidates))}: give its --model."
        )
      files[name] = existing[0]
    setting = preparing.with_networks(setting, files, replaced)
    _check_manifests(setting, shares)
    done, seconds = {}, dict.fromkeys(running.SECONDS, 0.0)
    waiting: collections.deque[certifying.Begun] = collections.deque()
    start, number = time.perf_counter(), certifying.number_of_solvers(setting, solvers)
    with certifying.solvers(number) as solve:
      for item in setting.items:
        selection, estimation = (shares[_share(item, part)].counts for part in PARTS)
        meta = {
          name: estimation.manifest.get(name, value)
          for name, value in running.facts(setting, item).items()
        }
        meta |= running.told(item, ranges)
        meta |= {"processor": checkpoints.processors(selection.manifest, estimation.manifest)}
        if not item.smoothing.samples:  # else they are counted with those of another smoothing
          seconds["sampling"] += selection.seconds + estimation.seconds
        record = running.already_done(setting, item, meta)
        if record is not None:
          done[item.path] = record
        else:
          sums = [_class_sums(part.sums) for part in (selection, estimation)]
          waiting.append(certifying.begin(setting, [item], sums, [meta], solve))
        for _, found in certifying.stored(waiting, number):
          done |= found
      for _, found in certifying.stored(waiting):
        done |= found
    seconds["certificates"] = time.perf_counter() - start
    return running.finish(setting, done, seconds)


def find_counts(paths: Sequence[Path]) -> list[Path]:
  """The files `*.counts.npz` among and under paths, each once."""
  found = []
  for path in paths:
    if not path.exists():
      raise ValueError(f"there is no {path}.")
    files = sorted(path.rglob("*.counts.npz")) if path.is_dir() else [path]
    found += [file.resolve() for file in files if not file.name.startswith(".")]
  if not found:
    raise ValueError(
      f"no counts under {', '.join(map(str, paths))}: lrs-jax certify --sample-range makes them."
    )
  return list(dict.fromkeys(found))


def _share(item: Item, part: str) -> Share:
  return item.case.name, item.smoothing.sampled, part


def _ranges(merged: Merged) -> checkpoints.Ranges:
  return merged.counts.manifest["ranges"]


def _shares(files: Sequence[Path]) -> Mapping[Share, list[Path]]:
  shares: defaultdict[Share, list[Path]] = defaultdict(list)
  for path in files:
    manifest = checkpoints.load(path).manifest
    case, smoothing, part = (manifest.get(name) for name in ("case", "smoothing", "part"))
    if not (isinstance(case, str) and isinstance(smoothing, str) and isinstance(part, str)):
      raise ValueError(f"{path} holds no counts of a job: its manifest does not say which.")
    shares[case, smoothing, part].append(path)
  return shares


def _class_sums(leaves: Sequence[np.ndarray]) -> ClassSums:
  """Sums as `ClassSums`, from the leaves that a checkpoint keeps: [N, K] arrays and a number."""
  return ClassSums(leaves[0], None, None, leaves[1]) if len(leaves) == 2 else ClassSums(*leaves)


def _add_up(files: Sequence[Path]) -> Merged:
  """The sum of some files, each of which holds sums of classes."""
  parts = {path: checkpoints.load(path) for path in files}
  for path, part in parts.items():
    if [leaf.ndim for leaf in part.sums] not in ([2, 0], [2, 2, 2, 0]):
      raise ValueError(
        f"{path} holds no votes, which are two sums, [N, K] and a number: version 0.1 may have "
        "counted them, so count again."
      )
  total = checkpoints.add_up(parts)
  for path, part in parts.items():
    sums = _class_sums(part.sums)
    if sums.num_samples != part.done:
      raise ValueError(f"{path} says {part.done} samples, but its sum says {sums.num_samples}.")
    rechecks.check_sums(str(path), sums)
  return Merged(files[0], total)


def _common_job(tasks: Mapping[str, Task], shares: Mapping[Share, Merged]) -> tuple[Task, Config]:
  """The job of all shares, whose samples must be the same for all cases."""
  first, *others = shares.values()
  manifest = first.counts.manifest
  for other in others:
    differing = set(checkpoints.differences(manifest, other.counts.manifest)) - _OWN
    checkpoints.refuse(f"{other.path} holds samples of another job than {first.path}", differing)
  for part in PARTS:
    same = {share: _ranges(of) for share, of in shares.items() if share[2] == part}
    if not same:
      hint = ": they come with the range that starts at 0" if part == "selection" else ""
      raise ValueError(f"there are no {part} samples{hint}.")
    (one, *_), wanted = next(iter(same.items()))
    for (case, smoothing, _), ranges in same.items():
      if ranges != wanted:
        there, here = map(checkpoints.shown, (wanted, ranges))
        raise ValueError(
          f"of {one} there are {part} samples {there}, but of {case} ({smoothing}) {here}: all "
          "cases need the same."
        )
  try:
    task = tasks.get(manifest.get("task", ""))
    if task is None:
      raise ValueError(f"there is no task {manifest.get('task')!r}.")
    kind = type(next(iter(task.data.values())))
    config = storage.from_plain(kind, manifest.get("job", {}))
    preparing.check(task, config)
  except ValueError as error:
    raise ValueError(f"{first.path} holds counts of a job that cannot be: {error}") from None
  return task, config


def _check_manifests(setting: Setting, shares: Mapping[Share, Merged]) -> None:
  """Refuses counts that are not of the job, the data and the networks that are here."""
  for item, part in itertools.product(setting.items, PARTS):
    path, counts = shares[_share(item, part)]
    found = checkpoints.differences(counts.manifest, running.manifest(setting, item, part))
    differing = {name for name in found if not name.startswith("versions.")}
    what = f"{path} does not fit the job, the data or the network that is here"
    checkpoints.refuse(what, differing - {"ranges", "device", "processor"})
