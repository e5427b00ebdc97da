r"""Branch and bound over intervals of s: the certificate of the exact method (host).

A node is a box, its bound the value of the witness with the multipliers of the envelope LP on the
box. The node of the largest bound is split where its LP is most wrong: at the group that the LP
credits with most more targets than fall at its s. Integral attacks are split at fractional b as
well. Whenever it stops, the leaves prove the largest bound among them.
"""

import heapq
import math
import time
from typing import Any, NamedTuple

import numpy as np

from lrs_jax.collective import attacks
from lrs_jax.collective.envelope import (
  Layout,
  attack_of,
  incidence_of,
  make_layout,
  make_program,
  relax,
)
from lrs_jax.collective.hulls import Hull, bound_hulls, hull_of, join
from lrs_jax.collective.problem import Problem, Region, make_region
from lrs_jax.collective.witness import Box, Witness, split, tree, whole_box


class Node(NamedTuple):
  """A box and what its LP found."""

  box: Box
  layout: Layout  # with the region
  hulls: list[Hull]
  multipliers: np.ndarray  # float64 [G]
  bound: float  # -inf if it is empty
  status: str = ""  # of the LP
  attack: np.ndarray | None = None  # float64 [A, C], of the LP
  split: tuple[int, float, int] | None = None  # variable, value, first child; None in a leaf


class Proof(NamedTuple):
  """What is proven of one budget, and the best attack."""

  status: str
  attackable: float
  tree: Witness  # of this budget alone
  attack: np.ndarray | None = None  # float64 [A, C], attained exactly


def branch(
  solver: Any, problem: Problem, region: Region, *, gap: float, time_limit: float | None
) -> Proof:
  """Splits until floor(bound) - attacked <= gap x targets, time is up, or it is interrupted."""
  deadline = time.perf_counter() + (np.inf if time_limit is None else time_limit)
  allowed = gap * problem.num_targets
  nodes = [_root(solver, problem, region)]
  queue = [(-nodes[0].bound, 0)]
  attack, best = np.zeros_like(problem.caps), 0
  stuck = nodes[0]._replace(bound=0.0)  # of the nodes that cannot be split, that of largest bound
  status = "optimal"
  try:
    enough = math.floor(nodes[0].bound) - allowed
    attack, best = attacks.seek(solver, problem, region, nodes[0].attack, enough, deadline)
    while queue:
      number = queue[0][1]
      node = nodes[number]
      target = math.floor(best + allowed) + 1  # a leaf is good enough if its bound is below
      if max(node.bound, stuck.bound) < target:
        break
      if time.perf_counter() > deadline:
        status = "time limit"
        break
      where = _where(problem, node)
      if where is None:
        heapq.heappop(queue)
        stuck = max(stuck, node, key=lambda x: x.bound)
        continue
      boxes = split(node.box, *where, problem.integral)
      children = [_child(solver, problem, node, box, where[0]) for box in boxes]
      for child in children:
        if child.attack is not None and child.bound >= target:
          inside = child.layout.region
          candidate, count = attacks.near(solver, problem, inside, child.attack, best)
          if count > best:
            attack, best = candidate, count
      first = len(nodes)
      nodes.extend(children)
      nodes[number] = node._replace(split=(*where, first), hulls=[])  # only leaves need these
      heapq.heappop(queue)
      for k, child in enumerate(children):
        if child.bound >= target:
          heapq.heappush(queue, (-child.bound, first + k))
  except KeyboardInterrupt:
    status = "interrupted"
  bound, leaves = _proven(nodes)
  if status == "optimal" and bound >= math.floor(best + allowed) + 1:
    solved = stuck.status in ("optimal", "infeasible")
    status = "precision limit" if solved else stuck.status  # finer than the solver's tolerances
  return Proof(status, bound, leaves, attack)


def _proven(nodes: list[Node]) -> tuple[float, Witness]:
  """The largest bound of a leaf, and the tree in preorder."""
  variables, values, multipliers, bounds, pending = [], [], [], [0.0], [0]
  while pending:
    node = nodes[pending.pop()]
    variable, value, first = node.split or (-1, 0.0, 0)
    variables.append(variable)
    values.append(value)
    if variable >= 0:
      pending.extend([first + 1, first])
    else:
      multipliers.append(node.multipliers)
      bounds.append(node.bound)
  return max(bounds), tree(variables, values, multipliers)


def _root(solver: Any, problem: Problem, region: Region) -> Node:
  box, nothing = whole_box(problem), np.zeros(len(region.reach))
  layout = make_layout(region, incidence_of(problem))
  hulls = [hull for g in range(nothing.size) if (hull := hull_of(problem, region, box, g))]
  bound = bound_hulls(join(hulls), region, box, nothing)
  return _solved(solver, problem, Node(box, layout, hulls, nothing, bound))


def _child(solver: Any, problem: Problem, parent: Node, box: Box, variable: int) -> Node:
  node = parent._replace(box=box, attack=None, hulls=list(parent.hulls))
  changed = [variable]
  if variable >= box.lower.size:  # of b: another region
    budget, incidence = parent.layout.region.budget, parent.layout.incidence
    region = make_region(problem, budget, box.b_lower, box.b_upper)
    node = node._replace(layout=make_layout(region, incidence))
    changed = list(range(box.lower.size))
  for g in changed:
    hull = hull_of(problem, node.layout.region, box, g)
    if hull is None:
      return node._replace(bound=-math.inf)
    node.hulls[g] = hull
  return _solved(solver, problem, node)


def _solved(solver: Any, problem: Problem, node: Node) -> Node:
  """The node with its LP's attack, and the multipliers that prove most: the LP's or its parent's.

  If the LP is infeasible, the latter plus ever larger multiples of those that prove it empty.
  """
  box, layout, hulls, region = node.box, node.layout, join(node.hulls), node.layout.region
  program = make_program(hulls, layout, box)
  status, multipliers, solution = relax(solver, program)
  attack = attack_of(program, solution)
  proven = bound_hulls(hulls, region, box, multipliers)
  if proven >= node.bound:
    multipliers, proven = node.multipliers, bound_hulls(hulls, region, box, node.multipliers)
  if status == "infeasible":
    attack = None
    ray = relax(solver, make_program(hulls, layout, box, elastic=True)).multipliers
    for exponent in range(2, 40, 4):  # 0 proves an empty box as well as less does
      if proven <= 0:
        break
      with np.errstate(over="ignore", invalid="ignore"):
        longer = node.multipliers + ray * (problem.num_targets * 2.0**exponent)
      value = bound_hulls(hulls, region, box, longer)
      if value < proven:
        multipliers, proven = longer, value
  return node._replace(multipliers=multipliers, bound=proven, attack=attack, status=status)


def _where(problem: Problem, node: Node) -> tuple[int, float] | None:
  """The variable to split, and where; None if nothing is left to split, or the LP failed."""
  if node.attack is None:
    return None
  num_groups = node.box.lower.size
  above = (attacks.perceive(node.layout.region, node.attack) * (1 + 1e-9)).tolist()
  losses = []
  for g, (hull, x) in enumerate(zip(node.hulls, above, strict=True)):
    eta, counts, loss = problem.thresholds[g], problem.counts[g], -1.0
    if hull.s.size > 1:
      fallen = np.clip(counts[eta.searchsorted(x, "right")], hull.height[0], hull.height[-1])
      loss = np.interp(x, hull.s, hull.height) - fallen
    losses.append(loss)
  g = int(np.argmax(losses))
  if losses[g] > 1e-6:
    hull = node.hulls[g]
    return g, _cut(problem.thresholds[g], problem.counts[g], hull, above[g], losses[g])
  if problem.integral:
    fraction = np.abs(node.attack - np.round(node.attack)).ravel()
    flat = int(fraction.argmax())
    if fraction[flat] > 1e-6 and node.attack.ravel()[flat] < 2.0**49:
      return num_groups + flat, float(np.ceil(node.attack.ravel()[flat]))
  if losses[g] >= 0:  # the LP takes for granted what falls at its s: is it so?
    eta, hull = problem.thresholds[g], node.hulls[g]
    reached = eta[max(eta.searchsorted(above[g], "right") - 1, 0)]
    return g, float(np.clip(reached, hull.s[1], hull.s[-1]))
  return None


def _cut(eta: np.ndarray, counts: np.ndarray, hull: Hull, s: float, loss: float) -> float:
  """Where to split a group: at the right end of the hull's edge at s, or just above s.

  The former if most of the loss at s is gone once that vertex is: many outputs have its threshold.
  """
  s = max(s, hull.s[0])  # an LP's s may be a trifle outside
  right = min(max(int(hull.s.searchsorted(s, "right")), 1), hull.s.size - 1)
  vertex = hull.s[right]
  before = int(eta.searchsorted(vertex)) - 1
  kept = 0.0
  if before >= 0 and eta[before] > s:
    share = (s - hull.s[right - 1]) / (eta[before] - hull.s[right - 1])
    climbed = hull.height[right - 1] + share * (counts[before + 1] - hull.height[right - 1])
    kept = climbed - (np.interp(s, hull.s, hull.height) - loss)
  return float(vertex if kept < loss / 2 else eta[eta.searchsorted(s, "right")])
