"""What it is worth to know how far a network sees: the same votes, certified in three ways.

    PYTHONPATH=. python benchmarks/fields.py --data-dir DIR --work lrs-out/images

counts votes under isotropic noise on CamVid test images, one pass per sample, and certifies them by
SegCertify (Holm's correction), collectively as if every output saw the whole image, and with the
view of the U-Net's layers. Predictions are the same but for SegCertify's, whose are its own. It
writes fields.json and fields.md under benchmarks/results; votes stay under --work, so that it may
be stopped at any time.
"""

import argparse
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from benchmarks.image_study import networks
from benchmarks.image_study.configurations import STUDIES, Sizes, plain
from lrs_jax import collective, keys, noise, sampling, storage
from lrs_jax.baselines import segcertify
from lrs_jax.confidence import certificates, corrections, planning
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.evaluation import metrics
from lrs_jax.jobs import reports
from lrs_jax.jobs.running import PARTS, describe_devices, versions
from lrs_jax.tasks.data import camvid
from lrs_jax.tasks.data.images import LabelledImages
from lrs_jax.tasks.models import folded_unet

LEVELS = (0.2, 0.3, 0.4)
"""Standard deviations of the noise."""

SAMPLES = 100, 1000
"""That select labels, and that bound their probabilities."""

BLOCKS = (32, 16, 8, None)
"""Sizes of blocks that are compared; None: as small as is feasible."""

FORFEITED = 0.005
"""Part of the outputs that k-FWER gives up."""

RADII = 120

FINE = 10
"""So many times as many radii for SegCertify: right sums cut off more of smaller areas."""

QUALITY = {"SegCertify": "Holm", "view, k-FWER": "k-FWER"}
"""Whose predictions are those of other bounds than Bonferroni's."""


class Setting(NamedTuple):
  """What is certified, and by what network."""

  sizes: Sizes
  network: str
  params: folded_unet.Folded
  data: LabelledImages
  work: Path
  samples: tuple[int, int] = SAMPLES


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--data-dir", required=True, help="folder of camvid/")
  parser.add_argument(
    "--work", type=Path, default=Path("lrs-out/images"), help="folder of networks and votes"
  )
  parser.add_argument(
    "--out", type=Path, default=Path("benchmarks/results"), help="folder of the results"
  )
  parser.add_argument("--images", type=int, default=24, help="test images")
  parser.add_argument("--std", type=float, nargs="*", default=LEVELS, help="levels of noise")
  parser.add_argument(
    "--network", choices=("crops", "isotropic"), default="crops",
    help="of benchmarks/images.py: trained on crops of images of this size, or on small images",
  )  # fmt: skip
  options = parser.parse_args(arguments)
  sizes = STUDIES["180x240"]
  of = sizes if options.network == "crops" else STUDIES["64x96"]
  found = networks.obtain(options.network, of, options.data_dir, options.work / "networks")
  data = camvid.load(options.data_dir, "test", sizes.size, options.images)
  setting = Setting(sizes, options.network, found.params, data, options.work / "fields")
  result = run(setting, options.std)
  storage.save_json(options.out / "fields.json", result)
  (options.out / "fields.md").write_text(report(result))
  print(report(result))


def run(setting: Setting, levels: Sequence[float]) -> dict[str, Any]:
  """Counts and certifies all images at all levels; the view of the network is tested first."""
  view = folded_unet.view(setting.sizes.depth, setting.sizes.size)
  sampling.check_view(folded_unet.apply, setting.params, setting.data.images[0], view)
  return {
    "network": setting.network,
    "sizes": plain(setting.sizes),
    "samples": list(setting.samples),
    "images": list(setting.data.names),
    "versions": versions(),
    "device": describe_devices(),
    "levels": {str(std): _level(setting, std) for std in levels},
  }


def votes(setting: Setting, std: float, index: int) -> list[np.ndarray]:
  """Votes of one image that select, and that bound: int [N, K] each."""
  path = setting.work / f"{setting.network}-{std}" / f"{setting.data.names[index]}.npz"
  if not path.exists():
    one, size = noise.gaussian([[std]], np.zeros((1, 1, 1), int)), setting.sizes.size
    counts = {}
    for part, samples in zip(PARTS, setting.samples, strict=True):
      key = keys.tagged(jax.random.key(setting.sizes.seed), f"fields, {std}, {part}")
      counts[part] = np.asarray(
        sampling.vote_counts(
          jax.random.fold_in(key, index), folded_unet.apply, setting.params,
          setting.data.images[index], one, np.zeros(np.prod(size), int), samples,
          num_classes=len(setting.data.classes),
        )
      )  # fmt: skip
    storage.save_arrays(path, counts)
  stored = storage.load_arrays(path, list(PARTS))
  return [stored[part] for part in PARTS]


def _level(setting: Setting, std: float) -> dict[str, Any]:
  """Radii of every image and way of certifying, and the quality of the predictions."""
  sizes, data = setting.sizes, setting.data
  num_outputs, samples = int(np.prod(sizes.size)), setting.samples[1]
  one, nothing = noise.gaussian([[std]], np.zeros((1, 1, 1), int)), np.zeros(num_outputs, int)
  view = folded_unet.view(sizes.depth, sizes.size)
  seen = {
    f"view, blocks of {block}" if block else "view": noise.in_blocks(
      one, nothing.reshape(sizes.size), view, block
    )
    for block in BLOCKS
  }
  priced = {"whole image": (one, nothing), **seen}
  last = planning.radii([seen["view"][0]], samples, num_outputs=num_outputs, alpha=sizes.alpha)[-1]
  radii, finer = (  # finer where more is certified
    last * np.linspace(0, 1, times * RADII + 1) ** 1.5 for times in (1, FINE)
  )
  levels = corrections.levels(sizes.alpha, num_outputs, FORFEITED)
  radius: dict[str, list[float]] = {}
  seconds = dict.fromkeys(priced, 0.0)
  predicted: dict[str, list[np.ndarray]] = {"Bonferroni": [], "Holm": [], "k-FWER": []}
  for i in tqdm(range(len(data.names)), desc=f"std {std}", unit="image"):
    given = votes(setting, std, i)
    bound = functools.partial(certificates.from_votes, one, nothing, *given, num_samples=samples)
    base, several = bound(alpha=sizes.alpha), bound(alpha=levels)
    test = functools.partial(segcertify.at_radius, *given, std, alpha=sizes.alpha)
    curve = segcertify_curve(test, finer)
    found = {"SegCertify": metrics.average_certifiable_radius(finer, curve / num_outputs)}
    for name, (distribution, groups) in priced.items():
      start = time.perf_counter()
      found[name] = metrics.average_certifiable_radius(
        radii, _certified(base, distribution, groups, radii) / num_outputs
      )
      seconds[name] += time.perf_counter() - start
    kept = _certified(several, *priced["view"], radii)
    found["view, k-FWER"] = metrics.average_certifiable_radius(radii, kept / num_outputs)
    for name, value in found.items():
      radius.setdefault(name, []).append(value)
    predicted["Bonferroni"].append(base.predictions)
    predicted["k-FWER"].append(several.predictions)
    predicted["Holm"].append(test(0.0).labels)
  return {
    "radius": radius,
    "groups_and_cells": {name: list(of.weights.shape[1:]) for name, (of, _) in priced.items()},
    "seconds_per_budget": {
      name: value / len(data.names) / len(radii) for name, value in seconds.items()
    },
    "quality": {
      name: reports.quality(list(data.labels.reshape(len(found), -1)), found, len(data.classes))
      for name, found in predicted.items()
    },
  }


def segcertify_curve(test: Callable[[float], Any], radii: np.ndarray) -> np.ndarray:
  """Outputs that SegCertify certifies at every radius, each for itself: int64 [B]."""
  kept = np.zeros(len(radii), np.int64)
  for i, radius in enumerate(radii):
    kept[i] = np.sum(test(float(radius)).labels != metrics.ABSTAIN)
    if not kept[i]:
      break
  return kept


def _certified(
  base: BaseCertificates,
  distribution: noise.SmoothingDistribution,
  groups: np.ndarray,
  radii: np.ndarray,
) -> np.ndarray:
  budgets = noise.budgets_from_radii(radii, 2)
  given = distribution.weights, groups, base.eta, budgets
  return collective.certify(*given, forfeit=base.forfeit).certified


def interval(ours: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
  """Ratio of mean radii, and a 95 % interval for it by bootstrap over images."""
  pairs, rng = np.array([ours, others]), np.random.default_rng(0)
  drawn = pairs[:, rng.integers(0, pairs.shape[1], (10_000, pairs.shape[1]))].mean(axis=2)
  low, high = np.quantile(drawn[0] / drawn[1], [0.025, 0.975])
  return float(pairs[0].mean() / pairs[1].mean()), float(low), float(high)


def report(result: Mapping[str, Any]) -> str:
  """Tables of the results in Markdown."""
  (height, width), (selecting, bounding) = result["sizes"]["size"], result["samples"]
  titles = "std", "certificate", "groups, cells", "ms per budget", "mIoU", "accuracy", "radius"
  lines = [
    f"# Fields of view: {len(result['images'])} CamVid test images at {height}x{width}",
    "",
    f"Made by `benchmarks/fields.py`: network `{result['network']}`, isotropic noise, {bounding:,} "
    f"passes per image beside {selecting} that select, the same votes in every row of one level. "
    "Radii are areas under the certified fraction of all pixels, by right sums, over a grid ten "
    "times as fine for SegCertify; the ratio to it has a 95 % interval by bootstrap over the "
    "images. k-FWER gives up 0.5 % of the pixels.",
    "",
    f"| {' | '.join(titles)} | over SegCertify |",
    "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
  ]
  for std, level in result["levels"].items():
    for name, radius in level["radius"].items():
      shape, took = (level[of].get(name) for of in ("groups_and_cells", "seconds_per_budget"))
      quality = level["quality"][QUALITY.get(name, "Bonferroni")]
      ratio, low, high = interval(radius, level["radius"]["SegCertify"])
      cells = (
        f"{std}",
        name,
        ", ".join(map(str, shape or ())),
        "" if took is None else f"{1000 * took:.1f}",
        *(f"{value:.3f}" for value in (quality["mean_iou"], quality["accuracy"])),
        f"{np.mean(radius):.3f}",
        f"{ratio:.2f} ({low:.2f} to {high:.2f})",
      )
      lines.append(f"| {' | '.join(cells)} |")
  return "\n".join([*lines, ""])


if __name__ == "__main__":
  main()
