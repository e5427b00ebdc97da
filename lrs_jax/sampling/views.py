"""How far an output of an image model sees: a claim that is tested before it is used (host).

A certificate that counts on it is wrong if an output sees farther, and nothing in its numbers would
show that.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy import ndimage

from lrs_jax import errors
from lrs_jax.cells.views import View, as_view, seeing
from lrs_jax.noise import as_input
from lrs_jax.sampling.checks import logits_of
from lrs_jax.sampling.stitching import Apply

ALIGNMENTS = 32
"""Pixels after which the poolings and strides of a model are aligned alike, in most of them."""


def check_view(
  apply: Apply, params: Any, x: ArrayLike, view: View | int, *, num_places: int = ALIGNMENTS
) -> None:
  r"""Looks for outputs that see farther than they are said to.

  For sets P of pixels, the input is changed in P alone, and every output that sees none of them
  must keep each bit of its logits:

  .. math:: P \cap R(i, j) = \emptyset \;\Rightarrow\; f_{ij}(z') = f_{ij}(z) .

  P is a block of pixels, or all that a block of outputs should not see: at the corners, the center,
  and at places of all alignments modulo 32, as poolings see less or farther by their alignment;
  blocks are 1, 4 and 16 pixels wide. New values are nan, which sums pass on wherever there is a
  path, and numbers within the input's range and far beyond it, which a greatest value passes on as
  well (on some devices pooling drops nan); z is the input, or a noisy copy. At most six evaluations
  per place, always the same ones. That is a test of these parameters, no proof: a path that carries
  nothing in any of them goes unnoticed, and the architecture alone says that there is none.

  Args:
    apply: pure function (params, x) -> logits [H, W, K] of one input.
    params: pytree of arrays, passed to `apply`.
    x: one input [H, W, ...], of a floating-point type.
    view: what every output sees, R, such as `folded_unet.view`; or r, in pixels, where they see
      :math:`\max(|i - k|, |j - l|) \le r`: 0 if an output sees its own pixel alone.
    num_places: how many, beside corners and center.

  Raises:
    FartherViewError: some output sees farther, with its place and how far.
    IntegerInputError: x has integer entries.
    NotDeterministicError: two evaluations of one input differ in some bit.
    NotLogitsError: the logits do not have one output for every pixel of x.
    ValueError: `view` is neither an integer >= 0 nor of the outputs' shape.

  Example:
    >>> def apply(params, x):  # every pixel and its left neighbor
    ...   return jnp.stack([x, jnp.pad(x, ((0, 0), (1, 0)))[:, :-1]], axis=-1)
    >>> x = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    >>> check_view(apply, None, x, 1)
    >>> check_view(apply, None, x, 0)
    Traceback (most recent call last):
    ...
    lrs_jax.errors.FartherViewError: the output at (0, 1) sees 1 pixels far, ...
  """
  x = as_input(x)
  if not isinstance(view, View):
    as_view(view, ())  # the message before all others
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise errors.IntegerInputError(f"`x` must be floating-point, but its type is {x.dtype}.")
  logits = logits_of(apply, params, x)
  if len(logits.shape) != 3 or x.ndim < 2 or logits.shape[:2] != x.shape[:2]:
    raise errors.NotLogitsError(
      "a `view` in pixels needs logits [H, W, K] with one output for every pixel of `x`, but they "
      f"have shape {logits.shape} and `x` has {x.shape}."
    )
  view, rng = as_view(view, logits.shape[:2]), np.random.default_rng(0)
  model = jax.jit(lambda params, z: apply(params, z))  # one program: the same bits for one input
  inputs = noisy_pair(np.asarray(x), rng)
  before = [model(params, jnp.asarray(z)) for z in inputs]
  if _changed(before[0], model(params, x)).any():
    raise errors.NotDeterministicError(
      "two evaluations of one input differ in some bits, so that nobody can tell what an output "
      "sees. Random numbers, or an unordered sum of the accelerator?"
    )
  for change in changes(inputs, view, num_places, rng):
    after = model(params, jnp.asarray(change.pixels))
    check_blind(view, change, np.asarray(_changed(before[change.of], after)), "logits")


class Change(NamedTuple):
  """An input that was changed in some pixels alone."""

  of: int  # which of the inputs it is
  pixels: np.ndarray  # [H, W, ...], the input as it has become
  changed: np.ndarray  # bool [H, W]
  blind: np.ndarray  # bool [H, W], outputs that see none of what was changed
  name: str  # what was changed, in words
  values: str  # into what


def noisy_pair(pixels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """An input and a noisy copy of it.

  Example:
    >>> [z.shape for z in noisy_pair(np.zeros((2, 3), np.float32), np.random.default_rng(0))]
    [(2, 3), (2, 3)]
  """
  noise = _spread(pixels) / 2 * rng.standard_normal(pixels.shape)
  return pixels, pixels + noise.astype(pixels.dtype)


def changes(
  inputs: tuple[np.ndarray, np.ndarray], view: View, num_places: int, rng: np.random.Generator
) -> Iterator[Change]:
  """The inputs, changed where some outputs should not see it: see `check_view`.

  Example:
    >>> from lrs_jax.cells import views
    >>> rng = np.random.default_rng(0)
    >>> pair = noisy_pair(np.zeros((2, 3), np.float32), rng)
    >>> next(changes(pair, views.around((2, 3), 1), 1, rng)).name
    'the input at (0, 0)'
  """
  spread = _spread(inputs[0])
  for i, (name, changed) in enumerate(_places(view, num_places, rng)):
    blind = ~seeing(view, changed)
    if not blind.any():
      continue
    of = i // 2 % 2
    z = inputs[of]
    for values, factor in _NEW_VALUES.items():
      draw = rng.standard_normal(z.shape) if np.isfinite(factor) else np.ones(z.shape)
      with np.errstate(over="ignore"):  # float16 becomes infinite, which is huge as well
        new = z + (factor * spread * draw).astype(z.dtype)
      mask = changed.reshape(changed.shape + (1,) * (z.ndim - 2))
      yield Change(of, np.where(mask, new, z), changed, blind, name, values)


def check_blind(view: View, change: Change, differs: np.ndarray, answer: str) -> None:
  """Raises a FartherViewError if an output differs, bool [H, W], that sees nothing of the change.

  `answer` is what the model returns: "logits" or "label".

  Example:
    >>> nothing = np.zeros((1, 2), bool)
    >>> change = Change(0, np.zeros((1, 2)), ~nothing, nothing, "all", "nan")
    >>> check_blind(as_view(0, (1, 2)), change, ~nothing, "logits")
  """
  wrong = change.blind & differs
  if not wrong.any():
    return
  distances = ndimage.distance_transform_cdt(~change.changed, metric="chessboard")
  place = np.unravel_index(int(np.where(wrong, distances, 0).argmax()), wrong.shape)
  (top, bottom), (left, right) = (axis[i] for axis, i in zip(view.axes, place, strict=True))
  raise errors.FartherViewError(
    f"the output at ({place[0]}, {place[1]}) sees {distances[place]} pixels far, more than the "
    f"rows {top} to {bottom - 1} and columns {left} to {right - 1} of `view` ({view.origin}): its "
    f"{answer} changed when {change.name} became {change.values}, and nothing else. Take a larger "
    "view, or None; pooling over the whole image, and some normalizations, see all of it."
  )


def _spread(pixels: np.ndarray) -> float:
  return (float(np.ptp(pixels.astype(np.float64))) if pixels.size else 0.0) or 1.0


_NEW_VALUES = {"nan": np.nan, "huge": 1e4, "another value of its range": 1.0}
"""Multiples of the input's spread that are added."""


def _places(
  view: View, num_places: int, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
  """Sets of pixels, bool [H, W], and what they are in words."""
  height, width = view.shape
  corners = [(i, j) for i in (0, height - 1) for j in (0, width - 1)]
  residues = [rng.permutation(np.arange(num_places) % ALIGNMENTS) for _ in range(2)]
  spots = [
    (residue + ALIGNMENTS * rng.integers(0, max(size // ALIGNMENTS, 1), num_places)) % size
    for residue, size in zip(residues, (height, width), strict=True)
  ]
  places = [*corners, (height // 2, width // 2), *zip(*spots, strict=True)]
  for k, (row, column) in enumerate(places):
    size = (1, 4, 16)[k % 3]
    top, left = max(0, min(row, height - size)), max(0, min(column, width - size))
    at = slice(top, top + size), slice(left, left + size)
    inside, hidden = np.zeros((height, width), bool), np.ones((height, width), bool)
    inside[at] = True
    ends = (axis[part] for axis, part in zip(view.axes, at, strict=True))
    hidden[tuple(slice(end[:, 0].min(), end[:, 1].max()) for end in ends)] = False
    block = f"{size}x{size} pixels from ({top}, {left}) on" if size > 1 else f"({top}, {left})"
    yield f"the input at {block}", inside
    yield f"all that outputs at {block} should not see", hidden


@jax.jit
def _changed(logits: jax.Array, other: jax.Array) -> jax.Array:
  """Which outputs [H, W] differ in some bit of their logits [H, W, K]."""
  if jnp.issubdtype(logits.dtype, jnp.floating):
    words = f"uint{8 * logits.dtype.itemsize}"
    logits, other = (jax.lax.bitcast_convert_type(part, words) for part in (logits, other))
  return (logits != other).any(axis=2)
