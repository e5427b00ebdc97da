"""Keys for every purpose of a job, no two alike (host or device).

In JAX `split(key)[i]` is `fold_in(key, i)`: whoever splits a key for one purpose and folds small
numbers into the same key for another draws the same random numbers twice. So every purpose has a
tag; below its tag, a key is either split or folded into, never both.
"""

import hashlib

import jax
import numpy as np


def tagged(key: jax.Array, tag: str) -> jax.Array:
  """The key of one purpose, such as "training", from a typed key that nothing is drawn from itself.

  The first 64 bits of the tag's SHA-256 are folded in, 32 at a time, so that keys of different tags
  have nothing in common with each other, nor with what is split from `key`.

  Example:
    >>> key = jax.random.key(0)
    >>> keys = [tagged(key, "training"), tagged(key, "images"), *jax.random.split(key)]
    >>> len({str(jax.random.key_data(k)) for k in keys})
    4
  """
  for word in np.frombuffer(hashlib.sha256(tag.encode()).digest()[:8], "<u4"):
    key = jax.random.fold_in(key, word)
  return key
