"""Models in Flax: pure functions of their parameters and one input."""
