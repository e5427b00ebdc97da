"""From a certificate back to the votes: all that follows from them, made again (host)."""

import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np

from lrs_jax import collective
from lrs_jax.cells import views
from lrs_jax.confidence import certificates, corrections
from lrs_jax.errors import TooFewSamplesWarning
from lrs_jax.front.certified import Certified
from lrs_jax.front.steps import bounded, check_fields, counted_of, targets_of


def verify(certified: Certified, *, exact: bool = False) -> None:
  """Goes through a certificate again, from the votes on, or raises.

  Made again are the base certificates from the votes, the noise and alpha, to the last bit (by the
  same library versions); what groups see of the fields of noise, and that the view lets them see no
  more; labels, budgets and targets; and the proof, by `collective.verify`, without a solver
  (`exact`: in rational arithmetic throughout). Taken as stated are the votes, that they are of this
  model and input, and that no output sees more than the view.

  Raises:
    ValueError: naming what does not follow, and from what.

  Example:
    >>> import jax
    >>> from lrs_jax import certify, noise
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
  votes = certified.selection.counts, certified.estimation.counts
  num_samples = int(certified.estimation.num_samples)
  if certificates.same_samples(*votes):
    raise ValueError("`selection` and `estimation` are the same votes: one key drew both.")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", TooFewSamplesWarning)  # was told when it was made
    level = certified.alpha / max(int(certified.looks), 1)
    levels = corrections.levels(level, num_outputs, certified.k_fwer)
    again = bounded(certified.noise, base.groups, *votes, levels, num_samples)
  for name, value in again._asdict().items():
    _follows(f"base.{name}", getattr(base, name), value, "the votes, `noise` and `alpha`")
  _follows("labels", certified.labels, again.predictions, "`base`")
  _check_view(certified)
  targets = targets_of(certified.counted, certified.truth, again)
  counted = counted_of(certified.counted, certified.truth, num_outputs, votes[1].shape[1])
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


def _check_view(certified: Certified) -> None:
  """Raises a ValueError if what groups see is not of the fields, or hides what outputs see."""
  groups, view = certified.base.groups, certified.view
  if certified.fields is not None:
    check_fields(certified.noise, groups, certified.fields, groups.size)
  if view is None:
    return
  hidden = (certified.noise.weights == 0).all(axis=0)
  cells = np.asarray(certified.noise.cells).reshape(certified.shape)
  sees = views.seen(views.as_view(view, certified.shape), groups.reshape(certified.shape), cells)
  wrong = np.argwhere(sees & hidden[: sees.shape[0], : sees.shape[1]])
  if wrong.size:
    group, cell = wrong[0]
    raise ValueError(f"`noise` hides cell {cell} from group {group}, which sees it by `view`.")


def _follows(name: str, stored: Any, again: Any, source: str) -> None:
  if (stored is None) != (again is None) or not np.array_equal(stored, again):
    raise ValueError(f"`{name}` does not follow from {source}.")
