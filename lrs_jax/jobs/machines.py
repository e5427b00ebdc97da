"""What a job runs on (host)."""

import functools
import platform
from importlib import metadata

import jax


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
  """The devices that samples are spread over, such as "1 x cpu"."""
  devices = jax.devices()
  return f"{len(devices)} x {devices[0].device_kind}"
