"""Under JAX_ENABLE_X64 nothing changes: float32 inputs, int32 sums, and the same noise."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from lrs_jax import noise, sampling
from lrs_jax.sampling import scores, sparse_flips
from tests import two_processes
from tests.test_noise import FAMILIES
from tests.test_sparse_flips import products

FILES = ("sampling", "noise")
"""Tests of what runs on the device, but for sums of scores and sparse flips, which are the same bit
for bit: see the two tests below. Windows and guards have no types of their own. Lowered code is
looked at without the flag, under which numbers of Python are float64 before they are rounded; and a
network's own parameters may be float64."""

DRAWN = (
  *("distribution", "dense", "law", "gaps", "long_stream", "permuted", "nested", "standard_draw"),
  *("closed_form", "ordinary", "one_key_with", "counts_are_those_of_the_whole_frame"),
)
"""Tests of what is drawn and counted, which is the same bit for bit, too."""

OTHERS = ("lower", "no_attributes", "receptive", "batch_statistics_in", "dropout")
"""Not these either: they are about other things than numbers."""


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


def test_low_bits_of_a_float64_input_do_not_reach_the_model(x64):
  """Before, a model could tell x from x + 2^-30, with the same noise on both."""
  gaussian, key = noise.gaussian([[1.0]], np.zeros(1, int)), jax.random.key(0)
  x = np.array([0.5])
  seen = [noise.sample(key, gaussian, jnp.asarray(z), 0) for z in (x, x + 2.0**-30)]
  assert seen[0].dtype == jnp.float32
  np.testing.assert_array_equal(*seen)

  def low_bits(params, z):
    assert z.dtype == jnp.float32
    return jnp.stack([z, -z], axis=-1)

  counts = sampling.vote_counts(
    key, low_bits, None, x, gaussian, [0], 100, num_classes=2, chunk_size=8
  )
  assert counts.dtype == jnp.int32
  sums = scores.score_sums(key, low_bits, None, x, gaussian, [0], [0], 100, chunk_size=8)
  assert int(sums.votes[0]) == int(counts[0, 0])


def drawn():
  """Noise of all families, and noisy attributes whose flips are few or many, in several blocks."""
  keys = jax.random.split(jax.random.key(2), 20)
  x = np.array([1, 0, 1, 1], np.float32)
  for make in FAMILIES.values():
    family = make([0, 1, 1, 0])
    sample = jax.vmap(lambda key, family=family: noise.sample(key, family, x, 1))
    yield jax.jit(sample)(keys)
  for plus, minus in ((1e-5, 0.0), (0.002, 0.9), (0.3, 1 - 2.0**-32)):
    flips = noise.flips([[plus]], [[minus]], np.zeros((7, 1), int))
    plan = sparse_flips.plan_flips(sparse.csr_array(np.eye(7, 5)), flips)
    plan = plan._replace(sizes=plan.sizes._replace(blocks=3, block_nodes=3))
    yield products(keys, plan.arrays, jnp.eye(5, dtype=jnp.float32), plan.sizes)


@pytest.mark.parametrize("every", [drawn, lambda: two_processes.counts().items()])
def test_what_is_drawn_and_counted_is_that_without_the_flag(every):
  without = jax.tree.map(np.asarray, list(every()))
  with jax.enable_x64(True):
    found = jax.tree.map(np.asarray, list(every()))
  assert len(found) >= 5
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(without), strict=True):
    np.testing.assert_array_equal(one, other, strict=True)  # types too


def test_the_tests_of_what_runs_on_the_device_pass():
  """A whole run of them in a process that has the flag from its start."""
  run = subprocess.run(
    [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
     "-k", " and ".join(f"not {name}" for name in (*DRAWN, *OTHERS)),
     *(f"tests/test_{name}.py" for name in FILES)],
    env={**os.environ, "JAX_ENABLE_X64": "1"}, capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert run.returncode == 0, run.stdout[-3000:]
