"""Collective certificates: how many outputs one adversary can change at the same time (host)."""

from lrs_jax.collective.certificate import Attack, CollectiveCertificate, from_arrays, to_arrays
from lrs_jax.collective.methods import attack, certify
from lrs_jax.collective.verification import verify
from lrs_jax.collective.witness import Witness

__all__ = [
  "Attack",
  "CollectiveCertificate",
  "Witness",
  "attack",
  "certify",
  "from_arrays",
  "to_arrays",
  "verify",
]
