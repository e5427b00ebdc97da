"""What anybody's randomized smoothing must satisfy: checks of functions that are handed in.

Every check takes the implementation under test as plain functions of arrays, ours or another
library's, and raises `Unsound` with what was claimed and what is true. `test_coverage.py` and
`test_exactness.py` judge lrs_jax, `test_plants.py` judges implementations with known mistakes, and
one of other libraries. What others may run as well is in `lrs_jax.soundness`.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import mpmath as mp
import numpy as np
from scipy import stats

from lrs_jax.soundness.base import SIXTEENTHS, enumerate_flips, flip_counts

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


# Collective certificates of smoothed models, by enumeration of all noise and perturbations.


def collective_exactness(certify: Callable, flips: Callable, *, dimension=5, seed=0) -> None:
  """No more smoothed labels change at once than the collective certificate says.

  Args:
    certify: (weights [2, G, C], groups [N], eta [N], budgets [B, 2]) -> certified counts [B].
    flips: as `certificate` in `soundness.check_base`, for levels [G, C].
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


def tight_ablation(certificate: Callable) -> None:
  """A model that is right unless it sees a change survives k changes iff rho^k > 1/2, and no more.

  Args:
    certificate: as in `soundness.check_base`.
  """
  for rho, changes in itertools.product((0.3, 0.5, 0.71, 0.8, 0.9, 0.95), range(1, 15)):
    weights, eta = certificate(np.array([[rho]]), np.zeros(1, int))
    claimed = bool((changes * np.asarray(weights)[0, 0, 0] < eta(np.ones(1)))[0])
    truth = mp.mpf(rho) ** changes > mp.mpf(1) / 2
    if claimed and not truth:
      raise Unsound(f"rho {rho}: {changes} changes are certified.")
    if truth and not claimed:
      raise AssertionError(f"rho {rho}: {changes} changes are not certified, which is not tight.")


def tight_flips(certificate: Callable) -> None:
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
          claimed = bool((paid < eta(np.array([mean]), np.array([c**2 * variance])))[0])
          if claimed and excess > 1:
            raise Unsound(f"theta {plus}, {minus}: {flips} additions are certified, wrongly.")
          if not claimed and excess < 1:
            raise AssertionError(f"theta {plus}, {minus}: {flips} additions are not certified.")
