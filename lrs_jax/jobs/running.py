"""Whole jobs: train, count, certify, compare with baselines, report; whatever the task (host)."""

import collections
import functools
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from lrs_jax import keys, noise, storage
from lrs_jax.jobs import (
  cards,
  certifying,
  checkpoints,
  claims,
  machines,
  page,
  preparing,
  processes,
  records,
  reports,
)
from lrs_jax.jobs.certifying import Begun
from lrs_jax.jobs.networks import Obtained
from lrs_jax.jobs.preparing import Item, Setting
from lrs_jax.jobs.records import Record
from lrs_jax.sampling import ClassSums
from lrs_jax.tasks import common, options
from lrs_jax.tasks.task import Adversary, Config, Count, Task

PARTS = ("selection", "estimation")
"""The two sets of samples, each with keys of its own."""

SECONDS = ("training", "compilation", "sampling", "certificates")
"""What a job takes time for: sampling without compilation, certificates as far as it waits."""


class Run(NamedTuple):
  """What a process counts of a job."""

  setting: Setting
  items: Sequence[Sequence[Item]]  # that are dealt to the process, by the samples they share
  checked: set[str]  # networks that are what certificates assume
  parts: Mapping[str, tuple[int, int]]  # the samples of every part
  file: str  # pattern of the names of an item's files
  seconds: dict[str, float]  # spent so far
  progress: tqdm
  interval: float  # seconds of sampling that a kill may cost
  force: bool  # replaces samples of other jobs


def certify(
  task: Task,
  config: Config,
  out: Path,
  model: Path | None = None,
  *,
  interval: float = 10.0,
  solvers: int | None = 0,
  force: bool = False,
) -> dict[str, Any]:
  """Runs a whole job and leaves its results under `out`; returns what `summary.json` holds.

  Writes `summary.json`, figures and, in a folder per case, `certificate.npz` (the task's own
  smoothing) with its card and a file for every baseline, such as `isotropic.npz`. What was already
  certified by the same job, network and versions is not done again. After `processes.start` all
  processes call this: they share the folder `out`, cases and smoothings are dealt out to them, and
  the first writes what concerns all.

  Args:
    task: what is certified.
    config: its configuration.
    out: folder for the results.
    model: file of one network for all smoothings, trained there if it does not exist; found under
      `out` if None.
    interval: seconds of sampling that a kill may cost.
    solvers: processes that certify inputs while this one samples the next, see
      `certifying.solvers`; None: as many as are worth it.
    force: replaces results and unfinished samples of other jobs, where they are in the way.

  Raises:
    OtherResultsError: `out` holds results of another job; nothing is done.
    FolderInUseError: another job runs in `out`; nothing is done.
    ValueError: configuration, data or files that cannot be used, before anything is written.
    OSError: `out` cannot be written.
  """
  with claims.held(out, task, config, model):
    every_sample = [(0, config.samples)]
    setting = preparing.prepare(task, config, out, model, None if force else every_sample)
    ranges = [[0, config.samples]]
    metas = {item.path: facts(setting, item) | told(item, ranges) for item in setting.items}
    parts = {"selection": (0, config.selection_samples), "estimation": (0, config.samples)}
    run = _start(setting, parts, "{stem}-{part}.partial.npz", interval, force)
    number = certifying.number_of_solvers(setting, solvers)
    done: dict[Path, Record] = {}
    with certifying.solvers(number) as solve:
      waiting: collections.deque[Begun] = collections.deque()
      with run.progress:
        for shared in run.items:
          found = {item.path: already_done(setting, item, metas[item.path]) for item in shared}
          done |= {path: record for path, record in found.items() if record is not None}
          missing = [item for item in shared if item.path not in done]
          if not missing:
            _go_on(run.progress, checkpoints.num_samples(list(parts.values())))
            _discard(run, shared[0])
            continue
          sums = _count_item(run, shared[0])
          start = time.perf_counter()
          drew = {
            "ranges": [[0, int(sums[1].num_samples)]],
            "processor": _counted_by(run, shared[0]),
          }
          told_of = [metas[item.path] | drew for item in missing]
          waiting.append(certifying.begin(setting, missing, sums, told_of, solve))
          done |= _keep(run, certifying.stored(waiting, number))
          run.seconds["certificates"] += time.perf_counter() - start
      if waiting:
        start = time.perf_counter()
        done |= _keep(run, tqdm(certifying.stored(waiting), "certificates", len(waiting)))
        run.seconds["certificates"] += time.perf_counter() - start
    processes.wait_for_all("certificates")
    for item in setting.items:
      record = done.get(item.path) or already_done(setting, item, metas[item.path])
      if record is None:
        raise ValueError(f"{item.path} is missing: all processes must see the same folder {out}.")
      done[item.path] = record
    return finish(setting, done, run.seconds)


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
  """Counts one machine's share of a job's samples, `first` to `end` - 1, and certifies nothing.

  Machines that count other samples of the same job need not know of each other: the noise of
  sample i follows from the seed and i. `merging.merge` adds up what they leave, the files under
  `out` that are returned: one `*.counts.npz` per case, smoothing and set of samples. The share that
  holds sample 0 also has the samples that select labels. All other arguments, and errors, are as of
  `certify`; the network must be the same on all machines.
  """
  if config.until is not None:
    raise ValueError("--until looks at all samples so far: it cannot go with --sample-range.")
  if not 0 <= first < end <= config.samples:
    raise ValueError(
      f"--sample-range must lie in 0:{config.samples}, which is --samples, and not be empty, "
      f"but it is {first}:{end}."
    )
  with claims.held(out, task, config, model):
    setting = preparing.prepare(task, config, out, model)
    parts = {"estimation": (first, end)}
    if first == 0:
      parts = {"selection": (0, config.selection_samples), **parts}
    run = _start(setting, parts, "{stem}-{part}-{first}-{end}.counts.npz", interval, force)
    with run.progress:
      for shared in run.items:
        _count_item(run, shared[0])
    processes.wait_for_all("counts")
    return [_file(run, shared[0], part) for shared in run.items for part in parts]


def _start(
  setting: Setting, parts: Mapping[str, tuple[int, int]], file: str, interval: float, force: bool
) -> Run:
  """What this process is to count, and a bar that shows how far it is."""
  sharing: dict[tuple[int, str], list[Item]] = {}
  for item in setting.items:
    sharing.setdefault((item.number, item.smoothing.sampled), []).append(item)
  items = [shared for i, shared in enumerate(sharing.values()) if processes.mine(i)]
  total = len(items) * checkpoints.num_samples(list(parts.values()))
  progress = tqdm(total=total, desc="sampling", unit="sample", disable=not processes.is_first())
  training = sum(network.seconds for network in setting.networks.values())
  seconds = dict.fromkeys(SECONDS, 0.0) | {"training": training}
  return Run(setting, items, set(), parts, file, seconds, progress, interval, force)


def _file(run: Run, item: Item, part: str) -> Path:
  (first, end), stem = run.parts[part], item.smoothing.sampled
  return item.path.with_name(run.file.format(stem=stem, part=part, first=first, end=end))


def _count_item(run: Run, item: Item) -> list[ClassSums]:
  """Sums of an item's samples of every part."""
  setting, start = run.setting, time.perf_counter()
  params = setting.networks[item.smoothing.network].params
  if setting.task.check_network is not None and item.smoothing.network not in run.checked:
    setting.task.check_network(setting.config, setting.data, params)
    run.checked.add(item.smoothing.network)
  counter = setting.task.counter(setting.config, setting.data, params, item.case, item.smoothing)
  jax.block_until_ready(counter(sampling_key(setting.config, item, PARTS[0]), 0, 0))  # compiles
  run.seconds["compilation"] += time.perf_counter() - start
  found: list[ClassSums] = []
  for part in run.parts:
    found.append(_count(run, item, counter, part, found))
  return found


def _count(
  run: Run, item: Item, counter: Count, part: str, before: Sequence[ClassSums]
) -> ClassSums:
  """Sums of an item's selection or estimation samples; `before` are those of selection, if any."""
  path, ranges = _file(run, item, part), [run.parts[part]]
  described = manifest(run.setting, item, part)
  if run.force and not checkpoints.holds(path, described, ranges):
    path.unlink(missing_ok=True)
  key = sampling_key(run.setting.config, item, part)
  sums, seconds = checkpoints.count_in_pieces(
    lambda first, size: counter(key, size, first),
    ranges,
    path,
    described,
    piece=machines.piece(described["chunk_size"]),
    progress=_telling(run.progress),
    interval=run.interval,
    looks=common.looks(run.setting.config)[:-1] if before else (),
    enough=lambda sums: _enough(run.setting, item, [*before, sums]),
  )
  _go_on(run.progress, checkpoints.num_samples(ranges) - int(sums.num_samples))
  run.seconds["sampling"] += seconds
  return sums


def _keep(run: Run, stored: Iterable[tuple[Item, dict[Path, Record]]]) -> dict[Path, Record]:
  """Records by their paths, instead of their samples."""
  done: dict[Path, Record] = {}
  for item, found in stored:
    done |= found
    _discard(run, item)
  return done


def _discard(run: Run, item: Item) -> None:
  for part, bounds in run.parts.items():
    file, described = _file(run, item, part), manifest(run.setting, item, part)
    checkpoints.discard(file, described, [bounds])


def _counted_by(run: Run, item: Item) -> str:
  """The processors that took an item's samples, in this run and before it was stopped."""
  files = [_file(run, item, part) for part in run.parts]
  return checkpoints.processors(*(checkpoints.load(file).manifest for file in files))


def _enough(setting: Setting, item: Item, sums: Sequence[ClassSums]) -> bool:
  """Whether so many of an item's outputs are certified as --until says, whatever their labels."""
  part, radius = setting.config.until
  budgets = noise.budgets_from_radii(np.array([radius]), item.smoothing.noise.p)[:, None]
  (found,) = certifying.record_of(
    setting,
    item._replace(
      smoothing=item.smoothing._replace(certificates=("all/envelope",)),
      adversary=Adversary(budgets, np.array([radius])),
    ),
    sums,
    {},
  ).certified.values()
  return found.certified[0] >= part * found.targets.sum()


def sampling_key(config: Config, item: Item, part: str) -> jax.Array:
  """The key that an item's selection or estimation samples are folded into."""
  key = keys.tagged(jax.random.key(config.seed), f"{item.smoothing.sampled}, {part}")
  return jax.random.fold_in(key, item.number)


def finish(
  setting: Setting, done: Mapping[Path, Record], seconds: Mapping[str, float]
) -> dict[str, Any]:
  """Reports on a job's certificates, by their paths, and writes summary, cards and figures."""
  task, config, data, out = setting.task, setting.config, setting.data, setting.out
  ours = setting.items[0].smoothing.name
  by_name: dict[str, list[Record]] = {}
  of_smoothing: dict[str, Obtained] = {}
  for item in setting.items:
    by_name.setdefault(item.smoothing.name, []).append(done[item.path])
    if setting.networks:  # else it was counted elsewhere
      of_smoothing[item.smoothing.name] = setting.networks[item.smoothing.network]
  summary = {
    **common_facts(setting),
    "unit": task.unit,
    "device": machines.describe_devices(),
    "inputs": [case.name for case in data.cases],
    "facts": dict(data.facts),
    "ranges": done[setting.items[0].path].meta["ranges"] if config.until is None else None,
    "seconds": dict(seconds),
    "model": {name: network.digest for name, network in of_smoothing.items()},
    "base_model": _without_noise(setting, of_smoothing),
    "majority": reports.majority(data),
    "smoothings": {name: reports.report(task, config, found) for name, found in by_name.items()},
  }
  if processes.is_first():
    storage.save_json(out / "summary.json", summary)
    storage.save_text(out / "curves.csv", reports.curves_csv(summary))
    storage.save_text(out / "job.toml", options.to_toml(summary["job"]))
    for item in setting.items:
      if item.smoothing.name == ours:
        record = done[item.path]
        context = {name: told for name, told in record.meta.items() if name == "device"}
        known = {task.name: task}
        cards.save(item.path.parent, cards.of_record(record, context, known=known))
    reports.draw(task, config, data, by_name[ours], summary, out)
    page.save(out / "report.html", task, config, data, by_name[ours], summary)
  processes.wait_for_all("summary")
  return summary


def _without_noise(setting: Setting, networks: Mapping[str, Obtained]) -> dict[str, Any]:
  """Quality of networks that nothing is added for, each evaluated once."""
  config, data, known = setting.config, setting.data, {}
  predict = functools.partial(setting.task.models.predict, config, data)
  with jax.default_matmul_precision(config.precision):
    for digest, params in {found.digest: found.params for found in networks.values()}.items():
      predictions = [predict(params, case) for case in data.cases]
      known[digest] = reports.quality_of_cases(data, predictions)
  return {name: known[network.digest] for name, network in networks.items()}


def manifest(setting: Setting, item: Item, part: str) -> dict[str, Any]:
  """What tells an item's selection or estimation samples from all others, beside their numbers."""
  found = facts(setting, item)
  key, (noise, _) = found.pop("keys")[part], item.smoothing.drawn
  drew = {"smoothing": item.smoothing.sampled, "noise": common.noise_digest(noise), "key": key}
  return {**found, **drew, "case": item.case.name, "part": part}


def facts(setting: Setting, item: Item) -> dict[str, Any]:
  """What a certificate says about where its sums come from, beside the samples' numbers."""
  drew = {part: sampling_key(setting.config, item, part) for part in PARTS}
  return {
    **common_facts(setting),
    "model": setting.networks[item.smoothing.network].digest,
    "input": preparing.input_digest(item.case),
    "keys": {part: jax.random.key_data(key).tolist() for part, key in drew.items()},
    "chunk_size": setting.task.chunk_size(setting.config, item.case),
    "device": jax.local_devices()[0].device_kind,
    "processor": machines.processor(),
  }


def told(item: Item, ranges: Sequence[Sequence[int]]) -> dict[str, Any]:
  """What a certificate says of itself, whoever else takes the same samples, and their numbers."""
  smoothing = item.smoothing
  words = {"smoothing": smoothing.name, "title": smoothing.title, "view": smoothing.view}
  return {**{name: text for name, text in words.items() if text}, "ranges": ranges}


def common_facts(setting: Setting) -> dict[str, Any]:
  """What a summary and all certificates say of their job."""
  job = common.plain_config(setting.config)
  return {"task": setting.task.name, "job": job, "versions": machines.versions()}


def _go_on(progress: tqdm, done: int) -> None:
  """Moves a bar to where an earlier run had left it: what it did does not count for the rate."""
  if done and not progress.disable:
    progress.initial += done
    progress.last_print_n += done
    progress.n += done
    progress.refresh()


def _telling(progress: tqdm) -> Callable[[int], Any]:
  """What `checkpoints.count_in_pieces` tells of its progress; first, what was done before."""
  before: Callable[[int], Any] = functools.partial(_go_on, progress)
  tellers = itertools.chain([before], itertools.repeat(progress.update))
  return lambda size: next(tellers)(size)


def already_done(setting: Setting, item: Item, meta: Mapping[str, Any]) -> Record | None:
  """The record of an earlier run of the same job, if it is there and can be believed.

  Device and processor may be others: what was certified elsewhere is not done again here.
  """
  try:
    record = records.load(item.path)
    records.verify(record, task=setting.task)
  except ValueError:
    return None
  others = set(checkpoints.differences(record.meta, meta)) - {"device", "processor"}
  if setting.config.until is not None:  # `verify` has checked how many samples there may be
    others -= {"ranges"}
  made = item.smoothing, item.adversary, item.case.truth is not None
  return record if not others and records.is_of(record, *made) else None
