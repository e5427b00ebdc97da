"""A certified graph on disk: all from sampled sums to witnesses, and its re-check (host)."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lrs_jax import collective, noise, storage
from lrs_jax.confidence import certificates
from lrs_jax.confidence.bounds import LEVELS
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.jobs import formats, rechecks
from lrs_jax.sampling.scores import ScoreSums
from lrs_jax.sampling.sparse_flips import ClassSums

TRUSTED = (
  "`num_ones` and `num_attributes`, how many ones and zeros the graph has to flip: no cluster's "
  "flips are more",
  "`test`, the nodes that are counted",
)
"""What a record of a graph says of itself, beside `rechecks.TRUSTED`, that no re-check can show."""


class Pair(NamedTuple):
  """Base certificates of one Rényi order, as they are stored: each number a little weaker."""

  weights: np.ndarray  # float64 [2, G, C]
  eta: np.ndarray  # float64 [N]


class GraphRecord(NamedTuple):
  """One graph, certified under one smoothing distribution, with all that a re-check needs.

  `certified` maps names to collective certificates over budgets (additions, deletions): "all/..."
  has every test node as a target, "correct/..." those whose prediction is the label. A name that
  ends in "@ORDER" combines the base certificates of that Rényi order (`noise.renyi`) rather than
  `base`; both follow from the same bounds and hold together. `base` and `pairs` are what follows
  from the sums, each number a little weaker (`lrs_jax.jobs.rechecks`).
  """

  theta_plus: np.ndarray  # float64 [G, C]
  theta_minus: np.ndarray  # float64 [G, C]
  cells: np.ndarray  # int32 [N, 1]
  groups: np.ndarray  # int [N]
  num_ones: np.ndarray  # int64 [N], attributes that each node has
  num_attributes: int  # D
  selection: ClassSums  # chose label and statistic of every node
  estimate: ClassSums  # bound them
  alpha: float  # joint error probability of the base certificates
  methods: tuple[str, ...]  # statistics to choose from, see `certificates.from_scores`
  truth: np.ndarray  # int [N]
  test: np.ndarray  # bool [N]
  base: BaseCertificates
  certified: Mapping[str, collective.CollectiveCertificate]
  meta: Mapping[str, Any]  # configuration, model digest, versions, what drew the samples
  pairs: Mapping[str, Pair] = MappingProxyType({})  # by Rényi order


def base_certificates(
  smoothing: noise.SmoothingDistribution,
  groups: np.ndarray,
  selection: ClassSums,
  estimate: ClassSums,
  *,
  alpha: float,
  methods: tuple[str, ...],
) -> BaseCertificates:
  """Base certificates of the most voted class, from what two independent keys gave for all.

  Returns:
    Them as a record stores them, a little weaker than they are.
  """
  base = _proven(smoothing, groups, selection, estimate, alpha, methods)
  return rechecks.weakened(smoothing, base)


def _proven(
  smoothing: noise.SmoothingDistribution,
  groups: np.ndarray,
  selection: ClassSums,
  estimate: ClassSums,
  alpha: float,
  methods: tuple[str, ...],
) -> BaseCertificates:
  labels = selection.votes.argmax(axis=1)

  def of_label(sums: ClassSums) -> ScoreSums:
    *parts, num_samples = sums
    chosen = [np.take_along_axis(part, labels[:, None], axis=1)[:, 0] for part in parts]
    return ScoreSums(int(num_samples), *chosen)

  return certificates.from_scores(
    smoothing, groups, labels, of_label(selection), of_label(estimate), alpha=alpha, methods=methods
  )


def flip_caps(
  num_ones: np.ndarray, num_attributes: int, cells: np.ndarray, num_cells: int
) -> np.ndarray:
  """How many zeros and ones every cell has: an adversary can not flip more.

  Args:
    num_ones: int [N].
    num_attributes: D.
    cells: int [N, 1].
    num_cells: C.

  Returns:
    float64 [2, C]: zeros that can be added, ones that can be deleted.

  Example:
    >>> flip_caps(np.array([1, 3]), 4, np.array([[0], [2]]), num_cells=3)
    array([[3., 0., 1.],
           [1., 0., 3.]])
  """
  deletions = np.bincount(cells[:, 0], num_ones, num_cells)
  nodes = np.bincount(cells[:, 0], minlength=num_cells)
  return np.stack([nodes * num_attributes - deletions, deletions])


def targets_of(record: GraphRecord, name: str) -> np.ndarray:
  """The targets that a certificate's name says, bool [N]."""
  sets = {"all": record.test, "correct": record.test & (record.base.labels == record.truth)}
  part = name.partition("/")[0]
  if part not in sets:
    raise ValueError(f"certificates are named all/... or correct/..., but one is {name!r}.")
  return sets[part]


def weights_and_eta(record: GraphRecord, name: str) -> tuple[np.ndarray, np.ndarray]:
  """The base certificates that a certificate's name says: weights [2, G, C] and eta [N]."""
  order = name.partition("@")[2]
  if not order:
    return record.base.weights, record.base.eta
  if order not in record.pairs:
    raise ValueError(f"{name!r} needs `pairs` of order {order}, of which there are none.")
  return record.pairs[order]


def _pair(record: GraphRecord, order: str) -> Pair:
  """The base certificates of an order, as they follow from the flips and from the stored bounds."""
  try:
    number = float(order)
  except ValueError:
    number = np.nan
  if not number > 0 or f"{number:g}" != order:
    raise ValueError(f"an order must be a number greater than 0, but one is {order[:60]!r}.")
  flips = noise.flips(record.theta_plus, record.theta_minus, record.cells)
  assert flips.family.renyi is not None
  return Pair(*flips.family.renyi(flips, record.base.q_lower, number))


def certify(
  record: GraphRecord, name: str, budgets: np.ndarray, method: str, **options: Any
) -> GraphRecord:
  """Adds a collective certificate over integral budgets, capped by the zeros and ones there are.

  Args:
    record: to be certified.
    name: "all/...", "correct/...", either with "@ORDER".
    budgets: [B, 2], additions and deletions.
    method: as in `collective.certify`.
    **options: more of its keywords.

  Returns:
    The record with the certificate.
  """
  order = name.partition("@")[2]
  if order:
    weights, eta = _pair(record, order)
    pair = Pair(rechecks.raised(weights), rechecks.lowered(eta))
    record = record._replace(pairs={**record.pairs, order: pair})
  caps = flip_caps(record.num_ones, record.num_attributes, record.cells, record.theta_plus.shape[1])
  weights, eta = weights_and_eta(record, name)
  certificate = collective.certify(
    weights, record.groups, eta, budgets,
    method=method, targets=targets_of(record, name), caps=caps, integral=True, **options,
  )  # fmt: skip
  return record._replace(certified={**record.certified, name: certificate})


def to_arrays(record: GraphRecord) -> dict[str, np.ndarray]:
  """A record as arrays by the names in `formats.TABLES`."""
  arrays: dict[str, np.ndarray] = {
    "format": np.asarray(formats.FORMAT),
    "kind": np.asarray("graph"),
    "meta": storage.json_array(record.meta),
    "methods": np.asarray(record.methods, str),
  }
  for name, value in record._asdict().items():
    if name in ("certified", "pairs"):
      for title, parts in value.items():
        named = parts._asdict() if isinstance(parts, Pair) else collective.to_arrays(parts)
        arrays |= {f"{name}/{title}/{key}": np.asarray(part) for key, part in named.items()}
    elif isinstance(value, ClassSums | BaseCertificates):
      arrays |= {f"{name}/{key}": np.asarray(part) for key, part in value._asdict().items()}
    elif name not in arrays:
      arrays[name] = np.asarray(value)
  return arrays


def from_arrays(arrays: Mapping[str, np.ndarray]) -> GraphRecord:
  """The record that `to_arrays` took apart, of arrays that `formats` has checked."""
  fields: dict[str, Any] = {name: arrays[name] for name in GraphRecord._fields if name in arrays}
  for name in ("selection", "estimate"):
    fields[name] = ClassSums(*(arrays[f"{name}/{part}"] for part in ClassSums._fields))
  parts: dict[str, Any] = {part: arrays[f"base/{part}"] for part in BaseCertificates._fields}
  return GraphRecord(
    **{
      **fields,
      "base": BaseCertificates(**{**parts, "forfeit": int(parts["forfeit"])}),
      "certified": {
        title: collective.from_arrays(parts)
        for title, parts in formats.parts_of(arrays, "certified").items()
      },
      "pairs": {order: Pair(**parts) for order, parts in formats.parts_of(arrays, "pairs").items()},
      "num_attributes": int(arrays["num_attributes"]),
      "alpha": float(arrays["alpha"]),
      "methods": tuple(map(str, arrays["methods"])),
      "meta": storage.from_json_array(arrays["meta"]),
    }
  )


def save(path: Path, record: GraphRecord) -> None:
  """Stores a record as an .npz whose arrays any reader of NumPy's format can load."""
  formats.save(path, to_arrays(record))


def load(path: Path) -> GraphRecord:
  """Reads a record; `verify` tells whether it can be believed.

  Raises:
    ValueError: a missing or damaged file, one that is no record of a graph, or one of an older
      format.
  """
  try:
    return from_arrays(formats.load(path, "graph"))
  except ValueError as error:
    raise ValueError(formats.of_file(path, error)) from None


def verify(record: GraphRecord, *, exact: bool = False) -> None:
  """Re-checks a record: sums -> labels, statistics and eta -> targets and caps -> witnesses.

  Everything but the sums, the flips, alpha, the labels and how many attributes there are
  (`TRUSTED`) is computed again or proven again, and what is stored must not be on the stronger side
  of it (`lrs_jax.jobs.rechecks`). What `meta` says of all this must not contradict it.

  Args:
    record: from `load`.
    exact: the witnesses in rational arithmetic.

  Raises:
    ValueError: naming what does not follow from what.
  """
  check(record)
  rechecks.check_some(record.certified)
  smoothing = noise.flips(record.theta_plus, record.theta_minus, record.cells)
  base = _proven(
    smoothing, record.groups, record.selection, record.estimate, record.alpha, record.methods
  )
  rechecks.check_base(smoothing, record.base, base, "the sums, the flips and alpha")
  for order, stored in record.pairs.items():
    pair = _pair(record, order)
    source = f"the flips and order {order}"
    rechecks.check_raised(f"pairs/{order}/weights", stored.weights, pair.weights, source)
    rechecks.check_lowered(f"pairs/{order}/eta", stored.eta, pair.eta, source)
  caps = flip_caps(record.num_ones, record.num_attributes, record.cells, record.theta_plus.shape[1])
  for name, certificate in record.certified.items():
    rechecks.check_certificate(name, certificate)
    if not np.array_equal(certificate.targets, targets_of(record, name)):
      raise ValueError(f"the targets of {name!r} are not those that its name says.")
    if certificate.caps is not None and not (certificate.caps >= caps).all():
      raise ValueError(f"the caps of {name!r} are lower than the zeros and ones of the graph.")
    weights, eta = weights_and_eta(record, name)
    rechecks.prove(name, weights, record.groups, eta, certificate, exact)


def check(record: GraphRecord) -> None:
  """Checks what a record was made of: its types, sums, sizes, and what `meta` says of them.

  Raises:
    ValueError: naming what contradicts what.
  """
  selection, estimate = record.selection, record.estimate
  formats.check(to_arrays(record))
  numbers = int(selection.num_samples), int(estimate.num_samples)
  for name, sums, num_samples in zip(
    ("selection", "estimate"), (selection, estimate), numbers, strict=True
  ):
    rechecks.check_votes(f"{name}/votes", sums.votes, f"{name}/num_samples", num_samples)
    _check_scores(name, sums, num_samples)
  rechecks.check_alpha(record.alpha)
  rechecks.check_independence(selection.votes, estimate.votes)
  job = rechecks.check_meta(record.meta, record.alpha, *numbers)
  _check_samples(record.meta.get("samples", {}), numbers)
  if record.num_attributes < 1:
    raise ValueError(f"`num_attributes` must be at least 1, but it is {record.num_attributes}.")
  if record.num_attributes * max(record.num_ones.size, 1) >= 2**52:
    raise ValueError(f"`num_attributes` is {record.num_attributes}: too many to count.")
  for name, most in (("num_ones", record.num_attributes), ("truth", selection.votes.shape[1] - 1)):
    values = getattr(record, name)
    if values.min(initial=0) < 0 or values.max(initial=0) > most:
      raise ValueError(
        f"`{name}` must lie in [0, {most}], but its values are from {values.min()} to "
        f"{values.max()}."
      )
  unknown = set(record.methods) - set(METHODS)
  if unknown:
    raise ValueError(f"`methods` must be among {', '.join(METHODS)}, but one is {min(unknown)!r}.")
  if job.get("scores", list(record.methods)) != list(record.methods):
    told = storage.shortened(job["scores"])
    raise ValueError(f"`methods` are {', '.join(record.methods)}, but `meta` says {told}.")
  _check_flips(record, job)


METHODS = ("votes", "kl", "mixed", "bernstein")
"""Statistics that sums can be bounded by."""


def _check_scores(name: str, sums: ClassSums, num_samples: int) -> None:
  """A sample's scores are multiples of 1/255 in [0, 1] that sum to 1 at most over the classes."""
  scores, squares = sums.scores, sums.squares
  most = num_samples * LEVELS
  possible = (
    scores.min(initial=0) >= 0
    and squares.min(initial=0) >= 0
    and scores.max(initial=0) <= most
    and scores.sum(axis=1, dtype=np.float64).max(initial=0) <= most
    and (squares <= LEVELS * scores).all()
    # Cauchy & Schwarz; float64 is good to 1e-15 of each side
    and (scores.astype(float) ** 2 <= num_samples * squares.astype(float) * (1 + 1e-14)).all()
  )
  if not possible:
    raise ValueError(f"the scores and squares of `{name}` cannot be sums of {num_samples} scores.")


def _check_samples(samples: Any, numbers: tuple[int, int]) -> None:
  """What `meta.samples` says: keys that differ, and as many samples as there are."""
  parts = [samples.get(part, {}) if isinstance(samples, Mapping) else {} for part in _PARTS]
  if not isinstance(samples, Mapping) or not all(isinstance(part, Mapping) for part in parts):
    raise ValueError("`meta.samples` must say of selection and estimation what drew them.")
  keys = [part.get("key") for part in parts]
  if keys[0] is not None and keys[0] == keys[1]:
    raise ValueError("`meta.samples` says that selection and estimation drew from one key.")
  for part, num_samples, name in zip(parts, numbers, _PARTS, strict=True):
    if "ranges" in part:
      rechecks.check_ranges(f"meta.samples.{name}.ranges", part["ranges"], num_samples)


_PARTS = ("selection", "estimation")


def _check_flips(record: GraphRecord, job: Mapping[str, Any]) -> None:
  """Flip probabilities must lie between those that the job names."""
  for name in ("theta_plus", "theta_minus"):
    said, single = job.get(name), job.get(f"isotropic_{name}")
    if said is None:
      continue
    ends = [*(said if isinstance(said, list | tuple) else [said]), single]
    ends = [end for end in ends if end is not None]
    if not ends or not all(type(end) in (int, float) for end in ends):
      told = storage.shortened(said)
      raise ValueError(f"`meta` must say {name} as numbers, but it says {told}.")
    theta = getattr(record, name)
    if theta.min() < min(ends) * (1 - 1e-12) or theta.max() > max(ends) * (1 + 1e-12):
      raise ValueError(
        f"`{name}` is from {theta.min():g} to {theta.max():g}, but `meta` says {job[name]}."
      )
