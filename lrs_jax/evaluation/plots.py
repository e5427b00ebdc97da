"""Figures: certified accuracy against budget, noise scales, and a certified image.

Colors are those of Okabe & Ito, which people with color blindness can tell apart; every curve has a
line style of its own as well.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.colors
import matplotlib.patches
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lrs_jax.evaluation import labels

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_STYLES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), (0, (5, 1)))


class ImageView(NamedTuple):
  """What `image_figure` shows of one image."""

  name: str
  image: np.ndarray  # [H, W, 3] in [0, 1]
  truth: np.ndarray  # int [H, W]; outside [0, K) is void
  prediction: np.ndarray  # int [H, W]; -1 abstains
  radius: np.ndarray  # [H, W], up to which the pixel is certified on its own
  noisy: Sequence[np.ndarray]  # samples [H, W, 3], one per group in `noisy_groups`
  noisy_groups: Sequence[int]
  groups: np.ndarray  # int [H, W]
  classes: Sequence[str]


def curves_figure(
  radii: np.ndarray,
  curves: Mapping[str, np.ndarray],
  *,
  xlabel: str,
  ylabel: str,
  title: str,
  whole: bool = False,
) -> Figure:
  """Draws certified fractions, such as certified accuracy, against the adversary's budget.

  What is certified at a budget is certified at all smaller ones, and nothing is known between two
  budgets but that: the curves are steps, with the value of the next larger budget. A straight line
  would lie above what is proven. Every curve is named beside itself, or all in a legend below where
  there is no room for that.

  Args:
    radii: [B], rising, none negative, else a `ValueError`; or one value per budget.
    curves: label -> fraction in [0, 1], [B]; of another length it is a `ValueError`.
    xlabel: the budget and its unit.
    ylabel: what is certified.
    title: in plain words; a long one takes several lines.
    whole: budgets are whole numbers, such as flips: ticks and markers are at those alone.

  Returns:
    A Matplotlib figure; `figure.savefig(path)` writes it.

  Example:
    >>> figure = curves_figure(
    ...   np.array([0.0, 1.0]), {"a method": np.array([0.9, 0.1])}, xlabel="budget",
    ...   ylabel="certified", title="a curve",
    ... )
    >>> figure.axes[0].get_lines()[0].get_drawstyle()
    'steps-pre'
  """
  radii = np.asarray(radii, np.float64)
  if radii.ndim != 1 or not (np.diff(radii, prepend=0.0) >= 0).all():
    raise ValueError(f"`radii` must rise, from 0 or more, but they are {radii}.")
  figure = Figure(figsize=(6.4, 4.0), layout="constrained")
  axes = figure.subplots()
  for i, (label, fraction) in enumerate(curves.items()):
    fraction = np.asarray(fraction, np.float64)
    if fraction.shape != radii.shape:
      raise ValueError(
        f"`curves` must have a value for each of {radii.size} radii, but {label!r} has shape "
        f"{fraction.shape}."
      )
    x, y = radii, fraction
    if radii.size and radii[0] > 0:  # what holds at the first one holds from 0 on
      x, y = np.append(0.0, radii), np.append(fraction[0], fraction)
    (line,) = axes.plot(x, y, drawstyle="steps-pre", linewidth=2, markersize=3, label=label)
    line.set(color=COLORS[i % len(COLORS)], linestyle=_STYLES[i % len(_STYLES)])
    line.set_marker("o" if whole or x.size == 1 else "")
  last = radii[-1] if radii.size and radii[-1] > 0 else 1.0
  axes.set(xlabel=_lines(xlabel, 66), ylabel=_lines(ylabel, 50))
  axes.set_title(_lines(title, 66), fontsize=11)
  axes.set(xlim=(0, last), ylim=(0, 1))
  if whole:
    axes.set_xticks(whole_ticks(last))
  axes.grid(alpha=0.3)
  labels.name_curves(axes)
  return figure


def _lines(text: str, width: int) -> str:
  """The text in lines of about so many letters; a formula may be shorter than it is written."""
  return textwrap.fill(text, width + sum(map(len, re.findall(r"\$.*?\$", text))))


def whole_ticks(last: float) -> np.ndarray:
  """Ticks at some whole numbers from 0 to `last`.

  Example:
    >>> whole_ticks(1).tolist(), whole_ticks(25).tolist()
    ([0, 1], [0, 5, 10, 15, 20, 25])
  """
  locator = MaxNLocator(8, integer=True, steps=(1, 2, 5, 10))
  ticks = np.asarray(locator.tick_values(0, max(last, 1)))
  return ticks[(ticks >= 0) & (ticks <= last) & (ticks == np.round(ticks))].astype(int)


def noise_figure(scale: np.ndarray, grid_shape: tuple[int, int]) -> Figure:
  """Draws the noise scale over the image, one small map per group, where the group lies.

  `scale` is [G, C], in the units of the input, where inf (hidden) is hatched; `grid_shape` is
  (R, Q) with G = C = R Q.

  Example:
    >>> len(noise_figure(np.array([[0.2, 1.0], [1.0, 0.2]]), (1, 2)).axes)  # two maps, a scale
    3
  """
  rows, columns = grid_shape
  size = max(1.2 * columns + 1.4, 4.2), max(rows + 1.0, 2.8)
  figure = Figure(figsize=size, layout="constrained")
  panels = figure.subplots(rows, columns, squeeze=False)
  visible = scale[np.isfinite(scale)]
  norm = matplotlib.colors.Normalize(0, visible.max(initial=1e-9))
  for group, axes in enumerate(panels.flat):
    levels = scale[group].reshape(grid_shape)
    image = axes.imshow(np.ma.masked_invalid(levels), cmap="cividis", norm=norm)
    axes.patch.set(hatch="///", edgecolor="0.6", facecolor="white")
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"group {group}", fontsize=8)
    row, column = divmod(group, columns)
    axes.add_patch(_outline(column - 0.5, row - 0.5, 1, 1))
  figure.colorbar(image, ax=panels, label="noise std,\non the input's [0, 1] scale")
  figure.suptitle("What every group (red) adds to every cell", fontsize=10)
  return figure


def image_figure(view: ImageView) -> Figure:
  """Draws an image, its labels, the smoothed prediction, single-pixel radii and noisy samples.

  Example:
    >>> image, labels = np.zeros((4, 6, 3)), np.zeros((4, 6), int)
    >>> view = ImageView(
    ...   "an image", image, labels, labels, labels + 0.5, [image], [0], labels, ("a class",)
    ... )
    >>> image_figure(view).get_suptitle()
    'an image'
  """
  figure = Figure(figsize=(13, 5.2), layout="constrained")
  panels = figure.subplots(2, 4)
  names = [*view.classes, "abstains / void"]
  palette = matplotlib.colors.ListedColormap(_palette(len(view.classes)))
  gray = len(view.classes)
  truth = np.where((view.truth >= 0) & (view.truth < gray), view.truth, gray)
  prediction = np.where(view.prediction >= 0, view.prediction, gray)
  panels[0, 0].imshow(view.image)
  panels[0, 0].set_title("input", fontsize=10)
  smoothed = f"smoothed prediction, {np.mean(prediction == gray):.1%} abstain"
  masks = (panels[0, 1], truth, "labels"), (panels[0, 2], prediction, smoothed)
  for axes, values, title in masks:
    axes.imshow(values, cmap=palette, vmin=-0.5, vmax=gray + 0.5, interpolation="nearest")
    axes.set_title(title, fontsize=10)
  radius = panels[0, 3].imshow(np.ma.masked_equal(view.radius, 0), cmap="viridis", vmin=0)
  panels[0, 3].patch.set_facecolor("#999999")
  panels[0, 3].set_title("radius of every pixel on its own", fontsize=10)
  figure.colorbar(radius, ax=panels[0, 3], label=r"$\ell_2$ radius on the [0, 1] scale")
  for axes in panels[1, len(view.noisy) :]:
    axes.set_visible(False)
  for axes, group, noisy in zip(panels[1], view.noisy_groups, view.noisy, strict=False):
    axes.imshow(np.clip(noisy, 0, 1))
    inside = np.argwhere(view.groups == group)
    (top, left), (bottom, right) = inside.min(axis=0), inside.max(axis=0) + 1
    axes.add_patch(_outline(left - 0.5, top - 0.5, right - left, bottom - top))
    axes.set_title(f"noisy sample of group {group} (red)", fontsize=10)
  for axes in panels.flat:
    axes.set(xticks=[], yticks=[])
  shown = sorted(set(truth.flat) | set(prediction.flat))
  handles = [Patch(facecolor=palette(i), label=names[i]) for i in shown]
  figure.legend(handles=handles, loc="outside right center", fontsize=8)
  figure.suptitle(view.name)
  return figure


def _outline(x: float, y: float, width: float, height: float) -> Patch:
  return matplotlib.patches.Rectangle((x, y), width, height, fill=False, color="red", linewidth=1.5)


def _palette(num_classes: int) -> list[str]:
  """Distinct colors for the classes and gray for void and abstention."""
  colors = [*COLORS, "#882255", "#44AA99", "#DDCC77", "#332288", "#AA4499", "#117733"]
  return [colors[i % len(colors)] for i in range(num_classes)] + ["#999999"]
