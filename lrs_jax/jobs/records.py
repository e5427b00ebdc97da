"""A certified input on disk: all from the counts to the witnesses, and its re-check (host)."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrs_jax import collective, noise, storage
from lrs_jax.confidence import certificates
from lrs_jax.jobs import formats, rechecks
from lrs_jax.sampling.counting import Votes


class Record(NamedTuple):
  """One input, certified under one smoothing distribution, with all that a re-check needs.

  `certified` maps names to collective certificates: "all/METHOD" has every output as a target,
  "correct/METHOD" those whose prediction is the label. `base` is what follows from the counts, each
  number a little weaker (`lrs_jax.jobs.rechecks`).
  """

  family: str  # factory in `lrs_jax.noise`
  scales: np.ndarray  # float64 [., G, C], the factory's arguments before `cells`
  cells: np.ndarray  # int32, shaped like the input
  selection_counts: np.ndarray  # int32 [N, K], chose the predictions
  counts: np.ndarray  # int32 [N, K], bound their probabilities
  num_selection: int  # samples of `selection_counts`; a row sums to it, less votes that were lost
  num_samples: int  # S, samples of `counts`; likewise
  alpha: float  # joint error probability of the base certificates
  truth: np.ndarray  # int32 [N], labels; outside [0, K) is void
  base: certificates.BaseCertificates
  radii: np.ndarray  # float64 [B], epsilon
  budgets: np.ndarray  # float64 [B], epsilon^p rounded up, in the units of the weights
  certified: Mapping[str, collective.CollectiveCertificate]
  meta: Mapping[str, Any]  # configuration, model digest, versions


def make_record(
  smoothing: noise.SmoothingDistribution,
  groups: np.ndarray,
  selection: Votes,
  estimation: Votes,
  alpha: float,
  truth: np.ndarray,
  radii: np.ndarray,
  options: Mapping[str, Mapping[str, Any]],
  meta: Mapping[str, Any],
) -> Record:
  """Certifies what was counted, by every method, for all outputs and for the correct ones.

  Args:
    smoothing: the distribution that both sets of votes were drawn from.
    groups: int [N].
    selection: votes that choose the labels.
    estimation: votes from another key that bound their probabilities.
    alpha: joint error probability.
    truth: int [N].
    radii: float64 [B], rising.
    options: method -> keywords for `collective.certify`.
    meta: kept with the record.

  Returns:
    A `Record`.

  Raises:
    ValueError: radii that are not finite, negative or do not rise.
  """
  radii = _check_radii(radii)
  selection_counts, counts = _signed(selection.counts), _signed(estimation.counts)
  num_samples = int(estimation.num_samples)
  base = rechecks.weakened(
    smoothing,
    certificates.from_votes(
      smoothing, _signed(groups), selection_counts, counts, alpha=alpha, num_samples=num_samples
    ),
  )
  budgets, truth = noise.budgets_from_radii(radii, smoothing.p), _signed(truth)
  sets = {"all": None, "correct": base.labels == truth}
  certified = {
    f"{name}/{method}": collective.certify(
      base.weights, base.groups, base.eta, budgets, method=method, targets=targets, **keywords
    )
    for name, targets in sets.items()
    for method, keywords in options.items()
  }
  return Record(
    smoothing.family.name,
    np.stack(smoothing.parameters),
    smoothing.cells,
    selection_counts,
    counts,
    int(selection.num_samples),
    num_samples,
    alpha,
    truth,
    base,
    radii,
    budgets,
    certified,
    meta,
  )


def predictions(record: Record) -> np.ndarray:
  """The smoothed model's predictions, -1 where it abstains: int [N]."""
  return np.where(record.base.eta > 0, record.base.labels, -1)


def to_arrays(record: Record) -> dict[str, np.ndarray]:
  """A record as arrays by the names in `formats.TABLES`."""
  arrays: dict[str, np.ndarray] = {
    "format": np.asarray(formats.FORMAT),
    "kind": np.asarray("image"),
    "meta": storage.json_array(record.meta),
  }
  for name, value in record._asdict().items():
    if name not in ("base", "certified", "meta"):
      arrays[name] = np.asarray(value)
  arrays |= {f"base/{name}": np.asarray(getattr(record.base, name)) for name in _BASE}
  for name, certificate in record.certified.items():
    parts = collective.to_arrays(certificate)
    arrays |= {f"certified/{name}/{key}": part for key, part in parts.items()}
  return arrays


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Record:
  """The record that `to_arrays` took apart, of arrays that `formats` has checked."""
  base: dict[str, Any] = {name: arrays[f"base/{name}"] for name in _BASE}
  fields: dict[str, Any] = {name: arrays[name] for name in Record._fields if name in arrays}
  fields |= {name: int(arrays[name]) for name in ("num_selection", "num_samples")}
  fields |= {
    "family": str(arrays["family"]),
    "alpha": float(arrays["alpha"]),
    "meta": storage.from_json_array(arrays["meta"]),
  }
  certified = {
    name: collective.from_arrays(parts)
    for name, parts in formats.parts_of(arrays, "certified").items()
  }
  return Record(base=certificates.BaseCertificates(**base), certified=certified, **fields)


def save(path: Path, record: Record) -> None:
  """Stores a record as an .npz whose arrays any reader of NumPy's format can load."""
  formats.save(path, to_arrays(record))


def load(path: Path) -> Record:
  """Reads a record; `verify` tells whether it can be believed.

  Raises:
    ValueError: a missing or damaged file, one that is no record of an image, or one of an older
      format.
  """
  try:
    return from_arrays(formats.load(path, "image"))
  except ValueError as error:
    raise ValueError(formats.of_file(path, error)) from None


def smoothing(record: Record) -> noise.SmoothingDistribution:
  """The smoothing distribution that a record was drawn from, made again.

  Raises:
    ValueError: an unknown family, or levels that it cannot have.
  """
  if record.family not in noise.FAMILIES:
    raise ValueError(
      f"`family` must be one of {', '.join(noise.FAMILIES)}, but it is {record.family!r}."
    )
  return noise.make(record.family, record.scales, record.cells)


def verify(record: Record, *, exact: bool = False) -> None:
  """Re-checks a record: counts -> predictions and q -> eta -> budgets -> targets -> witnesses.

  Everything but the counts, the noise, alpha and the labels is computed again or proven again, and
  what is stored must not be on the stronger side of it (`jobs.rechecks`); nothing that a solver
  said is trusted. What `meta` says of all this must not contradict it.

  Args:
    record: from `load`.
    exact: the witnesses in rational arithmetic.

  Raises:
    ValueError: naming what does not follow from what.
  """
  formats.check(to_arrays(record))
  rechecks.check_some(record.certified)
  distribution = smoothing(record)
  for name, number in (("selection_counts", "num_selection"), ("counts", "num_samples")):
    rechecks.check_votes(name, getattr(record, name), number, getattr(record, number))
  rechecks.check_alpha(record.alpha)
  rechecks.check_independence(record.selection_counts, record.counts)
  _check_radii(record.radii)
  job = rechecks.check_meta(record.meta, record.alpha, record.num_selection, record.num_samples)
  _check_job(record, job)
  base = certificates.from_votes(
    distribution,
    record.base.groups,
    record.selection_counts,
    record.counts,
    alpha=record.alpha,
    num_samples=record.num_samples,
  )
  rechecks.check_base(distribution, record.base, base, "the counts, the noise and alpha")
  budgets = noise.budgets_from_radii(record.radii, distribution.p)
  rechecks.check_raised("budgets", record.budgets, budgets, "the radii")
  for name, certificate in record.certified.items():
    rechecks.check_certificate(name, certificate)
    targets = {
      "all": np.ones(record.truth.shape, bool),
      "correct": record.base.labels == record.truth,
    }.get(name.partition("/")[0])
    if targets is None or not np.array_equal(certificate.targets, targets):
      raise ValueError(f"the targets of {name!r} are not those that its name says.")
    if not np.array_equal(certificate.budgets.reshape(-1), record.budgets):
      raise ValueError(f"the budgets of {name!r} are not the record's.")
    if certificate.caps is not None or certificate.integral:
      raise ValueError(f"{name!r} restricts the adversary by caps or to integers; a ball does not.")
    rechecks.prove(
      name, record.base.weights, record.base.groups, record.base.eta, certificate, exact
    )


_BASE = ("weights", "groups", "eta", "labels", "q_lower")
"""What hard votes with the default correction fill in `BaseCertificates`."""


def _signed(values: Any) -> np.ndarray:
  """Integers as an array, of signed ones."""
  array = np.asarray(values)
  return array.astype(np.int64) if array.dtype.kind == "u" else array


def _check_radii(radii: np.ndarray) -> np.ndarray:
  radii = np.asarray(radii, np.float64)
  if not (np.isfinite(radii) & (radii >= 0)).all() or not (np.diff(radii) > 0).all():
    told = storage.shortened(radii.tolist())
    raise ValueError(f"`radii` must be finite, at least 0 and rise, but they are {told}.")
  return radii


def _check_job(record: Record, fields: Mapping[str, Any]) -> None:
  """Raises a ValueError if noise, cells or groups are not those of a job that is told in full."""
  from lrs_jax.tasks import images as jobs

  if set(fields) != set(jobs.ImageJob._fields):
    return
  job = jobs.from_plain(fields)
  jobs.check(job)
  own, num_cells = record.scales.shape[1:], math.prod(job.grid)
  if record.cells.shape != (*job.size, 3) or own not in ((1, 1), (num_cells, num_cells)):
    raise ValueError(
      f"`meta` says that size and grid are {job.size} and {job.grid}, but `cells` has shape "
      f"{record.cells.shape}, and the noise {own[0]} groups and {own[1]} cells."
    )
  localized = own != (1, 1) or num_cells == 1
  options = [jobs.localized_noise(job)] if localized else []
  options += [jobs.isotropic_noise(job)] if own == (1, 1) else []
  if not any(
    record.family == option.family.name
    and np.array_equal(record.scales[0], option.scale)
    and np.array_equal(record.cells, option.cells)
    for option in options
  ):
    raise ValueError("`scales` or `cells` are not those of the noise of the job in `meta`.")
  groups = jobs.output_groups(job).reshape(-1)
  if not np.array_equal(record.base.groups, np.zeros_like(groups) if own == (1, 1) else groups):
    raise ValueError("`groups` are not those of the grid of the job in `meta`.")
