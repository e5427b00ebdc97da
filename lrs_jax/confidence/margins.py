r"""Margins: base certificates that bound the other classes as well, where votes disagree (host).

If the label has a probability of at least q and every other class one of at most u, Gaussian noise
certifies the label up to

.. math:: \sqrt{\eta} = \tfrac12 \left( \Phi^{-1}(q) - \Phi^{-1}(u) \right) ,

though q may be under 1/2. Votes alone say :math:`u = 1 - q`, which wastes much where several
classes share the rest. Two bounds more do better: on the runner-up, and on all the rest together,
which no other class exceeds.
"""

import numpy as np
from jax.typing import ArrayLike

from lrs_jax.confidence import certificates
from lrs_jax.confidence.bounds import clopper_pearson_lower
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.confidence.corrections import Levels, bonferroni
from lrs_jax.noise.distributions import SmoothingDistribution

BOUNDS = 3
"""That share an output's level: on its label, on the runner-up, on the rest."""


def from_margins(
  noise: SmoothingDistribution,
  groups: ArrayLike,
  selection_counts: ArrayLike,
  counts: ArrayLike,
  *,
  alpha: float | Levels,
  num_samples: int | None = None,
) -> BaseCertificates:
  r"""Base certificates from votes or from margins, whichever promises more for an output.

  Selection counts say which class is the label and which the runner-up, and whether margins would
  give the greater :math:`\eta` if the estimate came out alike: choosing costs nothing. The three
  bounds of a margin are each at :math:`\alpha / (3 N)`. `q_lower` of an output of method "margins"
  is the probability that votes alone would need for its :math:`\eta`.

  Arguments, errors and warnings are those of `certificates.from_votes`.

  Raises:
    ValueError: noise of a family for which margins are not known: any but the Gaussian.

  Example:
    >>> from lrs_jax import noise
    >>> gaussian = noise.gaussian([[0.5]], cells=[0])
    >>> votes = [[500, 260, 240], [990, 10, 0]]
    >>> found = from_margins(gaussian, [0, 0], votes, votes, alpha=0.01)  # two keys in earnest
    >>> found.method.tolist(), found.eta.round(2)
    (['margins', 'votes'], array([0.04, 4.11]))

  References: Cohen et al. 2019 (arXiv 1902.02918), theorem 1.
  """
  margin = noise.family.margin
  if margin is None:
    raise ValueError(f"margins are known for Gaussian noise, not for {noise.family.name}.")
  groups, selection, counts = map(np.asarray, (groups, selection_counts, counts))
  levels = alpha if isinstance(alpha, Levels) else bonferroni(alpha, groups.size)
  votes = certificates.from_votes(
    noise, groups, selection, counts, alpha=levels, num_samples=num_samples
  )
  trials = certificates.number_of_samples(counts, num_samples)
  label = votes.labels[:, None]
  others = np.where(np.arange(selection.shape[1]) == label, -1, selection)
  runner_up = others.argmax(axis=1)[:, None]

  def events(of: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often an output was its label, was not the runner-up, was nothing of the rest."""
    first, second = (np.take_along_axis(of, at, axis=1)[:, 0] for at in (label, runner_up))
    return first, total - second, np.minimum(first + second, total)

  def bounded(*successes: np.ndarray) -> np.ndarray:
    q, not_second, not_rest = (
      clopper_pearson_lower(k, trials, levels.alpha / BOUNDS) for k in successes
    )
    return margin(q, np.maximum(np.minimum(not_second, not_rest), q))

  drawn = int(selection.sum(axis=1).max(initial=0))
  expected = [_expected(part, drawn, trials) for part in events(selection, drawn)]
  promised = bounded(*expected) > clopper_pearson_lower(expected[0], trials, levels.alpha)
  q_lower = np.where(promised, bounded(*events(counts, trials)), votes.q_lower)
  method = np.where(promised, "margins", "votes")
  return votes._replace(eta=noise.eta(q_lower), q_lower=q_lower, method=method)


def _expected(votes: np.ndarray, drawn: int, trials: int) -> np.ndarray:
  """Votes of `trials` samples, as those that were drawn promise: by Jeffreys' estimate."""
  return np.minimum(np.rint((votes + 0.5) / (drawn + 1) * trials), trials).astype(np.int64)
