"""Votes of the smoothed network: what takes the time, kept on disk image by image."""

import functools
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from benchmarks.image_study.configurations import Sizes, Smoothing, distribution, groups, marks
from lrs_jax import keys, sampling, storage
from lrs_jax.baselines import center_smoothing
from lrs_jax.cells import partition
from lrs_jax.jobs import checkpoints
from lrs_jax.jobs.networks import Obtained
from lrs_jax.jobs.running import PARTS
from lrs_jax.tasks import common, images
from lrs_jax.tasks import task as tasks
from lrs_jax.tasks.data import camvid
from lrs_jax.tasks.models import folded_unet

CANDIDATES = 30
"""Sampled masks among which center smoothing chooses."""

CENTER = "center.npz"
"""Name of the file of center smoothing's answer and distances."""


def manifest(smoothing: Smoothing, sizes: Sizes, digest: str, index: int) -> dict[str, Any]:
  """What tells the counts of one image from all others."""
  return {
    "grid": list(smoothing.grid),
    "std_min": smoothing.std_min,
    "std_max": smoothing.std_max,
    "hide_beyond": smoothing.hide_beyond,
    "size": list(sizes.size),
    "seed": sizes.seed,
    "network": digest,
    "image": index,
  }


def count(
  smoothing: Smoothing,
  sizes: Sizes,
  network: Obtained,
  image: np.ndarray,
  index: int,
  folder: Path,
  progress: tqdm,
) -> None:
  """Counts one image's votes up to every mark, each in a file; what was counted before stays."""
  owners = groups(smoothing, sizes)
  smoothed = tasks.Smoothing("", distribution(smoothing, sizes), owners.ravel(), ())
  counter = common.counter(
    images.Config(),
    folded_unet.apply,
    network.params,
    image,
    smoothed,
    len(camvid.CLASSES),
    windows=windows(sizes.depth, owners),
  )
  for part, wanted in zip(PARTS, marks(smoothing, sizes), strict=True):
    key = jax.random.fold_in(keys.tagged(jax.random.key(sizes.seed), part), index)
    for first, end in itertools.pairwise((0, *wanted)):
      path = folder / f"{part}-{first}-{end}.counts.npz"
      told = {**manifest(smoothing, sizes, network.digest, index), "part": part}
      if _is_counted(path, {**told, "ranges": [[first, end]]}):
        progress.update(end - first)
        continue
      checkpoints.count_in_pieces(
        lambda first, size, key=key: counter(key, size, first),
        [(first, end)],
        path,
        told,
        piece=256 * jax.local_device_count(),
        progress=progress.update,
      )


def _is_counted(path: Path, wanted: dict[str, Any]) -> bool:
  """Whether a file holds all of these counts: then nothing needs to be compiled."""
  if not path.exists():
    return False
  stored = checkpoints.load(path)
  if checkpoints.differences(stored.manifest, wanted):
    raise ValueError(f"{path} holds counts of another configuration: delete it.")
  return stored.done == checkpoints.num_samples(wanted["ranges"])


def votes(folder: Path, part: str, mark: int) -> np.ndarray:
  """The first so many votes of one image, int [N, K]."""
  known = {path: checkpoints.load(path) for path in folder.glob(f"{part}-*.counts.npz")}
  wanted = {path: one for path, one in known.items() if one.manifest["ranges"][0][1] <= mark}
  total = checkpoints.add_up(wanted) if wanted else None
  if total is None or total.manifest["ranges"] != [[0, mark]]:
    raise ValueError(f"{folder} does not have the {part} samples 0 to {mark}.")
  return total.sums[0]


def seconds(folder: Path) -> float:
  """What it took to count one image's votes."""
  return sum(checkpoints.load(path).seconds for path in folder.glob("*.counts.npz"))


def center(
  smoothing: Smoothing,
  sizes: Sizes,
  params: folded_unet.Folded,
  image: np.ndarray,
  index: int,
  folder: Path,
) -> None:
  """Center smoothing of one image: the answer, and distances of fresh samples to it.

  It gets as many samples for each of its three steps as the others have to bound with.
  """
  path = folder / CENTER
  if path.exists():
    return
  cells = groups(smoothing, sizes)
  apply = _in_own_cells(cells.tobytes(), *cells.shape)
  isotropic = distribution(smoothing._replace(grid=(1, 1), hide_beyond=None), sizes)
  key = keys.tagged(jax.random.key(sizes.seed), "center smoothing")
  key_candidates, *key_tests, key_distances = jax.random.split(jax.random.fold_in(key, index), 4)
  sampled = np.stack(
    [
      sampling.vote_counts(
        key_candidates, apply, params, image, isotropic, np.zeros(cells.size, np.int32), 1,
        num_classes=len(camvid.CLASSES), first_sample=i,
      ).argmax(axis=1)
      for i in range(CANDIDATES)
    ]
  )  # fmt: skip
  own = votes(folder, "selection", sizes.selection[-1])
  candidates = np.concatenate([sampled, own.argmax(axis=1)[None]])
  selecting, testing = (
    np.asarray(
      center_smoothing.hamming_distances(
        key, apply, params, image, isotropic, candidates, sizes.marks[-1]
      )
    )
    for key in key_tests
  )
  # The toy of the tests has too few samples for the published error of the answer.
  answer = center_smoothing.select_center(
    selecting, testing, CANDIDATES, alpha=sizes.alpha if sizes.marks[-1] >= 1000 else 0.5
  )
  distances = center_smoothing.hamming_distances(
    key_distances,
    apply,
    params,
    image,
    isotropic,
    candidates[answer.candidate][None],
    sizes.marks[-1],
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


def windows(depth: int, grid: np.ndarray) -> sampling.Windows | None:
  """The windows of a grid's groups; none of a single one, which is the whole image."""
  starts, size = partition.windows(grid, alignment=1 << depth)
  return sampling.Windows(folded_unet.window(size), starts, size) if len(starts) > 1 else None
