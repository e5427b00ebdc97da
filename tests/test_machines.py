"""What a job runs on: every core of a CPU is a device, unless one says otherwise."""

import os
import subprocess
import sys

import jax
import pytest

from lrs_jax.jobs import machines


@pytest.mark.parametrize(
  ("cores", "told", "devices"),
  [
    (1, {}, 1),
    (6, {}, 4),
    (96, {}, 8),
    (6, {"JAX_NUM_CPU_DEVICES": "1"}, None),
    (6, {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, None),
  ],
)
def test_cores_are_devices(monkeypatch, cores, told, devices):
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  for name, value in told.items():
    monkeypatch.setenv(name, value)
  monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(cores), raising=False)
  asked = {}
  monkeypatch.setattr(jax.config, "update", asked.__setitem__)
  machines.use_cores()
  assert asked.get("jax_num_cpu_devices") == devices


def test_jax_has_as_many_devices_as_were_asked_for():
  code = (
    "import os; os.sched_getaffinity = lambda process: range(3); from lrs_jax.jobs import machines;"
    "machines.use_cores(); import jax; print(jax.local_device_count())"
  )
  given = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  found = subprocess.run(
    [sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True
  )
  assert int(found.stdout) == 2


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
