"""Adds up the samples that several machines counted of one job, and certifies (host)."""

import itertools
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lrs_jax.jobs import checkpoints, rechecks, runs
from lrs_jax.sampling.counting import Votes
from lrs_jax.tasks import images as jobs
from lrs_jax.tasks.images import ImageJob

Share = tuple[str, str, str]
"""Image, smoothing and part: "selection" or "estimation"."""

_OWN = {"image", "smoothing", "part", "ranges", "input", "noise", "key"}
"""What differs between the inputs of one job; all else is the same for all."""


def merge_images(
  paths: Sequence[Path],
  out: Path,
  model: Path | None = None,
  data_dir: str | None = None,
  *,
  force: bool = False,
) -> dict[str, Any]:
  """Certifies what `runs.count_images` counted, as one machine would that counted it all.

  The noise of sample i follows from the seed and i alone, so that sums over disjoint samples add up
  to what one machine counts, wherever they were drawn. The certificate is for the samples that
  there are: their number is S, and gaps do no harm. The files that are merged stay as they are.

  Args:
    paths: files `*.counts.npz`, or folders that hold some.
    out: folder for the results, as of `runs.certify_images`.
    model: file of the job's network; looked for in the folders if None.
    data_dir: folder of the data.
    force: replaces results of other jobs or samples, where they are in the way.

  Returns:
    What `summary.json` holds.

  Raises:
    OtherResultsError: `out` holds results of another job, or of other samples; nothing is done.
    ValueError: before anything is written: no counts, damaged or unfinished ones, counts of
      different jobs, samples that two files hold or only some images have, no network.
  """
  shares = _shares(find_counts(paths))
  found = {share: _manifest(files) for share, files in shares.items()}
  job = _common_job(shares, found)._replace(data_dir=data_dir)
  for name, smoothing, part in itertools.product(
    jobs.load_images(job, "test", job.images).names, ("certificate", "isotropic"), runs.PARTS
  ):
    if (name, smoothing, part) not in found:
      searched = ", ".join(map(str, paths))
      raise ValueError(f"no {part} samples of {name} ({smoothing}) under {searched}.")
  folders = [path for path in (*paths, out) if path.is_dir()]
  candidates = [model] if model else [jobs.model_path(job, folder) for folder in folders]
  models = [path for path in candidates if path.exists()]
  if not models:
    raise ValueError(f"found no network at {', '.join(map(str, candidates))}: give its --model.")
  ranges = next(found[share]["ranges"] for share in found if share[2] == "estimation")
  setting = runs.prepare(job, out, models[0], certifies=None if force else ranges)
  tasks, radii = runs.make_tasks(setting, out), runs.job_radii(job, setting.smoothings)
  for task, part in itertools.product(tasks, runs.PARTS):
    share = task.name, task.smoothed.name, part
    differing = checkpoints.differences(found[share], runs.manifest(setting, task, part))
    elsewhere = {"ranges", "device", *(name for name in differing if name.startswith("versions."))}
    if set(differing) - elsewhere:
      raise ValueError(
        f"{shares[share][0]} does not fit the job, the data or the network that is here: they "
        f"differ in {', '.join(sorted(set(differing) - elsewhere))}."
      )
  done, times = {}, runs.Times(0.0, 0.0, 0.0, 0.0)
  for task in tasks:
    selection, estimation = (
      _add_up(shares[task.name, task.smoothed.name, part]) for part in runs.PARTS
    )
    meta = {name: estimation.manifest[name] for name in (*runs.facts(setting, task), "ranges")}
    start = time.perf_counter()
    record = runs.already_done(task, radii, meta) or runs.certify_task(
      setting, task, radii, Votes(*selection.sums), Votes(*estimation.sums), meta
    )
    times = times._replace(
      sampling=times.sampling + selection.seconds + estimation.seconds,
      certificates=times.certificates + time.perf_counter() - start,
    )
    done[task.path] = record
  return runs.finish(setting, tasks, done, times, out)


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


def _shares(files: Sequence[Path]) -> Mapping[Share, list[Path]]:
  shares: defaultdict[Share, list[Path]] = defaultdict(list)
  for path in files:
    manifest = checkpoints.load(path).manifest
    image, smoothing, part = (manifest.get(name) for name in ("image", "smoothing", "part"))
    if not (isinstance(image, str) and isinstance(smoothing, str) and isinstance(part, str)):
      raise ValueError(f"{path} holds no counts of images: its manifest does not say which.")
    shares[image, smoothing, part].append(path)
  return shares


def _add_up(files: Sequence[Path]) -> checkpoints.Counts:
  """The sum of some files, each of which holds votes."""
  parts = {path: checkpoints.load(path) for path in files}
  for path, part in parts.items():
    if [leaf.ndim for leaf in part.sums] != [2, 0]:
      raise ValueError(
        f"{path} holds no votes, which are two sums, [N, K] and a number: version 0.1 may have "
        "counted them, so count again."
      )
  total = checkpoints.add_up(parts)
  for path, part in parts.items():
    votes = Votes(*part.sums)
    rechecks.check_votes(f"{path}: sums/0", votes.counts, "sums/1", int(votes.num_samples))
    if votes.num_samples != part.done:
      raise ValueError(f"{path} says {part.done} samples, but its sum says {votes.num_samples}.")
  return total


def _manifest(files: Sequence[Path]) -> Mapping[str, Any]:
  """The manifest that the sum of some files has, if they have one."""
  return _add_up(files).manifest


def _common_job(
  shares: Mapping[Share, list[Path]], found: Mapping[Share, Mapping[str, Any]]
) -> ImageJob:
  """The job of all shares, whose samples must be the same for all images."""
  first, *others = found
  for share in others:
    differing = set(checkpoints.differences(found[first], found[share])) - _OWN
    if differing:
      raise ValueError(
        f"{shares[share][0]} holds samples of another job than {shares[first][0]}: they differ in "
        f"{', '.join(sorted(differing))}."
      )
  for part in runs.PARTS:
    same = [share for share in found if share[2] == part]
    if not same:
      hint = ": they come with the range that starts at 0" if part == "selection" else ""
      raise ValueError(f"there are no {part} samples{hint}.")
    for share in same:
      if found[share]["ranges"] != found[same[0]]["ranges"]:
        raise ValueError(
          f"of {same[0][0]} there are {part} samples {_show(found[same[0]]['ranges'])}, but of "
          f"{share[0]} ({share[1]}) {_show(found[share]['ranges'])}: all images need the same."
        )
  try:
    job = jobs.from_plain(found[first].get("job", {}))
    jobs.check(job)
  except ValueError as error:
    raise ValueError(f"{shares[first][0]} holds counts of a job that cannot be: {error}") from None
  return job


def _show(ranges: checkpoints.Ranges) -> str:
  return ", ".join(f"{first}:{end}" for first, end in ranges)
