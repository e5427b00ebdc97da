"""A certified graph on disk: all from sampled sums to witnesses, and its re-check (host)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrs_jax import certificates, collective, draws, noise, renyi, storage
from lrs_jax.certificates import BaseCertificates
from lrs_jax.scores import ScoreSums
from lrs_jax.sparse_flips import ClassSums

KIND = "graph"
"""What the array `kind` of a stored record says."""


class GraphRecord(NamedTuple):
  """One graph, certified under one smoothing distribution, with all that a re-check needs.

  `certified` maps names to collective certificates over budgets (additions, deletions): "all/..."
  has every test node as a target, "correct/..." those whose prediction is the label. A name that
  ends in "@ORDER" combines the base certificates of that Rényi order (`lrs_jax.renyi`) rather than
  `base`; both follow from the same bounds and hold together.
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
  meta: Mapping[str, Any]


def base_certificates(
  smoothing: noise.SmoothingDistribution,
  groups: np.ndarray,
  selection: ClassSums,
  estimate: ClassSums,
  *,
  alpha: float,
  methods: tuple[str, ...],
) -> BaseCertificates:
  """Base certificates of the most voted class, from what two independent keys gave for all."""
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
  flips = noise.flips(record.theta_plus, record.theta_minus, record.cells)
  drawn = [np.where(level == draws.ALWAYS, 1.0, level / 2.0**32) for level in flips.levels]
  weights = [renyi.flip_weights(plus, minus, float(order)) for plus, minus in (flips.scale, drawn)]
  return np.maximum(*weights), renyi.eta(record.base.q_lower, float(order))


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
  caps = flip_caps(record.num_ones, record.num_attributes, record.cells, record.theta_plus.shape[1])
  weights, eta = weights_and_eta(record, name)
  certificate = collective.certify(
    weights, record.groups, eta, budgets,
    method=method, targets=targets_of(record, name), caps=caps, integral=True, **options,
  )  # fmt: skip
  return record._replace(certified={**record.certified, name: certificate})


def save(path: Path, record: GraphRecord) -> None:
  """Stores a record as an .npz whose arrays any reader of NumPy's format can load."""
  arrays: dict[str, np.ndarray] = {"kind": np.asarray(KIND)}
  for name, value in record._asdict().items():
    if name == "certified":
      for title, certificate in value.items():
        parts = collective.to_arrays(certificate)
        arrays |= {f"certified/{title}/{key}": part for key, part in parts.items()}
    elif name == "meta":
      arrays[name] = storage.json_array(value)
    elif isinstance(value, ClassSums | BaseCertificates):
      arrays |= {f"{name}/{key}": np.asarray(part) for key, part in value._asdict().items()}
    else:
      arrays[name] = np.asarray(value)
  storage.save_arrays(path, arrays)


def load(path: Path) -> GraphRecord:
  """Reads a record; `verify` tells whether it can be believed.

  Raises:
    ValueError: a missing or damaged file, or one that is no record of a graph.
  """
  arrays = storage.load_arrays(path)
  if str(arrays.get("kind")) != KIND:
    raise ValueError(f"{path} is not the certificate of a graph: its `kind` is not {KIND!r}.")
  try:
    fields: dict[str, Any] = {n: arrays[n] for n in GraphRecord._fields if n in arrays}
    for name in ("selection", "estimate"):
      fields[name] = ClassSums(*(arrays[f"{name}/{part}"] for part in ClassSums._fields))
    parts: dict[str, Any] = {part: arrays[f"base/{part}"] for part in BaseCertificates._fields}
    base = BaseCertificates(**{**parts, "forfeit": int(parts["forfeit"])})
    stored = [name.removeprefix("certified/") for name in arrays if name.startswith("certified/")]
    certified = {
      title: collective.from_arrays(
        {
          name.rpartition("/")[2]: arrays[f"certified/{name}"]
          for name in stored
          if name.rpartition("/")[0] == title
        }
      )
      for title in sorted({name.rpartition("/")[0] for name in stored})
    }
    fields |= {
      "num_attributes": int(arrays["num_attributes"]),
      "alpha": float(arrays["alpha"]),
      "methods": tuple(map(str, arrays["methods"])),
      "meta": storage.from_json_array(arrays["meta"]),
    }
    return GraphRecord(base=base, certified=certified, **fields)
  except KeyError as error:
    raise ValueError(f"{path} is not a certificate of lrs-jax: array {error} is missing.") from None


def verify(record: GraphRecord, *, exact: bool = False) -> None:
  """Re-checks a record: sums -> labels, statistics and eta -> targets and caps -> witnesses.

  Args:
    record: from `load`.
    exact: the witnesses in rational arithmetic.

  Raises:
    ValueError: naming what does not follow from what.
  """
  for name in ("selection", "estimate"):
    votes, *_, num_samples = getattr(record, name)
    if votes.min(initial=0) < 0 or votes.sum(axis=1).max(initial=0) > num_samples:
      raise ValueError(f"the votes of `{name}` must be counts whose rows sum to S at most.")
  smoothing = noise.flips(record.theta_plus, record.theta_minus, record.cells)
  base = base_certificates(
    smoothing, record.groups, record.selection, record.estimate,
    alpha=record.alpha, methods=record.methods,
  )  # fmt: skip
  for name, stored in record.base._asdict().items():
    if not storage.same_numbers(np.asarray(stored), np.asarray(getattr(base, name))):
      raise ValueError(f"`{name}` does not follow from the sums, the flips and alpha.")
  caps = flip_caps(record.num_ones, record.num_attributes, record.cells, record.theta_plus.shape[1])
  for name, certificate in record.certified.items():
    if not np.array_equal(certificate.targets, targets_of(record, name)):
      raise ValueError(f"the targets of {name!r} are not those that its name says.")
    if certificate.caps is None or (certificate.caps < caps).any():
      raise ValueError(f"the caps of {name!r} are lower than the zeros and ones of the graph.")
    try:
      weights, eta = weights_and_eta(record, name)
      collective.verify(weights, record.groups, eta, certificate, exact=exact)
    except ValueError as error:
      raise ValueError(f"{name}: {error}") from None
