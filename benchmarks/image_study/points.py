"""Points of the study: quality and radius of a way of smoothing with a way of certifying."""

import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np


class Point(NamedTuple):
  """One way of smoothing with one way of certifying."""

  method: str
  noise: str
  grid: tuple[int, int]
  samples: int  # per output
  miou: float
  accuracy: float
  radius: dict[str, float]  # right, trapezoid and left sums
  curve: dict[str, Any]


LOCALIZED = {
  "naive": "localized, naive",
  "lp": "localized, paper's LP",
  "envelope": "localized, envelope",
  "milp": "localized, exact",
}
ISOTROPIC = {
  "envelope": "isotropic, Bonferroni",
  "segcertify": "isotropic, SegCertify with Holm",
}

SEVERAL = {
  ("localized", "envelope"): LOCALIZED["envelope"],
  ("localized", "milp"): LOCALIZED["milp"],
  ("strict", "envelope"): LOCALIZED["envelope"],
  ("isotropic", "envelope"): "isotropic",
}
"""What else is certified with k-FWER."""

CENTER = {
  "ranks_by_dkw": "center smoothing, published ranks",
  "ranks_by_binomial": "center smoothing, exact ranks",
}

RIVALS = (*ISOTROPIC.values(), *CENTER.values(), "isotropic, k-FWER")
"""What localized smoothing is compared with; with k-FWER if it has that itself."""


def points(results: dict[str, dict], kind: str, samples: int) -> list[Point]:
  """All that was certified for one kind of smoothing at one number of samples."""
  found = []
  for name, result in results.items():
    if not name.startswith(kind) or str(samples) not in result["samples"]:
      continue
    if name.endswith("-more") and samples in result["sizes"]["marks"]:
      continue  # the same counts as without
    smoothing, at = result["smoothing"], result["samples"][str(samples)]
    where = label(name, smoothing), tuple(smoothing["grid"]), samples
    special = variant(name, smoothing)
    known = ISOTROPIC if kind == "isotropic" else LOCALIZED
    if name.endswith("-exact"):  # a second look at the same counts
      known = {m: LOCALIZED[m] for m in ("lp", "milp")}
    found += [
      _point(title + special, where, at, at["curves"][m])
      for m, title in known.items()
      if m in at["curves"]
    ]
    if "segcertify" in at:
      title = ISOTROPIC["segcertify"] if kind == "isotropic" else "SegCertify"
      own = at["segcertify"]
      found.append(_point(title + special, where, own, own["curve"]))
    for tau, fixed in at.get("fixed_threshold", {}).items():
      found.append(_point(f"SegCertify, τ = {tau}{special}", where, fixed, fixed["curve"]))
    if "center" in result and samples == result["sizes"]["marks"][-1]:
      center = result["center"]
      found += [_point(title, where, center, center["curves"][m]) for m, title in CENTER.items()]
    several = result["samples"][f"{samples}, k-FWER"]
    found += [
      _point(f"{SEVERAL[kind, m]}{special}, k-FWER", where, several, curve)
      for m, curve in several["curves"].items()
      if m in known
    ]
  return found


def label(name: str, smoothing: dict[str, Any]) -> str:
  """Noise as tables name it: std from the own cell to the farthest that is seen."""
  low, high, hidden = (smoothing[k] for k in ("std_min", "std_max", "hide_beyond"))
  if name.startswith("strict"):
    return f"{low:g}, {name.split('-')[1]}"
  if hidden is not None:
    high = low + (high - low) * hidden / (max(smoothing["grid"]) - 1)
  return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def variant(name: str, smoothing: dict[str, Any]) -> str:
  """What tells this way of smoothing from the study's main one, to be added to a method's name."""
  special = name.split("-")[2] if name.count("-") > 1 else ""
  if name.startswith("strict") or special in ("", "exact", "more"):
    return ""
  if special in ("paper", "fine"):
    return ", {}×{} cells".format(*smoothing["grid"])
  return f", network {special}"


def _point(
  method: str, where: tuple[str, tuple[int, int], int], quality: dict, curve: dict
) -> Point:
  return Point(
    method, *where, quality["mean_iou"], quality["pixel_accuracy"], curve["radius"], curve
  )


MIOU, ACCURACY = attrgetter("miou"), attrgetter("accuracy")


class Ratio(NamedTuple):
  """Of a radius to a rival's."""

  ratio: float
  at_most: bool  # a rival is of greater quality at all levels: stronger noise would win it radius


def over(point: Point, rivals: list[Point], quality: Callable[[Point], float]) -> Ratio | None:
  """Radius over that of the best rival at the same quality, linear between its noise levels.

  None if no rival is as good.
  """
  several = point.method.endswith("k-FWER")
  rivals = [p for p in rivals if several or not p.method.endswith("k-FWER")]
  fronts = [
    sorted((quality(p), p.radius["right"]) for p in rivals if p.method == method)
    for method in {p.method for p in rivals}
  ]
  fronts = [front for front in fronts if quality(point) <= front[-1][0]]
  if not fronts:
    return None
  best = max(float(np.interp(quality(point), *zip(*front, strict=True))) for front in fronts)
  at_most = any(quality(point) < front[0][0] for front in fronts)
  return Ratio(point.radius["right"] / best if best else math.inf, at_most)


class Match(NamedTuple):
  """A localized point, and isotropic ones that cost as much."""

  point: Point
  rivals: list[Point]


def equal_cost(
  localized: dict[int, list[Point]],
  isotropic: dict[int, list[Point]],
  cost: Callable[[Point], float],
  step: int,
) -> list[Match]:
  """Our points beside isotropic ones of `cost` times as many samples, up to the next step."""
  found = []
  for samples, points in localized.items():
    for point in points:
      rivals = isotropic.get(math.ceil(samples * cost(point) / step - 1e-9) * step)
      if rivals and point.method.startswith((LOCALIZED["envelope"], LOCALIZED["milp"])):
        found.append(Match(point, [p for p in rivals if p.method in RIVALS]))
  return sorted(found, key=lambda m: (m.point.method, m.point.noise, m.point.samples))


def matched(found: list[Point], rivals: list[Point], noise: str) -> list[Point]:
  """Every method's localized point of that noise, and rivals of about its mean IoU or more."""
  chosen = [p for p in found if p.noise == noise]
  floor = min(p.miou for p in chosen)
  best: dict[str, Point] = {}
  for p in rivals:
    strongest = best.get(p.method, p).radius["right"]
    if p.miou >= floor - 0.005 and p.radius["right"] >= strongest:
      best[p.method] = p
  return [*chosen, *best.values()]
