"""Kills a job at random times, resumes it each time, and looks at what that cost.

    python benchmarks/kills.py --out benchmarks/results

runs `lrs-jax certify scenes` at toy size, sends SIGKILL at a random time while it samples, and
gives the same command again, until `--kills` were sent; a job that ends before is begun anew in
another folder. Every job that ended is compared with one that was left alone. A kill loses what the
progress bar had told but no file holds; that must have been counted within one checkpoint interval,
the piece that was being counted and the write that was under way. Writes kills.json.
"""

import argparse
import multiprocessing
import os
import random
import re
import selectors
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from lrs_jax import cli, storage
from lrs_jax.jobs import checkpoints, records
from lrs_jax.jobs.running import describe_devices, versions

SIZE = ("--size", "16x24", "--grid", "2x2", "--width", "2", "--depth", "1", "--steps", "20")
SAMPLES, SELECTION, IMAGES = 40_000, 1000, 1
BAR = re.compile(rb"sampling: .*?(\d+)/(\d+) \[")
CONTEXT = multiprocessing.get_context("forkserver")  # imports once, before JAX starts any thread


def command(out: Path, model: Path, samples: int, interval: float) -> list[str]:
  job = (*SIZE, "--images", str(IMAGES), "--samples", str(samples))
  job = (*job, "--selection-samples", str(SELECTION), "--budgets", "0,0.1,0.2")
  where = ("--out", str(out), "--model", str(model), "--checkpoint-interval", str(interval))
  return ["certify", "scenes", *job, *where]


def live(arguments: list[str], stderr: Connection) -> None:
  """One life of the job: what the command does, in a process of its own."""
  os.dup2(stderr.fileno(), 2)
  os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
  sys.exit(cli.main(arguments))


def run(
  arguments: list[str], kill: tuple[bool, float] | None
) -> tuple[list[tuple[float, int]], bool]:
  """Runs the job, and kills it while it samples.

  Args:
    arguments: of `lrs-jax`.
    kill: whether to wait for the first new samples, and seconds to wait from there, or from when
      the progress bar appears; None leaves the job alone.

  Returns:
    (time, samples) as the progress bar told them, and whether the job was killed.
  """
  told, text, deadline, killed = [], b"", None, False
  receiver, sender = CONTEXT.Pipe(duplex=False)
  process = CONTEXT.Process(target=live, args=(arguments, sender))
  process.start()
  sender.close()
  with selectors.DefaultSelector() as selector, receiver:
    selector.register(receiver, selectors.EVENT_READ)
    while True:
      left = None if deadline is None else max(0, deadline - time.monotonic())
      if left == 0:
        os.kill(process.pid, signal.SIGKILL)
        deadline, killed = None, True
      if not selector.select(left):
        continue
      new = os.read(receiver.fileno(), 65536)
      if not new:
        break
      text += new
      found = [(int(done), int(total)) for done, total in BAR.findall(text[-4096:])]
      if found and (not told or told[-1][1] != found[-1][0]):
        told.append((time.monotonic(), found[-1][0]))
        if kill is not None and len(told) == (3 if kill[0] else 1):
          deadline = told[-1][0] + kill[1]
        if found[-1][0] == found[-1][1]:
          deadline = None  # only certificates and figures are left
  process.join()
  if process.exitcode not in (0, -signal.SIGKILL):
    raise RuntimeError(f"the job failed: {text.decode()[-2000:]}")
  return told, killed


def on_disk(out: Path, samples: int) -> int:
  """Samples that a killed job left in files."""
  certified = {path for path in out.glob("*/*.npz") if "." not in path.stem}
  partial = [
    path for path in out.glob("*/*.partial.npz")
    if path.with_name(path.name.rpartition("-")[0] + ".npz") not in certified
  ]  # fmt: skip
  done = sum(checkpoints.load(path).done for path in partial if not path.name.startswith("."))
  return done + len(certified) * (samples + SELECTION)


def same(out: Path, reference: Path) -> bool:
  """Whether a job's counts, thresholds and certified counts are those of another."""
  paths = sorted(reference.glob("*/*.npz"))
  if sorted(path.relative_to(out) for path in out.glob("*/*.npz") if path.name[0] != ".") != [
    path.relative_to(reference) for path in paths
  ]:
    return False
  for path in paths:
    one, other = records.load(path), records.load(out / path.relative_to(reference))
    if not all(
      np.array_equal(getattr(one, name).votes, getattr(other, name).votes)
      for name in ("estimation", "selection")
    ) or not np.array_equal(one.base.eta, other.base.eta):
      return False
    for name, certificate in one.certified.items():
      if not np.array_equal(certificate.certified, other.certified[name].certified):
        return False
  return True


def study(folder: Path, *, kills: int, samples: int, interval: float, seed: int) -> dict[str, Any]:
  rng = random.Random(seed)
  os.environ |= {
    "TQDM_MININTERVAL": "0", "TQDM_MINITERS": "1", "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }  # fmt: skip
  CONTEXT.set_forkserver_preload(["lrs_jax.cli", "lrs_jax.jobs.running"])
  model, reference = folder / "unet.npz", folder / "reference"
  run(command(folder / "first", model, samples, interval), None)  # trains and compiles
  told, _ = run(command(reference, model, samples, interval), None)
  sampling = told[-1][0] - told[0][0]
  lost: list[dict[str, float]] = []
  lives, leftovers, identical = 0, 0, []
  while len(lost) < kills:
    out = folder / f"job-{len(identical)}"
    killed = True
    while killed:
      after = rng.random() < 0.8, rng.uniform(0, 4 * interval)
      told, killed = run(
        command(out, model, samples, interval), after if len(lost) < kills else None
      )
      lives += 1
      if killed:
        kept = on_disk(out, samples)
        seen = [when for when, number in told if number <= kept]
        lost.append({
          "samples": max(0, told[-1][1] - kept),
          "seconds": told[-1][0] - max(seen, default=told[0][0]),
          "kept": kept,
        })  # fmt: skip
        print(len(lost), lost[-1], flush=True)
    identical.append(same(out, reference))
    leftovers += len(list(out.glob("**/.*")))
  samples_lost = np.array([loss["samples"] for loss in lost])
  seconds_lost = np.array([loss["seconds"] for loss in lost])
  return {
    "device": describe_devices(),
    "versions": versions(),
    "job": command(Path("OUT"), Path("MODEL"), samples, interval),
    "checkpoint_interval_seconds": interval,
    "seed": seed,
    "kills": len(lost),
    "starts": lives,
    "jobs_ended": len(identical),
    "identical": sum(identical),
    "temporary_files_left": leftovers,
    "samples_of_a_job": 2 * IMAGES * (samples + SELECTION),
    "seconds_of_an_uninterrupted_job": sampling,
    "samples_lost": {
      "mean": samples_lost.mean(), "median": np.median(samples_lost), "most": samples_lost.max(),
    },
    "seconds_lost": {
      "mean": seconds_lost.mean(), "median": np.median(seconds_lost), "most": seconds_lost.max(),
    },
    "all": lost,
  }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
  parser.add_argument("--kills", type=int, default=100)
  parser.add_argument("--samples", type=int, default=SAMPLES)
  parser.add_argument("--interval", type=float, default=1.0, help="between checkpoints, seconds")
  parser.add_argument("--seed", type=int, default=0)
  options = parser.parse_args(arguments)
  with tempfile.TemporaryDirectory() as folder:
    results = study(
      Path(folder), kills=options.kills, samples=options.samples, interval=options.interval,
      seed=options.seed,
    )  # fmt: skip
  results = storage.from_json_array(storage.json_array(_plain(results)))
  storage.save_json(options.out / "kills.json", results)
  print(
    f"{results['kills']} kills, {results['identical']} of {results['jobs_ended']} jobs identical; "
    f"lost at most {results['samples_lost']['most']} samples, "
    f"{results['seconds_lost']['most']:.2f} s"
  )
  return results


def _plain(value: Any) -> Any:
  if isinstance(value, dict):
    return {key: _plain(item) for key, item in value.items()}
  if isinstance(value, list):
    return [_plain(item) for item in value]
  return value.item() if isinstance(value, np.generic) else value


if __name__ == "__main__":
  main()
