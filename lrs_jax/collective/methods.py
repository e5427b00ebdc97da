"""The collective certificate by four methods (host)."""

import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from tqdm import tqdm

from lrs_jax.collective import highs
from lrs_jax.collective.certificate import CollectiveCertificate, seal
from lrs_jax.collective.envelope import Hull, extend, relax
from lrs_jax.collective.lp import attackable, bound_outputs, relax_outputs
from lrs_jax.collective.problem import Problem, Region, make_problem, whole_region
from lrs_jax.collective.witness import Witness, bound, interval, whole_box

METHODS = ("naive", "lp", "envelope")


class Proof(NamedTuple):
  """What a method has to say about one budget."""

  status: str
  attackable: float
  multipliers: np.ndarray  # float64 [leaves, G]


def certify(
  weights: ArrayLike,
  groups: ArrayLike,
  eta: ArrayLike,
  budgets: ArrayLike,
  *,
  method: str = "envelope",
  targets: ArrayLike | None = None,
  caps: ArrayLike | None = None,
  integral: bool = False,
  time_limit: float | None = None,
  bins: int | None = None,
) -> CollectiveCertificate:
  r"""Bounds how many targets one adversary can make fall at the same time.

  The adversary chooses :math:`b \ge 0` with :math:`\sum_c b_{ac} \le B_a`, and output n falls iff
  :math:`s_{g(n)} = \sum_a \sum_c W_{a g(n) c} b_{ac} \ge \eta_n`:

  .. math:: \text{certified}(B) = |T| - \Big\lfloor \max_b \#\{ n \in T : \eta_n \le s_{g(n)} \}
    \Big\rfloor ,

  where outputs of :math:`\eta_n \le 0` leave T first. Every number is the value of a witness that
  `verify` can check again, rounded towards the sound side; if a solver fails or is stopped, it is
  that of the best witness at hand, at worst the naive certificate, and the status says so.

  Args:
    weights: W, [G, C] or [A, G, C]; 0 for a masked cell, inf if any perturbation is fatal.
    groups: int [N].
    eta: [N]; <= 0 abstains.
    budgets: [B] or [B, A], in the units of b.
    method: "naive", every output on its own; "lp", the paper's LP with one variable per output;
      "envelope", the tightest LP, never looser than either.
    targets: bool [N], all if None.
    caps: [C] or [A, C], b <= caps.
    integral: b is integral; budgets and caps are rounded down.
    time_limit: seconds per budget.
    bins: "lp" only: thresholds per group, rounded down to so many.

  Returns:
    A `CollectiveCertificate`.

  Raises:
    ValueError: naming the argument, what it is and what would be right.

  Example:
    >>> eta = [1.0, 9.0, 1.0, 9.0]
    >>> certify([[4.0, 1.0], [1.0, 4.0]], [0, 0, 1, 1], eta, [0.2, 0.4, 3.0]).certified
    array([4, 2, 1])

  References:
    Schuchardt et al. 2023 (arXiv 2210.16140), sections 4 and 5.
  """
  _check_options(method, time_limit, bins)
  problem, targets, caps, digest = make_problem(
    weights, groups, eta, budgets, targets, caps, integral
  )
  num_budgets, num_groups = len(problem.budgets), problem.weights.shape[1]
  naive = ((i, _naive(problem, whole_region(problem, i))) for i in _ascending(problem))
  solve = {
    "naive": lambda: naive,
    "lp": lambda: _lp(problem, bins, time_limit),
    "envelope": lambda: _envelope(problem, time_limit),
  }[method]
  proofs: dict[int, Proof] = {}
  times = np.zeros(num_budgets)
  started = time.perf_counter()
  try:
    for i, proof in tqdm(solve(), method, num_budgets, leave=False, disable=None, delay=1):
      proofs[i], now = proof, time.perf_counter()
      times[i], started = now - started, now
  except KeyboardInterrupt:  # what is proven so far stays proven
    for i in set(range(num_budgets)) - set(proofs):
      proofs[i] = _naive(problem, whole_region(problem, i))._replace(status="interrupted")
  ordered = [proofs[i] for i in range(num_budgets)]
  bounds = np.array([proof.attackable for proof in ordered], np.float64)
  witness = Witness(
    np.arange(num_budgets + 1, dtype=np.int64),
    np.full(num_budgets, -1, np.int64),
    np.zeros(num_budgets),
    np.concatenate([np.zeros((0, num_groups)), *(proof.multipliers for proof in ordered)]),
  )
  certificate = CollectiveCertificate(
    method=method,
    certified=problem.num_targets - np.floor(bounds).astype(np.int64),
    attackable=bounds,
    gap=np.full(num_budgets, np.nan),
    status=np.array([proof.status for proof in ordered], dtype=str),
    solve_time=times,
    witness=witness,
    attack=None,
    budgets=np.asarray(budgets, np.float64).reshape(problem.budgets.shape),
    targets=targets,
    caps=caps,
    integral=bool(integral),
    digest=digest,
    seals=np.zeros(0, "<U64"),
  )
  return certificate._replace(seals=seal(certificate))


def _ascending(problem: Problem) -> list[int]:
  """Budgets from small to large: what is known of one helps with the next."""
  return np.lexsort(problem.budgets.T).tolist()


def _naive(problem: Problem, region: Region) -> Proof:
  multipliers = np.zeros(problem.weights.shape[1])
  return _proof("optimal", problem, region, multipliers)


def _proof(status: str, problem: Problem, region: Region, multipliers: np.ndarray) -> Proof:
  """A proof of one leaf, by the multipliers or, if these prove less, by none."""
  box = whole_box(problem)
  value, nothing = bound(problem, region, box, multipliers), np.zeros_like(multipliers)
  naive = bound(problem, region, box, nothing)
  if naive <= value:
    value, multipliers = naive, nothing
  return Proof(status, max(value, 0.0), multipliers[None])


def _envelope(problem: Problem, time_limit: float | None) -> Iterator[tuple[int, Proof]]:
  solver, box = highs.new_solver(), whole_box(problem)
  start = Hull(np.zeros(1), np.zeros(1))
  known = [(0, start) for _ in problem.thresholds]  # hull of the first thresholds, per group
  for i in _ascending(problem):
    region = whole_region(problem, i)
    for g, (eta, counts) in enumerate(zip(problem.thresholds, problem.counts, strict=True)):
      cut = interval(eta, box, region, g)
      last = 0 if cut is None or np.isinf(region.reach[g]) else cut[1]
      first, hull = known[g] if known[g][0] <= last else (0, start)
      known[g] = last, extend(hull, eta[first:last], counts[first + 1 : last + 1])
    relaxation = relax(solver, [hull for _, hull in known], region, box, time_limit=time_limit)
    yield i, _proof(relaxation.status, problem, region, relaxation.multipliers)


def _lp(
  problem: Problem, bins: int | None, time_limit: float | None
) -> Iterator[tuple[int, Proof]]:
  solver = highs.new_solver()
  for i in _ascending(problem):
    region = whole_region(problem, i)
    groups = attackable(problem, region, bins)
    relaxation = relax_outputs(
      solver, groups, region, merge=bins is not None, time_limit=time_limit
    )
    proof = _proof(relaxation.status, problem, region, relaxation.multipliers)
    # The LP's own value; the envelope's witness, which it shares, is never larger.
    value = min(
      bound_outputs(groups, region, multipliers)
      for multipliers in (relaxation.multipliers, np.zeros_like(relaxation.multipliers))
    )
    yield i, proof._replace(attackable=max(value, proof.attackable))


def _check_options(method: str, time_limit: float | None, bins: int | None) -> None:
  if method not in METHODS:
    raise ValueError(f"`method` must be one of {METHODS}, but it is {method!r}.")
  if time_limit is not None and not (
    isinstance(time_limit, int | float) and not math.isnan(time_limit) and time_limit > 0
  ):
    raise ValueError(f"`time_limit` must be None or seconds > 0, but it is {time_limit!r}.")
  if bins is not None and (isinstance(bins, bool) or not isinstance(bins, int) or bins < 1):
    raise ValueError(f"`bins` must be None or an integer >= 1, but it is {bins!r}.")
