"""A random kill of a sampling run, of which `benchmarks/kills.py` sends a hundred."""

import json
import os
import subprocess
import sys
from pathlib import Path

INTERVAL = 0.25


def test_a_job_that_is_killed_counts_what_one_left_alone_does(tmp_path):
  script = Path(__file__).parents[1] / "benchmarks" / "kills.py"
  options = ("--data", "scenes", "--kills", "1", "--samples", "3000", "--interval", str(INTERVAL))
  environment = {**os.environ, "PYTHONPATH": str(script.parents[1])}
  done = subprocess.run(
    [sys.executable, str(script), *options, "--out", str(tmp_path)],
    env=environment, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  results = json.loads((tmp_path / "kills.json").read_text())["scenes"]
  assert results["kills"] == 1
  assert results["identical"] == results["jobs_ended"] >= 1
  # beside the interval, the piece of 256 samples that was being counted, and a write
  assert results["seconds_lost"]["most"] < INTERVAL + 2
