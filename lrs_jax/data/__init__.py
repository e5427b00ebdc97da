"""Data sets: loaders that never unpickle."""
