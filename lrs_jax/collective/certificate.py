"""What `certify` returns, and how it is kept: as a flat mapping of arrays (host)."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lrs_jax.collective.hashing import feed
from lrs_jax.collective.problem import check_forfeit
from lrs_jax.collective.witness import Witness


class Attack(NamedTuple):
  """The best attack found at every budget: every number here is exactly attained."""

  b: np.ndarray  # float64 [B, A, C], the budget split over kinds and cells
  attacked: np.ndarray  # bool [B, N], the targets that fall
  num_attacked: np.ndarray  # int64 [B], what they count for


class CollectiveCertificate(NamedTuple):
  """At budget i, at least `certified[i]` targets keep their prediction at the same time.

  `certified` is the number of targets with eta > 0, less floor(`attackable`), less `forfeit` times
  the largest worth of one of them (1 without `worth`), and not below 0. All else is of the base
  certificates as they are given: `attackable` bounds what attacks reach if none of them is false,
  `attack` reaches what it says, and `gap` is the difference.
  """

  method: str
  certified: np.ndarray  # int64 [B]: kept whatever the attack, and whichever are forfeited
  attackable: np.ndarray  # float64 [B]: proven upper bound on what attacks reach of the targets
  gap: np.ndarray  # float64 [B]: (floor(attackable) - attack) / targets; nan without an attack
  status: np.ndarray  # str [B]: "optimal" (to the method's optimum, or gap) or why it is not
  solve_time: np.ndarray  # float64 [B], seconds
  witness: Witness  # proves attackable
  attack: Attack | None  # milp only
  budgets: np.ndarray  # float64 [B, A], as given
  targets: np.ndarray  # bool [N], as given; int64 [N], what each counts for, if that was given
  caps: np.ndarray | None  # float64 [A, C], as given
  integral: bool
  forfeit: int  # so many base certificates may be false
  digest: str  # SHA-256 of weights, groups and eta
  seals: np.ndarray  # str [B]: SHA-256 of all that is stored for a budget


def seal(certificate: CollectiveCertificate) -> np.ndarray:
  """The seals that belong to what a certificate stores: str [B].

  They tell a damaged certificate from a whole one. What a whole one claims is proven by its
  witness alone.
  """
  common = hashlib.sha256()
  for name in ("method", "integral", "forfeit", "digest", "targets", "caps"):
    feed(common, name, getattr(certificate, name))
  witness, attack = certificate.witness, certificate.attack
  starts = witness.starts
  leaves = np.append(0, np.cumsum(witness.variables < 0))[starts]
  result = []
  for i in range(len(certificate.budgets)):
    hasher = common.copy()
    for name in ("budgets", "certified", "attackable", "gap", "status", "solve_time"):
      feed(hasher, name, getattr(certificate, name)[i])
    feed(hasher, "variables", witness.variables[starts[i] : starts[i + 1]])
    feed(hasher, "values", witness.values[starts[i] : starts[i + 1]])
    feed(hasher, "multipliers", witness.multipliers[leaves[i] : leaves[i + 1]])
    for name in Attack._fields:
      feed(hasher, name, None if attack is None else getattr(attack, name)[i])
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
    witness = Witness(*(mapping[f"witness_{name}"] for name in Witness._fields))
    attack = None
    if any(f"attack_{name}" in mapping for name in Attack._fields):
      attack = Attack(*(mapping[f"attack_{name}"] for name in Attack._fields))
    parts: dict[str, Any] = {
      "witness": witness,
      "attack": attack,
      "caps": mapping.get("caps"),
      **{name: _scalar(name, mapping[name]) for name in _SCALARS},
    }
    rest: dict[str, Any] = {
      name: mapping[name] for name in CollectiveCertificate._fields if name not in parts
    }
  except KeyError as error:
    older = ": an older version stored it, certify again" if error.args == ("forfeit",) else ""
    raise ValueError(
      f"`mapping` must hold what `to_arrays` returns, but {error} is missing{older}."
    ) from None
  return checked(CollectiveCertificate(**parts, **rest))


def checked(certificate: CollectiveCertificate) -> CollectiveCertificate:
  """The certificate with every field of the type and rank that it must have, or `ValueError`.

  Numbers become int64 and float64, which changes none of them.
  """
  for name in ("method", "digest"):
    if not isinstance(getattr(certificate, name), str):
      raise ValueError(f"`{name}` must be a string, but it is {getattr(certificate, name)!r}.")
  if not isinstance(certificate.integral, bool | np.bool_):
    raise ValueError(f"`integral` must be True or False, but it is {certificate.integral!r}.")
  if not isinstance(certificate.witness, Witness):
    raise ValueError(f"`witness` must be a `Witness`, but it is {certificate.witness!r}.")
  if not isinstance(certificate.attack, Attack | None):
    raise ValueError(f"`attack` must be None or an `Attack`, but it is {certificate.attack!r}.")
  fields = certificate._asdict() | {"forfeit": check_forfeit(certificate.forfeit)}
  for name, value in fields.items():
    if isinstance(value, Witness | Attack):
      arrays = {key: _array(f"{name}_{key}", part) for key, part in value._asdict().items()}
      fields[name] = value._replace(**arrays)
    elif name in _ARRAYS and not (name == "caps" and value is None):
      fields[name] = _array(name, value)
  return CollectiveCertificate(**fields)


_SCALARS = {"method": "U", "digest": "U", "integral": "b", "forfeit": "i"}  # name: kinds

_ARRAYS = {
  "certified": ("i", 1),
  "attackable": ("f", 1),
  "gap": ("f", 1),
  "status": ("U", 1),
  "solve_time": ("f", 1),
  "budgets": ("f", 2),
  "targets": ("bi", 1),
  "caps": ("f", 2),
  "seals": ("U", 1),
  "witness_starts": ("i", 1),
  "witness_variables": ("i", 1),
  "witness_values": ("f", 1),
  "witness_multipliers": ("f", 2),
  "attack_b": ("f", 3),
  "attack_attacked": ("b", 2),
  "attack_num_attacked": ("i", 1),
}  # name: kinds, rank

_NAMES = {"i": "signed integers", "f": "floats of at most 8 bytes", "b": "booleans", "U": "strings"}


def _scalar(name: str, value: Any) -> Any:
  array, kind = np.asarray(value), _SCALARS[name]
  if array.ndim or array.dtype.kind != kind:
    raise ValueError(
      f"`{name}` must be one of {_NAMES[kind]}, of shape (), but it is {array.dtype} of shape "
      f"{array.shape}."
    )
  return array.item()


def _array(name: str, value: Any) -> np.ndarray:
  kinds, rank = _ARRAYS[name]
  try:
    array = np.asarray(value)
  except ValueError as error:  # rows of several lengths
    raise ValueError(f"`{name}` must be an array, but {error}.") from error
  kind = array.dtype.kind
  if array.ndim != rank or kind not in kinds or (kind == "f" and array.dtype.itemsize > 8):
    wanted = " or ".join(_NAMES[k] for k in kinds)
    raise ValueError(
      f"`{name}` must be {wanted} of {rank} axes, but it is {array.dtype} of shape {array.shape}."
    )
  return array.astype({"i": np.int64, "f": np.float64}.get(kind, array.dtype), copy=False)
