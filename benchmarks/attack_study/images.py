"""CamVid images under isotropic noise, certified by the view of a PatchNet."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import fields
from benchmarks.attack_study.gradients import Noisy, Smoothed
from lrs_jax import keys, noise, sampling
from lrs_jax.confidence import certificates
from lrs_jax.tasks import images
from lrs_jax.tasks.images import Config
from lrs_jax.tasks.task import Data

RADII = np.array([0.5, 1.0, 1.5, 4.0])
STD = 0.3


def load(data_dir: str, work: Path, size: str, count: int) -> tuple[Config, Data, Any]:
  """Test images, and the network of benchmarks/fields.py, trained first if `work` has none."""
  config = fields.config_of("patchnet", data_dir, size, count, STD, 0)
  data = images.load(config)
  return config, data, fields.obtain("patchnet", config, data, work)


def smoothed(
  config: Config, data: Data, params: Any, index: int, samples: Sequence[int]
) -> Smoothed:
  """One image, certified from so many samples that select and that bound."""
  case = data.cases[index]
  one = noise.gaussian([[STD]], np.zeros((1, 1, 1), int))
  nothing = np.zeros(len(case.truth), int)
  apply = images.of(config).apply

  def count(key: jax.Array, x: np.ndarray, num_samples: int) -> np.ndarray:
    votes = sampling.vote_counts(
      key, apply, params, x, one, nothing, num_samples, num_classes=len(data.classes), mesh=mesh()
    )
    return np.asarray(votes)

  priced, groups = noise.in_blocks(one, nothing.reshape(config.size), images.network_view(config))
  key = jax.random.fold_in(keys.tagged(jax.random.key(0), "attacks, images"), index)
  given = [
    count(keys.tagged(key, part), case.x, number)
    for part, number in zip(("selection", "estimation"), samples, strict=True)
  ]
  base = certificates.from_votes(priced, groups, *given, alpha=config.alpha)
  return Smoothed(case.name, case.x, params, noisy(apply), count, base, priced, groups)


@cache
def noisy(apply: sampling.Apply) -> Noisy:
  """One draw's logits; the same function for the same network, so that it is compiled once."""

  def logits(key: jax.Array, params: Any, x: jax.Array) -> jax.Array:
    found = apply(params, x + np.float32(STD) * jax.random.normal(key, x.shape))
    return found.reshape(-1, found.shape[-1])

  return logits


@cache
def mesh() -> jax.sharding.Mesh:
  return jax.make_mesh((1,), ("samples",), devices=jax.local_devices()[:1])
