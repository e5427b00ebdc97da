"""Localized randomized smoothing: collective robustness certificates, in JAX.

From the input to the certificate: `partition` cuts the input into cells, `locality` gives every
group of outputs its noise scale per cell, `noise` makes a smoothing distribution of them,
`sampling` counts the model's votes on the device and `scores` sums its scores, `certificates` turns
them into base certificates by the bounds in `confidence` and the `corrections` for their number,
and `collective` combines them. `choosing` proposes the noise from training images, `planning` says
beforehand how many samples a certificate takes, `guards` looks for what would spoil it, with the
names in `errors`, `metrics` says what the result is worth, and `cards` what is proven and what is
assumed. Networks, data, training, figures and whole jobs are imported by name: `lrs_jax.models`,
`lrs_jax.data`, `lrs_jax.training`, `lrs_jax.plots`, `lrs_jax.runs`.
"""

from lrs_jax import (
  cards,
  certificates,
  choosing,
  collective,
  confidence,
  corrections,
  errors,
  guards,
  locality,
  metrics,
  noise,
  partition,
  planning,
  sampling,
  scores,
)

__all__ = [
  "cards",
  "certificates",
  "choosing",
  "collective",
  "confidence",
  "corrections",
  "errors",
  "guards",
  "locality",
  "metrics",
  "noise",
  "partition",
  "planning",
  "sampling",
  "scores",
]
