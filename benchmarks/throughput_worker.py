"""A process that times what it is asked for, one request a line, and answers in JSON.

`benchmarks.throughput` starts it, so that every measurement has its own environment (allocator,
simulated devices) and what is compared can take turns. A request names a subject, which is made
and compiled when it is first asked for, and the subject's configuration.
"""

import functools
import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax import noise, sampling
from lrs_jax.cells import locality, partition
from lrs_jax.jobs.machines import describe_devices, versions
from lrs_jax.tasks.models import folded_unet
from lrs_jax.tasks.models.unet import UNet


class Subject(NamedTuple):
  """Something to be timed."""

  compile: Callable[[], Any]
  run: Callable[[], Any]  # blocks; what it returns is part of the answer
  evaluations: int  # of the model, in one run
  facts: dict[str, Any]


class Setting(NamedTuple):
  """A network with an image and localized noise for it."""

  model: UNet
  variables: Any  # of the network as it was trained, with BatchNorm
  params: folded_unet.Folded
  x: jax.Array
  smoothing: noise.SmoothingDistribution
  groups: np.ndarray  # int32 [H, W]
  windows: sampling.Windows
  chunk_size: int


@functools.cache
def setting(size: tuple, grid: tuple, width: int, depth: int, num_classes: int) -> Setting:
  """The network has random weights: they do not matter for its speed."""
  groups = partition.image_grid(size, grid)
  distances = locality.fraction_of_grid(locality.chebyshev_distances(grid))
  scale = locality.interpolate_std(distances, 0.2, 1.0)
  smoothing = noise.gaussian(scale, partition.pixel_cells(groups, 3))
  model = UNet(num_classes, width, depth)
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.random((*size, 3), np.float32))
  shapes = jax.eval_shape(model.init, jax.random.key(0), x)
  variables = jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape) / math.sqrt(1 + math.prod(leaf.shape[:-1])), shapes
  )
  variables = jax.tree.map(
    lambda leaf: np.float32(abs(leaf) if leaf.ndim == 1 else leaf), variables
  )
  params = jax.tree.map(jnp.asarray, folded_unet.fold(variables))
  starts, window_size = partition.windows(groups, folded_unet.alignment(params))
  windows = sampling.Windows(folded_unet.window(window_size), starts, window_size)
  chunk_size = sampling.default_chunk_size(x.size)
  return Setting(model, variables, params, x, smoothing, groups, windows, chunk_size)


def bare(given: Setting, *, chunk_size: int, samples: int) -> Subject:
  """The jitted full-frame model alone, on a chunk, as often as `loop` evaluates it."""
  apply = jax.jit(jax.vmap(folded_unet.apply, in_axes=(None, 0)))
  calls = -(-samples // chunk_size) * num_groups(given)
  chunk = jnp.broadcast_to(given.x, (chunk_size, *given.x.shape)).copy()

  def run() -> None:
    for _ in range(calls):
      jax.block_until_ready(apply(given.params, chunk))

  return Subject(
    lambda: apply.lower(given.params, chunk).compile(),
    run,
    chunk_size * calls,
    {"chunk_size": chunk_size},
  )


def loop(
  given: Setting,
  *,
  in_windows: bool,
  samples: int,
  chunk_size: int,
  num_devices: int | None = 1,
  outputs: list[int] | None = None,
) -> Subject:
  """Vote counts of all outputs, on all devices if `num_devices` is None.

  Samples are rounded up to whole chunks on every device; not if counts of `outputs` are asked for.
  """
  devices = jax.devices()[:num_devices]
  if outputs is None:
    samples = -(-samples // (chunk_size * len(devices))) * chunk_size * len(devices)
  mesh = jax.make_mesh((len(devices),), ("samples",), devices=devices)

  def count(num_samples: int) -> np.ndarray:
    counts = sampling.vote_counts(
      jax.random.key(3), folded_unet.apply, given.params, given.x, given.smoothing,
      given.groups.ravel(), num_samples, num_classes=given.model.num_classes,
      chunk_size=chunk_size, mesh=mesh, windows=given.windows if in_windows else None,
    )  # fmt: skip
    return np.asarray(counts)

  def run() -> list | None:
    counts = count(samples)
    return None if outputs is None else counts[np.asarray(outputs)].tolist()

  facts = {
    "chunk_size": chunk_size,
    "samples": samples,
    "devices": len(devices),
    "outputs": given.groups.size,
  }
  return Subject(lambda: count(0), run, samples * num_groups(given), facts)


def naive_loop(given: Setting, *, outputs: list[int], samples: int) -> Subject:
  """What a user would write for outputs one by one: a jitted model, and loops in Python."""
  apply = jax.jit(folded_unet.apply)
  draw = jax.jit(lambda key, group: noise.sample(key, given.smoothing, given.x, group))

  def count(output: int, num_samples: int) -> np.ndarray:
    counts = np.zeros(given.model.num_classes, np.int64)
    group = given.groups.ravel()[output]
    for i in range(num_samples):
      noisy = draw(jax.random.fold_in(jax.random.key(3), i), group)
      logits = np.asarray(apply(given.params, noisy)).reshape(-1, len(counts))
      counts[logits[output].argmax()] += 1
    return counts

  return Subject(
    lambda: count(outputs[0], 1),
    lambda: [count(output, samples).tolist() for output in outputs],
    samples * len(outputs),
    {"outputs": len(outputs)},
  )


def naive_vmap(given: Setting, *, outputs: list[int], samples: int, chunk_size: int) -> Subject:
  """One output's samples as one compiled program, vmapped over chunks."""

  @jax.jit
  def count(params: Any, output: jax.Array, group: jax.Array) -> jax.Array:
    def vote(i: jax.Array) -> jax.Array:
      noisy = noise.sample(
        jax.random.fold_in(jax.random.key(3), i), given.smoothing, given.x, group
      )
      logits = folded_unet.apply(params, noisy).reshape(-1, given.model.num_classes)
      return jax.nn.one_hot(logits[output].argmax(), logits.shape[1], dtype=jnp.int32)

    votes = jax.lax.map(vote, jnp.arange(samples, dtype=jnp.int32), batch_size=chunk_size)
    return votes.sum(axis=0)

  flat = given.groups.ravel()

  def run() -> list:
    counts = [count(given.params, jnp.int32(n), jnp.int32(flat[n])) for n in outputs]
    return [np.asarray(row).tolist() for row in counts]

  return Subject(
    lambda: count.lower(given.params, jnp.int32(0), jnp.int32(0)).compile(),
    run,
    samples * len(outputs),
    {"outputs": len(outputs), "chunk_size": chunk_size},
  )


def pytorch(given: Setting, **options: Any) -> Subject:
  """The same network and noise, sampled with PyTorch."""
  from benchmarks import throughput_torch  # an optional package

  return Subject(*throughput_torch.sampler(given, **options))


def graphs(given: None, **options: Any) -> Subject:
  """The sparse sampler against the dense one, which times itself."""
  from benchmarks import sparse_flips

  nodes, attributes = options.pop("nodes"), options.pop("attributes")
  graph = sparse_flips.random_graph(nodes, attributes)
  return Subject(lambda: None, lambda: sparse_flips.measure(graph, **options), 1, {})


SUBJECTS = {make.__name__: make for make in (bare, loop, naive_loop, naive_vmap, pytorch, graphs)}


def num_groups(given: Setting) -> int:
  return given.smoothing.weights.shape[1]


def answers() -> Callable[[dict[str, Any]], dict[str, Any]]:
  """Makes the function from a request to its answer, which keeps every subject it has made."""

  @functools.cache
  def make(request: str) -> tuple[Subject, float]:
    options = json.loads(request)
    name, chosen = options.pop("subject"), options.pop("setting", None)
    given = None
    if chosen is not None:
      given = setting(**{k: tuple(v) if isinstance(v, list) else v for k, v in chosen.items()})
      if options.get("chunk_size", 0) is None:
        options["chunk_size"] = given.chunk_size
    subject = SUBJECTS[name](given, **options)
    start = time.perf_counter()
    subject.compile()
    return subject, time.perf_counter() - start

  def answer(request: dict[str, Any]) -> dict[str, Any]:
    precision = request.pop("precision")
    with jax.default_matmul_precision(precision):
      subject, compilation = make(json.dumps(request, sort_keys=True))
      start = time.perf_counter()
      found = subject.run()
      seconds = time.perf_counter() - start
    return {
      **subject.facts,
      "seconds": seconds,
      "evaluations": subject.evaluations,
      "compile_seconds": compilation,
      "peak_bytes": peak_bytes(),
      "found": found,
    }

  return answer


def peak_bytes() -> int:
  """The most memory there has been in use: the accelerator's, or this process's."""
  statistics = jax.local_devices()[0].memory_stats()
  if statistics and "peak_bytes_in_use" in statistics:
    return statistics["peak_bytes_in_use"]
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def conditions() -> dict[str, Any]:
  """What a measurement depends on."""
  return {
    "device": describe_devices(),
    "platform": jax.default_backend(),
    "devices": jax.device_count(),
    "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    "versions": versions(),
  }


def main() -> None:
  out = os.dup(1)  # what libraries print must not get between the answers
  os.dup2(2, 1)
  answer = answers()
  with os.fdopen(out, "w", buffering=1) as replies:
    replies.write(json.dumps(conditions()) + "\n")
    for line in sys.stdin:
      replies.write(json.dumps(answer(json.loads(line))) + "\n")


if __name__ == "__main__":
  main()
