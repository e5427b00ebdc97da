"""Base certificates: from what was counted to the pair (weights, eta) of every output (host)."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from lrs_jax.confidence import bonferroni, clopper_pearson_lower
from lrs_jax.noise import SmoothingDistribution


class BaseCertificates(NamedTuple):
  """Output n keeps `labels[n]` while sum_a sum_c weights[a, g, c] b[a, c] < eta[n], g = groups[n].

  With probability 1 - alpha all N of them hold together.
  """

  weights: np.ndarray  # float64 [A, G, C]
  groups: np.ndarray  # int [N]
  eta: np.ndarray  # float64 [N]; 0 abstains
  labels: np.ndarray  # int [N], the smoothed prediction
  q_lower: np.ndarray  # float64 [N], lower bound on the label's probability


def from_votes(
  noise: SmoothingDistribution,
  groups: ArrayLike,
  selection_counts: ArrayLike,
  counts: ArrayLike,
  *,
  alpha: float,
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
    alpha: joint error probability over all N outputs, in (0, 1).

  Returns:
    `BaseCertificates`.

  Raises:
    ValueError: shapes that do not fit together.

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
  labels = selection_counts.argmax(axis=1)
  successes = np.take_along_axis(counts, labels[:, None], axis=1)[:, 0]
  q_lower = clopper_pearson_lower(successes, counts.sum(axis=1), bonferroni(alpha, labels.size))
  return BaseCertificates(noise.weights, groups, noise.eta(q_lower), labels, q_lower)
