"""Base certificates of binary inputs, where all noise and perturbations can be listed (host)."""

import itertools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lrs_jax.soundness.reports import Overclaim, Report, summarize

SIXTEENTHS = np.arange(1, 16) / 16
"""Levels whose products are exact in floating point, so that an exact tie is seen as one."""


class Binary(NamedTuple):
  """Smoothing of D binary inputs, enumerated."""

  cells: np.ndarray  # int [D]
  points: np.ndarray  # bool [2^D, D], the clean and the perturbed inputs
  after: np.ndarray  # [2^D, Z], probability of each noisy input, after each clean one


def enumerate_flips(plus: np.ndarray, minus: np.ndarray, cells: np.ndarray) -> Binary:
  """One group's noise, plus and minus [C]: probabilities to flip zeros and ones."""
  points = _points(len(cells))
  flip = np.where(points, minus[cells], plus[cells])  # [X, D]
  same = points[:, None] == points[None]
  return Binary(cells, points, np.where(same, 1 - flip[:, None], flip[:, None]).prod(axis=2))


def enumerate_ablation(rho: np.ndarray, cells: np.ndarray) -> Binary:
  """One group's noise, rho [C]; a noisy input says of every entry: hidden, 0 or 1."""
  points = _points(len(cells))
  seen = np.array(list(itertools.product((-1, 0, 1), repeat=len(cells))))  # [Z, D]
  hidden = np.where(seen[None] == -1, rho[cells], 0.0)
  visible = np.where(seen[None] == points[:, None], 1 - rho[cells], 0.0)
  return Binary(cells, points, (hidden + visible).prod(axis=2))


def _points(dimension: int) -> np.ndarray:
  return np.array(list(itertools.product((False, True), repeat=dimension))).reshape(-1, dimension)


def flip_counts(points: np.ndarray, cells: np.ndarray, num_cells: int) -> np.ndarray:
  """Additions and deletions in every cell, between any two points: [2, X, X, C]."""
  cell = np.arange(num_cells)[:, None] == cells  # [C, D]
  added = points[None] & ~points[:, None]
  counts = [flips @ cell.T.astype(int) for flips in (added, added.transpose(1, 0, 2))]
  return np.stack(counts)


def price(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
  """Sum of W b over kinds and cells, [X, X], where infinity times nothing is nothing."""
  paid = np.where(counts > 0, weights[:, None, None] * np.maximum(counts, 1), 0.0)
  return np.asarray(paid.sum(axis=(0, 3)))


def check_base(
  certificate: Callable[..., Any],
  family: str,
  num_problems: int,
  seed: int = 0,
  *,
  soft: bool = False,
  dimension: int = 4,
  survives: Callable[[Any, Any], Any] = operator.lt,
) -> Report:
  r"""No perturbation that is certified changes a smoothed label.

  A problem is a base model h of D binary inputs, under noise of two cells whose levels are
  multiples of 1/16. Its smoothed score :math:`E_x h` is known exactly for all :math:`2^D` inputs x.
  Whatever is certified of x, :math:`\sum W b(x, y) < \eta(E_x h)`, is compared with
  :math:`E_y h > 1/2`. A model is tight if everything is certified that keeps its label. Base models
  are random votes or scores, those that know the clean input, and the constant.

  Args:
    certificate: levels [1, C] (one array for ablation, two for flips) and cells [D] -> weights
      [A, 1, C], eta; the latter is a function of the exact q, or of the exact mean and variance if
      `soft`.
    family: "flips" or "ablation".
    num_problems: base models, each at all clean inputs.
    seed: of the models and levels.
    soft: whether scores in [0, 1] are smoothed, not votes.
    dimension: D.
    survives: (price, eta) -> bool, whether an attack of that price is certified to fail.

  Returns:
    Its `claims` are perturbations of at least one entry that were certified.

  Example:
    >>> from lrs_jax import noise
    >>> def certificate(rho, cells):
    ...   ablation = noise.ablation(rho, cells)
    ...   return ablation.weights, ablation.eta
    >>> check_base(certificate, "ablation", 20).overclaims
    0
  """
  rng = np.random.default_rng(seed)
  tight, claims, found = list[bool](), 0, list[Overclaim]()
  for number in range(num_problems):
    cells = rng.integers(0, 2, dimension)
    if family == "flips":
      levels = rng.choice(np.append(SIXTEENTHS, 0.0), (2, 2))
      binary = enumerate_flips(levels[0], levels[1], cells)
    else:
      levels = rng.choice(SIXTEENTHS, (1, 2))
      binary = enumerate_ablation(levels[0], cells)
    weights, eta = certificate(*(level[None] for level in levels), cells)
    base = _base_model(rng, binary, number, soft)
    smoothed = binary.after @ base  # [X]
    moments = [smoothed]
    if soft:
      moments.append(np.maximum(binary.after @ base**2 - smoothed**2, 0.0))
    bound = np.asarray(eta(*moments))
    counts = flip_counts(binary.points, cells, 2)
    if family == "ablation":
      counts = counts.sum(axis=0, keepdims=True)
    paid = price(np.asarray(weights)[:, 0], counts)
    safe = np.asarray(survives(paid, bound[:, None]))
    kept = (smoothed[:, None] > 0.5) & (smoothed[None] > 0.5)
    tight.append(bool((safe | ~kept).all()))
    claims += int((safe & (paid > 0)).sum())
    wrong = np.asarray(safe & (smoothed[None] <= 0.5))
    if wrong.any():
      x, y = np.argwhere(wrong)[0]
      one, other = binary.points[x].astype(int), binary.points[y].astype(int)
      found.append(
        Overclaim(
          int(counts[:, x, y].sum()),
          f"{family} of levels {levels.tolist()} in cells {cells.tolist()}: the label of {one} has "
          f"{smoothed[x]:.6f} and eta {bound[x]:.6g}, so that {other} of price "
          f"{paid[x, y]:.6g} is certified, where it has {smoothed[y]:.6f}",
          "from numpy import array\n\n"
          f"weights, eta = function({', '.join(f'array([{x.tolist()}])' for x in levels)}, "
          f"array({cells.tolist()}))\n"
          f"counts = array({counts[:, x, y].tolist()})  # changes of every kind in every cell\n"
          "price = sum(w * b for w, b in zip(weights[:, 0].flat, counts.flat, strict=True) if b)\n"
          f"assert price >= eta({', '.join(f'array([{part[x].item()!r}])' for part in moments)})",
        )
      )
  return summarize(tight, claims, found)


def _base_model(rng: np.random.Generator, binary: Binary, number: int, soft: bool) -> np.ndarray:
  """What it says of every noisy input, [Z]; scores are multiples of 1/256."""
  outcomes = binary.after.shape[1]
  clean = int(rng.integers(len(binary.points)))
  typical = binary.after[clean] >= np.quantile(binary.after[clean], rng.random())
  models = (
    np.ones(outcomes),
    binary.after[clean] > 0,
    typical,
    rng.random(outcomes) < rng.random(),
  )
  base = np.asarray(models[number % 4], float)
  if soft:
    amount = rng.integers(1, 257)
    base = np.floor(base * amount + rng.integers(0, 257 - amount, outcomes)) / 256
  return base
