r"""Center smoothing: how far a whole segmentation can move, in Hamming distance.

Under isotropic Gaussian noise the mask f(x + z) is one random point in the space of all masks, with
:math:`d` the number of pixels in which two masks differ. Let :math:`r(x)` be the smallest radius of
a ball, about any mask, that holds it with probability at least :math:`1/2 + \Delta`. A mask y is a
*center* at x if its ball of radius :math:`\beta r(x)` holds f(x + z) with probability at least
:math:`1/2 - \Delta`. The smoothed model answers with a center, or it abstains.

**Theorem.** If :math:`P(d(f(x + z), y) \le R) > \Phi(\Phi^{-1}(1/2 + \Delta) + \varepsilon/\sigma)`
for a mask y, then :math:`d(y, y') \le (1 + \beta) R` for every center y' at every x' with
:math:`\|x' - x\|_2 \le \varepsilon`.

*Proof.* By the lemma of Neyman and Pearson, :math:`P(d(f(x' + z), y) \le R) > 1/2 + \Delta`. So
:math:`r(x') \le R`, and the ball of radius :math:`\beta r(x')` about y', which has probability at
least :math:`1/2 - \Delta`, has a mask in common with the ball of radius R about y, as they have
more than 1 together. The triangle inequality does the rest.

The theorem holds for *any* y: a sample, or the majority of every pixel. It speaks of *all* centers
at x', so what has to be paid for is what is guaranteed of the answer there. With
:math:`\Delta = 0` and :math:`\beta = 1`, that is the center of the smallest ball with half of the
masks, which nobody can compute, and the factor is 2. The published algorithm (`select_center`)
chooses among samples, :math:`\beta = 2`: where a ball holds half of the samples and a candidate,
one of twice its radius about that candidate holds them, too. The factor is 3. Its answer has an
error probability of its own, and an attack may make it abstain: neither is part of the certificate.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from scipy import special

from lrs_jax.confidence.bounds import binomial_p_value, clopper_pearson_lower
from lrs_jax.noise.distributions import SmoothingDistribution
from lrs_jax.noise.eta import round_up
from lrs_jax.sampling import checks
from lrs_jax.sampling.checks import Setting
from lrs_jax.sampling.stitching import Apply, device_totals, predict, stitched, summed, whole_frame

Ranks = Callable[[np.ndarray, int, float], np.ndarray]
"""(probabilities [B], S, alpha) -> int64 [B]: `ranks_by_dkw` or `ranks_by_binomial`."""


def hamming_distances(
  key: jax.Array,
  apply: Apply,
  params: Any,
  x: ArrayLike,
  noise: SmoothingDistribution,
  centers: ArrayLike,
  num_samples: int,
  **options: Any,
) -> jax.Array:
  r"""Counts in how many outputs the prediction of every sample differs from each center.

  :math:`d_{m,i} = \#\{ n : \arg\max f_n(z_i) \ne y_{m,n} \}`, where sample i draws its noise from
  `fold_in(key, i)`, as in `sampling.vote_counts`. Predictions are not kept: memory grows with S,
  not with S N. One compilation serves all inputs, centers and noise levels for one S.

  Arguments and errors are those of `sampling.vote_counts`, its `first_sample`, `chunk_size`, `mesh`
  and `prng` among them, but that `noise` has one group, or it is a `ValueError`, and `centers` are
  masks, int [M, N], in the order of the flattened logits. Returned is int32 [M, S], on the device.

  Example:
    >>> from lrs_jax import noise
    >>> apply = lambda params, x: jnp.stack([x, -x], axis=-1)
    >>> gaussian = noise.gaussian([[0.1]], cells=[0, 0])
    >>> x = np.asarray([1.0, -1.0], np.float32)
    >>> hamming_distances(jax.random.key(0), apply, None, x, gaussian, [[0, 1], [1, 1]], 3)
    Array([[0, 0, 0],
           [1, 1, 1]], dtype=int32)
  """
  centers = np.asarray(centers)
  if noise.num_groups != 1:
    raise ValueError(f"`noise` must have one group, but it has {noise.num_groups}.")
  if centers.ndim != 2 or centers.dtype.kind not in "iu":
    raise ValueError(
      f"`centers` must be int [M, N], but it is {centers.dtype} of shape {centers.shape}."
    )
  groups = np.zeros(centers.shape[1], np.int32)
  request = checks.check_request(
    key, apply, params, x, noise, groups, num_samples, num_classes=None, **options
  )
  arrays = request.sample_range, request.setting, jnp.asarray(centers, jnp.int32)
  static = {"num_samples": num_samples, "chunk_size": request.chunk_size, "mesh": request.mesh}
  return summed(_hamming_distances(*arrays, apply=apply, **static))


@partial(jax.jit, static_argnames=("apply", "num_samples", "chunk_size", "mesh"))
def _hamming_distances(
  sample_range: jax.Array,
  setting: Setting,
  centers: jax.Array,
  *,
  apply: Apply,
  num_samples: int,
  chunk_size: int,
  mesh: Mesh,
) -> jax.Array:
  def add_distances(
    distances: jax.Array, sample_ids: jax.Array, valid: jax.Array, args: tuple
  ) -> jax.Array:
    setting, centers, first = args
    predictions = stitched(sample_ids, *setting, see=whole_frame(apply, predict))
    differ = (predictions[None] != centers[:, None]).sum(axis=-1, dtype=jnp.int32)
    return distances.at[:, sample_ids - first].add(jnp.where(valid[None], differ, 0), mode="drop")

  init = jnp.zeros((len(centers), num_samples), jnp.int32)
  args = setting, centers, sample_range[0]
  return device_totals(add_distances, init, sample_range, args, chunk_size=chunk_size, mesh=mesh)


class Center(NamedTuple):
  """The candidate that the smoothed model answers with."""

  candidate: int
  radius: int  # of the smallest ball about it with half of the selection samples
  accepted: bool  # otherwise the smoothed model abstains, and nothing is certified


def select_center(
  selection_distances: ArrayLike,
  test_distances: ArrayLike,
  num_sampled: int,
  *,
  alpha: float,
  delta: float = 0.05,
) -> Center:
  r"""Chooses the candidate with the smallest ball around half of the samples, and tests it (host).

  With M independent samples of f(x + z) among the candidates, the answer is a center for
  :math:`\beta = 2` unless one of these happens: fewer than half of the S selection samples lie in
  the smallest ball of probability :math:`1/2 + \Delta`, with probability
  :math:`P[\mathrm{Bin}(S, 1/2 + \Delta) < S/2]` at most; no candidate does,
  :math:`(1/2 - \Delta)^M`; the test errs, with the rest of :math:`\alpha`: it accepts if the
  chosen ball's probability is at least :math:`1/2 - \Delta` by its lower bound (Clopper & Pearson).

  Args:
    selection_distances: int [candidates, S], from one key.
    test_distances: int [candidates, S'], from another key.
    num_sampled: M, how many of the candidates are independent samples, from a third key; others,
      such as the pixels' majority, may be anything.
    alpha: probability that the answer is accepted and no center, in (0, 1); a `ValueError` if there
      are too few samples or candidates for it.
    delta: in (0, 1/2), fixed before sampling; a `ValueError` otherwise.

  Example:
    >>> distances = [[2] * 100, [1] * 100, [9] * 100]
    >>> select_center(distances, distances, 3, alpha=0.1, delta=0.25)
    Center(candidate=1, radius=1, accepted=True)

  References: Kumar & Goldstein 2021 (arXiv 2102.09701), algorithms 1 and 2, with exact binomial
    tails in the place of Hoeffding's inequality, and candidates of their high-dimensional variant.
  """
  selection_distances, test_distances = np.asarray(selection_distances), np.asarray(test_distances)
  _check_delta(delta)
  num_samples = selection_distances.shape[1]
  half = -(-num_samples // 2)
  outside = float(binomial_p_value(num_samples - half + 1, num_samples, 0.5 - delta))
  spent = outside + (0.5 - delta) ** num_sampled
  if not spent < alpha:
    raise ValueError(
      f"{num_samples} selection samples and {num_sampled} sampled candidates leave an error of "
      f"{spent:.3g} at `delta` = {delta}, but `alpha` is {alpha}: take more of them."
    )
  radii = np.sort(selection_distances, axis=1)[:, half - 1]
  chosen = int(radii.argmin())
  inside = int((test_distances[chosen] <= radii[chosen]).sum())
  lower = clopper_pearson_lower(inside, test_distances.shape[1], alpha - spent)
  return Center(chosen, int(radii[chosen]), bool(lower >= 0.5 - delta))


def ranks_by_dkw(probability: np.ndarray, num_samples: int, alpha: float) -> np.ndarray:
  r"""Order statistics that bound quantiles, all at once: the published ones (host).

  :math:`k = \lceil S (p + \sqrt{\ln(1/\alpha) / 2S}) \rceil`, int64 [B] in 1, ..., S; S + 1 where
  no sample suffices. Published, by Hoeffding's inequality, for one p; by Massart's, for
  :math:`\alpha \le 1/2`, it holds for all p together.

  Args:
    probability: p [B].
    num_samples: S.
    alpha: joint error probability, in (0, 1/2]; a `ValueError` otherwise.

  Example:
    >>> ranks_by_dkw(np.array([0.5, 0.9, 0.99]), 1000, 0.01)
    array([ 548,  948, 1001])

  References: Massart 1990, Annals of Probability 18(3), theorem 1.
  """
  if not 0 < alpha <= 0.5:
    raise ValueError(f"`alpha` must lie in (0, 1/2], but it is {alpha}.")
  slack = math.sqrt(-num_samples * math.log(alpha) / 2)
  rank = np.ceil(round_up(num_samples * probability + slack))
  return np.clip(rank, 1, num_samples + 1).astype(np.int64)


def ranks_by_binomial(probability: np.ndarray, num_samples: int, alpha: float) -> np.ndarray:
  r"""Order statistics that bound quantiles, exactly, with Bonferroni over the B of them (host).

  The least k with :math:`P[\mathrm{Bin}(S, p) \ge k] \le \alpha / B`: were the k-th of S distances
  below the quantile, k of them would lie where there is a probability of less than p.

  Arguments and result are those of `ranks_by_dkw`, but that alpha may be any in (0, 1).

  Example:
    >>> ranks_by_binomial(np.array([0.5, 0.9, 0.99]), 1000, 0.01)
    array([544, 926, 998])
  """
  tails = binomial_p_value(np.arange(1, num_samples + 1), num_samples, probability[:, None])
  level = alpha / max(probability.size, 1) * (1 - 2.0**-52)
  return (tails > level).sum(axis=1) + 1


def certify(
  distances: ArrayLike,
  radii: ArrayLike,
  std: float,
  *,
  alpha: float,
  delta: float = 0.05,
  beta: float = 2.0,
  ranks: Ranks = ranks_by_dkw,
) -> np.ndarray:
  r"""Bounds how far any center within reach of the adversary is from a given one (host).

  :math:`\lfloor (1 + \beta) R_\varepsilon \rfloor`, where :math:`R_\varepsilon` is the order
  statistic of the distances (the published code interpolates between two) that is, with probability
  :math:`1 - \alpha` for all radii together, at least the quantile
  :math:`p_\varepsilon = \Phi(\Phi^{-1}(1/2 + \Delta) + \varepsilon/\sigma)`.

  Args:
    distances: int [S], of fresh samples to the center: their key chose neither it nor another.
    radii: epsilon [B] >= 0.
    std: sigma > 0 of the isotropic noise.
    alpha: joint error probability over all radii, in (0, 1).
    delta: Delta in [0, 1/2), as in `select_center`.
    beta: at least 1: 2 for `select_center`; 1, with delta = 0, for the smallest ball's center.
    ranks: `ranks_by_dkw`, as published, or `ranks_by_binomial`, which goes farther.

  Returns:
    float64 [B], whole numbers, not falling where the radii rise; inf where nothing is certified.
    Arguments outside their ranges are a `ValueError`.

  Example:
    >>> certify(np.arange(1000) // 100, [0.0, 0.1, 1.0], 0.5, alpha=0.005)
    array([18., 18., inf])

  References: Kumar & Goldstein 2021 (arXiv 2102.09701), theorem 2 and algorithm 3.
  """
  distances, radii = np.sort(np.asarray(distances)), np.asarray(radii, np.float64)
  if delta:
    _check_delta(delta)
  if not beta >= 1:
    raise ValueError(f"`beta` must be at least 1, but it is {beta}.")
  if not (0 < std < np.inf and (radii >= 0).all()):
    raise ValueError(f"`std` must be positive and `radii` >= 0, but they are {std} and {radii}.")
  reached = special.ndtri(0.5 + delta) + round_up(radii / std)
  probability = round_up(special.ndtr(reached))
  rank = ranks(probability, distances.size, alpha)
  # Without enough samples for a rank, or at p = 1, anything may be as far as can be.
  within = np.append(distances.astype(np.float64), np.inf)[np.minimum(rank, distances.size + 1) - 1]
  return np.floor(round_up((1 + beta) * np.where(probability < 1, within, np.inf)))


def certified_outputs(distance: ArrayLike, num_targets: int) -> np.ndarray:
  """How many of a set of outputs keep what the center says, at least, int64 [B] (host).

  `distance`, [B], is from `certify`; `num_targets` counts all outputs, or those in which the center
  agrees with the truth: of the correct ones, too, as many can be lost as of all. If the smoothed
  model abstains (`Center.accepted`), nothing is certified.

  Example:
    >>> certified_outputs([18.0, 36.0, np.inf], 30)
    array([12,  0,  0])
  """
  return num_targets - np.minimum(distance, num_targets).astype(np.int64)


def _check_delta(delta: float) -> None:
  if not 0 < delta < 0.5:
    raise ValueError(f"`delta` must lie in (0, 1/2), but it is {delta}.")
