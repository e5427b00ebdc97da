"""Files that `lrs-jax init` writes: tasks of one's own to begin with, each runs as it is."""

NAMES = ("plain", "linen", "nnx", "torch", "onnx")
"""What the model is written in."""
