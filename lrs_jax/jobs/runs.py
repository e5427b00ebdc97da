"""Whole jobs on images: train, sample, certify, compare with isotropic smoothing, report (host)."""

import json
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from lrs_jax import keys, noise, sampling, storage
from lrs_jax.confidence import planning
from lrs_jax.jobs import cards, checkpoints, processes, records, reports, results
from lrs_jax.jobs.records import Record
from lrs_jax.sampling.counting import Votes
from lrs_jax.tasks import images as jobs
from lrs_jax.tasks.data.images import LabelledImages
from lrs_jax.tasks.images import ImageJob
from lrs_jax.tasks.models.folding import Folded

_COMPARED = ("envelope", "lp", "naive")
"""Methods that every job reports beside the one it was asked for."""

PARTS = ("selection", "estimation")
"""The two sets of samples, each with keys of its own."""


LOCALIZED, ISOTROPIC = "certificate", "isotropic"
"""Names of the files that hold the certificates of both smoothings of an image."""


class Smoothed(NamedTuple):
  """One way of smoothing a job's network."""

  name: str  # of the files that hold its certificates
  distribution: noise.SmoothingDistribution
  groups: np.ndarray  # int32 [N]
  methods: tuple[str, ...]
  windows: sampling.Windows | None


class Setting(NamedTuple):
  """What the inputs of a job have in common."""

  job: ImageJob
  test: LabelledImages
  params: Folded
  smoothings: tuple[Smoothed, ...]  # localized, isotropic
  common: Mapping[str, Any]  # configuration, digest of the network, versions
  training_seconds: float


class Task(NamedTuple):
  """One image under one smoothing."""

  number: int  # of the image
  name: str
  image: np.ndarray
  labels: np.ndarray
  smoothed: Smoothed
  path: Path  # of the certificate


class Times(NamedTuple):
  """Seconds; sampling is without compilation."""

  training: float
  compilation: float
  sampling: float
  certificates: float


def certify_images(
  job: ImageJob,
  out: Path,
  model: Path | None = None,
  *,
  interval: float = 10.0,
  force: bool = False,
) -> dict[str, Any]:
  """Runs a whole job and leaves its results under `out`.

  Writes `summary.json`, `curves.png`, `noise.png` and, per image, `certificate.npz` (localized)
  with its card, `isotropic.npz` (baseline) and `image.png`. An image that was already certified by
  the same job, network and versions is not done again. Where JAX runs in several processes, all
  call this: they share the folder `out`, the images are dealt out to them, and the first writes
  what concerns all.

  Args:
    job: the configuration.
    out: folder for the results.
    model: file of the network, trained there if it does not exist; found under `out` if None.
    interval: seconds of sampling that a kill may cost.
    force: replaces results and unfinished samples of other jobs, where they are in the way.

  Returns:
    What `summary.json` holds.

  Raises:
    OtherResultsError: `out` holds results of another job; nothing is done.
    ValueError: configuration, data or files that cannot be used, before anything is written.
    OSError: `out` cannot be written.
  """
  setting = prepare(job, out, model, certifies=None if force else [(0, job.samples)])
  tasks = make_tasks(setting, out)
  mine = [task for task in tasks if processes.mine(task.number)]
  metas = {task.path: {**facts(setting, task), "ranges": [[0, job.samples]]} for task in tasks}
  radii = job_radii(job, setting.smoothings)
  times = Times(setting.training_seconds, 0.0, 0.0, 0.0)
  done: dict[Path, Record] = {}
  with _progress(len(mine) * (job.samples + job.selection_samples)) as progress:
    for task in mine:
      record = already_done(task, radii, metas[task.path])
      if record is None:
        start = time.perf_counter()
        count = _counter(setting, task)
        compiled = time.perf_counter() - start
        (selection, selecting), (estimation, estimating) = (
          _count(setting, task, count, part, (0, end), path, progress, interval, force)
          for part, end, path in (
            ("selection", job.selection_samples, partial_path(task.path, "selection")),
            ("estimation", job.samples, partial_path(task.path, "estimation")),
          )
        )
        start = time.perf_counter()
        record = certify_task(setting, task, radii, selection, estimation, metas[task.path])
        certifying = time.perf_counter() - start
        times = Times(*np.add(times, (0.0, compiled, selecting + estimating, certifying)).tolist())
      else:
        go_on(progress, job.samples + job.selection_samples)
      done[task.path] = record
      for part, end in (("selection", job.selection_samples), ("estimation", job.samples)):
        path = partial_path(task.path, part)
        checkpoints.discard(path, manifest(setting, task, part), [(0, end)])
  processes.wait_for_all("certificates")
  for task in tasks:
    record = done.get(task.path) or already_done(task, radii, metas[task.path])
    if record is None:
      raise ValueError(f"{task.path} is missing: all processes must see the same folder {out}.")
    done[task.path] = record
  return finish(setting, tasks, done, times, out)


def count_images(
  job: ImageJob,
  out: Path,
  model: Path | None = None,
  *,
  first: int,
  end: int,
  interval: float = 10.0,
  force: bool = False,
) -> list[Path]:
  """Counts one machine's share of a job's samples, without certifying anything.

  Machines that count other samples of the same job need not know of each other: the noise of
  sample i follows from the seed and i. `merging.merge_images` adds up what they leave. The share
  that holds sample 0 also has the samples that select labels.

  Args:
    job: the configuration of the whole job.
    out: folder for the counts, one file `*.counts.npz` per image, smoothing and set of samples.
    model: file of the network, the same on all machines; trained if it does not exist.
    first: the first sample of this share.
    end: one past its last.
    interval: seconds of sampling that a kill may cost.
    force: replaces counts of other jobs, where they are in the way.

  Returns:
    The files.

  Raises:
    ValueError: configuration, data or files that cannot be used, before anything is written.
    OSError: `out` cannot be written.
  """
  if not 0 <= first < end <= job.samples:
    raise ValueError(
      f"--sample-range must lie in 0:{job.samples}, which is --samples, and not be empty, "
      f"but it is {first}:{end}."
    )
  setting = prepare(job, out, model)
  mine = [task for task in make_tasks(setting, out) if processes.mine(task.number)]
  parts = {"estimation": (first, end)}
  if first == 0:
    parts = {"selection": (0, job.selection_samples), **parts}
  paths = []
  with _progress(len(mine) * checkpoints.num_samples(list(parts.values()))) as progress:
    for task in mine:
      count = _counter(setting, task)
      for part, bounds in parts.items():
        stem = f"{task.path.stem}-{part}-{bounds[0]}-{bounds[1]}"
        paths.append(task.path.with_name(f"{stem}.counts.npz"))
        _count(setting, task, count, part, bounds, paths[-1], progress, interval, force)
  processes.wait_for_all("counts")
  return paths


def prepare(
  job: ImageJob, out: Path, model: Path | None, certifies: checkpoints.Ranges | None = None
) -> Setting:
  """Checks a job and loads what it needs, its network first trained if there is none.

  Args:
    job: the configuration.
    out: folder of the results.
    model: file of the network; found under `out` if None.
    certifies: the samples that results will be of: those of any other job under `out` are refused,
      before anything is done. None: anything may be there.

  Returns:
    The setting.

  Raises:
    OtherResultsError: results of another job would be replaced.
    ValueError: configuration, data or files that cannot be used.
  """
  jobs.check(job)
  asked = {"job": jobs.plain(job), "ranges": [list(bounds) for bounds in certifies or ()]}
  defaults = jobs.plain(jobs.DEFAULTS.get(job.data, ImageJob()))
  if certifies is not None:
    results.refuse_others({out / "summary.json": asked}, defaults)
  test = jobs.load_images(job, "test", job.images)
  num_outputs = math.prod(job.size)
  groups = jobs.output_groups(job)
  localized_noise, isotropic_noise = jobs.localized_noise(job), jobs.isotropic_noise(job)
  plan = planning.samples_needed(isotropic_noise, 0, num_outputs=num_outputs, alpha=job.alpha)
  if job.samples < plan.num_samples:
    raise ValueError(
      f"--samples {job.samples} cannot certify any of {num_outputs} pixels at --alpha {job.alpha}: "
      f"at least {plan.num_samples[0]:.0f} samples are needed."
    )
  network = model or jobs.model_path(job, out)
  if certifies is not None:
    if network.exists():
      asked["model"] = jobs.load_model(job, network)[1]
    images = {out / name: _input(test.images[i]) for i, name in enumerate(test.names)}
    in_the_way = {out / "summary.json": asked} | {
      folder / f"{name}.npz": {**asked, "input": image}
      for folder, image in images.items()
      for name in (LOCALIZED, ISOTROPIC)
    }
    results.refuse_others(in_the_way, defaults)
  if not processes.is_first():
    processes.wait_for_all("network")
  seconds, params, digest = obtain_model(job, out, model)
  if processes.is_first():
    processes.wait_for_all("network")
  localized = Smoothed(
    LOCALIZED,
    localized_noise,
    groups.reshape(-1),
    tuple(dict.fromkeys((job.method, *_COMPARED))),
    jobs.network_windows(job, groups),
  )
  isotropic = Smoothed(
    ISOTROPIC, isotropic_noise, np.zeros(num_outputs, np.int32), ("envelope",), None
  )
  common = {"job": jobs.plain(job), "model": digest, "versions": versions()}
  return Setting(job, test, params, (localized, isotropic), common, seconds)


def make_tasks(setting: Setting, out: Path) -> list[Task]:
  """Every image under every smoothing, in the order in which a job does them."""
  test = setting.test
  return [
    Task(i, name, test.images[i], test.labels[i], smoothed, out / name / f"{smoothed.name}.npz")
    for i, name in enumerate(test.names)
    for smoothed in setting.smoothings
  ]


def sampling_key(job: ImageJob, task: Task, part: str) -> jax.Array:
  """The key that a task's selection or estimation samples are folded into."""
  key = keys.tagged(jax.random.key(job.seed), f"{task.smoothed.name}, {part}")
  return jax.random.fold_in(key, task.number)


def obtain_model(job: ImageJob, out: Path, path: Path | None) -> tuple[float, Any, str]:
  """Loads the job's network, training it first if its file does not exist.

  Returns:
    Seconds of training, the folded network, and the digest of its file.
  """
  path = path or jobs.model_path(job, out)
  seconds = 0.0 if path.exists() else jobs.train(job, path)
  return seconds, *jobs.load_model(job, path)


def job_radii(job: ImageJob, smoothings: tuple[Smoothed, ...]) -> np.ndarray:
  r"""The radii at which a job certifies: its own, or 41 from 0 to where nothing can be certified.

  No output's :math:`\eta` exceeds that of unanimous votes, :math:`\eta_1`. A budget spread over all
  C cells alike, or spent on one cell c, makes every group perceive at least :math:`\eta_1` once

  .. math:: \varepsilon^p \ge \eta_1 \min( \max_g C / \textstyle\sum_c W_{g,c},\;
    \min_c \max_g 1 / W_{g,c} ) .

  Returns:
    float64 [B], rising.
  """
  if job.budgets is not None:
    return np.unique(np.asarray(job.budgets, np.float64))
  farthest = 0.0
  for smoothed in smoothings:
    eta = planning.reachable_eta(
      smoothed.distribution, job.samples, num_outputs=math.prod(job.size), alpha=job.alpha
    )
    weights = smoothed.distribution.weights[0]
    with np.errstate(divide="ignore"):
      spread, spent = 1 / weights.mean(axis=1).min(), 1 / weights.min(axis=0).max()
    reach = (float(eta) * min(spread, spent)) ** (1 / smoothed.distribution.p)
    farthest = max(farthest, reach)
  return np.linspace(0, float(f"{farthest * 1.005:.3g}"), 41)


def certify_task(
  setting: Setting,
  task: Task,
  radii: np.ndarray,
  selection: Votes,
  estimation: Votes,
  meta: Mapping[str, Any],
) -> Record:
  """Certifies an image from its counts, and stores the certificate."""
  job, smoothed, num_classes = setting.job, task.smoothed, len(setting.test.classes)
  special: dict[str, dict[str, Any]] = {"lp": {"bins": job.bins}, "milp": {"gap": job.gap}}
  record = records.make_record(
    smoothed.distribution,
    smoothed.groups,
    selection,
    estimation,
    job.alpha,
    np.where(task.labels < num_classes, task.labels, num_classes).reshape(-1),
    radii,
    {
      method: {"time_limit": job.time_limit, **special.get(method, {})}
      for method in smoothed.methods
    },
    meta,
  )
  if any("interrupted" in certificate.status for certificate in record.certified.values()):
    raise KeyboardInterrupt  # a weaker certificate than asked for: the samples are kept, it is not
  records.save(task.path, record)
  return record


def finish(
  setting: Setting, tasks: Sequence[Task], done: Mapping[Path, Record], times: Times, out: Path
) -> dict[str, Any]:
  """Reports on a job's certificates, by their paths, and writes summary and figures."""
  job, test, (localized, isotropic) = setting.job, setting.test, setting.smoothings
  done_by = {
    smoothed.name: [done[task.path] for task in tasks if task.smoothed.name == smoothed.name]
    for smoothed in setting.smoothings
  }
  with jax.default_matmul_precision(job.precision):
    apply = jobs.NETWORKS[job.network].apply
    predict = jax.jit(jax.vmap(lambda x: apply(setting.params, x).argmax(axis=-1)))
    clean = np.asarray(predict(test.images)).reshape(len(test.names), -1)
  summary = {
    **setting.common,
    "device": describe_devices(),
    "images": list(test.names),
    "ranges": done[tasks[0].path].meta["ranges"],
    "seconds": times._asdict(),
    "base_model": reports.quality(test, clean),
    "majority": reports.majority(test),
    "localized": reports.report(test, done_by[localized.name], average=job.budgets is None),
    "isotropic": reports.report(test, done_by[isotropic.name], average=job.budgets is None),
    "radii": done[tasks[0].path].radii.tolist(),
  }
  if processes.is_first():
    storage.save_json(out / "summary.json", summary)
    for name, record in zip(test.names, done_by[localized.name], strict=True):
      cards.save(out / name, cards.of_record(record, {"device": record.meta["device"]}))
    reports.draw(job, test, localized.distribution, done_by[localized.name], summary, out)
  processes.wait_for_all("summary")
  return summary


def _counter(setting: Setting, task: Task) -> Callable[..., Votes]:
  """(key, num_samples, first_sample) -> votes of a task, compiled: every piece reuses it."""
  count = partial(
    sampling.votes,
    apply=jobs.NETWORKS[setting.job.network].apply,
    params=setting.params,
    x=task.image,
    noise=task.smoothed.distribution,
    groups=task.smoothed.groups,
    num_classes=len(setting.test.classes),
    windows=task.smoothed.windows,
    mesh=processes.local_mesh(),
  )
  with jax.default_matmul_precision(setting.job.precision):
    jax.block_until_ready(count(sampling_key(setting.job, task, PARTS[0]), num_samples=0))
  return count


def _count(
  setting: Setting,
  task: Task,
  count: Callable[..., Votes],
  part: str,
  bounds: tuple[int, int],
  path: Path,
  progress: tqdm,
  interval: float,
  force: bool,
) -> tuple[Votes, float]:
  """Votes of some of a task's selection or estimation samples, and the seconds that they took."""
  if force:
    discard_others(path, manifest(setting, task, part), [bounds])
  key = sampling_key(setting.job, task, part)
  with jax.default_matmul_precision(setting.job.precision):
    return checkpoints.count_in_pieces(
      lambda first, size: count(key, num_samples=size, first_sample=first),
      [bounds],
      path,
      manifest(setting, task, part),
      piece=256 * jax.local_device_count(),
      progress=telling(progress),
      interval=interval,
    )


def manifest(setting: Setting, task: Task, part: str) -> dict[str, Any]:
  """What tells a task's selection or estimation samples from all others, beside their numbers."""
  return {
    **facts(setting, task),
    "image": task.name,
    "smoothing": task.smoothed.name,
    "noise": _digest(task.smoothed.distribution),
    "key": jax.random.key_data(sampling_key(setting.job, task, part)).tolist(),
    "part": part,
  }


def facts(setting: Setting, task: Task) -> dict[str, Any]:
  """What a certificate says about where its counts come from, beside the samples' numbers."""
  return {
    **setting.common,
    "input": _input(task.image),
    "chunk_size": sampling.default_chunk_size(task.image.size),
    "device": jax.local_devices()[0].device_kind,
  }


def _input(image: np.ndarray) -> str:
  return storage.digest({"image": image})


def _digest(distribution: noise.SmoothingDistribution) -> str:
  levels = {f"scale/{i}": part for i, part in enumerate(distribution.parameters)}
  family = np.asarray(distribution.family.name)
  return storage.digest({"family": family, "cells": distribution.cells, **levels})


def _progress(total: int) -> tqdm:
  return tqdm(total=total, desc="sampling", unit="sample", disable=not processes.is_first())


def go_on(progress: tqdm, done: int) -> None:
  """Moves a bar to where an earlier run had left it: what it did does not count for the rate."""
  if progress.disable or not done:
    return
  progress.initial += done
  progress.last_print_n += done
  progress.n += done
  progress.refresh()


def telling(progress: tqdm) -> Callable[[int], None]:
  """What `checkpoints.count_in_pieces` tells of its progress; first, what was done before."""
  told: list[int] = []

  def tell(size: int) -> None:
    if told:
      progress.update(size)
    else:
      go_on(progress, size)
    told.append(size)

  return tell


def discard_others(path: Path, manifest: Mapping[str, Any], ranges: checkpoints.Ranges) -> None:
  """Deletes unfinished samples at `path`, unless they are those that a job would go on with."""
  if not path.exists():
    return
  wanted = json.loads(json.dumps({**manifest, "ranges": ranges}))
  try:
    same = not checkpoints.differences(checkpoints.load(path).manifest, wanted)
  except ValueError:
    same = False
  if not same:
    path.unlink()


def partial_path(path: Path, part: str) -> Path:
  """Where the samples of an unfinished certificate are kept."""
  return path.with_name(f"{path.stem}-{part}.partial.npz")


def already_done(task: Task, radii: np.ndarray, meta: Mapping[str, Any]) -> Record | None:
  """The record of an earlier run of the same job, if it is there and can be believed.

  The device may be another: what was certified elsewhere is not done again here.
  """
  if not task.path.exists():
    return None
  try:
    record = records.load(task.path)
    records.verify(record)
  except ValueError:
    return None
  distribution, methods = task.smoothed.distribution, task.smoothed.methods
  same = (
    set(checkpoints.differences(record.meta, meta)) <= {"device"}
    and record.family == distribution.family.name
    and np.array_equal(record.scales[0], distribution.scale)
    and np.array_equal(record.cells, distribution.cells)
    and np.array_equal(record.radii, radii)
    and set(record.certified) == {f"{part}/{m}" for part in ("all", "correct") for m in methods}
  )
  return record if same else None


def versions() -> dict[str, str]:
  """Versions of Python and of what computes."""
  packages = ("lrs_jax", "jax", "jaxlib", "flax", "numpy", "scipy", "highspy")
  found = {"python": platform.python_version()}
  for package in packages:
    try:
      found[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
      found[package] = "not installed"
  return found


def describe_devices() -> str:
  """The devices that samples are spread over, such as "1 x cpu"."""
  devices = jax.devices()
  return f"{len(devices)} x {devices[0].device_kind}"
