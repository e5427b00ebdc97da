r"""Certified mean IoU: how good a segmentation stays under one perturbation of the image (host).

A pixel that abstains, or that the adversary makes fall, may become any class, or abstain; all
others keep their prediction y. Pixels whose label l is void count nowhere. With :math:`n_k` pixels
of label k, and what the attacked model predicts,

.. math:: \mathrm{IoU}_k = \frac{u_k}{v_k}, \quad u_k = \#\{l = k, \text{predicted } k\}, \quad
  v_k = n_k + \#\{l \ne k, \text{predicted } k\} .

An abstaining pixel is no true positive of its label, and as a false positive of any *other* class
it counts against that one: the smoothed model has some class there, and votes that left it open at
the clean input may name it at another one.

The mean is over the classes of the truth. A class that the truth lacks has an IoU of 0 as soon as
one pixel is taken for it, and an adversary who makes one pixel of each such class fall would divide
the mean over all predicted classes at little cost; `metrics.mean_iou` counts such classes as 0
where they are predicted, and may therefore be smaller even on the clean image.
"""

from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from lrs_jax import collective
from lrs_jax.certificates import BaseCertificates
from lrs_jax.collective import CollectiveCertificate


class ClassIoU(NamedTuple):
  """Lower bounds on the IoU of every class of the truth, and on their mean."""

  classes: np.ndarray  # int64 [K'], the classes of the truth
  sizes: np.ndarray  # int64 [K'], n_k
  iou: np.ndarray  # float64 [B, K'], rounded down
  mean_iou: np.ndarray  # float64 [B], rounded down; NaN if every pixel is void
  hits: tuple[CollectiveCertificate, ...]  # [K'], targets: label and prediction are k
  rejections: tuple[CollectiveCertificate, ...]  # [K'], targets: neither label nor prediction is k
  true_positives: np.ndarray  # int64 [B, K'], at least
  union: np.ndarray  # int64 [B, K'], at most


def per_class(
  base: BaseCertificates,
  truth: ArrayLike,
  budgets: ArrayLike,
  *,
  num_classes: int,
  **options: Any,
) -> ClassIoU:
  r"""Lower bounds on every class's IoU under its own worst perturbation (host).

  .. math:: \mathrm{IoU}_k \ge \frac{C_k}{n_k + M_k - C'_k}

  with :math:`C_k` certified where the targets are l = y = k: so many stay true positives;
  :math:`M_k` pixels of other labels, and :math:`C'_k` certified where the targets are
  :math:`l \ne k, y \ne k`: so many of them stay no false positives. Both certificates hold for all
  perturbations within the budget, so each bound does, and all of them together; that the same
  perturbation cannot be the worst for every class is left to `jointly`. If `base.forfeit` bounds
  may fail, that many are taken from both counts.

  Args:
    base: base certificates of N pixels; eta <= 0 abstains.
    truth: int [N], labels; outside [0, K) is void.
    budgets: [B] or [B, A], as `collective.certify` takes them.
    num_classes: K.
    **options: keywords for `collective.certify`.

  Returns:
    `ClassIoU`.

  Raises:
    ValueError: truth that is not of the shape [N].

  Example:
    >>> weights, groups = np.array([[[1.0]]]), np.zeros(5, int)
    >>> eta, labels = np.array([1.0, 9.0, 9.0, 9.0, 0.0]), np.array([0, 0, 0, 1, 1])
    >>> base = BaseCertificates(weights, groups, eta, labels, labels)
    >>> certified = per_class(base, [0, 0, 0, 1, 1], [0.0, 2.0], num_classes=3)
    >>> certified.iou.round(3), certified.mean_iou.round(3)
    (array([[0.75 , 0.5  ],
           [0.5  , 0.333]]), array([0.625, 0.417]))

  References:
    Schuchardt et al. 2023 (arXiv 2210.16140), sections 4 and 5, for the certified counts.
  """
  truth = _checked(base, truth)
  classes, sizes = np.unique(truth[(truth >= 0) & (truth < num_classes)], return_counts=True)
  known = np.isin(truth, classes)
  hits, rejections = (
    tuple(
      collective.certify(base.weights, base.groups, base.eta, budgets, targets=targets, **options)
      for targets in targets_of_all
    )
    for targets_of_all in _targets(truth, base.labels, classes, known)
  )
  return _per_class(classes, sizes, hits, rejections, base.forfeit, len(np.asarray(budgets)))


def _targets(
  truth: np.ndarray, labels: np.ndarray, classes: np.ndarray, known: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
  """Pixels that are hits, and rejections, of every class: bool [N] each."""
  hits = [(truth == k) & (labels == k) for k in classes]
  return hits, [known & (truth != k) & (labels != k) for k in classes]


def _per_class(
  classes: np.ndarray,
  sizes: np.ndarray,
  hits: tuple[CollectiveCertificate, ...],
  rejections: tuple[CollectiveCertificate, ...],
  forfeit: int,
  num_budgets: int,
) -> ClassIoU:
  shape = num_budgets, classes.size
  kept, spared = (
    np.array([c.certified for c in certificates], np.int64).reshape(shape[::-1]).T
    for certificates in (hits, rejections)
  )
  kept = np.maximum(kept - forfeit, 0)
  union = sizes.sum() - np.maximum(spared - forfeit, 0)
  iou = np.where(kept == union, 1.0, np.nextafter(kept / union, 0.0))
  down = 1 - 2.0**-52 * (classes.size + 1)
  mean = iou.sum(axis=1) / (classes.size or np.nan) * down
  return ClassIoU(classes, sizes, iou, mean, hits, rejections, kept, union)


def _checked(base: BaseCertificates, truth: ArrayLike) -> np.ndarray:
  truth = np.asarray(truth)
  if truth.shape != base.eta.shape or (truth.size and truth.dtype.kind not in "iu"):
    raise ValueError(
      f"`truth` must be int [N] of the shape of `base.eta`, {base.eta.shape}, but it is "
      f"{truth.dtype} of shape {truth.shape}."
    )
  return truth


def verify(
  base: BaseCertificates,
  truth: ArrayLike,
  certified: ClassIoU,
  *,
  num_classes: int,
  exact: bool = False,
) -> None:
  """Proves the bounds of `per_class` again, from base certificates and truth, or raises.

  Against which budgets, caps and integrality they hold is what their certificates say.

  Args:
    base: base certificates.
    truth: int [N].
    certified: from `per_class`.
    num_classes: K.
    exact: the witnesses in rational arithmetic, see `collective.verify`.

  Raises:
    ValueError: naming what does not follow.
  """
  truth = _checked(base, truth)
  known = (truth >= 0) & (truth < num_classes)
  classes, sizes = np.unique(truth[known], return_counts=True)
  budgets = None
  for name, targets_of_all, found in zip(
    ("hits", "rejections"),
    _targets(truth, base.labels, classes, known),
    (certified.hits, certified.rejections),
    strict=True,
  ):
    if len(found) != classes.size:
      raise ValueError(f"`{name}` must hold a certificate for each of {classes.size} classes.")
    for k, targets, certificate in zip(classes, targets_of_all, found, strict=True):
      budgets = certificate.budgets if budgets is None else budgets
      if not np.array_equal(certificate.targets, targets):
        raise ValueError(f"the targets of `{name}` are not those of class {k}.")
      if not np.array_equal(certificate.budgets, budgets):
        raise ValueError(f"the budgets of `{name}` are not the same for all classes.")
      collective.verify(base.weights, base.groups, base.eta, certificate, exact=exact)
  again = _per_class(
    classes, sizes, certified.hits, certified.rejections, base.forfeit, len(certified.mean_iou)
  )
  for name in ("classes", "sizes", "true_positives", "union", "iou", "mean_iou"):
    if not np.array_equal(getattr(certified, name), getattr(again, name), equal_nan=True):
      raise ValueError(f"`{name}` does not follow from the certificates.")
