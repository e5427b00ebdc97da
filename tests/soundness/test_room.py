"""The checks that others may run: ours pass, planted mistakes are found, examples can be pasted."""

import functools
import math
import re
import shlex
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lrs_jax import soundness
from lrs_jax.soundness import __main__ as command

ROOT = Path(__file__).parent.parent.parent
FUNCTIONS = [(kind, name) for kind, of_kind in soundness.OURS.items() for name in of_kind]
MISTAKES = [(kind, name) for kind, of_kind in soundness.PLANTED.items() for name in of_kind]


@functools.cache
def problems():
  return soundness.tiny_problems(80)


def check(kind, function):
  if kind == "collective":
    return soundness.check_collective(function, problems())
  return command.check(kind, function, 80)


@pytest.mark.parametrize(("kind", "name"), FUNCTIONS)
def test_ours_claim_something_and_not_too_much(kind, name):
  report = check(kind, soundness.OURS[kind][name])
  assert report.overclaims == 0, report.example
  assert report.claims > 0
  assert report.problems == 80
  assert report.tight == 80 or name not in (
    "collective.certify, milp",
    "confidence.clopper_pearson_lower",
  )


@pytest.mark.parametrize(("kind", "name"), MISTAKES)
def test_mistakes_are_found_and_their_examples_show_them(kind, name):
  function = soundness.PLANTED[kind][name]
  report = check(kind, function)
  assert report.overclaims > 0
  with pytest.raises(AssertionError):
    exec(report.example.code, {"function": function})
  best = {"collective": "collective.certify, milp"}.get(kind, next(iter(soundness.OURS[kind])))
  exec(report.example.code, {"function": soundness.OURS[kind][best]})


def test_what_is_no_number_over_claims():
  assert check("collective", lambda *problem, **options: math.nan).overclaims == 80
  assert check("bound", lambda *arguments: math.nan).overclaims == 80


def test_nothing_claimed_is_seen():
  nothing = check("collective", lambda *problem, **options: 0)
  assert (nothing.overclaims, nothing.claims) == (0, 0)
  assert nothing.tight < 80
  report = check("bound", lambda *arguments: 0.0)
  assert (report.overclaims, report.claims, report.tight) == (0, 0, 0)


def test_options_that_a_function_has_not_are_left_out():
  def certify(weights, groups, eta, budgets, caps=None):
    return 0

  assert soundness.options_of(certify) == ("caps",)
  problems = soundness.tiny_problems(30, options=("caps",), max_kinds=1)
  assert not any(solved.problem.integral for solved in problems)
  assert any(solved.problem.caps is not None for solved in problems)
  soundness.check_collective(certify, problems)  # which refuses other keywords


def test_the_error_of_a_bound_is_exact():
  """Of two trials: (1 - p)^2 <= alpha where the bound of none is above p, and so on."""

  def report(of_one, of_two):
    return soundness.check_bound(
      lambda k, trials, alpha: [0.0, of_one, of_two][k], [soundness.Trials(2, 0.25)]
    )

  near = 1 - math.sqrt(0.75)  # one or two of two have probability 1/4 there
  around = [near + i * 2.0**-55 for i in range(-3, 4)]
  held = [1 - (1 - Fraction(p)) ** 2 <= Fraction(1, 4) for p in around]
  assert 0 < sum(held) < len(held)
  for p, holds in zip(around, held, strict=True):
    assert report(p, 0.5).overclaims == (not holds)
    assert report(p, 0.5).tight == 1
  below = around[0]
  assert report(below, np.nextafter(0.5, 1)).overclaims == 1
  assert report(below, 0.4).tight == 0


def test_a_bound_that_falls_is_tried_between_the_others():
  """One success of two has probability 1/2 at p = 1/2, and none at p = 1."""
  report = soundness.check_bound(
    lambda k, trials, alpha: [0.0, 1.0, 0.0][k], [soundness.Trials(2, 0.4)]
  )
  assert report.overclaims == 1


def test_command(tmp_path, capsys):
  assert command.main(["--kind", "bound", "--problems", "5"]) == 0
  assert "confidence.clopper_pearson_lower" in capsys.readouterr().out
  path = tmp_path / "mine.py"
  path.write_text(
    "def everything(weights, groups, eta, budgets):\n  return (eta > 0).sum()\n\n"
    "def nothing(successes, trials, alpha):\n  return 0.0\n"
  )
  asked = ["--problems", "30", "--kinds", "1"]
  assert command.main([f"{path}:everything", "--kind", "collective", *asked]) == 1
  printed = capsys.readouterr().out
  assert "assert certified <= 0" in printed
  assert command.main([f"{path}:nothing", "--kind", "bound", *asked]) == 0
  assert "claims nothing" in capsys.readouterr().out


def test_the_page_prints_what_it_says_and_its_commands_are_understood(tmp_path, capsys):
  page = (ROOT / "docs" / "soundness.md").read_text()
  (told,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
  exec(told, {})
  assert f"```text\n{capsys.readouterr().out}```" in page
  path = tmp_path / "mine.py"
  path.write_text("from lrs_jax.collective import certify\n")
  (commands,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
  for line in commands.splitlines():
    words = shlex.split(line.replace("mine.py", str(path)), comments=True)
    assert words[:3] == ["python", "-m", "lrs_jax.soundness"]
    assert command.main([*words[3:], "--problems", "3"]) == ("--planted" in words)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["mine.py:certify"], "needs its --kind"),
    (["json:nothing", "--kind", "bound"], "but 'json:nothing' is none"),
    (["certify", "--kind", "bound"], "but 'certify' is none"),
    (["no_such.py:certify", "--kind", "bound"], "there is no file no_such.py"),
    (["--problems", "0"], "must be at least 1"),
  ],
)
def test_what_is_asked_wrongly(arguments, message, capsys):
  with pytest.raises(SystemExit) as refused:
    command.main(arguments)
  assert refused.value.code == 2
  assert message in capsys.readouterr().err
