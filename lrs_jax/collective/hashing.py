"""What digests and seals are made of: names, types, shapes and values, without ambiguity (host)."""

import hashlib
import json
from typing import Any

import numpy as np

_STORED = {"b": "|b1", "i": "<i8", "u": "<u8", "f": "<f8"}


def feed(hasher: "hashlib._Hash", name: str, value: Any) -> None:
  """Adds a named value: no two that differ, in a name or type or shape either, add the same bytes.

  The value is None, a string, a number or an array of these. Numbers count as those of 8 bytes, in
  the order of bytes of most machines; strings as JSON, so that neither their width nor how NumPy
  prints them matters.

  Raises:
    ValueError: an array of anything else, or of floats of more than 8 bytes.
  """
  array = np.asarray("" if value is None else value)
  kind = "none" if value is None else "str" if array.dtype.kind == "U" else None
  if kind is None:
    if array.dtype.kind not in _STORED or array.dtype.itemsize > 8:
      raise ValueError(
        f"`{name}` must be numbers of at most 8 bytes or strings, but its dtype is {array.dtype}."
      )
    kind = _STORED[array.dtype.kind]
  hasher.update(json.dumps([name, kind, array.shape]).encode())
  if kind in ("none", "str"):
    texts = [value] if isinstance(value, str) else array.ravel().tolist()
    hasher.update(json.dumps(texts).encode())
  else:
    hasher.update(np.ascontiguousarray(array, kind).tobytes())
