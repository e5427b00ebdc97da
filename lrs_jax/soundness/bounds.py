"""Confidence bounds on a binomial probability: their error, exactly (host)."""

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from lrs_jax.soundness.reports import Overclaim, Report, summarize

INSIDE = 3
"""Probabilities between two bounds that are tried, beside the ends."""


class Trials(NamedTuple):
  """What a bound is asked for: k of `trials`, for all k, at a level."""

  trials: int
  alpha: float


def trials(num_problems: int, seed: int = 0) -> tuple[Trials, ...]:
  """Random numbers of trials, mostly small, up to 59, and levels over ten decades.

  Example:
    >>> trials(2)
    (Trials(trials=13, alpha=0.1), Trials(trials=1, alpha=0.5))
  """
  rng = np.random.default_rng(seed)
  return tuple(
    Trials(
      int(60 ** rng.random()),
      float(rng.choice([0.5, 0.1, 0.05, 0.01, 0.001, 10 ** -rng.uniform(0.1, 10)])),
    )
    for _ in range(num_problems)
  )


def check_bound(lower_bound: Callable[..., Any], problems: Sequence[Trials]) -> Report:
  r"""A lower confidence bound exceeds no probability more often than it says.

  For all p in [0, 1], with k successes of S,

  .. math:: P_p[\, \ell(k, S, \alpha) > p \,] =
    \sum_{k :\, \ell(k, S, \alpha) > p} \binom{S}{k} p^k (1 - p)^{S - k} \le \alpha .

  Between two neighbours among the S + 1 bounds the sum has the same terms. It is evaluated in
  rational arithmetic where p comes near the upper neighbour, and at `INSIDE` numbers in between,
  so that every over-claim is one. Where the bound does not fall with k, the sum grows with p, its
  largest values are among those, and an error that stays at most alpha is proven to.

  A bound is tight where it could hardly be larger: these errors are within a millionth of alpha,
  relatively, for all k >= 1, as those of Clopper & Pearson are.

  Args:
    lower_bound: (successes, trials, alpha) -> bound, asked for one number at a time.
    problems: of `trials`, or one's own.

  Example:
    >>> from lrs_jax import confidence
    >>> report = check_bound(confidence.clopper_pearson_lower, trials(20))
    >>> report.overclaims, report.tight
    (0, 20)
  """
  tight, claims, found = list[bool](), 0, list[Overclaim]()
  for problem in problems:
    lower = [float(lower_bound(k, *problem)) for k in range(problem.trials + 1)]
    lower = [math.inf if math.isnan(value) else value for value in lower]
    claims += sum(value > 0 for value in lower)
    ends = sorted({min(value, 1.0) for value in lower if value > 0})
    errors = [_error(lower, problem.trials, end, end) for end in ends]
    level = Fraction(problem.alpha)
    within = Fraction(1, 10**6) * level
    attained = all(abs(error - level) <= within for error in errors)
    tight.append(attained and sum(value > 0 for value in lower) == problem.trials)
    tried = list(zip(errors, ends, ends, strict=True))
    if lower != sorted(lower):
      for below, end in itertools.pairwise([0.0, *ends]):
        inside = (below + (end - below) * i / (INSIDE + 1) for i in range(1, INSIDE + 1))
        tried += [(_error(lower, problem.trials, p, end), p, end) for p in inside]
    wrong = [one for one in tried if one[0] > level]
    if wrong:
      found.append(_overclaim(lower, problem, *max(wrong)))
  return summarize(tight, claims, found)


def _error(lower: Sequence[float], trials: int, p: float, end: float) -> Fraction:
  """The probability at p of all bounds that are at least `end`."""
  one = Fraction(p)
  success, failure = one.numerator, one.denominator - one.numerator
  total = sum(
    math.comb(trials, k) * success**k * failure ** (trials - k)
    for k, value in enumerate(lower)
    if value >= end
  )
  return Fraction(total, one.denominator**trials)


def _overclaim(
  lower: Sequence[float], problem: Trials, error: Fraction, p: float, end: float
) -> Overclaim:
  above = sum(value >= end for value in lower)
  return Overclaim(
    problem.trials,
    f"of {problem.trials} trials at alpha {problem.alpha:g}, the bounds of {above} outcomes reach "
    f"{end!r}; together they have probability {float(error):.6g} as p comes near {p!r}",
    "from fractions import Fraction\nfrom math import comb\n\n"
    f"trials, alpha, p = {problem.trials}, Fraction({problem.alpha!r}), Fraction({p!r})\n"
    f"bounds = [function(k, trials, {problem.alpha!r}) for k in range(trials + 1)]\n"
    f"above = [k for k, bound in enumerate(bounds) if not bound < {end!r}]\n"
    "error = sum(comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in above)\n"
    "assert error <= alpha",
  )
