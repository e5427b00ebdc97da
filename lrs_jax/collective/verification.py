"""Checks a stored certificate from its inputs alone: no solver is asked (host)."""

import math
from fractions import Fraction

import numpy as np
from jax.typing import ArrayLike

from lrs_jax.collective import attacks
from lrs_jax.collective.certificate import ARRAYS, CollectiveCertificate, checked, parts_of, seal
from lrs_jax.collective.problem import Given, Problem, guaranteed, make_problem, shown
from lrs_jax.collective.witness import evaluate, evaluate_exactly
from lrs_jax.errors import OtherProblemError


def verify(
  weights: ArrayLike,
  groups: ArrayLike,
  eta: ArrayLike,
  certificate: CollectiveCertificate,
  *,
  exact: bool = False,
) -> None:
  r"""Proves a certificate again from its inputs, or raises.

  Recomputed are the digest of the inputs and, per budget, the bound that the witness proves, which
  must not exceed `attackable`; `certified` = targets with :math:`\eta > 0` minus
  :math:`\lfloor` `attackable` :math:`\rfloor` minus `forfeit` times the largest worth of one, and
  not below 0; the attack, which must fit the budget, the caps and integrality and reach, in
  rational arithmetic, the threshold of every output that it claims; the gap; and the seal.

  That so many base certificates may be false, and no more, is for the caller to know: compare
  `forfeit`, budgets, targets, caps and integrality with what you mean to claim.

  Args:
    weights: [G, C] or [A, G, C], as given to `certify`.
    groups: int [N].
    eta: [N].
    certificate: from `certify` or `from_arrays`.
    exact: evaluate the witness in rational arithmetic, not only where float64, rounded up, does
      not suffice (another machine may sum in another order).

  Raises:
    OtherProblemError: the certificate is that of other weights, groups or eta.
    ValueError: with the index of the first budget at fault, its value and what is wrong.

  Example:
    >>> from lrs_jax import collective
    >>> certificate = collective.certify([[4.0]], [0, 0], [1.0, 9.0], [0.5])
    >>> collective.verify([[4.0]], [0, 0], [1.0, 9.0], certificate, exact=True)
    >>> collective.verify([[4.0]], [0, 0], [1.0, 9.0], certificate._replace(certified=[2]))
    Traceback (most recent call last):
    ...
    ValueError: Budget 0, [0.5]: `certified` is 2, but 2 targets - floor(1.0) is 1.
  """
  certificate = checked(certificate)
  stored = certificate.targets
  targets, worth = (None, stored) if stored.dtype.kind == "i" else (stored, None)
  budgets, caps, integral = certificate.budgets, certificate.caps, certificate.integral
  problem, given = make_problem(weights, groups, eta, budgets, targets, caps, integral, worth)
  if given.digest != certificate.digest:
    raise OtherProblemError(
      "`weights`, `groups` and `eta` are not the inputs of this certificate: their digest is "
      f"{given.digest}, but it stores {certificate.digest}."
    )
  _check_shapes(certificate, problem)
  seals = seal(certificate)
  for i, budget in enumerate(budgets):
    try:
      _verify_budget(problem, given, certificate, i, exact)
      if seals[i] != certificate.seals[i]:
        raise ValueError("its seal is broken: some stored number was changed")
    except ValueError as error:
      raise ValueError(f"Budget {i}, {budget.tolist()}: {error}.") from None


def _verify_budget(
  problem: Problem, given: Given, certificate: CollectiveCertificate, i: int, exact: bool
) -> None:
  attackable, certified = float(certificate.attackable[i]), int(certificate.certified[i])
  if not 0 <= attackable < math.inf:
    raise ValueError(f"`attackable` is {attackable}, but it must be finite and >= 0")
  kept = guaranteed(problem, given, attackable, certificate.forfeit)
  if certified != kept:
    right = f"{problem.num_targets} targets - floor({attackable})"
    if certificate.forfeit:
      right += f" - {certificate.forfeit} forfeited x {given.largest_worth}"
    raise ValueError(f"`certified` is {certified}, but {right} is {kept}")
  proven: float | Fraction = math.inf if exact else evaluate(problem, certificate.witness, i)
  if not proven <= attackable:
    proven = evaluate_exactly(problem, certificate.witness, i)
  if not proven <= attackable:
    raise ValueError(f"`attackable` is {attackable}, but the witness proves only {shown(proven)}")
  if certificate.attack is None:
    if not np.isnan(certificate.gap[i]):
      raise ValueError(f"`gap` is {certificate.gap[i]}, but there is no attack to measure it by")
    return
  b, attacked, count = (field[i] for field in certificate.attack)
  falls = attacks.outputs(problem, given, problem.budgets[i], b)
  if not (falls == attacked).all() or count != np.where(attacked, given.targets, 0).sum():
    raise ValueError(
      f"the attack makes {int(falls.sum())} targets fall, but {int(attacked.sum())} are marked and "
      f"`attack.num_attacked` is {count}, or others are marked"
    )
  gap = attacks.gap(certificate.attackable, certificate.attack.num_attacked, problem.num_targets)[i]
  if not certificate.gap[i] == gap:
    raise ValueError(f"`gap` is {certificate.gap[i]}, but it should be {gap}")


def _check_shapes(certificate: CollectiveCertificate, problem: Problem) -> None:
  """Raises `ValueError` if a field has another shape than it must have, or the trees are none."""
  starts, variables, *_ = certificate.witness
  num_budgets, (num_kinds, num_groups, num_cells) = len(problem.budgets), problem.weights.shape
  sizes = {"A": num_kinds, "B": num_budgets, "C": num_cells, "G": num_groups}
  sizes |= {"B+1": num_budgets + 1, "N": certificate.targets.size, "nodes": variables.size}
  sizes["leaves"] = int((variables < 0).sum())
  for name, part in parts_of(certificate).items():
    axes = ARRAYS[name][1] if name in ARRAYS else ""
    expected = tuple(sizes[axis] for axis in axes.split())
    if axes and part.shape != expected:
      raise ValueError(f"`{name}` must have shape [{axes}] = {expected}, not {part.shape}.")
  is_tiled = starts[0] == 0 and starts[-1] == variables.size and (starts[1:] > starts[:-1]).all()
  if not is_tiled or (variables < -1).any():
    raise ValueError("`witness` is malformed: its arrays do not describe a tree for every budget.")
