"""Files: arrays and JSON, written whole or not at all (host)."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
  """Lets `write` fill a temporary file beside `path`, then renames it: whole, or not there.

  A process that is killed meanwhile may leave the temporary file, whose name starts with a dot.

  Args:
    path: the file to make; its folder is made too.
    write: writes to the path that it is given, which has the same suffix.

  Raises:
    OSError: the folder or the file cannot be written, such as for want of space; an older file is
      as it was.
  """
  partial = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(partial)
    with partial.open("r+b") as file:
      os.fsync(file.fileno())  # or a power failure may leave the new name with old content
    os.replace(partial, path)
  except OSError as error:
    _remove(partial)
    older = "; the older file is unchanged" if os.path.exists(path) else ""
    raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}{older}") from error
  except BaseException:
    _remove(partial)
    raise


def _remove(path: Path) -> None:
  with contextlib.suppress(OSError):  # the error that led here is the one to tell
    path.unlink(missing_ok=True)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Stores arrays as a compressed .npz; none of them needs pickling to be read again."""
  for name, array in arrays.items():
    if np.asarray(array).dtype.hasobject:
      raise ValueError(f"array {name!r} holds Python objects, which other readers cannot load.")
  write_whole(path, lambda partial: np.savez_compressed(partial, **arrays))  # type: ignore[arg-type]


def load_arrays(path: Path) -> dict[str, np.ndarray]:
  """Reads all arrays of an .npz.

  Raises:
    ValueError: a missing or damaged file, or one that holds pickled objects.
  """
  try:
    with path.open("rb") as file:
      archive = np.load(file, allow_pickle=False)
      if isinstance(archive, np.ndarray):
        raise ValueError("it holds one array, not an archive of arrays")
      return {name: archive[name] for name in archive.files}
  except Exception as error:  # a damaged archive may raise anything, such as NotImplementedError
    raise ValueError(f"cannot read {path}: {error}") from error


def digest(arrays: Mapping[str, np.ndarray]) -> str:
  """SHA-256 of names, types, shapes and bytes: it shows damage, not intent."""
  digest = hashlib.sha256()
  for name in sorted(arrays):
    array = np.ascontiguousarray(arrays[name])
    digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
  return digest.hexdigest()


def save_json(path: Path, value: Any) -> None:
  """Stores a value as indented JSON; NaN becomes null."""
  text = json.dumps(_without_nan(value), indent=2, allow_nan=False) + "\n"

  def write(partial: Path) -> None:
    partial.write_text(text)

  write_whole(path, write)


def json_array(value: Any) -> np.ndarray:
  """A value as JSON in a zero-dimensional string array, to lie among arrays.

  Example:
    >>> from_json_array(json_array({"alpha": 0.01}))
    {'alpha': 0.01}
  """
  return np.asarray(json.dumps(value))


def from_json_array(array: np.ndarray) -> Any:
  """What `json_array` was given."""
  return json.loads(str(array))


def same_numbers(stored: np.ndarray, again: np.ndarray) -> bool:
  """Whether an array is what was computed again: floats up to what versions of SciPy differ by.

  That is a relative 1e-9, far below the margins of eta; a collective certificate's digest holds the
  very floats it was proven for.

  Example:
    >>> same_numbers(np.array([1.0, np.inf]), np.array([1 + 1e-12, np.inf]))
    True
    >>> same_numbers(np.array([1, 2]), np.array([1, 3]))
    False
  """
  if stored.shape != again.shape:
    return False
  if again.dtype.kind == "f":
    return bool(np.allclose(stored, again, rtol=1e-9, atol=0.0, equal_nan=True))
  return bool(np.array_equal(stored, again))


def _without_nan(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {key: _without_nan(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_without_nan(item) for item in value]
  return None if isinstance(value, float) and not np.isfinite(value) else value
