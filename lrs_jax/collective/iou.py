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

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from lrs_jax import collective
from lrs_jax.collective import CollectiveCertificate, slopes
from lrs_jax.collective.certificate import checked, typed
from lrs_jax.collective.methods import certify_prepared
from lrs_jax.collective.problem import prepare
from lrs_jax.confidence.certificates import BaseCertificates


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
  base: BaseCertificates, truth: ArrayLike, budgets: ArrayLike, *, num_classes: int, **options: Any
) -> ClassIoU:
  r"""Lower bounds on every class's IoU under its own worst perturbation (host).

  .. math:: \mathrm{IoU}_k \ge \frac{C_k}{n_k + M_k - C'_k}

  with :math:`C_k` certified where the targets are l = y = k: so many stay true positives;
  :math:`M_k` pixels of other labels, and :math:`C'_k` certified where the targets are
  :math:`l \ne k, y \ne k`: so many of them stay no false positives. Both certificates hold for all
  perturbations within the budget, so all bounds hold together; that one perturbation cannot be the
  worst for every class is left to `jointly`. Both certificates give up `base.forfeit` each.

  Args:
    base: base certificates of N pixels; eta <= 0 abstains.
    truth: int [N], labels; outside [0, K) is void.
    budgets: [B] or [B, A], as `collective.certify` takes them.
    num_classes: K.
    **options: keywords for `collective.certify`, but `targets`, `worth` and `forfeit`.

  Raises:
    ValueError: truth that is not of the shape [N], or an option that is set here.

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
  classes, sizes, wanted = _wanted(base, truth, num_classes)
  _refuse(options, "targets", "worth", "forfeit")
  if not np.ndim(budgets):
    raise ValueError(f"`budgets` must have shape [B] or [B, A], but it is {budgets!r}.")
  certified = _certifier(base)
  found = {
    name: tuple(certified(budgets, targets=targets, **options) for targets in of_all)
    for name, of_all in wanted.items()
  }
  return _per_class(classes, sizes, len(np.asarray(budgets)), **found)


def _wanted(
  base: BaseCertificates, truth: ArrayLike, num_classes: int
) -> tuple[np.ndarray, np.ndarray, dict[str, list[np.ndarray]]]:
  """The classes of the truth, their sizes, and the targets of `hits` and `rejections` for each."""
  truth, labels = _checked(base, truth), base.labels
  known = (truth >= 0) & (truth < num_classes)
  classes, sizes = np.unique(truth[known], return_counts=True)
  hits = [(truth == k) & (labels == k) for k in classes]
  rejections = [known & (truth != k) & (labels != k) for k in classes]
  return classes, sizes, {"hits": hits, "rejections": rejections}


def _certifier(base: BaseCertificates) -> Callable[..., CollectiveCertificate]:
  """(budgets, **options) -> a certificate of the base's outputs, which are sorted only once."""
  outputs = prepare(base.weights, base.groups, base.eta)
  return functools.partial(certify_prepared, outputs, forfeit=base.forfeit)


def _per_class(
  classes: np.ndarray,
  sizes: np.ndarray,
  num_budgets: int,
  hits: tuple[CollectiveCertificate, ...],
  rejections: tuple[CollectiveCertificate, ...],
) -> ClassIoU:
  kept, spared = (
    np.array([c.certified for c in of_all], np.int64).reshape(classes.size, num_budgets).T
    for of_all in (hits, rejections)
  )
  union = sizes.sum() - spared
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


def _refuse(options: dict[str, Any], *names: str) -> None:
  for name in names:
    if name in options:
      value = options[name]
      raise ValueError(f"`{name}` cannot be given, because it is set here; it is {value!r}.")


def verify(
  base: BaseCertificates,
  truth: ArrayLike,
  certified: ClassIoU,
  *,
  num_classes: int,
  exact: bool = False,
) -> None:
  """Proves the bounds of `per_class` again, or raises a `ValueError` that names what is not proven.

  Against which budgets, caps and integrality they hold is what their certificates say: all of them
  the same, so that the bounds hold together against one adversary. All forfeit `base.forfeit`. The
  arguments are those of `per_class`, what it returned, and `exact`, see `collective.verify`.
  """
  _proven(base, truth, certified, num_classes, exact)


def _proven(
  base: BaseCertificates, truth: ArrayLike, certified: ClassIoU, num_classes: int, exact: bool
) -> ClassIoU:
  """What `verify` has proven: the same numbers, in arrays of known types."""
  classes, sizes, wanted = _wanted(base, truth, num_classes)
  proven: dict[str, tuple[CollectiveCertificate, ...]] = {}
  for name, of_all in wanted.items():
    found = proven[name] = tuple(map(checked, getattr(certified, name)))
    if len(found) != classes.size:
      raise ValueError(f"`{name}` must hold a certificate for each of {classes.size} classes.")
    for k, targets, certificate in zip(classes, of_all, found, strict=True):
      first = proven["hits"][0]
      if not np.array_equal(certificate.targets, targets):
        raise ValueError(f"the targets of `{name}` are not those of class {k}.")
      for part in ("budgets", "caps", "integral"):
        own, common = getattr(certificate, part), getattr(first, part)
        if not np.array_equal(own, common):
          raise ValueError(
            f"the {part} of `{name}` are not the same for all classes: they are {own} for class "
            f"{k}, but {common} elsewhere."
          )
      _verify_one(f"`{name}`", base, certificate, exact)
  budgets = proven["hits"][0].budgets if classes.size else np.ravel(certified.mean_iou)
  again = _per_class(classes, sizes, len(budgets), **proven)
  for name in ("classes", "sizes", "true_positives", "union", "iou", "mean_iou"):
    expected = getattr(again, name)
    stored = typed(name, getattr(certified, name), expected.dtype.kind, expected.shape)
    if not np.array_equal(stored, expected, equal_nan=expected.dtype.kind == "f"):
      raise ValueError(f"`{name}` does not follow from the certificates.")
  return again


def _verify_one(
  name: str, base: BaseCertificates, certificate: CollectiveCertificate, exact: bool
) -> None:
  if certificate.forfeit != base.forfeit:
    raise ValueError(
      f"the `forfeit` of {name} is {certificate.forfeit}, but {base.forfeit} base certificates may "
      "be false."
    )
  collective.verify(base.weights, base.groups, base.eta, certificate, exact=exact)


class JointIoU(NamedTuple):
  """Lower bounds on the mean IoU that share one perturbation among all classes."""

  mean_iou: np.ndarray  # float64 [B], rounded down; never below that of `per_class`
  slopes: np.ndarray  # int64 [B, 2, K'], alpha and kappa, in units of `unit`
  unit: np.ndarray  # float64 [B], powers of 2
  certificates: tuple[CollectiveCertificate, ...]  # [B], one budget each


def jointly(
  base: BaseCertificates,
  truth: ArrayLike,
  separate: ClassIoU,
  *,
  num_steps: int = 24,
  **options: Any,
) -> JointIoU:
  r"""Lower bounds on the mean IoU under one perturbation that hurts all classes at once (host).

  It is enough to bound what is left if all that the adversary holds is wrong. Then
  :math:`u^-_k \le u_k \le u^+_k` and :math:`v^-_k \le v_k \le v^+_k`, with the counts of
  `per_class` at one end, at the other the hits that do not abstain and :math:`n_k`. For any slopes
  :math:`\alpha_k, \kappa_k \ge 0`,

  .. math:: \frac{u}{v} \ge \gamma_k + \alpha_k u - \kappa_k v, \quad
    \gamma_k = \min_{u \in \{u^-_k, u^+_k\}} \min_{v^-_k \le v \le v^+_k}
    \Big( \frac{u}{v} + \kappa_k v - \alpha_k u \Big) ,

  because the difference is linear in u, and in v it is convex, with its minimum at
  :math:`\sqrt{u / \kappa_k}`. Let :math:`\kappa^l` be the largest :math:`\kappa_k` of a class other
  than l: what a pixel of label l can do at most as a false positive. Then pixel by pixel

  .. math:: \sum_k \mathrm{IoU}_k \ge \sum_k (\gamma_k - \kappa_k n_k) - \sum_n \kappa^{l_n} +
    \sum_{n \text{ survives}} w_n, \quad w_n = \begin{cases} \alpha_l + \kappa^l & y_n = l_n \\
    \kappa^l - \kappa_{y_n} & y_n \ne l_n \end{cases}

  with :math:`\kappa_y = 0` for a class that the truth lacks, and :math:`w_n \ge 0`: a collective
  certificate of targets that count for :math:`w_n`. Slopes are whole numbers of one unit, so that
  :math:`w_n` is, exactly.

  The slopes are Lagrange multipliers, every choice of them proves a bound, and the best is sought
  step by step: they support u / v at a point, which moves towards what the last certificate leaves.

  Args:
    base: base certificates of N pixels.
    truth: int [N].
    separate: from `per_class`, of these; its budgets, caps and integrality hold here, too.
    num_steps: certificates per budget, at least 1.
    **options: other keywords for `collective.certify`.

  Raises:
    ValueError: truth that is not of the shape [N], no steps, an option that is set here, or a
      `separate` that forfeits another number than `base`.

  Example:
    >>> weights, groups = np.array([[[1.0]]]), np.zeros(6, int)
    >>> eta, labels = np.array([1.0, 9.0, 9.0, 1.0, 9.0, 9.0]), np.array([0, 0, 0, 1, 1, 1])
    >>> base = BaseCertificates(weights, groups, eta, labels, labels)
    >>> separate = per_class(base, labels, [0.0, 2.0], num_classes=2)
    >>> jointly(base, labels, separate).mean_iou.round(3)
    array([1. , 0.5])

  References:
    Fisher 1981, Management Science 27(1), for Lagrangian bounds.
  """
  truth = _checked(base, truth)
  if num_steps < 1:
    raise ValueError(f"`num_steps` must be at least 1, but it is {num_steps}.")
  _refuse(options, "targets", "worth", "forfeit", "caps", "integral")
  for certificate in (*separate.hits, *separate.rejections):
    if certificate.forfeit != base.forfeit:
      raise ValueError(
        f"`separate` was made with a `forfeit` of {certificate.forfeit}, but that of `base` is "
        f"{base.forfeit}: it must be what `per_class` returns for this `base`."
      )
  num_budgets, size = len(separate.mean_iou), separate.classes.size
  if not size or not num_budgets:
    no_slopes = np.zeros((num_budgets, 2, size), np.int64)
    return JointIoU(separate.mean_iou, no_slopes, np.ones(num_budgets), ())
  pixels = slopes.make_pixels(truth, base.labels, separate.classes, separate.sizes)
  given = separate.hits[0]
  options |= {"caps": given.caps, "integral": given.integral}
  certified, best = _certifier(base), []
  for i in range(num_budgets):
    box = _box(base, separate, i)
    u, v = box.u_upper, box.v_lower
    found = []
    for step in range(num_steps):
      lines, unit = slopes.whole(pixels, *slopes.supporting(box, u, v))
      worth, budget = slopes.worth(pixels, lines), given.budgets[i : i + 1]
      certificate = certified(budget, worth=worth, **options)
      bound = slopes.mean_bound(pixels, box, lines, unit, certificate)
      found.append((bound, lines, unit, certificate))
      share, (u_left, v_left) = 2 / (step + 3), slopes.left(base, pixels, lines, certificate)
      u = np.clip((1 - share) * u + share * u_left, box.u_lower, box.u_upper)
      v = np.clip((1 - share) * v + share * v_left, box.v_lower, box.v_upper)
    best.append(max(found, key=lambda row: row[0]))
  bounds, chosen, units, certificates = zip(*best, strict=True)
  mean_iou = np.maximum(bounds, separate.mean_iou)
  return JointIoU(mean_iou, np.stack(chosen), np.array(units), certificates)


def verify_jointly(
  base: BaseCertificates,
  truth: ArrayLike,
  separate: ClassIoU,
  joint: JointIoU,
  *,
  num_classes: int,
  exact: bool = False,
) -> None:
  """Proves the bounds of `per_class` and those of `jointly` again, or raises; as `verify` does."""
  separate = _proven(base, truth, separate, num_classes, exact)
  num_budgets, num_classes = separate.iou.shape  # from here on, those of the truth
  mean_iou = typed("mean_iou", joint.mean_iou, "f", (num_budgets,))
  all_slopes = typed("slopes", joint.slopes, "i", (num_budgets, 2, num_classes))
  units = typed("unit", joint.unit, "f", (num_budgets,))
  if not num_classes:
    if joint.certificates or not np.isnan(mean_iou).all():
      raise ValueError("`mean_iou` must be NaN, without `certificates`, if every pixel is void.")
    return
  if len(joint.certificates) != num_budgets:
    raise ValueError(f"`certificates` must have a row for each of {num_budgets} budgets.")
  pixels = slopes.make_pixels(np.asarray(truth), base.labels, separate.classes, separate.sizes)
  given = separate.hits[0]
  for i, certificate in enumerate(map(checked, joint.certificates)):
    lines, unit = all_slopes[i], float(units[i])
    if not 0 <= lines.min() <= lines.max() < 2**52:
      raise ValueError(f"`slopes` of budget {i} must be at least 0 and below 2^52.")
    if not (2.0**-200 <= unit <= 2.0**50 and math.frexp(unit)[0] == 0.5):
      raise ValueError(
        f"`unit` of budget {i} must be a power of 2 from 2^-200 to 2^50, but it is {unit}."
      )
    if not np.array_equal(certificate.targets, slopes.worth(pixels, lines)):
      raise ValueError(f"the targets of budget {i} do not follow from its slopes.")
    if not np.array_equal(certificate.budgets, given.budgets[i : i + 1]):
      raise ValueError(f"the certificate of budget {i} is for another budget.")
    for part in ("caps", "integral"):
      if not np.array_equal(getattr(certificate, part), getattr(given, part)):
        raise ValueError(f"the certificate of budget {i} is against another adversary.")
    _verify_one(f"the certificate of budget {i}", base, certificate, exact)
    bound = slopes.mean_bound(pixels, _box(base, separate, i), lines, unit, certificate)
    if not mean_iou[i] <= max(bound, float(separate.mean_iou[i])):
      raise ValueError(f"`mean_iou` of budget {i} is {mean_iou[i]}, but {bound} is proven.")


def _box(base: BaseCertificates, separate: ClassIoU, i: int) -> slopes.Box:
  hits = [(certificate.targets & (base.eta > 0)).sum() for certificate in separate.hits]
  ends = separate.true_positives[i], np.array(hits), separate.sizes, separate.union[i]
  return slopes.Box(*(end.astype(np.float64) for end in ends))
