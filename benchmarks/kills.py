"""Kills jobs at random times, resumes them each time, and looks at what that cost.

    PYTHONPATH=. python benchmarks/kills.py --out benchmarks/results

runs jobs on an image, a document and a graph at toy size, sends SIGKILL at a random time while they
sample, and gives the same command again, until `--kills` were sent; a job that ends before is begun
anew in another folder. Every job that ended is compared with one that was left alone. A kill loses
what the progress bar had told but no file holds; that must have been counted within one checkpoint
interval, the piece that was being counted and the write that was under way. Merges of two halves of
each job are killed, too, at any time of theirs. Writes kills.json.
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

from benchmarks.fuzzing import community_graph
from lrs_jax import cli, storage
from lrs_jax.jobs import checkpoints, records
from lrs_jax.jobs.machines import describe_devices, versions

JOBS = {
  "scenes": (
    *("--size", "16x24", "--grid", "2x2", "--width", "2", "--depth", "1", "--steps", "20"),
    *("--images", "1", "--budgets", "0,0.1,0.2"),
  ),
  "documents": (
    *("--documents", "1", "--segments", "4", "--width", "4", "--depth", "2", "--steps", "3"),
  ),
  "citeseer": (
    *("--model-name", "gcn", "--per-class", "4", "--clusters", "3", "--steps", "20"),
    *("--budgets", "2,4"),
  ),
}
"""Options by data set; the graph is made up."""

SAMPLES, SELECTION = 40_000, 1000
BAR = re.compile(rb"sampling: .*?(\d+)/(\d+) \[")
CONTEXT = multiprocessing.get_context("forkserver")  # imports once, before JAX starts any thread


def command(data: str, folder: Path, out: Path, samples: int, interval: float) -> list[str]:
  """A job's arguments; its network lies in `folder`, and its data, if they are made up."""
  job = (*JOBS[data], "--samples", str(samples), "--selection-samples", str(SELECTION))
  graph = ("--graph", str(folder / "graph.npz")) if data == "citeseer" else ()
  where = ("--out", str(out), "--model", str(folder / "network.npz"))
  return ["certify", data, *job, *graph, *where, "--checkpoint-interval", str(interval)]


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


def study(
  data: str, folder: Path, *, kills: int, samples: int, interval: float, seed: int
) -> dict[str, Any]:
  """What kills of one job cost."""
  rng = random.Random(seed)
  folder.mkdir()
  np.savez(folder / "graph.npz", **community_graph(42, 24))
  asked = data, folder
  reference = folder / "reference"  # which trains and compiles
  told, _ = run(command(*asked, reference, samples, interval), None)
  sampling = told[-1][0] - told[0][0]
  lost: list[dict[str, float]] = []
  lives, leftovers, identical = 0, 0, []
  while len(lost) < kills:
    out = folder / f"job-{len(identical)}"
    killed = True
    while killed:
      after = rng.random() < 0.8, rng.uniform(0, 4 * interval)
      life = command(*asked, out, samples, interval), after if len(lost) < kills else None
      told, killed = run(*life)
      lives += 1
      if killed:
        kept = on_disk(out, samples)
        seen = [when for when, number in told if number <= kept]
        lost.append({
          "samples": max(0, told[-1][1] - kept),
          "seconds": told[-1][0] - max(seen, default=told[0][0]),
          "kept": kept,
        })  # fmt: skip
        print(data, len(lost), lost[-1], flush=True)
    identical.append(same(out, reference))
    leftovers += len(list(out.glob("**/.*")))
  samples_lost = np.array([loss["samples"] for loss in lost])
  seconds_lost = np.array([loss["seconds"] for loss in lost])
  return {
    "job": command(data, Path("FOLDER"), Path("OUT"), samples, interval),
    "kills": len(lost),
    "starts": lives,
    "jobs_ended": len(identical),
    "identical": sum(identical),
    "temporary_files_left": leftovers,
    "seconds_of_an_uninterrupted_job": sampling,
    "samples_lost": {
      "mean": samples_lost.mean(), "median": np.median(samples_lost), "most": samples_lost.max(),
    },
    "seconds_lost": {
      "mean": seconds_lost.mean(), "median": np.median(seconds_lost), "most": seconds_lost.max(),
    },
    "merges": merges(data, folder, kills // 4, samples, interval, rng) if kills >= 4 else None,
    "all": lost,
  }  # fmt: skip


def merges(
  data: str, folder: Path, kills: int, samples: int, interval: float, rng: random.Random
) -> dict[str, int]:
  """Kills merges of two halves: how many kills there were, and how many results are the same."""
  half = samples // 2 // 256 * 256
  parts = [folder / "part-0", folder / "part-1"]
  for part, bounds in zip(parts, (f"0:{half}", f"{half}:{samples}"), strict=True):
    run([*command(data, folder, part, samples, interval), "--sample-range", bounds], None)
  sent, identical, ended, longest = 0, 0, 0, 0.0
  while not ended or sent < kills:
    out, killed = folder / f"merged-{ended}", True
    arguments = ["merge", *map(str, parts), "--out", str(out)]
    arguments += ["--model", str(folder / "network.npz"), "--data-dir", str(folder)]
    while killed:
      process = CONTEXT.Process(target=live, args=(arguments, CONTEXT.Pipe(duplex=False)[1]))
      start = time.monotonic()
      process.start()
      kill = sent < kills and longest > 0
      process.join(rng.uniform(0, longest) if kill else None)
      killed = process.is_alive()
      if killed:
        process.kill()
        process.join()
        sent += 1
      elif process.exitcode:
        raise RuntimeError(f"the merge failed: {arguments}")
      else:
        longest = max(longest, time.monotonic() - start)
    identical += same(out, folder / "reference")
    ended += 1
  return {"kills": sent, "ended": ended, "identical": identical}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
  parser.add_argument("--data", nargs="+", default=list(JOBS), choices=list(JOBS))
  parser.add_argument("--kills", type=int, default=34, help="of every job (default: 34)")
  parser.add_argument("--samples", type=int, default=SAMPLES)
  parser.add_argument("--interval", type=float, default=1.0, help="between checkpoints, seconds")
  parser.add_argument("--seed", type=int, default=0)
  options = parser.parse_args(arguments)
  results: dict[str, Any] = {
    "device": describe_devices(),
    "versions": versions(),
    "checkpoint_interval_seconds": options.interval,
    "seed": options.seed,
  }
  with tempfile.TemporaryDirectory() as folder:
    os.environ |= {
      "TQDM_MININTERVAL": "0", "TQDM_MINITERS": "1",
      "JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "xla"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }  # fmt: skip
    CONTEXT.set_forkserver_preload(["lrs_jax.cli", "lrs_jax.jobs.running"])
    for data in options.data:
      results[data] = study(
        data, Path(folder) / data, kills=options.kills, samples=options.samples,
        interval=options.interval, seed=options.seed,
      )  # fmt: skip
  results = storage.from_json_array(storage.json_array(_plain(results)))
  storage.save_json(options.out / "kills.json", results)
  for data in options.data:
    of, merged = results[data], results[data]["merges"]
    print(
      f"{data}: {of['kills']} kills, {of['identical']} of {of['jobs_ended']} jobs identical; "
      f"lost at most {of['samples_lost']['most']} samples, {of['seconds_lost']['most']:.2f} s"
    )
    if merged:
      print(
        f"{merged['kills']} kills of merges, {merged['identical']} of {merged['ended']} identical"
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
