"""Text beside the lines and points of a figure, where it hides nothing."""

import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import cbook
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.typing import ColorType
from scipy.spatial import cKDTree

MOST = 8
"""So many curves, at most, are named beside themselves; more have a legend."""

_GAPS = 5.0, 16.0, 34.0, 55.0  # points between a text and its anchor
_LEADER = 10.0  # gaps greater than that have a thin line
_PAD = 2.0  # points that are free around a text
_APART = 6.0  # points to what a text without a thin line could be mistaken for
_STEP = 2.0  # points between samples of a line
_BRANCHES, _TRIES = 20, 150  # of the search for places that leave room for all labels
_WIDTHS = 60, 24, 16  # letters in a line of a curve's name, the next where there is no room
_SIDES = [side for side in itertools.product((1, -1, 0), repeat=2) if side != (0, 0)]


class Label(NamedTuple):
  """A text, and the places that it may stand beside."""

  text: str
  anchors: np.ndarray  # [N, 2], in the units of the axes
  line: Line2D | None = None  # which it names, or a point of which; its color
  size: float = 9.0


class _Options(NamedTuple):
  """Where a label may stand, what all lines leave, best first."""

  boxes: np.ndarray  # [C, 4], in pixels: left, bottom, right, top
  anchors: np.ndarray  # [C, 2], in pixels
  leaders: np.ndarray  # bool [C]


def place(axes: Axes, labels: Sequence[Label]) -> bool:
  """Writes every label beside one of its anchors, off all lines and texts; or else none at all.

  What is drawn later may hide it, and a change of limits or size may move it.

  Returns:
    Whether there was room.

  Example:
    >>> axes = Figure().subplots()
    >>> (line,) = axes.plot([0, 1], [0, 1])
    >>> place(axes, [Label("a line", line.get_xydata(), line)])
    True
    >>> place(axes, [Label("as wide as a page" * 10, line.get_xydata(), line)])
    False
  """
  _figure(axes).draw_without_rendering()  # what is measured depends on the layout
  return _place(axes, labels)


def place_some(axes: Axes, labels: Sequence[Label]) -> int:
  """Writes those labels that find room, one after the other, as `place` does.

  Returns:
    How many there are.

  Example:
    >>> axes = Figure().subplots()
    >>> (line,) = axes.plot([0, 1], [0, 1])
    >>> texts = "as wide as a page" * 10, "a line"
    >>> place_some(axes, [Label(text, line.get_xydata(), line) for text in texts])
    1
  """
  _figure(axes).draw_without_rendering()
  return sum(_place(axes, [label]) for label in labels)


def _place(axes: Axes, labels: Sequence[Label]) -> bool:
  unit = _figure(axes).dpi / 72
  traces = {line: trace(line, _STEP * unit) for line in axes.get_lines()}
  options = [_options(axes, label, traces, unit) for label in labels]
  taken = [np.array(text.get_window_extent().extents) for text in axes.texts if text.get_text()]
  order = sorted(range(len(labels)), key=lambda i: len(options[i].boxes))
  chosen = _choose([options[i] for i in order], taken, itertools.count())
  if chosen is None:
    return False
  for i, found in zip(order, chosen, strict=True):
    _write(axes, labels[i], options[i], found, unit)
  return True


def name_curves(axes: Axes) -> None:
  """Names the lines of the axes beside themselves, or below the axes where there is no room.

  Example:
    >>> figure = Figure(layout="constrained")
    >>> axes = figure.subplots()
    >>> lines = axes.plot([0, 1], [[0, 1], [1, 0]], label=["up", "down"])
    >>> name_curves(axes)
    >>> sorted(text.get_text() for text in axes.texts), figure.legends
    (['down', 'up'], [])
  """
  lines = axes.get_lines()
  figure = _figure(axes)
  figure.draw_without_rendering()
  named = [line for line in lines if not str(line.get_label()).startswith("_")]
  if len(named) <= MOST:
    places = [apart(line, lines) for line in named]
    for width in _WIDTHS:
      texts = (_broken(str(line.get_label()), width) for line in named)
      if _place(axes, [Label(*label) for label in zip(texts, places, named, strict=True)]):
        return
  legend_below(figure)


def _broken(text: str, width: int) -> str:
  return "\n".join(textwrap.fill(line, width) for line in text.splitlines())


def legend_below(figure: Figure) -> Legend:
  """A legend of all lines under the axes, in as many columns as fit; the figure grows by it.

  Example:
    >>> figure = Figure(layout="constrained")
    >>> lines = figure.subplots().plot([0, 1], label="as wide as the page, or almost" * 2)
    >>> legend_below(figure)._ncols
    1
  """
  for columns in (2, 1):
    legend = figure.legend(loc="outside lower center", ncols=columns, fontsize=9)
    if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
      break
    legend.remove()
  height = legend.get_window_extent().height / figure.dpi
  figure.set_figheight(figure.get_figheight() + height)
  return legend


def apart(line: Line2D, lines: Sequence[Line2D]) -> np.ndarray:
  """[N, 2] places along a line where no other line is near, if there are any, in its units.

  Example:
    >>> axes = Figure().subplots()
    >>> lines = axes.plot([0, 1, 2], [[0, 0], [1, 1], [2, 1]])
    >>> bool((apart(lines[0], lines)[:, 0] > 1).all())
    True
  """
  axes = line.axes
  assert axes is not None
  unit = axes.figure.dpi / 72
  points = trace(line, _STEP * unit)
  window = axes.get_window_extent()
  inside = (points > window.p0 + unit).all(axis=1) & (points < window.p1 - unit).all(axis=1)
  others = [trace(other, _STEP * unit) for other in lines if other is not line]
  far = cKDTree(np.concatenate([_NOWHERE, *others])).query(points)[0] > _APART * unit
  clear = np.flatnonzero(inside & far)
  clear = clear[:: len(clear) // 40 + 1]
  return axes.transData.inverted().transform(points[clear])


def _figure(axes: Axes) -> Figure:
  figure = axes.get_figure()
  assert isinstance(figure, Figure)
  return figure


_NOWHERE = np.full((1, 2), 1e9)  # a line may have no points


def trace(line: Line2D, step: float) -> np.ndarray:
  """[N, 2] points of a line as it is drawn, at most `step` pixels apart, in pixels.

  Example:
    >>> (line,) = Figure().subplots().plot([0, 1], [0, 1])
    >>> bool((np.hypot(*np.diff(trace(line, 5.0), axis=0).T) <= 5.0).all())
    True
  """
  x, y = (np.asarray(values, float) for values in line.get_data(orig=False))
  x, y = cbook.STEP_LOOKUP_MAP[line.get_drawstyle()](x, y)
  corners = line.get_transform().transform(np.stack([x, y], axis=1))
  corners = corners[np.isfinite(corners).all(axis=1)]
  if line.get_linestyle() == "None" or len(corners) < 2:
    return corners
  length = np.append(0.0, np.cumsum(np.hypot(*np.diff(corners, axis=0).T)))
  at = np.union1d(length, np.linspace(0, length[-1], int(length[-1] / step) + 2))
  return np.stack([np.interp(at, length, corners[:, i]) for i in (0, 1)], axis=1)


def _options(
  axes: Axes, label: Label, traces: Mapping[Line2D, np.ndarray], unit: float
) -> _Options:
  """Where a label hides no line, lies in the axes, and could not be that of another line."""
  own = np.concatenate([_NOWHERE, *(of for line, of in traces.items() if line is label.line)])
  others = np.concatenate(
    [_NOWHERE, *(of for line, of in traces.items() if line is not label.line)]
  )
  found, gap = _inside(axes, label, unit)
  clear = _distance(found.boxes, others) / unit
  good = clear > np.where(found.leaders, _PAD, _APART)
  good &= _distance(found.boxes, own) / unit > 1.5 * _PAD
  order = np.flatnonzero(good)
  order = order[np.argsort((gap - np.minimum(clear, 15))[order], kind="stable")]
  found = _Options(*(part[order] for part in found))
  hit = _near(_leaders(found, 3 * unit), others, 1.5 * unit)
  hit |= _near(_leaders(found, _GAPS[0] * unit), own, 1.5 * unit)
  return _Options(*(part[~(hit & found.leaders)] for part in found))


def _inside(axes: Axes, label: Label, unit: float) -> tuple[_Options, np.ndarray]:
  """Every place in the axes around the anchors, and its gap [C] in points."""
  points = axes.transData.transform(np.reshape(label.anchors, (-1, 2)))
  gaps, sides = np.array(_GAPS)[:, None, None, None] * unit, np.array(_SIDES)[:, None, :]
  size = _size(axes, label)
  corners = points + sides * gaps + (sides - 1) / 2 * size  # [gaps, sides, anchors, 2]
  gap = np.broadcast_to(gaps[..., 0], corners.shape[:-1]).ravel() / unit
  anchors = np.broadcast_to(points, corners.shape).reshape(-1, 2)
  boxes = np.concatenate([corners, corners + size], axis=-1).reshape(-1, 4)
  window = axes.get_window_extent()
  inside = (boxes[:, :2] >= window.p0 + _PAD * unit).all(axis=1)
  inside &= (boxes[:, 2:] <= window.p1 - _PAD * unit).all(axis=1)
  return _Options(boxes[inside], anchors[inside], gap[inside] > _LEADER), gap[inside]


def _size(axes: Axes, label: Label) -> np.ndarray:
  text = axes.text(0.5, 0.5, label.text, fontsize=label.size, transform=axes.transAxes)
  extent = text.get_window_extent()
  text.remove()
  return np.array([extent.width, extent.height])


def _distance(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
  """[C], of every box to the nearest of the points [P, 2]."""
  x, y = np.ascontiguousarray(points.T)
  nearest = np.empty(len(boxes))
  for some in range(0, len(boxes), 32):  # so few that all of it stays in a processor's cache
    left, bottom, right, top = boxes[some : some + 32].T[..., None]
    dx = np.maximum(np.maximum(left - x, x - right), 0)
    dy = np.maximum(np.maximum(bottom - y, y - top), 0)
    nearest[some : some + 32] = (dx * dx + dy * dy).min(axis=1)
  return np.sqrt(nearest)


def _leaders(options: _Options, start: float) -> np.ndarray:
  """[C, 32, 2] points between the anchors and their texts, `start` pixels off the anchors on."""
  ends = np.clip(options.anchors, options.boxes[:, :2], options.boxes[:, 2:])
  ways = (ends - options.anchors)[:, None]
  first = np.minimum(start / np.maximum(np.hypot(*ways[:, 0].T), 1e-9), 1)[:, None]
  parts = first + (1 - first) * np.linspace(0, 1, 32)
  return options.anchors[:, None] + parts[..., None] * ways


def _near(leaders: np.ndarray, points: np.ndarray, distance: float) -> np.ndarray:
  """Bool [C]: which come nearer to a point than that."""
  found, _ = cKDTree(points).query(leaders.reshape(-1, 2), distance_upper_bound=distance)
  return np.any(np.isfinite(found).reshape(leaders.shape[:2]), axis=1)


def _choose(
  options: Sequence[_Options], taken: list[np.ndarray], tried: Iterator[int]
) -> list[int] | None:
  """A place for each label that leaves one for all others: a search, best first, within bounds."""
  if not options:
    return []
  first, *rest = options
  free = _free(first, taken)
  for found in (*free[:1], *free[1 :: len(free) // _BRANCHES + 1]):
    if next(tried) > _TRIES:
      return None
    written = [*taken, first.boxes[found]]
    if first.leaders[found]:
      written += [np.tile(point, 2) for point in _leaders(first, 0)[found]]
    others = _choose(rest, written, tried)
    if others is not None:
      return [int(found), *others]
  return None


def _free(options: _Options, taken: Sequence[np.ndarray]) -> np.ndarray:
  """The places that overlap nothing that was written, nor have a line across it."""
  free = np.ones(len(options.boxes), bool)
  leaders = _leaders(options, 0)
  for box in taken:
    low, high = box[:2] - 3, box[2:] + 3
    free &= ~((options.boxes[:, :2] < high) & (options.boxes[:, 2:] > low)).all(axis=1)
    hit = np.any(((leaders < high) & (leaders > low)).all(axis=2), axis=1)
    free &= ~(hit & options.leaders)
  return np.flatnonzero(free)


def ink(color: ColorType) -> tuple[float, float, float]:
  """A color, dark enough for text on white.

  Example:
    >>> [round(part, 2) for part in ink("yellow")]
    [0.51, 0.51, 0.0]
  """
  rgb = np.array(to_rgb(color))
  dark = rgb * min(1.0, 0.45 / max(float(rgb @ (0.299, 0.587, 0.114)), 1e-9))
  return tuple(dark.tolist())


def _write(axes: Axes, label: Label, options: _Options, found: int, unit: float) -> None:
  box, anchor = options.boxes[found], options.anchors[found]
  color = "black" if label.line is None else ink(label.line.get_color())
  leader = None
  if options.leaders[found]:
    end = (np.clip(anchor, box[:2], box[2:]) - box[:2]) / (box[2:] - box[:2])
    leader = {
      "arrowstyle": "-", "color": color, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0,
      "relpos": tuple(end),
    }  # fmt: skip
  text = axes.annotate(
    label.text,
    tuple(axes.transData.inverted().transform(anchor)),
    tuple((box[:2] - anchor) / unit),
    textcoords="offset points",
    ha="left",
    va="bottom",
    fontsize=label.size,
    color=color,
    arrowprops=leader,
  )
  text.set_in_layout(False)
