"""What tasks have in common: counting with a plain function, balls of radii, names (host)."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from lrs_jax import noise, sampling, storage
from lrs_jax.confidence import corrections, planning
from lrs_jax.sampling import ClassSums
from lrs_jax.tasks.task import Adversary, Case, Count, Smoothing

COMPARED = ("envelope", "lp", "naive")
"""Methods that every job reports of its own smoothing, beside the one that it was asked for."""


def certificates_of(
  methods: Sequence[str],
  *,
  orders: Sequence[float] = (),
  targets: Sequence[str] = ("all", "correct"),
) -> tuple[str, ...]:
  """Names of certificates: every method, and the envelope of every Rényi order.

  Example:
    >>> certificates_of(("envelope",), orders=(2.0,))
    ('all/envelope', 'all/envelope@2', 'correct/envelope', 'correct/envelope@2')
  """
  names = [*dict.fromkeys(methods), *(f"envelope@{order:g}" for order in orders)]
  return tuple(f"{target}/{name}" for target in targets for name in names)


def plain_config(config: Any) -> dict[str, Any]:
  """A configuration as it comes back from JSON, without the paths of a machine."""
  hidden: dict[str, str | None] = {name: None for name in ("data_dir",) if name in config._fields}
  if getattr(config, "graph", None) is not None:  # a file of the user's own
    hidden["graph"] = Path(config.graph).name
  return json.loads(json.dumps(config._replace(**hidden)._asdict()))


def plain_fields(config: Any, names: Sequence[str]) -> dict[str, Any]:
  """Some fields of a configuration as they come back from JSON."""
  plain = plain_config(config)
  return {name: plain[name] for name in names}


def same_noise(one: noise.SmoothingDistribution, other: noise.SmoothingDistribution) -> bool:
  """Whether two smoothing distributions have the same levels in the same cells."""
  return noise_digest(one) == noise_digest(other)


def noise_digest(distribution: noise.SmoothingDistribution) -> str:
  """SHA-256 of a smoothing distribution: family, levels and cells."""
  levels = dict(zip(distribution.family.parameters, distribution.parameters, strict=True))
  arrays = {f"parameters/{name}": level for name, level in levels.items()}
  family = np.asarray(distribution.family.name)
  return storage.digest({"family": family, "cells": distribution.cells, **arrays})


def local_mesh() -> Mesh:
  """The devices of this process, to spread samples over."""
  return jax.make_mesh((jax.local_device_count(),), ("samples",), devices=jax.local_devices())


def counter(
  config: Any,
  apply: sampling.Apply,
  params: Any,
  x: Any,
  smoothing: Smoothing,
  num_classes: int,
  *,
  windows: sampling.Windows | None = None,
) -> Count:
  """A task's `counter` for a model (params, x) -> logits [..., K] of one array x.

  Votes are counted, and scores as well if the configuration's `scores` ask for others than votes.

  Returns:
    (key, number of samples, first sample) -> `ClassSums`.
  """
  mesh, soft = local_mesh(), tuple(config.scores) != ("votes",)
  options: dict[str, Any] = {"num_classes": num_classes, "windows": windows, "mesh": mesh}

  def count(key: jax.Array, num_samples: int, first_sample: int) -> ClassSums:
    with jax.default_matmul_precision(config.precision):
      asked: dict[str, Any] = {
        "apply": apply,
        "params": params,
        "x": x,
        "noise": smoothing.noise,
        "groups": smoothing.groups,
        "num_samples": num_samples,
        "first_sample": first_sample,
        **options,
      }
      if soft:
        return sampling.class_sums(key, **asked)
      votes = sampling.votes(key, **asked)
      return ClassSums(votes.counts, None, None, votes.num_samples)

  return count


def chunk_size(config: Any, case: Case) -> int:
  """A task's `chunk_size` where a case is one array."""
  return sampling.default_chunk_size(np.size(case.x))


def ball(config: Any, smoothings: Sequence[Smoothing], num_outputs: int) -> tuple[Adversary, ...]:
  """Adversaries of a ball: at the configuration's radii, or those of `planning.radii`."""
  if config.budgets is not None:
    radii = np.unique(np.asarray(config.budgets, np.float64))
  else:
    distributions, level = [smoothing.noise for smoothing in smoothings], config.alpha
    if config.k_fwer and num_outputs:
      levels = corrections.levels(config.alpha, num_outputs, config.k_fwer)
      num_outputs, level = 1, float(levels.alpha[0])
    radii = planning.radii(distributions, config.samples, num_outputs=num_outputs, alpha=level)
  return tuple(
    Adversary(noise.budgets_from_radii(radii, smoothing.noise.p)[:, None], radii)
    for smoothing in smoothings
  )


def shapes_of(model: nn.Module, *inputs: Any) -> Any:
  """Shapes and types of the variables of a Flax module for such inputs."""
  return jax.eval_shape(model.init, jax.random.key(0), *inputs)


def digest_of(value: Any) -> str:
  """The first 12 digits of the SHA-256 of a JSON value."""
  return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
