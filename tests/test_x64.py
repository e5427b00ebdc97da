"""Under JAX_ENABLE_X64 nothing changes: float32 inputs, int32 sums, and the same noise."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrs_jax import noise, sampling
from lrs_jax.sampling import scores

FILES = ("sampling", "windows", "score_sums", "noise", "guards", "sparse_flips")
"""Tests of what runs on the device. Lowered code is looked at without the flag, under which numbers
of Python are float64 before they are rounded; and a network's own parameters may be float64."""

OTHERS = "not lower and not no_attributes and not distribution and not dense and not receptive"
"""Not these: the first two are about other things, and what is drawn is the same bit for bit."""


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


def test_counts_are_those_without_the_flag():
  def count():
    return sampling.vote_counts(
      jax.random.key(1), lambda params, z: jnp.stack([z, -z], axis=-1), None, np.array([0.1, -0.3]),
      noise.gaussian([[0.5]], np.zeros(2, int)), [0, 0], 200, num_classes=2, chunk_size=8,
    )  # fmt: skip

  without = count()
  with jax.enable_x64(True):
    np.testing.assert_array_equal(count(), without)


def test_the_tests_of_what_runs_on_the_device_pass():
  """A whole run of them in a process that has the flag from its start."""
  run = subprocess.run(
    [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
     "-k", OTHERS,
     *(f"tests/test_{name}.py" for name in FILES)],
    env={**os.environ, "JAX_ENABLE_X64": "1"}, capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert run.returncode == 0, run.stdout[-3000:]
