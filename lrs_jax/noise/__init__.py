"""Smoothing distributions: levels per group and cell, draws from them, and what they certify.

`families` is the table of all there are: `additive` has Gaussian, uniform and Laplace noise,
`discrete` ablation and flips; `grids` draws additive noise exactly, for inputs on a grid, by the
`tails` of its law. `draws` has the standard draws behind them (device), `eta` thresholds
from bounds on probabilities and scores, `renyi` further base certificates of flips, `views` what
outputs see of the noise (host).
"""

from lrs_jax.noise.additive import gaussian, laplace, uniform
from lrs_jax.noise.budgets import budgets_from_radii
from lrs_jax.noise.discrete import ablation, flips
from lrs_jax.noise.distributions import (
  Family,
  SmoothingDistribution,
  as_input,
  level_at,
  sample,
  to_device,
)
from lrs_jax.noise.families import FAMILIES, make
from lrs_jax.noise.grids import on_grid
from lrs_jax.noise.views import in_blocks, seen

__all__ = [
  "FAMILIES",
  "Family",
  "SmoothingDistribution",
  "ablation",
  "as_input",
  "budgets_from_radii",
  "flips",
  "gaussian",
  "in_blocks",
  "laplace",
  "level_at",
  "make",
  "on_grid",
  "sample",
  "seen",
  "to_device",
  "uniform",
]
