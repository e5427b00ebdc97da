"""What the arrays of a stored certificate must be, in one table, and loading what is such (host).

A table says of every array its kind and its axes: "f A G C" are float64 numbers of three axes, "i"
is one integer, "?" stands before what may be missing. Axes of one letter have one size in all
arrays of a record; A, C, F, G, K and M are at least 1. B, T, nodes and leaves belong to one
certificate.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from lrs_jax import storage

FORMAT = 2
"""The version of what is below."""

_COMMON = {
  "format": "i",
  "kind": "U",
  "digest": "?U",
  "alpha": "f",
  "meta": "U",
  "base/weights": "f A G C",
  "base/groups": "i N",
  "base/eta": "f N",
  "base/labels": "i N",
  "base/q_lower": "f N",
}

TABLES: Mapping[str, Mapping[str, str]] = {
  "image": {
    **_COMMON,
    "family": "U",
    "scales": "f F G C",
    "cells": "i ...",
    "selection_counts": "i N K",
    "counts": "i N K",
    "num_selection": "i",
    "num_samples": "i",
    "truth": "i N",
    "radii": "f B",
    "budgets": "f B",
  },
  "graph": {
    **_COMMON,
    "theta_plus": "f G C",
    "theta_minus": "f G C",
    "cells": "i N 1",
    "groups": "i N",
    "num_ones": "i N",
    "num_attributes": "i",
    **{
      f"{part}/{name}": axes
      for part in ("selection", "estimate")
      for name, axes in (
        ("votes", "i N K"),
        ("scores", "i N K"),
        ("squares", "i N K"),
        ("num_samples", "i"),
      )
    },
    "methods": "U M",
    "truth": "i N",
    "test": "b N",
    "base/forfeit": "i",
    "base/variance_upper": "f N",
    "base/method": "U N",
  },
}
"""Every kind of record."""

PAIR = {"weights": "f A G C", "eta": "f N"}
"""Arrays `pairs/ORDER/...` of a graph: its base certificates of another Rényi order."""

CERTIFICATE = {
  "method": "U",
  "certified": "i B",
  "attackable": "f B",
  "gap": "f B",
  "status": "U B",
  "solve_time": "f B",
  "witness_starts": "i T",
  "witness_variables": "i nodes",
  "witness_values": "f nodes",
  "witness_multipliers": "f leaves G",
  "attack_b": "?f B A C",
  "attack_attacked": "?b B N",
  "attack_num_attacked": "?i B",
  "budgets": "f B A",
  "targets": "b N",
  "caps": "?f A C",
  "integral": "b",
  "forfeit": "i",
  "digest": "U",
  "seals": "U B",
}
"""Arrays `certified/NAME/...` of a collective certificate."""

_WORDS = {"i": "signed integers", "f": "float64 numbers", "b": "booleans", "U": "strings"}
_NOT_EMPTY = "ACFGKM"


def save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Stores the arrays of a record with their digest."""
  storage.save_arrays(path, {**arrays, "digest": np.asarray(storage.digest(arrays))})


def load(path: Path, kind: str | None = None) -> dict[str, np.ndarray]:
  """Reads the arrays of a record, if they are such.

  Args:
    path: the file.
    kind: "image" or "graph"; either if None.

  Returns:
    Arrays by name, as the table of their kind says, without the digest.

  Raises:
    ValueError: a missing or damaged file, one that is no record of that kind, or of another format.
  """
  arrays = storage.load_arrays(path)
  if "format" not in arrays:
    if {"family", "counts"} <= set(arrays) or {"kind", "theta_plus"} <= set(arrays):
      raise ValueError(
        f"{path} was written by version 0.1 in an older format: certify again, with this version "
        "and another --out (or without the older files)."
      )
    raise ValueError(f"{path} is not a certificate of lrs-jax: array 'format' is missing.")
  number = arrays["format"]
  if number.ndim or number.dtype.kind != "i" or number != FORMAT:
    shown = number if number.ndim == 0 else f"an array of shape {number.shape}"
    raise ValueError(f"{path} is of format {shown}, but this version reads {FORMAT}.")
  if "digest" not in arrays:
    raise ValueError(f"{path} is not a certificate of lrs-jax: array 'digest' is missing.")
  stored = str(arrays.pop("digest"))
  if stored != storage.digest(arrays):
    raise ValueError(f"{path} was changed after it was written: its digest does not fit.")
  found = str(arrays.get("kind"))
  if found not in TABLES or kind not in (None, found):
    raise ValueError(
      f"{path} is not the certificate of {_article(kind or ' or '.join(TABLES))}: its `kind` is "
      f"{found[:60]!r}."
    )
  try:
    check(arrays)
  except ValueError as error:
    raise ValueError(f"{path} is not a certificate of lrs-jax: {error}") from None
  return arrays


def of_file(path: Path, error: ValueError) -> str:
  """An error's message, if need be with the file that it is about."""
  return str(error) if str(path) in str(error) else f"{path} is no whole certificate: {error}"


def check(arrays: Mapping[str, np.ndarray]) -> None:
  """Raises a ValueError that names an array which its table does not have, or has otherwise."""
  table = TABLES[str(arrays["kind"])]
  sizes: dict[str, int] = {}
  _check("", {name: array for name, array in arrays.items() if not _part(name)}, table, sizes)
  for group, parts in _parts(arrays):
    if group.startswith("pairs/") and "theta_plus" in table:
      _check(f"{group}/", parts, PAIR, sizes)
    elif group.startswith("certified/"):
      _check(f"{group}/", parts, CERTIFICATE, dict(sizes) | {"B": -1})
    else:
      raise ValueError(f"a record has no array {group + '/' + next(iter(parts))!r}.")


def parts_of(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, dict[str, np.ndarray]]:
  """Arrays `prefix/NAME/KEY` as a mapping from NAME to one from KEY, sorted by name.

  Example:
    >>> parts_of({"a/b/c/d": np.zeros(1), "e": np.zeros(1)}, "a")
    {'b/c': {'d': array([0.])}}
  """
  return {
    group.removeprefix(f"{prefix}/"): parts
    for group, parts in _parts(arrays)
    if group.startswith(f"{prefix}/")
  }


def _part(name: str) -> bool:
  """Whether an array belongs to a certificate, or to another part whose number is free."""
  return name.count("/") >= 2


def _parts(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
  groups: dict[str, dict[str, np.ndarray]] = {}
  for name in sorted(arrays):
    if _part(name):
      group, _, key = name.rpartition("/")
      groups.setdefault(group, {})[key] = arrays[name]
  yield from groups.items()


def _check(
  prefix: str, arrays: Mapping[str, np.ndarray], table: Mapping[str, str], sizes: dict[str, int]
) -> None:
  for name in arrays:
    if name not in table:
      raise ValueError(f"a record has no array {prefix + name!r}.")
  for name, text in table.items():
    kind, *axes = text.removeprefix("?").split()
    if name in arrays:
      _check_array(f"{prefix}{name}", arrays[name], kind, axes, sizes)
    elif not text.startswith("?"):
      raise ValueError(f"its array {prefix + name!r} is missing.")


def _check_array(
  name: str, array: np.ndarray, kind: str, axes: list[str], sizes: dict[str, int]
) -> None:
  fits = array.dtype.kind == kind and (kind != "f" or array.dtype == np.float64)
  if axes != ["..."]:
    fits &= array.ndim == len(axes)
    for axis, size in zip(axes, array.shape, strict=False):
      if axis == "B" and sizes.get(axis) == -1:
        sizes[axis] = size
      wanted = int(axis) if axis.isdigit() else sizes.setdefault(axis, size)
      fits &= size == wanted and (size > 0 or axis not in _NOT_EMPTY)
  if not fits:
    known = [f"{axis} = {sizes[axis]}" for axis in axes if axis in sizes and sizes[axis] >= 0]
    shape = f"[{', '.join(axes)}]" + (f" with {', '.join(known)}" if known else "")
    one = {"i": "a signed integer", "f": "a float64 number", "b": "a boolean", "U": "a string"}
    raise ValueError(
      f"`{name}` must be {f'{_WORDS[kind]} of shape {shape}' if axes else one[kind]}, but it is "
      f"{array.dtype} of shape {array.shape}."
    )


def _article(noun: str) -> str:
  return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
