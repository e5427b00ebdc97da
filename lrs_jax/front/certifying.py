"""From a model and an input to a certificate in one call: guards, votes, bounds, proof."""

from typing import Any, Unpack

import jax
from jax.sharding import Mesh
from jax.typing import ArrayLike

from lrs_jax import sampling
from lrs_jax.cells import views
from lrs_jax.cells.views import View
from lrs_jax.errors import NotLogitsError
from lrs_jax.front import proving, steps, voters
from lrs_jax.front.certified import Certified
from lrs_jax.noise import SmoothingDistribution, as_input
from lrs_jax.sampling import Apply, Windows, guards


class DeviceOptions(steps.Options, total=False):
  """What `certify_segmentation` hands on to `certify`."""

  chunk_size: int | None
  mesh: Mesh | None


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
  until: tuple[float, float] | None = None,
  fields: steps.Fields | None = None,
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

  survive every perturbation of radius :math:`\varepsilon`, or as the method bounds that. It is
  `sampling.votes`, `certificates.from_votes` (for Gaussian noise `margins.from_margins`) and
  `collective.certify` one after the other. Groups with the same noise share their passes through
  the model.

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
    k_fwer: part of the base certificates, in [0, 1), that may be false and are given up, so that
      the others reach farther (`corrections.k_fwer`).
    method: "naive", "lp", "envelope" or "milp", see `collective.certify`.
    time_limit: seconds per radius, for the collective certificate.
    targets: bool, of N: the outputs to count, such as those that are not void; all if None.
    truth: int, of N: count outputs only while they are right as well, which makes `share` the
      certified accuracy. Labels outside [0, K) are void and not counted.
    until: (share, radius), to stop as soon as such a part of the counted outputs is certified at a
      radius, at 1/8, 1/4 or 1/2 of the samples; all looks share alpha, each has a quarter of it.
    fields: what is drawn, if `noise` says what groups of a limited view see of it (`noise.seen`):
      K noise fields, and int, of N: the field of every output. A pass per sample and field.
    windows: how the model evaluates the window that a group, or a field, needs: `sampling.Windows`.
    chunk_size: samples per device that are evaluated at once; chosen from x's size if None.
    mesh: one-dimensional device mesh to spread the samples over; all devices if None.
    check: ask the model first, by `guards.check_model`. Leave that out for models that passed it.

  Raises:
    ValueError: what does not fit together, and what `guards.check_model` and `sampling.votes` find
      in the model and its input, each by the name that it has in `lrs_jax.errors`.

  Warns:
    UserWarning: what `guards.check_model` finds odd; too few samples to certify anything.

  Example:
    >>> import numpy as np
    >>> from lrs_jax import noise
    >>> apply = lambda params, x: jax.numpy.stack([x, params - x], axis=-1)
    >>> x, gaussian = np.asarray([0.0, 0.5, 2.0], np.float32), noise.gaussian([[0.5]], [0, 0, 0])
    >>> certify(jax.random.key(0), apply, 1.0, x, gaussian, [0, 0, 0], [0.0, 0.5, 2.0])
    3 outputs, 1 abstain
    l2 radius              0     0.5      2
    certified              2       1      0
    share of outputs  66.6 %  33.3 %  0.0 %
    with probability 0.99; 1000 samples, 100 to select; gaussian noise; envelope

  References: Schuchardt et al. 2023 (arXiv 2210.16140), sections 4 and 5.
  """
  voter = voters.in_jax(
    apply, params, as_input(x), chunk_size=chunk_size, mesh=mesh, windows=windows
  )
  return proving.certified(
    key,
    voter,
    noise,
    groups,
    radii,
    num_samples=num_samples,
    selection_samples=selection_samples,
    alpha=alpha,
    k_fwer=k_fwer,
    method=method,
    time_limit=time_limit,
    targets=targets,
    truth=truth,
    until=until,
    fields=fields,
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
  colors: tuple[int, int] | None = None,
  view: View | int | None = None,
  block: int | None = None,
  step: float | None = None,
  radii: ArrayLike | None = None,
  windows: Windows | None = None,
  check: bool = True,
  **options: Unpack[DeviceOptions],
) -> Certified:
  r"""Certifies how many pixels of a segmentation one perturbation of the image leaves as they are.

  Under Gaussian noise, against a perturbation :math:`\|\delta\|_2 \le \varepsilon`. Fields of
  noise, each a pass per sample for all outputs that have it:

  - isotropic (`std` alone): one field;
  - localized (`std_max` and `grid`): a field for every block of the grid, with `std` in the block
    itself, `std_max` in the farthest one, linear in between by Chebyshev distance (Schuchardt et
    al. 2023);
  - of a few `colors`, between the two: see there.

  With a `view`, an adversary must pay where an output looks: groups g are small blocks of outputs,
  which see R(g), and in a cell c with the noise :math:`\sigma_{k(g),c}` of the group's field

  .. math:: W_{g,c} = \sigma_{k(g),c}^{-2} \text{ if } R(g) \text{ meets } c \text{, else } 0 .

  That takes no pass more: such an output is a function of the noisy pixels in its view, whose law
  is as if all others had been hidden. It holds only if no output sees farther; `check_view` tests
  that before, and nothing but the architecture, or `sampling.tiled`, proves it.

  Args:
    key: typed key.
    apply: pure function (params, image) -> logits [H, W, K], any noisy image in.
    params: pytree of arrays, passed to `apply`.
    image: [H, W, channels], or [H, W], of a floating-point type.
    std: standard deviation of the noise, in the units of the image; what the model was trained on.
    std_max: that in the farthest block, for localized noise; None: isotropic.
    grid: (R, Q), blocks in a column and in a row, for localized noise.
    colors: a few fields for many blocks: (2, 2) colors blocks by whether row and column are even,
      and a field has `std` in the blocks of its color and `std_max` in all others.
    view: what every pixel sees, `cells.views.View` such as `folded_unet.view`; or r, if it sees no
      farther than r rows and columns; None: the whole image.
    block: pixels of a block of outputs, in rows and columns, where a view is given; None: as few as
      is feasible. Outputs of a block are thought to see what one of them sees.
    step: of the grid that the image lies on, 1/255 for 8 bits, for exact noise (`noise.on_grid`):
      against images on that grid, and without float32 standing for real numbers; None: as floats.
    radii: [B], l2 norms in the units of the image; None: up to where nothing can be certified.
    windows: for localized noise, a window for every block of the grid.
    check: ask the model first, also by `sampling.check_view`. Leave that out for one that passed.
    **options: `num_samples`, `selection_samples`, `alpha`, `k_fwer`, `until`, `method`,
      `time_limit`, `targets` and `truth` [H, W], `chunk_size` and `mesh`, as for `certify`.

  Raises:
    FartherViewError: some output sees farther than `view`.
    ValueError: as for `certify`, whose warnings may follow, too; noise, grid, view and windows that
      do not go together.

  Example:
    >>> import numpy as np
    >>> apply = lambda params, image: jax.numpy.stack([image, params - image], axis=-1)
    >>> image = (np.indices((32, 32)).sum(axis=0) % 2).astype(np.float32)
    >>> asked = {"params": 1.0, "image": image, "std": 0.2, "radii": [0.2, 0.4]}
    >>> certify_segmentation(jax.random.key(0), apply, **asked).certified
    array([1024,  427])
    >>> certify_segmentation(jax.random.key(0), apply, view=0, **asked).certified
    array([1024, 1023])

  References:
    Schuchardt et al. 2023 (arXiv 2210.16140), section 7; Schuchardt et al. 2021 (arXiv 2302.02829)
    for limited views.
  """
  image = steps.as_image(image)
  if windows is not None and std_max is None:
    raise ValueError(
      "`windows` are for localized noise: isotropic noise takes one pass for all outputs."
    )
  logits = guards.logits_of(apply, params, image)
  if len(logits.shape) != 3 or logits.shape[:2] != image.shape[:2]:
    raise NotLogitsError(
      f"`apply` must return logits [H, W, K] for every pixel of `image`, {image.shape}, but they "
      f"have shape {logits.shape}; `lrs_jax.certify` takes outputs of any shape."
    )
  view = None if view is None else views.as_view(view, image.shape[:2])
  drawn, field, noise, groups = steps.smoothed(
    image.shape, std, std_max, grid, colors, view, block, step
  )
  if view is not None and check:
    sampling.check_view(apply, params, image, view)
  asked = apply, params, image, noise, groups, radii
  fields = None if noise is drawn else (drawn, field)
  certified = certify(key, *asked, fields=fields, windows=windows, check=check, **options)
  return certified._replace(view=view)
