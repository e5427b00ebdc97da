"""Which noise fields pay at a fixed number of passes, for a network that sees little.

    PYTHONPATH=. python benchmarks/schedules.py --data-dir DIR --work lrs-out/fields

lets `choosing.choose` compare isotropic noise with four fields on a colored grid, all of it priced
by the network's view, on CamVid validation images at 180x240: by the PatchNet of
benchmarks/fields.py, which is trained there if it was not before. It writes schedules.md under
benchmarks/results.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from benchmarks import fields
from lrs_jax import noise
from lrs_jax.evaluation import choosing
from lrs_jax.evaluation.choosing import Candidate, Choice
from lrs_jax.jobs import networks
from lrs_jax.tasks import images
from lrs_jax.tasks.data import camvid
from lrs_jax.tasks.images import Config

PASSES = 1000, 4000
"""Of the whole network, for all fields together."""

RADII = np.linspace(0.05, 2.0, 40)

CELLS = 24, 48
"""Pixels of a colored cell, along each axis."""


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--data-dir", required=True, help="folder of camvid/")
  parser.add_argument(
    "--work", type=Path, default=Path("lrs-out/fields"), help="folder of the network"
  )
  parser.add_argument(
    "--out", type=Path, default=Path("benchmarks/results"), help="folder of the results"
  )
  parser.add_argument("--images", type=int, default=8, help="validation images")
  parser.add_argument("--size", default="180x240", help="HxW, of the images")
  options = parser.parse_args(arguments)
  config = fields.config_of("patchnet", options.data_dir, options.size, 1, 0.3, 0)
  data = images.load(config)
  path = options.work / "networks" / "patchnet-0.npz"
  params = networks.obtain(images.TASK, config, data, "", path).params
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
    text.append(table(choice, passes, options))
  (options.out / "schedules.md").write_text("# Schedules of noise\n\n" + "\n".join(text))
  print("\n".join(text))


def candidates(config: Config) -> list[Candidate]:
  """Isotropic noise, and four fields in cells of a few sizes, as outputs see them."""
  height, width = config.size
  grids = [(height // cell, width // cell) for cell in CELLS]
  found = choosing.grid_candidates(config.size, [(1, 1)], [0.3, 0.2, 0.25, 0.35, 0.4], [0.4])
  found += choosing.color_candidates(config.size, grids, [0.2, 0.3], [1.5, 2.0])
  view, block = images.network_view(config), 8
  return [choosing.as_seen(candidate, view, block) for candidate in found]


def table(choice: Choice, passes: int, options: argparse.Namespace) -> str:
  """What every candidate promises, in Markdown."""
  lines = [
    f"{options.images} CamVid validation images at {options.size}, {passes:,} passes planned for "
    "all fields together, radii promised by pilot samples, views in blocks of 8 pixels, "
    f"areas up to a radius of {RADII[-1]:g}.",
    "",
    "| noise | fields | mIoU | pixel accuracy | average certifiable radius |",
    "| --- | ---: | ---: | ---: | ---: |",
  ]
  for i, name in enumerate(choice.names):
    quality = f"{choice.mean_iou[i]:.3f} | {choice.accuracy[i]:.3f}"
    fields_of = "4" if "colors" in name else "1"
    radius = choice.score[i] * RADII[-1]
    lines.append(f"| {name} | {fields_of} | {quality} | {radius:.3f} |")
  return "\n".join([*lines, ""])


if __name__ == "__main__":
  main()
