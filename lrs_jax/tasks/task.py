"""What a task is: a value of data and pure functions, which `lrs_jax.jobs` runs whatever it is."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from lrs_jax.noise import SmoothingDistribution
from lrs_jax.sampling import ClassSums

if TYPE_CHECKING:
  from matplotlib.figure import Figure

Config = Any
"""A task's options, see `tasks.options.Shared`; every field has a default."""

Count = Callable[[jax.Array, int, int], ClassSums]
"""(key, number of samples, first sample) -> sums over them; compiled when it is called first."""


class Case(NamedTuple):
  """One input that is perturbed and certified."""

  name: str  # of its folder
  x: Any  # pytree of arrays: all that the model reads of it
  truth: np.ndarray | None  # int [N]; outside [0, K) is void. None: there are no labels
  counted: np.ndarray | None = None  # bool [N], outputs that are certified; all if None


class Data(NamedTuple):
  """What a job certifies."""

  cases: Sequence[Case]
  classes: tuple[str, ...]  # K names
  notes: tuple[str, ...] = ()  # what the user should be told of the data
  facts: Mapping[str, Any] = {}  # JSON values for the summary, such as sizes


class Smoothing(NamedTuple):
  """One way of smoothing a network for one case."""

  name: str  # of the file that holds its certificates
  noise: SmoothingDistribution  # as groups see it
  groups: np.ndarray  # int32 [N]
  certificates: tuple[str, ...]  # TARGETS/METHOD or TARGETS/METHOD@ORDER, see `jobs.records`
  network: str = ""  # which network is smoothed: "" where all smoothings have one in common
  fields: tuple[SmoothingDistribution, np.ndarray] | None = None
  # what is drawn, if outputs see less of it: K noise fields, and int32 [N], that of every output
  view: str = ""  # how it is known that they see no more, in words
  samples: str = ""  # name of the smoothing that draws the same, and whose samples are taken
  title: str = ""  # what a reader calls it; its name if there is none

  @property
  def drawn(self) -> tuple[SmoothingDistribution, np.ndarray]:
    """The noise that is drawn, of K groups, and which of them every output has, int32 [N]."""
    return self.fields or (self.noise, self.groups)

  @property
  def sampled(self) -> str:
    """The name of the smoothing whose samples these are."""
    return self.samples or self.name


class Adversary(NamedTuple):
  """Against whom a case is certified under one smoothing."""

  budgets: np.ndarray  # float64 [B, A], in the units of the weights
  radii: np.ndarray | None = None  # float64 [B], epsilon of a ball: budgets are its p-th power
  caps: np.ndarray | None = None  # float64 [A, C]
  integral: bool = False
  coarse: np.ndarray | None = None  # bool [B], budgets of the exact method; all if None


class Network(NamedTuple):
  """What tells a trained network from all others."""

  architecture: str  # the first part of its file's name
  options: Mapping[str, Any]  # fields of the configuration that decide it, as JSON has them
  digest: str = ""  # of whatever else does


class Models(NamedTuple):
  """How a task comes by the networks that it certifies."""

  network: Callable[[Config, Data, str], Network]  # by a smoothing's `network`
  train: Callable[[jax.Array, Config, Data, str, Path, Mapping[str, Any]], tuple[Any, Mapping]]
  # (key, config, data, network, file for an unfinished training, manifest that tells it from
  # others) -> variables, and JSON values to remember, such as losses
  shapes: Callable[[Config, Data], Any]  # pytree of the variables' shapes and types
  finish: Callable[[Config, Data, Any], Any]  # variables -> params, such as folded ones
  predict: Callable[[Config, Data, Any, Case], np.ndarray]  # params -> int [N], without noise


class Task(NamedTuple):
  """Everything that a job needs to know of what it certifies."""

  name: str
  unit: str  # what the outputs are called: "pixels"
  data: Mapping[str, Config]  # name of a data set -> its default configuration
  about: Mapping[str, str]  # name of a data set -> one line of help
  check: Callable[[Config], None]  # raises a ValueError beyond what `options.check` finds
  load: Callable[[Config], Data]
  models: Models
  smoothings: Callable[[Config, Data, Case], tuple[Smoothing, ...]]
  # the first is ours; the others are baselines
  counter: Callable[[Config, Data, Any, Case, Smoothing], Count]  # params -> what counts
  chunk_size: Callable[[Config, Case], int]  # samples that a device evaluates at once, 2^i <= 256
  adversaries: Callable[[Config, Data, Case, Sequence[Smoothing]], tuple[Adversary, ...]]
  check_network: Callable[[Config, Data, Any], None] | None = None
  # params: raises a ValueError if the network is not what certificates assume, before it is sampled
  rivals: Mapping[str, Callable[[Any], Mapping[str, np.ndarray] | None]] = {}
  # record -> {"all": certified int [B], "correct": ...}, or None where it does not apply
  check_record: Callable[[Config, Any], None] | None = None
  # raises a ValueError if a record's noise or groups cannot be those of the configuration
  figures: Callable[[Config, Data, Sequence[Any], Mapping[str, Any]], "Mapping[str, Figure]"] = (
    lambda config, data, records, summary: {}
  )
  # records of the first smoothing, summary -> path under the job's folder -> figure
  assumes: tuple[str, ...] = ()  # what its certificates take on trust, beside what all do
