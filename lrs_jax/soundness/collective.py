"""Collective certificates against the exact optimum of tiny problems (host)."""

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrs_jax.soundness.reports import Overclaim, Report
from lrs_jax.soundness.tiny import Tiny, random_problem, survivors

OPTIONS = ("targets", "caps", "integral")
"""Keywords that a certificate may take."""


class Solved(NamedTuple):
  """A problem, and what may be certified."""

  problem: Tiny
  survivors: int


def tiny_problems(
  num_problems: int, seed: int = 0, *, options: Collection[str] = OPTIONS, max_kinds: int = 2
) -> tuple[Solved, ...]:
  """Random tiny problems with their exact answers.

  They have few groups, cells and outputs, weights and thresholds over several decades, many ties,
  zeros and infinite numbers, and all options crossed.

  Args:
    num_problems: how many.
    seed: of the first one; the others have those that follow.
    options: keywords that the certificate takes; what it does not take is left out.
    max_kinds: perturbation kinds A, at most.

  Example:
    >>> [solved.survivors for solved in tiny_problems(6)]
    [0, 3, 0, 0, 0, 2]
  """
  return tuple(_solved(num_problems, seed, options, max_kinds))


def _solved(
  num_problems: int, seed: int, options: Collection[str], max_kinds: int
) -> Iterator[Solved]:
  for i in range(seed, seed + num_problems):
    problem = random_problem(
      np.random.default_rng(i), infinite="integral" in options, max_kinds=max_kinds
    )
    problem = problem._replace(**{key: _LEFT_OUT[key] for key in OPTIONS if key not in options})
    yield Solved(problem, survivors(problem))


def options_of(certify: Callable[..., Any]) -> tuple[str, ...]:
  """Which of `OPTIONS` a function takes.

  Example:
    >>> options_of(lambda weights, groups, eta, budgets, caps=None: ...)
    ('caps',)
  """
  parameters = inspect.signature(certify).parameters.values()
  if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
    return OPTIONS
  names = {parameter.name for parameter in parameters}
  return tuple(key for key in OPTIONS if key in names)


def check_collective(certify: Callable[..., Any], problems: Sequence[Solved]) -> Report:
  r"""No attack leaves fewer outputs than a collective certificate says.

  A problem asks for a number of targets that survive every :math:`b \ge 0` with
  :math:`\sum_c b_{ac} \le B_a` (and :math:`b \le` caps, and integral b), where output n falls iff
  :math:`\sum_a \sum_c W_{a g(n) c} b_{ac} \ge \eta_n`, and outputs of :math:`\eta_n \le 0` count
  as fallen. It is compared with the exact number. An over-claim is any number above it; a tight
  answer is that number.

  Args:
    certify: (weights, groups, eta, budgets, ...) -> certified counts [B], or a value that has them
      as `certified`. A problem of one kind hands over weights [G, C], budgets [B] and caps [C];
      one of two kinds has a leading axis A, and budgets [B, A]; B is 1. The keywords `targets`,
      `caps` and `integral` are handed over where the problem has them.
    problems: of `tiny_problems`, with the options that `certify` takes.

  Example:
    >>> from lrs_jax import collective
    >>> check_collective(collective.certify, tiny_problems(30)).overclaims
    0
  """
  tight, claims, wrong = list[bool](), 0, list[Tiny]()
  for solved in problems:
    claimed = _claimed(certify, solved.problem)
    tight.append(claimed == solved.survivors)
    claims += max(int(claimed), 0) if np.isfinite(claimed) else 0
    if not claimed <= solved.survivors:  # nor is nan
      wrong.append(solved.problem)
  smallest = min(wrong, key=_size, default=None)
  example = None if smallest is None else _overclaim(certify, smallest)
  return Report(len(tight), len(wrong), sum(tight), claims, example)


_LEFT_OUT: dict[str, Any] = {"targets": None, "caps": None, "integral": False}


def _arguments(problem: Tiny) -> tuple[tuple[Any, ...], dict[str, Any]]:
  """Positional and keyword arguments, without the axis A where there is one kind."""
  weights, budgets, options = problem.weights, problem.budgets, problem.options
  if len(weights) == 1:
    weights, budgets = weights[0], budgets[:, 0]
    if problem.caps is not None:
      options["caps"] = problem.caps[0]
  given = {key: value for key, value in options.items() if value is not _LEFT_OUT[key]}
  return (weights, problem.groups, problem.eta, budgets), given


def _claimed(certify: Callable[..., Any], problem: Tiny) -> float:
  positional, keywords = _arguments(problem)
  found = certify(*positional, **keywords)
  counts = np.asarray(getattr(found, "certified", found), np.float64)
  if counts.shape not in ((), (1,)):
    raise ValueError(
      f"a certificate must have a count for every budget, [1], but its shape is {counts.shape}."
    )
  return float(counts.reshape(()))


def _size(problem: Tiny) -> int:
  return problem.weights.size + problem.eta.size


def _overclaim(certify: Callable[..., Any], problem: Tiny) -> Overclaim:
  """The problem, made smaller as long as too much is claimed of it."""

  def wrong(smaller: Tiny) -> bool:
    return not _claimed(certify, smaller) <= survivors(smaller)

  smaller: Tiny | None = problem
  while smaller is not None:
    problem, smaller = smaller, next(filter(wrong, _smaller(smaller)), None)
  positional, keywords = _arguments(problem)
  claimed, truth = _claimed(certify, problem), survivors(problem)
  told = [_code(value) for value in positional]
  told += [f"{key}={_code(value)}" for key, value in keywords.items()]
  lines = ",\n  ".join(told)
  return Overclaim(
    _size(problem),
    f"{claimed:g} of {problem.eta.size} outputs are certified, but an attack leaves {truth}",
    "from numpy import array, inf\n\n"
    f"certificate = function(\n  {lines},\n)\n"
    f'certified = getattr(certificate, "certified", certificate)\nassert certified <= {truth}',
  )


def _smaller(problem: Tiny) -> Iterator[Tiny]:
  """Problems with one output, group or option less."""
  targets = problem.targets
  for n in range(problem.eta.size):
    keep = np.arange(problem.eta.size) != n
    yield problem._replace(
      groups=problem.groups[keep],
      eta=problem.eta[keep],
      targets=None if targets is None else targets[keep],
    )
  for g in range(problem.weights.shape[1]):
    if g not in problem.groups:
      yield problem._replace(
        weights=np.delete(problem.weights, g, axis=1),
        groups=problem.groups - (problem.groups > g),
      )
  for c in range(problem.weights.shape[2] - 1, 0, -1):
    yield problem._replace(
      weights=np.delete(problem.weights, c, axis=2),
      caps=None if problem.caps is None else np.delete(problem.caps, c, axis=1),
    )
  if targets is not None:
    yield problem._replace(targets=None)
  if problem.caps is not None:
    yield problem._replace(caps=None)


def _code(value: Any) -> str:
  if not isinstance(value, np.ndarray):
    return repr(value)
  return f"array({value.tolist()!r}{'' if value.size else f', {value.dtype.name!r}'})"
