"""The collective certificate by four methods (host)."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jax.typing import ArrayLike
from tqdm import tqdm

from lrs_jax.collective import attacks, highs
from lrs_jax.collective.branching import Proof, branch
from lrs_jax.collective.certificate import Attack, CollectiveCertificate, seal
from lrs_jax.collective.envelope import (
  Program,
  Relaxation,
  attack_of,
  incidence_of,
  make_layout,
  make_program,
  relax,
  repriced,
)
from lrs_jax.collective.hulls import bound_hulls, extend, join, point
from lrs_jax.collective.lp import attackable, bound_outputs, relax_outputs
from lrs_jax.collective.problem import (
  Given,
  Outputs,
  Problem,
  Region,
  check_forfeit,
  guaranteed,
  make_problem,
  prepare,
  problem_of,
  whole_region,
)
from lrs_jax.collective.witness import Witness, bound, tree, whole_box

METHODS = ("naive", "lp", "envelope", "milp")


def certify(
  weights: ArrayLike,
  groups: ArrayLike,
  eta: ArrayLike,
  budgets: ArrayLike,
  *,
  method: str = "envelope",
  targets: ArrayLike | None = None,
  worth: ArrayLike | None = None,
  caps: ArrayLike | None = None,
  integral: bool = False,
  time_limit: float | None = None,
  bins: int | None = None,
  gap: float = 1e-3,
  forfeit: int = 0,
) -> CollectiveCertificate:
  r"""Bounds how many targets one adversary can make fall at the same time.

  The adversary chooses :math:`b \ge 0` with :math:`\sum_c b_{ac} \le B_a`, and output n falls iff
  :math:`s_{g(n)} = \sum_a \sum_c W_{a g(n) c} b_{ac} \ge \eta_n`:

  .. math:: \text{certified}(B) = |T| - \Big\lfloor \max_b \#\{ n \in T : \eta_n \le s_{g(n)} \}
    \Big\rfloor ,

  where outputs of :math:`\eta_n \le 0` leave T first. Every number is the value of a witness that
  `verify` can check again, rounded towards the sound side; if a solver fails or is stopped, it is
  that of the best witness at hand, at worst the naive certificate, and the status says so.

  If up to F base certificates may be false (`forfeit`), then whichever these are, at most their
  outputs fall beyond those that an attack reaches: F times the largest worth of a target of
  :math:`\eta_n > 0` is subtracted as well, down to 0 at the least. `attackable`, `gap` and `attack`
  are of the base certificates as they are given, before that.

  Args:
    weights: W, [G, C] or [A, G, C]; 0 for a masked cell, inf if any perturbation is fatal.
    groups: int [N].
    eta: [N]; <= 0 abstains.
    budgets: [B] or [B, A], in the units of b.
    method: "naive", every output on its own; "lp", the paper's LP with one variable per output;
      "envelope", the tightest LP, never looser than either; "milp", exact up to the gap.
    targets: bool [N], all if None.
    worth: int [N] >= 0, what a target counts for in every number here; 1 if None.
    caps: [C] or [A, C], b <= caps.
    integral: b is integral; budgets and caps are rounded down.
    time_limit: seconds per budget.
    bins: "lp" only: thresholds per group, rounded down to so many.
    gap: "milp" only: stop once bound and best attack differ by at most this part of the targets.
    forfeit: F, so many base certificates may be false, such as `BaseCertificates.forfeit`.

  Raises:
    ValueError: naming the argument, what it is and what would be right.

  Example:
    >>> eta = [1.0, 9.0, 1.0, 9.0]
    >>> certify([[4.0, 1.0], [1.0, 4.0]], [0, 0, 1, 1], eta, [0.2, 0.4, 3.0]).certified
    array([4, 2, 1])
    >>> certify([[4.0, 1.0], [1.0, 4.0]], [0, 0, 1, 1], eta, [0.2, 0.4, 3.0], forfeit=1).certified
    array([3, 1, 0])

  References:
    Schuchardt et al. 2023 (arXiv 2210.16140), sections 4 and 5.
  """
  outputs = prepare(weights, groups, eta)
  return certify_prepared(
    outputs, budgets, method=method, targets=targets, worth=worth, caps=caps, integral=integral,
    time_limit=time_limit, bins=bins, gap=gap, forfeit=forfeit,
  )  # fmt: skip


def certify_prepared(
  outputs: Outputs,
  budgets: ArrayLike,
  *,
  method: str = "envelope",
  targets: ArrayLike | None = None,
  worth: ArrayLike | None = None,
  caps: ArrayLike | None = None,
  integral: bool = False,
  time_limit: float | None = None,
  bins: int | None = None,
  gap: float = 1e-3,
  forfeit: int = 0,
) -> CollectiveCertificate:
  """`certify` for many sets of targets of the same outputs, checked and sorted by `prepare`."""
  if method not in METHODS:
    raise ValueError(f"`method` must be one of {METHODS}, but it is {method!r}.")
  if time_limit is not None and not (isinstance(time_limit, int | float) and time_limit > 0):
    raise ValueError(f"`time_limit` must be None or seconds > 0, but it is {time_limit!r}.")
  if bins is not None and (isinstance(bins, bool) or not isinstance(bins, int) or bins < 1):
    raise ValueError(f"`bins` must be None or an integer >= 1, but it is {bins!r}.")
  if not (isinstance(gap, int | float) and 0 <= gap < np.inf):
    raise ValueError(f"`gap` must be a number >= 0, but it is {gap!r}.")
  forfeit = check_forfeit(forfeit)
  problem, given = problem_of(outputs, budgets, targets, caps, integral, worth)
  stages = {
    "naive": [_naive(problem)],
    "lp": [_lp(problem, bins, time_limit, merge=worth is not None or bins is not None)],
    "envelope": [_envelope(problem, time_limit)],
    "milp": [_envelope(problem, time_limit), _milp(problem, gap, time_limit)],
  }[method]
  proofs, times = _run(problem, stages, method)
  bounds = np.array([proof.attackable for proof in proofs], np.float64)
  attack, gaps = None, np.full(len(proofs), np.nan)
  if method == "milp":
    attack = _attack(problem, given, [proof.attack for proof in proofs])
    gaps = attacks.gap(bounds, attack.num_attacked, problem.num_targets)
  certificate = CollectiveCertificate(
    method=method,
    certified=np.array([guaranteed(problem, given, x, forfeit) for x in bounds], np.int64),
    attackable=bounds,
    gap=gaps,
    status=np.array([proof.status for proof in proofs], dtype=str),
    solve_time=times,
    witness=_witness([proof.tree for proof in proofs], problem.weights.shape[1]),
    attack=attack,
    budgets=given.budgets,
    targets=given.targets,
    caps=given.caps,
    integral=bool(integral),
    forfeit=forfeit,
    digest=given.digest,
    seals=np.zeros(0, "<U64"),
  )
  return certificate._replace(seals=seal(certificate))


def attack(
  weights: ArrayLike,
  groups: ArrayLike,
  eta: ArrayLike,
  budgets: ArrayLike,
  *,
  targets: ArrayLike | None = None,
  caps: ArrayLike | None = None,
  integral: bool = False,
  time_limit: float | None = None,
) -> Attack:
  """An attack that breaks many base certificates at once, at every budget (host).

  It is what the envelope's linear program proposes, made feasible: what it reaches is exact, and
  other attacks may reach more, but never more than `certify` allows. The difference between both
  is what better mathematics could still win; method "milp" of `certify` looks for the best attack.

  Arguments and errors are those of `certify`.

  Example:
    >>> found = attack([[4.0, 1.0], [1.0, 4.0]], [0, 0, 1, 1], [1.0, 9.0, 1.0, 9.0], [0.2, 0.4])
    >>> found.num_attacked
    array([0, 2])
  """
  problem, given = make_problem(weights, groups, eta, budgets, targets, caps, integral, None)
  solver, best = highs.new_solver(), {}
  for i, program, relaxation in _relaxations(problem, time_limit, _ascending(problem)):
    found = attack_of(program, relaxation.solution)
    found = np.zeros_like(problem.caps) if found is None else found
    best[i], _ = attacks.near(solver, problem, program.layout.region, found, -1)
  return _attack(problem, given, [best[i] for i in range(len(problem.budgets))])


def _run(
  problem: Problem, stages: list[Iterator[tuple[int, Proof]]], method: str
) -> tuple[list[Proof], np.ndarray]:
  """Proofs of all budgets, each the best of all stages, and the time they took.

  Ctrl-C ends the last stage early: what is proven so far stays proven.
  """
  num_budgets = len(problem.budgets)
  proofs: dict[int, Proof] = {}
  finished: set[int] = set()
  times, started = np.zeros(num_budgets), time.perf_counter()
  try:
    for stage in stages:
      finished.clear()
      for i, proof in tqdm(stage, method, num_budgets, leave=False, disable=None, delay=1):
        earlier = proofs.get(i, proof)
        if earlier.attackable < proof.attackable:
          proof = proof._replace(attackable=earlier.attackable, tree=earlier.tree)
        proofs[i] = proof
        finished.add(i)
        started, before = time.perf_counter(), started
        times[i] += started - before
  except KeyboardInterrupt:
    for i in set(range(num_budgets)) - finished:
      naive = _single("", _nothing(problem, whole_region(problem, i)))
      proofs[i] = proofs.get(i, naive)._replace(status="interrupted")
  return [proofs[i] for i in range(num_budgets)], times


def _witness(trees: list[Witness], num_groups: int) -> Witness:
  return Witness(
    np.cumsum([0, *(tree.variables.size for tree in trees)], dtype=np.int64),
    np.concatenate([np.zeros(0, np.int64), *(tree.variables for tree in trees)]),
    np.concatenate([np.zeros(0), *(tree.values for tree in trees)]),
    np.concatenate([np.zeros((0, num_groups)), *(tree.multipliers for tree in trees)]),
  )


def _attack(problem: Problem, given: Given, found: list[np.ndarray | None]) -> Attack:
  b = np.zeros((len(found), *problem.caps.shape))
  attacked = np.zeros((len(found), given.eta.size), bool)
  for i, split in enumerate(found):
    if split is not None:
      b[i] = split
      attacked[i] = attacks.outputs(problem, given, problem.budgets[i], b[i])
  return Attack(b, attacked, np.where(attacked, given.targets, 0).sum(axis=1))


def _ascending(problem: Problem) -> Iterator[int]:
  """Budgets from small to large: what is known of one helps with the next."""
  yield from np.lexsort(problem.budgets.T).tolist()


def _before_lost(problem: Problem, lost: list[np.ndarray], beyond: list[int]) -> Iterator[int]:
  """`_ascending`, but that budgets go to `beyond` if a smaller one, in `lost`, may change all."""
  for i in _ascending(problem):
    if any((problem.budgets[i] >= budget).all() for budget in lost):
      beyond.append(i)
    else:
      yield i


def _note_lost(problem: Problem, i: int, proof: Proof, lost: list[np.ndarray]) -> None:
  if proof.attackable >= _all_targets(problem):
    lost.append(problem.budgets[i])


def _beyond(problem: Problem, beyond: Sequence[int]) -> Iterator[tuple[int, Proof]]:
  """All targets may change, which no solver has to say: multipliers of 0 prove it."""
  proof = _single("optimal", (_all_targets(problem), np.zeros(problem.weights.shape[1])))
  yield from ((i, proof) for i in beyond)


def _all_targets(problem: Problem) -> float:
  return math.fsum(counts[-1] for counts in problem.counts)


def _single(status: str, *options: tuple[float, np.ndarray]) -> Proof:
  """A proof of one leaf, by the multipliers that prove most."""
  value, multipliers = min(options, key=lambda option: option[0])
  return Proof(status, max(value, 0.0), tree([-1], [0.0], [multipliers]))


def _nothing(problem: Problem, region: Region) -> tuple[float, np.ndarray]:
  """The naive bound, and its multipliers: none."""
  nothing = np.zeros(problem.weights.shape[1])
  return bound(problem, region, whole_box(problem), nothing), nothing


def _naive(problem: Problem) -> Iterator[tuple[int, Proof]]:
  lost, beyond = list[np.ndarray](), list[int]()
  for i in _before_lost(problem, lost, beyond):
    proof = _single("optimal", _nothing(problem, whole_region(problem, i)))
    _note_lost(problem, i, proof, lost)
    yield i, proof
  yield from _beyond(problem, beyond)


def _envelope(problem: Problem, time_limit: float | None) -> Iterator[tuple[int, Proof]]:
  box, lost, beyond = whole_box(problem), list[np.ndarray](), list[int]()
  left = _before_lost(problem, lost, beyond)
  for i, program, relaxation in _relaxations(problem, time_limit, left):
    hulls, region = program.hulls, program.layout.region
    options = [np.zeros_like(relaxation.multipliers), relaxation.multipliers]
    proof = _single(relaxation.status, *((bound_hulls(hulls, region, box, x), x) for x in options))
    _note_lost(problem, i, proof, lost)
    yield i, proof
  yield from _beyond(problem, beyond)


def _relaxations(
  problem: Problem, time_limit: float | None, indices: Iterable[int]
) -> Iterator[tuple[int, Program, Relaxation]]:
  """The envelope LP of some budgets, from small to large ones."""
  solver, box = highs.new_solver(), whole_box(problem)
  incidence, origin = incidence_of(problem), point(0.0, 0.0)
  program: Program | None = None
  start = None
  counted = [0] * len(problem.thresholds)  # thresholds of every group that its hull is of
  known = [origin] * len(counted)
  for i in indices:
    region = whole_region(problem, i)
    lost, reached = region.lost, problem.reached(region.reach)
    changed = [g for g, last in enumerate(reached) if last != counted[g] and not lost[g]]
    for g in changed:
      if reached[g] < counted[g]:  # a larger budget of one kind may be a smaller one of another
        counted[g], known[g] = 0, origin
    spans = [(g, counted[g], reached[g]) for g in changed]
    eta = [problem.thresholds[g][first:last] for g, first, last in spans]
    heights = [problem.counts[g][first + 1 : last + 1] for g, first, last in spans]
    for g, hull in zip(changed, extend([known[g] for g in changed], eta, heights), strict=True):
      counted[g], known[g] = reached[g], hull
    if program is None or changed or (lost != program.layout.region.lost).any():
      tops = (point(0.0, counts[-1]) for counts in problem.counts)
      hulls = join([top if x else hull for x, top, hull in zip(lost, tops, known, strict=True)])
    else:
      hulls = program.hulls
    program = (program and repriced(program, hulls, region)) or make_program(
      hulls, make_layout(region, incidence), box
    )
    relaxation = relax(solver, program, time_limit=time_limit, start=start)
    start = relaxation.solution
    yield i, program, relaxation


def _lp(
  problem: Problem, bins: int | None, time_limit: float | None, *, merge: bool
) -> Iterator[tuple[int, Proof]]:
  solver, box = highs.new_solver(), whole_box(problem)
  lost, beyond = list[np.ndarray](), list[int]()
  for i in _before_lost(problem, lost, beyond):
    region = whole_region(problem, i)
    groups = attackable(problem, region, bins)
    status, multipliers = relax_outputs(solver, groups, region, merge=merge, time_limit=time_limit)
    # The LP's own value; the envelope's with the same multipliers is smaller, but for rounding.
    own = bound_outputs(groups, region, multipliers)
    proof = _single(
      status,
      _nothing(problem, region),
      (max(own, bound(problem, region, box, multipliers)), multipliers),
    )
    _note_lost(problem, i, proof, lost)
    yield i, proof
  yield from _beyond(problem, beyond)


def _milp(problem: Problem, gap: float, time_limit: float | None) -> Iterator[tuple[int, Proof]]:
  solver = highs.new_solver()
  for i in _ascending(problem):
    region = whole_region(problem, i)
    proof = branch(solver, problem, region, gap=gap, time_limit=time_limit)
    yield i, proof
    if proof.status == "interrupted":
      raise KeyboardInterrupt
