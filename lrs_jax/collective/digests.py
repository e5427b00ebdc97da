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
    feed(hasher, name, array + 0)  # -0.0 + 0 = 0.0
  return hasher.hexdigest()


def feed(hasher: "hashlib._Hash", name: str, value: Any) -> None:
  """Adds a named value: no two that differ, in a name or type or shape either, add the same bytes.

  The value is None, a string, a number or an array of these. Numbers count as those of 8 bytes, in
  the order of bytes of most machines; strings as JSON, so that neither their width nor how NumPy
  prints them matters. Anything else, or floats of more than 8 bytes, raise a `ValueError`.
  """
  array = np.asarray("" if value is None else value)
  stored = {"b": "|b1", "i": "<i8", "u": "<u8", "f": "<f8"}.get(array.dtype.kind)
  if array.dtype.kind == "U":
    kind = "none" if value is None else "str"
    content = json.dumps([value] if isinstance(value, str) else array.ravel().tolist()).encode()
  elif stored is not None and array.dtype.itemsize <= 8:
    kind, content = stored, np.ascontiguousarray(array, stored).tobytes()
  else:
    raise ValueError(
      f"`{name}` must be numbers of at most 8 bytes or strings, but its dtype is {array.dtype}."
    )
  hasher.update(_header(name, kind, array.shape) + content)


@functools.cache
def _header(name: str, kind: str, shape: tuple[int, ...]) -> bytes:
  return json.dumps([name, kind, shape]).encode()
