"""Base certificates: from what was counted to the pair (weights, eta) of every output (host).

One sample set selects (labels, statistics, levels), another one, from an independent key, bounds.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from lrs_jax.confidence import bounds
from lrs_jax.confidence.bounds import LEVELS, clopper_pearson_lower
from lrs_jax.confidence.corrections import Levels, bonferroni
from lrs_jax.errors import SameSamplesWarning, TooFewSamplesWarning
from lrs_jax.noise.distributions import SmoothingDistribution
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

  @property
  def predictions(self) -> np.ndarray:
    """What the smoothed model says, -1 where it abstains: int [N]."""
    return np.where(self.eta > 0, self.labels, -1)


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

  Raises:
    ValueError: shapes that do not fit together, or rows of `counts` whose sums differ, or exceed
      `num_samples`.

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
  groups = np.asarray(groups)
  labels, successes, trials = votes_for_labels(groups, selection_counts, counts, num_samples)
  levels = _levels(alpha, labels.size, trials)
  q_lower = clopper_pearson_lower(successes, trials, levels.alpha)
  return BaseCertificates(
    noise.weights, groups, noise.eta(q_lower), labels, q_lower, levels.forfeit
  )


def number_of_samples(counts: np.ndarray, num_samples: int | None) -> int:
  """S of counts [N, K]: the sum of every row if no vote was lost, 0 without outputs (host).

  Raises:
    ValueError: rows that have more than `num_samples`, or, if it is None, differ in their sum.

  Example:
    >>> number_of_samples(np.array([[9, 1], [10, 0]]), None)
    10
    >>> number_of_samples(np.array([[9, 1], [8, 0]]), 10)
    10
  """
  sums = np.asarray(counts).sum(axis=1)
  most = int(sums.max(initial=0))
  if num_samples is None and (sums != most).any():
    raise ValueError(
      "`num_samples` must say how many samples there were, since the rows of `counts` sum to "
      f"{int(sums.min())} up to {most}: votes were lost."
    )
  if num_samples is not None and most > num_samples:
    raise ValueError(f"`num_samples` is {num_samples}, but a row of `counts` sums to {most}.")
  return most if num_samples is None else int(num_samples)


METHODS = ("votes", "kl", "mixed")
"""The default statistics to choose from; `confidence.bounds` has the figures behind the default."""
_ALL_METHODS = ("votes", "kl", "bernstein", "mixed", "dkw")


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
  if not methods or not set(methods) <= set(_ALL_METHODS):
    raise ValueError(f"`methods` must be among {_ALL_METHODS}, but they are {methods}.")
  if "dkw" in methods and (selection.histogram is None or estimate.histogram is None):
    raise ValueError('Method "dkw" needs `score_sums(..., histograms=True)` in both sample sets.')
  levels = _levels(alpha, labels.size, estimate.num_samples)
  center = np.rint(selection.total / max(selection.num_samples, 1)).astype(np.int64)
  expected = _as_expected(selection, estimate.num_samples)
  promised = [_eta(noise, method, expected, levels.alpha, center)[0] for method in methods]
  choice = np.argmax(promised, axis=0)
  found = [_eta(noise, method, estimate, levels.alpha, center) for method in methods]
  eta, mean, variance = np.take_along_axis(np.array(found), choice[None, None], axis=0)[0]
  method = np.asarray(methods)[choice]
  return BaseCertificates(
    noise.weights, groups, eta, labels, mean, levels.forfeit, variance, method
  )


def _levels(alpha: float | Levels, num_outputs: int, num_samples: int) -> Levels:
  """The level of every bound, and a warning if S samples that all agree certify nothing at it."""
  if not isinstance(alpha, Levels):
    alpha = bonferroni(alpha, num_outputs)
  elif alpha.alpha.shape != (num_outputs,):
    raise ValueError(
      f"`alpha.alpha` must have shape [N] = ({num_outputs},), but it has {alpha.alpha.shape}."
    )
  if not num_outputs:
    return alpha
  level = float(alpha.alpha.max())
  # No valid lower bound at a level exceeds level^(1/S).
  if clopper_pearson_lower(num_samples, num_samples, level) <= 0.5:
    warnings.warn(
      f"{num_samples} samples at level {level:.3g} for each of {num_outputs} outputs certify "
      f"nothing, even if all agree: at least {int(np.log2(1 / level)) + 1} are needed.",
      TooFewSamplesWarning,
      stacklevel=3,
    )
  return alpha


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


def votes_for_labels(
  groups: ArrayLike, selection_counts: ArrayLike, counts: ArrayLike, num_samples: int | None
) -> tuple[np.ndarray, np.ndarray, int]:
  """The labels that one sample set selects, their votes in the other one, and its S (host).

  Arguments and errors are those of `from_votes`, and so is the warning of the same samples.

  Example:
    >>> votes_for_labels([0], [[9, 1]], [[8, 2]], None)
    (array([0]), array([8]), 10)
  """
  groups, selection_counts, counts = map(np.asarray, (groups, selection_counts, counts))
  if selection_counts.shape != counts.shape or groups.shape != counts.shape[:1]:
    raise ValueError(
      "`selection_counts` and `counts` must have one shape [N, K] and `groups` [N], but theirs are "
      f"{selection_counts.shape}, {counts.shape} and {groups.shape}."
    )
  if same_samples(selection_counts, counts):
    warnings.warn(
      "`selection_counts` and `counts` are the same: draw them from two independent keys "
      "(`jax.random.split`), or the bounds do not hold.",
      SameSamplesWarning,
      stacklevel=3,
    )
  labels = selection_counts.argmax(axis=1)
  successes = np.take_along_axis(counts, labels[:, None], axis=1)[:, 0]
  return labels, successes, number_of_samples(counts, num_samples)


def _eta(
  noise: SmoothingDistribution, method: str, sums: ScoreSums, alpha: np.ndarray, center: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Eta by one method, and the bounds on mean and variance that it comes from."""
  if method == "votes":
    q_lower = clopper_pearson_lower(sums.votes, sums.num_samples, alpha)
    return noise.eta(q_lower), q_lower, np.where(q_lower > 0.5, q_lower * (1 - q_lower), 0.25)
  moments = sums.total, sums.squares, sums.num_samples, alpha
  if method == "kl":
    # A family whose soft eta is that of the mean alone has all of alpha for the mean.
    has_use_for_variance = noise.eta_soft(0.75, 0.0) > noise.eta_soft(0.75, 0.25)
    mean_share = 0.5 if has_use_for_variance else 1.0
    found = bounds.score_bounds_kl(*moments, center=center, mean_share=mean_share)
  elif method == "mixed":
    found = bounds.score_bounds_mixed(*moments, center=center)
  elif method == "bernstein":
    found = bounds.score_bounds_bernstein(*moments)
  else:
    found = bounds.score_bounds_dkw(np.asarray(sums.histogram), alpha)
  return noise.eta_soft(*found), *found


def _as_expected(selection: ScoreSums, num_samples: int) -> ScoreSums:
  """Sums of S samples like those of the selection, for the choice of a method only."""
  scale = num_samples / max(selection.num_samples, 1)
  # Unanimity in a small selection is no certainty: Jeffreys' estimate of a vote's probability.
  votes = np.rint((selection.votes + 0.5) / (selection.num_samples + 1) * num_samples)
  votes = np.minimum(votes, num_samples).astype(np.int64)
  total = np.rint(selection.total * scale).astype(np.int64)
  least = -(-(total**2) // max(num_samples, 1))
  squares = np.clip(np.rint(selection.squares * scale).astype(np.int64), least, total * LEVELS)
  histogram = None if selection.histogram is None else selection.histogram * scale
  return ScoreSums(num_samples, votes, total, squares, histogram)
