"""What a job runs on: every core of a CPU is a device, unless one says otherwise."""

import os
import subprocess
import sys

import jax
import pytest

from lrs_jax.jobs import machines

CODE = """
import os
os.sched_getaffinity = lambda process: set(range({cores}))
from lrs_jax.jobs import machines
machines.use_cores()
import jax
print(jax.local_device_count())
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="of Linux")
@pytest.mark.parametrize(
  ("cores", "told", "devices"),
  [
    (1, {}, 1),
    (6, {}, 4),
    (96, {}, 8),
    (6, {"JAX_NUM_CPU_DEVICES": "1"}, 1),
    (6, {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, 3),
  ],
)
def test_cores_are_devices(cores, told, devices):
  given = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  found = subprocess.run(
    [sys.executable, "-c", CODE.format(cores=cores)], env=given | {"JAX_PLATFORMS": "cpu"} | told,
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  assert int(found.stdout) == devices


def test_nothing_changes_once_jax_has_begun(monkeypatch):
  before = jax.local_devices()
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  machines.use_cores()
  assert jax.local_devices() == before


@pytest.mark.parametrize(
  ("backend", "devices", "chunk", "samples"),
  [
    ("cpu", 1, 4, 256),
    ("cpu", 8, 4, 256),
    ("cpu", 8, 256, 2048),
    ("cpu", 3, 4, 768),
    ("gpu", 8, 4, 2048),
  ],
)
def test_a_call_is_a_whole_number_of_chunks_of_all_devices(
  monkeypatch, backend, devices, chunk, samples
):
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  monkeypatch.setattr(jax, "local_device_count", lambda: devices)
  assert machines.piece(chunk) == samples
  assert samples % (chunk * devices) == 0
