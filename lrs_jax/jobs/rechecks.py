r"""What the records of images and of graphs are re-checked by alike (host).

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

from lrs_jax import collective, storage
from lrs_jax.collective import CollectiveCertificate
from lrs_jax.confidence.certificates import BaseCertificates, same_samples
from lrs_jax.noise.families import SmoothingDistribution
from lrs_jax.sampling import MAX_SAMPLES

ROOM = 1e-10
"""By so much is what is stored weaker than what was computed, relatively."""

SLACK = 1e-9
"""By so much at most."""

TRUSTED = (
  "that the counts are those of the stated model and input, under noise from independent keys for "
  "selection and estimation, and that no sampling was repeated because its result was not liked",
  "the labels, where only correct predictions are counted",
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


def check_votes(name: str, votes: np.ndarray, number: str, num_samples: int) -> None:
  """Raises a ValueError unless votes [N, K] can be those of `num_samples` samples."""
  if not 0 <= num_samples <= MAX_SAMPLES:
    raise ValueError(f"`{number}` must lie in [0, 2^31), but it is {num_samples}.")
  if votes.min(initial=0) < 0:
    raise ValueError(f"`{name}` must not be negative, but one is {votes.min()}.")
  most = int(votes.sum(axis=1, dtype=np.float64).max(initial=0))  # integers could overflow
  if most > num_samples:
    raise ValueError(f"a row of `{name}` sums to {most}, but `{number}` is {num_samples}.")


def check_alpha(alpha: float) -> None:
  """Raises a ValueError unless alpha is an error probability."""
  if not 0 < alpha < 1:
    raise ValueError(f"`alpha` must lie in (0, 1), but it is {alpha}.")


def check_independence(selection: np.ndarray, estimation: np.ndarray) -> None:
  """Raises a ValueError if votes [N, K] that select are the very votes that bound.

  Unanimous rows may be equal by chance, and so may few others.
  """
  if same_samples(selection, estimation):
    raise ValueError(
      "labels were selected by the same samples that bound them: the votes of both are the same."
    )


def check_meta(meta: Any, alpha: float, num_selection: int, num_samples: int) -> Mapping[str, Any]:
  """Raises a ValueError if what a record says of its job contradicts it; returns the options."""
  if not isinstance(meta, Mapping):
    raise ValueError(f"`meta` must be names and values, but it is a {type(meta).__name__}.")
  job = meta.get("job", {})
  if not isinstance(job, Mapping):
    raise ValueError("`meta` must have names and values as its `job`.")
  stated = {"alpha": alpha, "selection_samples": num_selection}
  if "ranges" not in meta:
    stated["samples"] = num_samples
  for name, value in stated.items():
    if job.get(name, value) != value:
      told = storage.shortened(job[name])
      raise ValueError(f"`meta` says that {name} is {told}, but the record's is {value}.")
  if "ranges" in meta:
    check_ranges("meta.ranges", meta["ranges"], num_samples, job.get("samples"))
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


def check_certificate(name: str, certificate: CollectiveCertificate) -> None:
  """Raises a ValueError if a certificate is not what its name in a record says, or forfeits."""
  method = name.partition("/")[2].partition("@")[0]
  if certificate.method != method:
    raise ValueError(f"{name!r} is by the method {certificate.method!r}, not by that of its name.")
  if certificate.forfeit != 0:
    raise ValueError(f"{name!r} forfeits base certificates, of which no record may.")
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
