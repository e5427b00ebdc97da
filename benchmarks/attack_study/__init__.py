"""Attacks on smoothed models, whose damage no certificate may deny: `benchmarks/attacks.py`."""
