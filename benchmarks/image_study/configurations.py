"""What the study smooths, and with which noise: every way of smoothing has a name."""

from typing import Any, NamedTuple

import numpy as np

from lrs_jax import noise
from lrs_jax.cells import locality, partition


class Sizes(NamedTuple):
  """How large the study is; the tests run a toy."""

  size: tuple[int, int] = (64, 96)
  crop: tuple[int, int] | None = None  # what a network for larger images is trained on
  start: tuple[int, int] = (64, 96)  # size of the whole images on which it was trained before
  images: int = 8
  width: int = 8
  depth: int = 3
  steps: int = 3000
  marks: tuple[int, ...] = (100, 1000)  # samples per output at which counts are kept
  more: int = 15  # at most so many times the samples
  selection: tuple[int, ...] = (10, 100)  # and of the samples that select labels
  alpha: float = 0.01
  radii: int = 81
  seed: int = 0


class Smoothing(NamedTuple):
  """One way of smoothing: a network, and noise on a grid of cells."""

  network: str
  grid: tuple[int, int]
  std_min: float
  std_max: float
  hide_beyond: float | None = None
  more: int = 1  # also with up to so many times the samples
  centers: bool = False  # also center smoothing of the same network
  compare: tuple[str, ...] = ()  # further ways to combine the base certificates
  certified: tuple[int, ...] = ()  # of `more`: at how many times the samples to certify, too


PAPER = (3, 5)
"""Grid of the paper."""

LEVELS = (0.2, 0.3, 0.4, 0.5)
"""Noise levels of every method: std in the own cell."""

MORE_LEVELS = (*LEVELS, 0.6, 0.8)
"""Of isotropic smoothing, which goes on where localized smoothing loses accuracy."""

EQUAL_COST = (3, 7, 13, 19, 24)
"""Times the samples that cost isotropic smoothing what localized smoothing's do: in device time
with 1, 2 and 3 times the samples (and what may be at first), in forward passes."""


def near(grid: tuple[int, int], std: float, reach: int) -> Smoothing:
  """As much more noise for every cell of distance as in the group's own, hidden beyond `reach`."""
  farthest = max(grid) - 1
  return Smoothing("crops", grid, std, std * (1 + farthest), reach)


def smoothings(sizes: Sizes) -> dict[str, Smoothing]:
  """The ways of smoothing images of this size."""
  return SMALL if sizes.crop is None else LARGE


SMALL = {
  **{f"localized-{s}": Smoothing("localized", PAPER, s, 5 * s, compare=("lp",)) for s in LEVELS},
  **{
    f"isotropic-{s}": Smoothing(
      "isotropic",
      (1, 1),
      s,
      s,
      more=15 if s in (0.4, 0.5) else 1,
      centers=s in LEVELS,
      certified=tuple(range(2, 16)),
    )
    for s in MORE_LEVELS
  },
  "localized-0.4-exact": Smoothing("localized", PAPER, 0.4, 2.0, compare=("milp",)),
  "localized-0.3-everywhere": Smoothing("everywhere", PAPER, 0.3, 1.5),
  **{f"localized-{s}-isotropic": Smoothing("isotropic", PAPER, s, 5 * s) for s in LEVELS},
  "isotropic-0.3-localized": Smoothing("localized", (1, 1), 0.3, 0.3),
  **{
    f"strict-{rows}x{columns}-{s}": Smoothing(
      "strict", (rows, columns), s, s, 0, centers=(rows, s) == (2, 0.3), compare=("lp",)
    )
    for rows, columns in ((2, 2), PAPER)
    for s in LEVELS
  },
}
"""Every way of smoothing images so small that the network sees nearly all of them everywhere.
"exact" takes minutes an image; the last part of other names is a network trained otherwise."""

LARGE = {
  **{f"localized-{s}": near((4, 6), s, 1) for s in LEVELS},
  "localized-0.3": near((4, 6), 0.3, 1)._replace(compare=("lp",)),
  **{f"isotropic-{s}": Smoothing("crops", (1, 1), s, s, centers=s in LEVELS) for s in MORE_LEVELS},
  **{
    f"isotropic-{s}-more": Smoothing("crops", (1, 1), s, s, more=24, certified=EQUAL_COST)
    for s in (0.2, 0.3, 0.4, 0.6)
  },
  **{f"localized-{s}-more": near((4, 6), s, 1)._replace(more=3, certified=(2, 3)) for s in LEVELS},
  "localized-0.3-exact": near((4, 6), 0.3, 1)._replace(compare=("milp",)),
  **{f"localized-{s}-fine": near((6, 10), s, 2) for s in LEVELS},
  "localized-0.3-paper": Smoothing("crops", PAPER, 0.3, 1.5),
}
"""Every way of smoothing larger images, all with one network, trained under isotropic noise. It
sees 53 pixels around one: what lies beyond the next cell, or the next but one, it hardly misses."""

STUDIES = {"64x96": Sizes(), "180x240": Sizes(size=(180, 240), crop=(96, 128), more=24, radii=121)}
"""The two studies: where the network sees nearly the whole image, and where it does not."""


def distribution(smoothing: Smoothing, sizes: Sizes) -> noise.SmoothingDistribution:
  """The paper's noise, with or without what is hidden."""
  distances = locality.chebyshev_distances(smoothing.grid)
  fraction = locality.fraction_of_grid(distances)
  scale = locality.interpolate_std(fraction, smoothing.std_min, smoothing.std_max)
  if smoothing.hide_beyond is not None:
    scale = locality.hide_beyond(scale, distances, smoothing.hide_beyond)
  return noise.gaussian(scale, groups(smoothing, sizes)[..., None])


def groups(smoothing: Smoothing, sizes: Sizes) -> np.ndarray:
  """The group of every pixel, [H, W]: its cell."""
  return partition.image_grid(sizes.size, smoothing.grid)


def marks(smoothing: Smoothing, sizes: Sizes) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Numbers of samples, selecting and bounding, at which counts are kept."""
  times = min(smoothing.more, sizes.more)
  more = (times,) if times > 1 else ()
  selection = *sizes.selection, *(sizes.selection[-1] * i for i in more)
  return selection, (*sizes.marks, *(sizes.marks[-1] * i for i in range(2, times + 1)))


def plain(value: NamedTuple) -> dict[str, Any]:
  """A configuration as it comes back from JSON."""
  return {k: list(v) if isinstance(v, tuple) else v for k, v in value._asdict().items()}
