"""Re-checks what a job left in a folder: certificates, their cards, and its summary (host).

A certificate is proven from its counts. A card must be the one that is made of its certificate, and
what a summary says of certificates must follow from them; it says more, such as seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lrs_jax import storage
from lrs_jax.jobs import cards, records, reports
from lrs_jax.tasks import TASKS, Task

_CERTIFICATE = "certificate.npz"  # of the smoothing whose card there is


_NO_TASK = "there is no task {} here: if it is one of yours, say where by --task FILE.py:TASK."


class Finding(NamedTuple):
  """What came of one file."""

  note: str
  trusted: tuple[str, ...] = ()  # what could not be checked


def find(paths: Sequence[Path]) -> list[Path]:
  """The files to check: certificates, then cards and summaries.

  Files are checked whatever they are called; that of a card or of a summary stands for its folder.
  A folder without certificates is a ValueError.
  """
  found: list[Path] = []
  for path in paths:
    folder = path.parent if path.name in _CHECKS else path
    if not folder.is_dir():
      found.append(path)
      continue
    certificates = [file for file in folder.rglob("*.npz") if cards.may_be_certificate(file)]
    if not certificates:
      raise ValueError(f"no certificates under {folder}.")
    others = [file for name in _CHECKS for file in sorted(folder.rglob(name))]
    found += [*sorted(certificates), *others]
  return list(dict.fromkeys(found))


def check(path: Path, *, exact: bool = False, known: Mapping[str, Task] = TASKS) -> Finding:
  """Checks one file from `find`, or raises a ValueError; `exact`: in rational arithmetic.

  `known` are tasks by their names: what a record says of another one's options is taken on trust.
  """
  if path.name in _CHECKS:
    return Finding(_CHECKS[path.name](path, known))
  record = records.load(path)
  cards.prove(record, exact=exact, known=known)
  return Finding(f"proven, {', '.join(record.certified)}", cards.trusted(record, known))


def _check_card(path: Path, known: Mapping[str, Task]) -> str:
  card, record = storage.load_json(path), records.load(path.parent / _CERTIFICATE)
  if not isinstance(card, Mapping) or not isinstance(card.get("context"), Mapping):
    raise ValueError("it is no card, with names and values and a `context` of such.")
  if record.task not in known and card["context"].get("task") == record.task:
    raise ValueError(_NO_TASK.format(storage.shortened(record.task)))
  told = {name: value for name, value in card["context"].items() if name in ("device", "file")}
  again = storage.plain(cards.of_record(record, told, known=known))
  _compare("", card, again)
  _compare("", again, card)
  return f"agrees with {_CERTIFICATE}"


def _check_text(path: Path, known: Mapping[str, Task]) -> str:
  card = storage.load_json(path.parent / "card.json")
  try:
    same = path.read_text(encoding="utf-8") == cards.markdown(card)
  except Exception as error:  # what card.json lacks is told of that file
    raise ValueError(f"it cannot be compared with card.json: {error!r}") from None
  if not same:
    raise ValueError("it is not what card.json says: `lrs-jax card` prints that.")
  return "agrees with card.json"


def _check_summary(path: Path, known: Mapping[str, Task]) -> str:
  summary = storage.load_json(path)
  if not isinstance(summary, Mapping) or not isinstance(summary.get("job"), Mapping):
    raise ValueError("it is no summary of a job: it has no `job` with names and values.")
  names, said = summary.get("inputs"), summary.get("smoothings")
  if not isinstance(names, list) or not names or not all(map(_is_name, names)):
    raise ValueError("`inputs` must be names of folders beside it.")
  if len(set(names)) != len(names):
    raise ValueError("`inputs` must be different, or one would count twice.")
  if not isinstance(said, Mapping) or not said or not all(map(_is_name, said)):
    raise ValueError("`smoothings` must be names of files, with what is reported of each.")
  task = known.get(str(summary.get("task")))
  if task is None:
    raise ValueError(_NO_TASK.format(storage.shortened(summary.get("task"))))
  config = storage.from_plain(type(next(iter(task.data.values()))), summary["job"])
  models = summary.get("model")
  for smoothing in said:
    done = []
    for name in names:
      file = f"{name}/{smoothing}.npz"
      record = records.load(path.parent / file)
      done.append(record)
      stored = {**record.meta, "task": record.task}
      for fact in ("task", "job", "versions", *("ranges",) * (summary["job"].get("until") is None)):
        if summary.get(fact) != stored.get(fact):
          raise ValueError(f"its `{fact}` is not that of {file}.")
      if not isinstance(models, Mapping) or models.get(smoothing) != record.meta.get("model"):
        raise ValueError(f"its `model` is not that of {file}.")
      if record.selection.votes.shape[1] != done[0].selection.votes.shape[1]:
        raise ValueError(f"{file} has other classes than the first.")
    again = storage.plain(reports.report(task, config, done))
    _compare(f"smoothings.{smoothing}", said[smoothing], again)
  checked = "task", "job", "model", "versions", "inputs", "ranges", "smoothings"
  others = ", ".join(str(name) for name in summary if name not in checked)
  number = len(said) * len(names)
  return f"agrees with its {number} certificates" + (f"; not compared: {others}" if others else "")


_CHECKS: Mapping[str, Callable[[Path, Mapping[str, Task]], str]] = {
  "card.json": _check_card,
  "card.md": _check_text,
  "summary.json": _check_summary,
}


def _is_name(name: Any) -> bool:
  return isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name


def _compare(name: str, said: Any, again: Any) -> None:
  """Raises a ValueError unless all that is said is what was found again; floats to 1e-9.

  A mapping need not say all, and where it has null it says nothing.
  """
  if isinstance(said, Mapping) and isinstance(again, Mapping):
    for key in (key for key in said if said[key] is not None):
      full = f"{name}.{key}" if name else str(key)
      if key not in again:
        raise ValueError(f"what it says of {full} does not follow from the certificates.")
      _compare(full, said[key], again[key])
    return
  if isinstance(said, list) and isinstance(again, list) and len(said) == len(again):
    for i, (one, other) in enumerate(zip(said, again, strict=True)):
      _compare(f"{name}[{i}]", one, other)
    return
  if {type(said), type(again)} <= {int, float}:
    same = abs(said - again) <= 1e-9 * max(abs(again), 1e-3)
  else:
    same = type(said) is type(again) and said == again
  if not same:
    told = storage.shortened(said), storage.shortened(again)
    raise ValueError(f"it says {told[0]} of {name}, but the certificates say {told[1]}.")
