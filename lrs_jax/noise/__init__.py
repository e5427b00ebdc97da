"""Smoothing distributions: levels per group and cell, draws from them, and what they certify.

`families` has the distributions, `draws` the standard draws behind them (device), `eta` thresholds
from bounds on probabilities and scores, `renyi` further base certificates of flips (host).
"""

from lrs_jax.noise.budgets import budgets_from_radii
from lrs_jax.noise.families import (
  SmoothingDistribution,
  ablation,
  as_input,
  flips,
  gaussian,
  laplace,
  level_at,
  sample,
  uniform,
)

__all__ = [
  "SmoothingDistribution",
  "ablation",
  "as_input",
  "budgets_from_radii",
  "flips",
  "gaussian",
  "laplace",
  "level_at",
  "sample",
  "uniform",
]
