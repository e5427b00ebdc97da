"""Base certificates: from what was counted to the pair (weights, eta) of every output (host).

One sample set selects (labels, statistics, levels), another one, from an independent key, bounds.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from lrs_jax.confidence.bounds import (
  LEVELS,
  ScoreBounds,
  clopper_pearson_lower,
  score_bounds_bernstein,
  score_bounds_dkw,
  score_bounds_kl,
  score_bounds_mixed,
)
from lrs_jax.confidence.corrections import Levels, bonferroni
from lrs_jax.errors import SameSamplesWarning, TooFewSamplesWarning
from lrs_jax.noise.distributions import SmoothingDistribution
from lrs_jax.sampling import ClassSums
from lrs_jax.sampling.scores import ScoreSums


class BaseCertificates(NamedTuple):
  """Output n keeps `labels[n]` while sum_a sum_c weights[a, g, c] b[a, c] < eta[n], g = groups[n].

  With probability 1 - alpha all N of them hold together, or all but `forfeit` at most:
  `collective.certify(..., forfeit=base.forfeit)` gives so many up.
  """

  weights: np.ndarray  # float64 [A, G, C]
  groups: np.ndarray  # int [N]
  eta: np.ndarray  # float64 [N]; 0 abstains
  labels: np.ndarray  # int [N], the smoothed prediction
  q_lower: np.ndarray  # float64 [N], lower bound on the label's probability or mean score
  forfeit: int = 0
  variance_upper: np.ndarray | None = None  # float64 [N], of the score (of the vote: q (1 - q))
  method: np.ndarray | None = None  # str [N], the statistic that bounds each output


def from_votes(
  noise: SmoothingDistribution,
  groups: ArrayLike,
  selection_counts: ArrayLike,
  counts: ArrayLike,
  *,
  alpha: float | Levels,
  num_samples: int | None = None,
) -> BaseCertificates:
  r"""Base certificates from hard votes: one sample set selects the label, the other bounds it.

  :math:`y_n = \arg\max_k` of the selection counts,
  :math:`q_n = \mathrm{ClopperPearson}(\mathrm{counts}_{n, y_n}, S, \alpha / N)` (Bonferroni), and
  :math:`\eta_n` as the noise has it, 0 where :math:`q_n \le 1/2`.

  Args:
    noise: the smoothing distribution both sets were drawn from.
    groups: int [N].
    selection_counts: int [N, K], from one key.
    counts: int [N, K], from another key.
    alpha: joint error probability over all N outputs, in (0, 1), or the levels of another
      correction (`corrections.k_fwer`).
    num_samples: S, how many samples `counts` holds; the sum of its rows if None. To be given if
      votes were lost (`errors.LostVotesWarning`): a lost vote is a sample, too.

  Returns:
    `BaseCertificates`.

  Raises:
    ValueError: shapes that do not fit together, or rows of `counts` that differ in their sum, or
      have more than `num_samples`.

  Warns:
    TooFewSamplesWarning: not even unanimous votes could certify anything.
    SameSamplesWarning: both sets hold the very same votes, so that one key must have drawn them.

  Example:
    >>> from lrs_jax import noise
    >>> gaussian = noise.gaussian([[0.5]], cells=[0])
    >>> votes = [[100, 0], [2, 98], [55, 45]]
    >>> from_votes(gaussian, [0, 0, 0], votes, votes, alpha=0.01).eta  # two keys in earnest
    array([2.54158655, 1.73298707, 0.        ])
  """
  groups, selection_counts, counts = map(np.asarray, (groups, selection_counts, counts))
  if selection_counts.shape != counts.shape or groups.shape != counts.shape[:1]:
    raise ValueError(
      "`selection_counts` and `counts` must have one shape [N, K] and `groups` [N], but theirs are "
      f"{selection_counts.shape}, {counts.shape} and {groups.shape}."
    )
  warn_of_same_samples(selection_counts, counts)
  labels = selection_counts.argmax(axis=1)
  levels = _levels(alpha, labels.size)
  trials = number_of_samples(counts, num_samples)
  _warn_of_too_few_samples(trials, levels)
  successes = np.take_along_axis(counts, labels[:, None], axis=1)[:, 0]
  q_lower = clopper_pearson_lower(successes, trials, levels.alpha)
  return BaseCertificates(
    noise.weights, groups, noise.eta(q_lower), labels, q_lower, levels.forfeit
  )


def number_of_samples(counts: np.ndarray, num_samples: int | None) -> int:
  """S of some counts, which is the sum of every row if no vote was lost (host).

  Args:
    counts: int [N, K].
    num_samples: S, or None to read it off the rows.

  Returns:
    S; 0 if there are no outputs to read it off.

  Raises:
    ValueError: rows that differ in their sum, or have more than `num_samples`.

  Example:
    >>> number_of_samples(np.array([[9, 1], [10, 0]]), None)
    10
    >>> number_of_samples(np.array([[9, 1], [8, 0]]), 10)
    10
  """
  sums = np.asarray(counts).sum(axis=1)
  least, most = int(sums.min(initial=num_samples or 2**62)), int(sums.max(initial=0))
  if num_samples is None and sums.size and least != most:
    raise ValueError(
      "`num_samples` must say how many samples there were, since the rows of `counts` sum to "
      f"{least} up to {most}: votes were lost."
    )
  if num_samples is not None and most > num_samples:
    raise ValueError(f"`num_samples` is {num_samples}, but a row of `counts` sums to {most}.")
  return most if num_samples is None else int(num_samples)


METHODS = ("votes", "kl", "mixed")
"""The default statistics to choose from; see `confidence` for the figures behind the default."""


def from_scores(
  noise: SmoothingDistribution,
  groups: ArrayLike,
  labels: ArrayLike,
  selection: ScoreSums,
  estimate: ScoreSums,
  *,
  alpha: float | Levels,
  methods: Sequence[str] = METHODS,
) -> BaseCertificates:
  r"""Base certificates from hard votes or soft scores, whichever promises more for an output.

  For every output, the selection samples say which of the methods would give the greatest
  :math:`\eta` if the estimate came out alike, and where the variance is centered. That one method
  bounds the estimate at the output's whole level: choosing costs nothing. An output of method
  "votes" is smoothed by votes, :math:`\eta(q)`, the others by scores, :math:`\eta(\mu, v)`.

  Args:
    noise: the smoothing distribution both sets were drawn from.
    groups: int [N].
    labels: int [N], chosen from the selection samples, say by their `sampling.vote_counts`; both
      sums are about them.
    selection: `scores.score_sums` from the selection key.
    estimate: `scores.score_sums` from another key.
    alpha: joint error probability over all N outputs, in (0, 1), or `Levels`.
    methods: among "votes", "kl", "mixed", "bernstein" and "dkw" (which needs histograms); one name
      to have no choice.

  Returns:
    `BaseCertificates`.

  Raises:
    ValueError: shapes that do not fit together, an unknown method, or histograms that are missing.

  Warns:
    TooFewSamplesWarning: not even scores that are all 1 could certify anything.

  Example:
    >>> from lrs_jax import noise
    >>> flips = noise.flips([[0.1]], [[0.1]], cells=[0])
    >>> sums = ScoreSums(100, *(np.asarray([s]) for s in (98, 100 * 200, 100 * 200**2)))
    >>> certificates = from_scores(flips, [0], [0], sums, sums, alpha=0.01)  # two keys in earnest
    >>> certificates.method.tolist(), certificates.eta
    (['votes'], array([1.20685641]))
  """
  groups, labels = np.asarray(groups), np.asarray(labels)
  shapes = groups.shape, labels.shape, selection.total.shape, estimate.total.shape
  if len(set(shapes)) != 1:
    raise ValueError(
      "`groups`, `labels`, `selection` and `estimate` must have one shape [N], "
      f"but theirs are {shapes}."
    )
  if not methods or not set(methods) <= set(_BOUNDS):
    raise ValueError(f"`methods` must be among {tuple(_BOUNDS)}, but they are {methods}.")
  if "dkw" in methods and (selection.histogram is None or estimate.histogram is None):
    raise ValueError('Method "dkw" needs `score_sums(..., histograms=True)` in both sample sets.')
  levels = _levels(alpha, labels.size)
  _warn_of_too_few_samples(estimate.num_samples, levels)
  center = np.rint(selection.total / max(selection.num_samples, 1)).astype(np.int64)
  expected = _as_expected(selection, estimate.num_samples)
  promised = [_eta(noise, method, expected, levels.alpha, center)[0] for method in methods]
  choice = np.argmax(promised, axis=0)
  found = [_eta(noise, method, estimate, levels.alpha, center) for method in methods]
  eta, mean, variance = (
    np.choose(choice, [bound[i] for bound in found]) if labels.size else np.zeros(0)
    for i in range(3)
  )
  method = np.asarray(methods)[choice]
  return BaseCertificates(
    noise.weights, groups, eta, labels, mean, levels.forfeit, variance, method
  )


def from_class_sums(
  noise: SmoothingDistribution,
  groups: ArrayLike,
  selection: ClassSums,
  estimation: ClassSums,
  *,
  alpha: float | Levels,
  methods: Sequence[str] = METHODS,
) -> BaseCertificates:
  """Base certificates of the most voted class of every output, by `from_votes` or `from_scores`.

  Args:
    noise: the smoothing distribution both sums were drawn from.
    groups: int [N].
    selection: sums of all classes, from one key; they select labels and statistics.
    estimation: from another key.
    alpha: joint error probability over all N outputs, in (0, 1), or `Levels`.
    methods: statistics to choose from, see `from_scores`; votes alone need no scores.

  Returns:
    `BaseCertificates`.

  Example:
    >>> from lrs_jax import noise
    >>> sums = ClassSums(np.array([[98, 2]]), None, None, 100)
    >>> gaussian = noise.gaussian([[0.5]], cells=[0])
    >>> from_class_sums(  # two keys in earnest
    ...   gaussian, [0], sums, sums, alpha=0.01, methods=("votes",)
    ... ).labels
    array([0])
  """
  if tuple(methods) == ("votes",):
    return from_votes(
      noise,
      groups,
      selection.votes,
      estimation.votes,
      alpha=alpha,
      num_samples=int(estimation.num_samples),
    )
  labels = np.asarray(selection.votes).argmax(axis=1)

  def of_label(sums: ClassSums) -> ScoreSums:
    *parts, num_samples = sums
    chosen = [np.take_along_axis(part, labels[:, None], axis=1)[:, 0] for part in parts]
    return ScoreSums(int(num_samples), *chosen)

  return from_scores(
    noise, groups, labels, of_label(selection), of_label(estimation), alpha=alpha, methods=methods
  )


def _levels(alpha: float | Levels, num_outputs: int) -> Levels:
  if not isinstance(alpha, Levels):
    return bonferroni(alpha, num_outputs)
  if alpha.alpha.shape != (num_outputs,):
    raise ValueError(
      f"`alpha.alpha` must have shape [N] = ({num_outputs},), but it has {alpha.alpha.shape}."
    )
  return alpha


def _warn_of_too_few_samples(num_samples: int, levels: Levels) -> None:
  """No valid lower bound at level alpha exceeds alpha^(1/S) when all of S samples agree."""
  if not levels.alpha.size:
    return
  level = float(levels.alpha.max())
  if clopper_pearson_lower(num_samples, num_samples, level) <= 0.5:
    warnings.warn(
      f"{num_samples} samples at level {level:.3g} for each of {levels.alpha.size} outputs certify "
      f"nothing, even if all agree: at least {int(np.log2(1 / level)) + 1} are needed.",
      TooFewSamplesWarning,
      stacklevel=3,
    )


_TELLING = 5
"""Different rows of votes that two independent sample sets do not share by chance."""


def same_samples(selection_counts: np.ndarray, counts: np.ndarray) -> bool:
  """Whether two sets of votes [N, K] are the very same, and not by chance (host).

  Rows that are not unanimous and differ among each other come from different votes.

  Example:
    >>> same_samples(np.array([[9, 1]]), np.array([[9, 1]]))  # one such row may be chance
    False
  """
  if not np.array_equal(selection_counts, counts):
    return False
  divided = counts[(counts > 0).sum(axis=1) > 1]
  return len(np.unique(divided, axis=0)) >= _TELLING


def warn_of_same_samples(selection_counts: np.ndarray, counts: np.ndarray) -> None:
  """Warns if two sets of votes [N, K] are the very same, see `same_samples`.

  Example:
    >>> warn_of_same_samples(np.array([[9, 1]]), np.array([[8, 2]]))
  """
  if same_samples(selection_counts, counts):
    warnings.warn(
      "`selection_counts` and `counts` are the same: draw them from two independent keys "
      "(`jax.random.split`), or the bounds do not hold.",
      SameSamplesWarning,
      stacklevel=3,
    )


def _eta(
  noise: SmoothingDistribution, method: str, sums: ScoreSums, alpha: np.ndarray, center: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Eta, and the bounds on mean and variance that it comes from."""
  # A family whose soft eta is that of the mean alone has all of alpha for the mean.
  has_use_for_variance = noise.eta_soft(0.75, 0.0) > noise.eta_soft(0.75, 0.25)
  bounds = _BOUNDS[method](sums, alpha, center, 0.5 if has_use_for_variance else 1.0)
  eta = noise.eta(bounds.mean) if method == "votes" else noise.eta_soft(*bounds)
  return eta, bounds.mean, bounds.variance


def _bound_votes(
  sums: ScoreSums, alpha: np.ndarray, center: np.ndarray, share: float
) -> ScoreBounds:
  q_lower = clopper_pearson_lower(sums.votes, sums.num_samples, alpha)
  return ScoreBounds(q_lower, np.where(q_lower > 0.5, q_lower * (1 - q_lower), 0.25))


def _bound_kl(sums: ScoreSums, alpha: np.ndarray, center: np.ndarray, share: float) -> ScoreBounds:
  return score_bounds_kl(
    sums.total, sums.squares, sums.num_samples, alpha, center=center, mean_share=share
  )


def _bound_bernstein(
  sums: ScoreSums, alpha: np.ndarray, center: np.ndarray, share: float
) -> ScoreBounds:
  return score_bounds_bernstein(sums.total, sums.squares, sums.num_samples, alpha)


def _bound_mixed(
  sums: ScoreSums, alpha: np.ndarray, center: np.ndarray, share: float
) -> ScoreBounds:
  return score_bounds_mixed(sums.total, sums.squares, sums.num_samples, alpha, center=center)


def _bound_dkw(sums: ScoreSums, alpha: np.ndarray, center: np.ndarray, share: float) -> ScoreBounds:
  return score_bounds_dkw(np.asarray(sums.histogram), alpha)


_BOUNDS = {
  "votes": _bound_votes,
  "kl": _bound_kl,
  "bernstein": _bound_bernstein,
  "mixed": _bound_mixed,
  "dkw": _bound_dkw,
}


def _as_expected(selection: ScoreSums, num_samples: int) -> ScoreSums:
  """Sums of S samples like those of the selection, for the choice of a method only."""
  scale = num_samples / max(selection.num_samples, 1)
  # Unanimity in a small selection is no certainty: Jeffreys' estimate of a vote's probability.
  votes = np.rint((selection.votes + 0.5) / (selection.num_samples + 1) * num_samples)
  total = np.rint(selection.total * scale).astype(np.int64)
  squares = np.rint(selection.squares * scale).astype(np.int64)
  least = -(-(total**2) // max(num_samples, 1))
  return ScoreSums(
    num_samples,
    np.minimum(votes, num_samples).astype(np.int64),
    total,
    np.clip(squares, least, total * LEVELS),
    None if selection.histogram is None else selection.histogram * scale,
  )
