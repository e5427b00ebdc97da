"""SHA-256 of what a certificate is about, and of what it says (host)."""

import functools
import hashlib
import json
from typing import Any

import numpy as np


def digest(weights: np.ndarray, groups: np.ndarray, eta: np.ndarray) -> str:
  """SHA-256 of what `check_inputs` returns: names, types, shapes and values."""
  hasher = hashlib.sha256()
  for name, array in (("weights", weights), ("groups", groups), ("eta", eta)):
    hasher.update(fed(name, array + 0))  # -0.0 + 0 = 0.0
  return hasher.hexdigest()


def fed(name: str, value: Any) -> bytes:
  """What is hashed of a named value: other bytes for any other value, name, type or shape.

  The value is None, a string, a number or an array of these. Numbers count as those of 8 bytes, in
  the order of bytes of most machines; strings as JSON, so that neither their width nor how NumPy
  prints them matters. Anything else, or floats of more than 8 bytes, raise a `ValueError`.
  """
  array = np.asarray("" if value is None else value)
  if array.dtype.kind == "U":
    kind = "none" if value is None else "str"
    content = json.dumps([value] if isinstance(value, str) else array.ravel().tolist()).encode()
  else:
    kind, content = _numbers(name, array)
  return _header(name, kind, array.shape) + content


def fed_by_rows(name: str, array: np.ndarray) -> list[bytes]:
  """`fed` of every row of an array."""
  if array.dtype.kind == "U":
    header = _header(name, "str", array.shape[1:])
    return [header + json.dumps(np.ravel(row).tolist()).encode() for row in array]
  kind, content = _numbers(name, array)
  header, size = _header(name, kind, array.shape[1:]), len(content) // max(len(array), 1)
  return [header + content[i * size : (i + 1) * size] for i in range(len(array))]


def _numbers(name: str, array: np.ndarray) -> tuple[str, bytes]:
  kind = {"b": "|b1", "i": "<i8", "u": "<u8", "f": "<f8"}.get(array.dtype.kind)
  if kind is None or array.dtype.itemsize > 8:
    raise ValueError(
      f"`{name}` must be numbers of at most 8 bytes or strings, but its dtype is {array.dtype}."
    )
  return kind, np.ascontiguousarray(array, kind).tobytes()


@functools.cache
def _header(name: str, kind: str, shape: tuple[int, ...]) -> bytes:
  return json.dumps([name, kind, shape]).encode()
