"""Which noise fields pay at a fixed number of passes, for a network that sees little.

    PYTHONPATH=. python benchmarks/schedules.py --data-dir DIR --work lrs-out/fields

lets `choosing.choose` compare isotropic noise with four fields on a colored grid, all of it priced
by the network's view, on CamVid validation images at 180x240: by the PatchNet of
benchmarks/fields.py, which is trained there if it was not before. It writes schedules.md under
benchmarks/results.
"""

import argparse
from collections.abc import Sequence

import jax
import numpy as np

from benchmarks import fields
from lrs_jax import noise, storage
from lrs_jax.evaluation import choosing
from lrs_jax.evaluation.choosing import Candidate, Choice
from lrs_jax.tasks import images
from lrs_jax.tasks.data import camvid
from lrs_jax.tasks.images import Config

PASSES = 1000, 4000
"""Of the whole network, for all fields together."""

RADII = np.linspace(0.05, 2.0, 40)

CELLS = 24, 48
"""Pixels of a colored cell, along each axis."""


def main(arguments: list[str] | None = None) -> None:
  parser = fields.folders(__doc__)
  parser.add_argument("--images", type=int, default=8, help="validation images")
  parser.add_argument("--size", default="180x240", help="HxW, of the images")
  options = parser.parse_args(arguments)
  config = fields.config_of("patchnet", options.data_dir, options.size, 1, 0.3, 0)
  data = images.load(config)
  params = fields.obtain("patchnet", config, data, options.work)
  seen = camvid.load(options.data_dir, "val", config.size, options.images)
  every = candidates(config)
  text = []
  for passes in PASSES:
    choice = choosing.choose(
      jax.random.key(1),
      every,
      images.of(config).apply,
      params,
      seen.images,
      seen.labels,
      noise.budgets_from_radii(RADII, 2),
      num_classes=len(data.classes),
      num_passes=passes,
      alpha=config.alpha,
    )
    text.append(table(choice, every, passes, options))
  storage.save_text(options.out / "schedules.md", "# Schedules of noise\n\n" + "\n".join(text))
  print("\n".join(text))


def candidates(config: Config) -> list[Candidate]:
  """Isotropic noise, and four fields in cells of a few sizes, as outputs see them."""
  height, width = config.size
  grids = [(height // cell, width // cell) for cell in CELLS]
  found = choosing.grid_candidates(config.size, [(1, 1)], [0.3, 0.2, 0.25, 0.35, 0.4], [0.4])
  found += choosing.color_candidates(config.size, grids, [0.2, 0.3], [1.5, 2.0])
  view, block = images.network_view(config), 8
  return [choosing.as_seen(candidate, view, block) for candidate in found]


def table(
  choice: Choice, every: Sequence[Candidate], passes: int, options: argparse.Namespace
) -> str:
  """What every candidate promises, in Markdown."""
  lines = [
    f"{options.images} CamVid validation images at {options.size}, {passes:,} passes planned for "
    "all fields together, radii promised by pilot samples, views in blocks of 8 pixels, "
    f"areas up to a radius of {RADII[-1]:g}.",
    "",
    "| noise | fields | mIoU | pixel accuracy | average certifiable radius |",
    "| --- | ---: | ---: | ---: | ---: |",
  ]
  for i, candidate in enumerate(every):
    quality = f"{choice.mean_iou[i]:.3f} | {choice.accuracy[i]:.3f}"
    number, radius = candidate.drawn[0].num_groups, choice.score[i] * RADII[-1]
    lines.append(f"| {candidate.name} | {number} | {quality} | {radius:.3f} |")
  return "\n".join([*lines, ""])


if __name__ == "__main__":
  main()
