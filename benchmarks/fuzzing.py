"""Files from strangers: damaged, made up or hostile, given to every loader.

    PYTHONPATH=. python benchmarks/fuzzing.py --inputs 100000

takes honest files of every kind that the package reads, changes them at random, and reads them. A
file must be read, or refused by a ValueError or an OSError of one line; a traceback of another
kind, a hang of more than --seconds or a process that grows by more than --memory is a fault, and
the file is kept under --out. Archives are changed byte by byte, or array by array with a digest
that fits, so that what lies behind the digest is reached.
"""

import argparse
import json
import resource
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from scipy import sparse
from tqdm import tqdm

from lrs_jax import noise, storage
from lrs_jax.jobs import cards, checkpoints, records
from lrs_jax.jobs.records import Bounds
from lrs_jax.sampling import ClassSums
from lrs_jax.tasks import common, counts, denoising, options
from lrs_jax.tasks.data import citation, folders
from lrs_jax.tasks.images import TASK as IMAGES
from lrs_jax.tasks.task import Adversary, Smoothing


class Kind(NamedTuple):
  """One kind of file: how to make an honest one, and what reads it."""

  suffix: str
  make: Callable[[Path], None]
  read: Callable[[Path], Any]


def _record(distribution: noise.SmoothingDistribution, adversary: Adversary) -> records.Record:
  agree = np.random.default_rng(0).binomial(1000, [0.999, 0.98, 0.02, 0.01, 0.9, 0.5])
  sums = [
    ClassSums(np.stack([each, number - each], axis=1), None, None, np.asarray(number))
    for each, number in ((agree // 10, 100), (agree, 1000))
  ]
  methods = {"envelope": {}, "lp": {"bins": 2}, "naive": {}}
  job = {"seed": 0, "alpha": 0.01, "samples": 1000, "selection_samples": 100}
  return records.make_record(
    "images",
    Smoothing(
      "certificate", distribution, np.repeat([0, 1], 3), common.certificates_of(tuple(methods))
    ),
    sums,
    Bounds(0.01, 0.0, ("votes",)),
    adversary,
    truth=np.array([0, 0, 1, 1, 2, 0]),
    methods=methods,
    meta={"job": job, "ranges": [[0, 1000]]},
  )


def make_record(path: Path) -> None:
  """A certificate of Gaussian noise."""
  distribution = noise.gaussian([[0.2, 1.0], [1.0, 0.2]], [0, 1])
  radii = np.array([0.0, 0.1, 0.3])
  budgets = noise.budgets_from_radii(radii, distribution.p)[:, None]
  records.save(path, _record(distribution, Adversary(budgets, radii)))


def make_record_of_flips(path: Path) -> None:
  """A certificate of flips, of two kinds of perturbation."""
  levels = np.array([[0.1, 0.2], [0.2, 0.1]])
  distribution = noise.flips(levels, levels, np.array([[0], [1]]))
  budgets = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]])
  records.save(path, _record(distribution, Adversary(budgets)))


def make_counts(path: Path) -> None:
  """Votes that were counted elsewhere."""
  votes = np.array([[90, 10], [20, 80], [100, 0]])
  np.savez(
    path,
    family="gaussian",
    scale=np.array([[0.2, 0.4], [0.4, 0.2]]),
    cells=np.array([[0, 1]]),
    groups=np.array([0, 1, 1]),
    selection=votes // 10,
    estimation=votes,
    truth=np.array([0, 1, 0]),
  )


def make_checkpoint(path: Path) -> None:
  """Samples of a job that was stopped."""
  sums = np.arange(6).reshape(3, 2), np.asarray(7)
  checkpoints.save(path, checkpoints.Counts({"ranges": [[0, 100]], "seed": 1}, sums, 40, 1.5))


def community_graph(num_nodes: int, num_attributes: int) -> dict[str, np.ndarray]:
  """The arrays of a graph of three communities, each with attributes of its own."""
  rng, labels = np.random.default_rng(0), np.arange(num_nodes) * 3 // num_nodes
  near = labels[:, None] == labels
  upper = np.triu(rng.random(near.shape) < np.where(near, 0.4, 0.05), 1)
  likely = labels[:, None] == np.arange(num_attributes) % 3
  attributes = rng.random(likely.shape) < np.where(likely, 0.6, 0.05)
  arrays = {"labels": labels}
  for name, matrix in (("adj_", upper), ("attr_", attributes)):
    stored = sparse.csr_array(matrix * 1.0)
    for part in ("data", "indices", "indptr", "shape"):
      arrays[name + part] = np.asarray(getattr(stored, part))
  return arrays


def make_graph(path: Path) -> None:
  """A small graph."""
  np.savez(path, **community_graph(12, 5))


def make_denoiser(path: Path) -> None:
  """A denoiser before its training."""
  config = denoising.Config(width=2, depth=1)
  variables = jax.jit(denoising._module(config).init)(jax.random.key(0), jnp.zeros((8, 8, 3)))
  arrays = flax.traverse_util.flatten_dict(jax.device_get(variables), sep="/")
  network = common.plain_fields(config, denoising._DECISIVE)
  meta = {"task": "denoiser", "network": network}
  storage.save_arrays(path, {**arrays, "meta": storage.json_array(meta)})


def make_image(path: Path) -> None:
  """A photograph of 8 x 12 pixels."""
  pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
  Image.fromarray(pixels).save(path)


def make_summary(path: Path) -> None:
  """JSON as a job leaves it."""
  storage.save_json(
    path, {"task": "images", "job": {"alpha": 0.01}, "inputs": ["a"], "n": [1, 2.5]}
  )


def make_options(path: Path) -> None:
  """Options of a job, as TOML."""
  path.write_text(options.to_toml({"samples": 100, "size": [24, 32], "alpha": 0.01}))


def prove(path: Path) -> None:
  """Reads a record and proves it again."""
  cards.prove(records.load(path))


def read_counts(path: Path) -> None:
  """Reads votes as `lrs-jax certify counts` does."""
  config = counts.TASK.data["counts"]._replace(file=str(path))
  data = counts.load(config)
  counts.smoothings(config, data, data.cases[0])


def read_image(path: Path) -> None:
  """Reads a folder of one image as a task of photographs does."""
  folders.read(str(path.parent), None)


KINDS = {
  "record": Kind(".npz", make_record, prove),
  "record of flips": Kind(".npz", make_record_of_flips, prove),
  "votes": Kind(".npz", make_counts, read_counts),
  "checkpoint": Kind(".npz", make_checkpoint, checkpoints.load),
  "graph": Kind(".npz", make_graph, lambda path: citation.load_graph(path, binarize=True)),
  "denoiser": Kind(".npz", make_denoiser, lambda path: denoising.load(str(path))),
  "image": Kind(".png", make_image, read_image),
  "summary": Kind(".json", make_summary, storage.load_json),
  "options": Kind(
    ".toml", make_options, lambda path: options.from_toml(path, IMAGES.data["camvid"])
  ),
}


def changed_bytes(rng: np.random.Generator, content: bytes) -> bytes:
  """A file with some bytes changed, cut, repeated, inserted or in another place."""
  data = bytearray(content)
  for _ in range(rng.integers(1, 8)):
    start, size = (int(rng.integers(0, len(data) + 1)) for _ in range(2))
    part = slice(start, start + min(size, 1 + int(rng.exponential(16))))
    way = rng.integers(6)
    if way == 0:
      data[part] = rng.bytes(len(data[part]))
    elif way == 1:
      del data[part]
    elif way == 2:
      data[part] = data[part] * 2
    elif way == 3:
      data[start:start] = rng.choice([b"\xff\xff\xff\x7f", b"\0" * 8, b"..", b"[" * 99, b"9" * 40])
    elif way == 4 and len(data):
      at = min(start, len(data) - 1)
      data[at] ^= 1 << int(rng.integers(8))
    elif way == 5:
      del data[start:]
  return bytes(data)


def changed_array(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
  """An array with another type, shape, or values."""
  way = rng.integers(9)
  if way == 0:
    types = [np.float32, np.float64, np.int8, np.int64, np.uint64, np.complex64, bool, "U", "S"]
    kind = types[rng.integers(len(types))]
    return np.zeros(array.shape, kind) if array.dtype.kind in "US" else array.astype(kind)
  if way == 1:
    return array.reshape(-1)[: rng.integers(0, array.size + 1)]
  if way == 2:
    return array[None] if rng.integers(2) else array.reshape(-1)
  if way == 3:
    return np.resize(array, [int(rng.integers(0, 4)) for _ in range(rng.integers(0, 4))])
  if way == 4 and array.dtype.kind == "U":
    text = changed_bytes(rng, str(array.reshape(-1)[:1]).encode()).decode(errors="replace")
    return np.full(array.shape, text.replace("\0", ""))
  if way == 5 and array.dtype.kind == "U" and array.ndim == 0:
    return np.asarray(changed_json(rng, str(array)))
  found = array.copy()
  if found.size and found.dtype.kind in "iufb":
    special = [0, 1, -1, 2, 127]
    special += [np.nan, np.inf, -np.inf, 1e308, 1e-320, 0.5] * (found.dtype.kind == "f")
    special += [2**31 - 1, -(2**31), 2**62] * (found.dtype.itemsize == 8)
    at = rng.integers(found.size, size=rng.integers(1, 4))
    chosen = np.array(special)[rng.integers(len(special), size=at.size)]
    found.reshape(-1)[at] = chosen.astype(found.dtype)
  return found


def changed_json(rng: np.random.Generator, text: str) -> str:
  """JSON in which one value is another: of another type, deep, large, or gone."""
  try:
    value = json.loads(text)
  except ValueError:
    return text[::-1]
  strange = [None, True, -1, 2**80, 1e308, "x" * 1000, [], {}, [[[[0]]]], {"": {"": 0}}, "../../x"]

  def change(part: Any) -> Any:
    if not isinstance(part, dict | list) or not part or rng.integers(4) == 0:
      return strange[rng.integers(len(strange))]
    key = list(part)[rng.integers(len(part))] if isinstance(part, dict) else rng.integers(len(part))
    part[key] = change(part[key])
    return part

  return json.dumps(change(value))


def changed_archive(rng: np.random.Generator, arrays: Mapping[str, np.ndarray], path: Path) -> None:
  """Stores arrays of which some are changed, missing or new, with a digest that fits."""
  found = {name: array for name, array in arrays.items() if name != "digest"}
  for _ in range(rng.integers(1, 4)):
    name = list(found)[rng.integers(len(found))] if found else "x"
    way = rng.integers(8)
    if way == 0:
      found.pop(name, None)
    elif way == 1:
      found[["note", "certified/x/y/eta", "pairs/2/eta", "sums/9", "a" * 300][rng.integers(5)]] = (
        np.zeros(2)
      )
    elif way == 2:
      found[name] = found[list(found)[rng.integers(len(found))]] if found else np.zeros(1)
    elif name in found:
      found[name] = changed_array(rng, found[name])
  if "digest" in arrays:
    found["digest"] = np.asarray(storage.digest(found))
  np.savez(path, **found)


class Fault(NamedTuple):
  """What went wrong with a file."""

  kind: str
  number: int
  what: str


class _Late(BaseException):
  """Reading took too long."""


def _stop(*_: Any) -> None:
  raise _Late


def outcome(read: Callable[[Path], Any], path: Path, seconds: float) -> tuple[str, str]:
  """Whether a file is "read" or "refused", or a "fault", and what was said."""
  signal.signal(signal.SIGALRM, _stop)
  signal.setitimer(signal.ITIMER_REAL, seconds)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      read(path)
  except (ValueError, OSError) as error:
    told = str(error)
    if not told or "\n" in told or len(told) > 2000:
      return "fault", f"{type(error).__name__} of {len(told)} characters: {told[:200]!r}"
    return "refused", told
  except _Late:
    return "fault", f"more than {seconds:g} s"
  except BaseException as error:
    return "fault", repr(error)[:200]
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
  return "read", ""


def fuzz(
  kind: str, inputs: int, seed: int, seconds: float, keep: Path | None = None
) -> tuple[Counter, list[Fault]]:
  """Numbers of files of a kind that were read, refused and at fault; and the faults."""
  of, found, faults = KINDS[kind], Counter[str](), list[Fault]()
  with tempfile.TemporaryDirectory() as folder:
    honest, path = Path(folder) / f"honest{of.suffix}", Path(folder) / "x" / f"changed{of.suffix}"
    path.parent.mkdir()
    of.make(honest)
    content = honest.read_bytes()
    arrays = dict(np.load(honest)) if of.suffix == ".npz" else None
    for number in tqdm(range(inputs), desc=kind, leave=False, mininterval=2):
      rng = np.random.default_rng([seed, number])
      if arrays is not None and rng.integers(4):
        with warnings.catch_warnings():
          warnings.simplefilter("ignore")  # numbers that do not fit the type that they get
          changed_archive(rng, arrays, path)
      elif of.suffix == ".json" and rng.integers(2):
        path.write_text(changed_json(rng, content.decode()))
      else:
        path.write_bytes(changed_bytes(rng, content))
      how, told = outcome(of.read, path, seconds)
      found[how] += 1
      if how == "fault":
        faults.append(Fault(kind, number, told))
        if keep is not None:
          storage.write_whole(
            keep / f"{kind.replace(' ', '-')}-{number}{of.suffix}",
            lambda to: Path(to).write_bytes(path.read_bytes()),
          )
  return found, faults


def table(found: Mapping[str, Counter]) -> Iterator[str]:
  """Markdown: what came of the files of every kind."""
  yield "| files | inputs | read | refused in a line | faults |\n| --- |" + " ---: |" * 4
  for kind, of in found.items():
    cells = [sum(of.values()), of["read"], of["refused"], of["fault"]]
    yield f"| {kind} | {' | '.join(f'{cell:,}' for cell in cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  add = parser.add_argument
  add("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
  add("--inputs", type=int, default=100_000, help="of all kinds together (default: 100000)")
  add("--seed", type=int, default=0)
  add("--seconds", type=float, default=10.0, help="that reading may take (default: 10)")
  add("--memory", type=float, default=1.0, help="GB that the process may grow by (default: 1)")
  add("--out", type=Path, default=Path("benchmarks/results"), help="of the table, and of faults")
  options = parser.parse_args(arguments)
  found, faults, start = {}, list[Fault](), time.monotonic()
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  for kind in options.kinds:
    each = options.inputs // len(options.kinds)
    keep = options.out / "faults"
    found[kind], new = fuzz(kind, each, options.seed, options.seconds, keep)
    faults += new
    for fault in new[:5]:
      print(f"{fault.kind} {fault.number}: {fault.what}", flush=True)
  grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
  text = (
    "# Files from strangers\n\n"
    + "\n".join(table(found))
    + f"\n\n{time.monotonic() - start:.0f} s; the process grew by {grown:.2f} GB (at most "
    f"{options.memory:g} may be). A fault is an error that is no line for the user, or more than "
    f"{options.seconds:g} s.\n"
  )
  storage.save_text(options.out / "fuzzing.md", text)
  storage.save_json(options.out / "fuzzing.json", {kind: dict(of) for kind, of in found.items()})
  print(text)
  return int(bool(faults) or grown > options.memory)


if __name__ == "__main__":
  raise SystemExit(main())
