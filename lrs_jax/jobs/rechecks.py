r"""What a record is re-checked by (host).

What a record stores is on the weaker side of what follows from its counts, by a relative `ROOM`:
bounds :math:`q` and thresholds :math:`\eta` are lowered, variances and weights raised, and
:math:`\eta` follows from the q that is stored. A re-check computes all of it again and demands
that nothing stored is on the stronger side, by however little; the room is for libraries whose last
digits differ. So whoever shifts a number towards the stronger side is at most back at what this
machine can prove.

Nor may it be weaker by more than `SLACK`: what is stored must be what was computed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lrs_jax import collective, noise, storage
from lrs_jax.collective import CollectiveCertificate
from lrs_jax.confidence.bounds import LEVELS
from lrs_jax.confidence.certificates import BaseCertificates, same_samples
from lrs_jax.noise import SmoothingDistribution
from lrs_jax.sampling import MAX_SAMPLES, ClassSums
from lrs_jax.tasks.options import STATISTICS

ROOM = 1e-10
"""By so much is what is stored weaker than what was computed, relatively."""

SLACK = 1e-9
"""By so much at most."""

TRUSTED = (
  "that the counts are those of the stated model and input, under noise from independent keys for "
  "selection and estimation, and that no sampling was repeated because its result was not liked",
  "the labels, where only correct predictions are counted",
  "which outputs are counted, and, where an adversary is capped, how much there is to change in "
  "every cell",
)
"""What a record says of itself that no re-check can show."""


def lowered(value: np.ndarray) -> np.ndarray:
  """What is stored of a number >= 0 that may only be too small."""
  return value * (1 - ROOM)


def raised(value: np.ndarray) -> np.ndarray:
  """What is stored of a number >= 0 that may only be too large."""
  return value * (1 + ROOM)


def check_lowered(name: str, stored: np.ndarray, again: np.ndarray, source: str) -> None:
  """Raises a ValueError unless `stored` is what was computed again, or a little less.

  Example:
    >>> eta = np.array([2.0, np.inf])
    >>> check_lowered("eta", lowered(eta), eta * (1 + 1e-12), "the counts")
    >>> check_lowered("eta", eta * (1 + 1e-12), eta, "the counts")
    Traceback (most recent call last):
    ...
    ValueError: `eta` does not follow from the counts: 2.000000000002 at index 0, not up to 2.0.
  """
  _check(name, stored, again * (1 - SLACK), again, source, "not up to {1}")


def check_raised(name: str, stored: np.ndarray, again: np.ndarray, source: str) -> None:
  """Raises a ValueError unless `stored` is what was computed again, or a little more."""
  _check(name, stored, again, again * (1 + SLACK), source, "not from {0} on")


def check_same(name: str, stored: Any, again: Any, source: str) -> None:
  """Raises a ValueError unless `stored` is what was computed again."""
  if not np.array_equal(stored, again):
    raise ValueError(f"`{name}` does not follow from {source}.")


def _check(
  name: str, stored: np.ndarray, least: np.ndarray, most: np.ndarray, source: str, hint: str
) -> None:
  if stored.shape != most.shape:
    raise ValueError(
      f"`{name}` does not follow from {source}: its shape is {stored.shape}, not {most.shape}."
    )
  wrong = ~((stored >= least) & (stored <= most))  # what is not a number is wrong
  if wrong.any():
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = at[0] if len(at) == 1 else at
    told = hint.format(float(least[at]), float(most[at]))
    raise ValueError(
      f"`{name}` does not follow from {source}: {float(stored[at])} at index {place}, {told}."
    )


def weakened(distribution: SmoothingDistribution, base: BaseCertificates) -> BaseCertificates:
  """Base certificates as a record stores them: each a little weaker than they are."""
  stored = base._replace(weights=raised(base.weights), q_lower=lowered(base.q_lower))
  variance = variances(stored)
  stored = stored._replace(variance_upper=None if variance is None else raised(variance))
  return stored._replace(eta=lowered(thresholds(distribution, stored)))


def thresholds(distribution: SmoothingDistribution, base: BaseCertificates) -> np.ndarray:
  """Eta [N], as it follows from the bounds of base certificates."""
  of_votes = distribution.eta(base.q_lower)
  if base.method is None or base.variance_upper is None:
    return of_votes
  of_scores = distribution.eta_soft(base.q_lower, base.variance_upper)
  return np.where(base.method == "votes", of_votes, of_scores)


def variances(base: BaseCertificates) -> np.ndarray | None:
  """Bounds on variances [N]: those of votes follow from the bounds on their probabilities."""
  q, variance = base.q_lower, base.variance_upper
  if base.method is None or variance is None:
    return variance
  return np.where(base.method == "votes", np.where(q > 0.5, q * (1 - q), 0.25), variance)


def check_base(
  distribution: SmoothingDistribution,
  stored: BaseCertificates,
  again: BaseCertificates,
  source: str,
) -> None:
  """Raises a ValueError unless stored base certificates are those made again, or a little weaker.

  Args:
    distribution: the smoothing distribution, made again.
    stored: of the record.
    again: of its counts, not weakened.
    source: what they follow from, in words.
  """
  for name in ("groups", "labels", "method", "forfeit"):
    if getattr(again, name) is not None:
      check_same(name, getattr(stored, name), getattr(again, name), source)
  check_lowered("q_lower", stored.q_lower, again.q_lower, source)
  variance = variances(again._replace(q_lower=stored.q_lower))
  if variance is not None and stored.variance_upper is not None:
    check_raised("variance_upper", stored.variance_upper, variance, source)
  check_raised("weights", stored.weights, again.weights, source)
  check_lowered("eta", stored.eta, thresholds(distribution, stored), source)


def check_sums(name: str, sums: ClassSums) -> None:
  """Raises a ValueError unless sums can be those of as many samples as they say.

  A sample's scores are multiples of 1/255 in [0, 1] that sum to 1 at most over the classes.
  """
  num_samples = int(sums.num_samples)
  check_votes(f"{name}/votes", sums.votes, f"{name}/num_samples", num_samples)
  if (sums.scores is None) != (sums.squares is None):
    raise ValueError(f"`{name}` must have both scores and squares, or none of them.")
  if sums.scores is None:
    return
  scores, squares = sums.scores, sums.squares
  most = num_samples * LEVELS
  possible = (
    scores.min(initial=0) >= 0
    and squares.min(initial=0) >= 0
    and scores.max(initial=0) <= most
    and scores.sum(axis=1, dtype=np.float64).max(initial=0) <= most
    and (squares <= LEVELS * scores).all()
    # Cauchy & Schwarz; float64 is good to 1e-15 of each side
    and (scores.astype(float) ** 2 <= num_samples * squares.astype(float) * (1 + 1e-14)).all()
  )
  if not possible:
    raise ValueError(f"the scores and squares of `{name}` cannot be sums of {num_samples} scores.")


def check_votes(name: str, votes: np.ndarray, number: str, num_samples: int) -> None:
  """Raises a ValueError unless votes [N, K] can be those of `num_samples` samples."""
  if not 0 <= num_samples <= MAX_SAMPLES:
    raise ValueError(f"`{number}` must lie in [0, 2^31), but it is {num_samples}.")
  if votes.min(initial=0) < 0:
    raise ValueError(f"`{name}` must not be negative, but one is {votes.min()}.")
  most = int(votes.sum(axis=1, dtype=np.float64).max(initial=0))  # integers could overflow
  if most > num_samples:
    raise ValueError(f"a row of `{name}` sums to {most}, but `{number}` is {num_samples}.")


def check_bounds(bounds: Any, scored: bool) -> None:
  """Raises a ValueError unless level, forfeited part and statistics can be."""
  if not 0 < bounds.alpha < 1:
    raise ValueError(f"`bounds/alpha` must lie in (0, 1), but it is {bounds.alpha}.")
  if not 0 <= bounds.k_fwer < 1:
    raise ValueError(f"`bounds/k_fwer` must lie in [0, 1), but it is {bounds.k_fwer}.")
  unknown = set(bounds.statistics) - set(STATISTICS)
  if unknown or not bounds.statistics:
    told = repr(min(unknown)) if unknown else "none"
    raise ValueError(
      f"`bounds/statistics` must be among {', '.join(STATISTICS)}, but one is {told}."
    )
  if bounds.statistics != ("votes",) and not scored:
    raise ValueError("`bounds/statistics` name scores, but only votes were summed.")


def check_radii(radii: np.ndarray | None) -> None:
  """Raises a ValueError unless radii are finite, at least 0 and rise."""
  if radii is None:
    return
  if not (np.isfinite(radii) & (radii >= 0)).all() or not (np.diff(radii) > 0).all():
    told = storage.shortened(radii.tolist())
    raise ValueError(f"`radii` must be finite, at least 0 and rise, but they are {told}.")


def check_budgets(adversary: Any, distribution: SmoothingDistribution) -> None:
  """Raises a ValueError unless budgets follow from the radii, and restrictions are the family's.

  An adversary that adds real numbers is neither capped nor integral; one that counts changes is
  both in truth, so that caps, and whole numbers, may be claimed.
  """
  check_radii(adversary.radii)
  budgets = adversary.budgets
  if budgets.shape[1] != distribution.weights.shape[0]:
    raise ValueError(f"`adversary/budgets` must be of {distribution.weights.shape[0]} kinds.")
  if not (np.isfinite(budgets) & (budgets >= 0)).all():
    raise ValueError("`adversary/budgets` must be finite and at least 0.")
  if adversary.radii is not None:
    again = noise.budgets_from_radii(adversary.radii, distribution.p)[:, None]
    check_raised("adversary/budgets", budgets, again, "the radii")
  elif distribution.p > 0:
    raise ValueError("`adversary/radii` must say what the budgets are powers of.")
  if distribution.p > 0 and (adversary.caps is not None or adversary.integral):
    raise ValueError("`adversary` has caps, or only integers; a ball has not.")
  if adversary.caps is not None and not (adversary.caps >= 0).all():
    raise ValueError("`adversary/caps` must be at least 0.")


def check_adversary(name: str, certificate: CollectiveCertificate, adversary: Any) -> None:
  """Raises a ValueError unless a certificate is against the record's adversary, or a stronger."""
  budgets = set(map(tuple, adversary.budgets.tolist()))
  found = list(map(tuple, certificate.budgets.tolist()))
  whole = name.partition("/")[2] == "milp" or len(found) == len(adversary.budgets)
  if not set(found) <= budgets or not whole or len(set(found)) != len(found):
    raise ValueError(f"the budgets of {name!r} are not the record's.")
  if certificate.caps is not None and (
    adversary.caps is None or not (certificate.caps >= adversary.caps).all()
  ):
    raise ValueError(f"the caps of {name!r} are lower than those of the adversary.")
  if certificate.integral and not adversary.integral:
    raise ValueError(f"{name!r} restricts the adversary to integers, but the record does not.")


def check_independence(selection: np.ndarray, estimation: np.ndarray) -> None:
  """Raises a ValueError if votes [N, K] that select are the very votes that bound.

  Unanimous rows may be equal by chance, and so may few others.
  """
  if same_samples(selection, estimation):
    raise ValueError(
      "labels were selected by the same samples that bound them: the votes of both are the same."
    )


def check_meta(record: Any) -> Mapping[str, Any]:
  """Raises a ValueError if what a record says of its job contradicts it; returns the options."""
  meta, bounds = record.meta, record.bounds
  if not isinstance(meta, Mapping):
    raise ValueError(f"`meta` must be names and values, but it is a {type(meta).__name__}.")
  job = meta.get("job", {})
  if not isinstance(job, Mapping):
    raise ValueError("`meta` must have names and values as its `job`.")
  num_samples = int(record.estimation.num_samples)
  stated: dict[str, Any] = {
    "alpha": bounds.alpha,
    "k_fwer": bounds.k_fwer,
    "scores": list(bounds.statistics),
    "selection_samples": int(record.selection.num_samples),
  }
  if "ranges" not in meta:
    stated["samples"] = num_samples
  for name, value in stated.items():
    if job.get(name, value) != value:
      told = storage.shortened(job[name])
      raise ValueError(f"`meta` says that {name} is {told}, but the record's is {value}.")
  for name, value in (("task", record.task), ("smoothing", record.smoothing.name)):
    if meta.get(name, value) != value:
      raise ValueError(f"`meta` says another {name} than the record.")
  if "ranges" in meta:
    check_ranges("meta.ranges", meta["ranges"], num_samples, job.get("samples"))
  drew = meta.get("keys", {})
  if not isinstance(drew, Mapping):
    raise ValueError("`meta.keys` must say of selection and estimation what drew them.")
  if drew and drew.get("selection") == drew.get("estimation"):
    raise ValueError("`meta.keys` says that selection and estimation drew from one key.")
  return job


def check_ranges(name: str, ranges: Any, num_samples: int, end: Any = None) -> None:
  """Raises a ValueError unless ranges are rising pairs of `num_samples` sample numbers below `end`.

  Example:
    >>> check_ranges("ranges", [[0, 16], [30, 40]], 26, 40)
    >>> check_ranges("ranges", [[0, 16], [10, 20]], 26)
    Traceback (most recent call last):
    ...
    ValueError: `ranges` must be rising pairs of sample numbers, but they are [[0, 16], [10, 20]].
  """
  pairs = isinstance(ranges, list | tuple) and all(
    isinstance(pair, list | tuple) and len(pair) == 2 and all(type(i) is int for i in pair)
    for pair in ranges
  )
  flat = [i for pair in ranges for i in pair] if pairs else []
  starts, ends = flat[::2], flat[1::2]
  rising = all(first < last for first, last in zip(starts, ends, strict=True))
  disjoint = all(end <= first for end, first in zip(ends, starts[1:], strict=False))
  if not (pairs and rising and disjoint and min(flat, default=0) >= 0):
    shown = storage.shortened(ranges)
    raise ValueError(f"`{name}` must be rising pairs of sample numbers, but they are {shown}.")
  size = sum(ends) - sum(starts)
  if size != num_samples:
    raise ValueError(f"`{name}` hold {size} samples, but the record's number is {num_samples}.")
  if isinstance(end, int) and max(ends, default=0) > end:
    raise ValueError(f"`{name}` end at sample {ends[-1]}, but the job has {end} samples.")


def check_certificate(name: str, certificate: CollectiveCertificate, forfeit: int) -> None:
  """Raises a ValueError if a certificate is not what its name in a record says, or claims more."""
  method = name.partition("/")[2].partition("@")[0]
  if certificate.method != method:
    raise ValueError(f"{name!r} is by the method {certificate.method!r}, not by that of its name.")
  if certificate.forfeit != forfeit:
    raise ValueError(
      f"{name!r} forfeits {certificate.forfeit} base certificates, but {forfeit} may be false."
    )
  times = certificate.solve_time
  if not (np.isfinite(times) & (times >= 0)).all():
    raise ValueError(f"`solve_time` of {name!r} must be finite and at least 0, but it is {times}.")


def prove(
  name: str,
  weights: np.ndarray,
  groups: np.ndarray,
  eta: np.ndarray,
  certificate: CollectiveCertificate,
  exact: bool,
) -> None:
  """Proves a certificate again from its base certificates, or raises a ValueError with its name."""
  try:
    with np.errstate(over="ignore", invalid="ignore"):
      collective.verify(weights, groups, eta, certificate, exact=exact)
  except (ValueError, ArithmeticError) as error:  # numbers of the file may be too large for a sum
    raise ValueError(f"{name}: {error}") from None


def check_some(certified: Mapping[str, Any]) -> None:
  """Raises a ValueError if there is no certificate at all."""
  if not certified:
    raise ValueError("`certified` is empty: this record proves nothing.")
