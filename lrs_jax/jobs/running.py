"""Whole jobs: train, count, certify, compare with baselines, report; whatever the task (host)."""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from lrs_jax import keys, storage
from lrs_jax.confidence import corrections, planning
from lrs_jax.jobs import cards, checkpoints, networks, processes, records, reports, results
from lrs_jax.jobs.networks import Obtained
from lrs_jax.jobs.records import Bounds, Record
from lrs_jax.sampling import ClassSums
from lrs_jax.tasks import common, options
from lrs_jax.tasks.task import Adversary, Case, Config, Count, Data, Smoothing, Task

PARTS = ("selection", "estimation")
"""The two sets of samples, each with keys of its own."""

_PIECE = 256
"""Samples of a call, per device: a multiple of any chunk size, which are powers of two."""


class Times(NamedTuple):
  """Seconds; sampling is without compilation."""

  training: float = 0.0
  compilation: float = 0.0
  sampling: float = 0.0
  certificates: float = 0.0


class Item(NamedTuple):
  """One case under one smoothing: what is counted, certified and stored by itself."""

  number: int  # of the case
  case: Case
  smoothing: Smoothing
  adversary: Adversary
  path: Path  # of the certificate


class Setting(NamedTuple):
  """What the items of a job have in common."""

  task: Task
  config: Config
  data: Data
  networks: Mapping[str, Obtained]  # by the smoothing's `network`
  items: Sequence[Item]
  common: Mapping[str, Any]  # task, configuration, versions


def certify(
  task: Task,
  config: Config,
  out: Path,
  model: Path | None = None,
  *,
  interval: float = 10.0,
  force: bool = False,
) -> dict[str, Any]:
  """Runs a whole job and leaves its results under `out`.

  Writes `summary.json`, figures and, in a folder per case, `certificate.npz` (the task's own
  smoothing) with its card and a file for every baseline, such as `isotropic.npz`. What was already
  certified by the same job, network and versions is not done again. Where JAX runs in several
  processes, all call this: they share the folder `out`, cases and smoothings are dealt out to them,
  and the first writes what concerns all.

  Args:
    task: what is certified.
    config: its configuration.
    out: folder for the results.
    model: file of one network for all smoothings, trained there if it does not exist; found under
      `out` if None.
    interval: seconds of sampling that a kill may cost.
    force: replaces results and unfinished samples of other jobs, where they are in the way.

  Returns:
    What `summary.json` holds.

  Raises:
    OtherResultsError: `out` holds results of another job; nothing is done.
    ValueError: configuration, data or files that cannot be used, before anything is written.
    OSError: `out` cannot be written.
  """
  setting = prepare(task, config, out, model, certifies=None if force else [(0, config.samples)])
  ends = {"selection": config.selection_samples, "estimation": config.samples}
  mine = [item for i, item in enumerate(setting.items) if processes.mine(i)]
  times = Times(training=sum(network.seconds for network in setting.networks.values()))
  done: dict[Path, Record] = {}
  with _progress(len(mine) * sum(ends.values())) as progress:
    for item in mine:
      meta = {**facts(setting, item), "ranges": [[0, config.samples]]}
      record = already_done(setting, item, meta)
      if record is None:
        start = time.perf_counter()
        counter = _counter(setting, item)
        compiled, spent = time.perf_counter() - start, 0.0
        sums: list[ClassSums] = []
        for part, end in ends.items():
          path = partial_path(item.path, part)
          found, seconds = _count(
            setting, item, counter, part, (0, end), path, progress, interval, force
          )
          sums, spent = [*sums, found], spent + seconds
        start = time.perf_counter()
        record = certify_item(setting, item, sums, meta)
        seconds = time.perf_counter() - start
        times = Times(*np.add(times, (0.0, compiled, spent, seconds)).tolist())
      else:
        go_on(progress, sum(ends.values()))
      done[item.path] = record
      for part, end in ends.items():
        checkpoints.discard(
          partial_path(item.path, part), manifest(setting, item, part), [(0, end)]
        )
  processes.wait_for_all("certificates")
  for item in setting.items:
    meta = {**facts(setting, item), "ranges": [[0, config.samples]]}
    record = done.get(item.path) or already_done(setting, item, meta)
    if record is None:
      raise ValueError(f"{item.path} is missing: all processes must see the same folder {out}.")
    done[item.path] = record
  return finish(setting, done, times, out)


def count(
  task: Task,
  config: Config,
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
  sample i follows from the seed and i. `merging.merge` adds up what they leave. The share that
  holds sample 0 also has the samples that select labels.

  Args:
    task: what is certified.
    config: the configuration of the whole job.
    out: folder for the counts, one file `*.counts.npz` per case, smoothing and set of samples.
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
  if not 0 <= first < end <= config.samples:
    raise ValueError(
      f"--sample-range must lie in 0:{config.samples}, which is --samples, and not be empty, "
      f"but it is {first}:{end}."
    )
  setting = prepare(task, config, out, model)
  mine = [item for i, item in enumerate(setting.items) if processes.mine(i)]
  parts = {"estimation": (first, end)}
  if first == 0:
    parts = {"selection": (0, config.selection_samples), **parts}
  paths = []
  with _progress(len(mine) * checkpoints.num_samples(list(parts.values()))) as progress:
    for item in mine:
      counter = _counter(setting, item)
      for part, bounds in parts.items():
        stem = f"{item.path.stem}-{part}-{bounds[0]}-{bounds[1]}"
        paths.append(item.path.with_name(f"{stem}.counts.npz"))
        _count(setting, item, counter, part, bounds, paths[-1], progress, interval, force)
  processes.wait_for_all("counts")
  return paths


def prepare(
  task: Task,
  config: Config,
  out: Path,
  model: Path | None,
  certifies: checkpoints.Ranges | None = None,
  trained: Mapping[str, Path] | None = None,
) -> Setting:
  """Checks a job and loads what it needs, its networks first trained if there are none.

  Args:
    task: what is certified.
    config: its configuration.
    out: folder of the results.
    model: file of the network for all smoothings; found under `out` if None.
    certifies: the samples that results will be of: those of any other job under `out` are refused,
      before anything is done. None: anything may be there.
    trained: files of networks that are elsewhere, by name.

  Returns:
    The setting.

  Raises:
    OtherResultsError: results of another job would be replaced.
    ValueError: configuration, data or files that cannot be used.
  """
  check(task, config)
  shared = {"task": task.name, "job": common.plain_config(config), "versions": versions()}
  defaults = common.plain_config(task.data.get(config.data, next(iter(task.data.values()))))
  asked = {
    "task": task.name,
    "job": shared["job"],
    "ranges": [list(bounds) for bounds in certifies or ()],
  }
  if certifies is not None:
    results.refuse_others({out / "summary.json": asked}, defaults)
  data = task.load(config)
  items = items_of(task, config, data, out)
  _check_samples(task, config, items)
  known = dict.fromkeys(item.smoothing.network for item in items)
  # One file for all smoothings holds the network of the first.
  names = {name: items[0].smoothing.network if model else name for name in known}
  paths = {
    name: model or networks.path_of(task.models.network(config, data, name), out)
    for name in dict.fromkeys(names.values())
  } | dict(trained or {})
  if certifies is not None:
    digests = {
      name: networks.load(task, config, data, name, path)[1]
      for name, path in paths.items()
      if path.exists()
    }
    known_by = {item.smoothing.name: names[item.smoothing.network] for item in items}
    there = {name: digests[network] for name, network in known_by.items() if network in digests}
    results.refuse_others({out / "summary.json": {**asked, "model": there}}, defaults)
    for item in items:
      of_item = {**asked, "input": input_digest(item.case)}
      if item.smoothing.name in there:
        of_item["model"] = there[item.smoothing.name]
      results.refuse_others({item.path: of_item}, defaults)
  for note in data.notes:
    tqdm.write(note)
  if not processes.is_first():
    processes.wait_for_all("network")
  found = {name: networks.obtain(task, config, data, name, path) for name, path in paths.items()}
  if processes.is_first():
    processes.wait_for_all("network")
  return Setting(task, config, data, {n: found[names[n]] for n in names}, items, shared)


def check(task: Task, config: Config) -> None:
  """Raises a ValueError that names the first option of a job that cannot be right."""
  if config.data not in task.data:
    raise ValueError(f"--data must be one of {', '.join(task.data)}, but it is {config.data!r}.")
  options.check(config)
  task.check(config)


def items_of(task: Task, config: Config, data: Data, out: Path) -> list[Item]:
  """Every case under every smoothing, in the order in which a job does them."""
  items = []
  for number, case in enumerate(data.cases):
    found = task.smoothings(config, data, case)
    for smoothing, adversary in zip(
      found, task.adversaries(config, data, case, found), strict=True
    ):
      path = out / case.name / f"{smoothing.name}.npz"
      items.append(Item(number, case, smoothing, adversary, path))
  return items


def network_files(
  task: Task, config: Config, out: Path, model: Path | None
) -> list[tuple[str, Path, Data]]:
  """The networks of a job: name, file, and the data that they are for."""
  data = task.load(config)
  known = [item.smoothing.network for item in items_of(task, config, data, out)]
  names = known[:1] if model else list(dict.fromkeys(known))
  return [
    (name, model or networks.path_of(task.models.network(config, data, name), out), data)
    for name in names
  ]


def _check_samples(task: Task, config: Config, items: Sequence[Item]) -> None:
  """Refuses a number of samples with which not even unanimous votes certify anything."""
  for item in items:
    num_outputs = item.smoothing.groups.size
    if not num_outputs:
      continue
    level = corrections.levels(config.alpha, num_outputs, config.k_fwer).alpha[0]
    distribution = item.smoothing.noise
    plan = planning.samples_needed(
      distribution, np.zeros(len(distribution.weights)), num_outputs=1, alpha=float(level)
    )
    needed = int(plan.num_samples.min())
    if config.samples < needed:
      raise ValueError(
        f"--samples {config.samples} cannot certify any of {num_outputs} {task.unit} at --alpha "
        f"{config.alpha}: at least {needed} samples are needed."
      )


def sampling_key(config: Config, item: Item, part: str) -> jax.Array:
  """The key that an item's selection or estimation samples are folded into."""
  key = keys.tagged(jax.random.key(config.seed), f"{item.smoothing.name}, {part}")
  return jax.random.fold_in(key, item.number)


def certify_item(
  setting: Setting, item: Item, sums: Sequence[ClassSums], meta: Mapping[str, Any]
) -> Record:
  """Certifies an item from its sums, and stores the certificate."""
  config = setting.config
  special: Mapping[str, dict[str, Any]] = {"lp": {"bins": config.bins}, "milp": {"gap": config.gap}}
  record = records.make_record(
    setting.task.name,
    item.smoothing,
    sums,
    Bounds(config.alpha, config.k_fwer, config.scores),
    item.adversary,
    truth=item.case.truth,
    counted=item.case.counted,
    methods={
      method: {"time_limit": config.time_limit, **special.get(method, {})}
      for method in ("naive", "lp", "envelope", "milp")
    },
    meta=meta,
  )
  if any("interrupted" in certificate.status for certificate in record.certified.values()):
    raise KeyboardInterrupt  # a weaker certificate than asked for: the samples are kept, it is not
  records.save(item.path, record)
  return record


def finish(
  setting: Setting, done: Mapping[Path, Record], times: Times, out: Path
) -> dict[str, Any]:
  """Reports on a job's certificates, by their paths, and writes summary, cards and figures."""
  task, config, data = setting.task, setting.config, setting.data
  ours = setting.items[0].smoothing.name
  by_name: dict[str, list[Record]] = {}
  for item in setting.items:
    by_name.setdefault(item.smoothing.name, []).append(done[item.path])
  first = by_name[ours][0]
  summary = {
    **setting.common,
    "unit": task.unit,
    "device": describe_devices(),
    "inputs": [case.name for case in data.cases],
    "facts": dict(data.facts),
    "ranges": first.meta["ranges"],
    "seconds": times._asdict(),
    "model": {
      item.smoothing.name: setting.networks[item.smoothing.network].digest for item in setting.items
    },
    "base_model": _clean(setting),
    "majority": reports.majority(data),
    "smoothings": {name: reports.report(task, config, found) for name, found in by_name.items()},
  }
  if processes.is_first():
    storage.save_json(out / "summary.json", summary)
    for item in setting.items:
      if item.smoothing.name == ours:
        record = done[item.path]
        cards.save(item.path.parent, cards.of_record(record, {"device": record.meta["device"]}))
    reports.draw(task, config, data, by_name[ours], summary, out)
  processes.wait_for_all("summary")
  return summary


def _clean(setting: Setting) -> dict[str, Any]:
  """Quality of every smoothing's network without noise, by the smoothing's name."""
  task, config, data = setting.task, setting.config, setting.data
  found: dict[str, Any] = {}
  names = {item.smoothing.name: item.smoothing.network for item in setting.items}
  known: dict[int, Any] = {}
  with jax.default_matmul_precision(config.precision):
    for name, network in names.items():
      params = setting.networks[network].params
      if id(params) not in known:
        predictions = [task.models.predict(config, data, params, case) for case in data.cases]
        known[id(params)] = reports.quality_of_cases(data, predictions)
      found[name] = known[id(params)]
  return found


def _counter(setting: Setting, item: Item) -> Count:
  """The compiled count of an item: every piece reuses it."""
  params = setting.networks[item.smoothing.network].params
  counter = setting.task.counter(setting.config, setting.data, params, item.case, item.smoothing)
  jax.block_until_ready(counter(sampling_key(setting.config, item, PARTS[0]), 0, 0))
  return counter


def _count(
  setting: Setting,
  item: Item,
  counter: Count,
  part: str,
  bounds: tuple[int, int],
  path: Path,
  progress: tqdm,
  interval: float,
  force: bool,
) -> tuple[ClassSums, float]:
  """Sums of some of an item's selection or estimation samples, and the seconds that they took."""
  described = manifest(setting, item, part)
  if force:
    discard_others(path, described, [bounds])
  key = sampling_key(setting.config, item, part)
  return checkpoints.count_in_pieces(
    lambda first, size: counter(key, size, first),
    [bounds],
    path,
    described,
    piece=_PIECE * jax.local_device_count(),
    progress=telling(progress),
    interval=interval,
  )


def manifest(setting: Setting, item: Item, part: str) -> dict[str, Any]:
  """What tells an item's selection or estimation samples from all others, beside their numbers."""
  found = facts(setting, item)
  return {
    **{name: value for name, value in found.items() if name != "keys"},
    "case": item.case.name,
    "noise": common.noise_digest(item.smoothing.noise),
    "key": found["keys"][part],
    "part": part,
  }


def facts(setting: Setting, item: Item) -> dict[str, Any]:
  """What a certificate says about where its sums come from, beside the samples' numbers."""
  return {
    **setting.common,
    "model": setting.networks[item.smoothing.network].digest,
    "input": input_digest(item.case),
    "smoothing": item.smoothing.name,
    "keys": {
      part: jax.random.key_data(sampling_key(setting.config, item, part)).tolist() for part in PARTS
    },
    "chunk_size": setting.task.chunk_size(setting.config, item.case),
    "device": jax.local_devices()[0].device_kind,
  }


def input_digest(case: Case) -> str:
  """SHA-256 of all that a model reads of a case."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(case.x)
  return storage.digest({jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves})


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


def already_done(setting: Setting, item: Item, meta: Mapping[str, Any]) -> Record | None:
  """The record of an earlier run of the same job, if it is there and can be believed.

  The device may be another: what was certified elsewhere is not done again here.
  """
  if not item.path.exists():
    return None
  try:
    record = records.load(item.path)
    records.verify(record, task=setting.task)
  except ValueError:
    return None
  if set(checkpoints.differences(record.meta, meta)) - {"device"}:
    return None
  labelled = item.case.truth is not None
  same = records.is_of(record, item.smoothing, item.adversary, labelled)
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
