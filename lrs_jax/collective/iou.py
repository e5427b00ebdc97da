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

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from lrs_jax import collective
from lrs_jax.collective import CollectiveCertificate
from lrs_jax.collective.certificate import checked
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.confidence.naive import naive_price
from lrs_jax.noise.eta import round_down, round_up


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
  perturbation cannot be the worst for every class is left to `jointly`. If `base.forfeit` base
  certificates may be false, that many are taken from both counts, by the certificates themselves.

  Args:
    base: base certificates of N pixels; eta <= 0 abstains.
    truth: int [N], labels; outside [0, K) is void.
    budgets: [B] or [B, A], as `collective.certify` takes them.
    num_classes: K.
    **options: keywords for `collective.certify`, but `targets`, `worth` and `forfeit`.

  Returns:
    `ClassIoU`.

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
  truth = _checked(base, truth)
  _refuse(options, ("targets", "worth", "forfeit"))
  if not np.ndim(budgets):
    raise ValueError(f"`budgets` must have shape [B] or [B, A], but it is {budgets!r}.")
  classes, sizes = np.unique(truth[(truth >= 0) & (truth < num_classes)], return_counts=True)
  known = np.isin(truth, classes)
  hits, rejections = (
    tuple(
      collective.certify(
        base.weights,
        base.groups,
        base.eta,
        budgets,
        targets=targets,
        forfeit=base.forfeit,
        **options,
      )
      for targets in targets_of_all
    )
    for targets_of_all in _targets(truth, base.labels, classes, known)
  )
  return _per_class(classes, sizes, hits, rejections, len(np.asarray(budgets)))


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
  num_budgets: int,
) -> ClassIoU:
  shape = num_budgets, classes.size
  kept, spared = (
    np.array([c.certified for c in certificates], np.int64).reshape(shape[::-1]).T
    for certificates in (hits, rejections)
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


def _refuse(options: Mapping[str, Any], names: Collection[str]) -> None:
  for name in names:
    if name in options:
      raise ValueError(
        f"`{name}` cannot be given, because it is set here; it is {options[name]!r}."
      )


def _array(name: str, value: Any, kind: str, shape: tuple[int, ...]) -> np.ndarray:
  """An array of float64 ("f") or of int64 ("i") of this shape, or `ValueError`."""
  try:
    array = np.asarray(value)
  except ValueError as error:  # rows of several lengths
    raise ValueError(f"`{name}` must be an array, but {error}.") from error
  if array.shape != shape or array.dtype.kind != kind or array.dtype.itemsize > 8:
    wanted = {"f": "floats of at most 8 bytes", "i": "signed integers"}[kind]
    raise ValueError(
      f"`{name}` must be {wanted} of shape {shape}, but it is {array.dtype} of shape {array.shape}."
    )
  return array.astype({"f": np.float64, "i": np.int64}[kind])


def verify(
  base: BaseCertificates,
  truth: ArrayLike,
  certified: ClassIoU,
  *,
  num_classes: int,
  exact: bool = False,
) -> None:
  """Proves the bounds of `per_class` again, from base certificates and truth, or raises.

  Against which budgets, caps and integrality they hold is what their certificates say: all of them
  the same, so that the bounds hold together against one adversary. All of them forfeit
  `base.forfeit`.

  Args:
    base: base certificates.
    truth: int [N].
    certified: from `per_class`.
    num_classes: K.
    exact: the witnesses in rational arithmetic, see `collective.verify`.

  Raises:
    ValueError: naming what does not follow.
  """
  _proven(base, truth, certified, num_classes, exact)


def _proven(
  base: BaseCertificates, truth: ArrayLike, certified: ClassIoU, num_classes: int, exact: bool
) -> ClassIoU:
  """What `verify` has proven: the same numbers, in arrays of known types."""
  truth = _checked(base, truth)
  known = (truth >= 0) & (truth < num_classes)
  classes, sizes = np.unique(truth[known], return_counts=True)
  proven: dict[str, tuple[CollectiveCertificate, ...]] = {}
  first: CollectiveCertificate | None = None
  for name, targets_of_all in zip(
    ("hits", "rejections"), _targets(truth, base.labels, classes, known), strict=True
  ):
    found = tuple(map(checked, getattr(certified, name)))
    if len(found) != classes.size:
      raise ValueError(f"`{name}` must hold a certificate for each of {classes.size} classes.")
    for k, targets, certificate in zip(classes, targets_of_all, found, strict=True):
      first = certificate if first is None else first
      if not np.array_equal(certificate.targets, targets):
        raise ValueError(f"the targets of `{name}` are not those of class {k}.")
      for part in ("budgets", "caps", "integral"):
        if not _same(getattr(certificate, part), getattr(first, part)):
          raise ValueError(
            f"the {part} of `{name}` are not the same for all classes: they are "
            f"{getattr(certificate, part)} for class {k}, but {getattr(first, part)} elsewhere."
          )
      _check_forfeit(f"`{name}`", certificate, base)
      collective.verify(base.weights, base.groups, base.eta, certificate, exact=exact)
    proven[name] = found
  num_budgets = np.asarray(certified.mean_iou).size if first is None else len(first.budgets)
  again = _per_class(classes, sizes, proven["hits"], proven["rejections"], num_budgets)
  for name in ("classes", "sizes", "true_positives", "union", "iou", "mean_iou"):
    expected = getattr(again, name)
    stored = _array(name, getattr(certified, name), expected.dtype.kind, expected.shape)
    if not np.array_equal(stored, expected, equal_nan=expected.dtype.kind == "f"):
      raise ValueError(f"`{name}` does not follow from the certificates.")
  return again


def _check_forfeit(name: str, certificate: CollectiveCertificate, base: BaseCertificates) -> None:
  if certificate.forfeit != base.forfeit:
    raise ValueError(
      f"the `forfeit` of {name} is {certificate.forfeit}, but {base.forfeit} base certificates may "
      "be false."
    )


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

  Returns:
    `JointIoU`.

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
  _refuse(options, ("targets", "worth", "forfeit", "caps", "integral"))
  for certificate in (*separate.hits, *separate.rejections):
    if certificate.forfeit != base.forfeit:
      raise ValueError(
        f"`separate` was made with a `forfeit` of {certificate.forfeit}, but that of `base` is "
        f"{base.forfeit}: it must be what `per_class` returns for this `base`."
      )
  if not separate.classes.size:
    return JointIoU(separate.mean_iou, *_no_slopes(len(separate.mean_iou)), ())
  pixels = _pixels(truth, base.labels, separate)
  rows = []
  for i, budget in enumerate(separate.hits[0].budgets):
    box = _box(base, separate, i)
    u, v = box.u_upper, box.v_lower
    found = []
    for step in range(num_steps):
      slopes, unit = _whole(pixels, *_supporting(box, u, v))
      certificate = collective.certify(
        base.weights,
        base.groups,
        base.eta,
        budget[None],
        worth=_worth(pixels, slopes),
        caps=separate.hits[0].caps,
        integral=separate.hits[0].integral,
        forfeit=base.forfeit,
        **options,
      )
      bound = _joint_bound(pixels, box, slopes, unit, certificate)
      found.append((bound, slopes, unit, certificate))
      share, (u_left, v_left) = 2 / (step + 3), _left(base, pixels, slopes, certificate)
      u = np.clip((1 - share) * u + share * u_left, box.u_lower, box.u_upper)
      v = np.clip((1 - share) * v + share * v_left, box.v_lower, box.v_upper)
    rows.append(max(found, key=lambda row: row[0]))
  bounds = np.array([row[0] for row in rows], np.float64)
  return JointIoU(
    np.maximum(bounds, separate.mean_iou),
    np.array([row[1] for row in rows], np.int64).reshape(-1, 2, separate.classes.size),
    np.array([row[2] for row in rows], np.float64),
    tuple(row[3] for row in rows),
  )


def verify_jointly(
  base: BaseCertificates,
  truth: ArrayLike,
  separate: ClassIoU,
  joint: JointIoU,
  *,
  num_classes: int,
  exact: bool = False,
) -> None:
  """Proves the bounds of `per_class` and of `jointly` again, or raises.

  All of them are against the adversary that the certificates of `separate` say, see `verify`.

  Args:
    base: base certificates.
    truth: int [N].
    separate: from `per_class`.
    joint: from `jointly`.
    num_classes: K.
    exact: the witnesses in rational arithmetic, see `collective.verify`.

  Raises:
    ValueError: naming what does not follow.
  """
  separate = _proven(base, truth, separate, num_classes, exact)
  num_budgets, num_classes = separate.iou.shape  # from here on, those of the truth
  mean_iou = _array("mean_iou", joint.mean_iou, "f", (num_budgets,))
  all_slopes = _array("slopes", joint.slopes, "i", (num_budgets, 2, num_classes))
  units = _array("unit", joint.unit, "f", (num_budgets,))
  if not num_classes:
    if joint.certificates or not np.isnan(mean_iou).all():
      raise ValueError("`mean_iou` must be NaN, without `certificates`, if every pixel is void.")
    return
  if len(joint.certificates) != num_budgets:
    raise ValueError(f"`certificates` must have a row for each of {num_budgets} budgets.")
  pixels = _pixels(np.asarray(truth), base.labels, separate)
  given = separate.hits[0]
  for i, certificate in enumerate(map(checked, joint.certificates)):
    slopes, unit = all_slopes[i], float(units[i])
    if not 0 <= slopes.min() <= slopes.max() < 2**52:
      raise ValueError(f"`slopes` of budget {i} must be at least 0 and below 2^52.")
    if not (2.0**-200 <= unit <= 2.0**50 and math.frexp(unit)[0] == 0.5):
      raise ValueError(
        f"`unit` of budget {i} must be a power of 2 from 2^-200 to 2^50, but it is {unit}."
      )
    if not np.array_equal(certificate.targets, _worth(pixels, slopes)):
      raise ValueError(f"the targets of budget {i} do not follow from its slopes.")
    if not np.array_equal(certificate.budgets, given.budgets[i : i + 1]):
      raise ValueError(f"the certificate of budget {i} is for another budget.")
    if certificate.integral != given.integral or not _same(certificate.caps, given.caps):
      raise ValueError(f"the certificate of budget {i} is against another adversary.")
    _check_forfeit(f"the certificate of budget {i}", certificate, base)
    collective.verify(base.weights, base.groups, base.eta, certificate, exact=exact)
    bound = _joint_bound(pixels, _box(base, separate, i), slopes, unit, certificate)
    if not mean_iou[i] <= max(bound, float(separate.mean_iou[i])):
      raise ValueError(f"`mean_iou` of budget {i} is {mean_iou[i]}, but {bound} is proven.")


class _Pixels(NamedTuple):
  """Labels and predictions as positions among the classes of the truth; -1 for others."""

  label: np.ndarray  # int [N]
  prediction: np.ndarray  # int [N]
  sizes: np.ndarray  # int64 [K']


class _Box(NamedTuple):
  """What true positives and union of every class can be, float64 [K'] each."""

  u_lower: np.ndarray
  u_upper: np.ndarray
  v_lower: np.ndarray
  v_upper: np.ndarray


def _pixels(truth: np.ndarray, labels: np.ndarray, separate: ClassIoU) -> _Pixels:
  position = [
    np.where(
      np.isin(values, separate.classes),
      np.minimum(np.searchsorted(separate.classes, values), separate.classes.size - 1),
      -1,
    )
    for values in (truth, labels)
  ]
  return _Pixels(position[0], position[1], separate.sizes)


def _box(base: BaseCertificates, separate: ClassIoU, i: int) -> _Box:
  hits = [(certificate.targets & (base.eta > 0)).sum() for certificate in separate.hits]
  return _Box(
    separate.true_positives[i].astype(np.float64),
    np.array(hits, np.float64),
    separate.sizes.astype(np.float64),
    separate.union[i].astype(np.float64),
  )


def _least(box: _Box, u: np.ndarray, kappa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The minimum over v of u / v + kappa v, and where it is: float64 [K'] each."""
  with np.errstate(divide="ignore", invalid="ignore"):
    v = np.where(kappa > 0, np.sqrt(u / kappa), np.inf)
  v = np.clip(v, box.v_lower, box.v_upper)
  return u / v + kappa * v, v


def _offset(box: _Box, alpha: np.ndarray, kappa: np.ndarray) -> np.ndarray:
  """Gamma for any slopes, rounded down: float64 [K']."""
  ends = [
    round_down(_least(box, u, kappa)[0]) - round_up(alpha * u) for u in (box.u_lower, box.u_upper)
  ]
  return np.minimum(*ends)


def _supporting(box: _Box, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Slopes whose linear bound is the largest at (u, v): alpha and kappa, float64 [K'] each.

  For given kappa the best alpha is that of the chord of a concave function of u; what it then
  bounds at (u, v) is concave in kappa, and its derivative, a mean of minimizing v less v, falls.
  """
  width = box.u_upper - box.u_lower
  share = np.where(width > 0, (u - box.u_lower) / np.maximum(width, 1), 0.0)
  low = np.full(width.shape, -64.0)  # logarithms of kappa, which is at most u / v^2
  high = np.log(np.maximum(box.u_upper, 1) / box.v_lower**2)
  for _ in range(50):
    kappa = np.exp((low + high) / 2)
    at_lower, at_upper = (_least(box, end, kappa)[1] for end in (box.u_lower, box.u_upper))
    rises = (1 - share) * at_lower + share * at_upper > v
    low, high = np.where(rises, np.log(kappa), low), np.where(rises, high, np.log(kappa))
  kappa = np.exp(high)
  rise = _least(box, box.u_upper, kappa)[0] - _least(box, box.u_lower, kappa)[0]
  return np.where(width > 0, rise / np.maximum(width, 1), 0.0), kappa


def _whole(pixels: _Pixels, alpha: np.ndarray, kappa: np.ndarray) -> tuple[np.ndarray, float]:
  """Slopes as whole numbers, int64 [2, K'], of a unit that lets all worths sum to about 2^50."""
  total = float(pixels.sizes @ (alpha + kappa + _elsewhere(kappa)[0]))
  unit = 2.0 ** (math.ceil(math.log2(max(total, 2.0**-100))) - 50)
  return np.rint(np.stack([alpha, kappa]) / unit).astype(np.int64), unit


def _elsewhere(kappa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The largest kappa of another class (0 if there is none), and which it is: [K'] each."""
  if kappa.size == 1:
    return np.zeros_like(kappa), np.full(1, -1)
  second, first = np.argsort(kappa)[-2:]
  which = np.where(np.arange(kappa.size) == first, second, first)
  return kappa[which], which


def _worth(pixels: _Pixels, slopes: np.ndarray) -> np.ndarray:
  """What it is worth that a pixel keeps its prediction: int64 [N]."""
  alpha, kappa = slopes
  lost = _elsewhere(kappa)[0][pixels.label]
  own = np.where(pixels.prediction < 0, 0, kappa[pixels.prediction])
  worth = np.where(pixels.prediction == pixels.label, alpha[pixels.label] + lost, lost - own)
  return np.where(pixels.label < 0, 0, worth)


def _joint_bound(
  pixels: _Pixels,
  box: _Box,
  slopes: np.ndarray,
  unit: float,
  certificate: CollectiveCertificate,
) -> float:
  """The bound on the mean IoU that slopes and a certificate of their worths prove."""
  each = zip(pixels.sizes.tolist(), (slopes[1] + _elsewhere(slopes[1])[0]).tolist(), strict=True)
  lost = sum(size * worth for size, worth in each)
  kept = int(certificate.certified[0])
  terms = [*_offset(box, *slopes * unit).tolist(), (kept - lost) * unit]
  margin = 2.0**-48 * sum(map(abs, terms))
  return (math.fsum(terms) - margin) / pixels.sizes.size


def _left(
  base: BaseCertificates,
  pixels: _Pixels,
  slopes: np.ndarray,
  certificate: CollectiveCertificate,
) -> tuple[np.ndarray, np.ndarray]:
  """True positives and unions, about, after the attack that the certificate deems the worst.

  In every group, what falls is where worth less price is largest; false positives go to the class
  that they hurt most. It guides the search, no bound rests on it.
  """
  fallen = base.eta <= 0
  reach = naive_price(base.weights, certificate.budgets[0])
  prices = certificate.witness.multipliers[0]
  for g, price in enumerate(prices):
    mine = np.flatnonzero((base.groups == g) & (base.eta > 0) & (base.eta <= reach[g]))
    mine = mine[np.argsort(base.eta[mine])]
    gain = np.cumsum(certificate.targets[mine]) - price * base.eta[mine]
    if gain.size and gain.max() > 0:
      fallen[mine[: gain.size - int(gain[::-1].argmax())]] = True
  size, known = pixels.sizes.size, pixels.label >= 0
  hit = known & ~fallen & (pixels.prediction == pixels.label)
  wrong = known & ~fallen & (pixels.prediction != pixels.label) & (pixels.prediction >= 0)
  victims = _elsewhere(slopes[1])[1][pixels.label[known & fallen]]
  union = pixels.sizes + np.bincount(pixels.prediction[wrong], minlength=size)
  union = union + np.bincount(victims[victims >= 0], minlength=size)
  return np.bincount(pixels.label[hit], minlength=size), union


def _no_slopes(num_budgets: int) -> tuple[np.ndarray, np.ndarray]:
  return np.zeros((num_budgets, 2, 0), np.int64), np.ones(num_budgets)


def _same(one: Any, other: Any) -> bool:
  return one is other if one is None or other is None else np.array_equal(one, other)
