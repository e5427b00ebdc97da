"""What is typed after an option of `lrs-jax`, read as what it means (host)."""

import argparse
import types
import typing
from collections.abc import Callable
from typing import Any

from lrs_jax.tasks.options import Option


def of_field(kind: Any, option: Option, default: Any) -> dict[str, Any]:
  """The keywords of `add_argument` for a field of this type."""
  found: dict[str, Any] = {"help": option.help.replace("%", "%%"), "default": default}
  if isinstance(kind, types.UnionType):
    (kind,) = (part for part in typing.get_args(kind) if part is not types.NoneType)
  if kind is bool:
    return found | {"action": "store_true"}
  is_tuple = typing.get_origin(kind) is tuple
  if option.choices and not is_tuple:
    return found | {"choices": option.choices}
  parse = _parser_of_tuple(kind, option) if is_tuple else kind
  return found | {"type": parse, "metavar": option.metavar}


def _parser_of_tuple(kind: Any, option: Option) -> Callable[[str], tuple]:
  """Reads "64x96", "0,0.5,1" or "votes,kl"."""
  parts = typing.get_args(kind)
  any_number, of = parts[-1] is Ellipsis, parts[0]

  def parse(text: str) -> tuple:
    words = text.lower().split(option.separator) if option.separator == "x" else text.split(",")
    try:
      values = tuple(of(word) for word in words if word)
    except ValueError:
      values = ()
    fits = values and (any_number or len(values) == len(parts))
    if not fits or not set(values) <= set(option.choices or values):
      known = f"some of {', '.join(option.choices)}"
      what = {int: "whole numbers", float: "numbers"}.get(of, known)
      many = "" if any_number else f"{len(parts)} "
      raise argparse.ArgumentTypeError(
        f"expected {many}{what} with {option.separator!r} between them, as in {option.metavar}, "
        f"not {text!r}"
      )
    return values

  return parse


def number(text: str) -> int:
  """A number of things, 0 or more."""
  if not text.isdecimal():
    raise argparse.ArgumentTypeError(f"expected a number, 0 or more, not {text!r}")
  return int(text)


def sample_range(text: str) -> tuple[int, int]:
  """The first of some samples, and one past the last."""
  first, _, end = text.partition(":")
  if not (first.isdigit() and end.isdigit()):
    raise argparse.ArgumentTypeError(f"expected two numbers such as 0:5000, not {text!r}")
  return int(first), int(end)
