"""Records every key that is drawn from, so that tests see whether two purposes share one."""

from collections import defaultdict
from contextlib import contextmanager

import jax
import numpy as np
import pytest

from lrs_jax import noise, sampling
from lrs_jax.baselines import center_smoothing
from lrs_jax.noise import draws
from lrs_jax.sampling import sparse_flips
from lrs_jax.tasks import graph_training, training

RANDOM_BITS = jax.make_jaxpr(jax.random.bits)(jax.random.key(0)).jaxpr
"""Holds the primitive that all random numbers come from, but for those of `draws` on a CPU."""


def primitive(jaxpr):
  for equation in jaxpr.eqns:
    if equation.primitive.name == "random_bits":
      return equation.primitive
    for inner in (v for v in equation.params.values() if hasattr(v, "jaxpr")):
      found = primitive(inner.jaxpr)
      if found is not None:
        return found
  return None


@contextmanager
def recorded():
  """What is drawn from inside the block, by (function, key given to it)."""
  streams, current = defaultdict(set), []
  random_bits = primitive(RANDOM_BITS)

  def record(data):
    streams[current[-1] if current else ("elsewhere", None)].add(np.asarray(data).tobytes())

  def recording(draw):
    def recorded(given, *args, **options):
      jax.debug.callback(record, jax.random.key_data(given))
      return draw(given, *args, **options)

    return recorded

  def watch(module, name):
    function = getattr(module, name)

    def watched(key, *args, **kwargs):
      tag = f"{module.__name__}.{name}", jax.random.key_data(key).tobytes()
      current.append(tag)
      try:
        return jax.block_until_ready(function(key, *args, **kwargs))
      finally:
        jax.effects_barrier()
        current.pop()

    patch.setattr(module, name, watched)

  jax.clear_caches()
  patch = pytest.MonkeyPatch()
  patch.setattr(random_bits, "bind", recording(random_bits.bind), raising=False)
  patch.setattr(draws, "_threefry", recording(draws._threefry))  # on a CPU
  for module, name in (
    (training, "train"),
    (graph_training, "train"),
    (sampling, "votes"),
    (sampling, "vote_counts"),
    (sampling, "class_sums"),
    (sparse_flips, "class_sums"),
    (center_smoothing, "hamming_distances"),
    (noise, "sample"),
  ):
    watch(module, name)
  try:
    yield streams
    jax.effects_barrier()
  finally:
    patch.undo()
    jax.clear_caches()


def assert_disjoint(streams, *, at_least):
  assert "elsewhere" not in {name for name, _ in streams}
  assert len(streams) >= at_least
  owner = {}
  for stream, found in streams.items():
    for key in found:
      assert key not in owner, f"{stream[0]} and {owner[key][0]} draw from the same key"
      owner[key] = stream
