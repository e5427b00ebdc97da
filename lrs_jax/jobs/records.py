"""A certified case on disk: all from the sums to the witnesses, and its re-check (host)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrs_jax import collective, noise, storage
from lrs_jax.collective import CollectiveCertificate
from lrs_jax.confidence import corrections, statistics
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.jobs import formats, rechecks
from lrs_jax.noise import SmoothingDistribution
from lrs_jax.sampling import ClassSums
from lrs_jax.tasks import common, options
from lrs_jax.tasks.task import Adversary, Smoothing, Task


class Pair(NamedTuple):
  """Base certificates of one Rényi order, as they are stored: each number a little weaker."""

  weights: np.ndarray  # float64 [A, G, C]
  eta: np.ndarray  # float64 [N]


class Bounds(NamedTuple):
  """How sums are turned into base certificates."""

  alpha: float  # joint error probability
  k_fwer: float  # part of the outputs that may be false and is given up
  statistics: tuple[str, ...]  # that every output chooses from, see `statistics.from_class_sums`
  looks: int = 1  # at the sums, which share alpha: sampling could stop at each of them

  @property
  def level(self) -> float:
    """Joint error probability of the base certificates of one look."""
    return self.alpha / self.looks


class Record(NamedTuple):
  """One case, certified under one smoothing, with all that a re-check needs.

  `certified` maps names TARGETS/METHOD to collective certificates: "all/..." has every counted
  output as a target, "correct/..." those whose prediction is the label. A name that ends in
  "@ORDER" combines the base certificates of that Rényi order (`noise.renyi`) rather than `base`;
  both follow from the same bounds and hold together. `base` and `pairs` are what follows from the
  sums, each number a little weaker (`jobs.rechecks`).
  """

  task: str
  smoothing: Smoothing
  selection: ClassSums  # chose label and statistic of every output
  estimation: ClassSums  # bound them
  bounds: Bounds
  truth: np.ndarray  # int [N]; outside [0, K) is void or not known
  counted: np.ndarray  # bool [N]
  adversary: Adversary
  base: BaseCertificates
  pairs: Mapping[str, Pair]  # by Rényi order
  certified: Mapping[str, CollectiveCertificate]
  meta: Mapping[str, Any]  # configuration, model digest, versions, what drew the samples

  @property
  def noise(self) -> SmoothingDistribution:
    """The smoothing distribution that was sampled."""
    return self.smoothing.noise

  @property
  def groups(self) -> np.ndarray:
    """The group of every output, int [N]."""
    return self.smoothing.groups

  @property
  def alpha(self) -> float:
    """Joint error probability of the base certificates, of all looks together."""
    return self.bounds.alpha

  @property
  def budgets(self) -> np.ndarray:
    """Budgets, float64 [B, A]."""
    return self.adversary.budgets

  @property
  def labelled(self) -> np.ndarray:
    """Counted outputs that have a label, bool [N]."""
    num_classes = self.selection.votes.shape[1]
    return self.counted & (self.truth >= 0) & (self.truth < num_classes)


def make_record(
  task: str,
  smoothing: Smoothing,
  sums: Sequence[ClassSums],
  bounds: Bounds,
  adversary: Adversary,
  *,
  truth: np.ndarray | None = None,
  counted: np.ndarray | None = None,
  methods: Mapping[str, Mapping[str, Any]] | None = None,
  meta: Mapping[str, Any] | None = None,
  certify: Callable[..., Any] = collective.certify,
) -> Record:
  """Certifies what was counted, by every certificate that the smoothing names.

  `sums` are those of the samples that select and of those, from another key, that bound. Without
  `truth`, int [N], nothing "correct" is certified; without `counted`, bool [N], all outputs are
  counted. `methods` maps a method to more keywords for `collective.certify`, and `certify` may be
  something else that gets its arguments: the record is `certified` by whatever it returns.

  Raises:
    ValueError: radii that are not finite, negative or do not rise; sums that do not fit.
  """
  rechecks.check_radii(adversary.radii)
  selection, estimation = map(_signed, sums)
  num_outputs = selection.votes.shape[0]
  base = rechecks.weakened(smoothing.noise, _base(smoothing, selection, estimation, bounds))
  wanted = _wanted(smoothing, truth is not None)
  pairs = {}
  for order in dict.fromkeys(name.partition("@")[2] for name in wanted if "@" in name):
    weights, eta = _pair(smoothing.noise, base, order)
    pairs[order] = Pair(weights * rechecks.HIGHER, eta * rechecks.LOWER)
  record = Record(
    task,
    smoothing,
    selection,
    estimation,
    bounds,
    np.full(num_outputs, -1) if truth is None else np.asarray(truth).astype(np.int64),
    np.ones(num_outputs, bool) if counted is None else np.asarray(counted, bool),
    adversary,
    base,
    pairs,
    {},
    meta or {},
  )
  found = {name: _certify(record, name, methods or {}, certify) for name in wanted}
  return record._replace(certified=found)


def _wanted(smoothing: Smoothing, labelled: bool) -> list[str]:
  """The certificates of a smoothing, without labels those of all outputs."""
  return [name for name in smoothing.certificates if labelled or not name.startswith("correct/")]


def _certify(
  record: Record,
  name: str,
  methods: Mapping[str, Mapping[str, Any]],
  certify: Callable[..., Any] = collective.certify,
) -> Any:
  method = name.partition("/")[2].partition("@")[0]
  weights, eta = weights_and_eta(record, name)
  adversary = record.adversary
  coarse = adversary.coarse if method == "milp" and adversary.coarse is not None else slice(None)
  return certify(
    weights,
    record.groups,
    eta,
    adversary.budgets[coarse],
    method=method,
    targets=targets_of(record, name),
    caps=adversary.caps,
    integral=adversary.integral,
    forfeit=record.base.forfeit,
    **methods.get(method, {}),
  )


def _base(
  smoothing: Smoothing, selection: ClassSums, estimation: ClassSums, bounds: Bounds
) -> BaseCertificates:
  """Base certificates of the most voted class, as they follow from the sums."""
  levels = corrections.levels(bounds.level, len(selection.votes), bounds.k_fwer)
  drawn, sums = (smoothing.noise, smoothing.groups), (selection, estimation)
  return statistics.from_class_sums(*drawn, *sums, alpha=levels, methods=bounds.statistics)


def targets_of(record: Record, name: str) -> np.ndarray:
  """The targets that a certificate's name says, bool [N]."""
  sets = {"all": record.counted, "correct": record.counted & (record.base.labels == record.truth)}
  part = name.partition("/")[0]
  if part not in sets:
    raise ValueError(f"certificates are named all/... or correct/..., but one is {name!r}.")
  return sets[part]


def weights_and_eta(record: Record, name: str) -> tuple[np.ndarray, np.ndarray]:
  """The base certificates that a certificate's name says: weights [A, G, C] and eta [N]."""
  order = name.partition("@")[2]
  if not order:
    return record.base.weights, record.base.eta
  if order not in record.pairs:
    raise ValueError(f"{name!r} needs `pairs` of order {order}, of which there are none.")
  return record.pairs[order]


def _pair(distribution: SmoothingDistribution, base: BaseCertificates, order: str) -> Pair:
  """The base certificates of an order, as they follow from the noise and the stored bounds."""
  try:
    number = float(order)
  except ValueError:
    number = np.nan
  if not number > 0 or f"{number:g}" != order:
    raise ValueError(f"an order must be a number greater than 0, but one is {order[:60]!r}.")
  family = distribution.family
  if family.renyi is None:
    raise ValueError(f"{family.name} noise has no base certificates of Rényi orders.")
  return Pair(*family.renyi(distribution, base.q_lower, number))


def to_arrays(record: Record) -> dict[str, np.ndarray]:
  """A record as arrays by the names in `formats.RECORD`."""
  distribution = record.noise
  arrays: dict[str, Any] = {
    "format": formats.FORMAT,
    "task": record.task,
    "smoothing": record.smoothing.name,
    "meta": storage.json_array(record.meta),
    "noise/family": distribution.family.name,
    "noise/parameters": np.stack(distribution.parameters),
    "noise/cells": distribution.cells,
    "noise/step": distribution.family.step,
    "groups": record.groups,
    "truth": record.truth,
    "counted": record.counted,
    "bounds/alpha": float(record.bounds.alpha),
    "bounds/k_fwer": float(record.bounds.k_fwer),
    "bounds/statistics": np.asarray(record.bounds.statistics, str),
    "bounds/looks": record.bounds.looks if record.bounds.looks > 1 else None,
  }
  for part in ("selection", "estimation", "adversary", "base"):
    fields = {f"{part}/{name}": value for name, value in getattr(record, part)._asdict().items()}
    arrays |= {name: value for name, value in fields.items() if name in formats.RECORD}
  for order, pair in record.pairs.items():
    arrays |= {f"pairs/{order}/{name}": value for name, value in pair._asdict().items()}
  for name, certificate in record.certified.items():
    parts = collective.to_arrays(certificate)
    arrays |= {f"certified/{name}/{key}": part for key, part in parts.items()}
  return {name: np.asarray(value) for name, value in arrays.items() if value is not None}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Record:
  """The record that `to_arrays` took apart, of arrays that `formats` has checked."""

  def part(name: str, kind: Any) -> dict[str, Any]:
    return {field: arrays.get(f"{name}/{field}") for field in kind._fields}

  groups, bounds, base = arrays["groups"], part("bounds", Bounds), part("base", BaseCertificates)
  adversary, proofs = part("adversary", Adversary), formats.parts_of(arrays, "certified")
  certified = {name: collective.from_arrays(of) for name, of in proofs.items()}
  family, levels = str(arrays["noise/family"]), list(arrays["noise/parameters"])
  step = float(arrays["noise/step"]) if "noise/step" in arrays else None
  distribution = noise.make(family, levels, arrays["noise/cells"], step)
  return Record(
    task=str(arrays["task"]),
    smoothing=Smoothing(str(arrays["smoothing"]), distribution, groups, tuple(certified)),
    selection=ClassSums(**part("selection", ClassSums)),
    estimation=ClassSums(**part("estimation", ClassSums)),
    bounds=Bounds(
      float(bounds["alpha"]),
      float(bounds["k_fwer"]),
      tuple(map(str, bounds["statistics"])),
      1 if bounds["looks"] is None else int(bounds["looks"]),
    ),
    truth=arrays["truth"],
    counted=arrays["counted"],
    adversary=Adversary(**adversary | {"integral": bool(adversary["integral"])}),
    base=BaseCertificates(**base | {"groups": groups, "forfeit": int(base["forfeit"])}),
    pairs={order: Pair(**of) for order, of in formats.parts_of(arrays, "pairs").items()},
    certified=certified,
    meta=storage.from_json_array(arrays["meta"]),
  )


def save(path: Path, record: Record) -> None:
  """Stores a record as an .npz whose arrays any reader of NumPy's format can load."""
  arrays = to_arrays(record)
  storage.save_arrays(path, {**arrays, "digest": np.asarray(storage.digest(arrays))})


def load(path: Path) -> Record:
  """Reads a record, or raises a ValueError; `verify` tells whether it can be believed."""
  arrays = formats.load(path)
  try:
    return from_arrays(arrays)
  except ValueError as error:
    raise ValueError(f"{path} is no whole certificate: {error}") from None


def verify(record: Record, *, task: Task | None = None, exact: bool = False) -> None:
  """Re-checks a record: sums -> labels, statistics, eta -> budgets, targets, caps -> witnesses.

  Everything but the sums, the noise, alpha, the labels, which outputs are counted and caps
  (`rechecks.TRUSTED`) is computed again or proven again, and what is stored must not be on the
  stronger side of it; nothing that a solver said is trusted. What `meta` says of all this must not
  contradict it. A `task` compares the noise with the configuration in `meta`; `exact` evaluates
  witnesses in rational arithmetic.

  Raises:
    ValueError: naming what does not follow from what.
  """
  _check(record, task)
  if not record.certified:
    raise ValueError("`certified` is empty: this record proves nothing.")
  base = _base(record.smoothing, record.selection, record.estimation, record.bounds)
  rechecks.check_base(record.noise, record.base, base)
  for order, stored in record.pairs.items():
    source, name = f"the noise and order {order}", f"pairs/{order}"
    weights, eta = _pair(record.noise, record.base, order)
    rechecks.check_weaker(f"{name}/weights", stored.weights, weights, source, lower=False)
    rechecks.check_weaker(f"{name}/eta", stored.eta, eta, source, lower=True)
  for name, certificate in record.certified.items():
    if not np.array_equal(certificate.targets, targets_of(record, name)):
      raise ValueError(f"the targets of {name!r} are not those that its name says.")
    weights, eta = weights_and_eta(record, name)
    rechecks.check_certificate(name, certificate, record, weights, eta, exact)


def _check(record: Record, task: Task | None) -> None:
  """Checks what a record was made of: types, sums, sizes, budgets, and what `meta` says of them."""
  formats.check(to_arrays(record))
  rechecks.check_both(record.selection, record.estimation)
  rechecks.check_bounds(record.bounds, record.selection.scores is not None)
  rechecks.check_budgets(record.adversary, record.noise)
  job = rechecks.check_meta(record)
  if task is not None and task.check_record is not None and is_known(record, task):
    config = storage.from_plain(type(next(iter(task.data.values()))), job)
    options.check(config)
    task.check(config)
    task.check_record(config, record)


def is_known(record: Record, task: Task | None) -> bool:
  """Whether a record's configuration has the options that the task has.

  One may be missing that is not given by default, None: it came later, and changed nothing.
  """
  job = record.meta.get("job")
  if task is None or not isinstance(job, Mapping):
    return False
  default = next(iter(task.data.values()))._asdict()
  return set(job) <= set(default) and all(default[name] is None for name in set(default) - set(job))


def is_of(record: Record, smoothing: Smoothing, adversary: Adversary, labelled: bool) -> bool:
  """Whether a record is of this noise, these groups, budgets and certificates."""
  stored: Any = (record.groups, record.budgets, record.adversary.caps)
  asked: Any = (smoothing.groups, adversary.budgets, adversary.caps)
  return (
    common.noise_digest(record.noise) == common.noise_digest(smoothing.noise)
    and all(map(np.array_equal, stored, asked))
    and set(record.certified) == set(_wanted(smoothing, labelled))
  )


def _signed(sums: ClassSums) -> ClassSums:
  """Sums as arrays, of signed integers."""
  arrays = [None if value is None else np.asarray(value) for value in sums]
  return ClassSums(
    *(a.astype(np.int64) if a is not None and a.dtype.kind == "u" else a for a in arrays)
  )
