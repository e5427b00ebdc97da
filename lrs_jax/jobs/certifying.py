"""The certificates of what was counted, also while the next input is sampled (host).

A linear program and a search for its integral optimum take one core, and minutes if there are many
outputs. Other processes can do them, several at a time, as all that they need is arrays. They find
the same, but that "milp" looks for attacks by the clock, and may end elsewhere within its gap. A
process that is lost costs time only: its certificates are made here again.
"""

import collections
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from tqdm import tqdm

from lrs_jax import collective
from lrs_jax.jobs import machines, processes, records
from lrs_jax.jobs.preparing import Item, Setting
from lrs_jax.jobs.records import Bounds, Record
from lrs_jax.sampling import ClassSums
from lrs_jax.tasks import common

MANY = {"milp": 1000, "lp": 4000}
"""Outputs of an input that take a method so long that other processes, seconds to start, pay."""

MOST = 8
"""Processes that are started unless more are asked for: each takes 250 MB."""

Certify = Callable[..., Future]
"""`collective.certify`, of which only a promise is returned."""


class Begun(NamedTuple):
  """Items of the same samples whose certificates are being made."""

  items: Sequence[Item]
  records: Sequence[Record]  # `certified` holds futures
  again: Sequence[Callable[[], Record]]  # makes all of a record here


def begin(
  setting: Setting,
  items: Sequence[Item],
  sums: Sequence[ClassSums],
  metas: Sequence[Mapping[str, Any]],
  certify: Certify,
) -> Begun:
  """Has certificates of items made from the sums that they share, by what `solvers` gives."""
  make = [
    partial(record_of, setting, item, sums, meta) for item, meta in zip(items, metas, strict=True)
  ]
  return Begun(items, [of(certify=certify) for of in make], make)


def stored(
  waiting: collections.deque[Begun], most: int = 0
) -> Iterator[tuple[Item, dict[Path, Record]]]:
  """Stores certificates that are there, in turn, and waits while more than `most` are not.

  Yields the first of the items that share their samples, and the records of all by their paths.
  """
  while waiting and (len(waiting) > most or _is_ready(waiting[0])):
    items, *made = waiting.popleft()
    stored = map(_store, items, *made)
    yield items[0], dict(zip((item.path for item in items), stored, strict=True))


def _is_ready(begun: Begun) -> bool:
  return all(future.done() for of in begun.records for future in _futures(of).values())


def _futures(record: Record) -> Mapping[str, Future]:
  return cast(Mapping[str, Future], record.certified)


def _store(item: Item, record: Record, again: Callable[[], Record]) -> Record:
  try:
    certified = {name: future.result() for name, future in _futures(record).items()}
    record = record._replace(certified=certified)
  except BrokenProcessPool:  # a process was killed, maybe for its memory
    record = again()
  for certificate in record.certified.values():
    _refuse_interrupted(certificate)
  records.save(item.path, record)
  return record


def record_of(
  setting: Setting,
  item: Item,
  sums: Sequence[ClassSums],
  meta: Mapping[str, Any],
  certify: Callable[..., Any] = collective.certify,
) -> Record:
  """What an item's sums certify, see `records.make_record`."""
  config = setting.config
  limit = {"time_limit": config.time_limit}
  lp, milp = {**limit, "bins": config.bins}, {**limit, "gap": config.gap}
  return records.make_record(
    setting.task.name,
    item.smoothing,
    sums,
    Bounds(config.alpha, config.k_fwer, config.scores, len(common.looks(config))),
    item.adversary,
    truth=item.case.truth,
    counted=item.case.counted,
    methods={"naive": limit, "lp": lp, "envelope": limit, "milp": milp},
    meta=meta,
    certify=certify,
  )


def number_of_solvers(setting: Setting, asked: int | None) -> int:
  """How many processes to start, as many as are `asked` for; None: those that would be busy."""
  if asked is not None:
    return asked
  slow = [
    name
    for item in setting.items
    for name in item.smoothing.certificates
    if item.smoothing.groups.size >= MANY.get(name.partition("/")[2].partition("@")[0], np.inf)
  ]
  if multiprocessing.current_process().daemon:  # which may not start any
    return 0
  return min(len(slow), MOST, machines.cores() // processes.total())


@contextlib.contextmanager
def solvers(number: int) -> Iterator[Certify]:
  """So many processes that certify, until the end of the block; 0: this one does it, at once.

  They end with the block, or with this process, however it ends. In a script, and not a notebook,
  they need the line `if __name__ == "__main__":` that all of Python's processes need.
  """
  if number == 0:
    yield _at_once
    return
  others = set(multiprocessing.active_children())
  spawned = multiprocessing.get_context("spawn")  # a fork would share JAX's threads and devices
  pool = ProcessPoolExecutor(number, spawned, _serve)
  try:
    yield partial(_submit, pool)
  except BaseException:
    for process in set(multiprocessing.active_children()) - others:
      process.terminate()
    pool.shutdown(cancel_futures=True)
    raise
  pool.shutdown()


def _submit(pool: ProcessPoolExecutor, *arguments: Any, **keywords: Any) -> Future:
  try:
    return pool.submit(collective.certify, *arguments, **keywords)
  except BrokenProcessPool:
    return _at_once(*arguments, **keywords)


def _at_once(*arguments: Any, **keywords: Any) -> Future:
  found: Future = Future()
  found.set_result(collective.certify(*arguments, **keywords))
  _refuse_interrupted(found.result())
  return found


def _refuse_interrupted(certificate: collective.CollectiveCertificate) -> None:
  if "interrupted" in certificate.status:
    raise KeyboardInterrupt  # a weaker certificate than asked for: the samples are kept, it is not


def _serve() -> None:
  """A process of `solvers` leaves Ctrl-C and the terminal to the one that started it."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  tqdm.set_lock(threading.RLock())  # not one of many processes, which would be left behind
  sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (or bars of several would mix)
  parent = multiprocessing.parent_process()
  threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: Any) -> None:
  connection.wait([parent.sentinel])
  os._exit(1)
