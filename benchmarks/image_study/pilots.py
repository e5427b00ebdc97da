"""What few samples of validation images say about noises, and how long a pass takes."""

import functools
import math
import time
from typing import Any

import jax
import numpy as np

from benchmarks.image_study.certifying import common_radii
from benchmarks.image_study.configurations import (
  MORE_LEVELS,
  PAPER,
  Sizes,
  Smoothing,
  distribution,
  groups,
  near,
  plain,
  smoothings,
)
from benchmarks.image_study.counting import windows
from lrs_jax import keys, noise, sampling
from lrs_jax.evaluation import choosing
from lrs_jax.jobs.machines import describe_devices, versions
from lrs_jax.tasks.data import camvid
from lrs_jax.tasks.data.images import LabelledImages
from lrs_jax.tasks.models import folded_unet

CHOICES = {
  False: ([PAPER], (0.15, 0.2, 0.25, 0.3), (0.6, 1.0, 1.5, 2.0), (0.25, 0.5, 1.0)),
  True: ([PAPER, (4, 6), (6, 10)], (0.2, 0.3), (1.0, 2.0, 3.0), (0.5, 1.0)),
}
"""Grids, std_min, std_max and powers among which the noise of small and larger images is chosen."""

SOME = (0.2, 0.3, 0.4)
"""Levels of the noises that are compared."""

NOISES = {
  **{f"1x1, {s}": Smoothing("", (1, 1), s, s) for s in MORE_LEVELS},
  **{f"3x5, {s} to {r * s:g}": Smoothing("", PAPER, s, r * s) for r in (5, 3) for s in SOME},
  **{f"4x6, {s} and {2 * s:g}, hidden beyond 1": near((4, 6), s, 1) for s in SOME},
  **{f"6x10, {s} to {3 * s:g}, hidden beyond 2": near((6, 10), s, 2) for s in SOME},
  **{f"6x10, {s} to {4 * s:g}, hidden beyond 3": near((6, 10), s, 3) for s in SOME},
}
"""Whose worth is compared under several networks."""


def choose(sizes: Sizes, data: LabelledImages, params: folded_unet.Folded) -> dict[str, Any]:
  """What `choosing.choose` proposes from pilot samples on validation images, hand-made first."""
  by_hand = choosing.grid_candidates(
    sizes.size, [PAPER], [0.2], [1.0], windows=functools.partial(windows, sizes.depth)
  )
  proposed = choosing.grid_candidates(
    sizes.size,
    *CHOICES[sizes.crop is not None],
    windows=functools.partial(windows, sizes.depth),
    sees=folded_unet.reach(params),
  )
  return _pilot(sizes, data, params, [*by_hand, *proposed], tolerance=0.005)


def _pilot(
  sizes: Sizes,
  data: LabelledImages,
  params: folded_unet.Folded,
  candidates: list[choosing.Candidate],
  tolerance: float,
) -> dict[str, Any]:
  """All that `choosing.choose` finds, the greatest promise first."""
  radii = np.linspace(0, common_radii(sizes)[-1], 41)[1:]
  found = choosing.choose(
    keys.tagged(jax.random.key(sizes.seed), "pilots"),
    candidates,
    folded_unet.apply,
    params,
    data.images,
    data.labels,
    noise.budgets_from_radii(radii, 2),
    num_classes=len(data.classes),
    num_samples=sizes.marks[-1],
    alpha=sizes.alpha,
    pilot_samples=40,
    selection_samples=10,
    tolerance=tolerance,
  )
  order = np.argsort(-found.score)
  return {
    "images": list(data.names),
    "sizes": plain(sizes),
    "versions": versions(),
    "device": describe_devices(),
    "best": found.names[found.best],
    "candidates": [
      {
        "name": found.names[i],
        "average_certifiable_radius": float(found.score[i] * radii[-1]),
        "pixel_accuracy": float(found.accuracy[i]),
        "mean_iou": float(found.mean_iou[i]),
        "eligible": bool(found.eligible[i]),
      }
      for i in order
    ],
  }


def compare_noises(
  sizes: Sizes, data: LabelledImages, networks: dict[str, folded_unet.Folded]
) -> dict[str, Any]:
  """What grids, schedules and networks are worth, by pilot samples on validation images."""
  candidates = []
  for name, smoothing in NOISES.items():
    owners = groups(smoothing, sizes)
    seen = windows(sizes.depth, owners)
    candidates.append(
      choosing.Candidate(name, distribution(smoothing, sizes), owners.ravel(), seen)
    )
  rows = []
  for network, params in networks.items():
    found = _pilot(sizes, data, params, candidates, tolerance=1.0)
    rows += [{"network": network, **row} for row in found["candidates"]]
  return {**found, "candidates": rows, "best": None}


RUNS = 12
"""Of a timing of `rates`; the first two are not counted."""

PASSES = 960
"""Of one run."""


def rates(sizes: Sizes, image: np.ndarray, params: folded_unet.Folded) -> dict[str, Any]:
  """Seconds of one pass, whole or in a grid's windows: medians of runs in turn."""
  grids = sorted({smoothing.grid for smoothing in smoothings(sizes).values()})
  seconds: dict[str, list[float]] = {f"{rows}x{columns}": [] for rows, columns in grids}
  for i in range(RUNS):
    for grid, times in zip(grids, seconds.values(), strict=True):
      smoothing = Smoothing("", grid, 0.2, 0.2)
      owners = groups(smoothing, sizes)
      samples = max(1, PASSES // math.prod(grid))
      start = time.perf_counter()
      sampling.vote_counts(
        jax.random.key(i),
        folded_unet.apply,
        params,
        image,
        distribution(smoothing, sizes),
        owners.ravel(),
        samples,
        num_classes=len(camvid.CLASSES),
        windows=windows(sizes.depth, owners),
      ).block_until_ready()
      if i > 1:  # the first one compiles
        times.append((time.perf_counter() - start) / (samples * math.prod(grid)))
  return {
    "seconds_per_pass": {name: float(np.median(times)) for name, times in seconds.items()},
    "sizes": plain(sizes),
    "versions": versions(),
    "device": describe_devices(),
  }
