"""The networks of a job: trained once, stored under a name that says what decides them (host)."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.traverse_util
import jax

from lrs_jax import keys, storage
from lrs_jax.tasks import common, options
from lrs_jax.tasks.task import Config, Data, Network, Task


class Obtained(NamedTuple):
  """A network that is there."""

  params: Any  # as the task counts with
  digest: str  # SHA-256 of its variables
  seconds: float  # of training; 0 if it was trained before


def path_of(network: Network, out: Path) -> Path:
  """Where a network lies unless the user says otherwise: named by what decides it."""
  digest = common.digest_of([network.options, network.digest])
  return out / "models" / f"{network.architecture}-{digest}.npz"


def obtain(task: Task, config: Config, data: Data, name: str, path: Path) -> Obtained:
  """Loads the network `name` (see `Smoothing.network`), first trained if there is no such file.

  Raises:
    ValueError: a file that is no network, or one trained by another configuration.
  """
  seconds = 0.0 if path.exists() else _train(task, config, data, name, path)
  arrays = storage.load_arrays(path)
  try:
    if "meta" not in arrays:
      raise ValueError("it has no array `meta`.")
    meta = storage.from_json_array(arrays.pop("meta"))
  except ValueError as error:
    raise ValueError(f"{path} is not a network stored by lrs-jax train: {error}") from None
  trained = meta.get("network") if isinstance(meta, Mapping) else None
  if not isinstance(trained, Mapping) or meta.get("task") != task.name:
    raise ValueError(f"{path} holds no network for {task.name}.")
  separators = {field: option.separator for field, (_, option) in options.of(config).items()}
  for field, value in task.models.network(config, data, name).options.items():
    if trained.get(field) != value and field != "seed":
      separator = separators.get(field, ",")
      there, here = (options.shown(said, separator) for said in (trained.get(field), value))
      raise ValueError(
        f"{path} was trained with {options.flag(field)} {there}, but this job has {here}: give the "
        "same, or another --model."
      )
  variables = common.variables_of(path, arrays, task.models.shapes(config, data))
  return Obtained(task.models.finish(config, data, variables), storage.digest(arrays), seconds)


def _train(task: Task, config: Config, data: Data, name: str, path: Path) -> float:
  start = time.perf_counter()
  path.parent.mkdir(parents=True, exist_ok=True)  # better refused now than after training
  unfinished = path.with_name(f"{path.stem}.partial.npz")
  trained = task.models.network(config, data, name).options
  key = keys.tagged(jax.random.key(config.seed), f"{name}, training" if name else "training")
  variables, facts = task.models.train(key, config, data, name, unfinished, trained)
  arrays = flax.traverse_util.flatten_dict(jax.device_get(variables), sep="/")
  meta = {"task": task.name, "network": trained, **facts}
  storage.save_arrays(path, {**arrays, "meta": storage.json_array(meta)})
  unfinished.unlink(missing_ok=True)
  return time.perf_counter() - start
