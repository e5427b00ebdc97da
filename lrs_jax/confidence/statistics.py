"""Statistics: from sums of all classes to base certificates, by what may bound an output (host)."""

from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

from lrs_jax.confidence.certificates import METHODS, BaseCertificates, from_scores, from_votes
from lrs_jax.confidence.corrections import Levels
from lrs_jax.confidence.margins import from_margins
from lrs_jax.noise.distributions import SmoothingDistribution
from lrs_jax.sampling import ClassSums
from lrs_jax.sampling.scores import ScoreSums


def needs_scores(methods: Sequence[str]) -> bool:
  """Whether some statistic among `methods` is one of scores: votes and margins need none.

  Example:
    >>> needs_scores(["votes", "margins"]), needs_scores(["votes", "kl"])
    (False, True)
  """
  return not set(methods) <= {"votes", "margins"}


def check(methods: Sequence[str], noise: SmoothingDistribution) -> None:
  """Raises a ValueError unless base certificates can be made of these statistics.

  Example:
    >>> from lrs_jax import noise
    >>> check(["votes", "margins"], noise.gaussian([[0.5]], cells=[0]))
  """
  if "margins" not in methods:
    return
  if noise.family.margin is None:
    raise ValueError(f"margins are known for Gaussian noise, not for {noise.family.name}.")
  if needs_scores(methods):
    raise ValueError(f"margins go with votes, not with scores, but they are {', '.join(methods)}.")


def from_class_sums(
  noise: SmoothingDistribution,
  groups: ArrayLike,
  selection: ClassSums,
  estimation: ClassSums,
  *,
  alpha: float | Levels,
  methods: Sequence[str] = METHODS,
) -> BaseCertificates:
  """Base certificates of the most voted class of every output, by whatever promises most for it.

  `selection`, which selects labels and statistics, and `estimation` are sums of all classes, from
  two keys. `methods` are those of `from_scores`, or "votes" and "margins" (`from_margins`), which
  need no scores. Other arguments, errors and warnings are those of the three.

  Example:
    >>> from lrs_jax import noise
    >>> sums = ClassSums(np.array([[98, 2]]), None, None, 100)
    >>> gaussian, votes = noise.gaussian([[0.5]], cells=[0]), ["votes"]
    >>> from_class_sums(gaussian, [0], sums, sums, alpha=0.01, methods=votes).eta  # of two keys
    array([1.9478021])
  """
  check(methods, noise)
  if not needs_scores(methods):
    counts, num_samples = (selection.votes, estimation.votes), int(estimation.num_samples)
    bounded = from_margins if "margins" in methods else from_votes
    return bounded(noise, groups, *counts, alpha=alpha, num_samples=num_samples)
  labels = np.asarray(selection.votes).argmax(axis=1)

  def of_label(sums: ClassSums) -> ScoreSums:
    *parts, num_samples = sums
    chosen = [np.take_along_axis(part, labels[:, None], axis=1)[:, 0] for part in parts]
    return ScoreSums(int(num_samples), *chosen)

  return from_scores(
    noise, groups, labels, of_label(selection), of_label(estimation), alpha=alpha, methods=methods
  )
