"""Finds a task that somebody wrote, by the file or the module that it is in (host)."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from lrs_jax.tasks.task import Config, Task


def find(name: str) -> tuple[Task, Config]:
  """The task that FILE.py:TASK or MODULE:TASK names, and the defaults of its first data set.

  FILE.py:TASK:DATA are those of another one, and FILE.py is FILE.py:TASK. The file is run, as
  Python runs any that it imports; it may import others that lie beside it, where nothing that is
  installed has their name.

  Raises:
    ValueError: there is no such file, module, task or data set, or the file does not run.

  Example:
    >>> task, default = find("lrs_jax.tasks.volumes:TASK")
    >>> task.name, default.data
    ('volumes', 'bodies')
  """
  where, _, rest = name.partition(":")
  attribute, _, data = (rest or "TASK" * name.endswith(".py")).partition(":")
  if not where or not attribute.isidentifier():
    raise ValueError(f"a task is named FILE.py:TASK or MODULE:TASK, but this is {name!r}.")
  found = getattr(module(where), attribute, None)
  if not isinstance(found, Task):
    raise ValueError(
      f"{name}: `{attribute}` must be an `lrs_jax.tasks.Task`, but it is {type(found).__name__}."
    )
  data = data or next(iter(found.data))
  if data not in found.data:
    raise ValueError(f"{name}: its data sets are {', '.join(found.data)}, but not {data!r}.")
  return found, found.data[data]


def module(where: str) -> ModuleType:
  """The module of that name, or that a file of that name is; a ValueError if there is none."""
  path = Path(where)
  try:
    if path.suffix != ".py":
      return importlib.import_module(where)
    if not path.is_file():
      raise ValueError(f"there is no file {where}.")
    name = f"_lrs_jax_{path.stem}"  # other than that of a package which has the file's name
    spec: Any = importlib.util.spec_from_file_location(name, path)
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found  # annotations of its classes are looked up there
    beside = str(path.resolve().parent)
    if beside not in sys.path:
      sys.path.append(beside)  # last, so that it hides nothing; it stays, for what `load` imports
    spec.loader.exec_module(found)
    return found
  except ValueError:
    raise
  except Exception as error:
    raise ValueError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
