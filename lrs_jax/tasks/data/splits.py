"""Splits of data sets, by name, and the random generators of what is generated (host)."""

from collections.abc import Collection

import numpy as np


def check_split(split: str, splits: Collection[str]) -> None:
  """Raises a `ValueError` unless a data set has a split."""
  if split not in splits:
    raise ValueError(f"`split` must be one of {', '.join(splits)}, but it is {split!r}.")


def generators(
  split: str, splits: Collection[str], count: int, seed: int
) -> list[np.random.Generator]:
  """One for each of `count` inputs of a split that must exist; the first are those of any count."""
  check_split(split, splits)
  root = np.random.SeedSequence([seed, list(splits).index(split)])
  return [np.random.default_rng(child) for child in root.spawn(count)]
