"""What a check says (host)."""

from typing import NamedTuple


class Overclaim(NamedTuple):
  """One thing that was certified and is not so."""

  size: int  # of the problem: the fewer, the easier to understand
  said: str  # what was claimed, and what is true
  code: str  # Python that shows it again, where `function` is what was checked


class Report(NamedTuple):
  """What a check found of a function."""

  problems: int  # that were checked
  overclaims: int  # of these, where more was claimed than is true
  tight: int  # of these, where the claim is the best that can be made
  claims: int  # things that were claimed in all of them: nothing claimed is nothing checked
  example: Overclaim | None  # the smallest over-claim, if there is any


def summarize(tight: list[bool], claims: int, found: list[Overclaim]) -> Report:
  """A report on problems, of which these were tight, and these over-claimed."""
  example = min(found, key=lambda overclaim: overclaim.size, default=None)
  return Report(len(tight), len(found), sum(tight), claims, example)
