"""What `certify` returns, and how it is kept: as a flat mapping of arrays (host)."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lrs_jax.collective.digests import fed, fed_by_rows
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
  """What the seals should be: str [B]. They tell whether stored numbers were damaged, no more."""
  common = hashlib.sha256()
  for name in ("method", "integral", "forfeit", "digest", "targets", "caps"):
    common.update(fed(name, getattr(certificate, name)))
  names = ("budgets", "certified", "attackable", "gap", "status", "solve_time")
  rows = zip(*(fed_by_rows(name, getattr(certificate, name)) for name in names), strict=True)
  starts, witness, attack = certificate.witness.starts, certificate.witness, certificate.attack
  leaves = np.append(0, np.cumsum(witness.variables < 0))[starts]
  attacks = [b"".join(fed(name, None) for name in Attack._fields)] * len(certificate.budgets)
  if attack is not None:
    fields = (fed_by_rows(name, value) for name, value in attack._asdict().items())
    attacks = [b"".join(each) for each in zip(*fields, strict=True)]
  result = []
  for i, row in enumerate(rows):
    hasher = common.copy()
    hasher.update(b"".join(row))
    hasher.update(fed("variables", witness.variables[starts[i] : starts[i + 1]]))
    hasher.update(fed("values", witness.values[starts[i] : starts[i + 1]]))
    hasher.update(fed("multipliers", witness.multipliers[leaves[i] : leaves[i + 1]]))
    hasher.update(attacks[i])
    result.append(hasher.hexdigest())
  return np.array(result, dtype="<U64")


def to_arrays(certificate: CollectiveCertificate) -> dict[str, np.ndarray]:
  """A certificate from `certify` as arrays by name, which `np.savez` keeps without pickling.

  Absent are `caps` if there are none, and `attack_*` if none was sought.

  Example:
    >>> from lrs_jax import collective
    >>> certificate = collective.certify([[4.0]], [0, 0], [1.0, 9.0], [0.5])
    >>> sorted(collective.to_arrays(certificate))[:3]
    ['attackable', 'budgets', 'certified']
  """
  return {name: np.asarray(value) for name, value in parts_of(certificate).items()}


def from_arrays(mapping: Mapping[str, np.ndarray]) -> CollectiveCertificate:
  """The certificate that `to_arrays` took apart; `verify` tells whether it can be believed.

  Args:
    mapping: arrays by name, such as what `np.load(file, allow_pickle=False)` returns. Other names
      are ignored; an array that is missing, or of a type that it cannot have, is a `ValueError`.

  Example:
    >>> from lrs_jax import collective
    >>> certificate = collective.certify([[4.0]], [0, 0], [1.0, 9.0], [0.5])
    >>> collective.from_arrays(collective.to_arrays(certificate)).certified
    array([1])
  """
  try:
    found = {name: mapping[name] for name in (*SCALARS, *ARRAYS) if name in mapping}
    scalars = {name: typed(name, found[name], kind, ()).item() for name, kind in SCALARS.items()}
    return checked(_joined(found | scalars))
  except KeyError as error:
    older = ": an older version stored it, certify again" if error.args == ("forfeit",) else ""
    raise ValueError(
      f"`mapping` must hold what `to_arrays` returns, but {error} is missing{older}."
    ) from None


def parts_of(certificate: CollectiveCertificate) -> dict[str, Any]:
  """All that a certificate holds, by the names that it is stored under."""
  parts: dict[str, Any] = {}
  for name, value in certificate._asdict().items():
    if isinstance(value, Witness | Attack):
      parts |= {f"{name}_{key}": part for key, part in value._asdict().items()}
    elif value is not None or name not in ("caps", "attack"):
      parts[name] = value
  return parts


def _joined(parts: Mapping[str, Any]) -> CollectiveCertificate:
  """The certificate of such parts; `KeyError` if one is missing."""
  fields: dict[str, Any] = {"caps": parts.get("caps"), "attack": None}
  fields["witness"] = Witness(*(parts[f"witness_{name}"] for name in Witness._fields))
  if any(f"attack_{name}" in parts for name in Attack._fields):
    fields["attack"] = Attack(*(parts[f"attack_{name}"] for name in Attack._fields))
  rest = {name: parts[name] for name in CollectiveCertificate._fields if name not in fields}
  return CollectiveCertificate(**fields, **rest)


def checked(certificate: CollectiveCertificate) -> CollectiveCertificate:
  """The certificate with every field of the type and rank that it must have, or `ValueError`.

  Numbers become int64 and float64, which changes none of them.
  """
  for name, kind, what in (
    ("method", str, "a string"),
    ("digest", str, "a string"),
    ("integral", bool | np.bool_, "True or False"),
    ("witness", Witness, "a `Witness`"),
    ("attack", Attack | None, "None or an `Attack`"),
  ):
    if not isinstance(value := getattr(certificate, name), kind):
      raise ValueError(f"`{name}` must be {what}, but it is {value!r}.")
  parts = parts_of(certificate) | {"forfeit": check_forfeit(certificate.forfeit)}
  arrays = {
    name: typed(name, parts[name], kinds, len(axes.split()))
    for name, (kinds, axes) in ARRAYS.items()
    if name in parts
  }
  return _joined(parts | arrays)


SCALARS = {"method": "U", "digest": "U", "integral": "b", "forfeit": "i"}
"""What is stored beside them, by name: NumPy's letter of its kind."""

ARRAYS = {
  "certified": ("i", "B"),
  "attackable": ("f", "B"),
  "gap": ("f", "B"),
  "status": ("U", "B"),
  "solve_time": ("f", "B"),
  "budgets": ("f", "B A"),
  "targets": ("bi", "N"),
  "caps": ("f", "A C"),
  "seals": ("U", "B"),
  "witness_starts": ("i", "B+1"),
  "witness_variables": ("i", "nodes"),
  "witness_values": ("f", "nodes"),
  "witness_multipliers": ("f", "leaves G"),
  "attack_b": ("f", "B A C"),
  "attack_attacked": ("b", "B N"),
  "attack_num_attacked": ("i", "B"),
}
"""What is stored, by name: NumPy's letters of its kinds, and its axes."""

_KINDS = {"i": "signed integers", "f": "floats of at most 8 bytes", "b": "booleans", "U": "strings"}


def typed(name: str, value: Any, kinds: str, axes: int | tuple[int, ...]) -> np.ndarray:
  """An array of these kinds (NumPy's letters), as int64 or float64 if of numbers, or `ValueError`.

  The axes are how many there must be, or their sizes.
  """
  try:
    array = np.asarray(value)
  except ValueError as error:  # rows of several lengths
    raise ValueError(f"`{name}` must be an array, but {error}.") from error
  kind, is_rank = array.dtype.kind, isinstance(axes, int)
  fits = (array.ndim if is_rank else array.shape) == axes and kind in kinds
  if not fits or (kind == "f" and array.dtype.itemsize > 8):
    wanted = " or ".join(_KINDS[k] for k in kinds)
    wanted += f" of {axes} axes" if is_rank else f" of shape {axes}"
    raise ValueError(f"`{name}` must be {wanted}, but it is {array.dtype} of shape {array.shape}.")
  return array.astype({"i": np.int64, "f": np.float64}.get(kind, array.dtype), copy=False)
