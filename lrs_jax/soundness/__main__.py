"""`python -m lrs_jax.soundness`: whether a certificate claims more than is true."""

import argparse
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lrs_jax.soundness import bounds, collective
from lrs_jax.soundness.base import check_base
from lrs_jax.soundness.known import OURS, PLANTED
from lrs_jax.soundness.reports import Report
from lrs_jax.tasks import finding

ABOUT = """\
Compares what functions claim with exact answers, of problems that are small enough to have them.

kinds of functions:
  collective  (weights, groups, eta, budgets, ...) -> certified counts: collective.certify
  bound       (successes, trials, alpha) -> lower confidence bound on a probability
  flips       (theta_plus, theta_minus, cells) -> weights, eta: of binary inputs that are flipped
  ablation    (rho, cells) -> weights, eta: of binary inputs that are hidden

Without a function, those of lrs_jax are checked, of all kinds. The exit status is 1 if any claims
too much, and the smallest example of each that does is printed as Python."""


def main(arguments: Sequence[str] | None = None) -> int:
  """The command: 0 if nothing is over-claimed, 1 if something is, 2 if it was asked wrongly."""
  parser = argparse.ArgumentParser(
    "python -m lrs_jax.soundness",
    description=ABOUT,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "function", nargs="?", metavar="FUNCTION", help="FILE.py:FUNCTION or MODULE:FUNCTION"
  )
  parser.add_argument("--kind", choices=tuple(OURS), help="what the function is")
  parser.add_argument("--problems", type=int, default=1000, help="of every kind (default: 1000)")
  parser.add_argument("--seed", type=int, default=0, help="of the first one (default: 0)")
  parser.add_argument(
    "--kinds", type=int, default=2, choices=(1, 2), metavar="A",
    help="collective: perturbation kinds, at most; 1 for functions of weights [G, C] alone "
    "(default: 2)",
  )  # fmt: skip
  parser.add_argument(
    "--planted", action="store_true", help="check mistakes, all of which must be found"
  )
  options = parser.parse_args(arguments)
  if options.problems < 1:
    parser.error(f"--problems must be at least 1, but it is {options.problems}.")
  try:
    functions = _functions(options)
  except ValueError as error:
    parser.error(str(error))
  print(f"{'':54} {'problems':>9} {'over-claims':>12} {'tight':>7} {'seconds':>8}")
  examples, claimed = [], True
  for kind, of_kind in functions.items():
    for name, function in of_kind.items():
      start = time.perf_counter()
      report = check(kind, function, options.problems, options.seed, max_kinds=options.kinds)
      share, seconds = report.tight / report.problems, time.perf_counter() - start
      told = f"{report.problems:9,} {report.overclaims:12,} {share:7.1%} {seconds:8.1f}"
      print(f"{kind + ': ' + name:54} {told}", flush=True)
      claimed &= report.claims > 0
      if report.example:
        examples.append((kind, name, report.example))
  for kind, name, example in examples:
    print(f"\n{kind}: {name}. {example.said}.\n{textwrap.indent(example.code, '  ')}")
  if not claimed:
    print("\nA function claims nothing in any problem: that is sound, and worth nothing.")
  return 1 if examples else 0


def check(
  kind: str, function: Callable[..., Any], num_problems: int, seed: int = 0, *, max_kinds: int = 2
) -> Report:
  """The check of a kind of functions, on so many problems.

  Example:
    >>> check("bound", lambda successes, trials, alpha: successes / trials, 10).overclaims
    10
  """
  if kind == "collective":
    asked = collective.options_of(function)
    problems = collective.tiny_problems(num_problems, seed, options=asked, max_kinds=max_kinds)
    return collective.check_collective(function, problems)
  if kind == "bound":
    return bounds.check_bound(function, bounds.trials(num_problems, seed))
  return check_base(function, kind, num_problems, seed)


def _functions(options: argparse.Namespace) -> Mapping[str, Mapping[str, Callable[..., Any]]]:
  """What is checked, by kind and name."""
  if options.function is None:
    known = PLANTED if options.planted else OURS
    return known if options.kind is None else {options.kind: known[options.kind]}
  if options.kind is None or options.planted:
    raise ValueError("a FUNCTION needs its --kind, and is no --planted one.")
  where, _, name = options.function.rpartition(":")
  function = getattr(finding.module(where), name, None) if where else None
  if not callable(function):
    raise ValueError(
      f"FUNCTION must be FILE.py:FUNCTION or MODULE:FUNCTION, but {options.function!r} is none."
    )
  return {options.kind: {options.function: function}}


if __name__ == "__main__":
  sys.exit(main())
