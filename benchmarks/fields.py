"""What it is worth to know how far a network sees, and to choose a network that sees little.

    PYTHONPATH=. python benchmarks/fields.py --data-dir DIR --work lrs-out/fields

compares the U-Net of benchmarks/images.py with a PatchNet, which sees less and knows where a pixel
lies, trained here. It counts votes under isotropic noise on CamVid test images, one pass per
sample, and certifies the same votes in several ways: by SegCertify (Holm's correction),
collectively as if every output saw the whole image, and with the view that follows from the
network's layers, the latter two also with margins and k-FWER. It writes fields-SIZE.json,
fields-SIZE.md and, of all sizes, fields.png under benchmarks/results; networks and votes stay under
--work, so that it may be stopped at any time. What fields-SIZE.json has already, of the same
versions, is not done again.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from benchmarks.image_study import networks as study
from benchmarks.image_study.configurations import STUDIES
from lrs_jax import collective, keys, noise, sampling, storage
from lrs_jax.baselines import segcertify
from lrs_jax.confidence import certificates, corrections, margins, planning
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.evaluation import labels, metrics, plots
from lrs_jax.jobs import networks, reports
from lrs_jax.jobs.machines import describe_devices, versions
from lrs_jax.jobs.running import PARTS
from lrs_jax.tasks import common, images
from lrs_jax.tasks.images import Config
from lrs_jax.tasks.models.architectures import architecture
from lrs_jax.tasks.task import Data

SAMPLES = 100, 1000
"""That select labels, and that bound their probabilities."""

_PATCHNET = {"network": "patchnet", "width": 48, "depth": 3, "positions": True, "batch_size": 8}
NETWORKS: Mapping[str, Mapping[str, Any]] = {
  "unet": {"network": "unet", "width": 8, "depth": 3},
  "patchnet": {**_PATCHNET, "steps": 1500},
  "patchnet-long": {**_PATCHNET, "steps": 3000},
  "patchnet-hour": {**_PATCHNET, "steps": 5800},
}
"""The networks that are compared. The U-Net is the image study's."""

TITLES = {"unet": "U-Net", "patchnet": "PatchNet"}

TRAINED = (180, 240)
"""Size of the images that both are trained for; they are certified on larger ones as they are."""

WINDOWS = 0.25, 0.35, 0.5, 0.7, 1.0
"""Parts of an image's height and width, in its middle, to see how radii grow with the image."""

WINDOWED = 4
"""Images, at most, of which windows are certified, by the first training of every network."""

FORFEITED = 0.005
"""Part of the outputs that k-FWER gives up."""

RADII = 60

FINE = 5
"""So many times as many radii for SegCertify: right sums cut off more of smaller areas."""

LEVERS = ", margins and k-FWER"

QUALITY = {"SegCertify": "Holm", f"whole image{LEVERS}": "levers", f"view{LEVERS}": "levers"}
"""Whose predictions are those of other bounds than Bonferroni's of votes."""


class Setting(NamedTuple):
  """What is certified, and by what network."""

  config: Config
  params: Any
  data: Data
  work: Path  # folder of votes
  samples: tuple[int, int] = SAMPLES


def main(arguments: list[str] | None = None) -> None:
  parser = folders(__doc__)
  parser.add_argument("--size", default="180x240", choices=("180x240", "360x480"))
  parser.add_argument("--images", type=int, default=24, help="test images")
  parser.add_argument("--std", type=float, default=0.3, help="noise of training and smoothing")
  parser.add_argument(
    "--seeds", type=int, nargs="*", default=[0, 1, 2], help="of training, of patchnet"
  )
  options = parser.parse_args(arguments)
  path = options.out / f"fields-{options.size}.json"
  stored = storage.load_json(path) if path.exists() else {}
  known = [_complete(one) for one in stored.get("runs", ()) if stored["versions"] == versions()]
  runs = []
  patchnets = [("patchnet", seed) for seed in options.seeds]
  for name, seed in [("unet", 0), *patchnets, ("patchnet-long", 0), ("patchnet-hour", 0)]:
    config = config_of(name, options.data_dir, options.size, options.images, options.std, seed)
    data = images.load(config)
    described = describe(name, config, data)
    done = [one for one in known if {**one, **described} == one]
    if done:
      runs.append(done[0])
      continue
    params = obtain(name, config, data, options.work)
    votes_of = options.work / "votes" / f"{options.size}-{name}-{seed}"
    runs.append(described | run(name, Setting(config, params, data, votes_of)))
    _save(path, runs)
  print(_save(path, runs))
  every = [storage.load_json(path) for path in sorted(options.out.glob("fields-*.json"))]
  scaling(every).savefig(options.out / "fields.png", dpi=150)


def folders(description: str | None) -> argparse.ArgumentParser:
  """A parser of the folders that a study of these networks needs."""
  parser = argparse.ArgumentParser(
    description=description, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--data-dir", required=True, help="folder of camvid/")
  parser.add_argument(
    "--work", type=Path, default=Path("lrs-out/fields"), help="folder of networks and votes"
  )
  parser.add_argument(
    "--out", type=Path, default=Path("benchmarks/results"), help="folder of the results"
  )
  return parser


def obtain(name: str, config: Config, data: Data, work: Path) -> Any:
  """Parameters of a network of `NETWORKS`, trained first if `work` has none."""
  folder = work / "networks"
  if name == "unet":
    return study.obtain("crops", STUDIES["180x240"], str(config.data_dir), folder).params
  smaller, path = config._replace(size=TRAINED), folder / f"{name}-{config.seed}.npz"
  return networks.obtain(images.TASK, smaller, data, "", path).params


def _save(path: Path, runs: Sequence[Mapping[str, Any]]) -> str:
  """Stores what was found so far, and the report on it, which is returned."""
  result = {"size": runs[0]["config"]["size"], "samples": list(SAMPLES), "runs": runs}
  storage.save_json(path, result | {"versions": versions(), "device": describe_devices()})
  text = report(result)
  storage.save_text(path.with_suffix(".md"), text)
  return text


def describe(name: str, config: Config, data: Data) -> dict[str, Any]:
  """What is certified, as it comes back from JSON; the folder of the data does not matter."""
  fields = [field for field in config._fields if field != "data_dir"]
  return {
    "network": name,
    "config": common.plain_fields(config, fields),
    "images": [case.name for case in data.cases],
  }


def _complete(run: Mapping[str, Any]) -> dict[str, Any]:
  """A stored run, with the defaults of options that there were not yet when it was made."""
  default = images.DEFAULTS["camvid"]
  fields = [field for field in default._fields if field != "data_dir"]
  return {**run, "config": {**common.plain_fields(default, fields), **run["config"]}}


def config_of(
  name: str, data_dir: str, size: str, num_images: int, std: float, seed: int
) -> Config:
  """The job of a network of `NETWORKS`."""
  return images.DEFAULTS["camvid"]._replace(
    data_dir=data_dir,
    size=tuple(map(int, size.split("x"))),
    images=num_images,
    std_min=std,
    seed=seed,
    **NETWORKS[name],
  )


def votes(setting: Setting, index: int) -> tuple[list[np.ndarray], float]:
  """Votes of one image that select, and that bound, int [N, K] each; seconds a pass."""
  config, case = setting.config, setting.data.cases[index]
  path = setting.work / f"{case.name}.npz"
  if not path.exists():
    one = noise.gaussian([[config.std_min]], np.zeros((1, 1, 1), int))
    counts, seconds = {}, 0.0
    for part, samples in zip(PARTS, setting.samples, strict=True):
      key = keys.tagged(jax.random.key(config.seed), f"fields, {part}")
      start = time.perf_counter()
      counts[part] = np.asarray(
        sampling.vote_counts(
          jax.random.fold_in(key, index), images.of(config).apply, setting.params,
          case.x, one, np.zeros(len(case.truth), int), samples,
          num_classes=len(setting.data.classes),
        )
      )  # fmt: skip
      seconds = (time.perf_counter() - start) / samples
    storage.save_arrays(path, {**counts, "seconds": np.asarray(seconds)})
  stored = storage.load_arrays(path, [*PARTS, "seconds"])
  return [stored[part] for part in PARTS], float(stored["seconds"])


def run(name: str, setting: Setting) -> dict[str, Any]:
  """Counts and certifies all images; the view of the network is tested first."""
  config, data = setting.config, setting.data
  images.check_network(config, data, setting.params)
  num_outputs, samples = int(np.prod(config.size)), setting.samples[1]
  one = noise.gaussian([[config.std_min]], np.zeros((1, 1, 1), int))
  nothing = np.zeros(num_outputs, int)
  view = images.network_view(config)
  priced = {
    "whole image": (one, nothing),
    "view": noise.in_blocks(one, nothing.reshape(config.size), view),
  }
  last = planning.radii([priced["view"][0]], samples, num_outputs=num_outputs, alpha=config.alpha)
  radii, finer = (
    last[-1] * np.linspace(0, 1, times * RADII + 1) ** 1.5  # finer where more is certified
    for times in (1, FINE)
  )
  levels = corrections.levels(config.alpha, num_outputs, FORFEITED)
  radius: dict[str, list[float]] = {}
  seconds = dict.fromkeys(priced, 0.0)
  predicted: dict[str, list[np.ndarray]] = {"Bonferroni": [], "Holm": [], "levers": []}
  passes, of_windows = [], []
  told = f"{name}, seed {config.seed}"
  for i in tqdm(range(len(data.cases)), desc=told, unit="image"):
    given, took = votes(setting, i)
    passes.append(took)
    bases = {
      "": certificates.from_votes(one, nothing, *given, alpha=config.alpha, num_samples=samples),
      LEVERS: margins.from_margins(one, nothing, *given, alpha=levels, num_samples=samples),
    }
    test = functools.partial(
      segcertify.at_radius, *given, config.std_min, alpha=config.alpha, num_samples=samples
    )
    curve = segcertify_curve(test, finer)
    found = {"SegCertify": metrics.average_certifiable_radius(finer, curve / num_outputs)}
    for added, base in bases.items():
      for kind, (distribution, groups) in priced.items():
        start = time.perf_counter()
        kept = _certified(base, distribution, groups, radii)
        seconds[kind] += (time.perf_counter() - start) / len(bases)
        found[kind + added] = metrics.average_certifiable_radius(radii, kept / num_outputs)
    for kind, value in found.items():
      radius.setdefault(kind, []).append(value)
    if i < WINDOWED and config.seed == 0:
      of_windows.append(_windows(bases[""], priced, config.size, radii))
    predicted["Bonferroni"].append(bases[""].predictions)
    predicted["levers"].append(bases[LEVERS].predictions)
    predicted["Holm"].append(test(0.0).labels)
  truth = [case.truth for case in data.cases]
  return {
    "radius": radius,
    "windows": {  # of every window, radii of the first images
      kind: [[image[i][at] for image in of_windows] for i in range(len(WINDOWS))]
      for at, kind in enumerate(priced)
    },
    "groups_and_cells": {kind: list(of.weights.shape[1:]) for kind, (of, _) in priced.items()},
    "seconds_per_budget": {
      kind: value / len(data.cases) / len(radii) for kind, value in seconds.items()
    },
    "seconds_per_pass": statistics.median(passes),
    "quality": {
      kind: reports.quality(truth, found, len(data.classes)) for kind, found in predicted.items()
    },
  }


def _windows(
  base: BaseCertificates,
  priced: Mapping[str, tuple[noise.SmoothingDistribution, np.ndarray]],
  size: tuple[int, int],
  radii: np.ndarray,
) -> list[list[float]]:
  """Radii of the pixels in the middle of an image: of every window, priced in every way."""
  found = []
  for part in WINDOWS:
    inside = np.zeros(size, bool)
    inside[_middle(size[0], part), _middle(size[1], part)] = True
    curves = (_certified(base, *of, radii, inside.ravel()) for of in priced.values())
    found.append(
      [metrics.average_certifiable_radius(radii, curve / inside.sum()) for curve in curves]
    )
  return found


def _middle(size: int, part: float) -> slice:
  length = round(part * size)
  return slice((size - length) // 2, (size - length) // 2 + length)


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
  targets: np.ndarray | None = None,
) -> np.ndarray:
  budgets = noise.budgets_from_radii(radii, 2)
  given = distribution.weights, groups, base.eta, budgets
  return collective.certify(*given, targets=targets, forfeit=base.forfeit).certified


def interval(ours: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
  """Ratio of mean radii, and a 95 % interval for it by bootstrap over images."""
  pairs, rng = np.array([ours, others]), np.random.default_rng(0)
  drawn = pairs[:, rng.integers(0, pairs.shape[1], (10_000, pairs.shape[1]))].mean(axis=2)
  low, high = np.quantile(drawn[0] / drawn[1], [0.025, 0.975])
  return float(pairs[0].mean() / pairs[1].mean()), float(low), float(high)


def report(result: Mapping[str, Any]) -> str:
  """A table of the results in Markdown."""
  (height, width), (selecting, bounding) = result["size"], result["samples"]
  runs = result["runs"]
  by_network: dict[str, list[Mapping[str, Any]]] = {}
  for one in runs:
    by_network.setdefault(one["network"], []).append(one)
  first = next(iter(by_network))
  titles = "network", "certificate", "groups, cells", "ms per budget", "mIoU", "accuracy", "radius"
  lines = [
    f"# Fields of view: {len(runs[0]['images'])} CamVid test images at {height}x{width}",
    "",
    f"Made by `benchmarks/fields.py`: isotropic noise of std {runs[0]['config']['std_min']}, in "
    f"training, too; {bounding:,} passes per image beside {selecting} that select; every row of a "
    "network has the same votes. Figures are means over the trainings. Radii are areas under the "
    f"certified fraction of all pixels, by right sums, over a grid {FINE} times as fine for "
    "SegCertify; ratios have 95 % intervals by bootstrap over the images. k-FWER gives up "
    f"{FORFEITED:.1%} of the pixels.",
    "",
    f"| {' | '.join(titles)} | over SegCertify | over SegCertify of {first} |",
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
  ]
  reference = _mean(by_network[first], "SegCertify")
  for network, of in by_network.items():
    for kind in of[0]["radius"]:
      radius, shape = _mean(of, kind), of[0]["groups_and_cells"].get(kind)
      took = statistics.mean(one["seconds_per_budget"].get(kind, 0.0) for one in of)
      quality = [one["quality"][QUALITY.get(kind, "Bonferroni")] for one in of]
      cells = (
        network,
        kind,
        ", ".join(map(str, shape or ())),
        f"{1000 * took:.1f}" if took else "",
        *(f"{statistics.mean(q[name] for q in quality):.3f}" for name in ("mean_iou", "accuracy")),
        f"{np.mean(radius):.3f}",
        *(_told(*interval(radius, other)) for other in (_mean(of, "SegCertify"), reference)),
      )
      lines.append(f"| {' | '.join(cells)} |")
  lines += ["", "| network | trainings | ms per pass | a pixel sees |", "| --- |" + " ---: |" * 3]
  for network, of in by_network.items():
    passes = statistics.median(one["seconds_per_pass"] for one in of)
    sees = f"{_width_of_view(of[0]['config'])} pixels"
    lines.append(f"| {network} | {len(of)} | {1000 * passes:.1f} | {sees} high and wide |")
  return "\n".join([*lines, ""])


def _width_of_view(config: Mapping[str, Any]) -> int:
  """How many pixels along an axis are seen at most, far from all borders."""
  first, end = architecture(config["network"]).view(config["depth"], (1024, 1)).axes[0].T
  return int((end - first).max())


def scaling(results: Sequence[Mapping[str, Any]]) -> Figure:
  r"""How many times the radius becomes by a view, against the pixels of a window over a view's.

  Theory, where all outputs are alike and a window is n views large: an adversary who spends
  :math:`B_0` at one pixel changes what sees it, 1/n of the window, so that a radius r certifies
  :math:`1 - (r / r_0)^2 / n` of it, and all of it below :math:`r_0`. The area over that without a
  view, :math:`r_0`, is :math:`\tfrac23 \sqrt n + 1 / (3 n)`.
  """
  figure = Figure(figsize=(6.4, 4.4), layout="constrained")
  axes = figure.subplots()
  most, names = 1.0, []
  for result in results:
    for one in {run["config"]["network"]: run for run in reversed(result["runs"])}.values():
      width = _width_of_view(one["config"])
      sizes = np.round(np.outer(WINDOWS, result["size"]))
      views = np.prod(sizes / np.minimum(sizes, width), axis=1)
      ours, whole = (np.mean(one["windows"][kind], axis=1) for kind in ("view", "whole image"))
      (line,) = axes.plot(np.sqrt(views), ours / whole, "osD^vP"[len(names)] + "-")
      line.set_color(plots.COLORS[len(names)])
      network = TITLES.get(one["config"]["network"], one["network"])
      name = f"{network}, {result['size'][0]}×{result['size'][1]}"
      names.append(labels.Label(name, line.get_xydata()[-2:], line))
      most = max(most, float(np.sqrt(views).max()))
  root = np.linspace(1, most, 100)
  (line,) = axes.plot(root, 2 / 3 * root + 1 / (3 * root**2), "k--")
  names.append(labels.Label("theory: all outputs alike", line.get_xydata()[60:98], line))
  axes.set(
    xlabel="square root of (pixels of the image / pixels in view)",
    ylabel="radius with the view / without",
  )
  figure.suptitle("The less of an image an output sees, the more its view is worth", fontsize=11)
  axes.set_title("networks on images of two sizes, and windows of these", fontsize=8, color="0.3")
  axes.grid(alpha=0.3)
  if not labels.place(axes, names):
    for name in names:
      name.line.set_label(name.text)
    labels.legend_below(figure)
  return figure


def _mean(runs: Sequence[Mapping[str, Any]], kind: str) -> list[float]:
  """Radii of every image, means over the trainings."""
  return np.mean([one["radius"][kind] for one in runs], axis=0).tolist()


def _told(ratio: float, low: float, high: float) -> str:
  return f"{ratio:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
  main()
