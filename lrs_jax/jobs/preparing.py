"""What a job has before it counts: checked options, data, smoothings and networks (host)."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from lrs_jax import storage
from lrs_jax.confidence import corrections, planning, statistics
from lrs_jax.jobs import networks, processes, results
from lrs_jax.jobs.checkpoints import Ranges
from lrs_jax.jobs.networks import Obtained
from lrs_jax.tasks import common, options
from lrs_jax.tasks.task import Adversary, Case, Config, Data, Smoothing, Task


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
  out: Path  # folder of the results
  data: Data
  items: Sequence[Item]  # every case under every smoothing, in the order in which they are done
  networks: Mapping[str, Obtained] = {}  # by the smoothing's `network`, once they are there


def prepare(
  task: Task, config: Config, out: Path, model: Path | None, ranges: Ranges | None = None
) -> Setting:
  """Checks a job and loads what it needs, its networks first trained if there are none.

  Before anything is done, results under `out` are refused (`OtherResultsError`) that are not of
  this job and of the samples in `ranges`; None lets anything be there. `model` may be the file of
  one network for all smoothings.
  """
  setting = load(task, config, out, ranges)
  return with_networks(setting, network_files(setting, model), ranges)


def check(task: Task, config: Config) -> None:
  """Raises a ValueError that names the first option of a job that cannot be right."""
  if config.data not in task.data:
    raise ValueError(f"--data must be one of {', '.join(task.data)}, but it is {config.data!r}.")
  options.check(config)
  if config.until is not None and not 0 < config.until[0] <= 1:
    raise ValueError(
      "--until must be PART,RADIUS with a part of the outputs in (0, 1], such as 0.8,0.5, but it "
      f"is {options.shown(config.until)}."
    )
  task.check(config)


def load(task: Task, config: Config, out: Path, ranges: Ranges | None = None) -> Setting:
  """Checks a job's options and what its summary replaces, loads its data, makes its smoothings."""
  check(task, config)
  if ranges is not None:
    refuse_others(out / "summary.json", task, config, ranges)
  data = task.load(config)
  items = []
  for number, case in enumerate(data.cases):
    smoothings = task.smoothings(config, data, case)
    adversaries = task.adversaries(config, data, case, smoothings)
    for smoothing, adversary in zip(smoothings, adversaries, strict=True):
      path = out / case.name / f"{smoothing.name}.npz"
      if config.until is not None and adversary.radii is None:
        raise ValueError(
          f"--until names a radius, but budgets of {task.unit} are numbers of changes."
        )
      items.append(Item(number, case, smoothing, adversary, path))
  return Setting(task, config, out, data, items)


def network_files(setting: Setting, model: Path | None) -> dict[str, Path]:
  """The files of a job's networks, by name; `model` stands for all, as the first smoothing's."""
  task, config, data = setting.task, setting.config, setting.data
  names = list(dict.fromkeys(item.smoothing.network for item in setting.items))
  if model:
    return dict.fromkeys(names[:1], model)
  found = {name: task.models.network(config, data, name) for name in names}
  return {name: networks.path_of(network, setting.out) for name, network in found.items()}


def with_networks(
  setting: Setting, files: Mapping[str, Path], ranges: Ranges | None = None
) -> Setting:
  """The setting from `load` with its networks, of `files` by name; the first stands for any other.

  Before one is trained, what the certificates of `ranges` would replace is checked.
  """
  task, config, data, items = setting.task, setting.config, setting.data, setting.items
  check_samples(setting)
  obtain = functools.partial(networks.obtain, task, config, data)
  found = {name: obtain(name, path) for name, path in files.items() if path.exists()}
  needed = [item.smoothing.network for item in items]
  names = {name: name if name in files else next(iter(files)) for name in needed}

  def refuse_replaced() -> None:
    if ranges is None:
      return
    known = {item.smoothing.name: names[item.smoothing.network] for item in items}
    digests = {key: found[name].digest for key, name in known.items() if name in found}
    refuse_others(setting.out / "summary.json", task, config, ranges, model=digests)
    for item in items:
      facts, model = {"input": input_digest(item.case)}, digests.get(item.smoothing.name)
      facts |= {} if model is None else {"model": model}
      refuse_others(item.path, task, config, ranges, **facts)

  refuse_replaced()
  trained = set(files) - set(found)
  for note in data.notes:
    tqdm.write(note)
  if not processes.is_first():
    processes.wait_for_all("network")
  found |= {name: obtain(name, path) for name, path in files.items() if name not in found}
  if processes.is_first():
    processes.wait_for_all("network")
  if trained:
    refuse_replaced()  # what was trained just now may be another than theirs
  return setting._replace(networks={name: found[file] for name, file in names.items()})


def refuse_others(path: Path, task: Task, config: Config, ranges: Ranges, **facts: Any) -> None:
  """Raises an `OtherResultsError` if a file holds results, but not of this job and these facts."""
  job, defaults = (common.plain_config(one) for one in (config, task.data[config.data]))
  asked = {"task": task.name, "job": job, **facts}
  if config.until is None:  # else an input decides how many samples it takes
    asked["ranges"] = [list(bounds) for bounds in ranges]
  results.refuse_others(path, asked, defaults)


def check_samples(setting: Setting) -> None:
  """Refuses samples with which not even unanimous votes certify anything, and wrong statistics."""
  config = setting.config
  for item in setting.items:
    statistics.check(config.scores, item.smoothing.noise)
    num_outputs, distribution = item.smoothing.groups.size, item.smoothing.noise
    if not num_outputs:
      continue
    alpha = config.alpha / len(common.looks(config))
    level = float(corrections.levels(alpha, num_outputs, config.k_fwer).alpha[0])
    nothing = np.zeros(len(distribution.weights))
    plan = planning.samples_needed(distribution, nothing, num_outputs=1, alpha=level)
    needed = int(plan.num_samples.min())
    if config.samples < needed:
      raise ValueError(
        f"--samples {config.samples} cannot certify any of {num_outputs} {setting.task.unit} at "
        f"--alpha {config.alpha}: at least {needed} samples are needed."
      )


def input_digest(case: Case) -> str:
  """SHA-256 of all that a model reads of a case."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(case.x)
  return storage.digest({jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves})
