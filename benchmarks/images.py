"""Localized smoothing against its alternatives on CamVid: the study behind the README's main plot.

    PYTHONPATH=. python benchmarks/images.py --data-dir DIR --work lrs-out/images

does every piece that is not done yet, in an order that gives a first comparison early: networks,
counts and certificates; `--size 180x240` does it on larger images. It may be stopped at any time.
Results are one small JSON file for every way of smoothing under benchmarks/results/images, and
images_report.py makes tables and figures of them.
"""

import argparse
import functools
import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax import (
  certificates,
  certified_iou,
  choosing,
  collective,
  corrections,
  jobs,
  locality,
  metrics,
  noise,
  partition,
  records,
  reports,
  sampling,
  storage,
  training,
)
from lrs_jax.baselines import center_smoothing, segcertify
from lrs_jax.data import camvid
from lrs_jax.data.images import LabelledImages
from lrs_jax.jobs import ImageJob
from lrs_jax.models import folded_unet
from lrs_jax.runs import Smoothed, describe_devices, job_radii, versions


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
  power: float = 1.0  # of the distance's fraction: the paper's noise is linear
  centers: bool = False  # also center smoothing of the same network
  compare: tuple[str, ...] = ()  # further ways to combine the base certificates


PAPER = (3, 5)
"""Grid of the paper."""

LEVELS = (0.2, 0.3, 0.4, 0.5)
"""Noise levels of every method: std in the own cell; localized noise rises to 5 times that."""

EARLY = (0.1, 0.15, 0.2, 0.3)
"""Levels of the network whose loss counts everywhere, also where the noise is strong."""

MORE_LEVELS = (*LEVELS, 0.6, 0.8)
"""Of isotropic smoothing, which goes on where localized smoothing loses accuracy."""


def _near(grid: tuple[int, int], std: float, reach: int) -> Smoothing:
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
      "isotropic", (1, 1), s, s, more=15 if s in (0.4, 0.5) else 1, centers=s in LEVELS
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
  **{f"localized-{s}": _near((4, 6), s, 1) for s in LEVELS},
  **{
    f"isotropic-{s}": Smoothing("crops", (1, 1), s, s, centers=s in (0.2, 0.4)) for s in MORE_LEVELS
  },
  **{f"isotropic-{s}-more": Smoothing("crops", (1, 1), s, s, more=24) for s in (0.2, 0.3, 0.4, 0.6)},
  **{f"localized-{s}-more": _near((4, 6), s, 1)._replace(more=3) for s in LEVELS},
  "localized-0.3-exact": _near((4, 6), 0.3, 1)._replace(compare=("lp", "milp")),
  **{f"localized-{s}-fine": _near((6, 10), s, 2) for s in LEVELS},
  "localized-0.3-paper": Smoothing("crops", PAPER, 0.3, 1.5),
}
"""Every way of smoothing larger images, all with one network, trained under isotropic noise. It
sees 53 pixels around one: what lies beyond the next cell, or the next but one, it hardly misses."""

CHOICES = {
  False: ([PAPER], (0.15, 0.2, 0.25, 0.3), (0.6, 1.0, 1.5, 2.0), (0.25, 0.5, 1.0)),
  True: ([PAPER, (4, 6), (6, 10)], (0.2, 0.3), (1.0, 2.0, 3.0), (0.5, 1.0)),
}
"""Grids, std_min, std_max and powers among which the noise of small and larger images is chosen."""

CANDIDATES = 30
"""Sampled masks among which center smoothing chooses."""

THRESHOLDS = (0.75, 0.9, 0.95)
"""SegCertify's tau, where it is fixed."""


STARTS = {"localized": "base", "isotropic": "base", "crops": "isotropic"}
"""Networks that go on from another one, with as many steps again."""

Load = Callable[[tuple[int, int]], LabelledImages]
"""(height, width) -> the training images in this size."""


def networks(sizes: Sizes) -> dict[str, training.Expose]:
  """What every network is trained on; one network serves all noise levels of its kind."""
  wide = [_noise(sizes, PAPER, s, r * s) for s in (0.15, *LEVELS) for r in (2.0, 3.0, 5.0)]
  early = [_noise(sizes, PAPER, s, r * s) for s in EARLY for r in (3.0, 5.0, 10.0)]
  fine = (2 * PAPER[0], 2 * PAPER[1])  # cells of which both grids consist
  strict = [_refined(sizes, grid, fine, s) for grid in (PAPER, (2, 2)) for s in LEVELS]
  return {
    "base": training.random_group(_isotropic(sizes, (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5))),
    "everywhere": training.random_group(_stacked(early)),
    "strict": training.random_group(_stacked(strict)),
    "localized": training.own_pixels(_stacked(wide), partition.image_grid(sizes.size, PAPER)),
    "isotropic": training.random_group(_isotropic(sizes, (0.15, *MORE_LEVELS))),
    "crops": training.random_group(_isotropic(sizes, (0.1, 0.15, *MORE_LEVELS))),
  }


def _isotropic(sizes: Sizes, stds: tuple[float, ...]) -> noise.SmoothingDistribution:
  return _stacked([_noise(sizes, (1, 1), s, s) for s in stds])


def _noise(
  sizes: Sizes,
  grid: tuple[int, int],
  low: float,
  high: float,
  hide_beyond: float | None = None,
  power: float = 1.0,
) -> noise.SmoothingDistribution:
  distances = locality.chebyshev_distances(grid)
  scale = locality.interpolate_std(locality.fraction_of_grid(distances) ** power, low, high)
  if hide_beyond is not None:
    scale = locality.hide_beyond(scale, distances, hide_beyond)
  return noise.gaussian(scale, partition.pixel_cells(partition.image_grid(sizes.size, grid), 3))


def _refined(
  sizes: Sizes, grid: tuple[int, int], fine: tuple[int, int], std: float
) -> noise.SmoothingDistribution:
  """Strictly local noise on `grid`, expressed in the cells of a finer grid."""
  cells = partition.image_grid(sizes.size, fine)
  coarse = partition.image_grid(fine, grid).reshape(-1)
  own = coarse[None, :] == np.arange(math.prod(grid))[:, None]
  return noise.gaussian(np.where(own, std, np.inf), partition.pixel_cells(cells, 3))


def _stacked(distributions: list[noise.SmoothingDistribution]) -> noise.SmoothingDistribution:
  """The groups of several distributions over the same cells, to train for all of them."""
  return noise.gaussian(np.concatenate([d.scale for d in distributions]), distributions[0].cells)


def train(name: str, sizes: Sizes, load: Load, path: Path) -> None:
  """Trains one network and stores it with its configuration; goes on after a stop."""
  start = time.perf_counter()
  data = load(sizes.size)
  manifest = {"name": name, "sizes": _plain(sizes), "classes": list(data.classes)}
  unfinished = path.with_name(f"{path.stem}.partial.npz")
  start_from = None
  if name in STARTS:
    started = path.with_name(f"{STARTS[name]}.npz")
    if not started.exists():
      train(STARTS[name], sizes._replace(size=sizes.start, crop=None), load, started)
    start_from = _load_variables(started)
  augment, seen = training.mirror_and_rescale, sizes
  if sizes.crop is not None:
    augment, seen = training.random_crop(sizes.crop, augment), sizes._replace(size=sizes.crop)
  variables, losses = training.train(
    jax.random.fold_in(jax.random.key(sizes.seed), list(networks(sizes)).index(name)),
    jobs.UNet(num_classes=len(data.classes), width=sizes.width, depth=sizes.depth),
    data.images,
    data.labels,
    networks(seen)[name],
    num_steps=sizes.steps // 2 if name == "strict" else sizes.steps,  # compared with none other
    augment=augment,
    variables=start_from,
    checkpoint=training.Checkpoint(unfinished, manifest),
  )
  arrays = flax.traverse_util.flatten_dict(jax.device_get(variables), sep="/")
  meta = {**manifest, "loss": losses.tolist(), "seconds": time.perf_counter() - start}
  storage.save_arrays(path, {**arrays, "meta": storage.json_array(meta)})
  unfinished.unlink(missing_ok=True)


def _plain(value: NamedTuple) -> dict[str, Any]:
  """A configuration as it comes back from JSON."""
  return {k: list(v) if isinstance(v, tuple) else v for k, v in value._asdict().items()}


def load_network(path: Path) -> tuple[folded_unet.Folded, str]:
  """A stored network, folded, and the digest of its arrays."""
  variables = _load_variables(path)
  arrays = flax.traverse_util.flatten_dict(variables, sep="/")
  digest = hashlib.sha256()
  for name in sorted(arrays):
    digest.update(name.encode() + arrays[name].tobytes())
  return folded_unet.fold(variables), digest.hexdigest()


def _load_variables(path: Path) -> dict[str, Any]:
  arrays = storage.load_arrays(path)
  return flax.traverse_util.unflatten_dict(
    {k: v for k, v in arrays.items() if k != "meta"}, sep="/"
  )


def marks(smoothing: Smoothing, sizes: Sizes) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Numbers of samples, selecting and bounding, at which counts are kept."""
  times = min(smoothing.more, sizes.more)
  more = (times,) if times > 1 else ()
  selection = *sizes.selection, *(sizes.selection[-1] * i for i in more)
  return selection, (*sizes.marks, *(sizes.marks[-1] * i for i in range(2, times + 1)))


def distribution(smoothing: Smoothing, sizes: Sizes) -> noise.SmoothingDistribution:
  s = smoothing
  return _noise(sizes, s.grid, s.std_min, s.std_max, s.hide_beyond, s.power)


def count(
  smoothing: Smoothing,
  sizes: Sizes,
  params: folded_unet.Folded,
  digest: str,
  image: np.ndarray,
  index: int,
  path: Path,
) -> None:
  """Counts one image's votes up to every mark; what was counted before is not counted again."""
  grid = partition.image_grid(sizes.size, smoothing.grid)
  manifest = {
    "smoothing": _plain(smoothing._replace(more=0, centers=False, compare=())),
    "sizes": {
      k: v
      for k, v in _plain(sizes._replace(images=0, marks=(), more=0, selection=(), radii=0)).items()
      if k not in ("crop", "start")
    },
    "network": digest,
    "image": index,
  }
  stored = storage.load_arrays(path) if path.exists() else {}
  if stored and storage.from_json_array(stored["manifest"]) != manifest:
    raise ValueError(f"{path} holds counts of another configuration: delete it.")
  keys = jax.random.split(jax.random.fold_in(jax.random.key(sizes.seed), index))
  for part, key, wanted in zip(
    ("selection", "estimation"), keys, marks(smoothing, sizes), strict=True
  ):
    done = 0
    for mark in wanted:
      name = f"{part}-{mark}"
      if name not in stored:
        start = time.perf_counter()
        votes = sampling.vote_counts(
          key,
          folded_unet.apply,
          params,
          image,
          distribution(smoothing, sizes),
          grid.reshape(-1),
          mark - done,
          num_classes=len(camvid.CLASSES),
          first_sample=done,
          windows=_windows(sizes.depth, grid),
        )
        before = stored[f"{part}-{done}"] if done else np.zeros(votes.shape, np.int32)
        stored[name] = before + np.asarray(votes)
        stored[f"{name}-seconds"] = np.asarray(time.perf_counter() - start)
        storage.save_arrays(path, {**stored, "manifest": storage.json_array(manifest)})
      done = mark


@functools.cache
def _window(size: tuple[int, int]) -> Any:
  """One function a size, so that the sampling loop is compiled once."""
  return folded_unet.window(size)


def center(
  smoothing: Smoothing,
  sizes: Sizes,
  params: folded_unet.Folded,
  image: np.ndarray,
  index: int,
  votes: np.ndarray,
  path: Path,
) -> None:
  """Center smoothing of one image: the answer, and distances of fresh samples to it.

  It gets as many samples for each of its three steps as the others have to bound with.
  """
  if path.exists():
    return
  groups = partition.image_grid(sizes.size, smoothing.grid)
  apply = _in_own_cells(groups.tobytes(), *groups.shape)
  isotropic = _noise(sizes, (1, 1), smoothing.std_min, smoothing.std_min)
  keys = jax.random.split(jax.random.fold_in(jax.random.key(sizes.seed + 1), index), 4)
  sampled = np.stack(
    [
      sampling.vote_counts(
        keys[0], apply, params, image, isotropic, np.zeros(groups.size, np.int32), 1,
        num_classes=len(camvid.CLASSES), first_sample=i,
      ).argmax(axis=1)
      for i in range(CANDIDATES)
    ]
  )  # fmt: skip
  candidates = np.concatenate([sampled, votes.argmax(axis=1)[None]])
  selecting, testing = (
    np.asarray(
      center_smoothing.hamming_distances(
        key, apply, params, image, isotropic, candidates, sizes.marks[-1]
      )
    )
    for key in keys[1:3]
  )
  # The toy of the tests has too few samples for the published error of the answer.
  answer = center_smoothing.select_center(
    selecting, testing, CANDIDATES, alpha=sizes.alpha if sizes.marks[-1] >= 1000 else 0.5
  )
  distances = center_smoothing.hamming_distances(
    keys[3], apply, params, image, isotropic, candidates[answer.candidate][None], sizes.marks[-1]
  )
  arrays = {"prediction": candidates[answer.candidate], "accepted": np.asarray(answer.accepted)}
  storage.save_arrays(path, {**arrays, "distances": np.asarray(distances)[0]})


@functools.cache
def _in_own_cells(groups: bytes, height: int, width: int) -> sampling.Apply:
  """The strictly local network: every cell's logits from that cell alone; of one cell, itself."""
  cells = np.frombuffer(groups, np.int32).reshape(height, width)
  if not cells.any():
    return folded_unet.apply

  def apply(params: folded_unet.Folded, x: jax.Array) -> jax.Array:
    def add_cell(cell: jax.Array, logits: jax.Array) -> jax.Array:
      own = (jnp.asarray(cells) == cell)[..., None]
      return jnp.where(own, folded_unet.apply(params, jnp.where(own, x, 0)), logits)

    shape = jax.eval_shape(folded_unet.apply, params, x)
    return jax.lax.fori_loop(0, cells.max() + 1, add_cell, jnp.zeros(shape.shape, shape.dtype))

  return apply


def center_curves(
  smoothing: Smoothing, sizes: Sizes, data: LabelledImages, paths: list[Path]
) -> dict[str, Any]:
  """Quality and curves of center smoothing, with the published ranks and with exact ones."""
  stored = [storage.load_arrays(path) for path in paths]
  predictions = np.stack(
    [np.where(a["accepted"], a["prediction"], metrics.ABSTAIN) for a in stored]
  )
  labels, radii = data.labels.reshape(predictions.shape), common_radii(sizes)
  result: dict[str, Any] = reports.quality(data, predictions)
  result["curves"] = {}
  for ranks in (center_smoothing.ranks_by_dkw, center_smoothing.ranks_by_binomial):
    fractions = []
    for arrays, prediction, truth in zip(stored, predictions, labels, strict=True):
      distance = center_smoothing.certify(
        arrays["distances"], radii, smoothing.std_min, alpha=sizes.alpha, ranks=ranks
      )
      right = int((prediction == truth).sum())
      known = int((truth < len(data.classes)).sum())
      of_all = center_smoothing.certified_outputs(distance, truth.size * bool(arrays["accepted"]))
      of_right = center_smoothing.certified_outputs(distance, right)
      fractions.append([of_all / truth.size, of_right / known])
    result["curves"][ranks.__name__] = _curve(radii, np.mean(fractions, axis=0))
  return result


def common_radii(sizes: Sizes) -> np.ndarray:
  """One grid of budgets for all methods, to where none of them can certify anything."""
  ways = [
    Smoothed("", distribution(s, sizes), np.zeros(0, np.int32), (), None)
    for s in smoothings(sizes).values()
  ]
  samples = sizes.marks[-1] * sizes.more
  job = ImageJob(size=sizes.size, samples=samples, alpha=sizes.alpha)
  return np.linspace(0, job_radii(job, tuple(ways))[-1], sizes.radii)


def certify(
  smoothing: Smoothing, sizes: Sizes, data: LabelledImages, paths: list[Path]
) -> dict[str, Any]:
  """Quality and curves at every number of samples, from the counts of all images."""
  radii = common_radii(sizes)
  selecting, bounding = marks(smoothing, sizes)
  stored = [storage.load_arrays(path) for path in paths]
  groups = partition.image_grid(sizes.size, smoothing.grid).reshape(-1)
  found = {}
  for mark in bounding:
    selected = max((s for s in selecting if s * 10 <= mark), default=selecting[0])
    votes = [(a[f"selection-{selected}"], a[f"estimation-{mark}"]) for a in stored]
    bound = functools.partial(certificates.from_votes, distribution(smoothing, sizes), groups)
    bases = [bound(*pair, alpha=sizes.alpha) for pair in votes]
    extra = smoothing.compare if mark == sizes.marks[-1] else ()
    found[str(mark)] = evaluate(data, bases, radii, ("envelope", "naive", *extra))
    if smoothing.std_min == smoothing.std_max:
      found[str(mark)]["curves"]["segcertify"] = segcertify_curve(
        data, votes, smoothing.std_min, radii, sizes.alpha
      )
      found[str(mark)]["fixed_threshold"] = {
        str(tau): threshold_curve(data, votes, smoothing.std_min, tau, radii, sizes.alpha)
        for tau in THRESHOLDS
      }
    if "milp" in extra:
      levels = corrections.k_fwer(sizes.alpha, groups.size, 1 + groups.size // 200)
      several = [bound(*pair, alpha=levels) for pair in votes]
      found[f"{mark}, k-FWER"] = evaluate(data, several, radii, ("envelope", "milp"))
  return {
    "smoothing": _plain(smoothing),
    "sizes": _plain(sizes),
    "manifest": storage.from_json_array(stored[0]["manifest"]),
    "images": list(data.names),
    "versions": versions(),
    "device": describe_devices(),
    "seconds_per_image": float(
      np.mean([sum(v for k, v in a.items() if k.endswith("-seconds")) for a in stored])
    ),
    "radii": radii.tolist(),
    "samples": found,
  }


def evaluate(
  data: LabelledImages,
  bases: list[certificates.BaseCertificates],
  radii: np.ndarray,
  methods: tuple[str, ...],
) -> dict[str, Any]:
  """Quality of the smoothed predictions, and curves of every method over the common budgets."""
  predictions = np.stack([np.where(base.eta > 0, base.labels, -1) for base in bases])
  labels = data.labels.reshape(predictions.shape)
  result: dict[str, Any] = reports.quality(data, predictions)
  result["curves"] = {}
  for method in methods:
    certified = [
      _certify(base, labels[i], len(data.classes), radii, method) for i, base in enumerate(bases)
    ]
    result["curves"][method] = _curve(radii, np.mean(certified, axis=0))
  return result


def _certify(
  base: certificates.BaseCertificates,
  labels: np.ndarray,
  num_classes: int,
  radii: np.ndarray,
  method: str,
) -> np.ndarray:
  """Certified fraction of all pixels, and certified accuracy of the labelled ones: [2, B]."""
  budgets = records.budgets_from_radii(radii, 2)
  options = {"milp": {"gap": 0.01, "time_limit": 10.0}}.get(method, {})
  fractions = []
  for targets, number in (
    (np.ones(labels.shape, bool), labels.size),
    (base.labels == labels, int((labels < num_classes).sum())),
  ):
    given = base.weights, base.groups, base.eta
    envelope = collective.certify(*given, budgets, targets=targets)
    # The paper's LP and the naive certificate are never tighter than the envelope; what the exact
    # one would certify at half as large a radius again is given up.
    end = 1 + int(np.flatnonzero(envelope.certified).max(initial=0))
    end += end // 2 if method == "milp" else 0
    found = np.zeros(len(radii), np.int64)
    found[:end] = collective.certify(
      *given, budgets[:end], method=method, targets=targets, **options
    ).certified
    fractions.append(metrics.certified_fraction(np.maximum(found - base.forfeit, 0), number))
  return np.stack(fractions)


def _curve(radii: np.ndarray, fractions: np.ndarray) -> dict[str, Any]:
  certified, accurate = fractions
  return {
    "certified": certified.tolist(),
    "certified_accuracy": accurate.tolist(),
    "radius": metrics.radius_sums(radii, certified)._asdict(),
  }


def segcertify_curve(
  data: LabelledImages, votes: list, std: float, radii: np.ndarray, alpha: float
) -> dict[str, Any]:
  """SegCertify with Holm's correction: every radius for itself, valid at one that is asked for."""
  labels = data.labels.reshape(len(votes), -1)
  return _curve(
    radii,
    np.mean(
      [
        [
          _fractions(segcertify.at_radius(*pair, std, radius, alpha=alpha).labels, truth, data)
          for radius in radii
        ]
        for pair, truth in zip(votes, labels, strict=True)
      ],
      axis=0,
    ).T,
  )


def threshold_curve(
  data: LabelledImages, votes: list, std: float, tau: float, radii: np.ndarray, alpha: float
) -> dict[str, Any]:
  """SegCertify at a fixed threshold: quality, and one level up to its radius."""
  found = [segcertify.fixed_threshold(*pair, std, alpha=alpha, tau=tau) for pair in votes]
  predictions = np.stack([segmentation.labels for segmentation in found])
  labels = data.labels.reshape(predictions.shape)
  level = np.mean(
    [_fractions(p, truth, data) for p, truth in zip(predictions, labels, strict=True)], axis=0
  )
  curve = _curve(radii, np.outer(level, radii < found[0].radius))
  return {**reports.quality(data, predictions), "curve": curve, "certified_up_to": found[0].radius}


def _fractions(
  predictions: np.ndarray, truth: np.ndarray, data: LabelledImages
) -> tuple[float, float]:
  """Certified fraction of all pixels, and certified accuracy of the labelled ones."""
  certified = predictions != metrics.ABSTAIN
  known = (truth >= 0) & (truth < len(data.classes))
  return float(certified.mean()), float((certified & (predictions == truth))[known].mean())


def certify_iou(
  sizes: Sizes, data: LabelledImages, folders: dict[str, Path], num_radii: int = 9
) -> dict[str, Any]:
  """Certified mean IoU, every class for itself and jointly: means over images."""
  radii = np.linspace(0, common_radii(sizes)[-1] / 2, num_radii)
  budgets = records.budgets_from_radii(radii, 2)
  found = {}
  for name, folder in folders.items():
    smoothing = smoothings(sizes)[name]
    groups = partition.image_grid(sizes.size, smoothing.grid).reshape(-1)
    bounds = []
    for image, truth in zip(data.names, data.labels, strict=True):
      arrays = storage.load_arrays(folder / f"{image}.npz")
      base = certificates.from_votes(
        distribution(smoothing, sizes),
        groups,
        arrays[f"selection-{sizes.selection[-1]}"],
        arrays[f"estimation-{sizes.marks[-1]}"],
        alpha=sizes.alpha,
      )
      given = base, truth.reshape(-1)
      classes = len(data.classes)
      separate = certified_iou.per_class(*given, budgets, num_classes=classes)
      joint = certified_iou.jointly(*given, separate)
      certified_iou.verify_jointly(*given, separate, joint, num_classes=classes)
      bounds.append([separate.mean_iou, joint.mean_iou])
    per_class, jointly = np.mean(bounds, axis=0)
    found[name] = {"per_class": per_class.tolist(), "jointly": jointly.tolist()}
  return {
    "radii": radii.tolist(),
    "mean_iou": found,
    "sizes": _plain(sizes),
    "versions": versions(),
    "device": describe_devices(),
  }


def choose(sizes: Sizes, data: LabelledImages, params: folded_unet.Folded) -> dict[str, Any]:
  """What `choosing.choose` proposes from pilot samples on validation images, hand-made first."""
  by_hand = choosing.grid_candidates(
    sizes.size, [PAPER], [0.2], [1.0], windows=functools.partial(_windows, sizes.depth)
  )
  proposed = choosing.grid_candidates(
    sizes.size,
    *CHOICES[sizes.crop is not None],
    windows=functools.partial(_windows, sizes.depth),
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
    jax.random.key(sizes.seed + 2),
    candidates,
    folded_unet.apply,
    params,
    data.images,
    data.labels,
    records.budgets_from_radii(radii, 2),
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
    "sizes": _plain(sizes),
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


SOME = (0.2, 0.3, 0.4)
"""Levels of the pilot."""


def compare_noises(
  sizes: Sizes, data: LabelledImages, networks: dict[str, folded_unet.Folded]
) -> dict[str, Any]:
  """What grids, schedules and networks are worth, by pilot samples on validation images."""
  noises = {
    **{f"1x1, {s}": Smoothing("", (1, 1), s, s) for s in MORE_LEVELS},
    **{f"3x5, {s} to {r * s:g}": Smoothing("", PAPER, s, r * s) for r in (5, 3) for s in SOME},
    **{f"4x6, {s} and {2 * s:g}, hidden beyond 1": _near((4, 6), s, 1) for s in SOME},
    **{f"6x10, {s} to {3 * s:g}, hidden beyond 2": _near((6, 10), s, 2) for s in SOME},
    **{f"6x10, {s} to {4 * s:g}, hidden beyond 3": _near((6, 10), s, 3) for s in SOME},
  }
  candidates = []
  for name, smoothing in noises.items():
    grid = partition.image_grid(sizes.size, smoothing.grid)
    windows = _windows(sizes.depth, grid)
    candidates.append(
      choosing.Candidate(name, distribution(smoothing, sizes), grid.reshape(-1), windows)
    )
  rows = []
  for network, params in networks.items():
    found = _pilot(sizes, data, params, candidates, tolerance=1.0)
    rows += [{"network": network, **row} for row in found["candidates"]]
  return {**found, "candidates": rows, "best": None}


def _windows(depth: int, grid: np.ndarray) -> sampling.Windows | None:
  """The windows of a grid's groups; none of a single one, which is the whole image."""
  starts, size = partition.windows(grid, alignment=1 << depth)
  return sampling.Windows(_window(size), starts, size) if len(starts) > 1 else None


def rates(sizes: Sizes, image: np.ndarray, params: folded_unet.Folded) -> dict[str, Any]:
  """Seconds of one pass, whole or in a grid's windows: medians of runs in turn."""
  grids = sorted({smoothing.grid for smoothing in smoothings(sizes).values()})
  seconds: dict[str, list[float]] = {f"{rows}x{columns}": [] for rows, columns in grids}
  for i in range(12):
    for grid, times in zip(grids, seconds.values(), strict=True):
      groups = partition.image_grid(sizes.size, grid)
      samples = max(1, 960 // math.prod(grid))
      start = time.perf_counter()
      sampling.vote_counts(
        jax.random.key(i),
        folded_unet.apply,
        params,
        image,
        _noise(sizes, grid, 0.2, 0.2),
        groups.reshape(-1),
        samples,
        num_classes=len(camvid.CLASSES),
        windows=_windows(sizes.depth, groups),
      ).block_until_ready()
      if i > 1:  # the first one compiles
        times.append((time.perf_counter() - start) / (samples * math.prod(grid)))
  return {
    "seconds_per_pass": {name: float(np.median(times)) for name, times in seconds.items()},
    "sizes": _plain(sizes),
    "versions": versions(),
    "device": describe_devices(),
  }


STUDIES = {"64x96": Sizes(), "180x240": Sizes(size=(180, 240), crop=(96, 128), more=24, radii=121)}
"""The two studies: where the network sees nearly the whole image, and where it does not."""


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--data-dir", required=True, help="folder of camvid/")
  parser.add_argument("--work", type=Path, default=Path("lrs-out/images"), help="networks, counts")
  parser.add_argument("--out", type=Path, default=Path("benchmarks/results/images"))
  parser.add_argument("--size", choices=STUDIES, default="64x96", help="of the images")
  parser.add_argument(
    "--only", nargs="*", metavar="PIECE", help=f"names of ways of smoothing, {', '.join(EXTRA)}"
  )
  options = parser.parse_args(arguments)
  sizes = STUDIES[options.size]
  pieces = (*smoothings(sizes), *EXTRA)
  unknown = set(options.only or ()) - set(pieces)
  if unknown:
    parser.error(f"--only takes {', '.join(pieces)}; not {', '.join(sorted(unknown))}")
  out = options.out if sizes.crop is None else options.out / options.size
  run(sizes, options.data_dir, options.work, out, options.only or pieces)


EXTRA = ("certified-iou", "choice", "noises", "rates")
"""Pieces beside the ways of smoothing."""


def run(sizes: Sizes, data_dir: str, work: Path, out: Path, names: tuple[str, ...]) -> None:
  """Does every piece of the named ways of smoothing that is not done yet."""
  test = camvid.load(data_dir, "test", sizes.size, sizes.images)
  known = smoothings(sizes)
  counts = work / ("counts" if sizes.crop is None else f"counts-{sizes.size[0]}x{sizes.size[1]}")
  for name in names:
    smoothing = known.get(name, known["localized-0.4"])
    network = work / "networks" / f"{smoothing.network}.npz"
    if not network.exists():
      train(smoothing.network, sizes, functools.partial(camvid.load, data_dir, "train"), network)
    params, digest = load_network(network)
    if name == "choice":
      pilot = camvid.load(data_dir, "val", sizes.size, min(sizes.images, 4))
      result = choose(sizes, pilot, params)
    elif name == "noises":
      pilot = camvid.load(data_dir, "val", sizes.size, min(sizes.images, 4))
      files = [work / "networks" / f"{s.network}.npz" for s in known.values()]
      trained = {f.stem: load_network(f)[0] for f in dict.fromkeys(files) if f.exists()}
      trained.pop("strict", None)
      result = compare_noises(sizes, pilot, trained)
    elif name == "rates":
      result = rates(sizes, test.images[0], params)
    elif name == "certified-iou":
      folders = {n: counts / n for n in ("localized-0.4", "isotropic-0.4")}
      result = certify_iou(sizes, test, folders)
    else:
      result = one(
        smoothing,
        sizes,
        params,
        digest,
        test,
        counts / name.removesuffix("-exact").removesuffix("-more"),
      )
    storage.save_json(out / f"{name}.json", result)
    print(f"{name}: done", flush=True)


def one(
  smoothing: Smoothing,
  sizes: Sizes,
  params: folded_unet.Folded,
  digest: str,
  test: LabelledImages,
  folder: Path,
) -> dict[str, Any]:
  """Counts and certifies all images under one way of smoothing."""
  paths = [folder / f"{image}.npz" for image in test.names]
  for i, path in enumerate(paths):
    count(smoothing, sizes, params, digest, test.images[i], i, path)
  result = certify(smoothing, sizes, test, paths)
  if smoothing.centers:
    centers = [path.with_name(f"{path.stem}-center.npz") for path in paths]
    for i, path in enumerate(centers):
      votes = storage.load_arrays(paths[i])[f"selection-{sizes.selection[-1]}"]
      center(smoothing, sizes, params, test.images[i], i, votes, path)
    result["center"] = center_curves(smoothing, sizes, test, centers)
  return result


if __name__ == "__main__":
  main()
