r"""Draws samples of a finished job again, and compares their votes with the stored ones (host).

The noise of sample i follows from the seed and i, so that anybody who has the network and the
input can draw it again. Of the S samples that a record counts, a block of n at a random place is
drawn again. If the counts are true, the r votes of an output for its label in the block are as if
drawn without replacement from the S of which K are for it:

.. math:: P[R \le r] = \sum_{j \le r} \binom{K}{j} \binom{S - K}{n - j} \Big/ \binom{S}{n} .

Where this is below `LEVEL` / 2N for one of N outputs, of the samples that select or that bound, or
where counts of the block exceed those of all samples, or those of the other S - n would have to be
more than there are, the counts are not those of these samples. If all are drawn again, n = S,
counts must be equal.

Another device may round otherwise, and let near ties fall otherwise. There the block is compared
as if it were of other samples than the stored ones, with K + r of S + n (Fisher's exact test),
which asks for more before it refuses.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import scipy

from lrs_jax import storage
from lrs_jax.jobs import checkpoints, networks, preparing, records, running
from lrs_jax.jobs.checkpoints import Ranges
from lrs_jax.jobs.preparing import Item, Setting
from lrs_jax.jobs.records import Record
from lrs_jax.sampling import ClassSums
from lrs_jax.tasks.task import Count, Task

LEVEL = 1e-6
"""The probability that a true record is refused, at most."""


class Source(NamedTuple):
  """Where samples can be drawn from again."""

  setting: Setting
  item: Item
  same: bool  # device, processor, versions and chunks are those of the record


def resample(
  path: Path,
  num_samples: int,
  known: Mapping[str, Task],
  model: Path | None = None,
  data_dir: str | None = None,
) -> str:
  """Draws `num_samples` of every part of a record's samples again; what was found, in words.

  Args:
    path: a certificate in the folder of its job, which has been verified.
    num_samples: n, of the samples that bound, and of those that select; all if it is more.
    known: tasks by their names.
    model: file of the network; the one in the job's folder if None.
    data_dir: folder of the data.

  Raises:
    ValueError: the network, the input or the keys are not those that the record names, or its
      counts are not those of its samples.
  """
  if num_samples < 1:
    raise ValueError(f"--resample must be at least 1, but it is {num_samples}.")
  record = records.load(path)
  setting, item, same = _source(path, record, known, model, data_dir)
  counter, told = _counter(setting, item), []
  for part in running.PARTS:
    stored: ClassSums = getattr(record, part)
    total, chunk = int(stored.num_samples), setting.task.chunk_size(setting.config, item.case)
    size = min(num_samples, total)
    start = secrets.randbelow((total - size) // chunk + 1) * chunk
    ranges = record.meta.get("ranges") if part == "estimation" else None
    key, pieces = (
      running.sampling_key(setting.config, item, part),
      block(ranges or [(0, total)], start, size),
    )
    sums = [jax.device_get(counter(key, number, first)) for first, number in pieces]
    drawn = jax.tree.map(lambda *parts: np.sum(parts, axis=0), *sums)
    compare(part, stored, drawn, record.base.labels, exact=same)
    told.append(f"{size} of {total} {part} samples")
  if same and num_samples >= total:
    return f"drawn again: {', '.join(told)}, whose counts are the stored ones"
  how = "" if same else ", as well as can be seen on another device, processor or version"
  share = 100 * found_for_sure(size, total, same)
  return (
    f"drawn again: {', '.join(told)}, which agree with the stored counts{how}; an output whose "
    f"votes were made up to be unanimous, but are not in {share:.2g} % of the samples, would have "
    "been found with probability 99 %"
  )


def found_for_sure(size: int, total: int, same: bool) -> float:
  """Part of the samples in which a vote for the label must be made up to be found at 99 %.

  Of an output that is stored as unanimous, by `size` samples of `total`. On the same device one
  other vote shows it: :math:`(1 - p)^n = 0.01`. Else so many are needed that Fisher's test refuses
  it among a million outputs.

  Example:
    >>> f"{found_for_sure(100, 1000, True):.3f}, {found_for_sure(100, 1000, False):.3f}"
    '0.045, 0.204'
  """
  if same:
    return 1 - 0.01 ** (1 / size)
  others = np.arange(size + 1)
  p_value = scipy.stats.hypergeom.cdf(size - others, total + size, total + size - others, size)
  needed = int(np.argmax(p_value < LEVEL / 2e6)) if (p_value < LEVEL / 2e6).any() else size
  return float(scipy.stats.beta.ppf(0.99, needed, size - needed + 1)) if needed < size else 1.0


def block(ranges: Ranges, start: int, size: int) -> list[tuple[int, int]]:
  """(first sample, number of samples) of the samples start, ..., start + size - 1 of some ranges.

  Example:
    >>> block([(0, 10), (20, 30)], 8, 5)
    [(8, 2), (20, 3)]
  """
  found, before = [], 0
  for first, end in ranges:
    low, high = max(start - before, 0), min(start + size - before, end - first)
    found += [(first + low, high - low)] if high > low else []
    before += end - first
  return found


def compare(
  part: str, stored: ClassSums, drawn: ClassSums, labels: np.ndarray, *, exact: bool
) -> None:
  """Raises a ValueError unless sums of some samples can be a part of stored ones.

  Args:
    part: "selection" or "estimation", for messages.
    stored: of S samples.
    drawn: of n of them.
    labels: int [N], whose votes nobody should have raised.
    exact: whether votes must be the very same; else they may be others where ties are near.

  Example:
    >>> of = lambda votes, n: ClassSums(np.array([votes]), None, None, np.asarray(n))
    >>> compare("estimation", of([90, 10], 100), of([8, 2], 10), np.array([0]), exact=True)
    >>> compare("estimation", of([99, 1], 100), of([8, 2], 10), np.array([0]), exact=True)
    Traceback (most recent call last):
    ...
    ValueError: `estimation/votes` are not those of its samples: of output 0, class 1, 2 in 10...
  """
  total, size = int(stored.num_samples), int(drawn.num_samples)
  unit = {"votes": 1, "scores": 255, "squares": 255**2}
  for name in unit if exact else ():
    there, here = getattr(stored, name), getattr(drawn, name)
    if there is None or here is None:
      continue
    rest = np.asarray(there, np.int64) - np.asarray(here, np.int64)
    wrong = (rest < 0) | (rest > (total - size) * unit[name])
    if wrong.any():
      n, k = np.argwhere(rest < 0 if (rest < 0).any() else wrong)[0].tolist()
      raise ValueError(
        f"`{part}/{name}` are not those of its samples: of output {n}, class {k}, {here[n, k]} in "
        f"{size} of them that were drawn again, but {there[n, k]} in all {total}."
      )
  votes, again = (
    np.take_along_axis(np.asarray(of.votes, np.int64), labels[:, None], axis=1)[:, 0]
    for of in (stored, drawn)
  )
  among, marked = (total, votes) if exact else (total + size, votes + again)
  p_value = np.ones(labels.shape)
  if size:
    p_value = scipy.stats.hypergeom.cdf(again, among, marked, size)
  if labels.size and p_value.min() < LEVEL / (2 * labels.size):
    n = int(p_value.argmin())
    raise ValueError(
      f"`{part}/votes` are not those of its samples: of output {n}, {again[n]} of {size} that were "
      f"drawn again are for its label, class {labels[n]}, but {votes[n]} of all {total}; such a "
      f"difference has probability {p_value[n]:.1e}."
    )


def _source(
  path: Path,
  record: Record,
  known: Mapping[str, Task],
  model: Path | None,
  data_dir: str | None,
) -> Source:
  """The network, the input and the noise of a record, if they are those that it names."""
  task = known.get(record.task)
  if task is None or not records.is_known(record, task) or "keys" not in record.meta:
    raise ValueError(
      f"samples of task {storage.shortened(record.task)} cannot be drawn again here: its options "
      "are not those of a task that is known, or they were counted elsewhere."
    )
  config = storage.from_plain(type(next(iter(task.data.values()))), record.meta["job"])
  config = config._replace(data_dir=data_dir)
  if getattr(config, "graph", None) is not None:  # a record has its name alone
    config = config._replace(graph=str(Path(data_dir or ".") / config.graph))
  setting = preparing.load(task, config, path.absolute().parent.parent)
  name = path.absolute().parent.name
  items = [
    item
    for item in setting.items
    if (item.case.name, item.smoothing.name) == (name, record.smoothing.name)
  ]
  if not items:
    raise ValueError(f"the job has no input {name!r} with smoothing {record.smoothing.name!r}.")
  (item,) = items
  if not records.is_of(record, item.smoothing, item.adversary, item.case.truth is not None):
    raise ValueError("its noise, groups, budgets or certificates are not those of its job.")
  files = preparing.network_files(setting, model)
  network = item.smoothing.network if item.smoothing.network in files else next(iter(files))
  if not files[network].exists():
    raise ValueError(f"found no network at {files[network]}: give its --model.")
  found = networks.obtain(task, config, setting.data, network, files[network])
  setting = setting._replace(networks={item.smoothing.network: found})
  facts = running.facts(setting, item)
  differing = set(checkpoints.differences({name: record.meta.get(name) for name in facts}, facts))
  wrong = sorted(name for name in differing if name.partition(".")[0] in ("model", "input", "keys"))
  if wrong:
    raise ValueError(f"what is here is not what it was made from: {', '.join(wrong)} differ.")
  truth, counted = item.case.truth, item.case.counted
  if truth is not None and not np.array_equal(record.truth, np.asarray(truth).reshape(-1)):
    raise ValueError("its labels, `truth`, are not those of the data.")
  if not np.array_equal(
    record.counted, np.ones_like(record.counted) if counted is None else counted
  ):
    raise ValueError("the outputs that are `counted` are not those of the data.")
  rounding = {"device", "chunk_size", "versions.jax", "versions.jaxlib"}
  if facts["device"] == "cpu":  # whatever processor that is
    rounding |= {"processor"}
  return Source(setting, item, not differing & rounding)


def _counter(setting: Setting, item: Item) -> Count:
  """What counts an item's samples, once its network is what certificates assume."""
  params = setting.networks[item.smoothing.network].params
  if setting.task.check_network is not None:
    setting.task.check_network(setting.config, setting.data, params)
  return setting.task.counter(setting.config, setting.data, params, item.case, item.smoothing)
