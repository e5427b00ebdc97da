"""Localized randomized smoothing: collective robustness certificates, in JAX.

From the input to the certificate: `partition` cuts the input into cells, `locality` gives every
group of outputs its noise scale per cell, `noise` makes a smoothing distribution of them,
`sampling` counts the model's votes on the device, `certificates` turns counts into base
certificates by the bounds in `confidence`, and `collective` combines them. `metrics` says what the
result is worth. Networks, data, training, figures and whole jobs are imported by name:
`lrs_jax.models`, `lrs_jax.data`, `lrs_jax.training`, `lrs_jax.plots`, `lrs_jax.runs`.
"""

from lrs_jax import (
  certificates,
  collective,
  confidence,
  locality,
  metrics,
  noise,
  partition,
  sampling,
)

__all__ = [
  "certificates",
  "collective",
  "confidence",
  "locality",
  "metrics",
  "noise",
  "partition",
  "sampling",
]
