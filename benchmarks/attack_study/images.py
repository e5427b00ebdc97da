"""CamVid images under isotropic noise, certified by the view of a PatchNet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import fields
from benchmarks.attack_study.gradients import Smoothed, certified_by
from lrs_jax import noise
from lrs_jax.tasks import images
from lrs_jax.tasks.images import Config
from lrs_jax.tasks.task import Data

RADII = np.array([0.25, 0.5, 1.0, 4.0])
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
  view, apply = images.network_view(config), images.of(config).apply
  return certified_by(
    case.name, index, case.x, apply, params, one, view, samples, num_classes=len(data.classes)
  )
