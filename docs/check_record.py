"""Checks a stored certificate of lrs_jax once more, with nothing but Python's standard library.

    python check_record.py FILE_OR_FOLDER ...

It shares no line with the package and needs none of it. From the counts of votes that a record
stores it goes up to the numbers that it claims, and refuses it where one of them is larger than
what follows from those below it:

1. counts    can be those of so many samples; two sets of samples, that select and that bound
2. labels    have most votes of the first set, which also promises most from an output's statistic
3. bounds    on the probability of every label hold at the level that is due to an output
4. eta       the threshold of every output, from its bound: it is certified against cheaper attacks
5. weights   the price of perturbing every cell of the input, from the levels of the noise
6. budgets   are no less than the powers of the radii
7. witness   weak duality: no attack within a budget reaches more targets than `attackable`
8. claim     `certified` is no more than the targets less what is attackable, and what is given up

Binomial tails, logarithms and the normal distribution are computed to 60 digits, all else that
decides is exact. Covered are all families of noise, votes, margins, scores (kl, mixed, bernstein),
Rényi orders, Bonferroni and k-FWER, and the trees of the exact method.

What it does not do: it does not see the model and the input, so that the counts, the labels
(`truth`), which outputs are `counted` and the adversary's `caps` are believed. It accepts what is
weaker than it could be, where `lrs-jax verify` wants the very numbers. It does not look at attacks
(which only show how tight a certificate is), times, digests, cards and summaries, nor whether the
noise is that of the job in `meta`.
"""

import ast
import itertools
import json
import math
import operator
import struct
import sys
import zipfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

TINY = Decimal("1e-45")  # relative; what 60 digits lose in some thousand operations is less
HALF = Decimal("0.5")
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
FORMATS = {"f8": "d", "f4": "f", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "b1": "?"}
FREE = ("noise/parameters.npy",)  # in which a hidden entry may be shown as what is no number
DISTANCE = Decimal(2) ** -24  # of exact noise from what it stands for: bounds are lowered by it
MEAN_ALONE = ("uniform", "ablation")  # families to which a score's variance is of no use


def need(condition: bool, message: str) -> None:
  """Refuses a record unless a condition holds."""
  if not condition:
    raise ValueError(message)


# Files.


class Array(NamedTuple):
  """An array of a record: its numbers in C's order."""

  shape: tuple[int, ...]
  values: list[Any]

  def rows(self) -> list[list[Any]]:
    """The numbers, cut along the last axis."""
    size = self.shape[-1]
    return [self.values[i * size : (i + 1) * size] for i in range(math.prod(self.shape[:-1]))]


def read(path: Path) -> dict[str, Array]:
  """The arrays of an .npz file: a zip archive of .npy files, whose headers are Python literals."""
  arrays = {}
  with zipfile.ZipFile(path) as archive:
    need(len(set(archive.namelist())) == len(archive.namelist()), "two arrays have one name")
    for name in archive.namelist():
      data = archive.read(name)
      need(data[:6] == b"\x93NUMPY" and data[6] in (1, 2), f"{name} is no array")
      start = 10 if data[6] == 1 else 12
      end = start + int.from_bytes(data[8:start], "little")
      header = ast.literal_eval(data[start:end].decode("latin1"))
      shape, kind = header["shape"], header["descr"]
      size = math.prod(shape)
      if kind[1] == "U":
        width = 4 * int(kind[2:])
        texts = [data[end + i * width : end + (i + 1) * width] for i in range(size)]
        values: list[Any] = [text.decode("utf-32-le").rstrip("\0") for text in texts]
      else:
        need(kind[0] != ">" and kind[1:] in FORMATS, f"{name} is of type {kind}")
        values = list(struct.unpack(f"<{size}{FORMATS[kind[1:]]}", data[end:]))
      if header["fortran_order"] and len(shape) > 1:  # the first index runs fastest
        steps = [math.prod(shape[:axis]) for axis in range(len(shape))]
        places = itertools.product(*(range(0, n * s, s) for n, s in zip(shape, steps, strict=True)))
        values = [values[sum(place)] for place in places]
      need(
        not any(x != x for x in values) or name in FREE or name.endswith("gap.npy"),
        f"{name} has what is no number",
      )
      arrays[name.removesuffix(".npy")] = Array(shape, values)
  return arrays


# Probabilities.


@cache
def ln(x: Fraction) -> Decimal:
  """The logarithm of a fraction."""
  return Decimal(x.numerator).ln() - Decimal(x.denominator).ln()


def tail(k: int, n: int, p: Decimal) -> tuple[Decimal, Decimal]:
  """P[Bin(n, p) = k], and P[Bin(n, p) >= k], rounded up: for k >= 1 and p in (0, 1).

  Terms are added until their ratio, which falls, bounds the rest by a geometric series.
  """
  odds = p / (1 - p)
  first = term = Decimal(math.comb(n, k)) * p**k * (1 - p) ** (n - k)
  total = rest = Decimal(0)
  for j in range(k, n + 1):
    total += term
    ratio = odds * (n - j) / (j + 1)
    if ratio < 1 and (rest := term * ratio / (1 - ratio)) < total * TINY:
      break
    term *= ratio
  return first, (total + rest) * (1 + TINY)


@cache
def clopper_pearson(k: int, n: int, level: Fraction) -> float:
  """A p with P[Bin(n, p) >= k] <= level, nearly the largest, by Newton's method in logarithms."""
  if not k:
    return 0.0
  p, step = k / n / 2, 1.0
  while abs(step) > 1e-13:
    first, total = tail(k, n, Decimal(p))
    step = float((ln(level) - total.ln()) * total / first / k)
    p = min(p * math.exp(max(min(step, 1.0), -1.0)), 1 - 1e-15)
  p *= 1 - 1e-12
  while Fraction(tail(k, n, Decimal(p))[1]) > level:
    p *= 1 - 1e-12
  return p


@cache
def chernoff(ratio: Fraction, n: int, level: Fraction) -> Decimal:
  """A p, nearly the largest, with n kl(ratio, p) >= -ln(level), for variables in [0, 1]."""
  mean, needed = float(ratio), -float(ln(level)) / n
  low, high = 0.0, mean
  for _ in range(55):
    p = (low + high) / 2
    told = sum(a * math.log(a / b) for a, b in ((mean, p), (1 - mean, 1 - p)) if a > 0 < b)
    low, high = (p, high) if told >= needed else (low, p)
  found, exact = Decimal(low * (1 - 1e-12)), Decimal(ratio.numerator) / ratio.denominator
  sure = not found or n * divergence(exact, found) * (1 - TINY) >= -ln(level)
  return found if sure else Decimal(0)


@cache
def normal(z: Decimal) -> Decimal:
  """The normal distribution function: 1/2 + density (z + z^3 / 3 + z^5 / (3 5) + ...)."""
  term, total, i = abs(z), Decimal(0), 1
  while term > TINY * TINY * total:
    total, i = total + term, i + 2
    term *= z * z / i
  half = total * (-z * z / 2).exp() / (2 * PI).sqrt()
  return HALF + half if z > 0 else HALF - half


@cache
def quantile(p: float) -> Decimal:
  """A number a little less than that where `normal` is p."""
  if not 0 < p < 1:
    return Decimal("-inf")
  z = Decimal(NormalDist().inv_cdf(p)) - Decimal("1e-12")
  need(normal(z) * (1 + TINY) <= p, f"no quantile of {p} was found")
  return z


@cache
def divergence(one: Decimal, other: Decimal, order: Decimal = Decimal(1)) -> Decimal:
  """Rényi's, of an order, of a coin of probability `one` from a coin of probability `other`."""
  pairs = [(a, b) for a, b in ((one, other), (1 - one, 1 - other)) if a]
  if order == 1 or any(not b for _, b in pairs):
    infinite = order >= 1 and any(not b for _, b in pairs)
    pairs = [(a, b) for a, b in pairs if b]
    if infinite or not pairs:
      return Decimal("inf")
  if order == 1:
    return sum((a * (a / b).ln() for a, b in pairs), Decimal(0))
  terms = [order * a.ln() + (1 - order) * b.ln() for a, b in pairs]
  most = max(terms)  # of order 1000 they are far apart
  return (most + sum((term - most).exp() for term in terms).ln()) / (order - 1)


# Base certificates: bounds, thresholds, weights.


class Sums(NamedTuple):
  """What n samples said of an output: how often it was its label, was not the runner-up, was
  nothing of the rest; and the sums of its label's scores and of their squares, in units of 1/255.
  """

  n: int
  label: int
  not_second: int
  not_rest: int
  total: int
  squares: int


@cache
def bounds_of(
  method: str, family: str, sums: Sums, center: int, level: Fraction, distance: Decimal
) -> tuple[Decimal, Decimal | None]:
  """Bounds at a level: on the label's probability, or on a score's mean and variance together.

  A margin is of bounds that are lowered by the distance of what was drawn from what is meant.
  """
  n, label, not_second, not_rest, total, squares = sums
  if method == "votes":
    return Decimal(clopper_pearson(label, n, level)), None
  if method == "margins":  # no other class is likelier than the runner-up, or than all the rest
    q, *others = (clopper_pearson(k, n, level / 3) for k in (label, not_second, not_rest))
    less = (float(Decimal(x) - distance) for x in (q, max(min(others), q)))
    z = sum(map(quantile, less)) / 2
    return normal(z) * (1 - TINY) if z.is_finite() else Decimal(0), None
  share = level if method == "kl" and family in MEAN_ALONE else level / 2
  variance, each = Decimal("0.25"), -ln(share) / n
  if method == "bernstein":  # Maurer and Pontil's, from the empirical variance
    std = (Decimal(n * squares - total**2) / (n * (n - 1))).sqrt() / 255
    variance = min((std + (2 * each * n / (n - 1)).sqrt()) ** 2 * (1 + TINY), variance)
  elif share != level:  # Chernoff's, of y = 1 - (x - center)^2 / reach in [0, 1]
    reach = max(center, 255 - center) ** 2
    scattered = squares - 2 * center * total + n * center**2
    close = chernoff(Fraction(n * reach - scattered, n * reach), n, share)
    variance = min((1 - close) * reach / 255**2, variance)
  if method == "kl":
    return chernoff(Fraction(total, 255 * n), n, share), variance
  mean = Decimal(total) / (255 * n) - (2 * variance * each).sqrt() - each / 3 - TINY
  return max(mean, Decimal(0)), variance


@cache
def check_choice(
  method: str,
  among: tuple[str, ...],
  family: str,
  drew: Sums,
  center: int,
  n: int,
  level: Fraction,
  distance: Decimal,
) -> None:
  """That no other statistic would give more, if n samples were like those that select.

  Votes and margins are compared by their bounds, scores by their thresholds.
  """
  votes = (min(round((k + 0.5) / (drew.n + 1) * n), n) for k in drew[1:4])
  total = round(drew.total * (n / drew.n))
  squares = min(max(round(drew.squares * (n / drew.n)), -(-(total**2) // n)), 255 * total)
  bounds = {
    x: bounds_of(x, family, Sums(n, *votes_, total, squares), center, level, distance)
    for votes_ in [tuple(votes)]
    for x in among
  }
  found = {
    x: mean if "margins" in among else eta_of(family, mean, variance, distance)
    for x, (mean, variance) in bounds.items()
  }
  best = max(found.values())
  right = found[method] >= best * (1 - Decimal("1e-9")) and (best or method == among[0])
  need(bool(right), f"{method} is not what promised most of {', '.join(among)}")


def eta_of(
  family: str, mean: Decimal, variance: Decimal | None, distance: Decimal = Decimal(0)
) -> Decimal:
  """The threshold of an output whose label has at least this probability, or mean score.

  Probability, mean and variance are of what was drawn, at a distance from what is meant.
  """
  mean, variance = mean - distance, None if variance is None else variance + distance
  if mean <= HALF:
    return Decimal(0)
  most = mean * (1 - mean)
  spread = most if variance is None else min(variance, most)
  by_variance = (1 + (mean - HALF) ** 2 / spread).ln() if spread else Decimal("inf")
  by_mean = {
    "gaussian": lambda: quantile(float(mean)) ** 2,
    "laplace": lambda: -(2 - 2 * mean).ln(),
    "uniform": lambda: 2 * mean - 1,
    "ablation": lambda: -(Decimal("1.5") - mean).ln(),
    "flips": lambda: by_variance,
  }[family]()
  return by_mean if variance is None or family in MEAN_ALONE else max(by_mean, by_variance)


@cache
def eta_holds(
  family: str, eta: float, mean: float, variance: float | None, distance: Decimal
) -> bool:
  """Whether a threshold is no more than `eta_of`; of Gaussian noise, without a quantile."""
  if eta <= 0:
    return True
  meant = Decimal(mean) - distance
  if meant > HALF and family == "gaussian" and normal(Decimal(eta).sqrt()) * (1 + TINY) <= meant:
    return True
  among = None if variance is None else Decimal(variance)
  return eta <= eta_of(family, Decimal(mean), among, distance) * (1 - TINY)


@cache
def weight_of(family: str, levels: tuple[float, ...], kind: int, order: Decimal) -> Decimal:
  """The price of a unit of perturbation of a kind, in a cell with such levels of noise.

  Probabilities are drawn as multiples of 2^-32, rounded to the noisier side: the weight holds for
  what is stated and for what is drawn.
  """
  level, other = Decimal(levels[0]), Decimal(levels[-1])
  hidden = family == "flips" and level == 0 and other == 1
  most = {"ablation": 1, "flips": 1 - TINY}.get(family, math.inf)
  possible = hidden or (0 <= level <= most and 0 <= other <= most and (level or family == "flips"))
  need(bool(possible), f"there is no {family} noise of level {levels}")
  if family in ("gaussian", "uniform", "laplace"):  # an infinite scale hides a cell
    return 1 / level ** (2 if family == "gaussian" else 1)
  noisier = math.ceil if family == "ablation" or level + other < 1 else math.floor
  drawn = [Decimal(min(noisier(x * 2**32), 2**32 - 2)) / 2**32 for x in (level, other)]
  if family == "ablation":
    return Decimal(0) if level == 1 else -min(level, drawn[0]).ln()
  if hidden:
    return Decimal(0)
  of_kind = [
    (1 - minus, plus) if kind == 0 else (plus, 1 - minus) for plus, minus in ((level, other), drawn)
  ]
  return max(divergence(attacked, clean, order) for attacked, clean in of_kind)


# Collective certificates, in integers: weights, attacks, multipliers are multiples of 1 / unit, a
# power of two; thresholds, and what a group perceives, of unit^-2; numbers of targets of unit^-3.

Values = list[tuple[int, int]]  # (value, c) of cells, dearest first


class Problem(NamedTuple):
  """Against whom, and what falls: of kind a, group g, cell c."""

  unit: int
  weights: list[list[Values]]  # by a and g
  eta: list[list[int]]  # by g: thresholds of targets, rising
  counts: list[list[int]]  # by g: so many targets have the first 0, 1, ... of the thresholds
  caps: list[list[int]]  # by a and c
  integral: bool  # attacks are whole numbers


class Leaf(NamedTuple):
  """Attacks b with low <= b <= high under which group g perceives from lower to upper."""

  lower: list[int]
  upper: list[float]  # an int, or inf
  opened: list[bool]  # the upper end does not belong to it
  low: list[list[int]]
  high: list[list[int]]


def knapsack(values: Values, low: list[int], high: list[int], budget: int) -> int:
  """The most that sum value b can be for low <= b <= high and sum b <= budget."""
  spare = budget - sum(low)
  total = sum(value * low[c] for value, c in values) if any(low) else 0
  for value, c in values:
    if value <= 0 or not spare:
      break
    room = min(high[c] - low[c], spare)
    total, spare = total + value * room, spare - room
  return total


def leaf_bound(problem: Problem, budget: list[int], leaf: Leaf, multipliers: list[int]) -> int:
  """How many targets can fall in a leaf, at most, whatever the multipliers l.

  Where group g perceives s, N_g(s) of them fall: sum_g N_g(s_g) is at most
  sum_g max_s (N_g(s) - l_g s) + max_b sum_g l_g s_g(b).
  """
  unit, kinds, bound = problem.unit, range(len(budget)), 0
  boxes = [(leaf.low[a], leaf.high[a], budget[a]) for a in kinds]
  for low, high, most in boxes:
    if sum(low) > most or any(x > y for x, y in zip(low, high, strict=True)):
      return 0  # there is no such attack
  prices: list[dict[int, int]] = [{} for _ in kinds]
  for g, (eta, counts) in enumerate(zip(problem.eta, problem.counts, strict=True)):
    reach = sum(knapsack(problem.weights[a][g], *boxes[a]) for a in kinds)
    lower, upper, price = leaf.lower[g], min(leaf.upper[g], reach), multipliers[g]
    opened = leaf.opened[g] and leaf.upper[g] <= reach
    if lower > upper or (opened and lower == upper):
      return 0
    first, last = bisect_right(eta, lower), (bisect_left if opened else bisect_right)(eta, upper)
    ends = [counts[first] * unit**3 - price * lower] if price > 0 else []
    steps = zip(counts[first + 1 : last + 1], eta[first:last], strict=True) if price > 0 else ()
    ends += [count * unit**3 - price * s for count, s in steps]
    bound += max(ends) if ends else counts[last] * unit**3 - price * int(upper)
    for a in kinds if price else ():
      for weight, c in problem.weights[a][g]:
        prices[a][c] = prices[a].get(c, 0) + price * weight
  for a in kinds:
    values = sorted(((price, c) for c, price in prices[a].items()), reverse=True)
    bound += knapsack(values, *boxes[a])
  return bound


def leaves(problem: Problem, variables: list[int], values: list[float]) -> Iterator[Leaf]:
  """The leaves of a tree in preorder: variable g splits what g perceives, G + a C + c splits b."""
  size, cells, unit = len(problem.eta), len(problem.caps[0]), problem.unit
  nothing = [[0] * cells for _ in problem.caps]
  pending = [Leaf([0] * size, [math.inf] * size, [False] * size, nothing, problem.caps)]
  for variable, value in zip(variables, values, strict=True):
    need(bool(pending), "a tree ends before its nodes do")
    leaf = pending.pop()
    if variable < 0:
      yield leaf
      continue
    lower, upper, opened = list(leaf.lower), list(leaf.upper), list(leaf.opened)
    low, high = [list(row) for row in leaf.low], [list(row) for row in leaf.high]
    if variable < size:
      at = int(Fraction(value) * unit**2)
      lower[variable] = max(lower[variable], at)
      if at <= upper[variable]:
        upper[variable], opened[variable] = at, True
    else:
      need(problem.integral, "a tree splits what it may not")
      a, c = divmod(variable - size, cells)
      low[a][c] = max(low[a][c], math.ceil(value) * unit)
      high[a][c] = min(high[a][c], (math.ceil(value) - 1) * unit)
    pending.append(Leaf(lower, leaf.upper, leaf.opened, low, leaf.high))  # not less than the value
    pending.append(Leaf(leaf.lower, upper, opened, leaf.low, high))  # less
  need(not pending, "a tree lacks subtrees")


def make_problem(
  weights: list[list[list[float]]],
  fall: list[dict[float, int]],
  caps: list[list[float]],
  integral: bool,
  others: Iterable[float],
) -> Problem:
  """A problem, of floats: weights by a, g and c, targets by g and threshold, caps by a and c."""
  if integral:  # a whole unit in a cell of the largest threshold's weight makes a group fall
    tops = [max(of_group, default=1.0) for of_group in fall]
    weights = [[[min(w, top) for w in row] for row, top in zip(of_kind, tops, strict=True)]
               for of_kind in weights]  # fmt: skip
    caps = [[math.floor(x) for x in row] for row in caps]
  flat = {*others, *itertools.chain(*fall, *caps, *itertools.chain(*weights))}
  need(all(abs(x) < math.inf for x in flat), "infinite weights, thresholds or multipliers")
  unit = max(x.as_integer_ratio()[1] for x in flat)
  fixed = {x: int(Fraction(x) * unit) for x in flat}
  rising = [sorted(of_group.items()) for of_group in fall]
  return Problem(
    unit,
    [[sorted(((fixed[w], c) for c, w in enumerate(row) if w), reverse=True) for row in of_kind]
     for of_kind in weights],
    [[fixed[threshold] * unit for threshold, _ in of_group] for of_group in rising],
    [[0, *itertools.accumulate(count for _, count in of_group)] for of_group in rising],
    [[fixed[x] for x in row] for row in caps],
    integral,
  )  # fmt: skip


# The whole record.


def sums_of(
  record: dict[str, Array], part: str, labels: list[int], seconds: list[int]
) -> list[Sums]:
  """The sums of every output, once they can be those of so many samples."""
  n, votes, found = record[f"{part}/num_samples"].values[0], record[f"{part}/votes"], []
  nothing = Array(votes.shape, [0] * len(votes.values))
  others = (record.get(f"{part}/{name}", nothing).rows() for name in ("scores", "squares"))
  for row, x, xx, y, z in zip(votes.rows(), *others, labels, seconds, strict=True):
    possible = min(*row, *x, 0) == 0 and sum(row) <= n and sum(x) <= 255 * n
    possible &= all(two <= 255 * one and one**2 <= n * two for one, two in zip(x, xx, strict=True))
    need(possible, f"{part} cannot be sums over {n} samples")
    found.append(Sums(n, row[y], n - row[z], min(row[y] + row[z], n), x[y], xx[y]))
  return found


def check_meta(record: dict[str, Array]) -> None:
  """That what the record says of its job does not contradict what it was certified with."""
  meta, n = json.loads(record["meta"].values[0]), record["estimation/num_samples"].values[0]
  job, keys = meta.get("job", {}), meta.get("keys", {})
  for name in ("alpha", "k_fwer"):
    need(job.get(name, value := record[f"bounds/{name}"].values[0]) == value, f"meta: other {name}")
  need("ranges" in meta or job.get("samples", n) == n, "meta: another number of samples")
  need(sum(end - first for first, end in meta.get("ranges", [[0, n]])) == n, "meta: other samples")
  need(not keys or keys.get("selection") != keys.get("estimation"), "meta: one key drew both sets")
  if job.get("until") is not None:  # sampling could stop early, and every look costs its share
    looks = {job["samples"] >> i for i in range(4)} - {0}
    need(len(looks) == record["bounds/looks"].values[0] and n in looks, "meta: looks without price")


def check_base(record: dict[str, Array]) -> None:
  """Steps 1 to 5: from the counts to thresholds and weights."""
  family, alpha = record["noise/family"].values[0], Fraction(record["bounds/alpha"].values[0])
  part, size = record["bounds/k_fwer"].values[0], len(record["groups"].values)
  looks = record["bounds/looks"].values[0] if "bounds/looks" in record else 1
  need(0 < alpha < 1 and 0 <= part < 1 and looks >= 1, "alpha, k_fwer or looks cannot be")
  # Of N bounds at alpha m / N, fewer than m fail with probability 1 - alpha (m = 1: Bonferroni).
  m = min(1 + math.floor(part * size), max(size, 1))
  level = alpha / looks * m / max(size, 1)
  need(record["base/forfeit"].values[0] == m - 1, "`forfeit` is not what k_fwer gives up")
  select, count = (record[f"{name}/votes"].rows() for name in ("selection", "estimation"))
  telling = {tuple(row) for row in count if sum(x > 0 for x in row) > 1}
  need(select != count or len(telling) < 5, "the samples that selected are those that bound")
  labels = record["base/labels"].values
  need(labels == [row.index(max(row)) for row in select], "labels do not have the most votes")
  seconds = []
  for row, label in zip(select, labels, strict=True):
    rest = [*row[:label], -1, *row[label + 1 :]]
    seconds.append(rest.index(max(rest)))
  drew, sums = (sums_of(record, name, labels, seconds) for name in ("selection", "estimation"))
  among, distance = tuple(record["bounds/statistics"].values), Decimal(0)
  if "noise/step" in record:  # exact noise, in whole steps
    need(0 < record["noise/step"].values[0] < math.inf, "the noise's step is not positive")
    need(family in ("gaussian", "uniform", "laplace"), "only noise that is added has steps")
    distance = DISTANCE
  if "margins" in among:
    need(family == "gaussian", "margins are known for Gaussian noise")
    among, full = ("votes", "margins"), max(map(sum, select), default=0)
    drew = [Sums(full, of.label, of.not_second - of.n + full, min(of.not_rest, full), 0, 0)
            for of in drew]  # fmt: skip
  scored = not set(among) <= {"votes", "margins"}
  methods = record["base/method"].values if scored or len(among) > 1 else ["votes"] * size
  need(set(methods) <= set(among), "an output has a statistic that none may have")
  variances = record["base/variance_upper"].values if scored else [0.25] * size
  stated = zip(record["base/q_lower"].values, variances, record["base/eta"].values, strict=True)
  for i, (method, of, score, (q, v, eta)) in enumerate(
    zip(methods, drew, sums, stated, strict=True)
  ):
    center = round(of.total / max(of.n, 1))
    try:
      if len(among) > 1:
        check_choice(method, among, family, of, center, score.n, level, distance)
      bound, variance = bounds_of(method, family, score, center, level, distance)
      need(q <= bound, f"the bound {q} does not follow from its {method}")
      need(variance is None or v >= variance, f"nor does the variance {v}")
      follows = eta_holds(family, eta, q, None if variance is None else v, distance)
      need(follows, f"eta {eta} does not follow from {q}")
    except ValueError as error:
      raise ValueError(f"output {i}: {error}") from None
  check_weights(record, "base/weights", Decimal(2))
  for name in [key for key in record if key.startswith("pairs/") and key.endswith("/eta")]:
    text = name.split("/")[1]
    need(family == "flips" and f"{float(text):g}" == text, f"{name}: no Rényi order of this noise")
    for bound, threshold in set(
      zip(record["base/q_lower"].values, record[name].values, strict=True)
    ):
      sure = divergence(HALF, Decimal(bound), Decimal(text)) if bound > 0.5 else Decimal(0)
      need(threshold <= sure * (1 - TINY), f"{name}: {threshold} does not follow from {bound}")
    check_weights(record, f"pairs/{text}/weights", Decimal(text))


def check_weights(record: dict[str, Array], name: str, order: Decimal) -> None:
  """That no price is lower than that of the noise; an order is of flips alone."""
  family, (kinds, *shape) = record["noise/family"].values[0], record[name].shape
  count, size = record["noise/parameters"].shape[0], math.prod(shape)
  need(record["noise/parameters"].shape[1:] == tuple(shape), f"{name} is not of the noise's shape")
  need(kinds == (2 if family == "flips" else 1), f"{name} is of other kinds of perturbation")
  levels = [record["noise/parameters"].values[i * size : (i + 1) * size] for i in range(count)]
  for a in range(kinds):
    stored = record[name].values[a * size : (a + 1) * size]
    for weight, *level in set(zip(stored, *levels[: 2 if family == "flips" else 1], strict=True)):
      least = weight_of(family, tuple(level), a, order)
      need(weight >= least * (1 + TINY), f"{name}: {weight} is less than {least:.15g}")


def check_budgets(record: dict[str, Array]) -> None:
  """Step 6: what an adversary may spend."""
  p = {"gaussian": 2, "uniform": 1, "laplace": 1}.get(record["noise/family"].values[0], 0)
  budgets = record["adversary/budgets"]
  need(all(0 <= x < math.inf for x in budgets.values), "budgets must be finite and at least 0")
  limited = "adversary/caps" in record or record["adversary/integral"].values[0]
  need(not (p and limited), "a ball has no caps, and not only whole numbers")
  need("adversary/radii" in record or not p, "there are no radii")
  if "adversary/radii" in record:
    radii = record["adversary/radii"].values
    need(all(0 <= x < math.inf for x in radii), "radii must be finite and at least 0")
    power = [Fraction(radius) ** (p or 1) for radius in radii]
    need(len(power) == len(budgets.values), "radii are not of the budgets")
    need(all(b >= x for b, x in zip(budgets.values, power, strict=True)), "budgets below the radii")


def check_certificate(record: dict[str, Array], name: str) -> str:
  """Steps 7 and 8, of the certificate TARGETS/METHOD or TARGETS/METHOD@ORDER; what it says."""

  def of(part: str) -> Array:
    return record[f"certified/{name}/{part}"]

  whose, _, order = name.partition("/")[0], *name.partition("@")[1:]
  base = f"pairs/{order}" if order else "base"
  eta, weights = record[f"{base}/eta"].values, record[f"{base}/weights"]
  need(whose in ("all", "correct"), "targets must be all or correct")
  right = map(operator.eq, record["base/labels"].values, record["truth"].values)
  everything = zip(record["counted"].values, right, strict=True)
  targets = [counts and (whose == "all" or correct) for counts, correct in everything]
  need(of("targets").values == targets, "its targets are not those that its name says")
  (kinds, size, cells), budgets = weights.shape, of("budgets").rows()
  among = record["adversary/budgets"].rows()
  need(all(row in among and len(row) == kinds for row in budgets), "it has budgets of its own")
  forfeit, integral = of("forfeit").values[0], of("integral").values[0]
  need(forfeit == record["base/forfeit"].values[0], "it gives up another number of outputs")
  need(not integral or record["adversary/integral"].values[0], "only whole numbers: why?")
  most = [max(row[a] for row in budgets) for a in range(kinds)]  # in a cell, whatever the caps
  caps = [[most[a]] * cells for a in range(kinds)]
  if f"certified/{name}/caps" in record:
    mine, true = of("caps").values, record["adversary/caps"].values
    need(of("caps").shape == record["adversary/caps"].shape == (kinds, cells), "other caps")
    need(all(x >= y >= 0 for x, y in zip(mine, true, strict=True)), "its caps are too low")
    caps = [[min(mine[a * cells + c], most[a]) for c in range(cells)] for a in range(kinds)]
  fall: list[dict[float, int]] = [{} for _ in range(size)]
  for g, threshold, target in zip(record["groups"].values, eta, targets, strict=True):
    need(0 <= g < size, "there is no such group")
    if target and threshold > 0:
      fall[g][threshold] = fall[g].get(threshold, 0) + 1
  rows, integers = weights.rows(), [[math.floor(x) for x in row] for row in budgets]
  trees = [of(f"witness_{part}").values for part in ("starts", "variables", "values")]
  numbers = *itertools.chain(*budgets), *of("witness_multipliers").values, *trees[2]
  by_kind = [rows[a * size : (a + 1) * size] for a in range(kinds)]
  problem = make_problem(by_kind, fall, caps, integral, numbers)
  multipliers, alive = (
    iter(of("witness_multipliers").rows()),
    sum(map(operator.itemgetter(-1), problem.counts)),
  )
  claims = zip(of("certified").values, of("attackable").values, budgets, integers, strict=True)
  for i, (certified, attackable, budget, floors) in enumerate(claims):
    units = [int(Fraction(x) * problem.unit) for x in (floors if integral else budget)]
    nodes = slice(trees[0][i], trees[0][i + 1])
    for leaf in leaves(problem, trees[1][nodes], trees[2][nodes]):
      prices = [int(Fraction(x) * problem.unit) for x in next(multipliers, [])]
      bound = Fraction(leaf_bound(problem, units, leaf, prices), problem.unit**3)
      need(bound <= attackable, f"at {budget}, {float(bound)} can fall, and not {attackable}")
    kept = max(alive - math.floor(attackable) - forfeit * bool(alive), 0)
    need(certified <= kept, f"at {budget}, {certified} are certified, but {kept} follow")
  shown = dict.fromkeys(j * (len(budgets) - 1) // 4 for j in range(5 if budgets else 0))
  told = ", ".join(f"{of('certified').values[j]} at {budgets[j]}" for j in shown)
  return f"  {name}: of {sum(targets)} targets keep {told}"


def check(path: Path) -> list[str]:
  """Checks a record, or raises a ValueError; returns a line for every certificate."""
  with localcontext(prec=60):
    record = read(path)
    check_meta(record)
    check_base(record)
    check_budgets(record)
    told = []
    for name in (key[10:-10] for key in record if key.endswith("/certified")):
      try:
        told.append(check_certificate(record, name))
      except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    need(bool(told), "it certifies nothing")
  return told


def main(arguments: Sequence[str]) -> int:
  """Checks files, and those in folders that are called as jobs call theirs."""
  failures = 0
  for given in map(Path, arguments):
    for path in sorted(given.glob("*/*.npz")) if given.is_dir() else [given]:
      if path.parent.name == "models":
        continue
      try:
        print(f"{path}: holds", *check(path), sep="\n")
      except Exception as error:  # whatever is wrong with this file, others are checked as well
        failures += 1
        print(f"{path}: REFUSED: {error if isinstance(error, ValueError) else repr(error)}")
  return 1 if failures else 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
