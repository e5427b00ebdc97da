"""Files: arrays and JSON, written whole or not at all (host)."""

import contextlib
import functools
import hashlib
import io
import json
import math
import os
import secrets
import types
import typing
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

LARGEST = 2**34
"""Bytes that an archive may unpack to. Zeros pack a thousandfold, so a small file may be honest."""

_LONGEST = 300  # characters of an error

_LONGEST_HEADER = 2**14  # bytes, of an array: NumPy refuses 10,000 characters

_PIECE = 2**20
"""Bytes that are unpacked at once."""


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
  """Lets `write` fill a temporary file beside `path`, then renames it: whole, or not there.

  Its name starts with a dot, in case a process that is killed leaves it, has a random part, so that
  no two processes write to one on whatever machines they run, and the suffix of `path`, whose
  folder is made too. If that cannot be written, there is an `OSError`, and an older file is as it
  was.
  """
  partial = path.with_name(f".{path.stem}-{os.getpid()}-{secrets.token_hex(8)}{path.suffix}")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(partial)
    with partial.open("r+b") as file:
      os.fsync(file.fileno())  # or a power failure may leave the new name with old content
    os.replace(partial, path)
  except BaseException as error:
    with contextlib.suppress(OSError):  # the error that led here is the one to tell
      partial.unlink(missing_ok=True)
    if not isinstance(error, OSError):
      raise
    older = "; the older file is unchanged" if os.path.exists(path) else ""
    raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}{older}") from error


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Stores arrays as a compressed .npz; none of them needs pickling to be read again."""
  for name, array in arrays.items():
    if np.asarray(array).dtype.hasobject:
      raise ValueError(f"array {name!r} holds Python objects, which other readers cannot load.")
  write_whole(path, lambda partial: np.savez_compressed(partial, **arrays))  # type: ignore[arg-type]


def load_arrays(
  path: Path, names: Collection[str] | None = None, *, largest: int = LARGEST
) -> dict[str, np.ndarray]:
  """Reads the arrays of an .npz.

  All of them, or those of some names as far as they are there, in the machine's byte order. Nothing
  is allocated for what the archive only claims to hold: the sizes in its directory must have a sum
  of no more than `largest` bytes, and the type and shape in an array's header must take the bytes
  that are there.

  Raises:
    ValueError: a missing or damaged file, one that is no archive of arrays or that unpacks to more
      than `largest`, or a pickled object among what is to be read.
  """
  arrays: dict[str, np.ndarray] = {}
  try:
    with path.open("rb") as file:
      if not zipfile.is_zipfile(file):
        raise ValueError(f"it is no .npz archive, {_looks_like(file)}")
      archive = zipfile.ZipFile(file)
      size = sum(member.file_size for member in archive.infolist())
      if size > largest:
        raise ValueError(f"it unpacks to {size:,} bytes, more than the {largest:,} that may be")
      for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if names is not None and name not in names:
          continue
        if name == member.filename:
          raise ValueError(f"{name!r} in it is no array")
        if name in arrays:
          raise ValueError(f"it holds two arrays {name!r}")
        arrays[name] = _read(archive, member, name)
  except Exception as error:  # a damaged archive may raise anything, such as NotImplementedError
    told = " ".join(str(error).split()) or type(error).__name__
    told = told if len(told) <= _LONGEST else f"{told[:_LONGEST]} ..."  # some quote all of a file
    raise ValueError(f"cannot read {path}: {told}") from error
  return arrays


def array_names(path: Path) -> list[str]:
  """Names of the arrays of an .npz that `load_arrays` can read, sorted."""
  with zipfile.ZipFile(path) as archive:
    return sorted(name.removesuffix(".npy") for name in archive.namelist())


def _looks_like(file: IO[bytes]) -> str:
  file.seek(0)
  start = file.read(6)
  if start == b"\x93NUMPY":
    return "but a single array (.npy)"
  if not start:
    return "but empty"
  return "or a damaged one" if start.startswith(b"PK") else "which is a zip file of arrays"


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> np.ndarray:
  """Reads an array once its header is known to fit what is there."""
  with archive.open(member) as file:
    version = np.lib.format.read_magic(file)
    if version not in {(1, 0), (2, 0)}:
      raise ValueError(f"array {name!r} is of version {version} of NumPy's format")
    length = file.read(2 * version[0])
    rest = file.read(min(int.from_bytes(length, "little"), _LONGEST_HEADER))
    shape, fortran, dtype = _header(version, length + rest)
    there = member.file_size - file.tell()
    if dtype.hasobject:
      raise ValueError(f"array {name!r} holds pickled Python objects, which are never loaded")
    stretched = math.prod(size for size in shape if size) > max(there, 2**31)
    if min(shape, default=1) < 0 or stretched or math.prod(shape) * dtype.itemsize != there:
      raise ValueError(
        f"array {name!r} is said to be {dtype} of shape {shape}, but it has {there} bytes"
      )
    content = bytearray()  # grows with what is there, and can be written to
    while piece := file.read(min(there - len(content), _PIECE)):
      content += piece
    if len(content) < there:
      raise ValueError(
        f"array {name!r} ends before all of it is read: there are {len(content)} of {there} bytes"
      )
    if file.read(1):
      raise ValueError(f"array {name!r} goes on after its end")  # and its checksum is compared
  array = np.ndarray(shape, dtype, content, order="F" if fortran else "C")
  if dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
    raise ValueError(f"array {name!r} holds booleans that are neither 0 nor 1")
  return array.astype(dtype.newbyteorder("="), copy=False)


@functools.lru_cache(maxsize=256)
def _header(version: tuple[int, int], content: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
  """What NumPy reads in an array's header. Records have the same ones; to parse one takes long."""
  formats = np.lib.format
  read = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
  return read(io.BytesIO(content))


def digest(arrays: Mapping[str, np.ndarray]) -> str:
  """SHA-256 of names, types, shapes and bytes: it shows damage, not intent."""
  digest = hashlib.sha256()
  for name in sorted(arrays):
    array = np.ascontiguousarray(arrays[name])
    shape = np.shape(arrays[name])  # `ascontiguousarray` makes a vector of a number
    digest.update(repr((name, str(array.dtype), shape)).encode() + array.tobytes())
  return digest.hexdigest()


def save_text(path: Path, text: str) -> None:
  """Stores a text, whole or not at all."""
  write_whole(path, lambda partial: partial.write_text(text))


def save_json(path: Path, value: Any) -> None:
  """Stores a value as indented JSON; NaN becomes null."""
  save_text(path, json.dumps(_without_nan(value), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
  """A value as it comes back from `save_json`."""
  return json.loads(json.dumps(_without_nan(value), allow_nan=False))


def json_array(value: Any) -> np.ndarray:
  """A value as JSON in a zero-dimensional string array, to lie among arrays."""
  return np.asarray(json.dumps(value))


def from_json_array(array: np.ndarray) -> Any:
  """What `json_array` was given; a ValueError if it cannot have made the array."""
  if array.ndim or array.dtype.kind != "U":
    raise ValueError(f"JSON must be one string, but it is {array.dtype} of shape {array.shape}.")
  return parse_json(str(array))


_DEPTH = 100
"""Values in values: far more than any file of ours has, and few enough for recursion."""


def parse_json(text: str) -> Any:
  """Parses JSON; a ValueError if it is none, or is nested too deeply."""
  try:
    value = json.loads(text)
  except RecursionError:
    raise ValueError("what should be JSON is nested too deeply.") from None
  except ValueError as error:
    raise ValueError(f"what should be JSON is none: {error}.") from None
  level = [value] if isinstance(value, dict | list) else []
  for _ in range(_DEPTH):
    inside = [part.values() if isinstance(part, dict) else part for part in level]
    level = [part for values in inside for part in values if isinstance(part, dict | list)]
  if level:
    raise ValueError("what should be JSON is nested too deeply.")
  return value


def load_json(path: Path) -> Any:
  """Reads a JSON file; a ValueError if it is missing or damaged."""
  try:
    return parse_json(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise ValueError(f"cannot read {path}: {error}") from None


def from_plain(kind: Callable[..., Any], fields: Any) -> Any:
  """A named tuple of type `kind`, from its fields as JSON has them: lists in the place of tuples.

  Raises:
    ValueError: no mapping, a field that the tuple does not have, or a value of another type.
  """
  if not isinstance(fields, Mapping):
    raise ValueError(f"a job must be names and values, but it is {shortened(fields)}.")
  hints = typing.get_type_hints(kind)
  unknown = sorted(str(name) for name in fields if name not in hints)
  if unknown:
    told = ", ".join(unknown)
    raise ValueError(f"there is no option {told}: another version may have made this.")
  for name, value in fields.items():
    hint = hints[name]
    if not _fits(value, hint):
      wanted = hint.__name__ if isinstance(hint, type) else hint
      raise ValueError(f"`{name}` must be {wanted}, but it is {shortened(value)}.")
  return kind(**{n: tuple(v) if isinstance(v, list) else v for n, v in fields.items()})


def shortened(value: Any) -> str:
  """How a value reads in a message: on one line, and not for long."""
  text = " ".join(repr(value).split())
  return text if len(text) <= 80 else f"{text[:77]}..."


def _fits(value: Any, hint: Any) -> bool:
  """Whether a value from JSON is of a type, a union of types, or a tuple of them."""
  parts = typing.get_args(hint)
  if isinstance(hint, types.UnionType):
    return any(_fits(value, part) for part in parts)
  if typing.get_origin(hint) is tuple:
    if not isinstance(value, list | tuple):
      return False
    wanted = parts[:1] * len(value) if parts[1:] == (...,) else parts
    return len(value) == len(wanted) and all(map(_fits, value, wanted))
  if hint is float:
    return isinstance(value, float | int) and not isinstance(value, bool)
  return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _without_nan(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {key: _without_nan(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_without_nan(item) for item in value]
  return None if isinstance(value, float) and not np.isfinite(value) else value
