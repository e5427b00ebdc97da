"""The front door: `certify` and `certify_segmentation` do what the rooms below do one by one.

`certify_external` and `certify_segmentation_external` do it for models that are not in JAX.
"""

from lrs_jax.front.certified import Certified
from lrs_jax.front.certifying import certify, certify_segmentation
from lrs_jax.front.external import certify_external, certify_segmentation_external
from lrs_jax.front.verifying import verify

__all__ = [
  "Certified",
  "certify",
  "certify_external",
  "certify_segmentation",
  "certify_segmentation_external",
  "verify",
]
