"""Concave envelopes of step functions: the hulls that the envelope LP is made of (host)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from lrs_jax.collective.problem import EPS, Problem, Region, prices
from lrs_jax.collective.witness import Box, interval, lowered, round_up

_MANY_POINTS = 2**16  # whose hulls are found together: more take memory, and no less time


class Hull(NamedTuple):
  """A concave envelope that never falls, from the left end of its interval; then it is flat."""

  s: np.ndarray  # float64 [vertices], increasing
  height: np.ndarray  # float64 [vertices], increasing
  slack: float  # no point of the step function exceeds the hull by more


class Hulls(NamedTuple):
  """Those of all groups, one after another."""

  s: np.ndarray  # float64 [vertices]
  height: np.ndarray  # float64 [vertices]
  firsts: np.ndarray  # int [G]: the first vertex of every group
  lasts: np.ndarray  # int [G]
  slack: np.ndarray  # float64 [G]


def point(s: float, height: float) -> Hull:
  """The hull of a single point."""
  return Hull(np.array([s]), np.array([height]), 0.0)


def join(hulls: Sequence[Hull]) -> Hulls:
  """Hulls of all groups."""
  ends = np.cumsum([hull.s.size for hull in hulls], dtype=np.int64)
  s = np.concatenate([np.zeros(0), *(hull.s for hull in hulls)])
  height = np.concatenate([np.zeros(0), *(hull.height for hull in hulls)])
  slack = np.array([hull.slack for hull in hulls])
  return Hulls(s, height, np.append(0, ends)[:-1], ends - 1, slack)


def extend(
  hulls: Sequence[Hull], s: Sequence[np.ndarray], height: Sequence[np.ndarray]
) -> list[Hull]:
  """The upper hulls of some groups' hulls and of points to the right of each, in linear time.

  The slopes of an upper hull are the antitonic regression of the slopes between neighbors,
  weighted by their distances (Barlow et al. 1972, theorem 1.2.1). Rounding may drop a point that
  is above the hull: `slack` bounds by how much, and what interpolating rounds (below 5 EPS height).
  """
  if not hulls:
    return []
  found = None
  if len(hulls) == 1 or sum(x.size for x in s) <= _MANY_POINTS:
    found = _extended(hulls, s, height)
  if found is None:
    half = len(hulls) // 2
    found = extend(hulls[:half], s[:half], height[:half])
    found += extend(hulls[half:], s[half:], height[half:])
  return found


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _extended(
  hulls: Sequence[Hull], s: Sequence[np.ndarray], height: Sequence[np.ndarray]
) -> list[Hull] | None:
  """`extend`, all at once; None if their slopes cannot be told apart."""
  at = np.concatenate([x for hull, new in zip(hulls, s, strict=True) for x in (hull.s, new)])
  top = np.concatenate(
    [y for hull, new in zip(hulls, height, strict=True) for y in (hull.height, new)]
  )
  sizes = np.array([hull.s.size + new.size for hull, new in zip(hulls, s, strict=True)])
  lasts = np.cumsum(sizes) - 1
  firsts = lasts - sizes + 1
  kept = np.append(True, np.diff(at) > 1e-15 * np.repeat(at[lasts], sizes)[1:])
  kept[firsts] = True
  for i in np.flatnonzero(~kept[lasts]).tolist():  # closer than that is one point to a solver,
    before = firsts[i] + np.flatnonzero(kept[firsts[i] : lasts[i]])[-1]
    at[lasts[i]] = at[before]  # which is where the left one is, and as high as the right one
    kept[before], kept[lasts[i]] = False, True
  vertices = np.flatnonzero(kept)
  group = np.repeat(np.arange(sizes.size), sizes)
  is_edge = np.diff(group[vertices]) == 0
  left, right = vertices[:-1][is_edge], vertices[1:][is_edge]
  if left.size > 1:
    width, gain = (at[right] - at[left]) / at[lasts][group[left]], top[right] - top[left]
    slopes = _separated(gain / width, group[left])
    if slopes is None:
      return None
    found = scipy.optimize.isotonic_regression(slopes, weights=width, increasing=False)
    kept[left] = False
    kept[left[found.blocks[:-1]]] = True
  ends = np.cumsum(np.add.reduceat(kept, firsts, dtype=np.int64))
  top_s, top_height = at[kept], top[kept]
  slope = np.append(np.diff(top_height) / np.diff(top_s), 0.0)
  slope[ends - 1] = 0.0
  edge = np.maximum(np.cumsum(kept) - 1, np.repeat(np.append(0, ends[:-1]), sizes))
  above = top - (slope[edge] * (at - top_s[edge]) + top_height[edge])
  excess = np.maximum.reduceat(above, firsts)
  slack = np.array([hull.slack for hull in hulls]) + np.maximum(excess, 0.0)
  slack = np.where(excess < np.inf, slack + 16 * EPS * top[lasts], np.inf)
  starts = [0, *ends.tolist()]
  parts = zip(starts, starts[1:], slack.tolist(), strict=False)
  return [Hull(top_s[first:end], top_height[first:end], x) for first, end, x in parts]


def _separated(slopes: np.ndarray, group: np.ndarray) -> np.ndarray | None:
  """Slopes of groups times powers of 2: all of one exceed all of the next; None if those overflow.

  So one regression serves all groups, as it never pools two of them, with the very same roundings.
  """
  starts = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
  if starts.size == 1:
    return slopes
  exponents = np.frexp(slopes)[1]
  low, high = (f.reduceat(exponents, starts) for f in (np.minimum, np.maximum))
  room = high - low + 3
  if not (slopes > 0).all() or not np.isfinite(slopes).all() or room.sum() > 1900:
    return None
  lowest = room.sum() - np.cumsum(room) - room.sum() // 2
  return np.ldexp(slopes, np.repeat(lowest - low, np.diff(np.append(starts, slopes.size))))


def hull_of(problem: Problem, region: Region, box: Box, g: int) -> Hull | None:
  """The envelope of group g on its interval in the box; None if that is empty."""
  eta, counts = problem.thresholds[g], problem.counts[g]
  cut = interval(eta, box, region, g)
  if cut is None:
    return None
  first, last = cut
  if region.lost[g]:  # everything may fall, whatever s
    return point(box.lower[g], counts[last])
  start = point(box.lower[g], counts[first])
  if first == last:
    return start
  return extend([start], [eta[first:last]], [counts[first + 1 : last + 1]])[0]


@np.errstate(over="ignore", invalid="ignore")
def bound_hulls(hulls: Hulls, region: Region, box: Box, multipliers: np.ndarray) -> float:
  """`witness.bound`, from the hulls: a linear function is largest at a vertex, but for the slack.

  The same roundings, and at least as large up to them.
  """
  multipliers = np.where(region.lost, 0.0, multipliers)
  if not multipliers.any():
    return float(hulls.height[hulls.lasts].sum())  # whole numbers: exact
  s, height, firsts, lasts, slack = hulls
  nearer = lowered(multipliers, 0)
  values = height - np.repeat(nearer, lasts - firsts + 1) * s
  terms = np.maximum.reduceat(values, firsts)
  if (multipliers <= 0).any():
    last, right = height[lasts], np.minimum(box.upper, region.reach)
    cost = np.where(multipliers < 0, lowered(multipliers, -np.inf) * right, 0)
    terms = np.where(multipliers > 0, terms, np.where(multipliers == 0, last, last - cost))
  terms = np.nextafter(terms + slack, np.inf)
  return round_up(np.concatenate([np.nextafter(terms, np.inf), prices(region, multipliers)]))
