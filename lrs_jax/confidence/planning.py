"""Before any sampling: what a number of samples can certify, and how many a budget needs (host)."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy
from jax.typing import ArrayLike

from lrs_jax.confidence.bounds import clopper_pearson_lower
from lrs_jax.confidence.corrections import bonferroni
from lrs_jax.confidence.naive import naive_price, probability_needed
from lrs_jax.noise.distributions import SmoothingDistribution
from lrs_jax.sampling import MAX_SAMPLES


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
    num_samples: S, of any shape, which the result has as well.
    num_outputs: N, which share alpha (Bonferroni).
    alpha: joint error probability, in (0, 1).
    agreement: share of the votes, in [0, 1].

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
  spreads the budget over groups and needs fewer for some of them, never more. `num_samples` is the
  fewest for agreement 1; below, where votes are rounded to integers, it is enough but may not be
  the very fewest. `budgets` is [A], or a scalar where A = 1, in the units of b: epsilon^p, or
  counts. The other arguments are those of `reachable_eta`.

  Example:
    >>> from lrs_jax import noise
    >>> gaussian = noise.gaussian([[1.0], [0.2]], [0])
    >>> samples_needed(gaussian, 0.5**2, num_outputs=1000, alpha=0.01).num_samples
    array([  32., 1849.])
  """
  price = naive_price(noise.weights, budgets)
  probability = probability_needed(noise, price)
  few, many = np.zeros(price.shape, np.int64), np.full(price.shape, MAX_SAMPLES, np.int64)
  reachable = partial(
    reachable_eta, noise, num_outputs=num_outputs, alpha=alpha, agreement=agreement
  )
  while (many - few > 1).any():
    middle = (few + many) // 2
    reached = reachable(middle) > price
    few, many = np.where(reached, few, middle), np.where(reached, middle, many)
  return Plan(price, probability, np.where(reachable(many) > price, many, np.inf))


def radii(
  distributions: Sequence[SmoothingDistribution],
  num_samples: int,
  *,
  num_outputs: int,
  alpha: float,
) -> np.ndarray:
  r"""Up to 41 rising radii, from 0 to where nothing can be certified whatever the votes are (host).

  No output's :math:`\eta` exceeds that of unanimous votes, :math:`\eta_1`. The least budget that
  makes every group perceive as much is a linear program's:

  .. math:: \varepsilon^p \ge \eta_1 \min_{b \ge 0} \{ \textstyle\sum_c b_c :
    \sum_c W_{g,c} b_c \ge 1 \text{ for all } g \} ,

  where :math:`\varepsilon` is the number of entries if p = 0, else in the units of the input. The
  last radius is half a percent beyond, of three digits; for p = 0, radii are whole numbers. If S
  samples certify nothing, there is 0 alone. Of several distributions, each of one kind of
  perturbation (A = 1), the one that reaches farthest decides. The other arguments are those of
  `reachable_eta`.

  Raises:
    ValueError: several kinds of perturbation, or a group that is shown nothing, which no
      perturbation reaches.

  Example:
    >>> from lrs_jax import noise
    >>> gaussian, ablation = noise.gaussian([[0.5]], [0]), noise.ablation([[0.9]], [0])
    >>> radii([gaussian], 1000, num_outputs=100, alpha=0.01)[[0, 1, -1]].round(4)
    array([0.    , 0.0298, 1.19  ])
    >>> radii([ablation], 1000, num_outputs=100, alpha=0.01)
    array([0., 1., 2., 3., 4., 5., 6., 7.])
  """
  reachable = partial(reachable_eta, num_samples=num_samples, num_outputs=num_outputs, alpha=alpha)
  farthest = max(_reach(noise, float(reachable(noise))) for noise in distributions)
  last = float(f"{farthest * 1.005:.3g}")
  if all(noise.p == 0 for noise in distributions):
    return np.unique(np.rint(np.linspace(0, np.ceil(last), 41)))
  return np.unique(np.linspace(0, last, 41))


def _reach(noise: SmoothingDistribution, eta: float) -> float:
  """A radius at which every output of at most this eta falls."""
  if len(noise.weights) != 1:
    raise ValueError(
      f"{len(noise.weights)} kinds of perturbation have budgets of their own, not a radius: "
      "say at which budgets [B, A] to certify."
    )
  weights = noise.weights[0]
  if not (weights > 0).any(axis=1).all():
    raise ValueError(
      "some group is shown nothing of the input, so that no perturbation reaches its outputs: say "
      "at which radii to certify."
    )
  unit = weights.max()
  found = scipy.optimize.linprog(
    np.ones(weights.shape[1]),
    A_ub=-scipy.sparse.csr_array(weights / unit),
    b_ub=-np.ones(len(weights)),
  )
  # If need be, every group's dearest cell will do.
  least = found.fun / unit if found.status == 0 else (1 / weights.max(axis=1)).sum()
  return float(eta * least) ** (1 / max(noise.p, 1))
