"""Whole jobs on images: train, sample, certify, compare with isotropic smoothing, report (host)."""

import hashlib
import json
import math
import platform
import time
from collections.abc import Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from lrs_jax import (
  cards,
  checkpoints,
  jobs,
  noise,
  planning,
  records,
  reports,
  sampling,
  storage,
)
from lrs_jax.jobs import ImageJob
from lrs_jax.models.folding import Folded
from lrs_jax.records import Record

_COMPARED = ("envelope", "lp", "naive")
"""Methods that every job reports beside the one it was asked for."""


class Smoothed(NamedTuple):
  """One way of smoothing a job's network."""

  name: str  # of the files that hold its certificates
  distribution: noise.SmoothingDistribution
  groups: np.ndarray  # int32 [N]
  methods: tuple[str, ...]
  windows: sampling.Windows | None


class Times(NamedTuple):
  """Seconds; sampling is without compilation."""

  training: float
  compilation: float
  sampling: float
  certificates: float


def certify_images(job: ImageJob, out: Path, model: Path | None = None) -> dict[str, Any]:
  """Runs a whole job and leaves its results under `out`.

  Writes `summary.json`, `curves.png`, `noise.png` and, per image, `certificate.npz` (localized)
  with its card, `isotropic.npz` (baseline) and `image.png`. An image that was already certified by
  the same job, network and versions is not done again.

  Args:
    job: the configuration.
    out: folder for the results.
    model: file of the network, trained there if it does not exist; found under `out` if None.

  Returns:
    What `summary.json` holds.

  Raises:
    ValueError: configuration, data or files that cannot be used, before anything is written.
  """
  jobs.check(job)
  test = jobs.load_images(job, "test", job.images)
  num_outputs = math.prod(job.size)
  localized_noise, isotropic_noise = jobs.localized_noise(job), jobs.isotropic_noise(job)
  plan = planning.samples_needed(isotropic_noise, 0, num_outputs=num_outputs, alpha=job.alpha)
  if job.samples < plan.num_samples:
    raise ValueError(
      f"--samples {job.samples} cannot certify any of {num_outputs} pixels at --alpha {job.alpha}: "
      f"at least {plan.num_samples[0]:.0f} samples are needed."
    )
  training_seconds, params, digest = obtain_model(job, out, model)
  out.mkdir(parents=True, exist_ok=True)  # better refused now than after sampling
  localized = Smoothed(
    "certificate",
    localized_noise,
    jobs.output_groups(job).reshape(-1),
    tuple(dict.fromkeys((job.method, *_COMPARED))),
    jobs.network_windows(job, jobs.output_groups(job)),
  )
  isotropic = Smoothed(
    "isotropic", isotropic_noise, np.zeros(num_outputs, np.int32), ("envelope",), None
  )
  radii = job_radii(job, (localized, isotropic))
  common = {"job": _plain(job), "model": digest, "versions": versions()}
  key = jax.random.key(job.seed)
  results: dict[str, list[Record]] = {localized.name: [], isotropic.name: []}
  times = Times(training_seconds, 0.0, 0.0, 0.0)
  total = len(test.names) * len(results) * (job.samples + job.selection_samples)
  with (
    jax.default_matmul_precision(job.precision),
    tqdm(total=total, desc="sampling", unit="sample", mininterval=0.5) as progress,
  ):
    for i, name in enumerate(test.names):
      for j, smoothed in enumerate((localized, isotropic)):
        path = out / name / f"{smoothed.name}.npz"
        meta = {**common, "input": hashlib.sha256(test.images[i].tobytes()).hexdigest()}
        record = _already_done(path, meta, smoothed, radii)
        if record is None:
          record, times = _certify_one(
            jax.random.fold_in(jax.random.fold_in(key, i), j), job, params,
            test.images[i], test.labels[i], smoothed, radii, meta, times, progress, path,
          )  # fmt: skip
        else:
          progress.update(job.samples + job.selection_samples)
        results[smoothed.name].append(record)
  apply = jobs.NETWORKS[job.network].apply
  clean = np.asarray(jax.jit(jax.vmap(lambda x: apply(params, x).argmax(axis=-1)))(test.images))
  summary = {
    **common,
    "device": describe_devices(),
    "images": list(test.names),
    "seconds": times._asdict(),
    "base_model": reports.quality(test, clean.reshape(len(test.names), -1)),
    "localized": reports.report(test, results["certificate"]),
    "isotropic": reports.report(test, results["isotropic"]),
    "radii": radii.tolist(),
  }
  storage.save_json(out / "summary.json", summary)
  for name, record in zip(test.names, results[localized.name], strict=True):
    cards.save(out / name, cards.of_record(record, {"device": summary["device"]}))
  reports.draw(job, test, localized.distribution, results["certificate"], summary, out)
  return summary


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


def _certify_one(
  key: jax.Array,
  job: ImageJob,
  params: Folded,
  image: np.ndarray,
  labels: np.ndarray,
  smoothed: Smoothed,
  radii: np.ndarray,
  meta: Mapping[str, Any],
  times: Times,
  progress: tqdm,
  path: Path,
) -> tuple[Record, Times]:
  key_selection, key_estimation = jax.random.split(key)
  num_classes = params["logits"][1].shape[0]
  count = partial(
    sampling.vote_counts,
    apply=jobs.NETWORKS[job.network].apply,
    params=params,
    x=image,
    noise=smoothed.distribution,
    groups=smoothed.groups,
    num_classes=num_classes,
    windows=smoothed.windows,
  )
  start = time.perf_counter()
  jax.block_until_ready(count(key_selection, num_samples=0))  # compiles; every piece reuses it
  compiled = time.perf_counter()

  def sample(part: str, key: jax.Array, num_samples: int) -> tuple[np.ndarray, float]:
    return checkpoints.count_in_pieces(
      lambda first, size: count(key, num_samples=size, first_sample=first),
      num_samples,
      partial_path(path, part),
      {**meta, "part": part, "chunk_size": sampling.default_chunk_size(image.size)},
      piece=256 * jax.device_count(),
      progress=progress.update,
    )

  selection_counts, selecting = sample("selection", key_selection, job.selection_samples)
  counts, estimating = sample("estimation", key_estimation, job.samples)
  certifying = time.perf_counter()
  special: dict[str, dict[str, Any]] = {"lp": {"bins": job.bins}, "milp": {"gap": job.gap}}
  options = {
    method: {"time_limit": job.time_limit, **special.get(method, {})} for method in smoothed.methods
  }
  truth = np.where(labels < num_classes, labels, num_classes).reshape(-1)
  record = records.make_record(
    smoothed.distribution,
    smoothed.groups,
    selection_counts,
    counts,
    job.alpha,
    truth,
    radii,
    options,
    meta,
  )
  if any("interrupted" in certificate.status for certificate in record.certified.values()):
    raise KeyboardInterrupt  # a weaker certificate than asked for: the samples are kept, it is not
  records.save(path, record)
  for part in ("selection", "estimation"):
    partial_path(path, part).unlink(missing_ok=True)
  done = time.perf_counter()
  times = times._replace(
    compilation=times.compilation + compiled - start,
    sampling=times.sampling + selecting + estimating,
    certificates=times.certificates + done - certifying,
  )
  return record, times


def partial_path(path: Path, part: str) -> Path:
  """Where the samples of an unfinished certificate are kept."""
  return path.with_name(f"{path.stem}-{part}.partial.npz")


def _already_done(
  path: Path, meta: Mapping[str, Any], smoothed: Smoothed, radii: np.ndarray
) -> Record | None:
  """The record of an earlier run of the same job, if it is there and can be believed."""
  if not path.exists():
    return None
  try:
    record = records.load(path)
    records.verify(record)
  except ValueError:
    return None
  distribution = smoothed.distribution
  same = (
    record.meta == meta
    and record.family == distribution.family
    and np.array_equal(record.scales[0], distribution.scale)
    and np.array_equal(record.cells, distribution.cells)
    and np.array_equal(record.radii, radii)
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


def _plain(job: ImageJob) -> dict[str, Any]:
  """A job as it comes back from JSON, without the paths of a machine."""
  return json.loads(json.dumps(job._replace(data_dir=None)._asdict()))
