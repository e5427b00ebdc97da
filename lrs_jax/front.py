"""The front door: from a model and an input to a certificate in one call (host and device).

`certify` does what the floors below do one by one: guards, votes from two keys, base certificates,
the collective certificate. `certify_segmentation` makes the noise as well. `verify` goes back from
the certificate to the votes.
"""

import html
import math
import warnings
from collections.abc import Callable, Sequence
from decimal import ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from tqdm import tqdm

from lrs_jax import collective, keys, noise, sampling
from lrs_jax.cells import locality, partition
from lrs_jax.collective import CollectiveCertificate
from lrs_jax.confidence import certificates, corrections, planning
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.errors import NotLogitsError, TooFewSamplesWarning
from lrs_jax.noise import SmoothingDistribution
from lrs_jax.sampling import Apply, Votes, Windows, guards

if TYPE_CHECKING:
  from matplotlib.figure import Figure

BLOCK = 16
"""Rows and columns of pixels in a block, where a view is given and no grid."""

MAX_BLOCKS = 24
"""Blocks in a row, or in a column, of such a grid: in large images, blocks are larger."""


class Certified(NamedTuple):
  """At radius i, at least `certified[i]` outputs keep their label, whatever the perturbation is.

  That holds at all radii together with probability 1 - alpha. `print` and notebooks show a table,
  `plot` draws the curve, `lrs_jax.verify` goes through it from the votes on.
  """

  labels: np.ndarray  # int64 [N], the smoothed prediction; -1 abstains
  certified: np.ndarray  # int64 [B], counted outputs that keep their label
  radii: np.ndarray  # float64 [B], in the units of the input or entries; flips: [B, 2] counts
  base: BaseCertificates  # of every output on its own
  proof: CollectiveCertificate
  selection: Votes  # int64 [N, K] and S, the votes that chose the labels
  estimation: Votes  # int64 [N, K] and S, the votes that bound their probabilities
  noise: SmoothingDistribution  # as it was drawn
  alpha: float  # joint error probability
  k_fwer: float  # part of the base certificates that may be false
  shape: tuple[int, ...]  # of the outputs: N is its product
  counted: np.ndarray  # bool [N], outputs of which `certified` counts some
  truth: np.ndarray | None  # int64 [N]: if given, only outputs with this label are certified
  view: int | None  # pixels that an output sees at most, where the certificate counts on it

  @property
  def share(self) -> np.ndarray:
    """Part of the counted outputs that is certified, float64 [B]: with truth, certified accuracy.

    0 where no output is counted.
    """
    return self.certified / max(int(self.counted.sum()), 1)

  def plot(self) -> "Figure":
    """Draws the certified share against the radius; of flips, one curve per number of deletions.

    Returns:
      A Matplotlib figure; `figure.savefig(path)` writes it.
    """
    from lrs_jax.evaluation import plots  # Matplotlib is heavy

    what = _what(self)
    if self.radii.ndim == 1:
      order = np.argsort(self.radii, kind="stable")
      radii, curves = self.radii[order], {self.proof.method: self.share[order]}
    else:
      radii, curves = np.unique(self.radii[:, 0]), {}
      for deletions in np.unique(self.radii[:, 1]):
        beyond = (self.radii[:, 0] >= radii[:, None]) & (self.radii[:, 1] >= deletions)
        share = np.where(beyond, self.share, 0.0).max(axis=1, initial=0.0)
        curves[f"{self.proof.method}, {deletions:g} deletions"] = share
    return plots.curves_figure(
      radii,
      curves,
      xlabel=_unit(self) if self.radii.ndim == 1 else "additions",
      ylabel=what,
      title=f"{what}, with probability {_confidence(self)}",
      whole=self.noise.p == 0,
    )

  def __str__(self) -> str:
    title, rows, notes = _table(self)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
      "  ".join(
        [row[0].ljust(widths[0]), *(x.rjust(w) for x, w in zip(row[1:], widths[1:], strict=True))]
      )
      for row in rows
    ]
    return "\n".join([title, *lines, *notes])

  def __repr__(self) -> str:
    return str(self)

  def _repr_html_(self) -> str:
    title, rows, notes = _table(self)
    cells = "".join(
      "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows
    )
    below = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return f"<p><b>{html.escape(title)}</b></p><table>{cells}</table>{below}"


def certify(
  key: jax.Array,
  apply: Apply,
  params: Any,
  x: ArrayLike,
  noise: SmoothingDistribution,
  groups: ArrayLike,
  radii: ArrayLike | None = None,
  *,
  num_samples: int = 1000,
  selection_samples: int = 100,
  alpha: float = 0.01,
  k_fwer: float = 0.0,
  method: str = "envelope",
  time_limit: float | None = None,
  targets: ArrayLike | None = None,
  truth: ArrayLike | None = None,
  windows: Windows | None = None,
  chunk_size: int | None = None,
  mesh: Mesh | None = None,
  check: bool = True,
) -> Certified:
  r"""Certifies how many outputs of a model one perturbation of its input leaves as they are.

  Votes under the noise select every output's label and, from another key, bound its probability;
  an output survives a perturbation of b in the cells while
  :math:`\sum_c W_{g,c} b_c < \eta_n`, and of the counted outputs T

  .. math:: \text{certified}(\varepsilon) = |T| - \Big\lfloor
    \max_{b \ge 0,\, \sum_c b_c \le \varepsilon^p} \#\{ n \in T :
    \textstyle\sum_c W_{g(n),c} b_c \ge \eta_n \} \Big\rfloor

  survive every perturbation of radius :math:`\varepsilon`, or as the method bounds that. It is the
  same as `sampling.votes`, `certificates.from_votes` and `collective.certify` one after the other.
  Groups with the same noise share their passes through the model.

  Args:
    key: typed key, `jax.random.key(seed)`; selection, estimation and guards get a key of their own.
    apply: pure function (params, x) -> logits [..., K] of one input; N is the product of the
      leading axes. Keep the same function from call to call, so that it is compiled once.
    params: pytree of arrays, passed to `apply`.
    x: one input, of a floating-point type.
    noise: smoothing distribution with G groups, on the scale of `x`.
    groups: int [N], or of the outputs' shape: the group of every output.
    radii: [B], in the units of x; entries for ablation; [B, 2] additions and deletions for flips.
      None: `planning.radii`, up to where nothing can be certified.
    num_samples: S, that bound the labels' probabilities.
    selection_samples: that select the labels.
    alpha: probability with which the certificate may be wrong, in (0, 1).
    k_fwer: part of the base certificates that may be false, in [0, 1): more of them reach farther,
      and so many are given up (`corrections.k_fwer`).
    method: "naive", "lp", "envelope" or "milp", see `collective.certify`.
    time_limit: seconds per radius, for the collective certificate.
    targets: bool, of N: the outputs to count, such as those that are not void; all if None.
    truth: int, of N: count outputs only while they are right as well, which makes `share` the
      certified accuracy. Labels outside [0, K) are void and not counted.
    windows: how the model evaluates the window that a group needs, see `sampling.Windows`.
    chunk_size: samples per device that are evaluated at once; chosen from x's size if None.
    mesh: one-dimensional device mesh to spread the samples over; all devices if None.
    check: ask the model first, by `guards.check_model`. Leave that out for models that passed it.

  Returns:
    `Certified`.

  Raises:
    ValueError: what does not fit together, and what `guards.check_model` and `sampling.votes` find
      in the model and its input, each by the name that it has in `lrs_jax.errors`.

  Warns:
    UserWarning: what `guards.check_model` finds odd; too few samples to certify anything.

  Example:
    >>> from lrs_jax import noise
    >>> apply = lambda params, x: jax.numpy.stack([x, params - x], axis=-1)
    >>> x, gaussian = np.asarray([0.0, 0.5, 2.0], np.float32), noise.gaussian([[0.5]], [0, 0, 0])
    >>> certify(jax.random.key(0), apply, 1.0, x, gaussian, [0, 0, 0], [0.0, 0.5, 2.0])
    3 outputs, 1 abstain
    l2 radius              0     0.5      2
    certified              2       1      0
    share of outputs  66.6 %  33.3 %  0.0 %
    with probability 0.99; 1000 samples, 100 to select; gaussian noise; envelope

  References:
    Schuchardt et al. 2023 (arXiv 2210.16140), sections 4 and 5.
  """
  return _certify(
    key,
    apply,
    params,
    x,
    noise,
    groups,
    radii,
    None,
    num_samples=num_samples,
    selection_samples=selection_samples,
    alpha=alpha,
    k_fwer=k_fwer,
    method=method,
    time_limit=time_limit,
    targets=targets,
    truth=truth,
    windows=windows,
    chunk_size=chunk_size,
    mesh=mesh,
    check=check,
  )


def certify_segmentation(
  key: jax.Array,
  apply: Apply,
  params: Any,
  image: ArrayLike,
  *,
  std: float = 0.3,
  std_max: float | None = None,
  grid: tuple[int, int] | None = None,
  view: int | None = None,
  radii: ArrayLike | None = None,
  num_samples: int = 1000,
  selection_samples: int = 100,
  alpha: float = 0.01,
  k_fwer: float = 0.0,
  method: str = "envelope",
  time_limit: float | None = None,
  targets: ArrayLike | None = None,
  truth: ArrayLike | None = None,
  windows: Windows | None = None,
  chunk_size: int | None = None,
  mesh: Mesh | None = None,
  check: bool = True,
) -> Certified:
  r"""Certifies how many pixels of a segmentation one perturbation of the image leaves as they are.

  Under Gaussian noise, against a perturbation :math:`\|\delta\|_2 \le \varepsilon`. Groups of
  outputs and cells of the image are the blocks of a grid:

  - isotropic (`std` alone): all blocks get one noise, one pass per sample;
  - localized (`std_max` and `grid`): a group gets `std` in its own block, `std_max` in the farthest
    one, linear in between by Chebyshev distance (Schuchardt et al. 2023); a pass per block.

  With a `view` of r pixels, an adversary must pay in the blocks that an output sees:

  .. math:: W_{g,c} = \sigma_{g,c}^{-2} \text{ if a pixel of block c is within } r \text{ rows and }
    r \text{ columns of one of block g, else } 0 .

  Such an output is a function of the noisy pixels within its view, whose law is as if all others
  had been hidden: the votes are those of a strictly local model. It holds only if no output sees
  farther; `sampling.check_view` tests that before, and nothing but the architecture proves it.

  Args:
    key: typed key.
    apply: pure function (params, image) -> logits [H, W, K], any noisy image in.
    params: pytree of arrays, passed to `apply`.
    image: [H, W, channels], or [H, W], of a floating-point type.
    std: standard deviation of the noise, in the units of the image; what the model was trained on.
    std_max: that in the farthest block, for localized noise; None: isotropic.
    grid: (R, Q), blocks in a column and in a row. If None, blocks of about 16x16 pixels where a
      view is given (larger ones in large images: at most 24x24 blocks), and one block otherwise; to
      be given for localized noise.
    view: r, in pixels; None: the whole image.
    radii: [B], l2 norms in the units of the image; None: up to where nothing can be certified.
    num_samples: as for `certify`, like all that follow.
    selection_samples: that select the labels.
    alpha: probability with which the certificate may be wrong.
    k_fwer: part of the base certificates that may be false.
    method: "naive", "lp", "envelope" or "milp".
    time_limit: seconds per radius.
    targets: bool [H, W], the outputs to count.
    truth: int [H, W], count outputs only while they are right.
    windows: for localized noise without a view, a window for every block of the grid.
    chunk_size: samples per device that are evaluated at once.
    mesh: one-dimensional device mesh.
    check: ask the model first. Leave that out for a model that passed, `sampling.check_view`
      included.

  Returns:
    `Certified`, with `shape` (H, W).

  Raises:
    FartherViewError: some output sees farther than `view`.
    ValueError: as for `certify`; noise, grid, view and windows that do not go together.

  Warns:
    UserWarning: as for `certify`.

  Example:
    >>> apply = lambda params, image: jax.numpy.stack([image, params - image], axis=-1)
    >>> image = (np.indices((32, 32)).sum(axis=0) % 2).astype(np.float32)
    >>> all_seen, one_seen = (
    ...   certify_segmentation(
    ...     jax.random.key(0), apply, 1.0, image, std=0.2, view=view, radii=[0.2, 0.4]
    ...   )
    ...   for view in (None, 0)
    ... )
    >>> all_seen.certified, one_seen.certified
    (array([1024,  427]), array([1024,  863]))

  References:
    Schuchardt et al. 2023 (arXiv 2210.16140), section 7; Schuchardt et al. 2021 (arXiv 2302.02829)
    for limited views.
  """
  image = noise.as_input(image)
  if image.ndim not in (2, 3):
    raise ValueError(
      f"`image` must have shape [H, W, channels] or [H, W], but its shape is {image.shape}."
    )
  if windows is not None and (view is not None or std_max is None):
    raise ValueError(
      "`windows` are for localized noise without a `view`: isotropic noise takes one pass for all "
      "outputs."
    )
  logits = guards.logits_of(apply, params, image)
  if len(logits.shape) != 3 or logits.shape[:2] != image.shape[:2]:
    raise NotLogitsError(
      f"`apply` must return logits [H, W, K] for every pixel of `image`, {image.shape}, but they "
      f"have shape {logits.shape}; `lrs_jax.certify` takes outputs of any shape."
    )
  height, width = image.shape[:2]
  grid = _grid((height, width), grid, std_max, view)
  blocks = partition.image_grid((height, width), grid)
  fraction = locality.fraction_of_grid(locality.chebyshev_distances(grid))
  scale = locality.interpolate_std(fraction, std, std if std_max is None else std_max)
  cells = blocks.reshape(blocks.shape + (1,) * (image.ndim - 2))
  if view is not None and check:
    sampling.check_view(apply, params, image, view)
  return _certify(
    key,
    apply,
    params,
    image,
    noise.gaussian(scale, cells),
    blocks,
    radii,
    view,
    num_samples=num_samples,
    selection_samples=selection_samples,
    alpha=alpha,
    k_fwer=k_fwer,
    method=method,
    time_limit=time_limit,
    targets=targets,
    truth=truth,
    windows=windows,
    chunk_size=chunk_size,
    mesh=mesh,
    check=check,
  )


def verify(certified: Certified, *, exact: bool = False) -> None:
  """Goes through a certificate again, from the votes on, or raises.

  Made again are the base certificates from the votes, the noise, alpha and the view, to the last
  bit (the same library versions must do it); labels, budgets and targets; and the proof, by
  `collective.verify`, without a solver. Taken as stated are the votes themselves, that they are of
  this model and input, and that no output sees farther than the view.

  Args:
    certified: from `certify` or `certify_segmentation`.
    exact: evaluate the proof in rational arithmetic throughout.

  Raises:
    ValueError: naming what does not follow, and from what.

  Example:
    >>> from lrs_jax import noise
    >>> apply = lambda params, x: jax.numpy.stack([x, params - x], axis=-1)
    >>> x, gaussian = np.asarray([0.0, 2.0], np.float32), noise.gaussian([[0.5]], [0, 0])
    >>> certified = certify(jax.random.key(0), apply, 1.0, x, gaussian, [0, 0], [0.5])
    >>> verify(certified)
    >>> verify(certified._replace(certified=certified.certified + 1))
    Traceback (most recent call last):
    ...
    ValueError: `certified` does not follow from `proof`.
  """
  base, proof = certified.base, certified.proof
  num_outputs = math.prod(certified.shape)
  _follows("base.groups", np.shape(base.groups), (num_outputs,), "the shape of the outputs")
  if certificates.same_samples(certified.selection.counts, certified.estimation.counts):
    raise ValueError("`selection` and `estimation` are the same votes: one key drew both.")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", TooFewSamplesWarning)  # was told when it was made
    again = _base_certificates(
      certified.noise,
      base.groups,
      certified.view,
      certified.shape,
      certified.selection,
      certified.estimation,
      alpha=certified.alpha,
      k_fwer=certified.k_fwer,
    )
  for name, value in again._asdict().items():
    _follows(f"base.{name}", getattr(base, name), value, "the votes, `noise`, `alpha` and `view`")
  _follows("labels", certified.labels, _labels(again), "`base`")
  num_classes = certified.estimation.counts.shape[1]
  targets = _targets(certified.counted, certified.truth, again, num_classes)
  counted = _counted(certified.counted, certified.truth, num_outputs, num_classes)
  _follows("counted", certified.counted, counted, "`truth`, which says that outputs are void")
  _follows("proof.targets", proof.targets, targets, "`counted`, `truth` and `base`")
  _follows("proof.forfeit", proof.forfeit, again.forfeit, "`k_fwer`")
  _follows("proof.integral", proof.integral, certified.noise.p == 0, "`noise`")
  _follows("proof.caps", proof.caps is None, True, "the adversary, who has none")
  budgets, radii = np.asarray(proof.budgets), np.asarray(certified.radii)
  if radii.ndim == 1:
    budgets = budgets[:, 0] if budgets.shape == (radii.size, 1) else budgets
  _follows("proof.budgets", budgets.shape, radii.shape, "`radii`, in their number")
  power = max(certified.noise.p, 1)
  for budget, radius in zip(budgets.ravel().tolist(), radii.ravel().tolist(), strict=True):
    finite = radius >= 0 and math.isfinite(budget)
    if not (finite and Fraction(budget) >= Fraction(radius) ** power):
      raise ValueError(
        f"`proof.budgets` does not follow from `radii`: {budget} is no budget for radius {radius}."
      )
  collective.verify(base.weights, base.groups, base.eta, proof, exact=exact)
  _follows("certified", certified.certified, proof.certified, "`proof`")


def _certify(
  key: jax.Array,
  apply: Apply,
  params: Any,
  x: ArrayLike,
  distribution: SmoothingDistribution,
  groups: ArrayLike,
  radii: ArrayLike | None,
  view: int | None,
  *,
  num_samples: int,
  selection_samples: int,
  alpha: float,
  k_fwer: float,
  method: str,
  time_limit: float | None,
  targets: ArrayLike | None,
  truth: ArrayLike | None,
  windows: Windows | None,
  chunk_size: int | None,
  mesh: Mesh | None,
  check: bool,
) -> Certified:
  """`certify`, for outputs that see as far as `view`."""
  x, groups = noise.as_input(x), np.asarray(groups).reshape(-1)
  logits = guards.logits_of(apply, params, x)
  *shape, num_classes = logits.shape
  num_outputs = math.prod(shape)
  counted = _counted(targets, truth, num_outputs, num_classes)
  truth = None if truth is None else np.asarray(truth, np.int64).reshape(-1)
  levels = _levels(alpha, k_fwer, num_outputs)  # before sampling: alpha may be out of range
  if radii is not None:
    radii = _checked_radii(radii, distribution)
  selection_key, estimation_key = keys.tagged(key, "selection"), keys.tagged(key, "estimation")
  guards.check_keys(selection_key, estimation_key)
  if check:
    guards.check_model(
      keys.tagged(key, "guards"), apply, params, x, distribution, groups, num_classes=num_classes
    )
  fields, field_of_group = (
    _fields(distribution)
    if windows is None
    else (distribution, np.arange(distribution.weights.shape[1]))
  )
  _check_groups(groups, num_outputs, field_of_group.size)

  def count(key: jax.Array, num_samples: int, name: str) -> Votes:
    return _count(
      lambda first, number: sampling.votes(
        key,
        apply,
        params,
        x,
        fields,
        field_of_group[groups],
        number,
        num_classes=num_classes,
        first_sample=first,
        windows=windows,
        chunk_size=chunk_size,
        mesh=mesh,
      ),
      num_samples,
      (chunk_size or sampling.default_chunk_size(x.size))
      * (jax.device_count() if mesh is None else mesh.size),
      name,
    )

  selection = count(selection_key, selection_samples, "selection")
  estimation = count(estimation_key, num_samples, "estimation")
  base = _base_certificates(
    distribution, groups, view, tuple(shape), selection, estimation, alpha=alpha, k_fwer=k_fwer
  )
  if radii is None:
    seen = _seen(distribution, groups, view, tuple(shape))
    sharing = max(num_outputs // (levels.forfeit + 1), 1)  # as if so many shared alpha
    radii = planning.radii([seen], num_samples, num_outputs=sharing, alpha=alpha)
  proof = collective.certify(
    base.weights,
    base.groups,
    base.eta,
    noise.budgets_from_radii(radii, distribution.p),
    method=method,
    targets=_targets(counted, truth, base, num_classes),
    integral=distribution.p == 0,
    time_limit=time_limit,
    forfeit=base.forfeit,
  )
  return Certified(
    labels=_labels(base),
    certified=proof.certified,
    radii=radii,
    base=base,
    proof=proof,
    selection=selection,
    estimation=estimation,
    noise=distribution,
    alpha=alpha,
    k_fwer=k_fwer,
    shape=tuple(shape),
    counted=counted,
    truth=truth,
    view=view,
  )


def _grid(
  shape: tuple[int, int],
  grid: tuple[int, int] | None,
  std_max: float | None,
  view: int | None,
) -> tuple[int, int]:
  if grid is not None:
    return grid
  if std_max is not None:
    raise ValueError(
      "`std_max` is for localized noise, which needs a `grid` of (R, Q) blocks as well, such as "
      "(3, 5): every block takes a pass per sample."
    )
  if view is None:
    return 1, 1
  rows, columns = (min(-(-size // BLOCK), MAX_BLOCKS) for size in shape)
  return rows, columns


def _seen(
  distribution: SmoothingDistribution, groups: np.ndarray, view: int | None, shape: Sequence[int]
) -> SmoothingDistribution:
  """The noise as outputs of a limited view see it: cells that no output of a group sees, hidden."""
  if view is None:
    return distribution
  cells = np.asarray(distribution.cells).reshape(shape)
  distances = partition.pixel_distances(np.asarray(groups).reshape(shape), cells)
  return noise.gaussian(
    locality.hide_beyond(distribution.scale, distances, view), distribution.cells
  )


def _fields(distribution: SmoothingDistribution) -> tuple[SmoothingDistribution, np.ndarray]:
  """One group for all that have the same noise, and which one every group has become, int [G]."""
  leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(distribution.levels)]
  rows = np.concatenate([leaf.astype(np.float64) for leaf in leaves], axis=1)
  _, first, field_of_group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
  fields = distribution._replace(
    parameters=tuple(level[first] for level in distribution.parameters),
    levels=jax.tree.map(lambda level: np.asarray(level)[first], distribution.levels),
    weights=distribution.weights[:, first],
  )
  return fields, field_of_group.reshape(-1)


def _check_groups(groups: np.ndarray, num_outputs: int, num_groups: int) -> None:
  if groups.shape != (num_outputs,) or groups.dtype.kind not in "iu":
    raise ValueError(
      f"`groups` must be int [N] = ({num_outputs},), but is {groups.dtype} of shape {groups.shape}."
    )
  if groups.size and not 0 <= groups.min() <= groups.max() < num_groups:
    raise ValueError(
      f"`groups` must lie in [0, G) with G = {num_groups} groups in `noise`, but they range from "
      f"{groups.min()} to {groups.max()}."
    )


def _count(votes: Callable[[int, int], Votes], num_samples: int, stride: int, name: str) -> Votes:
  """Votes of S samples, in pieces of whole chunks so that a bar can show how far it is."""
  piece = max(-(-num_samples // (20 * stride)), 1) * stride
  total = None
  with tqdm(total=num_samples, desc=name, leave=False, disable=None, delay=1) as bar:
    for first in range(0, max(num_samples, 1), piece):
      number = min(piece, num_samples - first)
      found = votes(first, number)
      counts = np.asarray(found.counts, np.int64)
      total = counts if total is None else total + counts
      bar.update(number)
  return Votes(total, num_samples)


def _levels(alpha: float, k_fwer: float, num_outputs: int) -> corrections.Levels:
  if not 0 <= k_fwer < 1:
    raise ValueError(f"`k_fwer` must be a part of the outputs, in [0, 1), but it is {k_fwer}.")
  return corrections.k_fwer(alpha, num_outputs, 1 + math.floor(k_fwer * num_outputs))


def _base_certificates(
  distribution: SmoothingDistribution,
  groups: np.ndarray,
  view: int | None,
  shape: Sequence[int],
  selection: Votes,
  estimation: Votes,
  *,
  alpha: float,
  k_fwer: float,
) -> BaseCertificates:
  return certificates.from_votes(
    _seen(distribution, groups, view, shape),
    groups,
    selection.counts,
    estimation.counts,
    alpha=_levels(alpha, k_fwer, math.prod(shape)),
    num_samples=int(estimation.num_samples),
  )


def _labels(base: BaseCertificates) -> np.ndarray:
  return np.where(base.eta > 0, base.labels, -1)


def _counted(
  targets: ArrayLike | None, truth: ArrayLike | None, num_outputs: int, num_classes: int
) -> np.ndarray:
  counted = np.ones(num_outputs, bool) if targets is None else np.asarray(targets).reshape(-1)
  if counted.shape != (num_outputs,) or counted.dtype != bool:
    raise ValueError(
      f"`targets` must be bool [N] = ({num_outputs},), but is {counted.dtype} of shape "
      f"{counted.shape}."
    )
  if truth is None:
    return counted
  labels = np.asarray(truth).reshape(-1)
  if labels.shape != (num_outputs,) or labels.dtype.kind not in "iu":
    raise ValueError(
      f"`truth` must be int [N] = ({num_outputs},), but is {labels.dtype} of shape {labels.shape}."
    )
  return counted & (labels >= 0) & (labels < num_classes)


def _targets(
  counted: np.ndarray, truth: np.ndarray | None, base: BaseCertificates, num_classes: int
) -> np.ndarray:
  return counted if truth is None else counted & (base.labels == truth)


def _checked_radii(radii: ArrayLike, distribution: SmoothingDistribution) -> np.ndarray:
  kinds = len(distribution.weights)
  radii = np.asarray(radii, np.float64)
  if kinds == 1:
    radii = np.atleast_1d(radii)
  wanted = (radii.shape[0] if radii.ndim else 0,) + (() if kinds == 1 else (kinds,))
  if radii.shape != wanted:
    form = "[B]" if kinds == 1 else f"[B, {kinds}], a budget for each kind of perturbation"
    raise ValueError(f"`radii` must have shape {form}, but their shape is {radii.shape}.")
  if not ((radii >= 0) & np.isfinite(radii)).all():
    raise ValueError(f"`radii` must be finite and at least 0, but they are {radii}.")
  return radii


def _follows(name: str, stored: Any, again: Any, source: str) -> None:
  if (stored is None) != (again is None) or not np.array_equal(stored, again):
    raise ValueError(f"`{name}` does not follow from {source}.")


# What a certificate shows of itself. Numbers are rounded down: they promise no more than is proven.


def _table(certified: Certified) -> tuple[str, list[list[str]], list[str]]:
  """Title, rows of equal length, and notes."""
  num_outputs, counted = certified.labels.size, int(certified.counted.sum())
  title = f"{num_outputs} outputs, {int((certified.labels < 0).sum())} abstain"
  if counted < num_outputs:
    title += f", {counted} counted"
  order = (
    np.argsort(certified.radii, kind="stable")
    if certified.radii.ndim == 1
    else np.lexsort(certified.radii.T[::-1])
  )
  shown = order[np.unique(np.linspace(0, len(order) - 1, 6).astype(int))] if len(order) else order
  rows = [
    [_unit(certified), *(_shown_radius(certified.radii[i]) for i in shown)],
    ["certified", *(str(int(certified.certified[i])) for i in shown)],
    [_what(certified), *(_percent(int(certified.certified[i]), counted) for i in shown)],
  ]
  samples = int(certified.estimation.num_samples), int(certified.selection.num_samples)
  notes = [
    f"with probability {_confidence(certified)}; {samples[0]} samples, {samples[1]} to select; "
    f"{_family(certified.noise)} noise; {certified.proof.method}"
  ]
  if certified.base.forfeit:
    notes.append(f"{certified.base.forfeit} base certificates may be false, and are given up")
  if certified.view is not None:
    notes.append(f"if no output sees farther than {certified.view} pixels")
  return title, rows, notes


def _family(distribution: SmoothingDistribution) -> str:
  return distribution.family.name


def _unit(certified: Certified) -> str:
  if certified.radii.ndim == 2:
    return "additions, deletions"
  return f"l{certified.noise.p} radius" if certified.noise.p else "changed entries"


def _what(certified: Certified) -> str:
  return "share of outputs" if certified.truth is None else "certified accuracy"


def _confidence(certified: Certified) -> str:
  return _down(Decimal(1) - Decimal(repr(float(certified.alpha))))


def _shown_radius(radius: np.ndarray) -> str:
  return ", ".join(_down(Decimal(repr(float(part)))) for part in np.atleast_1d(radius))


def _down(number: Decimal) -> str:
  """Four digits, rounded down, without an exponent."""
  return f"{Context(prec=4, rounding=ROUND_FLOOR).plus(number).normalize():f}"


def _percent(part: int, whole: int) -> str:
  tenths = 1000 * part // whole if whole else 0
  return f"{tenths // 10}.{tenths % 10} %"
