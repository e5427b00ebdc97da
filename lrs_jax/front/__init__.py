"""The front door: `certify` and `certify_segmentation` do what the rooms below do one by one."""

from lrs_jax.front.certified import Certified
from lrs_jax.front.certifying import certify, certify_segmentation
from lrs_jax.front.verifying import verify

__all__ = ["Certified", "certify", "certify_segmentation", "verify"]
