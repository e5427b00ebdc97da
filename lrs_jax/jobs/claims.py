"""Who works in a folder: two different jobs must not do so at the same time (host)."""

import contextlib
import datetime
import hashlib
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lrs_jax import storage
from lrs_jax.errors import FolderInUseError
from lrs_jax.jobs import checkpoints
from lrs_jax.tasks import common
from lrs_jax.tasks.task import Config, Task

try:
  import fcntl
except ImportError:  # Windows
  fcntl = None  # type: ignore[assignment]

_FILE = ".running"
_TRIES = 100
"""How often a file may be gone once it is locked, because another process has just ended."""


@contextlib.contextmanager
def held(folder: Path, task: Task, config: Config, model: Path | None = None) -> Iterator[None]:
  """Holds a folder for a job, and for other processes of the same job, until the context ends.

  What is held is a shared lock (`flock`) of a file `.running`, which says what the job is. The
  kernel drops a lock however its process ends, so that a job that was killed is in nobody's way;
  whoever ends last removes the file. Nothing is held, and nobody refused, where there are no locks:
  on Windows, on some network file systems, and in a folder that cannot be written to.

  Args:
    folder: of the results; made if it is missing, and removed again if nothing came into it.
    task: of the job.
    config: its options; ranges of samples of the same job are the same job.
    model: file of its network, which must be the same too, as far as it is there.

  Raises:
    FolderInUseError: another job runs there.
  """
  digest = hashlib.sha256(model.read_bytes()).hexdigest() if model and model.is_file() else None
  job = {"task": task.name, "job": common.plain_config(config), "model": digest}
  made = not folder.exists()
  try:
    with contextlib.ExitStack() as stack:
      file = _lock(folder / _FILE, job)
      if file is not None:
        stack.callback(_release, folder / _FILE, file)
        _refuse_other(folder, file, job)
      yield
  finally:
    if made:
      with contextlib.suppress(OSError):  # there are results in it
        folder.rmdir()


def _lock(path: Path, job: dict[str, Any]) -> IO[str] | None:
  """The file, locked with others of its job, once written if no other process has it."""
  if fcntl is None:
    return None
  now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
  who = f"process {os.getpid()} on {platform.node()}, since {now}"
  with contextlib.suppress(OSError):
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
      with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("a+", encoding="utf-8"))
        with contextlib.suppress(BlockingIOError):
          fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
          file.truncate(0)
          file.write(json.dumps({**job, "who": who}))
          file.flush()
        fcntl.flock(file, fcntl.LOCK_SH)  # for others hold it alone for as long as they write
        if _is_at(path, file):
          stack.pop_all()
          return file
  return None


def _refuse_other(folder: Path, file: IO[str], job: dict[str, Any]) -> None:
  """Raises a `FolderInUseError` if what is written in a file is another job."""
  file.seek(0)
  try:
    there = storage.parse_json(file.read())
    who = there.pop("who")
  except (ValueError, TypeError, AttributeError, KeyError):  # no job wrote it
    return
  if json.dumps(there, sort_keys=True) == json.dumps(job, sort_keys=True):  # nan is not itself
    return
  differing = checkpoints.differences(there, job)
  if None in (job["model"], there.get("model")):  # it may be trained just now
    differing = [name for name in differing if name != "model"]
  if differing:
    who, names = (repr(text[:200])[1:-1] for text in (str(who), ", ".join(sorted(differing))))
    raise FolderInUseError(
      f"{folder} is in use, another job runs there ({who}), which differs in {names}: wait "
      "until it has ended, or choose another --out."
    )


def _release(path: Path, file: IO[str]) -> None:
  """Drops a lock; the last of all removes the file."""
  with file, contextlib.suppress(OSError):
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if _is_at(path, file):
      path.unlink()


def _is_at(path: Path, file: IO[str]) -> bool:
  """Whether an open file is still the one of that name."""
  try:
    return os.path.samestat(os.fstat(file.fileno()), path.stat())
  except FileNotFoundError:
    return False
