"""What must not depend on the number of devices, in a process that has eight of them."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_tests_that_need_eight_devices_pass():
  tests = Path(__file__).parent.rglob("test_*.py")
  files = [str(path) for path in tests if "@pytest.mark.eight_devices" in path.read_text()]
  run = subprocess.run(
    [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "eight_devices", *files],
    env={**os.environ, "XLA_FLAGS": "", "LRS_JAX_TEST_DEVICES": "8"},
    capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert run.returncode == 0, run.stdout[-3000:]
