r"""The receptive-field collective certificate of ICLR 2021, for strictly local models (host).

One adversary perturbs elements of several kinds (attributes of a node, an edge), an output only
perceives what lies in its receptive field, and its base certificate says which numbers of
perceived perturbations it survives. The outputs that can be attacked at the same time are counted
by a MILP, or bounded by its LP relaxation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy import sparse

from lrs_jax.collective import highs


class ReceptiveFieldBound(NamedTuple):
  """How many outputs survive each budget at the same time."""

  certified: np.ndarray  # int64 [B]
  status: np.ndarray  # str [B]


def certify(
  survived: ArrayLike,
  fields: Sequence[sparse.csr_array],
  budgets: ArrayLike,
  *,
  local: Sequence[ArrayLike | None] | None = None,
  relaxed: bool = True,
  time_limit: float | None = None,
) -> ReceptiveFieldBound:
  r"""Bounds how many outputs one adversary attacks, from any base certificates and fields.

  The minimal attacks of output n are the points :math:`v_{n,k}` of its grid that it does not
  survive although it survives all smaller ones. With :math:`b_{a,d}` perturbations of element d of
  kind a,

  .. math:: \max \sum_{n,k} t_{n,k} \quad \text{s.t.} \quad \sum_k t_{n,k} \le 1, \quad
    \sum_k v_{n,k,a} t_{n,k} \le \sum_{d \in \psi_{n,a}} b_{a,d}, \quad
    \sum_d b_{a,d} \le B_a, \quad 0 \le b_{a,d} \le \text{local}_{a,d},

  with t binary and b integral, or both relaxed. The relaxed bound is evaluated from the LP's duals
  by weak duality, so it holds whatever the solver's tolerances; without a usable dual it is that
  of each output on its own. The integral one is the solver's optimum, believed as published; where
  the solver does not reach it, the relaxed bound takes its place and the status says so.

  Args:
    survived: bool [N, R_1, ..., R_A], whether output n survives r_1 < R_1, ... perceived
      perturbations; what lies outside the grid it does not. Smaller perturbations are survived
      wherever larger ones are.
    fields: per kind a sparse matrix [N, D_a] whose non-zeros are the receptive fields.
    budgets: int [B, A], perturbations of each kind over all elements.
    local: per kind int [D_a], the most perturbations of one element; None for no limit.
    relaxed: the LP rather than the MILP.
    time_limit: seconds per budget.

  Raises:
    ValueError: shapes that do not fit, or a grid that is not monotone.

  Example:
    >>> survives_one = np.array([[True, True], [True, True]])
    >>> apart, shared = sparse.csr_array(np.eye(2)), sparse.csr_array(np.ones((2, 1)))
    >>> certify(survives_one, [apart], [[1], [2], [4]]).certified
    array([2, 1, 0])
    >>> certify(survives_one, [shared], [[1], [2], [4]]).certified
    array([2, 0, 0])

  References: Schuchardt, Bojchevski, Gasteiger & Günnemann 2021, "Collective robustness
    certificates: exploiting interdependence in graph neural networks", ICLR, sections 4 and 5.
  """
  survived, budgets = np.asarray(survived, bool), np.asarray(budgets, np.float64)
  num_outputs, num_kinds = survived.shape[0], survived.ndim - 1
  fields = [sparse.csr_array(field) for field in fields]
  if len(fields) != num_kinds or any(field.shape[0] != num_outputs for field in fields):
    raise ValueError(
      f"`fields` must be {num_kinds} matrices with {num_outputs} rows, one for each axis of "
      f"`survived`, but their shapes are {[field.shape for field in fields]}."
    )
  if budgets.ndim != 2 or budgets.shape[1] != num_kinds or (budgets < 0).any():
    raise ValueError(
      f"`budgets` must be numbers of at least 0 of shape [B, {num_kinds}], but they are {budgets}."
    )
  local = [None] * num_kinds if local is None else local
  limits = [_limit(most, field) for most, field in zip(local, fields, strict=True)]
  points = [_minimal_attacks(grid, n) for n, grid in enumerate(survived)]
  solver = highs.new_solver()
  certified, status = [], []
  for budget in budgets:
    most = [
      np.minimum(field.astype(bool) @ np.minimum(limit, total), total)
      for field, limit, total in zip(fields, limits, budget, strict=True)
    ]
    reach = np.stack(most, axis=1)  # [N, A], the most that each output can perceive
    possible = [v[(v <= reach[n]).all(axis=1)] for n, v in enumerate(points)]
    model = _program(possible, fields, limits, budget)
    attackable, how = _bound(solver, model, relaxed, time_limit)
    alone = sum(len(v) > 0 for v in possible)
    certified.append(num_outputs - min(int(np.floor(attackable)), alone))
    status.append(how)
  return ReceptiveFieldBound(np.array(certified, np.int64), np.array(status, str))


def _limit(limit: ArrayLike | None, field: sparse.csr_array) -> np.ndarray:
  num_elements = field.shape[1]
  values = np.full(num_elements, np.inf) if limit is None else np.asarray(limit, np.float64)
  if values.shape != (num_elements,) or (values < 0).any():
    raise ValueError(
      f"`local` must hold at least 0 for each of {num_elements} elements, but it is {limit}."
    )
  return np.floor(values)


def _minimal_attacks(grid: np.ndarray, output: int) -> np.ndarray:
  """Points [k, A] that an output does not survive although it survives all smaller ones."""
  padded = np.pad(grid, [(0, 1)] * grid.ndim)  # outside the grid nothing is survived
  minimal = ~padded
  for axis in range(grid.ndim):
    before = np.roll(padded, 1, axis)
    before[(slice(None),) * axis + (0,)] = True
    if (padded & ~before).any():
      raise ValueError(
        f"`survived` must be monotone, but output {output} survives more along axis {axis} than it "
        "does at a smaller perturbation."
      )
    minimal &= before
  return np.argwhere(minimal).astype(np.float64)


def _program(
  points: list[np.ndarray],
  fields: list[sparse.csr_array],
  limits: list[np.ndarray],
  budget: np.ndarray,
) -> highs.Model:
  """Columns: choices (n, k), then b per kind. Rows: one choice, perceived per kind, budgets."""
  num_outputs = len(points)
  stacked = np.concatenate([np.zeros((0, len(fields))), *points])
  owner = np.repeat(np.arange(num_outputs), np.array([len(v) for v in points], np.int64))
  entries = np.ones(owner.size), (owner, np.arange(owner.size))
  member = sparse.csr_array(entries, shape=(num_outputs, owner.size))
  needed = sparse.vstack([member @ sparse.diags_array(amounts) for amounts in stacked.T])
  perceived = sparse.block_diag([field.astype(bool).astype(np.float64) for field in fields])
  spent = sparse.block_diag([sparse.csr_array(np.ones((1, field.shape[1]))) for field in fields])
  blocks = [[member, None], [needed, -perceived], [None, spent]]
  matrix = sparse.csc_array(sparse.block_array(blocks))
  gain = np.repeat([1.0, 0.0], [owner.size, spent.shape[1]])
  most = [np.minimum(limit, total) for limit, total in zip(limits, budget, strict=True)]
  return highs.Model(
    cost=-gain,
    lower=np.zeros(gain.size),
    upper=np.concatenate([np.ones(owner.size), *most]),
    row_lower=np.full(matrix.shape[0], -np.inf),
    row_upper=np.concatenate([np.ones(num_outputs), np.zeros(num_outputs * len(fields)), budget]),
    starts=matrix.indptr.astype(np.int32),
    rows=matrix.indices.astype(np.int32),
    values=matrix.data,
  )


def _bound(
  solver: object, model: highs.Model, relaxed: bool, time_limit: float | None
) -> tuple[float, str]:
  """An upper bound on the number of choices, and how it was reached."""
  gain = -model.cost
  solution = highs.solve(solver, model, time_limit=time_limit)
  bound, status = float(gain.sum()), solution.status
  if solution.dual is not None and np.isfinite(solution.dual).all():
    y = np.maximum(-solution.dual, 0)
    shape = (y.size, gain.size)
    matrix = sparse.csc_array((model.values, model.rows, model.starts), shape=shape)
    reduced = np.maximum(gain - matrix.T @ y, 0)
    value = y @ model.row_upper + reduced @ model.upper
    bound = min(bound, value + 1e-9 * (1 + y @ np.abs(model.row_upper) + reduced.sum()))
  if relaxed:
    return bound, status
  integral = model._replace(integer=np.ones(gain.size, bool))
  solution = highs.solve(solver, integral, time_limit=time_limit)
  if solution.status != "optimal" or solution.primal is None:
    return bound, f"relaxed ({solution.status})"
  return min(bound, float(np.rint(gain @ solution.primal))), "optimal"
