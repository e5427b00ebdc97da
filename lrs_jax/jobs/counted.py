"""Certifies votes that were counted elsewhere (host)."""

import collections
import time
from pathlib import Path
from typing import Any

from lrs_jax.jobs import certifying, claims, preparing, rechecks, running
from lrs_jax.tasks import counts


def certify(
  config: counts.Config, out: Path, *, solvers: int | None = 0, force: bool = False
) -> dict[str, Any]:
  """Certifies the votes of a file, and leaves what a job leaves under `out`, see `running.certify`.

  Args:
    config: whose `file` is one that `tasks.counts.read` describes.
    out: folder for the results.
    solvers: processes that certify, see `running.certify`.
    force: replaces results of other jobs.

  Raises:
    OtherResultsError: `out` holds results of another job; nothing is done.
    FolderInUseError: another job runs in `out`; nothing is done.
    ValueError: a file that cannot be used, before anything is written.
  """
  start = time.perf_counter()
  data = counts.load(config)
  selection, estimation = sums = counts.sums_of(data.cases[0].x)
  rechecks.check_both(selection, estimation)
  numbers = {"selection_samples": selection.num_samples, "samples": estimation.num_samples}
  config = config._replace(**{name: int(number) for name, number in numbers.items()})
  task = counts.TASK._replace(load=lambda config: data)  # read once: it may change meanwhile
  with claims.held(out, task, config):
    ranges = [(0, config.samples)]
    setting = preparing.load(task, config, out, None if force else ranges)
    preparing.check_samples(setting)
    (item,) = setting.items
    facts = {"input": preparing.input_digest(item.case)}
    if not force:
      preparing.refuse_others(item.path, task, config, ranges, **facts)
    meta = running.common_facts(setting) | facts | running.told(item, [[0, config.samples]])
    record = running.already_done(setting, item, meta)
    if record is None:
      with certifying.solvers(certifying.number_of_solvers(setting, solvers)) as solve:
        begun = certifying.begin(setting, [item], sums, [meta], solve)
        ((_, found),) = certifying.stored(collections.deque([begun]))
      record = found[item.path]
    return running.finish(
      setting, {item.path: record}, {"certificates": time.perf_counter() - start}
    )
