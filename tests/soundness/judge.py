"""What anybody's randomized smoothing must satisfy: checks of functions that are handed in.

Every check takes the implementation under test as plain functions of arrays, ours or another
library's, and raises `Unsound` with what was claimed and what is true. `test_ours.py` judges
lrs_jax, `test_plants.py` judges implementations with known mistakes, and one of other libraries.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import mpmath as mp
import numpy as np
from scipy import stats

mp.mp.dps = 50


class Unsound(AssertionError):
  """A certificate claims what is not so."""


def rate_check(what, failures, repetitions, alpha):
  """Failures of probability at most alpha: allows what happens once in a million checks."""
  allowed = stats.binom.ppf(1 - 1e-6, repetitions, alpha)
  if failures > allowed:
    raise Unsound(
      f"{what}: {failures} of {repetitions} joint guarantees failed "
      f"({failures / repetitions:.1%}), where {alpha:.1%} are allowed."
    )


# Coverage.


def vote_coverage(
  procedure: Callable, probabilities, dependence, num_samples, alpha, repetitions, seed=0
) -> float:
  """Joint coverage of lower bounds on the probability of the labels that are predicted.

  Args:
    procedure: (sample, alpha) -> labels [N], lower bounds [N], number of bounds that may fail; it
      gets its counts [N, K] by calling `sample()`, as often as it likes, for new ones each time.
    probabilities: of each class [N, K].
    dependence: "independent", or "comonotone": one uniform number decides all outputs of a sample.
    num_samples: votes in each call of `sample`.
    alpha: nominal joint error.
    repetitions: simulated procedures.
    seed: of the simulation.

  Returns:
    The rate of failure.
  """
  probabilities = np.asarray(probabilities, np.float64)
  rng = np.random.default_rng(seed)

  def sample():
    if dependence == "independent":
      return rng.multinomial(num_samples, probabilities)
    uniform = np.sort(rng.random(num_samples))
    edges = np.cumsum(probabilities, axis=1)[:, :-1]
    below = np.searchsorted(uniform, edges)
    return np.diff(below, prepend=0, append=num_samples, axis=1)

  failures = 0
  for _ in range(repetitions):
    labels, lower, forfeit = procedure(sample, alpha)
    truth = probabilities[np.arange(len(labels)), labels]
    failures += (np.asarray(lower) > truth).sum() > forfeit
  rate_check(f"votes, {dependence}", failures, repetitions, alpha)
  return failures / repetitions


class Scores(NamedTuple):
  """Samples of scores, in units of 1/255, as sums and histograms."""

  num_samples: int
  votes: np.ndarray  # [N], samples of score above 127
  total: np.ndarray  # [N]
  squares: np.ndarray  # [N]
  histogram: np.ndarray  # [N, 256]


def score_coverage(
  procedure: Callable, distributions, dependence, num_samples, alpha, repetitions, seed=0
) -> float:
  """Joint coverage of lower bounds on means and upper bounds on variances.

  Args:
    procedure: (sample, alpha) -> mean [N], variance [N], is_vote [N]; `sample()` gives new
      `Scores`. Where `is_vote`, the mean is that of the votes.
    distributions: probability of each score [N, 256].
    dependence: as in `vote_coverage`.
    num_samples: in each call of `sample`.
    alpha: nominal joint error.
    repetitions: simulated procedures.
    seed: of the simulation.

  Returns:
    The rate of failure.
  """
  distributions = np.asarray(distributions, np.float64)
  score = np.arange(256)
  rng = np.random.default_rng(seed)
  mean, vote = distributions @ score / 255, distributions[:, 128:].sum(axis=1)
  variance = distributions @ score**2 / 255**2 - mean**2

  def sample():
    if dependence == "independent":
      histogram = rng.multinomial(num_samples, distributions)
    else:
      edges = np.cumsum(distributions, axis=1)[:, :-1]
      below = np.searchsorted(np.sort(rng.random(num_samples)), edges)
      histogram = np.diff(below, prepend=0, append=num_samples, axis=1)
    sums = histogram[:, 128:].sum(axis=1), histogram @ score, histogram @ score**2
    return Scores(num_samples, *sums, histogram)

  failures = 0
  for _ in range(repetitions):
    lower, upper, is_vote = procedure(sample, alpha)
    of_votes = lower > vote + 1e-12
    of_scores = (lower > mean + 1e-12) | (upper < variance - 1e-12)
    failures += np.where(is_vote, of_votes, of_scores).any()
  rate_check(f"scores, {dependence}", failures, repetitions, alpha)
  return failures / repetitions


# Rounding.

ETA = {
  "gaussian": lambda q: 2 * mp.erfinv(2 * q - 1) ** 2,
  "uniform": lambda q: 2 * q - 1,
  "laplace": lambda q: -mp.log(2 * (1 - q)),
  "ablation": lambda q: -mp.log(mp.mpf(3) / 2 - q),
  "flips": lambda q: -mp.log(4 * q * (1 - q)),
}


def eta_rounding(family: str, eta: Callable) -> None:
  """Eta(q) is at most the exact value, at probabilities spread over (1/2, 1)."""
  grid = np.concatenate(
    [
      np.linspace(0.5, 1, 199)[1:-1],
      0.5 + np.geomspace(1e-15, 0.1, 60),
      1 - np.geomspace(1e-15, 0.1, 60),
    ]
  )
  for q, value in zip(grid, np.asarray(eta(grid)), strict=True):
    truth = ETA[family](mp.mpf(float(q)))
    if mp.mpf(float(value)) > truth:
      raise Unsound(f"{family}: eta({q!r}) is {value!r}, above the exact {mp.nstr(truth, 20)}.")


# Exactness, by enumeration of all noise and all perturbations of a few binary inputs.

SIXTEENTHS = np.arange(1, 16) / 16
"""Levels whose products are exact in floating point, so that an exact tie is seen as one."""


class Binary(NamedTuple):
  """A smoothed model on D binary inputs, enumerated."""

  cells: np.ndarray  # int [D]
  points: np.ndarray  # bool [2^D, D], the clean and the perturbed inputs
  after: np.ndarray  # [2^D, Z], probability of each noisy input, after each clean one


def enumerate_flips(plus, minus, cells) -> Binary:
  """One group's noise, plus and minus [C]."""
  points = _points(len(cells))
  flip = np.where(points, minus[cells], plus[cells])  # [X, D]
  same = points[:, None] == points[None]
  return Binary(cells, points, np.where(same, 1 - flip[:, None], flip[:, None]).prod(axis=2))


def enumerate_ablation(rho, cells) -> Binary:
  """One group's noise, rho [C]; a noisy input says of every entry: hidden, 0 or 1."""
  points = _points(len(cells))
  seen = np.array(list(itertools.product((-1, 0, 1), repeat=len(cells))))  # [Z, D]
  hidden = np.where(seen[None] == -1, rho[cells], 0.0)
  visible = np.where(seen[None] == points[:, None], 1 - rho[cells], 0.0)
  return Binary(cells, points, (hidden + visible).prod(axis=2))


def _points(dimension):
  return np.array(list(itertools.product((False, True), repeat=dimension))).reshape(-1, dimension)


def flip_counts(points, cells, num_cells):
  """Additions and deletions in every cell, between any two points: [2, X, X, C]."""
  cell = np.arange(num_cells)[:, None] == cells  # [C, D]
  added = points[None] & ~points[:, None]
  counts = [flips @ cell.T.astype(int) for flips in (added, added.transpose(1, 0, 2))]
  return np.stack(counts)


def price(weights, counts):
  """Sum of W b over kinds and cells, [X, X], where infinity times nothing is nothing."""
  paid = np.where(counts > 0, weights[:, None, None] * np.maximum(counts, 1), 0.0)
  return paid.sum(axis=(0, 3))


def binary_exactness(
  certificate: Callable, survives: Callable, *, family, soft=False, dimension=4, models=20, seed=0
) -> int:
  """No perturbation that is certified changes a smoothed label.

  Base models: random votes or scores, ones that know the clean input, and the constant.

  Args:
    certificate: levels [1, C] (one array for ablation, two for flips) and cells -> weights
      [A, 1, C], eta, a function of the exact q, or of the exact mean and variance if `soft`.
    survives: (price, eta) -> bool, whether an attack of that price is certified to fail.
    family: "flips" or "ablation".
    soft: whether scores in [0, 1] are smoothed, not votes.
    dimension: D.
    models: random base models, each at all clean inputs.
    seed: of the models and levels.

  Returns:
    How many perturbations of at least one entry were certified.
  """
  rng = np.random.default_rng(seed)
  certified = 0
  for model in range(models):
    cells = rng.integers(0, 2, dimension)
    if family == "flips":
      levels = rng.choice(np.append(SIXTEENTHS, 0.0), (2, 2))
      binary = enumerate_flips(*levels, cells)
    else:
      levels = rng.choice(SIXTEENTHS, (1, 2))
      binary = enumerate_ablation(*levels, cells)
    weights, eta = certificate(*(level[None] for level in levels), cells)
    outcomes = binary.after.shape[1]
    clean = int(rng.integers(len(binary.points)))
    typical = binary.after[clean] >= np.quantile(binary.after[clean], rng.random())
    base = [
      np.ones(outcomes),
      (binary.after[clean] > 0).astype(float),
      typical.astype(float),
      (rng.random(outcomes) < rng.random()).astype(float),
    ][model % 4]
    if soft:  # multiples of 1/256
      amount = rng.integers(1, 257)
      base = np.floor(base * amount + rng.integers(0, 257 - amount, outcomes)) / 256
    smoothed = binary.after @ base  # [X]
    if soft:
      bound = eta(smoothed, np.maximum(binary.after @ base**2 - smoothed**2, 0.0))
    else:
      bound = eta(smoothed)
    counts = flip_counts(binary.points, cells, 2)
    if family == "ablation":
      counts = counts.sum(axis=0, keepdims=True)
    paid = price(np.asarray(weights)[:, 0], counts)
    safe = np.asarray(survives(paid, np.asarray(bound)[:, None]))
    wrong = safe & (smoothed[None] <= 0.5)
    if wrong.any():
      x, y = np.argwhere(wrong)[0]
      raise Unsound(
        f"{family}, levels {levels.tolist()}: the label of {binary.points[x].astype(int)} has "
        f"{smoothed[x]:.6f} and eta {np.asarray(bound)[x]:.6g}, so that "
        f"{binary.points[y].astype(int)} of price {paid[x, y]:.6g} is certified, "
        f"where it has {smoothed[y]:.6f}."
      )
    certified += int((safe & (paid > 0)).sum())
  return certified


def collective_exactness(certify: Callable, flips: Callable, *, dimension=5, seed=0) -> None:
  """No more smoothed labels change at once than the collective certificate says.

  Args:
    certify: (weights [2, G, C], groups [N], eta [N], budgets [B, 2]) -> certified counts [B].
    flips: as `certificate` in `binary_exactness`, for levels [G, C].
    dimension: D.
    seed: of the models and levels.
  """
  rng = np.random.default_rng(seed)
  num_groups = num_cells = 2
  cells = np.arange(dimension) % num_cells
  levels = rng.choice(SIXTEENTHS, (2, num_groups, num_cells))
  groups = np.arange(8) % num_groups
  binaries = [enumerate_flips(*levels[:, g], cells) for g in range(num_groups)]
  weights, eta = flips(*levels, cells)
  clean = int(rng.integers(2**dimension))
  typical = [binaries[g].after[clean] for g in groups]  # models that know the clean input
  base = np.stack(
    [
      chance >= np.quantile(chance, part)
      for chance, part in zip(typical, rng.random(8), strict=True)
    ]
  ).astype(float)
  smoothed = np.stack([binaries[g].after @ base[n] for n, g in enumerate(groups)])  # [N, X]
  bound = np.asarray(eta(smoothed[:, clean]))
  counts = flip_counts(binaries[0].points, cells, num_cells)[:, clean].sum(axis=2)  # [2, X]
  budgets = np.array(list(itertools.product(range(dimension + 1), repeat=2)), float)
  kept = (bound > 0)[:, None] & (smoothed > 0.5)
  certified = certify(weights, groups, bound, budgets)
  for budget, promised in zip(budgets, certified, strict=True):
    reachable = (counts <= budget[:, None]).all(axis=0)
    least = kept[:, reachable].sum(axis=0).min()
    if promised > least:
      raise Unsound(f"Flips {budget}: {promised} outputs are certified, but {least} survive.")


# The whole pipeline, on linear models, whose smoothed predictions are known.


class LinearTask(NamedTuple):
  """Output n predicts the sign of a[n] (z - x) + margin[n], margin > 0: logits are its halves."""

  x: np.ndarray  # float32 [D]
  slopes: np.ndarray  # float32 [N, D]
  margins: np.ndarray  # float32 [N]
  scale: np.ndarray  # [G, C]
  cells: np.ndarray  # int [D]
  groups: np.ndarray  # int [N]
  mean: float  # the model's own normalization of its input, (z - mean) / std
  std: float


def linear_task(seed=0, num_outputs=12, dimension=6) -> LinearTask:
  rng = np.random.default_rng(seed)
  scale = np.array([[0.1, 0.8], [0.5, 0.2], [0.3, np.inf]])
  cells = np.arange(dimension) % 2
  groups = np.arange(num_outputs) % 3
  slopes = rng.normal(size=(num_outputs, dimension))
  slopes[:, cells == 1] *= np.where(groups == 2, 0.0, 1.0)[:, None]  # hidden from group 2
  finite = np.where(np.isinf(scale), 0.0, scale)
  spread = np.linalg.norm(slopes * finite[groups][:, cells], axis=1)
  margins = spread * rng.uniform(0.5, 1.5, num_outputs)
  x = rng.uniform(0, 1, dimension)
  return LinearTask(
    *(array.astype(np.float32) for array in (x, slopes, margins)), scale, cells, groups, 0.4, 0.25
  )


def gaussian_pipeline(pipeline: Callable, task: LinearTask, *, least=0.9) -> float:
  """Every certified region of a linear model lies inside the half-space where it is right.

  The region :math:`\\sum_c w_c \\sum_{d in c} \\delta_d^2 < \\eta` reaches :math:`\\sqrt{\\eta}
  \\|a / \\sqrt{w}\\|` towards the decision boundary, which is `margin` away for any noise.

  Args:
    pipeline: task -> weights [1, G, C], eta [N]: samples, bounds and all.
    task: the model, its input and the noise that the pipeline is to use.
    least: how near to the boundary the regions must come for the check to be worth something.

  Returns:
    How near they come, as a part of the margin: the median over outputs.
  """
  weights, eta = pipeline(task)
  level = np.asarray(weights)[0][task.groups][:, task.cells]
  if ((level == 0) & (task.slopes != 0)).any():
    raise Unsound("A weight is 0 for an input on which the output depends.")
  steps = np.divide(np.abs(task.slopes), np.sqrt(level), out=np.zeros(level.shape), where=level > 0)
  near = np.sqrt(eta) * np.linalg.norm(steps, axis=1) / task.margins
  if near.max() > 1:
    n = int(near.argmax())
    raise Unsound(
      f"Output {n} is certified up to {near[n]:.3f} times the distance at which it changes."
    )
  if np.median(near) < least:
    raise AssertionError(f"The certificates are too weak for the check: {near}.")
  return float(np.median(near))


def tight_ablation(certificate: Callable, survives: Callable) -> None:
  """A model that is right unless it sees a change survives k changes iff rho^k > 1/2, and no more.

  Args:
    certificate: as in `binary_exactness`.
    survives: likewise.
  """
  for rho, changes in itertools.product((0.3, 0.5, 0.71, 0.8, 0.9, 0.95), range(1, 15)):
    weights, eta = certificate(np.array([[rho]]), np.zeros(1, int))
    claimed = bool(survives(changes * np.asarray(weights)[0, 0, 0], eta(np.ones(1)))[0])
    truth = mp.mpf(rho) ** changes > mp.mpf(1) / 2
    if claimed and not truth:
      raise Unsound(f"rho {rho}: {changes} changes are certified.")
    if truth and not claimed:
      raise AssertionError(f"rho {rho}: {changes} changes are not certified, which is not tight.")


def tight_flips(certificate: Callable, survives: Callable) -> None:
  """A score that falls with the likelihood ratio attains the soft certificate of flips.

  With :math:`h = \\mu - c (L - 1)`, :math:`E_{x'} h = \\mu - c\\,\\mathrm{Var}(L)` and
  :math:`\\mathrm{Var}(h) = c^2 \\mathrm{Var}(L)`: Cauchy & Schwarz's inequality is an equality, and
  the label survives iff :math:`c\\,\\mathrm{Var}(L) < \\mu - 1/2`.
  """
  for plus, minus in ((0.1, 0.3), (0.4, 0.05), (0.25, 0.25)):
    for flips in range(1, 4):
      chance = [math.comb(flips, i) * plus**i * (1 - plus) ** (flips - i) for i in range(flips + 1)]
      ratio = np.array(
        [((1 - minus) / plus) ** i * (minus / (1 - plus)) ** (flips - i) for i in range(flips + 1)]
      )
      variance = np.dot(chance, (ratio - 1) ** 2)
      for mean in (0.55, 0.7, 0.9):
        for excess in (1 - 1e-9, 1 + 1e-9):
          c = (mean - 0.5) / variance * excess
          score = mean - c * (ratio - 1)
          if score.min() < 0 or score.max() > 1:
            continue  # not a score
          weights, eta = certificate(np.array([[plus]]), np.array([[minus]]), np.zeros(1, int))
          paid = flips * np.asarray(weights)[0, 0, 0]
          claimed = bool(survives(paid, eta(np.array([mean]), np.array([c**2 * variance])))[0])
          if claimed and excess > 1:
            raise Unsound(f"theta {plus}, {minus}: {flips} additions are certified, wrongly.")
          if not claimed and excess < 1:
            raise AssertionError(f"theta {plus}, {minus}: {flips} additions are not certified.")
