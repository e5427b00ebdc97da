"""Options of a task's configuration: name, type, default and help in one place.

The fields of a configuration are annotated with an `Option`. The command line, the checks and the
messages follow from that. `Shared` has the fields that every configuration has.
"""

import dataclasses
import difflib
import json
import tomllib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import numpy as np

from lrs_jax import storage


class Option(NamedTuple):
  """What a field of a configuration is, beside its type and its default."""

  help: str
  group: str = "certificate"
  metavar: str | None = None
  choices: tuple[str, ...] = ()
  separator: str = ","  # between the parts of a tuple
  rule: str = ""  # such as "must be at least 1"
  allowed: Callable[[Any], bool] | None = None  # what the rule says, of a value or of every part


def rule(says: str, allowed: Callable[[Any], bool]) -> Any:
  """What an `Option` says of its values, and the function that finds out: to be unpacked there."""
  return {"rule": says, "allowed": allowed}


def at_least(least: float, says: str = "must be at least {:g}") -> Any:
  """The `rule` that a number is at least `least`, and finite."""
  return rule(says.format(least), lambda value: least <= value < np.inf)


def positive(says: str = "must be positive") -> Any:
  """The `rule` that a number is greater than 0 and finite."""
  return rule(says, lambda value: 0 < value < np.inf)


ONE, ZERO, POSITIVE = at_least(1), at_least(0), positive()
FRACTION = rule("must lie in [0, 1)", lambda value: 0 <= value < 1)
TRAINING = "network and training"  # the group of options that say what is trained, and how
STATISTICS = ("votes", "margins", "kl", "mixed", "bernstein")

Steps = Annotated[int, Option("gradient steps", TRAINING, **ONE)]
BatchSize = Annotated[int, Option("inputs per step", TRAINING, **ONE)]
LearningRate = Annotated[float, Option("peak of the schedule", TRAINING, **POSITIVE)]
TRAINED = ("steps", "batch_size", "learning_rate", "seed")  # of all that decides what is trained

Samples = Annotated[int, Option("votes per output that bound its class", **ONE)]
SelectionSamples = Annotated[int, Option("further votes per output that choose its class", **ONE)]
Scores = Annotated[
  tuple[str, ...],
  Option(
    "statistics that every output may choose from: votes, with margins, which bound other classes, "
    "too (Gaussian noise), or with those of scores: kl, mixed, bernstein",
    metavar="NAME,...",
    choices=STATISTICS,
  ),
]
ExactNoise = Annotated[
  bool | None,
  Option(
    "draw noise in whole steps of the images' 255 grey levels, so that no float32 number stands "
    "for a real one; against images of 8 bits, to which scenes are rounded",
    "noise",
  ),
]
TimeLimit = Annotated[
  float | None, Option("seconds per budget; by default none", metavar="SECONDS", **POSITIVE)
]


@typing.dataclass_transform(kw_only_default=True, frozen_default=True)
@dataclass(frozen=True, kw_only=True)
class Shared:
  """Options of every task: a configuration is a class that adds its own, or has other defaults.

  It is immutable, and changed as a named tuple is: by `_replace`, with `_fields` and `_asdict`.

  Example:
    >>> class Config(Shared):
    ...   data: str = "toys"
    ...   toys: int = 3
    >>> Config(toys=2)._replace(seed=1)._fields[:4]
    ('data', 'data_dir', 'toys', 'seed')
  """

  _fields = tuple[str, ...]()
  _hidden = tuple[str, ...]()  # fields that are no options of this one, at their defaults

  data: str = ""
  data_dir: Annotated[
    str | None, Option("folder of the data; else LRS_JAX_DATA in the environment", "data", "DIR")
  ] = None
  seed: Annotated[int, Option("of data, training and sampling", TRAINING)] = 0
  alpha: Annotated[
    float,
    Option(
      "probability that anything certified of an input is wrong, all outputs and budgets together",
      **rule("must lie strictly between 0 and 1", lambda value: 0 < value < 1),
    ),
  ] = 0.01
  k_fwer: Annotated[
    float,
    Option(
      "part of an input's outputs that may be false and is given up in every count, for bounds at "
      "a higher level; 0 gives up none",
      metavar="FRACTION",
      **FRACTION,
    ),
  ] = 0.0
  samples: Samples = 1000
  selection_samples: SelectionSamples = 100
  scores: Scores = ("votes",)
  until: Annotated[
    tuple[float, float] | None,
    Option(
      "stop sampling an input at 1/8, 1/4 or 1/2 of --samples, as soon as this part of its outputs "
      "is certified at this radius; all looks share --alpha, each has a quarter of it",
      metavar="PART,RADIUS",
      **at_least(0, "must be finite and at least 0"),
    ),
  ] = None
  budgets: Annotated[
    tuple[float, ...] | None,
    Option(
      "radii of the perturbation of the whole input, instead of an average radius; by default 41 "
      "from 0 to where nothing can be certified",
      metavar="E,E,...",
      **at_least(0, "must be finite and at least 0"),
    ),
  ] = None
  method: Annotated[
    str,
    Option(
      "how base certificates are combined; naive and envelope are reported always, lp (the "
      "paper's) unless views make it slow, milp (exact up to --gap, seconds per budget) only if "
      "asked for",
      choices=("naive", "lp", "envelope", "milp"),
    ),
  ] = "envelope"
  bins: Annotated[
    int | None, Option("thresholds per group in lp; by default all", metavar="BINS", **ONE)
  ] = None
  gap: Annotated[
    float,
    Option(
      "milp: part of the outputs by which the bound may exceed the best attack found", **FRACTION
    ),
  ] = 0.01
  time_limit: TimeLimit = None
  precision: Annotated[
    str,
    Option(
      "of products and convolutions on accelerators, recorded in the result",
      choices=("float32", "tensorfloat32", "bfloat16"),
    ),
  ] = "float32"

  def __init_subclass__(cls, hidden: tuple[str, ...] = ()) -> None:
    cls._hidden = hidden
    dataclass(frozen=True, kw_only=True)(cls)
    shared, every = ([field.name for field in dataclasses.fields(c)] for c in (Shared, cls))
    cls._fields = (*shared[:2], *every[len(shared) :], *shared[2:])  # its own come after the data

  def _replace(self, **changes: Any) -> Self:
    return dataclasses.replace(self, **changes)

  def _asdict(self) -> dict[str, Any]:
    return {name: getattr(self, name) for name in self._fields}


def of(config: Any) -> Mapping[str, tuple[Any, Option]]:
  """Every field of a configuration that is an option: name -> (type, `Option`)."""
  hints = typing.get_type_hints(type(config), include_extras=True)
  hidden = getattr(config, "_hidden", ())
  shown = [name for name in config._fields if name not in hidden]
  annotated = {name: hints[name] for name in shown if hasattr(hints[name], "__metadata__")}
  return {name: (hint.__origin__, hint.__metadata__[0]) for name, hint in annotated.items()}


def flag(field: str) -> str:
  """The command line's name of a field.

  Example:
    >>> flag("std_min")
    '--std-min'
  """
  return "--" + field.replace("_", "-")


def shown(value: Any, separator: str = ",") -> str:
  """A value as one would type it.

  Example:
    >>> shown((64, 96), "x"), shown(0.5), shown(None)
    ('64x96', '0.5', 'not given')
  """
  if isinstance(value, list | tuple):
    return separator.join(shown(part) for part in value)
  if value is None:
    return "not given"
  return f"{value:g}" if isinstance(value, float) else str(value)


def to_toml(plain: Mapping[str, Any]) -> str:
  """A configuration, as JSON has it, as the text of a TOML file; what is None is left out.

  Example:
    >>> print(to_toml({"data": "scenes", "size": [16, 24], "until": None, "alpha": 0.01}), end="")
    data = "scenes"
    size = [16, 24]
    alpha = 0.01
  """
  return "".join(
    f"{name} = {json.dumps(value)}\n" for name, value in plain.items() if value is not None
  )


def from_toml(path: Path, default: Any) -> Any:
  """The configuration that a file of `to_toml` holds; what it leaves out is as in `default`.

  Raises:
    ValueError: no such file, no TOML, options that there are not, or those of another data set.
  """
  try:
    given = tomllib.loads(path.read_text(encoding="utf-8"))
  except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
    raise ValueError(f"{path} cannot be read as TOML: {error}") from error
  if given.get("data", default.data) != default.data:
    raise ValueError(f"{path} is for {given['data']!r}, but this is {default.data!r}.")
  for name, value in given.items():
    if name not in default._fields:
      near = difflib.get_close_matches(name, default._fields, 1)
      hint = f"is it {near[0]}?" if near else "another version may have made this."
      raise ValueError(f"{path}: there is no option {name}: {hint}")
    kind, option = of(default).get(name, (str, None))
    kinds = [part for part in (kind, *typing.get_args(kind)) if typing.get_origin(part) is tuple]
    if option is not None and kinds and isinstance(value, str):
      words = value.lower().split(option.separator)
      such = [f'"{word}"' for word in words] if str in typing.get_args(kinds[0]) else words
      told = f"{name} = [{', '.join(such)}], but it is {storage.shortened(value)}"
      raise ValueError(f"{path}: `{name}` must be a list, as in {told}.")
  try:
    found = storage.from_plain(type(default), {"data": default.data, **given})
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from None
  return default._replace(**{name: getattr(found, name) for name in given})


def check(config: Any) -> None:
  """Raises a ValueError that names the first option whose value breaks its rule."""
  for name, (_, option) in of(config).items():
    given = getattr(config, name)
    many = isinstance(given, tuple)
    for value in given if many else (given,) if given is not None else ():
      if option.choices and value not in option.choices:
        choices = ", ".join(option.choices)
        raise ValueError(f"{flag(name)} must be one of {choices}, but it is {value!r}.")
      if option.allowed is not None and not option.allowed(value):
        which = "one of them is" if many else "it is"
        raise ValueError(f"{flag(name)} {option.rule}, but {which} {value}.")
