"""HiGHS, at arm's length: models go in as arrays, and what comes out is never trusted (host).

The only file that imports highspy. A solve reports how it ended and whatever values there are; the
caller evaluates them. No exception of the solver passes this file.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import highspy
import numpy as np


class Model(NamedTuple):
  """Minimize cost @ x subject to row_lower <= A x <= row_upper, lower <= x <= upper."""

  cost: np.ndarray  # [n]
  lower: np.ndarray  # [n]
  upper: np.ndarray  # [n]
  row_lower: np.ndarray  # [m]
  row_upper: np.ndarray  # [m]
  starts: np.ndarray  # int [n + 1], column j holds the entries starts[j]:starts[j + 1]
  rows: np.ndarray  # int, the row of every entry
  values: np.ndarray  # the value of every entry
  integer: np.ndarray | None = None  # bool [n]


class Solution(NamedTuple):
  """What a solve left behind; every array may be garbage unless checked."""

  status: str  # "optimal", "infeasible", "unbounded", "time limit" or why it failed
  primal: np.ndarray | None = None  # [n]
  dual: np.ndarray | None = None  # [m]: cost - A' dual are the reduced costs
  basis: Any = None  # of an LP


class Columns(NamedTuple):
  """Columns of a model that have k entries each; one number is the same for all of them."""

  cost: np.ndarray | float  # [n]
  lower: np.ndarray | float  # [n]
  upper: np.ndarray | float  # [n]
  rows: np.ndarray  # int [n, k]
  values: np.ndarray | float  # [n, k]


def from_columns(blocks: Sequence[Columns], row_lower: np.ndarray, row_upper: np.ndarray) -> Model:
  """A `Model` whose columns are those of some blocks, one after another."""
  cost, lower, upper = (
    np.concatenate([np.broadcast_to(block[i], len(block.rows)) for block in blocks])
    for i in range(3)
  )
  lengths = np.repeat([b.rows.shape[1] for b in blocks], [len(b.rows) for b in blocks])
  rows = np.concatenate([block.rows.ravel() for block in blocks])
  values = [np.broadcast_to(block.values, block.rows.shape).ravel() for block in blocks]
  starts = np.append(0, np.cumsum(lengths))
  return Model(cost, lower, upper, row_lower, row_upper, starts, rows, np.concatenate(values))


def leading(solution: Solution, model: Model, units: np.ndarray) -> np.ndarray | None:
  """What the first columns of a model are, in these units and their shape; None unless finite."""
  if solution.primal is None or solution.primal.shape != model.cost.shape:
    return None
  found = solution.primal[: units.size].reshape(units.shape) * units
  return found if np.isfinite(found).all() else None


_STATUS = {
  highspy.HighsModelStatus.kOptimal: "optimal",
  highspy.HighsModelStatus.kModelEmpty: "optimal",
  highspy.HighsModelStatus.kInfeasible: "infeasible",
  highspy.HighsModelStatus.kUnbounded: "unbounded",
  highspy.HighsModelStatus.kTimeLimit: "time limit",
}

_OPTIONS = {
  "output_flag": False,
  "log_to_console": False,
  "threads": 1,
  "random_seed": 0,
  "primal_feasibility_tolerance": 1e-9,
  "dual_feasibility_tolerance": 1e-9,
  "mip_feasibility_tolerance": 1e-9,
  "small_matrix_value": 1e-12,
}


class _Silent(highspy.Highs):
  """HiGHS that prints nothing, not even its version while it is being constructed."""

  def enableCallbacks(self) -> None:
    self.setOptionValue("output_flag", False)
    super().enableCallbacks()


def new_solver(gap: float = 0.0) -> Any:
  """A silent, single-threaded solver, to be passed to `solve` again and again.

  The gap is that of a MILP, at which it may stop.
  """
  solver = _Silent()
  for option, value in _OPTIONS.items():
    solver.setOptionValue(option, value)
  solver.setOptionValue("mip_rel_gap", float(gap))
  return solver


def solve(
  solver: Any,
  model: Model,
  *,
  time_limit: float | None = None,
  presolve: bool = False,
  gap: float = 0.0,
  start: Solution | None = None,
) -> Solution:
  """Solves an LP (by simplex) or a MILP (`model.integer`), up to this relative gap.

  The solver is from `new_solver`, the limit in seconds; presolving is worth it for large models. An
  LP may start at the basis of another one's solution; it does if as many rows and columns are. One
  that has the very arrays of the solver's last model, but for the cost, goes on where that ended:
  by the dual simplex, as the primal one, which could, takes five times as long for 2,040 groups.
  """
  limit = np.inf if time_limit is None else time_limit
  try:
    if model.integer is not None:  # its clock starts anew, that of the LPs runs on
      solver = new_solver(gap)
    solution = _solve(solver, model, limit, presolve, start)
    if solution.status not in _STATUS.values():  # once more, from nothing
      solution = _solve(new_solver(gap), model, limit, not presolve)
    return solution
  except Exception as error:  # whatever the solver does, it must not take the certificate along
    return Solution(f"{type(error).__name__}: {error}")


def _solve(
  solver: Any,
  model: Model,
  time_limit: float,
  presolve: bool,
  start: Solution | None = None,
) -> Solution:
  integer = np.zeros(model.cost.size, bool) if model.integer is None else model.integer
  solver.setOptionValue("presolve", "on" if presolve else "off")
  solver.setOptionValue("time_limit", solver.getRunTime() + time_limit)  # its clock runs on
  held, solver.held = getattr(solver, "held", None), model
  if held is not None and all(one is other for one, other in zip(model[1:], held[1:], strict=True)):
    changed = np.flatnonzero(model.cost != held.cost).astype(np.int32)
    solver.changeColsCost(changed.size, changed, model.cost[changed])
  else:
    accepted = solver.passModel(
      model.cost.size,
      model.row_lower.size,
      model.rows.size,
      int(highspy.MatrixFormat.kColwise),
      int(highspy.ObjSense.kMinimize),
      0.0,
      *(model.cost, model.lower, model.upper, model.row_lower, model.row_upper),
      *(model.starts, model.rows, model.values, integer.astype(np.int32)),
    )
    if accepted == highspy.HighsStatus.kError:
      solver.held = None
      return Solution("model refused")
    if start is not None and start.basis is not None:
      solver.setBasis(start.basis)  # refused, if it is that of another shape
  solver.run()
  status = solver.getModelStatus()
  solution = solver.getSolution()
  return Solution(
    _STATUS.get(status, solver.modelStatusToString(status)),
    np.asarray(solution.col_value, np.float64) if solution.value_valid else None,
    np.asarray(solution.row_dual, np.float64) if solution.dual_valid else None,
    solver.getBasis() if model.integer is None else None,
  )
