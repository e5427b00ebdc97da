"""A certified input on disk: all from the counts to the witnesses, and its re-check (host)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrs_jax import certificates, collective, noise, storage
from lrs_jax.sampling import Votes

_FAMILIES: Mapping[str, Callable[..., noise.SmoothingDistribution]] = {
  family.__name__: family
  for family in (noise.gaussian, noise.uniform, noise.laplace, noise.ablation, noise.flips)
}

_BASE = ("weights", "groups", "eta", "labels", "q_lower")
"""What hard votes with the default correction fill in `BaseCertificates`."""


_NUMBERS = ("num_selection", "num_samples")


class Record(NamedTuple):
  """One input, certified under one smoothing distribution, with all that a re-check needs.

  `certified` maps names to collective certificates: "all/METHOD" has every output as a target,
  "correct/METHOD" those whose prediction is the label.
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
  """
  selection_counts, counts = np.asarray(selection.counts), np.asarray(estimation.counts)
  num_samples = int(estimation.num_samples)
  base = certificates.from_votes(
    smoothing, groups, selection_counts, counts, alpha=alpha, num_samples=num_samples
  )
  budgets = budgets_from_radii(radii, smoothing.p)
  sets = {"all": None, "correct": base.labels == truth}
  certified = {
    f"{name}/{method}": collective.certify(
      base.weights, base.groups, base.eta, budgets, method=method, targets=targets, **keywords
    )
    for name, targets in sets.items()
    for method, keywords in options.items()
  }
  scales = smoothing.scale if isinstance(smoothing.scale, tuple) else (smoothing.scale,)
  return Record(
    smoothing.family,
    np.stack(scales),
    smoothing.cells,
    selection_counts,
    counts,
    int(selection.num_samples),
    num_samples,
    alpha,
    np.asarray(truth),
    base,
    np.asarray(radii, np.float64),
    budgets,
    certified,
    meta,
  )


def budgets_from_radii(radii: np.ndarray, p: int) -> np.ndarray:
  r"""Budgets :math:`\varepsilon^p`, rounded up, or the counts themselves for p = 0 (host).

  Example:
    >>> bool(budgets_from_radii(np.array([0.1]), 2)[0] >= 0.1**2)
    True
  """
  radii = np.asarray(radii, np.float64)
  return radii if p <= 1 else np.where(radii > 0, np.nextafter(radii**p, np.inf), 0.0)


def predictions(record: Record) -> np.ndarray:
  """The smoothed model's predictions, -1 where it abstains: int [N]."""
  return np.where(record.base.eta > 0, record.base.labels, -1)


def save(path: Path, record: Record) -> None:
  """Stores a record as an .npz whose arrays any reader of NumPy's format can load."""
  arrays: dict[str, np.ndarray] = {
    name: np.asarray(getattr(record, name))
    for name in Record._fields
    if name not in ("base", "certified", "meta")
  }
  arrays |= {name: getattr(record.base, name) for name in _BASE}
  arrays["meta"] = storage.json_array(record.meta)
  for name, certificate in record.certified.items():
    arrays |= {f"{name}/{key}": part for key, part in collective.to_arrays(certificate).items()}
  storage.save_arrays(path, {**arrays, "digest": np.asarray(storage.digest(arrays))})


def load(path: Path) -> Record:
  """Reads a record; `verify` tells whether it can be believed.

  Raises:
    ValueError: a missing or damaged file, or one that is no record.
  """
  arrays = storage.load_arrays(path)
  try:
    if str(arrays.pop("digest")) != storage.digest(arrays):
      raise ValueError(f"{path} was changed after it was written: its digest does not fit.")
    stored: dict[str, Any] = {name: arrays[name] for name in _BASE}
    base = certificates.BaseCertificates(**stored)
    names = sorted({name.rpartition("/")[0] for name in arrays if "/" in name})
    certified = {
      name: collective.from_arrays(
        {key.rpartition("/")[2]: arrays[key] for key in arrays if key.rpartition("/")[0] == name}
      )
      for name in names
    }
    fields: dict[str, Any] = {
      name: arrays[name]
      for name in Record._fields
      if name not in ("base", "certified", "meta", "family", "alpha", *_NUMBERS)
    }
    fields |= {name: int(arrays[name]) for name in _NUMBERS}
    return Record(
      family=str(arrays["family"]),
      alpha=float(arrays["alpha"]),
      base=base,
      certified=certified,
      meta=storage.from_json_array(arrays["meta"]),
      **fields,
    )
  except KeyError as error:
    raise ValueError(f"{path} is not a certificate of lrs-jax: array {error} is missing.") from None


def smoothing(record: Record) -> noise.SmoothingDistribution:
  """The smoothing distribution that a record was drawn from, made again.

  Raises:
    ValueError: an unknown family, or levels that it cannot have.
  """
  if record.family not in _FAMILIES:
    raise ValueError(
      f"`family` must be one of {', '.join(_FAMILIES)}, but it is {record.family!r}."
    )
  return _FAMILIES[record.family](*record.scales, record.cells)


def verify(record: Record, *, exact: bool = False) -> None:
  """Re-checks a record: counts -> predictions and q -> eta -> budgets -> targets -> witnesses.

  Everything but the counts, the noise and alpha is computed again or proven again; nothing that a
  solver said is trusted.

  Args:
    record: from `load`.
    exact: the witnesses in rational arithmetic.

  Raises:
    ValueError: naming what does not follow from what.
  """
  distribution = smoothing(record)
  if record.selection_counts.min(initial=0) < 0 or record.counts.min(initial=0) < 0:
    raise ValueError("`selection_counts` and `counts` must not be negative.")
  for name, number in zip(("selection_counts", "counts"), _NUMBERS, strict=True):
    most, samples = getattr(record, name).sum(axis=1).max(initial=0), getattr(record, number)
    if most > samples:
      raise ValueError(f"a row of `{name}` sums to {most}, but `{number}` is {samples}.")
  if not 0 < record.alpha < 1:
    raise ValueError(f"`alpha` must lie in (0, 1), but it is {record.alpha}.")
  base = certificates.from_votes(
    distribution,
    record.base.groups,
    record.selection_counts,
    record.counts,
    alpha=record.alpha,
    num_samples=record.num_samples,
  )
  for name in _BASE:
    if not storage.same_numbers(getattr(record.base, name), getattr(base, name)):
      raise ValueError(f"`{name}` does not follow from the counts, the noise and alpha.")
  if not storage.same_numbers(record.budgets, budgets_from_radii(record.radii, distribution.p)):
    raise ValueError("`budgets` does not follow from the radii.")
  for name, certificate in record.certified.items():
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
    try:
      collective.verify(
        record.base.weights, record.base.groups, record.base.eta, certificate, exact=exact
      )
    except ValueError as error:
      raise ValueError(f"{name}: {error}") from None
