"""Texts of a figure that overlap one another, or that its edge cuts off."""

import itertools

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def ticks(axis):
  """The labels of an axis that are within its limits."""
  low, high = sorted(axis.get_view_interval())
  slack = 1e-9 * (high - low)
  return [
    tick.label1 for tick in axis.get_major_ticks() if low - slack <= tick.get_loc() <= high + slack
  ]


def texts(figure):
  """All that is written, legends included."""
  found = [*figure.texts, getattr(figure, "_suptitle", None)]
  for axes in figure.axes:
    if not axes.get_visible():
      continue
    axis = [axes.xaxis, axes.yaxis] if axes.axison else []
    found += [axes.title, *axes.texts]
    found += [text for of in axis for text in (of.label, of.offsetText, *ticks(of))]
  for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes)]:
    found += legend.get_texts() if legend else []
  found = {id(text): text for text in found if text is not None}.values()
  return [text for text in found if text.get_visible() and text.get_text().strip()]


def check_texts(figure):
  """Draws a figure and looks at the bounding boxes of its texts, to a pixel."""
  FigureCanvasAgg(figure).draw()
  boxes = [(text.get_text(), Text.get_window_extent(text)) for text in texts(figure)]  # no arrows
  assert boxes
  whole = figure.bbox
  for text, box in boxes:
    assert box.x0 >= whole.x0 - 1, text
    assert box.y0 >= whole.y0 - 1, text
    assert box.x1 <= whole.x1 + 1, text
    assert box.y1 <= whole.y1 + 1, text
  for (one, a), (other, b) in itertools.combinations(boxes, 2):
    apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
    assert apart, (one, other)


def check_saved(monkeypatch):
  """From now on, every figure that is saved is checked before."""
  save = Figure.savefig

  def checked(figure, *args, **options):
    check_texts(figure)
    return save(figure, *args, **options)

  monkeypatch.setattr(Figure, "savefig", checked)
