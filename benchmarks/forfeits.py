"""Which part of the outputs k-FWER should give up, and whether to choose it for every image.

    PYTHONPATH=. python benchmarks/forfeits.py --data-dir DIR --work lrs-out/fields

certifies CamVid validation images at 180x240 with margins and the network's view, giving up several
parts of the outputs, by the PatchNet of benchmarks/fields.py, which is trained there if it was not
before. It writes forfeits.md under benchmarks/results: the average certifiable radius of every part
over that of none, and of the best part of every image. Whoever chooses a part by the selection
samples cannot have more than the latter, which has seen all samples and proves nothing.
"""

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from benchmarks import fields
from lrs_jax import collective, noise, storage
from lrs_jax.confidence import corrections, margins
from lrs_jax.evaluation import metrics
from lrs_jax.tasks import images
from lrs_jax.tasks.data import camvid
from lrs_jax.tasks.task import Case, Data

PARTS = 0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04

RADII = np.linspace(0, 3.6, 25)


def main(arguments: list[str] | None = None) -> None:
  parser = fields.folders(__doc__)
  parser.add_argument("--images", type=int, default=8, help="validation images")
  parser.add_argument("--size", default="180x240", help="HxW, of the images")
  options = parser.parse_args(arguments)
  config = fields.config_of("patchnet", options.data_dir, options.size, 1, 0.3, 0)
  data = images.load(config)
  params = fields.obtain("patchnet", config, data, options.work)
  seen = camvid.load(options.data_dir, "val", config.size, options.images)
  labels = seen.labels.reshape(len(seen.labels), -1)
  cases = [Case(*case) for case in zip(seen.names, seen.images, labels, strict=True)]
  votes = options.work / "votes" / f"{options.size}-validation"
  setting = fields.Setting(config, params, Data(cases, data.classes), votes)
  radius = np.array(
    [areas(setting, i) for i in tqdm(range(len(cases)), desc="images", unit="image")]
  )
  text = table(radius, config.size)
  storage.save_text(options.out / "forfeits.md", text)
  print(text)


def areas(setting: fields.Setting, index: int) -> list[float]:
  """The average certifiable radius of an image's correct pixels, giving up every part."""
  config, case = setting.config, setting.data.cases[index]
  selection, estimation = fields.votes(setting, index)[0]
  one = noise.gaussian([[config.std_min]], np.zeros((1, 1, 1), int))
  view = images.network_view(config)
  seen, groups = noise.in_blocks(one, np.zeros(config.size, int), view)
  found = []
  for part in PARTS:
    levels = corrections.levels(config.alpha, groups.size, part)
    base = margins.from_margins(
      seen, groups, selection, estimation, alpha=levels, num_samples=setting.samples[1]
    )
    certificate = collective.certify(
      base.weights,
      groups,
      base.eta,
      noise.budgets_from_radii(RADII, 2),
      targets=base.labels == case.truth,
      forfeit=base.forfeit,
    )
    labelled = int(((case.truth >= 0) & (case.truth < len(setting.data.classes))).sum())
    fraction = metrics.certified_fraction(certificate.certified, labelled)
    found.append(metrics.average_certifiable_radius(RADII, fraction))
  return found


def table(radius: np.ndarray, size: Sequence[int]) -> str:
  """Radii [M, F] of M images and F parts, over those of the first part, in Markdown."""
  gain = radius / radius[:, :1]
  lines = [
    "# What part of the outputs to give up",
    "",
    f"{len(radius)} CamVid validation images at {size[0]}x{size[1]}, PatchNet, votes or margins, "
    f"1,000 samples. Radius over that of Bonferroni, {radius[:, 0].mean():.3f} on average.",
    "",
    "| given up | mean | least | most |",
    "| --- | ---: | ---: | ---: |",
  ]
  rows = {f"{part:.2%}": of_part for part, of_part in zip(PARTS, gain.T, strict=True)}
  rows["the best of these, for every image"] = gain.max(axis=1)
  for name, of in rows.items():
    lines.append(f"| {name} | {of.mean():.4f} | {of.min():.4f} | {of.max():.4f} |")
  return "\n".join([*lines, ""])


if __name__ == "__main__":
  main()
