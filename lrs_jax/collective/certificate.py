"""What `certify` returns, and how it is kept: as a flat mapping of arrays (host)."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lrs_jax.collective.witness import Witness


class Attack(NamedTuple):
  """The best attack found at every budget: every number here is exactly attained."""

  b: np.ndarray  # float64 [B, A, C], the budget split over kinds and cells
  attacked: np.ndarray  # bool [B, N], the targets that fall
  num_attacked: np.ndarray  # int64 [B], what they count for


class CollectiveCertificate(NamedTuple):
  """At budget i, at least `certified[i]` targets keep their prediction at the same time."""

  method: str
  certified: np.ndarray  # int64 [B]: targets with eta > 0 - floor(attackable)
  attackable: np.ndarray  # float64 [B]: proven upper bound on the targets that can fall
  gap: np.ndarray  # float64 [B]: (floor(attackable) - attack) / targets; nan without an attack
  status: np.ndarray  # str [B]: "optimal" (to the method's optimum, or gap) or why it is not
  solve_time: np.ndarray  # float64 [B], seconds
  witness: Witness  # proves attackable
  attack: Attack | None  # milp only
  budgets: np.ndarray  # float64 [B, A], as given
  targets: np.ndarray  # bool [N], as given; int64 [N], what each counts for, if that was given
  caps: np.ndarray | None  # float64 [A, C], as given
  integral: bool
  digest: str  # SHA-256 of weights, groups and eta
  seals: np.ndarray  # str [B]: SHA-256 of all that is stored for a budget


def seal(certificate: CollectiveCertificate) -> np.ndarray:
  """The seals that belong to what a certificate stores: str [B].

  They tell a damaged certificate from a whole one. What a whole one claims is proven by its
  witness alone.
  """
  common = hashlib.sha256()
  for name in ("method", "integral", "digest", "targets", "caps"):
    _feed(common, getattr(certificate, name))
  witness, starts = certificate.witness, certificate.witness.starts
  leaves = np.append(0, np.cumsum(witness.variables < 0))[starts]
  result = []
  for i in range(len(certificate.budgets)):
    hasher = common.copy()
    for name in ("budgets", "certified", "attackable", "gap", "status", "solve_time"):
      _feed(hasher, getattr(certificate, name)[i])
    _feed(hasher, witness.variables[starts[i] : starts[i + 1]])
    _feed(hasher, witness.values[starts[i] : starts[i + 1]])
    _feed(hasher, witness.multipliers[leaves[i] : leaves[i + 1]])
    if certificate.attack is not None:
      for field in certificate.attack:
        _feed(hasher, field[i])
    result.append(hasher.hexdigest())
  return np.array(result, dtype="<U64")


def to_arrays(certificate: CollectiveCertificate) -> dict[str, np.ndarray]:
  """A certificate as arrays that `np.savez` keeps without pickling.

  Args:
    certificate: from `certify`.

  Returns:
    Arrays by name; absent are `caps` if there are none, and `attack_*` if none was sought.

  Example:
    >>> from lrs_jax import collective
    >>> certificate = collective.certify([[4.0]], [0, 0], [1.0, 9.0], [0.5])
    >>> sorted(collective.to_arrays(certificate))[:3]
    ['attackable', 'budgets', 'certified']
  """
  arrays: dict[str, np.ndarray] = {}
  for name, value in certificate._asdict().items():
    if isinstance(value, Witness | Attack):
      arrays |= {f"{name}_{key}": np.asarray(part) for key, part in value._asdict().items()}
    elif value is not None:
      arrays[name] = np.asarray(value)
  return arrays


def from_arrays(mapping: Mapping[str, np.ndarray]) -> CollectiveCertificate:
  """The certificate that `to_arrays` took apart; `verify` tells whether it can be believed.

  Args:
    mapping: arrays by name, such as what `np.load(file, allow_pickle=False)` returns. Other names
      are ignored.

  Returns:
    A `CollectiveCertificate`.

  Raises:
    ValueError: an array is missing, or has a type that it cannot have.

  Example:
    >>> from lrs_jax import collective
    >>> certificate = collective.certify([[4.0]], [0, 0], [1.0, 9.0], [0.5])
    >>> collective.from_arrays(collective.to_arrays(certificate)).certified
    array([1])
  """
  try:
    witness = Witness(*(_take(mapping, f"witness_{name}") for name in Witness._fields))
    attack = None
    if "attack_b" in mapping:
      attack = Attack(*(_take(mapping, f"attack_{name}") for name in Attack._fields))
    parts: dict[str, Any] = {
      "witness": witness,
      "attack": attack,
      "caps": _take(mapping, "caps") if "caps" in mapping else None,
      "method": str(_take(mapping, "method")),
      "digest": str(_take(mapping, "digest")),
      "integral": bool(_take(mapping, "integral")),
    }
    rest: dict[str, Any] = {
      name: _take(mapping, name) for name in CollectiveCertificate._fields if name not in parts
    }
  except KeyError as error:
    raise ValueError(
      f"`mapping` must hold what `to_arrays` returns, but {error} is missing."
    ) from None
  return CollectiveCertificate(**parts, **rest)


_KINDS = {
  "certified": "i",
  "attack_num_attacked": "i",
  "witness_starts": "i",
  "witness_variables": "i",
  "targets": "bi",
  "attack_attacked": "b",
  "integral": "b",
  "status": "U",
  "seals": "U",
  "method": "U",
  "digest": "U",
}  # others are floats


def _take(mapping: Mapping[str, np.ndarray], name: str) -> np.ndarray:
  array, kinds = np.asarray(mapping[name]), _KINDS.get(name, "f")
  if array.dtype.kind not in kinds:
    raise ValueError(f"`{name}` must be of kind {kinds!r}, but its dtype is {array.dtype}.")
  return array


def _feed(hasher: "hashlib._Hash", value: object) -> None:
  if value is None or isinstance(value, str | bool):
    data = np.array(repr(value))
  else:
    data = np.asarray(value)
  hasher.update(repr((data.dtype.kind, data.shape)).encode())
  hasher.update(repr(str(data)).encode() if data.dtype.kind == "U" else data.tobytes())
