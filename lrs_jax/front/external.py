"""The front door for models of other frameworks: PyTorch, ONNX, a server that is asked (host)."""

from typing import Unpack

import jax
from jax.typing import ArrayLike

from lrs_jax import sampling
from lrs_jax.cells import views
from lrs_jax.cells.views import View
from lrs_jax.errors import NotLogitsError
from lrs_jax.front import proving, steps, voters
from lrs_jax.front.certified import Certified
from lrs_jax.noise import SmoothingDistribution, as_input
from lrs_jax.sampling import Predict


def certify_external(
  key: jax.Array,
  predict: Predict,
  x: ArrayLike,
  noise: SmoothingDistribution,
  groups: ArrayLike,
  radii: ArrayLike | None = None,
  *,
  num_classes: int | None = None,
  batch_size: int | None = None,
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
  check: bool = True,
) -> Certified:
  r"""Certifies a model that is not in JAX, as `lrs_jax.certify` certifies one that is.

  The votes are those of `sampling.external_votes`: `predict` is called with batches of noisy
  inputs, as NumPy arrays, and says what it makes of each. All that follows from the votes is the
  same, and so is the noise: the model in JAX, and outside of it, is shown the same inputs.

  A certificate holds for a model that is a function of one input: deterministic, in evaluation
  mode, without statistics of the batch.

  Args:
    key: typed key, `jax.random.key(seed)`.
    predict: inputs `[B, *x.shape]`, of x's type -> logits [B, ..., K], the classes last, or labels
      [B, ...] of an integer type; what `np.asarray` takes. N is the product of the axes between.
    x: one input, of a floating-point type.
    noise: smoothing distribution with G groups, on the scale of `x`.
    groups: int [N], or of the outputs' shape: the group of every output.
    radii: [B], or [B, 2] for flips, as for `certify`; None: up to where nothing can be certified.
    num_classes: K; needed only where `predict` returns labels.
    batch_size: inputs per call, always the same; by default chosen from x's size.
    num_samples: S, that bound the labels' probabilities; a pass each for every field of noise.
    selection_samples: that select the labels.
    alpha: probability with which the certificate may be wrong, in (0, 1).
    k_fwer: part of the base certificates, in [0, 1), that may be false and are given up.
    method: "naive", "lp", "envelope" or "milp", see `collective.certify`.
    time_limit: seconds per radius, for the collective certificate.
    targets: bool, of N: the outputs to count; all if None.
    truth: int, of N: count outputs only while they are right as well.
    until: (share, radius), to stop as soon as such a part is certified at a radius.
    fields: what is drawn, if `noise` says what groups of a limited view see of it.
    check: ask the model first, by `sampling.check_predict`.

  Raises:
    ValueError: what does not fit together, and what `sampling.check_predict` and
      `sampling.external_votes` find, each by the name that it has in `lrs_jax.errors`.

  Warns:
    UserWarning: what `sampling.check_predict` finds odd; too few samples to certify anything.

  Example:
    >>> import numpy as np
    >>> from lrs_jax import noise
    >>> predict = lambda batch: (batch < 0.5).astype(int)  # labels
    >>> x, gaussian = np.asarray([0.0, 0.5, 2.0], np.float32), noise.gaussian([[0.5]], [0, 0, 0])
    >>> asked = predict, x, gaussian, [0, 0, 0], [0.0, 0.5, 2.0]
    >>> certify_external(jax.random.key(0), *asked, num_classes=2)
    3 outputs, 1 abstain
    l2 radius              0     0.5      2
    certified              2       1      0
    share of outputs  66.6 %  33.3 %  0.0 %
    with probability 0.99; 1000 samples, 100 to select; gaussian noise; envelope

  References: Schuchardt et al. 2023 (arXiv 2210.16140), sections 4 and 5.
  """
  voter = voters.of_batches(predict, as_input(x), num_classes=num_classes, batch_size=batch_size)
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


def certify_segmentation_external(
  key: jax.Array,
  predict: Predict,
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
  num_classes: int | None = None,
  batch_size: int | None = None,
  check: bool = True,
  **options: Unpack[steps.Options],
) -> Certified:
  r"""Certifies a segmentation network that is not in JAX, as `lrs_jax.certify_segmentation` does.

  Noise and views are those explained there: one pass per sample, and one per block or color of
  localized noise. `sampling.check_predict_view` tests a view before it is used, and
  `sampling.tiled_predict` gives one to any model.

  Args:
    key: typed key.
    predict: images [B, H, W, channels] -> logits [B, H, W, K], or labels [B, H, W] of an integer
      type, for any noisy images. Networks that want channels first: `np.moveaxis(images, -1, 1)`
      on the way in, `np.moveaxis(logits, 1, -1)` on the way out.
    image: [H, W, channels], or [H, W], of a floating-point type.
    std: standard deviation of the noise, in the units of the image; what the model was trained on.
    std_max: that in the farthest block, for localized noise; None: isotropic.
    grid: (R, Q), blocks in a column and in a row, for localized noise.
    colors: a few fields for many blocks, as for `certify_segmentation`.
    view: what every pixel sees; or r, if it sees no farther than r rows and columns; None: all.
    block: pixels of a block of outputs, where a view is given; None: as few as is feasible.
    step: of the grid that images lie on, for exact noise, as for `certify_segmentation`.
    radii: [B], l2 norms in the units of the image; None: up to where nothing can be certified.
    num_classes: K; needed only where `predict` returns labels.
    batch_size: images per call, always the same; by default chosen from the image's size.
    check: ask the model first, also by `sampling.check_predict_view`.
    **options: `num_samples`, `selection_samples`, `alpha`, `k_fwer`, `until`, `method`,
      `time_limit`, `targets` and `truth` [H, W], as for `certify_external`.

  Raises:
    FartherViewError: some output sees farther than `view`.
    ValueError: as for `certify_external`, whose warnings may follow, too; noise, grid and view that
      do not go together.

  Example:
    >>> import numpy as np
    >>> predict = lambda images: np.stack([images, 1 - images], axis=-1)
    >>> image = (np.indices((32, 32)).sum(axis=0) % 2).astype(np.float32)
    >>> asked = {"image": image, "std": 0.2, "radii": [0.2, 0.4]}
    >>> certify_segmentation_external(jax.random.key(0), predict, **asked).certified
    array([1024,  427])
    >>> certify_segmentation_external(jax.random.key(0), predict, view=0, **asked).certified
    array([1024, 1023])

  References:
    Schuchardt et al. 2023 (arXiv 2210.16140), section 7; Schuchardt et al. 2021 (arXiv 2302.02829)
    for limited views.
  """
  image = steps.as_image(image)
  voter = voters.of_batches(predict, image, num_classes=num_classes, batch_size=batch_size)
  if voter.shape != image.shape[:2]:
    raise NotLogitsError(
      "`predict` must return logits [B, H, W, K], or labels [B, H, W] of an integer type, for "
      f"every pixel of `image`, {image.shape}, but its outputs have shape {voter.shape}: are the "
      "classes last? `lrs_jax.certify_external` takes outputs of any shape."
    )
  view = None if view is None else views.as_view(view, image.shape[:2])
  drawn, field, noise, groups = steps.smoothed(
    image.shape, std, std_max, grid, colors, view, block, step
  )
  if view is not None and check:
    sampling.check_predict_view(predict, image, view, batch_size=batch_size)
  fields = None if noise is drawn else (drawn, field)
  certified = certify_external(
    key,
    predict,
    image,
    noise,
    groups,
    radii,
    num_classes=voter.num_classes,
    batch_size=batch_size,
    fields=fields,
    check=check,
    **options,
  )
  return certified._replace(view=view)
