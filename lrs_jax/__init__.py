"""Localized randomized smoothing: collective robustness certificates, in JAX."""

from lrs_jax import certificates, confidence, noise, sampling

__all__ = ["certificates", "confidence", "noise", "sampling"]
