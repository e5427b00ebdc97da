"""Models that vote under noise: in JAX, on devices, or of another framework, in batches."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from lrs_jax import sampling
from lrs_jax.noise import SmoothingDistribution
from lrs_jax.noise.views import distinct
from lrs_jax.sampling import Apply, Predict, Windows, checks, external, guards

Count = Callable[[jax.Array, int, str, int], np.ndarray]
"""(key, S, title, start) -> votes of the samples from start to S, int64 [N, K], behind a bar."""


class Voter(NamedTuple):
  """A model and its input, whatever evaluates it."""

  shape: tuple[int, ...]  # of the outputs: N is its product
  num_classes: int  # K
  check: Callable[[jax.Array, SmoothingDistribution, np.ndarray], None]
  # (key, fields, int [N], the field of every output): asks the model before a long run, or raises
  counter: Callable[[SmoothingDistribution, np.ndarray], Count]  # of these fields of noise

  @property
  def num_outputs(self) -> int:
    """N."""
    return math.prod(self.shape)


def in_jax(
  apply: Apply,
  params: Any,
  x: jax.Array,
  *,
  chunk_size: int | None,
  mesh: Mesh | None,
  windows: Windows | None,
) -> Voter:
  """A function of JAX, as `sampling.votes` evaluates it."""
  *shape, num_classes = guards.logits_of(apply, params, x).shape

  def check(key: jax.Array, drawn: SmoothingDistribution, field: np.ndarray) -> None:
    guards.check_model(key, apply, params, x, drawn, field, num_classes=num_classes)

  def counter(drawn: SmoothingDistribution, field: np.ndarray) -> Count:
    sampled = (drawn, field) if windows is not None else distinct(drawn, field)
    stride = chunk_size or sampling.default_chunk_size(x.size)
    stride *= jax.device_count() if mesh is None else mesh.size
    options: dict[str, Any] = {"chunk_size": chunk_size, "mesh": mesh, "windows": windows}
    options["num_classes"] = num_classes

    def count(key: jax.Array, num_samples: int, title: str, start: int) -> np.ndarray:
      # In pieces of whole chunks: a bar can show how far it is.
      asked = key, apply, params, x, *sampled
      piece = max(-(-num_samples // (20 * stride)), 1) * stride
      total, bar = np.zeros((), np.int64), {"leave": False, "disable": None, "delay": 1}
      with tqdm(total=num_samples, initial=start, desc=title, **bar) as shown:
        for first in range(start, max(num_samples, start + 1), piece):
          number = min(piece, num_samples - first)
          votes = sampling.votes(*asked, number, first_sample=first, **options)
          total = total + np.asarray(votes.counts, np.int64)
          shown.update(number)
      return total

    return count

  return Voter(tuple(shape), num_classes, check, counter)


def of_batches(
  predict: Predict, x: jax.Array, *, num_classes: int | None, batch_size: int | None
) -> Voter:
  """A function of batches, as `sampling.external_votes` evaluates it; it is asked once, of x."""
  checks.check_finite(x)
  size = external.check_batch_size(batch_size, x.size)
  answer = external.ask(predict, np.repeat(np.asarray(x)[None], size, axis=0))
  shape, num_classes = external.shape_of(answer, num_classes)

  def check(key: jax.Array, drawn: SmoothingDistribution, field: np.ndarray) -> None:
    asked = key, predict, x, drawn, field
    sampling.check_predict(*asked, num_classes=num_classes, batch_size=size)

  def counter(drawn: SmoothingDistribution, field: np.ndarray) -> Count:
    drawn, field = distinct(drawn, field)

    def count(key: jax.Array, num_samples: int, title: str, start: int) -> np.ndarray:
      return sampling.external_votes(
        key,
        predict,
        x,
        drawn,
        field,
        num_samples - start,
        num_classes=num_classes,
        first_sample=start,
        batch_size=size,
        title=title,
      ).counts

    return count

  return Voter(shape, num_classes, check, counter)
