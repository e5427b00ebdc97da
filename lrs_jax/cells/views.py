r"""Views: which pixels an image model lets every output see, and blocks that follow from it (host).

Output i = (i_1, i_2, ...) depends on a box of coordinates alone, one interval along every axis:

.. math:: R(i) = [a_1(i_1), b_1(i_1)) \times [a_2(i_2), b_2(i_2)) \times \dots

An adversary who wants to change an output has to pay in its box. A box that is too small makes a
certificate wrong and nothing in its numbers would show that: it comes from the architecture, or is
forced by `sampling.tiled`, and `sampling.check_view` tests it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class View(NamedTuple):
  """What every output sees: along each axis, the interval of every place."""

  axes: tuple[np.ndarray, ...]  # int64 [n, 2] each: outputs at place i see [first, end) of n places
  origin: str  # how that is known, in words

  @property
  def shape(self) -> tuple[int, ...]:
    """Of the outputs, and of the coordinates."""
    return tuple(len(axis) for axis in self.axes)


class Blocks(NamedTuple):
  """Groups of outputs, cells of coordinates, and which of them a group sees."""

  groups: np.ndarray  # int32, of the outputs' shape, in [0, G)
  cells: np.ndarray  # int32, of the same shape, in [0, C)
  seen: np.ndarray  # bool [G, C]: whether an output of group g sees a coordinate of cell c


def whole(shape: Sequence[int]) -> View:
  """The view of outputs that may see everything.

  Example:
    >>> whole((4, 6)).axes[0].tolist()
    [[0, 4], [0, 4], [0, 4], [0, 4]]
  """
  return View(tuple(np.tile([0, size], (size, 1)) for size in shape), "no limit")


def around(shape: Sequence[int], distance: int) -> View:
  """The view of outputs that see so many places to every side (Chebyshev), within the frame.

  Example:
    >>> around((4,), 1).axes[0].tolist()
    [[0, 2], [0, 3], [1, 4], [2, 4]]
  """
  axes = tuple(spread(places(size), distance) for size in shape)
  return View(axes, f"{distance} pixels to every side, as stated")


def tiles(shape: Sequence[int], core: int, context: int) -> View:
  """The view of outputs of a model that is evaluated in tiles, `sampling.tiled`.

  Example:
    >>> tiles((6,), core=2, context=1).axes[0].tolist()
    [[0, 4], [0, 4], [1, 5], [1, 5], [2, 6], [2, 6]]
  """
  for name, value, least in (("core", core, 1), ("context", context, 0)):
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
      raise ValueError(f"`{name}` must be an integer >= {least}, but it is {value!r}.")
  axes = []
  for n in shape:
    size, tile = min(n, core + 2 * context), np.arange(n) // core * core
    first = np.clip(tile - context, 0, n - size)
    axes.append(np.stack([first, first + size], axis=1))
  return View(tuple(axes), f"tiles of {core} pixels, shown {context} more to every side")


def as_view(view: "View | int", shape: Sequence[int]) -> View:
  """A view of outputs of this shape; a number of places is `around`.

  Raises:
    ValueError: a number that is no integer >= 0; intervals that do not fit the shape.

  Example:
    >>> as_view(1, (3,)).axes[0].tolist()
    [[0, 2], [0, 3], [1, 3]]
  """
  if not isinstance(view, View):
    if isinstance(view, bool) or not isinstance(view, int | np.integer) or view < 0:
      raise ValueError(f"`view` must be a number of pixels, an integer >= 0, but it is {view!r}.")
    return around(shape, int(view))
  if view.shape != tuple(shape):
    raise ValueError(f"`view` is of outputs of shape {view.shape}, but theirs is {tuple(shape)}.")
  for axis, size in zip(view.axes, shape, strict=True):
    first, end = axis.T
    if not ((first >= 0) & (first < end) & (end <= size)).all():
      raise ValueError(f"`view` must have intervals within the {size} places of every axis.")
  return view


def through(view: View, before: View) -> View:
  """What outputs see of an input that something else is shown first, such as a denoiser.

  Example:
    >>> through(around((4,), 1), around((4,), 1)).axes[0].tolist()
    [[0, 3], [0, 4], [0, 4], [1, 4]]
  """
  axes = (
    np.stack([[axis[a:b, 0].min(), axis[a:b, 1].max()] for a, b in outer])
    for outer, axis in zip(view.axes, before.axes, strict=True)
  )
  return View(tuple(axes), f"{view.origin}, of an image from {before.origin}")


# How layers widen what is seen along one axis: intervals [n, 2] of n places, none of them empty.


def places(size: int) -> np.ndarray:
  """What the places of the input see: themselves.

  Example:
    >>> places(2).tolist()
    [[0, 1], [1, 2]]
  """
  first = np.arange(size, dtype=np.int64)
  return np.stack([first, first + 1], axis=1)


def spread(intervals: np.ndarray, distance: int) -> np.ndarray:
  """After a convolution that reaches so far to both sides, padded as "same".

  Example:
    >>> spread(places(4), 1).tolist()
    [[0, 2], [0, 3], [1, 4], [2, 4]]
  """
  at, last = np.arange(len(intervals)), len(intervals) - 1
  first, end = (
    np.minimum.accumulate(intervals[::-1, 0])[::-1],
    np.maximum.accumulate(intervals[:, 1]),
  )
  return np.stack(
    [first[np.maximum(at - distance, 0)], end[np.minimum(at + distance, last)]], axis=1
  )


def pooled(intervals: np.ndarray, stride: int) -> np.ndarray:
  """After pooling windows of `stride` places, the last one cut off at the end.

  Example:
    >>> pooled(places(5), 2).tolist()
    [[0, 2], [2, 4], [4, 5]]
  """
  starts = np.arange(0, len(intervals), stride)
  first, end = intervals.T
  return np.stack([np.minimum.reduceat(first, starts), np.maximum.reduceat(end, starts)], axis=1)


def repeated(intervals: np.ndarray, times: int, size: int) -> np.ndarray:
  """After every place was repeated, and all cut to a size.

  Example:
    >>> repeated(pooled(places(3), 2), 2, 3).tolist()
    [[0, 2], [0, 2], [2, 3]]
  """
  return np.repeat(intervals, times, axis=0)[:size]


def joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Where two paths meet: the smallest intervals that hold those of both.

  Example:
    >>> joined(places(2), places(2) + 1).tolist()
    [[0, 2], [1, 3]]
  """
  return np.stack([np.minimum(one[:, 0], other[:, 0]), np.maximum(one[:, 1], other[:, 1])], axis=1)


def blocks(
  view: View, block: int | None = None, labels: Sequence[np.ndarray] | None = None
) -> Blocks:
  r"""Cuts outputs into blocks, and coordinates into the fewest cells that lose nothing.

  A group holds outputs of one block of so many places along every axis, and of one label. It sees
  what one of its outputs sees: :math:`R(g) = \bigcup_{i \in g} R(i)`, a box again. Coordinates of
  one label are put into one cell if one of them is seen by all groups that see another: whoever
  would change the latter changes the former at the same price, and reaches more.

  Args:
    view: what every output sees.
    block: its places along every axis; blocks that see the same are one group. None: `block_size`.
    labels: int [n] for every axis: where all labels are the same, so is the noise.

  Raises:
    ValueError: `block` is no integer >= 1, or labels that do not fit.

  Example:
    >>> found = blocks(around((6,), 1), 2)
    >>> found.groups.tolist(), found.cells.tolist()
    ([0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1])
    >>> found.seen.astype(int).tolist()
    [[1, 0], [1, 1], [0, 1]]
  """
  if block is None:
    block = block_size(view)
  if isinstance(block, bool) or not isinstance(block, int | np.integer) or block < 1:
    raise ValueError(f"`block` must be a number of places, an integer >= 1, but it is {block!r}.")
  labels = [np.zeros(n, np.int64) for n in view.shape] if labels is None else labels
  if [np.shape(label) for label in labels] != [(n,) for n in view.shape]:
    raise ValueError(
      f"`labels` must be one int [n] for each axis of {view.shape}, but their shapes are "
      f"{[np.shape(label) for label in labels]}."
    )
  groups, cells, seen = np.zeros((), np.int64), np.zeros((), np.int64), np.ones((1, 1), bool)
  for axis, label in zip(view.axes, labels, strict=True):
    own = _axis_blocks(axis, block, np.asarray(label))
    groups = groups[..., None] * own.seen.shape[0] + own.groups
    cells = cells[..., None] * own.seen.shape[1] + own.cells
    seen = np.kron(seen, own.seen)
  return Blocks(groups.astype(np.int32), cells.astype(np.int32), seen)


MAX_ENTRIES = 5_000_000
"""Groups times cells, at most, where the size of blocks is not given: 40 MB of weights."""


def block_size(view: View) -> int:
  """The smallest size of blocks, a power of 2, that makes no more than `MAX_ENTRIES`.

  Smaller blocks see less, so that more is certified; blocks of 1 lose nothing at all.

  Example:
    >>> block_size(around((180, 240), 20)), block_size(around((720, 960), 20))
    (4, 32)
  """
  block = 1
  while block < max(view.shape, default=1):
    along = [_axis_blocks(axis, block, np.zeros(len(axis))).seen.shape for axis in view.axes]
    if math.prod(map(math.prod, along)) <= MAX_ENTRIES:
      break
    block *= 2
  return block


def _axis_blocks(intervals: np.ndarray, block: int, label: np.ndarray) -> Blocks:
  """`blocks` along one axis."""
  at = np.arange(len(intervals))
  starts = _changes(at // block, label)
  first = np.minimum.reduceat(intervals[:, 0], starts)
  end = np.maximum.reduceat(intervals[:, 1], starts)
  kept = _changes(first, end, label[starts])
  starts, first, end = starts[kept], first[kept], end[kept]
  sees = (first[:, None] <= at) & (at < end[:, None])  # [groups, n]
  number = sees.astype(np.float32)  # products below are small whole numbers
  # Place x stands for y if no group that sees y misses x.
  stands = ((1 - number).T @ number == 0) & (label[:, None] == label)
  best = np.where(stands, number.sum(axis=0)[:, None], -1).argmax(axis=0)
  best = (stands & stands.T)[:, best].argmax(axis=0)  # the first of those that all see alike
  chosen, cells = np.unique(best, return_inverse=True)
  groups = np.searchsorted(starts, at, "right") - 1
  return Blocks(groups, cells.reshape(-1), sees[:, chosen])


def _changes(*values: np.ndarray) -> np.ndarray:
  """Where runs of equal values start."""
  new = np.zeros(max(values[0].size - 1, 0), bool)
  for value in values:
    new |= value[1:] != value[:-1]
  return np.flatnonzero(np.append(True, new))


def seen(view: View, groups: np.ndarray, cells: np.ndarray) -> np.ndarray:
  """Which cells the outputs of a group see, bool [G, C], for any groups and cells.

  Example:
    >>> seen(around((4,), 1), np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3])).astype(int).tolist()
    [[1, 1, 1, 0], [0, 1, 1, 1]]
  """
  found = np.zeros((groups.max(initial=-1) + 1, cells.max(initial=-1) + 1), bool)
  for cell in range(found.shape[1]):
    found[groups[seeing(view, cells == cell)], cell] = True
  return found


def seeing(view: View, marked: np.ndarray) -> np.ndarray:
  """Outputs that see a coordinate that is marked: bool, of the view's shape, as `marked` is.

  Example:
    >>> seeing(around((4,), 1), np.array([True, False, False, False])).tolist()
    [True, True, False, False]
  """
  number = np.asarray(marked, np.int64)
  for axis, intervals in enumerate(view.axes):  # sums over boxes, axis by axis
    total = np.insert(number.cumsum(axis=axis), 0, 0, axis=axis)
    number = total.take(intervals[:, 1], axis=axis) - total.take(intervals[:, 0], axis=axis)
  return number > 0
