r"""What a record is re-checked by (host).

What a record stores is on the weaker side of what follows from its counts, by a relative 1e-10:
bounds :math:`q` and thresholds :math:`\eta` are lowered, variances and weights raised, and
:math:`\eta` follows from the q that is stored. A re-check computes all of it again and demands
that nothing stored is on the stronger side, by however little, nor weaker by more than `SLACK`; the
room is for libraries whose last digits differ. So whoever shifts a number towards the stronger side
is at most back at what this machine can prove.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from lrs_jax import collective, noise, storage
from lrs_jax.collective import CollectiveCertificate
from lrs_jax.confidence import certificates, corrections, statistics
from lrs_jax.confidence.bounds import LEVELS
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.jobs import checkpoints
from lrs_jax.noise import SmoothingDistribution
from lrs_jax.sampling import MAX_SAMPLES, ClassSums
from lrs_jax.tasks.options import STATISTICS

LOWER, HIGHER = 1 - 1e-10, 1 + 1e-10
"""What is stored is so many times what was computed: a little less, or a little more, of it."""

SLACK = 1e-9
"""By so much, relatively, what is stored may be weaker than what is computed again."""

TRUSTED = (
  "that the counts are those of the stated model and input, under noise from independent keys for "
  "selection and estimation, and that no sampling was repeated because its result was not liked",
  "the labels, where only correct predictions are counted",
  "which outputs are counted, and, where an adversary is capped, how much there is to change in "
  "every cell",
)
"""What a record says of itself that no re-check can show."""


def check_weaker(
  name: str, stored: np.ndarray, again: np.ndarray, source: str, *, lower: bool
) -> None:
  """Raises a ValueError unless `stored` is what was computed again, or a little less (else more).

  Example:
    >>> eta = np.array([2.0, np.inf])
    >>> check_weaker("eta", eta * LOWER, eta * (1 + 1e-12), "the counts", lower=True)
    >>> check_weaker("eta", eta * (1 + 1e-12), eta, "the counts", lower=True)
    Traceback (most recent call last):
    ...
    ValueError: `eta` does not follow from the counts: 2.000000000002 at index 0, not up to 2.0.
  """
  wrong = f"`{name}` does not follow from {source}"
  if stored.shape != again.shape:
    raise ValueError(f"{wrong}: its shape is {stored.shape}, not {again.shape}.")
  least, most = (again * (1 - SLACK), again) if lower else (again, again * (1 + SLACK))
  outside = ~((stored >= least) & (stored <= most))  # what is not a number is outside
  if outside.any():
    at = tuple(int(i) for i in np.argwhere(outside)[0])
    place, limit = at[0] if len(at) == 1 else at, float(again[at])
    told = f"not up to {limit}" if lower else f"not from {limit} on"
    raise ValueError(f"{wrong}: {float(stored[at])} at index {place}, {told}.")


def weakened(distribution: SmoothingDistribution, base: BaseCertificates) -> BaseCertificates:
  """Base certificates as a record stores them: each a little weaker than they are."""
  stored = base._replace(weights=base.weights * HIGHER, q_lower=base.q_lower * LOWER)
  variance = variances(stored)
  stored = stored._replace(variance_upper=None if variance is None else variance * HIGHER)
  return stored._replace(eta=thresholds(distribution, stored) * LOWER)


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
  distribution: SmoothingDistribution, stored: BaseCertificates, again: BaseCertificates
) -> None:
  """Raises a ValueError unless base certificates are those of the sums, or a little weaker."""
  source = "the sums, the noise and alpha"
  for name in ("groups", "labels", "method", "forfeit"):
    value = getattr(again, name)
    if value is not None and not np.array_equal(getattr(stored, name), value):
      raise ValueError(f"`{name}` does not follow from {source}.")
  check_weaker("q_lower", stored.q_lower, again.q_lower, source, lower=True)
  variance = variances(again._replace(q_lower=stored.q_lower))
  if variance is not None and stored.variance_upper is not None:
    check_weaker("variance_upper", stored.variance_upper, variance, source, lower=False)
  check_weaker("weights", stored.weights, again.weights, source, lower=False)
  check_weaker("eta", stored.eta, thresholds(distribution, stored), source, lower=True)


def check_sums(name: str, sums: ClassSums) -> None:
  """Raises a ValueError unless sums can be those of as many samples as they say.

  A sample's scores are multiples of 1/255 in [0, 1] that sum to 1 at most over the classes.
  """
  num_samples, votes = int(sums.num_samples), sums.votes
  if not 0 <= num_samples <= MAX_SAMPLES:
    raise ValueError(f"`{name}/num_samples` must lie in [0, 2^31), but it is {num_samples}.")
  if votes.min(initial=0) < 0:
    raise ValueError(f"`{name}/votes` must not be negative, but one is {votes.min()}.")
  cast = int(votes.sum(axis=1, dtype=np.float64).max(initial=0))  # integers could overflow
  if cast > num_samples:
    raise ValueError(
      f"a row of `{name}/votes` sums to {cast}, but `{name}/num_samples` is {num_samples}."
    )
  scores, squares = sums.scores, sums.squares
  if (scores is None) != (squares is None):
    raise ValueError(f"`{name}` must have both scores and squares, or none of them.")
  if scores is None or squares is None:
    return
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


def check_both(selection: ClassSums, estimation: ClassSums) -> None:
  """Raises a ValueError unless sums can be of samples that select and of others that bound."""
  check_sums("selection", selection)
  check_sums("estimation", estimation)
  # Unanimous rows may be equal by chance, and so may few others.
  if certificates.same_samples(selection.votes, estimation.votes):
    raise ValueError(
      "labels were selected by the same samples that bound them: the votes of both are the same."
    )


def check_bounds(bounds: Any, scored: bool) -> None:
  """Raises a ValueError unless level, forfeited part and statistics can be."""
  if not 0 < bounds.alpha < 1:
    raise ValueError(f"`bounds/alpha` must lie in (0, 1), but it is {bounds.alpha}.")
  if not 0 <= bounds.k_fwer < 1:
    raise ValueError(f"`bounds/k_fwer` must lie in [0, 1), but it is {bounds.k_fwer}.")
  if bounds.looks < 1:
    raise ValueError(f"`bounds/looks` must be at least 1, but it is {bounds.looks}.")
  unknown = set(bounds.statistics) - set(STATISTICS)
  if unknown or not bounds.statistics:
    told = repr(min(unknown)) if unknown else "none"
    raise ValueError(
      f"`bounds/statistics` must be among {', '.join(STATISTICS)}, but one is {told}."
    )
  if statistics.needs_scores(bounds.statistics) and not scored:
    raise ValueError("`bounds/statistics` name scores, but only votes were summed.")


def check_radii(radii: np.ndarray | None) -> None:
  """Raises a ValueError unless radii, if there are any, are finite, at least 0 and rise."""
  if radii is not None and not (
    (np.isfinite(radii) & (radii >= 0)).all() and (np.diff(radii) > 0).all()
  ):
    told = storage.shortened(radii.tolist())
    raise ValueError(f"`radii` must be finite, at least 0 and rise, but they are {told}.")


def check_budgets(adversary: Any, distribution: SmoothingDistribution) -> None:
  """Raises a ValueError unless budgets follow from the radii, and restrictions are the family's.

  An adversary that adds real numbers is neither capped nor integral; one that counts changes is
  both in truth, so that caps, and whole numbers, may be claimed.
  """
  check_radii(adversary.radii)
  budgets, num_kinds = adversary.budgets, len(distribution.weights)
  if budgets.shape[1] != num_kinds:
    raise ValueError(f"`adversary/budgets` must be of {num_kinds} kinds.")
  if not (np.isfinite(budgets) & (budgets >= 0)).all():
    raise ValueError("`adversary/budgets` must be finite and at least 0.")
  if adversary.radii is not None:
    again = noise.budgets_from_radii(adversary.radii, distribution.p)[:, None]
    check_weaker("adversary/budgets", budgets, again, "the radii", lower=False)
  elif distribution.p > 0:
    raise ValueError("`adversary/radii` must say what the budgets are powers of.")
  if distribution.p > 0 and (adversary.caps is not None or adversary.integral):
    raise ValueError("`adversary` has caps, or only integers; a ball has not.")
  if adversary.caps is not None and not (adversary.caps >= 0).all():
    raise ValueError("`adversary/caps` must be at least 0.")


def check_meta(record: Any) -> Mapping[str, Any]:
  """Raises a ValueError if what a record says of its job contradicts it; returns the options."""
  meta, num_samples = record.meta, int(record.estimation.num_samples)
  if not isinstance(meta, Mapping):
    raise ValueError(f"`meta` must be names and values, but it is a {type(meta).__name__}.")
  job, drew = meta.get("job", {}), meta.get("keys", {})
  if not isinstance(job, Mapping):
    raise ValueError("`meta` must have names and values as its `job`.")
  stated: dict[str, Any] = {
    "alpha": record.bounds.alpha,
    "k_fwer": record.bounds.k_fwer,
    "scores": list(record.bounds.statistics),
    "selection_samples": int(record.selection.num_samples),
    "samples": num_samples,
  }
  for name, value in stated.items():
    if job.get(name, value) != value and (name != "samples" or "ranges" not in meta):
      told = storage.shortened(job[name])
      raise ValueError(f"`meta` says that {name} is {told}, but the record's is {value}.")
  for name, value in (("task", record.task), ("smoothing", record.smoothing.name)):
    if meta.get(name, value) != value:
      raise ValueError(f"`meta` says another {name} than the record.")
  _check_looks(record.bounds.looks, num_samples, job)
  if "ranges" in meta:
    _check_ranges(meta["ranges"], num_samples, job.get("samples"))
  if not isinstance(drew, Mapping):
    raise ValueError("`meta.keys` must say of selection and estimation what drew them.")
  if drew and drew.get("selection") == drew.get("estimation"):
    raise ValueError("`meta.keys` says that selection and estimation drew from one key.")
  return job


def _check_looks(looks: int, num_samples: int, job: Mapping[str, Any]) -> None:
  """Raises a ValueError unless a job that could stop earlier had a level for every look."""
  most = job.get("samples")
  if job.get("until") is None or not isinstance(most, int):
    return
  possible = corrections.looks(most)
  if looks != len(possible) or num_samples not in possible:
    raise ValueError(
      f"`meta` says that sampling could stop after {', '.join(map(str, possible))} samples, but "
      f"the record has {num_samples} of them, and `bounds/looks` is {looks}."
    )


def _check_ranges(ranges: Any, num_samples: int, end: Any) -> None:
  """Raises a ValueError unless ranges rise, and hold `num_samples` sample numbers below `end`."""
  if not checkpoints.are_ranges(ranges) or any(
    last > first for (_, last), (first, _) in itertools.pairwise(ranges)
  ):
    shown = storage.shortened(ranges)
    raise ValueError(f"`meta.ranges` must be rising pairs of sample numbers, but they are {shown}.")
  size = checkpoints.num_samples(ranges)
  if size != num_samples:
    raise ValueError(
      f"`meta.ranges` hold {size} samples, but the record's number is {num_samples}."
    )
  if isinstance(end, int) and ranges and ranges[-1][1] > end:
    raise ValueError(f"`meta.ranges` end at sample {ranges[-1][1]}, but the job has {end} samples.")


def check_certificate(
  name: str,
  certificate: CollectiveCertificate,
  record: Any,
  weights: np.ndarray,
  eta: np.ndarray,
  exact: bool,
) -> None:
  """Proves a record's certificate again, or raises a ValueError with its name.

  It must be what its name says, and against the record's adversary or a stronger one.
  """
  method, adversary, forfeit = name.partition("/")[2], record.adversary, record.base.forfeit
  if certificate.method != method.partition("@")[0]:
    raise ValueError(f"{name!r} is by the method {certificate.method!r}, not by that of its name.")
  if certificate.forfeit != forfeit:
    raise ValueError(
      f"{name!r} forfeits {certificate.forfeit} base certificates, but {forfeit} may be false."
    )
  times = certificate.solve_time
  if not (np.isfinite(times) & (times >= 0)).all():
    raise ValueError(f"`solve_time` of {name!r} must be finite and at least 0, but it is {times}.")
  budgets = set(map(tuple, adversary.budgets.tolist()))
  found = list(map(tuple, certificate.budgets.tolist()))
  whole = method == "milp" or len(found) == len(adversary.budgets)
  if not set(found) <= budgets or not whole or len(set(found)) != len(found):
    raise ValueError(f"the budgets of {name!r} are not the record's.")
  if certificate.caps is not None and (
    adversary.caps is None or not (certificate.caps >= adversary.caps).all()
  ):
    raise ValueError(f"the caps of {name!r} are lower than those of the adversary.")
  if certificate.integral and not adversary.integral:
    raise ValueError(f"{name!r} restricts the adversary to integers, but the record does not.")
  try:
    with np.errstate(over="ignore", invalid="ignore"):
      collective.verify(weights, record.groups, eta, certificate, exact=exact)
  except (ValueError, ArithmeticError) as error:  # numbers of the file may be too large for a sum
    raise ValueError(f"{name}: {error}") from None
