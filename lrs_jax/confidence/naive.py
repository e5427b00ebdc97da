"""Naive certificates, every output on its own: what a budget costs it, and tests of it (host)."""

import numpy as np
from jax.typing import ArrayLike

from lrs_jax.confidence.bounds import binomial_p_value
from lrs_jax.confidence.certificates import votes_for_labels
from lrs_jax.confidence.corrections import holm
from lrs_jax.noise import SmoothingDistribution


def naive_price(weights: ArrayLike, budgets: ArrayLike) -> np.ndarray:
  r"""What each group perceives at most when attacked alone with the whole budget, [G] (host).

  :math:`s_g = \sum_a B_a \max_c W_{a,g,c}`, with :math:`0 \cdot \infty = 0`, rounded up: an output
  of group g survives by its own certificate if :math:`s_g < \eta_n`.

  Args:
    weights: [A, G, C].
    budgets: [A], or a scalar where A = 1, in the units of b (epsilon^p, or counts), each at least
      0, else `ValueError`.

  Example:
    >>> naive_price([[[4.0, 0.25], [1.0, 2.0]]], 0.5)
    array([2., 1.])
  """
  weights = np.asarray(weights, np.float64)
  budgets = np.atleast_1d(np.asarray(budgets, np.float64))
  if budgets.shape != weights.shape[:1] or not (budgets >= 0).all():
    raise ValueError(
      f"`budgets` must have shape [A] = {weights.shape[:1]} and be at least 0, but is {budgets}."
    )
  dearest = weights.max(axis=2, initial=0.0)
  spent = np.where(budgets[:, None] > 0, budgets[:, None], 1.0) * dearest
  return np.where(budgets[:, None] > 0, spent, 0.0).sum(axis=0) * (1 + 2.0**-50)


def probability_needed(noise: SmoothingDistribution, price: ArrayLike) -> np.ndarray:
  r"""The least probability at which a prediction survives a price, :math:`\eta(q) > s` (host).

  Args:
    noise: smoothing distribution.
    price: s >= 0, of any shape; the result is rounded up, and inf where no probability is enough.

  Example:
    >>> from lrs_jax import noise
    >>> probability_needed(noise.uniform([[1.0]], [0]), [0.0, 0.5, 1.0])
    array([0.5 , 0.75,  inf])
  """
  price = np.asarray(price, np.float64)
  low, high = np.full(price.shape, 0.5), np.ones(price.shape)
  for _ in range(54):  # down to neighboring numbers: high is always enough, low never
    middle = (low + high) / 2
    enough = noise.eta(middle) > price
    low, high = np.where(enough, low, middle), np.where(enough, middle, high)
  return np.where(noise.eta(high) > price, high, np.inf)


def naive_holm(
  noise: SmoothingDistribution,
  groups: ArrayLike,
  selection_counts: ArrayLike,
  counts: ArrayLike,
  budgets: ArrayLike,
  *,
  alpha: float,
  num_samples: int | None = None,
) -> np.ndarray:
  r"""Naive certificates at *one* budget, by Holm's test of fixed thresholds (host).

  Output n survives if the hypothesis that its label's probability is at most
  :math:`\min\{q : \eta(q) > s_{g(n)}\}` is rejected, see `corrections.holm`. With probability
  :math:`1 - \alpha` all of those survive. That holds at the one budget asked for, fixed before
  sampling: the answers at several budgets, or a curve, do not hold together, and the levels serve
  no collective certificate.

  `budgets` is the one budget, [A], or a scalar where A = 1. The other arguments and errors, and the
  `SameSamplesWarning`, are those of `from_votes`. The result is bool [N]: the outputs that survive.

  Example:
    >>> from lrs_jax import noise
    >>> votes = [[1000, 0], [900, 100], [550, 450]]
    >>> uniform = noise.uniform([[1.0]], cells=[0])
    >>> naive_holm(uniform, [0, 0, 0], votes, votes, 0.7, alpha=0.01)  # two keys in earnest
    array([ True,  True, False])

  References: Fischer et al. 2021 (arXiv 2107.00228), section 4.2.
  """
  _, successes, trials = votes_for_labels(groups, selection_counts, counts, num_samples)
  price = naive_price(noise.weights, budgets)
  threshold = probability_needed(noise, price)[np.asarray(groups)]
  p_value = binomial_p_value(successes, trials, np.minimum(threshold, 1.0))
  return holm(p_value, alpha) & (threshold < 1)
