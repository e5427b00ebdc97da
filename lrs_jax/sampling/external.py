r"""Votes of models of other frameworks: noise of the device, evaluated on the host in batches.

A model is a function `predict` of NumPy arrays: a PyTorch module, an ONNX session, a server that is
asked. It is given the very inputs that `sampling.votes` would show to one in JAX.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from tqdm import tqdm

from lrs_jax.errors import MissingClassesError, NotLogitsError
from lrs_jax.noise.distributions import SmoothingDistribution, to_device
from lrs_jax.noise.views import distinct
from lrs_jax.sampling import checks, stitching
from lrs_jax.sampling.counting import Votes
from lrs_jax.sampling.stitching import NOBODY

Predict = Callable[[np.ndarray], Any]
"""Inputs `[B, *x.shape]` -> logits [B, ..., K], or labels, of an integer type, [B, ...]."""


def external_votes(
  key: jax.Array,
  predict: Predict,
  x: ArrayLike,
  noise: SmoothingDistribution,
  groups: ArrayLike,
  num_samples: int,
  *,
  num_classes: int,
  first_sample: int = 0,
  batch_size: int | None = None,
  title: str = "votes",
) -> Votes:
  r"""Counts votes as `sampling.votes` does, of a model that is not in JAX (host).

  :math:`\mathrm{counts}_{n,k} = \sum_{i < S} [\arg\max f_n(z_i^{g(n)}) = k]`, where sample i draws
  its noise from `fold_in(key, i)`, as there, whatever the size of batches: one key is one set of
  noisy inputs, in JAX and outside of it, to the last bit (as a CPU rounds, where it is tested).
  Groups with the same noise share their passes: one per sample and noise field. Memory does not
  grow with S.

  `predict` must be a function of one input, for each of the batch: deterministic, in evaluation
  mode, without statistics of the batch (`check_predict` asks). It is always given `batch_size`
  inputs, so that models of a fixed batch will do; those beyond S are not counted. Each batch is an
  array of its own, which it may write to.

  A vote is lost, counted as one of S samples but for no class, if the greatest logit is nan or
  infinite, or the label lies outside [0, K).

  Args:
    key: typed key, `jax.random.key(seed)`. Selection and estimation need two independent ones.
    predict: inputs `[B, *x.shape]`, of x's type -> logits [B, ..., K], or labels [B, ...] of an
      integer type, as what `np.asarray` takes.
    x: one input, of a floating-point type; float64 is rounded to float32, and that is certified.
    noise: smoothing distribution with G groups, on the scale of `x`.
    groups: int [N], the group of every output, in the order of the flattened labels.
    num_samples: S >= 0.
    num_classes: K.
    first_sample: number of the first of the S samples: votes of pieces of a job add up.
    batch_size: B, inputs per call; by default chosen from x's size.
    title: what a bar that shows the progress is called.

  Returns:
    Counts int64 [N, K] and S; every row sums to S, less the votes that were lost.

  Raises:
    IntegerInputError, NonFiniteInputError: x has integer entries, or some that are not finite.
    MissingClassesError: the logits' last axis is not `num_classes`.
    NotLogitsError: `predict` returns neither logits nor labels of N outputs for every input.
    ValueError: shapes, types or sizes that do not fit together.

  Example:
    >>> from lrs_jax import noise
    >>> predict = lambda batch: np.stack([batch, -batch], axis=-1)
    >>> x, gaussian = np.asarray([1.0, -1.0], np.float32), noise.gaussian([[0.1, 0.1]], [0, 1])
    >>> external_votes(jax.random.key(0), predict, x, gaussian, [0, 0], 10, num_classes=2).counts
    array([[10,  0],
           [ 0, 10]])

  References: Schuchardt et al. 2023 (arXiv 2210.16140), section 4 and appendix D.
  """
  x, groups = checks.check_inputs(key, x, noise, groups)
  if groups.ndim != 1:
    raise ValueError(f"`groups` must have shape [N], but its shape is {groups.shape}.")
  batch_size = check_batch_size(batch_size, x.size)
  checks.check_range(first_sample, num_samples, batch_size)
  fields, field = distinct(noise, groups)
  outputs = {k: np.flatnonzero(field == k) for k in np.unique(field).tolist()}
  drawn, end = to_device(fields), first_sample + num_samples
  counts = np.zeros((groups.size, num_classes), np.int64)
  with tqdm(total=num_samples, desc=title, leave=False, disable=None, delay=1) as bar:
    for first in range(first_sample, end, batch_size):
      number = min(batch_size, end - first)
      batches = _batches(first, (key, x, drawn), list(outputs), batch_size, noise.num_groups > 1)
      for mine, batch in zip(outputs.values(), batches, strict=True):
        labels = labels_of(ask(predict, batch), groups.size, num_classes)
        for voted in labels[:number, mine]:
          kept = voted != NOBODY
          counts[mine[kept], voted[kept]] += 1
      bar.update(number)
  return Votes(counts, num_samples)


Drawn = tuple[jax.Array, jax.Array, SmoothingDistribution]
"""Key, x, and the fields of noise as `to_device` leaves them."""


def _batches(
  first: int, drawn: Drawn, asked: list[int], batch_size: int, apart: bool
) -> Iterator[np.ndarray]:
  """Noisy inputs `[B, *x.shape]` of each field that is asked for, arrays to write to.

  The last bit of a number depends on what a compiler fuses. The loop over samples draws first, and
  then perturbs group by group (`apart`); a single group needs no loop, and is one program.
  """
  arguments = np.int32(first), *drawn
  if not apart:
    yield from (np.array(_draws_and_noisy(*arguments, batch_size=batch_size)) for _ in asked)
    return
  standard = _draws(*arguments, batch_size=batch_size)
  for k in asked:
    yield np.array(_noisy(standard, *drawn[1:], np.int32(k)))


@partial(jax.jit, static_argnames="batch_size")
def _draws(
  first: jax.Array, key: jax.Array, x: jax.Array, noise: SmoothingDistribution, *, batch_size: int
) -> jax.Array:
  sample_ids = first + jnp.arange(batch_size, dtype=jnp.int32)
  return stitching.standard_draws(sample_ids, key, x, noise)


@jax.jit
def _noisy(
  standard: jax.Array, x: jax.Array, noise: SmoothingDistribution, group: jax.Array
) -> jax.Array:
  return stitching.noisy_inputs(standard, x, noise, group)


@partial(jax.jit, static_argnames="batch_size")
def _draws_and_noisy(
  first: jax.Array, key: jax.Array, x: jax.Array, noise: SmoothingDistribution, *, batch_size: int
) -> jax.Array:
  standard = _draws(first, key, x, noise, batch_size=batch_size)
  return _noisy(standard, x, noise, jnp.zeros((), jnp.int32))


def check_batch_size(batch_size: int | None, size: int) -> int:
  """The number of inputs per call, chosen from an input's size if None; or a ValueError.

  Example:
    >>> check_batch_size(None, 64 * 96 * 3), check_batch_size(5, 64 * 96 * 3)
    (8, 5)
  """
  if batch_size is None:
    return checks.default_chunk_size(size)
  if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
    raise ValueError(f"`batch_size` must be an integer >= 1, but it is {batch_size!r}.")
  return batch_size


def ask(predict: Predict, batch: np.ndarray) -> np.ndarray:
  """What a model says of a batch [B, ...], one array [B, ...] of floating point or integers.

  Raises:
    NotLogitsError: it says anything else.

  Example:
    >>> ask(lambda batch: batch.argmax(axis=-1), np.eye(2))
    array([0, 1])
  """
  size, given = len(batch), batch.shape
  answer = predict(batch)
  if answer is None or isinstance(answer, list | tuple | dict):
    kind, hint = "None", "is its `return` missing?"
    if answer is not None:
      parts = list(answer.values() if isinstance(answer, dict) else answer)
      shapes = [str(tuple(getattr(part, "shape", ()))) for part in parts]
      kind = f"a {type(answer).__name__} of {len(parts)}, of shapes {', '.join(shapes[:4])}"
      hint = "return the one that is the logits, or the labels, as an array."
    raise NotLogitsError(
      f"`predict` must return one array of logits or labels, but it returns {kind}: {hint}"
    )
  try:
    answer = np.asarray(answer)
  except Exception as error:
    raise NotLogitsError(
      "`predict` must return what `np.asarray` takes, but it returns "
      f"{type(answer).__name__}, of which that says: {error}"
    ) from error
  if not is_logits(answer) and answer.dtype.kind not in "iu":
    raise NotLogitsError(
      "`predict` must return logits of a floating-point type, or labels of an integer type, but "
      f"their type is {answer.dtype}."
    )
  if answer.shape[:1] != (size,):
    raise NotLogitsError(
      f"`predict` must return logits or labels of every input of the batch, [{size}, ...], but for "
      f"inputs of shape {given} their shape is {answer.shape}."
    )
  return answer


def shape_of(answer: np.ndarray, num_classes: int | None) -> tuple[tuple[int, ...], int]:
  """The outputs' shape [...] and K of a model that answered; labels do not show what K is.

  Raises:
    MissingClassesError: logits of another number of classes; labels, and None.

  Example:
    >>> shape_of(np.zeros((8, 4, 6, 3)), None), shape_of(np.zeros((8, 4, 6), int), 3)
    (((4, 6), 3), ((4, 6), 3))
  """
  if not is_logits(answer):
    if num_classes is None:
      raise MissingClassesError(
        "`num_classes` must say how many classes there are: `predict` returns labels, which do not."
      )
    return answer.shape[1:], num_classes
  if answer.ndim < 2:
    raise NotLogitsError(
      "`predict` must return logits [B, ..., K], with an axis of the K classes, but their shape is "
      f"{answer.shape}."
    )
  if num_classes is not None:
    _check_classes(answer, num_classes)
  return answer.shape[1:-1], answer.shape[-1]


def labels_of(answer: np.ndarray, num_outputs: int, num_classes: int) -> np.ndarray:
  """What every output votes for, int [B, N]: the first of its greatest logits, or its label.

  `NOBODY` where the greatest logit is nan or infinite, or the label outside [0, K).

  Raises:
    MissingClassesError: logits of another number of classes.
    NotLogitsError: another number of outputs.

  Example:
    >>> labels_of(np.array([[[0.1, 0.9], [0.5, 0.5], [np.nan, 0.0], [-np.inf, 0.0]]]), 4, 2)
    array([[ 1,  0, -1,  1]])
    >>> labels_of(np.array([[1, 0, 2, 255]], np.uint8), 4, 2)
    array([[ 1,  0, -1, -1]])
  """
  size, logits = len(answer), is_logits(answer)
  if logits:
    shape, _ = shape_of(answer, num_classes)
  else:
    shape = answer.shape[1:]
  if math.prod(shape) != num_outputs:
    what = "logits" if logits else "labels"
    raise NotLogitsError(
      f"`predict` returns {what} of shape {answer.shape}, which are {math.prod(shape)} outputs for "
      f"every input of the batch, but `groups` has {num_outputs}: either `groups` is not for this "
      f"input, or the {what} are not of its outputs (of an integer type they must be labels)."
    )
  if not logits:
    inside = (answer >= 0) & (answer < num_classes)
    return np.where(inside, answer.astype(np.int64), NOBODY).reshape(size, num_outputs)
  if answer.dtype not in (np.float32, np.float64):
    answer = answer.astype(np.float32)  # narrow ones, exactly
  labels = answer.argmax(axis=-1)
  greatest = np.take_along_axis(answer, labels[..., None], axis=-1)[..., 0]  # nan if one is
  return np.where(np.isfinite(greatest), labels, NOBODY).reshape(size, num_outputs)


def is_logits(answer: np.ndarray) -> bool:
  """Whether an answer is logits: of floating point, of any width.

  Example:
    >>> is_logits(np.zeros((8, 4, 2), np.float16)), is_logits(np.zeros((8, 4), np.uint8))
    (True, False)
  """
  return bool(jnp.issubdtype(answer.dtype, jnp.floating))


def _check_classes(answer: np.ndarray, num_classes: int) -> None:
  if answer.shape[-1] == num_classes:
    return
  hint = " classes."
  if num_classes in answer.shape[1:]:
    axis = 1 + answer.shape[1:].index(num_classes)
    hint = f": move the axis of the classes to the end (`np.moveaxis(logits, {axis}, -1)`)."
  raise MissingClassesError(
    f"`num_classes` is {num_classes}, but `predict` returns logits of shape {answer.shape}, whose "
    f"last axis has {answer.shape[-1]}{hint}"
  )
