"""The parts of the study on images, which `benchmarks/images.py` runs."""
