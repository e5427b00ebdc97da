"""Votes that were counted elsewhere, as a task: everything from the bounds on (host).

The votes are those of a smoothed model that somebody sampled by himself, in a file that `read`
describes. `lrs_jax.jobs.counted` certifies them; there is no network to train or to ask.
"""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np

from lrs_jax import noise, storage
from lrs_jax.noise import FAMILIES, SmoothingDistribution, grids
from lrs_jax.sampling import ClassSums, checks
from lrs_jax.tasks import common, options
from lrs_jax.tasks.images import against_segcertify
from lrs_jax.tasks.options import Option
from lrs_jax.tasks.task import Adversary, Case, Data, Models, Smoothing, Task

__all__ = ["load", "noise_of", "read", "sums_of"]

PARTS = ("selection", "estimation")

_OPTIONAL = ("selection_samples", "samples", "truth", "counted", "classes", "budgets", "step")


_HIDDEN = ("data_dir", "seed", "samples", "selection_samples", "until", "precision")


class Config(options.Shared, hidden=_HIDDEN):
  """Configuration of a certificate of counted votes; what the file says is no option."""

  data: str = "counts"
  file: str = ""
  scores: Annotated[
    tuple[str, ...],
    Option(
      "statistics that every output may choose from: votes, or with margins, which bound other "
      "classes, too (Gaussian noise)",
      metavar="NAME,...",
      choices=("votes", "margins"),
    ),
  ] = ("votes",)


def read(path: Path) -> dict[str, np.ndarray]:
  """Reads a file of counts, an .npz of these arrays.

  =====================  =========================================================================
  ``family``             name of the noise: gaussian, laplace, uniform, ablation or flips
  its parameters         [G, C] each, as its factory in `lrs_jax.noise` calls them: ``scale`` for
                         gaussian (standard deviations), ``theta_plus`` and ``theta_minus`` for
                         flips; infinite where a group sees nothing of a cell
  ``step``               for exact noise: the step h of `noise.on_grid`. The votes must be those of
                         whole steps that were drawn as the law says, up to 2^-24 in total variation
  ``cells``              integers, shaped like the input (or so that they can be broadcast to it):
                         the cell in [0, C) of every coordinate
  ``groups``             integers [N], the group in [0, G) of every output
  ``selection``          integers [N, K], votes that choose every output's label
  ``estimation``         integers [N, K], votes of other samples, which bound its probability
  ``truth``              if there are labels: integers [N]; outside [0, K) is void
  ``counted``            if some outputs do not count: booleans [N]
  ``classes``            names [K], if they have any
  ``budgets``            [B, A], for noise of several kinds of perturbation, such as flips
  ``samples``            how many samples there were of the votes that bound: needed if some gave an
                         output no vote; else all rows have one sum
  ``selection_samples``  likewise, of the votes that choose
  =====================  =========================================================================

  Raises:
    ValueError: an array that is missing, unknown or not as above.
  """
  arrays = storage.load_arrays(path)
  stored = arrays.get("family", np.asarray("missing"))
  family = str(stored) if stored.ndim == 0 else f"an array of shape {stored.shape}"
  if family not in FAMILIES:
    raise ValueError(
      f"{path}: `family` must be one of {', '.join(FAMILIES)}, but it is "
      f"{' '.join(family.split())[:60]}: a file of counts says what noise was added."
    )
  parameters = _parameters(family)
  wanted = ("cells", "groups", *PARTS)
  for name in (*parameters[:1], *wanted):
    if name not in arrays:
      raise ValueError(
        f"{path} has no array `{name}`: counts under {family} noise need "
        f"{', '.join((*parameters, *wanted))}."
      )
  unknown = set(arrays) - {"family", *parameters, *wanted, *_OPTIONAL}
  if unknown:
    raise ValueError(f"{path}: there is no use for its array `{min(unknown)}`.")
  try:
    _check(arrays)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from None
  return arrays


def _parameters(family: str) -> tuple[str, ...]:
  """What the arrays of a family are called, those that may be left out last."""
  return tuple(name for name in inspect.signature(FAMILIES[family]).parameters if name != "cells")


def _check(arrays: Mapping[str, np.ndarray]) -> None:
  """Raises a ValueError unless arrays have types and shapes that fit together."""
  distribution = noise_of(arrays)
  for name in ("groups", *PARTS, "truth", *_OPTIONAL[:2]):
    if name in arrays and arrays[name].dtype.kind not in "iu":
      raise ValueError(f"`{name}` must be integers, but its type is {arrays[name].dtype}.")
  shape = arrays["selection"].shape
  if len(shape) != 2 or not shape[1] or arrays["estimation"].shape != shape:
    raise ValueError(
      "`selection` and `estimation` must both have shape [N, K], but they have "
      f"{shape} and {arrays['estimation'].shape}."
    )
  sizes = {"groups": shape[:1], "truth": shape[:1], "counted": shape[:1], "classes": shape[1:]}
  for name, size in sizes.items():
    if name in arrays and arrays[name].shape != size:
      raise ValueError(f"`{name}` must have shape {size}, but its shape is {arrays[name].shape}.")
  checks.check_groups(arrays["groups"].astype(np.int64), distribution.num_groups, "noise")
  if arrays.get("counted", np.zeros(0, bool)).dtype != bool:
    raise ValueError(f"`counted` must be booleans, but its type is {arrays['counted'].dtype}.")
  num_inputs = int(np.prod(arrays["cells"].shape))
  if "step" in arrays and num_inputs > grids.MAX_COORDINATES:
    raise ValueError(f"`step` is for inputs of {grids.MAX_COORDINATES} numbers at most.")
  num_kinds, budgets = len(distribution.weights), arrays.get("budgets")
  if num_kinds > 1 and (budgets is None or budgets.ndim != 2 or budgets.shape[1] != num_kinds):
    kinds = ", ".join(distribution.family.kinds)
    raise ValueError(f"`budgets` must be [B, {num_kinds}], numbers of {kinds}, and are not.")
  if num_kinds == 1 and budgets is not None:
    raise ValueError("`budgets` are for noise of several kinds; give radii by --budgets here.")


def noise_of(arrays: Mapping[str, np.ndarray]) -> SmoothingDistribution:
  """The smoothing distribution that a file of counts names."""
  family = str(arrays["family"])
  given = [arrays[name] for name in _parameters(family) if name in arrays]
  step = arrays.get("step")
  if step is not None and (step.ndim or step.dtype.kind not in "iuf"):
    raise ValueError(f"`step` must be a number, but it is {step.dtype} of shape {step.shape}.")
  return noise.make(family, given, arrays["cells"], None if step is None else float(step))


def sums_of(arrays: Mapping[str, np.ndarray]) -> list[ClassSums]:
  """Votes that select and votes that bound, with their numbers of samples."""
  found = []
  for part, name in zip(PARTS, _OPTIONAL, strict=False):
    votes = arrays[part].astype(np.int64)
    cast = votes.sum(axis=1)
    if name not in arrays and np.unique(cast).size > 1:
      raise ValueError(
        f"outputs have {cast.min()} to {cast.max()} votes in `{part}`: `{name}` must say how many "
        "samples there were."
      )
    found.append(ClassSums(votes, None, None, np.asarray(arrays.get(name, cast.max(initial=0)))))
  return found


def load(config: Config) -> Data:
  """The one input of a file of counts, of which nothing but the votes is known."""
  path = Path(config.file)
  arrays = read(path)
  names = arrays.get("classes", np.arange(arrays["selection"].shape[1]))
  case = Case(path.stem, arrays, arrays.get("truth"), arrays.get("counted"))
  return Data([case], tuple(map(str, names)), facts={"file": path.name})


def smoothings(config: Config, data: Data, case: Case) -> tuple[Smoothing, ...]:
  """The noise of the file."""
  methods = common.certificates_of((config.method, "envelope", "naive"))
  groups = case.x["groups"].astype(np.int32)
  return (Smoothing("certificate", noise_of(case.x), groups, methods, title="votes"),)


def adversaries(
  config: Config, data: Data, case: Case, smoothings: Sequence[Smoothing]
) -> tuple[Adversary, ...]:
  """A ball, or a number of changed entries, or the file's budgets of several kinds."""
  if "budgets" in case.x:
    return (Adversary(np.unique(case.x["budgets"].astype(np.float64), axis=0), integral=True),)
  (ball,) = common.ball(config, data, case, smoothings)
  return (ball._replace(integral=smoothings[0].noise.p == 0),)


_nothing = common.refusing("the votes were counted elsewhere: there is no network here.")

TASK = Task(
  name="counts",
  unit="outputs",
  data={"counts": Config()},
  about={"counts": "votes that were counted elsewhere, in a file: everything from bounds on"},
  check=lambda config: None,
  load=load,
  models=Models(*(_nothing,) * len(Models._fields)),
  smoothings=smoothings,
  counter=_nothing,
  chunk_size=lambda config, case: 1,
  adversaries=adversaries,
  rivals={"segcertify": against_segcertify},
)
"""Certificates of votes that were counted elsewhere."""
