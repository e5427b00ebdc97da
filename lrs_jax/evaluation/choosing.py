r"""Which noise to certify with: grid and scales from pilot samples on training images (host).

A candidate promises what its votes on a few images would certify if there were as many samples as
planned. Pilot votes are few, and what matters is how near to 1 the probabilities are: so the votes
of all outputs together fit a prior, and each output's planned votes are drawn from its posterior
predictive (a beta-binomial). For 64 pilot samples of 1,000 and three kinds of U-shaped
probabilities this met the true mean :math:`\eta` of 40,000 outputs within 5 %, where a plug-in
estimate, blind beyond unanimous pilot votes, lost 16 % to 27 %.

The choice is part of the model, made before anything is certified, and costs nothing of
:math:`\alpha`. But one that has seen a certified image's votes voids that image's certificate.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy
from jax.typing import ArrayLike
from tqdm import tqdm

from lrs_jax import collective, keys, noise, sampling
from lrs_jax.cells import locality, partition
from lrs_jax.cells.views import View
from lrs_jax.confidence.bounds import clopper_pearson_lower
from lrs_jax.confidence.corrections import bonferroni
from lrs_jax.evaluation import metrics


class Candidate(NamedTuple):
  """One way of smoothing."""

  name: str
  smoothing: noise.SmoothingDistribution
  groups: np.ndarray  # int [N]
  windows: sampling.Windows | None = None
  fields: tuple[noise.SmoothingDistribution, np.ndarray] | None = None
  # what is drawn, K fields, and int [N], every output's, where `smoothing` is how outputs see them

  @property
  def drawn(self) -> tuple[noise.SmoothingDistribution, np.ndarray]:
    """The noise that is drawn, and the field of every output: int [N]."""
    return (self.smoothing, self.groups) if self.fields is None else self.fields


class Choice(NamedTuple):
  """What each of P candidates promises on M pilot images, and which of them to take."""

  names: tuple[str, ...]  # P
  certified: np.ndarray  # float64 [P, M, B], fraction of the outputs that survive together
  score: np.ndarray  # float64 [P], its mean over images and budgets
  accuracy: np.ndarray  # float64 [P], of the smoothed model; abstentions are wrong
  mean_iou: np.ndarray  # float64 [P], likewise
  eligible: np.ndarray  # bool [P], whether the accuracy suffices
  best: int  # of the eligible candidates, the one with the greatest score


def grid_candidates(
  image_shape: tuple[int, int],
  grids: Iterable[tuple[int, int]],
  std_min: Iterable[float],
  std_max: Iterable[float],
  powers: Iterable[float] = (1.0,),
  *,
  fraction: Callable[[np.ndarray], np.ndarray] = locality.fraction_of_grid,
  windows: Callable[[np.ndarray], sampling.Windows] | None = None,
  sees: float = np.inf,
) -> list[Candidate]:
  r"""Gaussian noise in grids of cells, for all combinations of what is given.

  :math:`\sigma_{g,c} = \sigma_{min} + (\sigma_{max} - \sigma_{min}) f_{g,c}^\gamma` with the
  fraction f of the Chebyshev distances: the paper's noise has power :math:`\gamma = 1`, a smaller
  one rises sooner, a larger one later.

  Args:
    image_shape: (H, W), in pixels.
    grids: (R, Q) each, in cells; 1 x 1 is isotropic noise of `std_min`.
    std_min: standard deviations in a group's own cell, in the units of the input.
    std_max: standard deviations at fraction 1.
    powers: positive.
    fraction: of the distances [G, C]: `locality.fraction_of_grid` or `fraction_of_border`.
    windows: (groups [H, W]) -> the windows in which the model is evaluated, such as
      `tasks.images.network_windows` makes; None evaluates whole frames.
    sees: how many pixels away from an output the model sees its input, `folded_unet.reach(params)`
      of a U-Net. Cells beyond are hidden from a group: that costs no accuracy, and certifies more.

  Returns:
    Those of different scales, grid by grid; none with std_min above std_max.

  Example:
    >>> [c.name for c in grid_candidates((6, 9), [(1, 1), (2, 3)], [0.2], [0.5, 1.0], [0.5, 1.0])]
    ... # doctest: +NORMALIZE_WHITESPACE
    ['1x1, std 0.2', '2x3, std 0.2 to 0.5, power 0.5', '2x3, std 0.2 to 0.5, power 1',
     '2x3, std 0.2 to 1, power 0.5', '2x3, std 0.2 to 1, power 1']
  """
  every = itertools.product(std_min, std_max, powers)
  combinations = [(low, high, power) for low, high, power in every if low <= high]
  found: list[Candidate] = []
  for grid in grids:
    groups = partition.image_grid(image_shape, grid)
    seen = None if windows is None else windows(groups)  # one function, compiled once
    share = fraction(locality.chebyshev_distances(grid))
    away = partition.pixel_distances(groups, groups)
    different: dict[bytes, Candidate] = {}
    for low, high, power in combinations:
      scale = locality.interpolate_std(share**power, low, high)
      name = f"{grid[0]}x{grid[1]}, std {low:g}"
      if scale.min() < scale.max():
        name += f" to {high:g}, power {power:g}"
      scale = locality.hide_beyond(scale, away, sees)
      smoothing = noise.gaussian(scale, groups[..., None])
      different.setdefault(scale.tobytes(), Candidate(name, smoothing, groups.ravel(), seen))
    found += different.values()
  return found


def color_candidates(
  image_shape: tuple[int, int],
  grids: Iterable[tuple[int, int]],
  std_min: Iterable[float],
  ratios: Iterable[float],
  *,
  colors: tuple[int, int] = (2, 2),
) -> list[Candidate]:
  """Gaussian noise of a few fields: cells are colored by row and column modulo `colors`.

  A field has a standard deviation of `std_min` in the cells of its color, and `ratios` times as
  much in all others, so that K = 4 passes a sample serve any number of cells. It takes a view,
  `as_seen`, to gain by that. Grids are (R, Q), in cells.

  Example:
    >>> [c.name for c in color_candidates((8, 8), [(4, 4)], [0.2], [2.0])]
    ['4x4 in 4 colors, std 0.2 to 0.4']
  """
  found = []
  for grid, low, ratio in itertools.product(grids, std_min, ratios):
    field = partition.colored_grid(image_shape, grid, colors)
    scale = locality.own_color(math.prod(colors), low, ratio * low)
    name = f"{grid[0]}x{grid[1]} in {len(scale)} colors, std {low:g} to {ratio * low:g}"
    found.append(Candidate(name, noise.gaussian(scale, field[..., None]), field.ravel()))
  return found


def as_seen(candidate: Candidate, view: View, block: int | None = None) -> Candidate:
  """The same noise, priced by what blocks of outputs see of it: `noise.in_blocks`.

  Example:
    >>> from lrs_jax.cells import views
    >>> (one,) = grid_candidates((6, 9), [(1, 1)], [0.2], [0.2])
    >>> as_seen(one, views.around((6, 9), 1), block=3).smoothing.num_groups
    6
  """
  drawn, field = candidate.drawn
  smoothing, groups = noise.in_blocks(drawn, field.reshape(view.shape), view, block)
  return candidate._replace(smoothing=smoothing, groups=groups, fields=(drawn, field))


def choose(
  key: jax.Array,
  candidates: Sequence[Candidate],
  apply: sampling.Apply,
  params: Any,
  images: ArrayLike,
  labels: ArrayLike,
  budgets: ArrayLike,
  *,
  num_classes: int,
  num_samples: int | None = None,
  num_passes: int | None = None,
  alpha: float,
  pilot_samples: int = 64,
  selection_samples: int = 16,
  tolerance: float = 0.01,
) -> Choice:
  r"""Takes the candidate that certifies most, of those that are as accurate as the first.

  .. math:: \max_i \; \frac{1}{M B} \sum_{m,b} \text{certified}_{i,m,b} / N \quad \text{s.t.} \quad
    \text{accuracy}_i \ge \text{accuracy}_0 - \text{tolerance} ,

  with certificates of the envelope method, for `num_samples` votes like those of the pilot. One
  budget is the wanted one; evenly spaced radii give the average certifiable radius up to a factor.
  All candidates see the same standard draws, at M (`pilot_samples` + `selection_samples`)
  evaluations for each of their K fields, and a compilation for every number of them. A network that
  was trained for the first candidate's noise favors that: train for a wide range of noise, or
  choose again after training for the choice.

  Args:
    key: typed key, not one of those that certify.
    candidates: the first is the reference, such as the paper's hand-made grid.
    apply: pure function (params, x) -> logits [..., K] of one input.
    params: pytree of arrays.
    images: [M, ...], never one that will be certified. Of training images, those that the network
      was not fitted to (a validation split) promise less too much.
    labels: int [M, ...]; outside [0, K) is void. All void: any accuracy will do.
    budgets: [B] or [B, A], in the units of b: epsilon^p, or counts.
    num_classes: K.
    num_samples: S that is planned, for every field; or else
    num_passes: evaluations that are planned, for all: S is their K-th part, rounded down.
    alpha: planned joint error probability of one image, in (0, 1).
    pilot_samples: votes that stand for the planned ones.
    selection_samples: further votes that choose every output's label.
    tolerance: accuracy that may be given up.

  No candidates or images, shapes that do not fit together, or not one of `num_samples` and
  `num_passes`, are a `ValueError`.

  Example:
    >>> import jax.numpy as jnp
    >>> apply = lambda params, x: jnp.stack([0.5 - x.mean(-1), x.mean(-1) - 0.5], -1)  # each pixel
    >>> images = np.random.default_rng(0).choice([0.0, 1.0], (2, 6, 10, 1)).astype(np.float32)
    >>> candidates = grid_candidates((6, 10), [(1, 1), (3, 5)], [0.2], [1.0])
    >>> choice = choose(
    ...   jax.random.key(0), candidates, apply, None, images, images[..., 0] > 0.5, [0.7**2],
    ...   num_classes=2, num_samples=1000, alpha=0.01,
    ... )
    >>> choice.names[choice.best], choice.score.round(2), choice.accuracy
    ('3x5, std 0.2 to 1, power 1', array([0.  , 0.41]), array([1., 1.]))

  References: the posterior predictive is empirical Bayes, Efron 2010, "Large-scale inference",
    chapter 1.
  """
  images, labels = np.asarray(images), np.asarray(labels)
  if not candidates:
    raise ValueError("`candidates` must hold at least one, the reference, but it is empty.")
  if not len(images) or len(labels) != len(images):
    raise ValueError(
      "`images` [M, ...] and `labels` [M, ...] must be of the same M >= 1 images, "
      f"but their shapes are {images.shape} and {labels.shape}."
    )
  if labels[0].size != candidates[0].groups.size:
    raise ValueError(
      f"`labels` must have N = {candidates[0].groups.size} labels per image, one per output of "
      f"`candidates`, but their shape is {labels.shape}."
    )
  if (num_samples is None) == (num_passes is None):
    raise ValueError(
      "give one of `num_samples`, per field, and `num_passes`, for all fields together, but they "
      f"are {num_samples} and {num_passes}."
    )
  truth = labels.reshape(len(labels), -1).astype(np.int64)
  level = bonferroni(alpha, truth.shape[1]).alpha
  key_pilot, key_planned = keys.tagged(key, "pilot"), keys.tagged(key, "planned votes")
  key_sets = jax.random.split(key_pilot)

  def votes_of(candidate: Candidate, key_set: jax.Array, size: int) -> np.ndarray:
    """Votes int [M, N, K], from independent keys for every image."""
    noise, groups = candidate.drawn
    options: dict[str, Any] = {"num_classes": num_classes, "windows": candidate.windows}
    pairs = zip(jax.random.split(key_set, len(images)), images, strict=True)
    votes = [sampling.votes(k, apply, params, x, noise, groups, size, **options) for k, x in pairs]
    return np.stack([of_image.counts for of_image in votes])

  certified, confusions = [], []
  for candidate in tqdm(candidates, desc="choosing", unit="candidate", mininterval=1.0):
    smoothing, groups = candidate.smoothing, candidate.groups
    selection = votes_of(candidate, key_sets[0], selection_samples)
    pilot = votes_of(candidate, key_sets[1], pilot_samples)
    predictions = selection.argmax(axis=2)
    votes = np.take_along_axis(pilot, predictions[..., None], axis=2)[..., 0]
    planned = num_samples
    if planned is None:
      planned = num_passes // candidate.drawn[0].num_groups
    votes = _planned_votes(key_planned, votes, pilot_samples, planned)
    eta = smoothing.eta(clopper_pearson_lower(votes, planned, level[None]))
    fractions = [
      collective.certify(smoothing.weights, groups, of_image, budgets).certified / groups.size
      for of_image in eta
    ]
    certified.append(fractions)
    predictions = np.where(eta > 0, predictions, metrics.ABSTAIN)
    confusions.append(metrics.confusion_matrix(truth, predictions, num_classes))
  score = np.mean(certified, axis=(1, 2))
  accuracy = np.array([metrics.accuracy(confusion) for confusion in confusions])
  eligible = ~(accuracy < accuracy[0] - tolerance)
  return Choice(
    names=tuple(candidate.name for candidate in candidates),
    certified=np.array(certified),
    score=score,
    accuracy=accuracy,
    mean_iou=np.array([metrics.mean_iou(confusion) for confusion in confusions]),
    eligible=eligible,
    best=int(np.argmax(np.where(eligible, score, -1.0))),
  )


def _planned_votes(
  key: jax.Array, votes: np.ndarray, num_pilot: int, num_samples: int
) -> np.ndarray:
  """Votes of S samples like the pilot's: a draw from every output's posterior predictive.

  The prior is the beta distribution under which all the pilot's votes are likeliest.
  """
  histogram = np.bincount(votes.ravel(), minlength=num_pilot + 1)
  k = np.arange(num_pilot + 1)

  def surprise(log_prior: np.ndarray) -> float:
    a, b = np.exp(log_prior)
    likelihood = scipy.special.betaln(k + a, num_pilot - k + b) - scipy.special.betaln(a, b)
    return -float(histogram @ likelihood) / max(votes.size, 1)

  a, b = np.exp(scipy.optimize.minimize(surprise, [0.0, -1.0], bounds=[(-7, 7)] * 2).x)
  rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
  return rng.binomial(num_samples, rng.beta(votes + a, num_pilot - votes + b))
