"""What a job runs on (host)."""

import contextlib
import functools
import os
import platform
from importlib import metadata
from pathlib import Path

import jax

from lrs_jax.jobs import processes

_MOST_CORES = 8
"""Memory for activations grows with the number of devices, and each uses idle cores as well."""

_PIECE = 256
"""Samples of a call: a multiple of any chunk size, which are powers of two."""


def use_cores() -> None:
  """Makes a CPU as many devices as it has cores: a power of two, 8 at most.

  Samples that are evaluated side by side keep cores busier than the parts of one network do, many
  of which run on one core. Nothing changes once JAX has begun, nor where the environment says how
  many devices a CPU is (JAX_NUM_CPU_DEVICES, XLA_FLAGS).
  """
  flags = os.environ.get("XLA_FLAGS", "")
  if "JAX_NUM_CPU_DEVICES" in os.environ or "xla_force_host_platform_device_count" in flags:
    return
  with contextlib.suppress(RuntimeError):  # too late
    jax.config.update("jax_num_cpu_devices", 1 << min(cores(), _MOST_CORES).bit_length() - 1)


def cores() -> int:
  """How many cores this process may use."""
  every = os.cpu_count() or 1
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else every


def piece(chunk_size: int) -> int:
  """Samples of a call, for devices that take chunks of this size; in between, counts may be kept.

  It is in proportion to the devices, but for a CPU, whose cores they share, if it can be helped.
  """
  devices = jax.local_device_count()
  few = jax.default_backend() == "cpu" and _PIECE % (chunk_size * devices) == 0
  return _PIECE if few else _PIECE * devices


@functools.cache
def versions() -> dict[str, str]:
  """Versions of Python and of what computes."""
  found = {"python": platform.python_version()}
  for package in ("lrs_jax", "jax", "jaxlib", "flax", "numpy", "scipy", "highspy"):
    try:
      found[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
      found[package] = "not installed"
  return found


def describe_devices() -> str:
  """The devices of all processes of a job, if they are like these, such as "1 x cpu"."""
  devices = jax.local_devices()
  return f"{len(devices) * processes.total()} x {devices[0].device_kind}"


@functools.cache
def processor() -> str:
  """The name of the host's processor, as far as the system says: it decides how `cpu` rounds."""
  with contextlib.suppress(OSError):
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
      name, _, value = line.partition(":")
      if name.strip() == "model name":
        return " ".join(value.split())
  return platform.processor() or platform.machine()
