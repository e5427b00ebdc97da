"""What each of the two processes of `test_processes` runs: a job, then counts over all devices."""

import os
import signal
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.backend import clear_backends
from scipy import sparse

from lrs_jax import noise, sampling
from lrs_jax.cli import main
from lrs_jax.jobs import reports
from lrs_jax.sampling import checks, scores, sparse_flips
from lrs_jax.tasks.data import sets


def linear(params, x):
  margin = sum(params[:, d] * x[d] for d in range(4))
  return jnp.stack([-margin, margin], axis=-1)


def head(params, product):
  return product * params[None, None]


def counts():
  """Every statistic of some samples over all devices there are."""
  rng = np.random.default_rng(0)
  gaussian = noise.gaussian([[0.5, 2.0], [1.0, 0.25]], np.array([0, 0, 1, 1]))
  params, x = (
    rng.normal(size=(5, 4)).astype(np.float32),
    np.array([0.3, -0.2, 0.1, 0.4], np.float32),
  )
  groups, labels = np.array([0, 1, 0, 1, 1]), np.array([0, 1, 1, 0, 1])
  key = jax.random.key(7)
  votes = sampling.vote_counts(
    key, linear, params, x, gaussian, groups, 101, num_classes=2, chunk_size=4
  )
  sums = scores.score_sums(key, linear, params, x, gaussian, groups, labels, 101, chunk_size=4)
  flips = noise.flips([[0.1, 0.2]], [[0.4, 0.6]], np.array([[0], [1], [1]]))
  plan = sparse_flips.plan_flips(sparse.csr_array(rng.integers(0, 2, (3, 8)) * 1.0), flips)
  kernel = jnp.asarray(rng.integers(-3, 4, (8, 2)), jnp.float32)
  classes = sparse_flips.class_sums(
    key, head, jnp.ones(2, jnp.float32), kernel, plan, np.zeros(3, int), 50, chunk_size=4
  )
  return {
    "votes": np.asarray(votes),
    "total": sums.total,
    "squares": sums.squares,
    "classes": classes.votes,
    "class scores": classes.scores,
  }


def count_together(out, address, index):
  """Through JAX's own runtime for several processes, which jobs do without."""
  clear_backends()
  jax.distributed.initialize(address, 2, index)
  devices = np.array([jax.local_device_count(), jax.device_count()])
  np.savez(out / f"process-{index}.npz", devices=devices, **counts())


def lose(victim, index, out):
  """One process is killed, and no other goes on, once both are in the second piece of samples."""
  votes = sampling.votes

  def lost(*asked, first_sample, **options):
    while first_sample:
      (out / f"second-{index}").touch()
      if index == victim and (out / f"second-{1 - index}").exists():
        os.kill(os.getpid(), signal.SIGKILL)
      time.sleep(0.01)
    return votes(*asked, first_sample=first_sample, **options)

  sampling.votes = lost


if __name__ == "__main__":
  checks.LARGEST_CHUNK, sets.SCENES = 16, 50  # as fixtures do in `conftest`
  reports.draw = lambda *args: None
  place, *arguments = sys.argv[1:]
  address, index, victim = place.split(",")
  folder = Path(arguments[arguments.index("--out") + 1])
  if victim:
    lose(int(victim), int(index), folder)
  status = main(arguments)
  if not status:
    count_together(folder, address, int(index))
  sys.exit(status)
