"""The collective problem: what an adversary may do, and what falls when it does (host).

An adversary chooses b[a, c] >= 0 with sum_c b[a, c] <= B_a (and b <= caps), group g perceives
s_g = sum_a sum_c W[a, g, c] b[a, c], and output n falls iff s_{groups[n]} >= eta[n].
"""

import math
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from lrs_jax.collective.digests import digest

EPS = 2.0**-52  # twice the unit roundoff: fl(x op y) lies within (1 +- EPS / 2) of the truth
LEAST = 2.0**-1074  # or, where that underflows, within this


class Problem(NamedTuple):
  """Thresholds of the targets, sorted once, and the budgets at which to certify."""

  weights: np.ndarray  # float64 [A, G, C]
  thresholds: tuple[np.ndarray, ...]  # per group: distinct eta > 0 of its targets, increasing
  counts: tuple[np.ndarray, ...]  # per group: targets of its k smallest eta count counts[k]
  budgets: np.ndarray  # float64 [B, A]
  caps: np.ndarray  # float64 [A, C], inf where there is none
  integral: bool  # b is integral
  stand_in: np.ndarray  # float64 [G]: weight and threshold that stand for inf; inf if none does

  @property
  def num_targets(self) -> int:
    """What targets that do not abstain count for, in all."""
    return self.worth([eta.size for eta in self.thresholds])

  def reached(self, s: np.ndarray) -> list[int]:
    """How many distinct thresholds of each group lie at or below s, [G]."""
    return [
      eta.size if eta.size and eta[-1] <= x else int(eta.searchsorted(x, "right"))
      for eta, x in zip(self.thresholds, s.tolist(), strict=True)
    ]  # fmt: skip

  def worth(self, fallen: list[int]) -> int:
    """What the targets of so many thresholds of each group count for."""
    return int(sum(counts[k] for counts, k in zip(self.counts, fallen, strict=True)))


class Outputs(NamedTuple):
  """What certificates of the same outputs share, whichever their targets and budgets are."""

  weights: np.ndarray  # float64 [A, G, C]
  groups: np.ndarray  # int64 [N]
  eta: np.ndarray  # float64 [N]
  order: np.ndarray  # int64: outputs that do not abstain, by their group, then by rising eta
  digest: str  # of weights, groups and eta


class Given(NamedTuple):
  """Arguments of `certify`, checked."""

  groups: np.ndarray  # int64 [N]
  eta: np.ndarray  # float64 [N]
  budgets: np.ndarray  # float64 [B, A]
  targets: np.ndarray  # bool [N]; int64 [N], what each counts for, if that was given
  caps: np.ndarray | None  # float64 [A, C]
  digest: str  # of weights, groups and eta

  @property
  def largest_worth(self) -> int:
    """The most that one target counts for, of those that do not abstain; 0 if there is none."""
    return int(self.targets[self.eta > 0].max(initial=0))


class Region(NamedTuple):
  """The attacks b of one budget inside a box, and how far they reach."""

  weights: np.ndarray  # float64 [A, G, C]: 0 where b is 0, and in groups whose reach is inf
  lower: np.ndarray  # float64 [A, C]
  upper: np.ndarray  # float64 [A, C]
  budget: np.ndarray  # float64 [A]
  reach: np.ndarray  # float64 [G]: S_g >= max_b s_g, rounded up; -inf if the region is empty
  is_plain: bool = False  # nothing limits b but budgets, which are positive; no group is lost

  @property
  def lost(self) -> np.ndarray:
    """Groups whose reach is infinite, so that s says nothing of them: bool [G]."""
    return np.isinf(self.reach)

  @property
  def scales(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Units of s [G], b [A, C] and the budgets [A] in an LP: the most they can be; or 1."""
    largest = self.reach, self.upper, self.budget
    reach, size, budget = (np.where(np.isfinite(x) & (x > 0), x, 1.0) for x in largest)
    return reach, size, budget


def make_problem(
  weights: ArrayLike,
  groups: ArrayLike,
  eta: ArrayLike,
  budgets: ArrayLike,
  targets: ArrayLike | None,
  caps: ArrayLike | None,
  integral: bool,
  worth: ArrayLike | None = None,
) -> tuple[Problem, Given]:
  """Checks the arguments of `certify`, raising as it does, and sorts the thresholds."""
  return problem_of(prepare(weights, groups, eta), budgets, targets, caps, integral, worth)


def prepare(weights: ArrayLike, groups: ArrayLike, eta: ArrayLike) -> Outputs:
  """Checks what all problems of the same outputs share, and sorts it once."""
  weights, groups, eta = check_inputs(weights, groups, eta)
  alive, num_groups = np.flatnonzero(eta > 0), weights.shape[1]
  members = groups[alive].astype(np.uint16) if num_groups < 2**16 else groups[alive]  # by radix
  order = alive[np.argsort(members, kind="stable")]
  ends = np.cumsum(np.bincount(members, minlength=num_groups))
  for start, end in zip(np.append(0, ends), ends, strict=False):
    order[start:end] = order[start:end][np.argsort(eta[order[start:end]])]
  return Outputs(weights, groups, eta, order, digest(weights, groups, eta))


def problem_of(
  outputs: Outputs,
  budgets: ArrayLike,
  targets: ArrayLike | None,
  caps: ArrayLike | None,
  integral: bool,
  worth: ArrayLike | None = None,
) -> tuple[Problem, Given]:
  """`make_problem` of outputs that were checked and sorted before."""
  weights, groups, eta, _, known = outputs
  num_kinds, num_groups, num_cells = weights.shape
  budgets = _floats("budgets", budgets)
  budgets = budgets[:, None] if budgets.ndim == 1 and num_kinds == 1 else budgets
  rule = f"shape [B, A] (or [B] if A = 1) with A = {num_kinds} perturbation kinds in `weights`"
  _check_shape("budgets", rule, budgets, budgets.shape[1:] == (num_kinds,))
  _check_all("budgets", "be >= 0", budgets, budgets >= 0)
  targets = np.ones(eta.size, bool) if targets is None else targets
  targets = _of_outputs("targets", targets, "bool", eta.size).astype(bool)
  if worth is not None:
    worth = _of_outputs("worth", worth, "int", eta.size)
    if (worth < 0).any() or worth.sum(dtype=np.float64) >= 2.0**52:
      extent = f"ranges from {worth.min()} to {worth.max()}"
      raise ValueError(f"`worth` must be at least 0 and sum to less than 2^52, but it {extent}.")
    targets = np.where(targets, worth.astype(np.int64), 0)
  if caps is not None:
    caps = _floats("caps", caps)
    caps = caps[None] if caps.ndim == 1 and num_kinds == 1 else caps
    rule = f"shape [A, C] = {(num_kinds, num_cells)} (or [C] if A = 1)"
    _check_shape("caps", rule, caps, caps.shape == (num_kinds, num_cells))
    _check_all("caps", "be >= 0", caps, caps >= 0)
  if not isinstance(integral, bool | np.bool_):
    raise ValueError(f"`integral` must be True or False, but it is {integral!r}.")
  usable_caps = np.full((num_kinds, num_cells), np.inf) if caps is None else caps
  problem = Problem(
    weights,
    *_thresholds(outputs, targets),
    np.floor(budgets) if integral else budgets,
    np.floor(usable_caps) if integral else usable_caps,
    bool(integral),
    np.full(num_groups, np.inf),
  )
  given = Given(groups, eta, budgets, targets, caps, known)
  return (_tighten(problem) if integral else problem), given


def shown(x: Any) -> float:
  """A fraction or a float for a message: inf where it overflows."""
  return float(x) if abs(x) < 2**1000 else math.inf if x > 0 else -math.inf


def check_forfeit(forfeit: Any) -> int:
  """How many base certificates may be false, as an int, or `ValueError`."""
  is_integer = isinstance(forfeit, int | np.integer) and not isinstance(forfeit, bool)
  if not (is_integer and 0 <= forfeit < 2**63):
    raise ValueError(f"`forfeit` must be an integer in [0, 2^63), but it is {forfeit!r}.")
  return int(forfeit)


def guaranteed(problem: Problem, given: Given, attackable: float, forfeit: int) -> int:
  """What is left of the targets if so much can fall, and `forfeit` base certificates are false.

  Whichever these are, what falls under an attack is what it reaches and, beyond that, at most
  these: each a target that counts for at most the largest worth, or none that was counted.
  """
  lost = math.floor(attackable) + (forfeit and forfeit * given.largest_worth)
  return max(problem.num_targets - lost, 0)


def check_inputs(
  weights: ArrayLike, groups: ArrayLike, eta: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Weights as float64 [A, G, C], groups as int64 [N] and eta as float64 [N], or `ValueError`."""
  weights, groups, eta = _floats("weights", weights), np.asarray(groups), _floats("eta", eta)
  if weights.ndim == 2:
    weights = weights[None]
  _check_shape("weights", "shape [G, C] or [A, G, C]", weights, weights.ndim == 3)
  _check_all("weights", "be >= 0", weights, weights >= 0)
  _check_shape("eta", "shape [N]", eta, eta.ndim == 1)
  _check_all("eta", "be numbers", eta, ~np.isnan(eta))
  rule = f"the shape [N] of `eta`, {eta.shape}"
  _check_shape("groups", rule, groups, groups.shape == eta.shape)
  if groups.size and not np.issubdtype(groups.dtype, np.integer):
    raise ValueError(f"`groups` must be integers, but its dtype is {groups.dtype}.")
  num_groups = weights.shape[1]
  rule = f"lie in [0, G) with G = {num_groups} groups in `weights`"
  _check_all("groups", rule, groups, (groups >= 0) & (groups < num_groups))
  return weights, groups.astype(np.int64), eta


def make_region(
  problem: Problem, budget: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> Region:
  """The region lower <= b <= upper, sum_c b[a, c] <= budget[a].

  A cell whose b is 0 is dropped first, so that an infinite weight counts only where it can be
  used; there s_g has no bound: its reach is inf, and every target of the group may fall.
  """
  spare = budget - lower.sum(axis=1)
  if (spare < 0).any() or (lower > upper).any():
    empty = np.full(problem.weights.shape[1], -np.inf)
    return Region(problem.weights, lower, upper, budget, empty)
  upper = np.minimum(upper, lower + spare[:, None])
  weights, usable = problem.weights, upper[:, None] > 0
  if not usable.all():  # else one large array less
    weights = np.where(usable, weights, 0.0)
  with np.errstate(over="ignore"):
    reach = knapsack(weights, lower[:, None], upper[:, None], budget[:, None]).sum(axis=0)
    reach *= 1 + EPS * len(budget)  # the sum over kinds
  if np.isinf(reach).any():
    weights = np.where(np.isinf(reach)[:, None], 0.0, weights)
  return Region(weights, lower, upper, budget, np.where(reach, reach, 0))


def whole_region(problem: Problem, index: int) -> Region:
  """All attacks of budget `index`."""
  budget, caps = problem.budgets[index], problem.caps
  each = budget[:, None]
  lower = np.zeros_like(caps)
  if caps.size and ((each > 0) & (each < np.inf) & (caps >= each)).all():
    with np.errstate(over="ignore", invalid="ignore"):
      reach = _uncapped(problem.weights, each).sum(axis=0) * (1 + EPS * len(budget))
    if (reach < np.inf).all():
      return Region(problem.weights, lower, np.minimum(caps, each), budget, reach, is_plain=True)
  return make_region(problem, budget, lower, caps)


@np.errstate(over="ignore", invalid="ignore")
def knapsack(
  values: np.ndarray, lower: np.ndarray, upper: np.ndarray, budget: np.ndarray
) -> np.ndarray:
  r"""Upper bound on the fractional knapsack, rounded up, over the last axis.

  :math:`\max \sum_c v_c b_c` over :math:`l \le b \le u,\ \sum_c b_c \le B` is at most, for any
  price :math:`\mu \ge 0` of the budget (and equal to it at the best one, where the budget runs out
  when cells are bought from the dearest down),

  .. math:: \sum_c v_c l_c + \mu (B - \sum_c l_c) + \sum_c (u_c - l_c) \max(v_c - \mu, 0) .

  All but the first sum are sums of non-negative terms, whose relative error is below
  (C + 4) EPS; the first is 0 except in a box of integers. 0 inf = 0 throughout. What overflows is
  inf, and products that underflow are off by LEAST, each. Shapes are [..., C], of the budget [...];
  only values, upper and budget may be inf.
  """
  if not values.shape[-1]:
    return np.zeros(np.broadcast_shapes(values.shape[:-1], budget.shape))
  spare = budget - lower.sum(axis=-1)
  if (upper - lower >= spare[..., None]).all():  # no cap binds: all of it on the dearest cell
    price = np.maximum(values.max(axis=-1), 0.0)
    bound = _times(price, spare)
  else:
    values, room = np.broadcast_arrays(values, upper - lower)
    order = np.argsort(-values, axis=-1)
    bought = np.cumsum(np.take_along_axis(room, order, axis=-1), axis=-1)
    last = (bought < spare[..., None]).sum(axis=-1)[..., None]
    descending = np.take_along_axis(values, order, axis=-1)
    price = np.take_along_axis(descending, np.minimum(last, values.shape[-1] - 1), axis=-1)
    price = np.where(last < values.shape[-1], np.maximum(price, 0.0), 0.0)
    gain = np.where(values > price, values - price, 0.0)  # not inf - inf, which is no gain
    bound = _times(price[..., 0], spare) + _times(room, gain).sum(axis=-1)
  margin = EPS * (values.shape[-1] + 4)
  if (np.abs(bound) < 1e-290).any():  # absorbed where it is larger
    attacked = (values > 0) & (upper > 0) & (budget > 0)[..., None]
    bound = bound + np.where(attacked.any(axis=-1), LEAST * (2 * values.shape[-1] + 4), 0.0)
  if lower.any():
    fixed = _times(values, lower)
    bound = bound + fixed.sum(axis=-1) + margin * np.abs(fixed).sum(axis=-1)
    return bound + margin * np.abs(bound)
  return bound * (1 + margin)


def _uncapped(values: np.ndarray, budget: np.ndarray) -> np.ndarray:
  """`knapsack` of cells without caps, for budgets that are positive and finite."""
  price = np.maximum(values.max(axis=-1), 0.0)
  bound = price * budget
  if (bound < 1e-290).any():
    bound = bound + np.where(price > 0, LEAST * (2 * values.shape[-1] + 4), 0.0)
  return bound * (1 + EPS * (values.shape[-1] + 4))


def prices(region: Region, multipliers: np.ndarray) -> np.ndarray:
  """The most that sum_g multipliers[g] s_g can be, per kind, rounded up: [A]."""
  values = np.einsum("g,agc->ac", multipliers, region.weights)
  size = values
  if (multipliers < 0).any():
    size = np.einsum("g,agc->ac", np.abs(multipliers), region.weights)
  values = values + size * (EPS * (multipliers.size + 3)) + multipliers.size * LEAST
  if region.is_plain:
    return _uncapped(values, region.budget)
  return knapsack(values, region.lower, region.upper, region.budget)


def _times(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  return np.where((x == 0) | (y == 0), 0.0, x * y)


def _thresholds(
  outputs: Outputs, targets: np.ndarray
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
  """The thresholds of every group's targets, rising, and what they and all below count for."""
  chosen = outputs.order[targets[outputs.order] > 0]
  eta, size = outputs.eta[chosen], targets[chosen].astype(np.int64)
  thresholds, counts = [], []
  ends = np.cumsum(np.bincount(outputs.groups[chosen], minlength=outputs.weights.shape[1]))
  for start, end in zip(np.append(0, ends), ends, strict=False):
    ordered, sizes = eta[start:end], size[start:end]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)[: ordered.size])
    thresholds.append(ordered[last])
    counts.append(np.append(0.0, np.cumsum(sizes)[last]))
  return tuple(thresholds), tuple(counts)


@np.errstate(over="ignore", invalid="ignore")
def _tighten(problem: Problem) -> Problem:
  """Integral attacks: a weight need not exceed the group's largest threshold.

  One unit of a cell of weight W >= max eta attacks the whole group, and so does W = max eta. An
  infinite weight attacks outputs of eta = inf as well: both become a number M that finite weights
  cannot reach together, at any budget where that is finite (elsewhere they may reach M, and the
  certificate is only weaker). If there is no such number, they stay infinite.
  """
  weights, thresholds, stand_in = problem.weights.copy(), [], problem.stand_in.copy()
  most = np.minimum(problem.budgets, problem.caps.sum(axis=1))  # [B, A]
  for g, eta in enumerate(problem.thresholds):
    finite = eta[np.isfinite(eta)]
    top = float(finite[-1]) if finite.size else 1.0
    infinite = np.isinf(weights[:, g])
    weights[:, g] = np.minimum(weights[:, g], top)
    if finite.size < eta.size and infinite.any():
      others = np.where(infinite, 0.0, weights[:, g]).max(axis=1, initial=0.0)
      together = 2 * _times(most, others).sum(axis=1)
      top = max(2 * top, float(together[np.isfinite(together)].max(initial=0.0)))
      weights[:, g][infinite] = stand_in[g] = top
      eta = np.append(finite, top)
    thresholds.append(eta)
  return problem._replace(weights=weights, thresholds=tuple(thresholds), stand_in=stand_in)


def _floats(name: str, value: ArrayLike) -> np.ndarray:
  """An array of real numbers as float64, exactly, or `ValueError`."""
  try:
    array = np.asarray(value)
  except (TypeError, ValueError) as error:
    raise ValueError(f"`{name}` must be an array of numbers, but {error}.") from error
  kind = array.dtype.kind
  if kind not in "biuf" and not (kind == "V" and np.can_cast(array.dtype, np.float64)):
    raise ValueError(f"`{name}` must be an array of real numbers, but its dtype is {array.dtype}.")
  whole = kind in "iu" and bool(((array > 2**53) | (array < -(2**53))).any())
  if array.dtype.itemsize > 8 or whole:
    raise ValueError(f"`{name}` must be exact in float64, but as {array.dtype} it is not.")
  return array.astype(np.float64)


def _of_outputs(name: str, value: ArrayLike, kind: str, num_outputs: int) -> np.ndarray:
  array = np.asarray(value)
  if array.shape != (num_outputs,) or (array.size and array.dtype.kind != kind[0]):
    raise ValueError(
      f"`{name}` must be {kind} of the shape [N] of `eta`, ({num_outputs},), but it is "
      f"{array.dtype} of shape {array.shape}."
    )
  return array


def _check_shape(name: str, rule: str, array: np.ndarray, kept: bool) -> None:
  if not kept:
    raise ValueError(f"`{name}` must have {rule}, but its shape is {array.shape}.")


def _check_all(name: str, rule: str, array: np.ndarray, kept: np.ndarray) -> None:
  """Raises `ValueError` with the first entry that does not keep a rule."""
  if not kept.all():
    index = tuple(np.argwhere(~kept)[0].tolist())
    place = index if len(index) > 1 else index[0]
    raise ValueError(f"`{name}` must {rule}, but at index {place} it is {array[index]}.")
