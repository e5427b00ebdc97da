"""Two processes on loopback: the same counts as in one, even if each of them is lost once."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from lrs_jax.cli import main
from lrs_jax.jobs import checkpoints, processes, records
from lrs_jax.tasks import common
from tests import two_processes
from tests.test_cli import TOY

SLURM_PORTS = 65535 - 2**12 + 1
"""JAX adds the last 12 bits of Slurm's number of a job to this."""

JOB = (
  *("certify", "scenes", *TOY, "--images", "3", "--budgets", "0,0.03", "--isotropic-std", "0.2"),
  *("--samples", "600"),  # more than a piece of 256
)


def free_port(first, last):
  """One that nothing listens to."""
  for port in np.random.default_rng().permutation(np.arange(first, last)).tolist():
    with socket.socket() as tried, contextlib.suppress(OSError):
      tried.bind(("127.0.0.1", port))
      return port
  raise OSError("no port is free")


def run_two(out, *, victim="", timeout=900):
  """Runs `tests.two_processes` as processes 0 and 1 with two devices each.

  The first finds the others by itself, as under Slurm; the second is told. A `victim` is killed.
  """
  port = free_port(SLURM_PORTS, 65535)
  address = f"127.0.0.1:{port}"
  slurm = {
    "SLURM_JOB_ID": str(port - SLURM_PORTS), "SLURM_STEP_NODELIST": "127.0.0.1,elsewhere",
    "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_NODES": "2",
  }  # fmt: skip
  where = [
    ("--coordinator", "auto"),
    ("--coordinator", address, "--num-processes", "2", "--process-id", "1"),
  ]
  job = (*JOB, "--out", str(out))
  running = [
    subprocess.Popen(
      [sys.executable, "-m", "tests.two_processes", f"{address},{i},{victim}", *job, *where[i]],
      env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    for i, environment in enumerate(({**os.environ, **slurm}, None))
  ]  # fmt: skip
  try:
    return [(*process.communicate(timeout=timeout), process.returncode) for process in running]
  finally:
    for process in running:
      process.kill()
      process.communicate()


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
  """The first process is killed while both sample: what the other said, and what it kept."""
  out = tmp_path_factory.mktemp("pair")
  (*_, first), (_, error, status) = run_two(out, victim=0, timeout=300)
  assert first == -signal.SIGKILL
  kept = {path.name: checkpoints.load(path).done for path in out.rglob("*.partial.npz")}
  return out, error, status, kept


@pytest.fixture(scope="module")
def pair(killed):
  """The job that was killed goes on to its end."""
  out = killed[0]
  ended = run_two(out)
  for _, error, status in ended:
    assert status == 0, error
  return out, ended


def test_a_process_that_is_lost_is_one_clear_line_and_loses_nothing(killed):
  _, error, status, kept = killed
  told = "process 0 (of 0 to 1) has ended, or is out of reach; samples counted so far are kept"
  assert status == 1
  assert error == f"lrs-jax: error: {told} for the same command.\n"
  assert kept["isotropic-estimation.partial.npz"] == 256


@pytest.fixture
def alone(monkeypatch):
  """This process may join others, as one that has not yet; no signal tells it who is lost."""
  for name, value in (("_PLACE", {"index": 0, "count": 1}), ("_LINKS", {}), ("_LOST", [])):
    monkeypatch.setattr(processes, name, value)
  before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
  yield
  signal.signal(signal.SIGTERM, before)


@pytest.fixture
def joining():
  """(port, hello) -> a connection to the first process, as soon as it listens, that says so."""
  with contextlib.ExitStack() as stack:

    def join(port, hello):
      while True:
        with contextlib.suppress(ConnectionRefusedError):
          connection = socket.create_connection(("127.0.0.1", port), timeout=60)
          connection.sendall(hello)
          return stack.enter_context(connection)

    yield join


def test_the_first_process_sees_who_comes_and_goes(alone, joining):
  """And tells the others; who does not say that it is one of them is not."""
  port = free_port(20000, 30000)
  hellos = (
    b"GET / HTTP/1.0\n",
    b"lrs_jax process 7\n",
    *(b"lrs_jax process %d\n" % i for i in (2, 1)),
  )
  with ThreadPoolExecutor(1) as pool:
    coming = pool.submit(lambda: [joining(port, hello) for hello in hellos])
    processes.start(f"127.0.0.1:{port}", 3, 0)
    *strangers, second, first = coming.result()
  assert processes.total() == 3
  assert [stranger.recv(9) for stranger in strangers] == [b"", b""]
  for other in (first, second):
    other.sendall(b"here\n")
  processes.wait_for_all("here")
  assert processes.lost() is None
  second.close()
  with pytest.raises(KeyboardInterrupt):
    processes.wait_for_all("there")
  assert processes.lost() == "process 2 (of 0 to 2) has ended, or is out of reach"
  processes.leave()
  first.sendall(b"goodbye\n")
  with first.makefile("rb") as told:
    assert told.read() == b"lrs_jax process 0\nhere\ngone 2\ngoodbye\n"


def test_processes_that_do_different_things_are_told(alone, joining):
  port = free_port(20000, 30000)
  with ThreadPoolExecutor(1) as pool:
    coming = pool.submit(joining, port, b"lrs_jax process 1\n")
    processes.start(f"127.0.0.1:{port}", 2, 0)
    other = coming.result()
  other.sendall(b"counts\ngoodbye\n")
  with pytest.raises(
    OSError, match="process 1 waits for all at 'counts', but this one at 'summary'"
  ):
    processes.wait_for_all("summary")
  processes.leave()


def test_samples_over_a_mesh_of_two_processes_are_those_of_one(pair):
  """Votes, scores and sums of a graph's classes, on each process."""
  out = pair[0]
  expected = two_processes.counts()
  assert len(expected) == 5
  for i in range(2):
    with np.load(out / f"process-{i}.npz") as found:
      assert found["devices"].tolist() == [2, 4]
      for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_images_dealt_to_two_processes_are_those_of_one(pair, tmp_path, no_figures):
  out = pair[0]
  assert main([*JOB, "--out", str(tmp_path), "--model", str(next((out / "models").iterdir()))]) == 0
  summaries = [json.loads((folder / "summary.json").read_text()) for folder in (out, tmp_path)]
  for summary in summaries:
    summary.pop("seconds")
    summary.pop("device")
    for report in summary["smoothings"].values():
      report.pop("solve_seconds")
  assert summaries[0] == summaries[1]
  for i in range(3):
    for name in ("certificate", "isotropic"):
      one, other = (records.load(f / f"scene-00{i}" / f"{name}.npz") for f in (out, tmp_path))
      np.testing.assert_array_equal(one.estimation.votes, other.estimation.votes)
      np.testing.assert_array_equal(one.selection.votes, other.selection.votes)
      assert one.meta == other.meta
  assert not list(out.rglob("*.partial.npz"))


def test_the_first_process_alone_reports(pair):
  (first, second) = (ended[0] for ended in pair[1])
  assert "localized, envelope" in first
  assert "localized" not in second
  assert "sampling:" in pair[1][0][1]
  assert "sampling:" not in pair[1][1][1]


def test_one_process_is_the_first_and_has_everything():
  assert processes.is_first()
  assert all(processes.mine(i) for i in range(5))
  assert common.local_mesh().size == jax.device_count()
  processes.wait_for_all("nobody else")


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (("localhost:1",), "--coordinator localhost:1 needs --num-processes and --process-id"),
    (("localhost:1", "--num-processes", "2", "--process-id", "2"), r"--process-id must lie in \[0"),
    (("auto", "--num-processes", "2"), "--coordinator auto finds --num-processes"),
  ],
)
def test_processes_that_do_not_fit(options, message, tmp_path, capsys):
  assert main([*JOB, "--out", str(tmp_path / "o"), "--coordinator", *options]) == 1
  assert re.search(message, capsys.readouterr().err)
