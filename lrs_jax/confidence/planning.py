"""Before any sampling: what a number of samples can certify, and how many a budget needs (host)."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from lrs_jax.confidence.bounds import clopper_pearson_lower
from lrs_jax.confidence.certificates import naive_price, probability_needed
from lrs_jax.confidence.corrections import bonferroni
from lrs_jax.noise.distributions import SmoothingDistribution


class Plan(NamedTuple):
  """What each group's outputs need, to survive a budget by their own votes."""

  price: np.ndarray  # float64 [G], what the group perceives of the budget
  probability: np.ndarray  # float64 [G], the lower bound that is needed; inf if none is enough
  num_samples: np.ndarray  # float64 [G], S that reaches it; inf if no number does


def reachable_eta(
  noise: SmoothingDistribution,
  num_samples: ArrayLike,
  *,
  num_outputs: int,
  alpha: float,
  agreement: float = 1.0,
) -> np.ndarray:
  r"""The eta of an output whose label gets a given share of the votes (host).

  With agreement 1 this is the greatest eta that S samples can certify,
  :math:`\eta(\alpha'^{1/S})` with :math:`\alpha' = \alpha / N`.

  Args:
    noise: smoothing distribution.
    num_samples: S, of any shape.
    num_outputs: N, which share alpha (Bonferroni).
    alpha: joint error probability, in (0, 1).
    agreement: share of the votes, in [0, 1].

  Returns:
    float64, shaped like `num_samples`.

  Example:
    >>> from lrs_jax import noise
    >>> gaussian = noise.gaussian([[1.0]], [0])
    >>> reachable_eta(gaussian, [100, 10_000], num_outputs=1000, alpha=0.01)
    array([1.5..., 9.2...])
  """
  num_samples = np.asarray(num_samples)
  level = bonferroni(alpha, max(num_outputs, 1)).alpha[0]
  votes = np.floor(num_samples * agreement)
  return noise.eta(clopper_pearson_lower(votes, num_samples, level))


def samples_needed(
  noise: SmoothingDistribution,
  budgets: ArrayLike,
  *,
  num_outputs: int,
  alpha: float,
  agreement: float = 1.0,
) -> Plan:
  r"""How many samples it takes to certify a budget, for the outputs of each group (host).

  By the naive certificate, which attacks a group alone with the whole budget: the collective one
  spreads the budget over groups and needs fewer for some of them, never more.

  Args:
    noise: smoothing distribution.
    budgets: [A], or a scalar where A = 1, in the units of b: epsilon^p, or counts.
    num_outputs: N, which share alpha (Bonferroni).
    alpha: joint error probability, in (0, 1).
    agreement: share of the votes that the label is expected to get, in [0, 1].

  Returns:
    `Plan`. `num_samples` is the fewest for agreement 1; below, where votes are rounded to
    integers, it is enough but may not be the very fewest.

  Example:
    >>> from lrs_jax import noise
    >>> gaussian = noise.gaussian([[1.0], [0.2]], [0])
    >>> samples_needed(gaussian, 0.5**2, num_outputs=1000, alpha=0.01).num_samples
    array([  32., 1849.])
  """
  price = naive_price(noise.weights, budgets)
  probability = probability_needed(noise, price)
  few, many = np.zeros(price.shape, np.int64), np.full(price.shape, MOST, np.int64)

  def enough(num_samples: np.ndarray) -> np.ndarray:
    eta = reachable_eta(
      noise, num_samples, num_outputs=num_outputs, alpha=alpha, agreement=agreement
    )
    return eta > price

  while (many - few > 1).any():
    middle = (few + many) // 2
    reached = enough(middle)
    few, many = np.where(reached, few, middle), np.where(reached, middle, many)
  return Plan(price, probability, np.where(enough(many), many, np.inf))


MOST = 2**31 - 1
"""Sample ids are 32-bit integers."""
