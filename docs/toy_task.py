"""The smallest task: which half of a picture of noise is brighter, at every pixel of a strip.

`lrs-jax certify docs/toy_task.py:TASK` runs it where it is. A task of the package is one file like
this under `lrs_jax/tasks` and one entry in `lrs_jax/tasks/__init__.py`; see CONTRIBUTING. Its
network is not trained: it compares every pixel with 1/2. For one that is, read
`lrs_jax/tasks/volumes.py` from `lesson` on.
"""

from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np

from lrs_jax import noise
from lrs_jax.cells import locality, partition
from lrs_jax.tasks import common, options
from lrs_jax.tasks.options import Option
from lrs_jax.tasks.task import Case, Data, Models, Network, Smoothing, Task


class Config(options.Shared):
  """Configuration of a job on strips."""

  data: str = "strips"
  length: Annotated[int, Option("pixels of a strip", "data", **options.ONE)] = 24
  strips: Annotated[int, Option("strips to certify", "data", **options.ONE)] = 2
  cells: Annotated[int, Option("cells of a strip", "smoothing", **options.ONE)] = 3
  std_min: Annotated[float, Option("noise in a group's own cell", "smoothing")] = 0.2
  std_max: Annotated[float, Option("noise in the farthest cell", "smoothing")] = 0.8


def load(config: Config) -> Data:
  """Strips of uniform noise; a pixel is bright if it is above 1/2."""
  strips = np.random.default_rng(config.seed).random((config.strips, config.length), np.float32)
  cases = [Case(f"strip-{i}", x, (x > 0.5).astype(np.int32)) for i, x in enumerate(strips)]
  return Data(cases, ("dark", "bright"))


def apply(threshold: Any, x: Any) -> Any:
  """The network: logits [length, 2] of one strip."""
  return jnp.stack([threshold - x, x - threshold], axis=-1)


def smoothings(config: Config, data: Data, case: Case) -> tuple[Smoothing, ...]:
  """Little noise in a group's own cell, more with distance; the same everywhere in the baseline."""
  cells = partition.image_grid((config.length,), (config.cells,))
  distances = locality.chebyshev_distances((config.cells,))
  scale = locality.interpolate_std(
    locality.fraction_of_grid(distances), config.std_min, config.std_max
  )
  isotropic = noise.gaussian(np.array([[config.std_min]]), np.zeros(config.length, np.int32))
  return common.with_baseline(config, noise.gaussian(scale, cells), cells, isotropic)


MODELS = Models(
  network=lambda config, data, name: Network("threshold", {}),
  train=lambda key, config, data, name, unfinished, manifest: (
    {"threshold": np.full((), 0.5, np.float32)},
    {},
  ),
  shapes=lambda config, data: {"threshold": np.zeros((), np.float32)},
  finish=lambda config, data, variables: variables["threshold"],
  predict=lambda config, data, params, case: np.asarray(apply(params, case.x)).argmax(axis=-1),
)

TASK = Task(
  name="strips",
  unit="pixels",
  data={"strips": Config()},
  about={"strips": "strips of noise, whose bright pixels are to be found"},
  check=lambda config: None,
  load=load,
  models=MODELS,
  smoothings=smoothings,
  counter=lambda config, data, params, case, smoothing: common.counter(
    config, apply, params, case.x, smoothing, len(data.classes)
  ),
  chunk_size=common.chunk_size,
  adversaries=common.ball,
)
