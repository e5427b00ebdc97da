"""Throughput: the sampling loop against naive smoothing, the bare model, PyTorch, and itself.

    python -m benchmarks.throughput

measures six sections one after the other and writes throughput.json, throughput.md and
throughput.png. `--only SECTION ...` measures these again and keeps the others as they are stored.
What is compared takes turns, each in a process of its own with the same environment; every figure
is a median over the turns, without compilation, and every section states its conditions.
`--here` measures in this process alone, for an accelerator that only one process may hold.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import util
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks import throughput_report, throughput_worker
from lrs_jax import storage

Ask = Callable[[Mapping[str, Any]], dict[str, Any]]
"""A request to a worker -> its answer; see `throughput_worker`."""

Start = Callable[[Mapping[str, str]], AbstractContextManager[tuple[dict[str, Any], Ask]]]
"""Environment variables -> the conditions of what answers under them, and how to ask it."""

ALLOCATORS: dict[str, dict[str, str]] = {
  "default": {},
  "kept": {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**36),
    "MALLOC_TOP_PAD_": str(2**28),
  },
}
"""Environments: glibc's own, or one in which freed memory is kept and not given back by pages."""


class Sizes(NamedTuple):
  """How much is measured."""

  seconds: float = 120.0  # per section, beside the first turn of each, which compiles
  turns: int = 7
  allocators: tuple[str, ...] = ("default", "kept")  # the last where one is enough
  width: int = 16
  depth: int = 3
  num_classes: int = 12
  grid: tuple[int, int] = (3, 5)
  sizes: tuple[tuple[int, int], ...] = ((64, 96), (180, 240))  # against the bare model
  size: tuple[int, int] = (180, 240)  # elsewhere
  samples: int = 4  # of one run of the loop at least; twice as many over devices and chunks
  chunk_size: int | None = None  # against others and over devices; None: the library's
  naive_outputs: int = 4
  naive_samples: int = 16
  batch_sizes: tuple[int, ...] = (2, 8)  # PyTorch's
  devices: tuple[int, ...] = (1, 2, 4, 8)  # simulated
  chunk_sizes: tuple[int, ...] = (1, 2, 4, 8)
  scaled: tuple[tuple[int, int], ...] = ((64, 96), (180, 240), (256, 512), (512, 1024))
  memory_samples: tuple[int, ...] = (8, 64)
  nodes: int = 2110
  attributes: int = 3703
  sparse_samples: int = 50
  dense_samples: int = 5
  job_size: tuple[int, int] = (512, 1024)
  job_grid: tuple[int, int] = (4, 6)
  job_classes: int = 19
  job_samples: int = 6912


TOY = Sizes(
  seconds=2.0, turns=1, allocators=("kept",), width=2, depth=1, num_classes=3, grid=(2, 3),
  sizes=((24, 32),), size=(24, 32), naive_outputs=2, naive_samples=8, batch_sizes=(2,),
  devices=(2,), chunk_sizes=(2,), scaled=((24, 32),), memory_samples=(8, 32), nodes=60,
  attributes=40, sparse_samples=20, dense_samples=20, job_size=(32, 48), job_grid=(2, 3),
  job_classes=4, job_samples=16,
)  # fmt: skip
"""For the tests."""

ONE_PROCESS: dict[str, tuple] = {"allocators": ("default",), "devices": (), "memory_samples": ()}
"""Of `Sizes`: what `here` measures. A process has one environment, and its peak never falls."""

MOVED = 0.05
"""Part of an output's votes that rounding may move: windows and batches change the last bits."""


def naive(sizes: Sizes, precision: str, start: Start) -> dict[str, Any]:
  """Every output with noise and model calls of its own, against all outputs at once."""
  height, width = sizes.size
  outputs = [
    (2 * i + 1) * height * width // (2 * sizes.naive_outputs) + i
    for i in range(sizes.naive_outputs)
  ]
  common = {"outputs": outputs, "samples": sizes.naive_samples, "setting": network(sizes)}
  requests = {
    "a loop in Python": {"subject": "naive_loop", **common},
    "compiled, vmapped": {"subject": "naive_vmap", "chunk_size": sizes.chunk_size, **common},
    "lrs_jax": {"subject": "loop", "in_windows": True, "chunk_size": sizes.chunk_size, **common},
  }
  with start(ALLOCATORS[sizes.allocators[-1]]) as (conditions, ask):
    rows = take_turns(
      {name: (ask, request) for name, request in requests.items()}, sizes, precision
    )
  counts = {row["name"]: row.pop("found") for row in rows}
  moved = abs(np.array(list(counts.values())) - counts["lrs_jax"]).sum(axis=-1).max(axis=0) / 2
  if (moved > MOVED * sizes.naive_samples).any():
    raise AssertionError(f"naive counts are not ours, nothing was measured: {counts}")
  identical = [output for output, votes in zip(outputs, moved, strict=True) if not votes]
  ours = rows[-1]
  for row in rows:
    row["samples"] = sizes.naive_samples
    row["outputs_per_second"] = row["outputs"] / row["seconds"]
    row["ratio"] = ours["outputs"] / ours["seconds"] / row["outputs_per_second"]
    row["extrapolated_seconds"] = ours["outputs"] / row["outputs_per_second"]
  return {**conditions, "rows": rows, "counts_identical_for": identical}


def bare(sizes: Sizes, precision: str, start: Start) -> dict[str, Any]:
  """The loop without and with windows against the jitted full-frame model on the same chunk."""
  rows = []
  share = sizes._replace(seconds=sizes.seconds / len(sizes.sizes))
  for size in sizes.sizes:
    environments = {name: ALLOCATORS[name] for name in sizes.allocators}
    with workers(start, environments) as (conditions, asks):
      subjects = {}
      common = {"samples": sizes.samples, "chunk_size": sizes.chunk_size}
      common |= {"setting": network(sizes, size=size)}
      alone, loop = {"subject": "bare", **common}, {"subject": "loop", **common}
      for allocator, ask in asks.items():
        subjects[f"bare model, {allocator}"] = ask, alone
        subjects[f"loop, {allocator}"] = ask, {**loop, "in_windows": False}
        subjects[f"loop in windows, {allocator}"] = ask, {**loop, "in_windows": True}
      found = take_turns(subjects, share, precision)
    for row in found:
      what, row["allocator"] = row["name"].rsplit(", ", 1)
      base = next(r for r in found if r["name"] == f"bare model, {row['allocator']}")
      row["ratio"] = base["seconds_per_evaluation"] / row["seconds_per_evaluation"]
      row |= {"subject": what, "size": size}
      rows.append(row)
  return {**conditions, "rows": rows}


def pytorch(sizes: Sizes, precision: str, start: Start) -> dict[str, Any]:
  """The loop against the straightforward one in PyTorch, in both memory formats."""
  if util.find_spec("torch") is None:
    return {"skipped": "PyTorch is not installed: pip install -e '.[bench]'"}
  rows = []
  share = sizes._replace(seconds=sizes.seconds / len(sizes.allocators))
  setting = network(sizes)
  for allocator in sizes.allocators:
    environment = ALLOCATORS[allocator]
    with start(environment) as (conditions, ours), start(environment) as (_, theirs):
      if conditions["platform"] not in ("cpu", "gpu"):
        return {"skipped": f"PyTorch does not run on a {conditions['platform']} here"}
      common = {"setting": setting, "chunk_size": sizes.chunk_size}
      loop = {"subject": "loop", "samples": sizes.samples, **common}
      half = {"samples": -(-sizes.samples // 2)}
      subjects = {
        "lrs_jax in windows": (ours, {**loop, "in_windows": True}),
        "lrs_jax, whole frames": (ours, {**loop, "in_windows": False, **half}),
        "lrs_jax, model alone": (ours, {"subject": "bare", **common, **half}),
      }
      for batch_size in sizes.batch_sizes:
        for channels_last in (True, False):
          torch = {
            "subject": "pytorch", "setting": setting, "channels_last": channels_last,
            "batch_size": batch_size, "samples": batch_size,
          }  # fmt: skip
          layout = f"{'channels last' if channels_last else 'default format'}, batch {batch_size}"
          for folded in (False, True):
            name = f"PyTorch, {layout}{', BatchNorm folded' if folded else ''}"
            subjects[name] = theirs, {**torch, "folded": folded, "sampling": True}
          name = f"PyTorch, model alone, {layout}, BatchNorm folded"
          subjects[name] = theirs, {**torch, "folded": True, "sampling": False}
      found = take_turns(subjects, share, precision)
    base = found[0]["seconds_per_evaluation"]
    for row in found:
      rows.append({**row, "allocator": allocator, "ratio": row["seconds_per_evaluation"] / base})
  return {**conditions, "rows": rows}


def scaling(sizes: Sizes, precision: str, start: Start) -> dict[str, Any]:
  """Samples per second over devices, chunk sizes and image sizes; memory over samples."""
  share = sizes._replace(seconds=sizes.seconds / 5)
  environment = ALLOCATORS[sizes.allocators[-1]]

  def request(size: tuple[int, int], samples: int, **changes: Any) -> dict[str, Any]:
    loop = {"subject": "loop", "in_windows": True, "num_devices": None, "chunk_size": None}
    return {**loop, "setting": network(sizes, size=size), "samples": samples, **changes}

  simulated = {}
  for devices in sizes.devices:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    simulated[devices] = {**environment, "XLA_FLAGS": flags.strip(), "JAX_PLATFORMS": "cpu"}
  small, twice = sizes.sizes[0], 2 * sizes.samples
  over_devices = []
  if simulated:
    with workers(worker, simulated) as (_, asks):
      many = request(small, max(simulated), chunk_size=1)
      subjects = {str(n): (ask, many) for n, ask in asks.items()}
      over_devices = take_turns(subjects, share, precision)
  with start(environment) as (conditions, ask):
    all_there = conditions["devices"]
    there = sorted({all_there, *(1 << k for k in range(all_there.bit_length()))})
    chunk = {"chunk_size": sizes.chunk_size}
    subjects = {str(n): (ask, request(sizes.size, twice, num_devices=n, **chunk)) for n in there}
    over_real = take_turns(subjects, share, precision)
    subjects = {
      str(n): (ask, request(sizes.size, twice, num_devices=1, chunk_size=n))
      for n in sizes.chunk_sizes
    }
    over_chunks = take_turns(subjects, share, precision)
    subjects = {f"{h}x{w}": (ask, request((h, w), sizes.samples)) for h, w in sizes.scaled}
    over_sizes = take_turns(subjects, share, precision)
  over_samples = []
  for samples in sizes.memory_samples:  # in processes of their own: peaks do not come down
    with start(environment) as (_, ask):
      subjects = {str(samples): (ask, request(small, samples))}
      over_samples += take_turns(subjects, sizes._replace(turns=1), precision)
  found = {
    "simulated_devices": over_devices,
    "devices_there": over_real,
    "chunk_sizes": over_chunks,
    "image_sizes": over_sizes,
    "samples": over_samples,
  }
  groups = math.prod(sizes.grid)
  for rows in found.values():
    for row in rows:
      row["samples_per_second"] = row["evaluations"] / groups / row["seconds"]
  return {**conditions, **found, "simulated_on": "cpu"}


def graphs(sizes: Sizes, precision: str, start: Start) -> dict[str, Any]:
  """The sparse sampler of flips against the dense one."""
  names = ("nodes", "attributes", "sparse_samples", "dense_samples")
  rows = []
  with start(ALLOCATORS[sizes.allocators[-1]]) as (conditions, ask):
    for clusters in (1, 5):
      request = {name: getattr(sizes, name) for name in names} | {"num_clusters": clusters}
      answer = ask({"subject": "graphs", "precision": precision, **request})
      rows.append(answer["found"])
  return {**conditions, "rows": rows}


def job(sizes: Sizes, precision: str, start: Start) -> dict[str, Any]:
  """One whole image: run on an accelerator, projected from the measured rate elsewhere."""
  setting = network(sizes, size=sizes.job_size, grid=sizes.job_grid, num_classes=sizes.job_classes)
  common = {"setting": setting, "chunk_size": None, "num_devices": None}
  loop = {"subject": "loop", **common}
  with start(ALLOCATORS[sizes.allocators[-1]]) as (conditions, ask):
    subjects = {
      "in windows": (ask, {**loop, "in_windows": True, "samples": sizes.samples}),
      "whole frames": (ask, {**loop, "in_windows": False, "samples": 1}),
    }
    rows = take_turns(subjects, sizes, precision)
    per_image = sizes.job_samples * math.prod(sizes.job_grid)
    for row in rows:
      row["projected_seconds"] = row["seconds_per_evaluation"] * per_image
    measured = None
    if conditions["platform"] != "cpu":
      whole = {**loop, "in_windows": True, "samples": sizes.job_samples, "precision": precision}
      measured = ask(whole)["seconds"]
  return {
    **conditions,
    "rows": rows,
    "evaluations_per_image": per_image,
    "measured_seconds": measured,
    "seconds_are": "projected" if measured is None else "measured",
  }


SECTIONS: dict[str, Callable[[Sizes, str, Start], dict[str, Any]]] = {
  section.__name__: section for section in (naive, bare, pytorch, scaling, graphs, job)
}


def network(sizes: Sizes, **changes: Any) -> dict[str, Any]:
  """What `throughput_worker.setting` takes."""
  names = ("size", "grid", "width", "depth", "num_classes")
  return {name: getattr(sizes, name) for name in names} | changes


@contextmanager
def worker(environment: Mapping[str, str]) -> Iterator[tuple[dict[str, Any], Ask]]:
  """Starts a worker with these environment variables; gives its conditions, and how to ask it."""
  process = subprocess.Popen(
    [sys.executable, "-m", "benchmarks.throughput_worker"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    cwd=Path(__file__).parents[1],
    env={**os.environ, **environment},
  )
  assert process.stdin is not None
  assert process.stdout is not None

  def answer() -> dict[str, Any]:
    line = process.stdout.readline()
    if not line:
      raise RuntimeError(f"a worker ended with exit code {process.wait()}: see its error above.")
    return json.loads(line)

  def ask(request: Mapping[str, Any]) -> dict[str, Any]:
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return answer()

  try:
    yield answer(), ask
  finally:
    process.stdin.close()
    process.stdout.close()
    process.wait()


@contextmanager
def here(environment: Mapping[str, str]) -> Iterator[tuple[dict[str, Any], Ask]]:
  """Answers in this process, which may hold the only accelerator, as a worker would."""
  if environment:
    raise ValueError(
      f"`environment` must be empty, as a process that runs keeps its own; it was {environment}. "
      "Sizes._replace(**ONE_PROCESS) asks for no other."
    )
  yield throughput_worker.conditions(), throughput_worker.answers()


@contextmanager
def workers(
  start: Start, environments: Mapping[Any, Mapping[str, str]]
) -> Iterator[tuple[dict[str, Any], dict[Any, Ask]]]:
  """A worker for each environment; gives the conditions of one, and how to ask each."""
  with ExitStack() as stack:
    started = {
      name: stack.enter_context(start(environment)) for name, environment in environments.items()
    }
    conditions, _ = next(iter(started.values()))
    yield conditions, {name: ask for name, (_, ask) in started.items()}


def take_turns(
  subjects: Mapping[str, tuple[Ask, Mapping[str, Any]]], sizes: Sizes, precision: str
) -> list[dict[str, Any]]:
  """Times subjects in turns, so that what else the machine does meets all of them.

  The first turn compiles and warms up and is not counted. There are as many as `sizes` says, but
  none is begun after its seconds, except the first that counts.

  Returns:
    A row for each subject: its last answer, with the median of its seconds.
  """
  seconds: dict[str, list[float]] = {name: [] for name in subjects}
  answers: dict[str, dict[str, Any]] = {}
  begin = time.perf_counter()
  for turn in range(sizes.turns + 1):
    for name, (ask, request) in subjects.items():
      answers[name] = ask({**request, "precision": precision})
      seconds[name] += [answers[name]["seconds"]] if turn else []
    begin = time.perf_counter() if turn == 0 else begin
    if turn and time.perf_counter() - begin > sizes.seconds:
      break
  rows = []
  for name, answer in answers.items():
    typical = median(seconds[name])
    per_evaluation = typical / answer["evaluations"]
    timed = {"seconds": typical, "all_seconds": seconds[name]}
    rows.append({"name": name, **answer, **timed, "seconds_per_evaluation": per_evaluation})
  return rows


def measure(name: str, sizes: Sizes, precision: str, start: Start = worker) -> dict[str, Any]:
  """One section with what it depends on; `start` is `worker`, or `here` with `ONE_PROCESS`."""
  load = os.getloadavg()[0]
  begin = time.perf_counter()
  section = SECTIONS[name](sizes, precision, start)
  section |= {"precision": precision, "load_before": load}
  return section | {"sizes": sizes._asdict(), "seconds": time.perf_counter() - begin}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
  parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
  parser.add_argument("--toy", action="store_true", help="tiny sizes, to see that everything runs")
  parser.add_argument("--here", action="store_true", help="in this process, no others")
  parser.add_argument("--seconds", type=float, help="per section, beside compiling and warming up")
  parser.add_argument(
    "--precision", default="float32", choices=["float32", "tensorfloat32", "bfloat16"],
    help="of the models' products in lrs_jax; PyTorch's is float32",
  )  # fmt: skip
  options = parser.parse_args(arguments)
  sizes = TOY if options.toy else Sizes()
  if options.seconds is not None:
    sizes = sizes._replace(seconds=options.seconds)
  if options.here:
    sizes = sizes._replace(**ONE_PROCESS)
  path = options.out / "throughput.json"
  results = json.loads(path.read_text()) if path.exists() else {}
  for name in options.only:
    section = measure(name, sizes, options.precision, here if options.here else worker)
    results[name] = section
    storage.save_json(path, results)
    throughput_report.write(results, options.out)
    load = section["load_before"]
    print(f"{name}: {section['seconds']:.0f} s, load before {load:.1f}", flush=True)
  print(throughput_report.table(results))
  return results


if __name__ == "__main__":
  main()
