"""What tasks have in common: counting with a plain function, balls of radii, names (host)."""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from lrs_jax import noise, sampling
from lrs_jax.confidence import corrections, planning
from lrs_jax.sampling import ClassSums
from lrs_jax.tasks.task import Adversary, Count, Smoothing

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
  hidden = {name: None for name in ("data_dir",) if name in config._fields}
  return json.loads(json.dumps(config._replace(**hidden)._asdict()))


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
) -> tuple[Count, int]:
  """A task's `counter` for a model (params, x) -> logits [..., K] of one array x.

  Votes are counted, and scores as well if the configuration's `scores` ask for others than votes.

  Returns:
    (key, number of samples, first sample) -> `ClassSums`, and how many samples the devices take at
    once.
  """
  mesh = local_mesh()
  options: dict[str, Any] = {"num_classes": num_classes, "windows": windows, "mesh": mesh}

  def count(key: jax.Array, num_samples: int, first_sample: int) -> ClassSums:
    with jax.default_matmul_precision(config.precision):
      votes = sampling.votes(
        key,
        apply,
        params,
        x,
        smoothing.noise,
        smoothing.groups,
        num_samples,
        first_sample=first_sample,
        **options,
      )
      return ClassSums(votes.counts, None, None, votes.num_samples)

  return count, sampling.default_chunk_size(np.size(x)) * mesh.size


def levels(config: Any, num_outputs: int) -> corrections.Levels:
  """The level of every output's bound: Bonferroni, or k-FWER if some may be false."""
  if not config.k_fwer:
    return corrections.bonferroni(config.alpha, num_outputs)
  return corrections.k_fwer(config.alpha, num_outputs, 1 + math.floor(config.k_fwer * num_outputs))


def ball(config: Any, smoothings: Sequence[Smoothing], num_outputs: int) -> tuple[Adversary, ...]:
  """Adversaries of a ball: at the configuration's radii, or those of `planning.radii`."""
  if config.budgets is not None:
    radii = np.unique(np.asarray(config.budgets, np.float64))
  else:
    distributions = [smoothing.noise for smoothing in smoothings]
    radii = planning.radii(
      distributions, config.samples, num_outputs=num_outputs, alpha=config.alpha
    )
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
