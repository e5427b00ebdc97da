"""Certificates that other processes make: the same ones, whatever happens to those processes."""

import collections
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lrs_jax import collective, storage
from lrs_jax.cli import main
from lrs_jax.jobs import certifying, machines
from tests.test_cli import SCENES

pytestmark = pytest.mark.usefixtures("no_figures_in_module")


def problem(seed=0, outputs=60):
  rng = np.random.default_rng(seed)
  groups = rng.integers(0, 3, outputs)
  return rng.random((3, 4)), groups, rng.random(outputs), np.linspace(0.1, 1, 5)


def gone(pid, seconds=20):
  """Whether a process ends within that time; a zombie has ended."""
  for _ in range(int(seconds / 0.05)):
    try:
      with open(f"/proc/{pid}/stat") as file:
        if file.read().rpartition(")")[2].split()[0] == "Z":
          return True
    except FileNotFoundError:
      return True
    time.sleep(0.05)
  return False


def test_another_process_finds_the_same_and_may_be_lost():
  here = collective.certify(*problem())
  with certifying.solvers(1) as certify:
    there = certify(*problem()).result()
    (child,) = multiprocessing.active_children()
    with pytest.raises(ValueError, match="`method` must be one of"):
      certify(*problem(), method="guess").result()
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert wait_until_broken(certify)
    again = certify(*problem()).result()
  assert not multiprocessing.active_children()
  for other in (there, again):
    for name in ("certified", "attackable", "status", "digest"):
      np.testing.assert_array_equal(getattr(here, name), getattr(other, name), err_msg=name)
    collective.verify(*problem()[:3], other)


def wait_until_broken(certify):
  """Until the pool knows that its process is lost; what was asked for meanwhile is lost with it."""
  for _ in range(200):
    try:
      certify(*problem()).result()
    except certifying.BrokenProcessPool:
      time.sleep(0.05)
    else:
      return True
  return False


def test_an_error_ends_the_processes():
  children = []

  def interrupted():
    with certifying.solvers(1) as certify:
      certify(*problem()).result()
      children.extend(multiprocessing.active_children())
      certify(*problem(1, 40_000), method="milp", gap=0.0)  # takes longer than the test
      raise KeyboardInterrupt

  start = time.monotonic()
  with pytest.raises(KeyboardInterrupt):
    interrupted()
  (child,) = children
  child.join(20)
  assert not child.is_alive()
  assert time.monotonic() - start < 60


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks processes up in /proc")
def test_processes_end_with_one_that_is_killed():
  text = (
    "import multiprocessing, os, signal\n"
    "from lrs_jax.jobs import certifying\n"
    "with certifying.solvers(1) as certify:\n"
    "  certify([[1.0]], [0], [1.0], [0.5]).result()\n"
    "  print(multiprocessing.active_children()[0].pid, flush=True)\n"
    "  os.kill(os.getpid(), signal.SIGKILL)\n"
  )
  done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120)
  assert done.returncode == -signal.SIGKILL
  assert gone(int(done.stdout))


def test_a_job_stores_what_it_would_by_itself(tmp_path, monkeypatch):
  """As it does where every process is lost before it has certified anything."""
  monkeypatch.chdir(tmp_path)
  job = [*SCENES, "--images", "1", "--budgets", "0,0.1", "--solvers", "1"]
  assert main([*job, "--model", "network.npz", "--out", "there"]) == 0

  def lost(pool, *arguments, **keywords):
    future = certifying.Future()
    future.set_exception(certifying.BrokenProcessPool())
    return future

  monkeypatch.setattr(certifying, "_submit", lost)
  assert main([*job, "--model", "network.npz", "--out", "here"]) == 0
  files = sorted(Path("there").glob("*/*.npz"))
  assert files
  for path in files:
    there, here = (storage.load_arrays(Path(out, *path.parts[1:])) for out in ("there", "here"))
    assert set(there) == set(here)
    for name, array in there.items():
      if name != "digest" and not name.endswith(("/solve_time", "/seals")):
        np.testing.assert_array_equal(array, here[name], err_msg=name)
  assert not list(Path().rglob("*.partial.npz"))


def test_inputs_are_stored_in_turn_and_few_wait(monkeypatch):
  monkeypatch.setattr(certifying, "_store", lambda item, record, again: f"record of {item.path}")
  futures = [certifying.Future() for _ in range(4)]
  waiting = collections.deque(
    certifying.Begun([SimpleNamespace(path=i)], [SimpleNamespace(certified={"all": of})], [None])
    for i, of in enumerate(futures)
  )
  futures[1].set_result(None)
  assert not list(certifying.stored(waiting, 4))  # the first is not ready
  futures[0].set_result(None)
  found = [records for _, records in certifying.stored(waiting, 4)]
  assert found == [{0: "record of 0"}, {1: "record of 1"}]
  assert [item.path for item, _ in certifying.stored(waiting, 1)] == [2]
  assert [item.path for item, _ in certifying.stored(waiting)] == [3]


def test_processes_are_started_where_they_would_be_busy(monkeypatch):
  def setting(method, outputs, inputs=1):
    certificates = [f"{what}/{of}" for what in ("all", "correct") for of in ("naive", method)]
    smoothing = SimpleNamespace(certificates=certificates, groups=np.zeros(outputs))
    return SimpleNamespace(items=[SimpleNamespace(smoothing=smoothing)] * inputs)

  monkeypatch.setattr(machines, "cores", lambda: 96)
  for job, number in (
    (setting("envelope", 5000), 0),
    (setting("milp", 10), 0),
    (setting("milp", 1000), 2),
    (setting("lp", 3999), 0),
    (setting("lp@2", 5000, inputs=2), 4),
    (setting("lp", 5000, inputs=50), certifying.MOST),
  ):
    assert certifying.number_of_solvers(job, None) == number
    assert certifying.number_of_solvers(job, 3) == 3
  monkeypatch.setattr(machines, "cores", lambda: 2)
  assert certifying.number_of_solvers(setting("lp", 5000, inputs=50), None) == 2
  monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(daemon=True))
  assert certifying.number_of_solvers(setting("lp", 5000), None) == 0  # it may not start any


def test_numbers_of_processes_that_make_no_sense_are_refused(capsys):
  for text in ("-1", "two", "1.5"):
    with pytest.raises(SystemExit):
      main([*SCENES, "--solvers", text])
    assert f"expected a number, 0 or more, not {text!r}" in capsys.readouterr().err
