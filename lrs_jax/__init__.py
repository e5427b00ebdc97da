"""Localized randomized smoothing: collective robustness certificates, in JAX."""

from lrs_jax import certificates, collective, confidence, noise, sampling

__all__ = ["certificates", "collective", "confidence", "noise", "sampling"]
