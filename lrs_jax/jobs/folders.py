"""Re-checks what a job left in a folder: certificates, their cards, and its summary (host).

A certificate is proven from its counts. A card must be the one that is made of its certificate, and
what a summary says of certificates must follow from them; it says more, such as seconds.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrs_jax import storage
from lrs_jax.jobs import cards
from lrs_jax.jobs.graph_records import GraphRecord
from lrs_jax.jobs.records import Record
from lrs_jax.tasks.data.images import LabelledImages

CERTIFICATE, ISOTROPIC = "certificate.npz", "isotropic.npz"
"""Files of an input's two smoothings; the card is of the first."""


class Finding(NamedTuple):
  """What came of one file."""

  note: str
  trusted: tuple[str, ...] = ()  # what could not be checked


def find(paths: Sequence[Path]) -> list[Path]:
  """The files to check: certificates, then cards and summaries.

  Args:
    paths: files, which are checked whatever they are called, and folders. The file of a card or of
      a summary stands for its folder.

  Raises:
    ValueError: a folder without certificates.
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


def check(path: Path, *, exact: bool = False) -> Finding:
  """Checks one file.

  Args:
    path: from `find`.
    exact: witnesses in rational arithmetic.

  Returns:
    What was found, in words.

  Raises:
    ValueError: naming what does not hold.
  """
  if path.name in _CHECKS:
    return Finding(_CHECKS[path.name](path))
  record = cards.read(path)
  cards.prove(record, exact=exact)
  return Finding(f"proven, {', '.join(record.certified)}", cards.trusted(record))


def _check_card(path: Path) -> str:
  card, record = storage.load_json(path), cards.read(path.parent / CERTIFICATE)
  if not isinstance(card, Mapping) or not isinstance(card.get("context"), Mapping):
    raise ValueError("it is no card, with names and values and a `context` of such.")
  told = {name: value for name, value in card["context"].items() if name in ("device", "file")}
  again = storage.plain(cards.of_record(record, told))
  _compare("", card, again)
  _compare("", again, card)
  return f"agrees with {CERTIFICATE}"


def _check_text(path: Path) -> str:
  card = storage.load_json(path.parent / "card.json")
  try:
    same = path.read_text(encoding="utf-8") == cards.markdown(card)
  except Exception as error:  # what card.json lacks is told of that file
    raise ValueError(f"it cannot be compared with card.json: {error!r}") from None
  if not same:
    raise ValueError("it is not what card.json says: `lrs-jax card` prints that.")
  return "agrees with card.json"


def _check_summary(path: Path) -> str:
  summary = storage.load_json(path)
  if not isinstance(summary, Mapping) or not isinstance(summary.get("job"), Mapping):
    raise ValueError("it is no summary of a job: it has no `job` with names and values.")
  check = _check_graphs if "graph" in summary else _check_images
  number, checked = check(path.parent, summary)
  others = ", ".join(str(name) for name in summary if name not in checked)
  return f"agrees with its {number} certificates" + (f", except for {others}" if others else "")


_CHECKS: Mapping[str, Callable[[Path], str]] = {
  "card.json": _check_card,
  "card.md": _check_text,
  "summary.json": _check_summary,
}


def _check_images(folder: Path, summary: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
  from lrs_jax.jobs import reports

  names = summary.get("images")
  if not isinstance(names, list) or not names or not all(map(_is_name, names)):
    raise ValueError("`images` must be names of folders beside it.")
  for part, file in (("localized", CERTIFICATE), ("isotropic", ISOTROPIC)):
    done = [_read(folder / name / file, Record) for name in names]
    for name, record in zip(names, done, strict=True):
      _check_common(summary, record, ("job", "model", "versions", "ranges"), f"{name}/{file}")
      _compare("radii", summary.get("radii"), record.radii.tolist())
      if record.counts.shape != done[0].counts.shape:
        raise ValueError(f"{name}/{file} has other outputs or classes than the first.")
    labels = np.stack([record.truth for record in done])
    classes = tuple(map(str, range(done[0].counts.shape[1])))
    data = LabelledImages(np.zeros((len(names), 0)), labels, tuple(names), classes)
    average = summary["job"].get("budgets") is None
    again = reports.report(data, done, average=average)
    _compare(part, summary.get(part), storage.plain(again))
  checked = "job", "model", "versions", "images", "ranges", "localized", "isotropic", "radii"
  return 2 * len(names), checked


def _check_graphs(folder: Path, summary: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
  from lrs_jax.jobs import graph_runs
  from lrs_jax.tasks.graphs import GraphJob

  graph, job = summary["graph"], storage.from_plain(GraphJob, summary["job"])
  if not isinstance(graph, Mapping) or not _is_name(graph.get("name")):
    raise ValueError("`graph` must have the name of a folder beside it.")
  for part, file in (("localized", CERTIFICATE), ("isotropic", ISOTROPIC)):
    record = _read(folder / graph["name"] / file, GraphRecord)
    _check_common(summary, record, ("job", "versions"), file)
    sizes = {
      "nodes": record.groups.size,
      "attributes": record.num_attributes,
      "classes": record.estimate.votes.shape[1],
      "test_nodes": int(record.test.sum()),
    }
    if record.theta_plus.shape != (1, 1):
      sizes["clusters"] = np.bincount(record.groups, minlength=len(record.theta_plus)).tolist()
    _compare("graph", {name: graph.get(name) for name in sizes}, sizes)
    again = storage.plain(graph_runs.report(job, record))
    _compare(part, summary.get(part), again, ("network", "seconds"))
  return 2, ("job", "versions", "graph", "localized", "isotropic")


def _check_common(
  summary: Mapping[str, Any], record: Record | GraphRecord, names: Sequence[str], file: str
) -> None:
  for name in names:
    if summary.get(name) != record.meta.get(name):
      raise ValueError(f"its `{name}` is not that of {file}.")


def _read(path: Path, kind: type) -> Any:
  record = cards.read(path)
  if not isinstance(record, kind):
    raise ValueError(f"{path} is the certificate of something else.")
  return record


def _is_name(name: Any) -> bool:
  return isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name


def _compare(name: str, said: Any, again: Any, unproven: Collection[str] = ()) -> None:
  """Raises a ValueError unless all that is said is what was found again; floats to 1e-9.

  A mapping need not say all, and where it has null it says nothing.
  """
  if isinstance(said, Mapping) and isinstance(again, Mapping):
    for key, value in said.items():
      if key in unproven or value is None:
        continue
      full = f"{name}.{key}" if name else str(key)
      if key not in again:
        raise ValueError(f"what it says of {full} does not follow from the certificates.")
      _compare(full, value, again[key])
    return
  if isinstance(said, list) and isinstance(again, list) and len(said) == len(again):
    for i, (one, other) in enumerate(zip(said, again, strict=True)):
      _compare(f"{name}[{i}]", one, other)
    return
  numbers = all(type(value) in (int, float) for value in (said, again))
  if not (
    abs(said - again) <= 1e-9 * max(abs(again), 1e-3)
    if numbers
    else type(said) is type(again) and said == again
  ):
    told = storage.shortened(said), storage.shortened(again)
    raise ValueError(f"it says {told[0]} of {name}, but the certificates say {told[1]}.")
