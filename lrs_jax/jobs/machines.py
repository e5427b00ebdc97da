"""What a job runs on (host)."""

import contextlib
import functools
import platform
from importlib import metadata
from pathlib import Path

import jax

from lrs_jax.jobs import processes


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
