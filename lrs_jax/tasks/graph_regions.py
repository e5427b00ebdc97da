"""Exact certificates of flips that a job on a graph reports beside those of its records (host).

Each rests on the very bounds that all other certificates rest on, `base.q_lower`: a bound on the
mean of a score in [0, 1] serves as one on the probability of a vote does (Neyman and Pearson). So
all of them hold together with probability 1 - alpha, and each budget may take the best. What is
drawn is as noisy as stated or more, which a randomized classifier of stated noise could do itself:
regions of the stated probabilities hold for it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lrs_jax.baselines import sparse_smoothing
from lrs_jax.collective import regions


def isotropic(record: Any) -> Mapping[str, np.ndarray] | None:
  """Correct nodes that the exact certificate of isotropic flips keeps.

  There is none (None) where flips are not the same for all.

  References: Bojchevski, Gasteiger & Günnemann 2020 (arXiv 2008.12952).
  """
  if record.noise.weights.shape != (2, 1, 1):
    return None
  plus, minus = record.noise.parameters
  budgets = np.ceil(record.budgets).astype(np.int64)
  grid = sparse_smoothing.certified_grid(
    record.base.q_lower[_right(record)], plus.item(), minus.item(), *budgets.max(axis=0).tolist()
  )
  return {"correct": np.maximum(grid[tuple(budgets.T)] - record.base.forfeit, 0)}


def localized(record: Any) -> Mapping[str, np.ndarray] | None:
  """Correct nodes that localized flips keep, by `regions.certified_flips`.

  Where an adversary has too many ways to split a budget, by the best envelope of all orders. There
  is none (None) where flips are the same for all.
  """
  if record.noise.weights.shape == (2, 1, 1):
    return None
  right, (plus, minus) = _right(record), record.noise.parameters
  outputs = record.groups[right], record.base.q_lower[right]
  kept = regions.certified_flips(plus, minus, *outputs, record.budgets)
  linear = [of.certified for name, of in record.certified.items() if _is_envelope(name)]
  return {"correct": np.max([kept - record.base.forfeit, *linear], axis=0, initial=0)}


def _right(record: Any) -> np.ndarray:
  return record.counted & (record.base.labels == record.truth)


def _is_envelope(name: str) -> bool:
  return name.startswith("correct/envelope")


RIVALS = {"regions": localized, "region": isotropic}
"""What a task on graphs reports beside the certificates of its records."""
