"""Finished results under a folder, which a job of another kind must not replace unasked (host)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lrs_jax import storage
from lrs_jax.errors import OtherResultsError
from lrs_jax.jobs import checkpoints
from lrs_jax.tasks import options

_FORCE = "choose another --out, or give --force to replace what is there"

_WORDS = {"ranges": "samples counted", "model": "network (SHA-256)", "input": "input (SHA-256)"}
"""What is no option, in words."""

_MOST = 5
"""Differences that an error names."""


def refuse_others(path: Path, asked: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
  """Makes sure that a file of results, if there is one, is of the job that is asked for.

  Compared is only what decides results: versions, devices and times may be others, and so may what
  an older file does not say; an option of the job that it does not know had that of `defaults`.

  `path` is a `summary.json` or a certificate's .npz; `asked`, what it (or its `meta`) should say of
  the job, such as {"job": options, "model": digest}, as it comes back from JSON. What is of another
  job, which the message tells by the values that differ, or damaged, is an `OtherResultsError`.

  Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   path = Path(folder) / "summary.json"
    ...   storage.save_json(path, {"job": {"seed": 0, "samples": 1000}, "device": "a TPU"})
    ...   refuse_others(path, {"job": {"seed": 0, "samples": 1000}}, {})
    ...   refuse_others(path, {"job": {"seed": 1, "samples": 1000}}, {})
    Traceback (most recent call last):
    ...
    lrs_jax.errors.OtherResultsError: ...summary.json holds results of another job (seed: 0 there...
  """
  if not path.exists():
    return
  stored = _read(path)
  stored["job"] = {**defaults, **stored["job"]}
  found = list(_differing(stored, asked))
  # With other options, networks and samples are others of course, and so is all with other data.
  found = [part for part in found if part[0] not in _WORDS.values()] or found
  found = [part for part in found if part[0] == "data"] or found
  if found:
    told = [f"{name}: {there} there, {here} asked for" for name, there, here in found[:_MOST]]
    more = [f"and {len(found) - _MOST} more"] if len(found) > _MOST else []
    raise OtherResultsError(
      f"{path} holds results of another job ({'; '.join([*told, *more])}): {_FORCE}."
    )


def _read(path: Path) -> dict[str, Any]:
  """What a summary, or the `meta` of a certificate, says: a dictionary whose "job" is one too."""
  try:
    if path.suffix == ".npz":
      stored = storage.from_json_array(storage.load_arrays(path, ["meta"])["meta"])
    else:
      stored = storage.load_json(path)
  except (ValueError, KeyError) as error:
    raise OtherResultsError(
      f"{path} is in the way, and cannot be read as results of lrs-jax ({error}): {_FORCE}."
    ) from error
  if not isinstance(stored, dict) or not isinstance(stored.get("job"), dict):
    raise OtherResultsError(
      f"{path} is in the way, and is not a result of lrs-jax certify (it names no `job`): {_FORCE}."
    )
  return stored


def _differing(
  stored: Mapping[str, Any], asked: Mapping[str, Any], name: str = ""
) -> Iterator[tuple[str, str, str]]:
  """(name, stored value, asked value) of what differs; of a job, every option counts."""
  inside = name.startswith("job.")
  for key in {**stored, **asked} if inside else asked:
    full = f"{name}{key}"
    here, there = asked.get(key, "unknown"), stored.get(key, "unknown" if inside else asked[key])
    if isinstance(here, Mapping):
      yield from _differing(there if isinstance(there, Mapping) else {}, here, f"{full}.")
    elif here != there:
      label = key.replace("_", "-") if inside else _WORDS.get(full.partition(".")[0], full)
      yield label, _shown(full, there), _shown(full, here)


def _shown(name: str, value: Any) -> str:
  """A value as one would type it."""
  if name == "ranges":
    return checkpoints.shown(value)
  if isinstance(value, list):
    return options.shown(value, "x" if name in ("job.size", "job.grid") else ",")
  if isinstance(value, str) and name.partition(".")[0] in _WORDS:
    return f"{value[:12]}..."
  return "not given" if value is None else str(value)
