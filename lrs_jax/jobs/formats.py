"""What the arrays of a stored certificate must be, in one table, and loading what is such (host).

A table says of every array its kind and its axes: "f A G C" are float64 numbers of three axes, "i"
is one integer, "?" stands before what may be missing. Axes of one letter have one size in all
arrays of a record; A, C, F, G, K and M are at least 1. B, nodes and leaves are a certificate's.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lrs_jax import storage
from lrs_jax.collective import certificate

FORMAT = 3
"""The version of what is below."""

_SUMS = {"votes": "i N K", "scores": "?i N K", "squares": "?i N K", "num_samples": "i"}

RECORD: Mapping[str, str] = {
  "format": "i",
  "task": "U",
  "smoothing": "U",
  "digest": "?U",
  "meta": "U",
  "noise/family": "U",
  "noise/parameters": "f F G C",
  "noise/cells": "i ...",
  "noise/step": "?f",
  "groups": "i N",
  **{f"selection/{name}": axes for name, axes in _SUMS.items()},
  **{f"estimation/{name}": axes for name, axes in _SUMS.items()},
  "bounds/alpha": "f",
  "bounds/k_fwer": "f",
  "bounds/statistics": "U M",
  "bounds/looks": "?i",
  "truth": "i N",
  "counted": "b N",
  "adversary/budgets": "f B A",
  "adversary/radii": "?f B",
  "adversary/caps": "?f A C",
  "adversary/integral": "b",
  "base/weights": "f A G C",
  "base/eta": "f N",
  "base/labels": "i N",
  "base/q_lower": "f N",
  "base/forfeit": "i",
  "base/variance_upper": "?f N",
  "base/method": "?U N",
}
"""Arrays of a record, beside those of its parts."""

PAIR = {"weights": "f A G C", "eta": "f N"}
"""Arrays `pairs/ORDER/...`: base certificates of another Rényi order."""

CERTIFICATE = certificate.SCALARS | {
  name: f"{'?' * (name == 'caps' or name.startswith('attack_'))}{kinds[0]} {axes}"
  for name, (kinds, axes) in certificate.ARRAYS.items()
}
"""Arrays `certified/NAME/...` of a collective certificate."""

_TABLES = {"": RECORD, "pairs": PAIR, "certified": CERTIFICATE}
_WORDS = {"i": "signed integer", "f": "float64 number", "b": "boolean", "U": "string"}
_NOT_EMPTY = "ACFGKM"


def load(path: Path) -> dict[str, np.ndarray]:
  """Reads the arrays of a record, as `RECORD` says, or raises a ValueError; without the digest."""
  arrays = storage.load_arrays(path)
  if "format" not in arrays:
    if {"family", "counts"} <= set(arrays) or {"kind", "theta_plus"} <= set(arrays):
      raise ValueError(
        f"{path} was written by version 0.1 in an older format: certify again, with this version "
        "and another --out (or without the older files)."
      )
    raise ValueError(f"{path} is not a certificate of lrs-jax: array 'format' is missing.")
  number = arrays["format"]
  if number.ndim or number.dtype.kind != "i" or int(number) != FORMAT:
    shown = number if number.ndim == 0 else f"an array of shape {number.shape}"
    raise ValueError(f"{path} is of format {shown}, but this version reads {FORMAT}.")
  if "digest" not in arrays:
    raise ValueError(f"{path} is not a certificate of lrs-jax: array 'digest' is missing.")
  stored = str(arrays.pop("digest"))
  if stored != storage.digest(arrays):
    raise ValueError(f"{path} was changed after it was written: its digest does not fit.")
  try:
    check(arrays)
  except ValueError as error:
    raise ValueError(f"{path} is not a certificate of lrs-jax: {error}") from None
  return arrays


def check(arrays: Mapping[str, np.ndarray]) -> None:
  """Raises a ValueError that names an array which the table does not have, or has otherwise."""
  sizes: dict[str, int] = {}
  for group, parts in _groups(arrays).items():
    kind, prefix = group.partition("/")[0] or group, f"{group}/" if group else ""
    table = _TABLES.get(kind, {})
    for name in parts:
      if name not in table:
        raise ValueError(f"a record has no array {prefix + name!r}.")
    own = {axis: size for axis, size in sizes.items() if axis != "B"}
    for name, text in table.items():
      of, *axes = text.removeprefix("?").split()
      if name in parts:
        _check(f"{prefix}{name}", parts[name], of, axes, own if kind == "certified" else sizes)
      elif not text.startswith("?"):
        raise ValueError(f"its array {prefix + name!r} is missing.")


def parts_of(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, dict[str, np.ndarray]]:
  """Arrays `prefix/NAME/KEY` as a mapping from NAME to one from KEY, sorted by name.

  Example:
    >>> parts_of({"a/b/c/d": np.zeros(1), "e": np.zeros(1)}, "a")
    {'b/c': {'d': array([0.])}}
  """
  groups, start = _groups(arrays).items(), f"{prefix}/"
  return {name.removeprefix(start): parts for name, parts in groups if name.startswith(start)}


def _groups(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
  """Arrays by the part that they belong to, such as "certified/NAME", and "" for all others."""
  groups: dict[str, dict[str, np.ndarray]] = {"": {}}
  for name in sorted(arrays):
    group, _, key = name.rpartition("/") if name.count("/") >= 2 else ("", "", name)
    groups.setdefault(group, {})[key] = arrays[name]
  return groups


def _check(name: str, array: np.ndarray, kind: str, axes: list[str], sizes: dict[str, int]) -> None:
  fits = array.dtype.kind == kind and (kind != "f" or array.dtype == np.float64)
  if axes != ["..."]:
    fits &= array.ndim == len(axes)
    for axis, size in zip(axes, array.shape, strict=False):
      fits &= size == sizes.setdefault(axis, size) and (size > 0 or axis not in _NOT_EMPTY)
  if not fits:
    known = [f"{axis} = {sizes[axis]}" for axis in axes if axis in sizes]
    shape = f"[{', '.join(axes)}]" + (f" with {', '.join(known)}" if known else "")
    wanted = f"{_WORDS[kind]}s of shape {shape}" if axes else f"a {_WORDS[kind]}"
    raise ValueError(f"`{name}` must be {wanted}, but it is {array.dtype} of shape {array.shape}.")
