"""What to ask of a model of another framework before a long run: as `guards` and `views` (host)."""

import itertools
import warnings

import jax
import numpy as np
from jax.typing import ArrayLike

from lrs_jax import errors
from lrs_jax.cells.views import View, as_view
from lrs_jax.noise.distributions import SmoothingDistribution, as_input
from lrs_jax.sampling import checks, guards, views
from lrs_jax.sampling.external import Predict, ask, check_batch_size, is_logits, labels_of
from lrs_jax.sampling.stitching import NOBODY

MAX_CHANGED = 1e-3
"""Part of the labels by which two evaluations of one input may differ, by rounding of near-ties."""


def check_predict(
  key: jax.Array,
  predict: Predict,
  x: ArrayLike,
  noise: SmoothingDistribution,
  groups: ArrayLike,
  *,
  num_classes: int,
  batch_size: int | None = None,
) -> None:
  r"""Looks for what would make the certificates of a model wrong: `guards.check_model` (host).

  Draws noisy copies :math:`z_1, \dots, z_4` of x for as many groups and evaluates each in a batch
  of copies of itself, the first of these batches a second time, and all together in a batch and in
  another order. The logits must be the same to :math:`10^{-2} \max |f|`, of labels all but 0.1 %. A
  dozen batches of `batch_size` inputs at most, and no proof.

  Arguments are those of `sampling.external_votes`, but that the key is not one that samples. A
  batch size of 1 leaves nothing for an input to depend on.

  Raises:
    ValueError: as `sampling.external_votes`, for what does not fit together or is not finite.
    NotDeterministicError: two evaluations of one batch differ.
    BatchDependenceError: the answer for an input depends on its place in the batch, or on others.
    NaNLogitsError: some logits are not numbers.

  Warns:
    InputScaleWarning: the noise is far larger or smaller than the input's range.
    LostVotesWarning: labels lie outside [0, K).
    TiedLogitsWarning: the two greatest logits are equal for more than 0.1 % of the outputs.

  Example:
    >>> from lrs_jax import noise
    >>> x, gaussian = np.asarray([0.0, 1.0], np.float32), noise.gaussian([[0.1]], cells=[0, 0])
    >>> asked = {"x": x, "noise": gaussian, "groups": [0, 0], "num_classes": 2}
    >>> predict = lambda batch: np.stack([batch, 1 - batch], axis=-1)
    >>> check_predict(jax.random.key(7), predict, **asked)
    >>> check_predict(jax.random.key(7), lambda batch: predict(batch - batch.mean(0)), **asked)
    Traceback (most recent call last):
    ...
    lrs_jax.errors.BatchDependenceError: `predict` must map every input to its answer, ...
  """
  prng = str(jax.random.key_impl(key))
  x, groups = checks.check_inputs(key, x, noise, groups, prng)
  size = check_batch_size(batch_size, x.size)
  guards.check_scale(np.asarray(x), noise)
  inputs = np.stack([np.asarray(z) for z in guards.noisy_inputs(key, x, noise)])

  def answers(which: list[int]) -> np.ndarray:
    found = ask(predict, inputs[np.resize(which, size)])  # an array of its own, as always
    _check_lost(found, groups.size, num_classes)
    return found.copy()  # the model may use its own again

  of_copies = [answers([i]) for i in range(len(inputs))]
  if (change := _difference(of_copies[0], answers([0]))) is not None:
    raise errors.NotDeterministicError(
      "`predict` must return the same whenever it is given the same batch, but two evaluations "
      f"differ, {change}. Dropout that is still on (`model.eval()`), or statistics that it updates?"
    )
  alone = np.stack([found[0] for found in of_copies])
  for which in ([0], [0, 1, 2, 3], [2, 3, 0, 1]):
    expected = alone[np.resize(which, size)]
    if (change := _difference(expected, answers(which))) is not None:
      place = "in another place of the batch" if which == [0] else "in a batch with other inputs"
      raise errors.BatchDependenceError(
        "`predict` must map every input to its answer, whatever else is evaluated with it, but "
        f"{place} it differs, {change}. Batch statistics in training mode? Use the running "
        "averages (`model.eval()`), or a `batch_size` of 1."
      )
  if is_logits(alone):
    guards.check_ties(np.asarray(alone, np.float64), alone.dtype)


def check_predict_view(
  predict: Predict,
  x: ArrayLike,
  view: View | int,
  *,
  num_places: int = views.ALIGNMENTS,
  batch_size: int | None = None,
) -> None:
  r"""Looks for outputs that see farther than they are said to, as `check_view` does (host).

  Inputs are changed at the places, and to the values, that `check_view` describes, and no output
  may change that sees none of them: by no bit of its logits, or by its label, which shows less. An
  input and its change are compared at the same place of a batch. Convolutions by Winograd's or
  Fourier's transform mix what is far apart, in low bits: `tiled_predict` makes an exact view
  of any model.

  Args:
    predict: inputs [B, H, W, ...] -> logits [B, H, W, K], or labels [B, H, W].
    x: one input [H, W, ...], of a floating-point type.
    view: what every output sees; or r, in pixels, where they see so far to every side.
    num_places: how many, beside corners and center.
    batch_size: B, inputs per call; by default chosen from x's size.

  Raises:
    FartherViewError: some output sees farther, with its place and how far.
    IntegerInputError, NonFiniteInputError: x has integer entries, or some that are not finite.
    NotDeterministicError: two evaluations of one batch differ in some bit.
    NotLogitsError: there is not one output for every pixel of x.
    ValueError: `view` is neither an integer >= 0 nor of the outputs' shape.

  Example:
    >>> def predict(batch):  # every pixel and its left neighbor
    ...   left = np.pad(batch, ((0, 0), (0, 0), (1, 0)))[:, :, :-1]
    ...   return np.stack([batch, left], axis=-1)
    >>> x = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    >>> check_predict_view(predict, x, 1)
    >>> check_predict_view(predict, x, 0)
    Traceback (most recent call last):
    ...
    lrs_jax.errors.FartherViewError: the output at (0, 1) sees 1 pixels far, ...
  """
  x = as_input(x)
  if not isinstance(view, View):
    as_view(view, ())  # the message before all others
  checks.check_finite(x)
  size, pixels = check_batch_size(batch_size, x.size), np.asarray(x)
  rng = np.random.default_rng(0)
  inputs = views.noisy_pair(pixels, rng)

  def answers(batch: np.ndarray) -> np.ndarray:
    found = ask(predict, batch)
    if x.ndim < 2 or found.shape[: found.ndim - is_logits(found)] != (size, *x.shape[:2]):
      raise errors.NotLogitsError(
        "a `view` in pixels needs logits [B, H, W, K] or labels [B, H, W], with one output for "
        f"every pixel of `x`, but `predict` returns {found.dtype} of shape {found.shape} for "
        f"{size} inputs, and `x` has {x.shape}."
      )
    return found.copy()

  def of_copies(z: np.ndarray) -> np.ndarray:
    return answers(np.repeat(z[None], size, axis=0))

  before = [of_copies(z) for z in inputs]
  if _changed(before[0], of_copies(pixels)).any():
    raise errors.NotDeterministicError(
      "two evaluations of one batch differ in some bits, so that nobody can tell what an output "
      "sees. Random numbers, or an unordered sum of the accelerator?"
    )
  what = "logits" if is_logits(before[0]) else "label"
  view = as_view(view, x.shape[:2])
  changes = views.changes(inputs, view, num_places, rng)
  while batch := list(itertools.islice(changes, size)):
    of = [batch[min(i, len(batch) - 1)] for i in range(size)]
    after = answers(np.stack([change.pixels for change in of]))
    for i, change in enumerate(batch):
      views.check_blind(view, change, _changed(before[change.of][i], after[i]), what)


def _check_lost(answer: np.ndarray, num_outputs: int, num_classes: int) -> None:
  """Raises a ValueError for logits that are nan, and warns of labels that are none."""
  labels = labels_of(answer, num_outputs, num_classes)
  if is_logits(answer):
    wrong = int(np.isnan(answer).sum())
    if wrong:
      raise errors.NaNLogitsError(
        f"`predict` returns logits that are not numbers: {wrong} of {answer.size} are nan. A "
        "division by zero, a logarithm of noisy (negative) inputs, or broken parameters?"
      )
  elif (labels == NOBODY).any():
    warnings.warn(
      f"{np.mean(labels == NOBODY):.1%} of the labels that `predict` returns lie outside [0, K) "
      f"with K = {num_classes} classes: they count for no class.",
      errors.LostVotesWarning,
      stacklevel=4,
    )


def _difference(one: np.ndarray, other: np.ndarray) -> str | None:
  """How much two answers for one input differ, in words; None if it is by rounding at most."""
  if not is_logits(one):
    part = float(np.mean(one != other)) if one.size else 0.0
    return f"in {part:.2%} of the labels" if part > MAX_CHANGED else None
  greatest = guards.difference(np.asarray(one, np.float64), other)
  return f"by {greatest:.2g} of the greatest logit" if greatest > guards.TOLERANCE else None


def _changed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Which outputs differ: labels, or logits [..., K] in some bit."""
  if not is_logits(one):
    return one != other
  words = f"u{one.dtype.itemsize}"
  return (one.view(words) != other.view(words)).any(axis=-1)
