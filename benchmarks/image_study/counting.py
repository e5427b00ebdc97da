"""Votes of the smoothed network: what takes the time, kept on disk image by image."""

import functools
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.image_study.configurations import Sizes, Smoothing, distribution, groups, marks
from lrs_jax import keys, sampling, storage
from lrs_jax.baselines import center_smoothing
from lrs_jax.cells import partition
from lrs_jax.tasks.data import camvid
from lrs_jax.tasks.models import folded_unet

CANDIDATES = 30
"""Sampled masks among which center smoothing chooses."""


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
  manifest = {
    "grid": list(smoothing.grid),
    "std_min": smoothing.std_min,
    "std_max": smoothing.std_max,
    "hide_beyond": smoothing.hide_beyond,
    "size": list(sizes.size),
    "seed": sizes.seed,
    "network": digest,
    "image": index,
  }
  stored = storage.load_arrays(path) if path.exists() else {}
  if stored and storage.from_json_array(stored["manifest"]) != manifest:
    raise ValueError(f"{path} holds counts of another configuration: delete it.")
  owners = groups(smoothing, sizes)
  for part, wanted in zip(("selection", "estimation"), marks(smoothing, sizes), strict=True):
    key = jax.random.fold_in(keys.tagged(jax.random.key(sizes.seed), part), index)
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
          owners.ravel(),
          mark - done,
          num_classes=len(camvid.CLASSES),
          first_sample=done,
          windows=windows(sizes.depth, owners),
        )
        before = stored[f"{part}-{done}"] if done else np.zeros(votes.shape, np.int32)
        stored[name] = before + np.asarray(votes)
        stored[f"{name}-seconds"] = np.asarray(time.perf_counter() - start)
        storage.save_arrays(path, {**stored, "manifest": storage.json_array(manifest)})
      done = mark


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
  candidates = np.concatenate([sampled, votes.argmax(axis=1)[None]])
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
  return sampling.Windows(_window(size), starts, size) if len(starts) > 1 else None


@functools.cache
def _window(size: tuple[int, int]) -> Any:
  """One function a size, so that the sampling loop is compiled once."""
  return folded_unet.window(size)
