"""Localized randomized smoothing: collective robustness certificates, in JAX.

The front door is a few functions: `certify` and `certify_segmentation` go from a model and an input
to a certificate in one call, `certify_external` and `certify_segmentation_external` from a model
that is not in JAX, `verify` goes through it again. Behind it, from an input to a certificate, floor
by floor; lower ones never import higher ones:

`cells` says which coordinates share a noise level, `noise` makes a smoothing distribution of
levels, `sampling` counts the model's votes on the device, `confidence` turns them into base
certificates, `collective` combines these. `evaluation` says what a result is worth and proposes the
noise, `baselines` holds what it is compared with. `tasks` are what whole jobs certify, `jobs` how
they are run: `lrs-jax --help`. `errors` has the names of everything that would spoil a certificate.
"""

from lrs_jax import baselines, cells, collective, confidence, errors, evaluation, noise, sampling
from lrs_jax.front import (
  Certified,
  certify,
  certify_external,
  certify_segmentation,
  certify_segmentation_external,
  verify,
)

__all__ = [
  "Certified",
  "baselines",
  "cells",
  "certify",
  "certify_external",
  "certify_segmentation",
  "certify_segmentation_external",
  "collective",
  "confidence",
  "errors",
  "evaluation",
  "noise",
  "sampling",
  "verify",
]
