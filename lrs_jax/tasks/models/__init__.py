"""Networks, in Flax Linen."""
