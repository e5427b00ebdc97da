"""Forges stored certificates, field by field, and tells what `lrs-jax verify` says of each.

    python benchmarks/forging.py --out benchmarks/results

runs a toy job on images, on words and on a graph, and changes every array and every entry of `meta`
of their records, alone, in many ways: digests and seals, which anybody can compute, are made anew
each time. Then it changes what a record is made from, and makes all of the rest anew as well. Told
are the refusals, and where there are none, whether the record claims more than it did, and of the
latter what `lrs-jax verify --resample` says. Writes forging.md.
"""

import argparse
import contextlib
import io
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrs_jax import cli, noise, storage
from lrs_jax.collective import certificate as collective
from lrs_jax.collective.digests import digest
from lrs_jax.jobs import folders, formats, records, resampling
from lrs_jax.jobs.records import Record
from lrs_jax.tasks import TASKS

JOBS = {
  "images": (
    *("scenes", "--size", "16x24", "--std-max", "0.6", "--grid", "2x2", "--block", "8"),
    *("--width", "2", "--depth", "1", "--images", "1", "--steps", "20", "--batch-size", "2"),
    *("--samples", "100", "--selection-samples", "20", "--budgets", "0,0.05,0.1,0.2"),
  ),
  "tokens": (
    *("documents", "--documents", "1", "--segments", "4", "--width", "4", "--depth", "2"),
    *("--steps", "20", "--batch-size", "2", "--samples", "200", "--selection-samples", "20"),
  ),
  "graphs": (
    *("citeseer", "--model-name", "gcn", "--per-class", "4", "--clusters", "3", "--steps", "60"),
    *("--samples", "400", "--selection-samples", "100", "--budgets", "2,4", "--method", "milp"),
    *("--theta-plus", "0.02,0.05", "--theta-minus", "0.4,0.8"),
  ),
}
DRAWN = 50  # samples that are drawn again
Arrays = dict[str, np.ndarray]


class Outcome(NamedTuple):
  """What comes of a forged record."""

  refusal: str  # "" if there is none
  stronger: str = ""  # what it claims more, if it is not refused


def written(arrays: Mapping[str, np.ndarray], path: Path) -> Path:
  """Stores arrays as a record, with a digest that fits."""
  arrays = {name: array for name, array in arrays.items() if name != "digest"}
  np.savez(path, **arrays, digest=np.asarray(storage.digest(arrays)))  # type: ignore[arg-type]
  return path


def resealed(arrays: Arrays) -> Arrays:
  """Arrays with the digests of inputs and the seals that belong to them, where it makes sense."""
  with contextlib.suppress(Exception):
    record = records.from_arrays(arrays)
    for name, certificate in record.certified.items():
      weights, eta = records.weights_and_eta(record, name)
      known = digest(np.asarray(weights), record.groups.astype(np.int64), np.asarray(eta))
      sealed = collective.seal(certificate._replace(digest=known))
      arrays = arrays | {f"certified/{name}/digest": np.asarray(known)}
      arrays |= {f"certified/{name}/seals": sealed}
  return arrays


def claims(record: Record) -> dict[str, float]:
  """All that a record says in numbers: more of each is a stronger claim."""
  found = {"confidence": 1 - record.alpha, "counted outputs": float(record.counted.sum())}
  radii = record.adversary.radii
  named = {} if radii is None else dict(zip(map(tuple, record.budgets), radii, strict=True))
  for name, certificate in record.certified.items():
    for budget, kept in zip(certificate.budgets, certificate.certified, strict=True):
      if kept:
        at = named.get(tuple(budget), "/".join(f"{x:g}" for x in budget))
        found[f"{name} at {at}"] = float(kept)
  return found


def outcome(before: Record, arrays: Arrays, folder: Path) -> Outcome:
  """What `lrs-jax verify` says of forged arrays."""
  try:
    path = written(arrays, folder / "forged.npz")
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      folders.check(path)
    after = records.load(path)
  except ValueError as error:
    told = re.sub(r"\S*forged\.npz", "FILE", " ".join(str(error).split()))
    return Outcome(told)
  old, new = claims(before), claims(after)
  more = [name for name, value in new.items() if value > old.get(name, 0)]
  return Outcome("", more[0] if more else "")


def changes(array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
  """Other values of an array's own type and shape."""
  kind = array.dtype.kind
  if kind == "U":
    yield "another text", np.asarray(np.char.add(array, "x"))
  elif kind == "b":
    yield "all true", np.ones_like(array)
    yield "all false", np.zeros_like(array)
    yield "the first turned", _at_first(array, lambda x: ~x)
  elif kind == "i":
    for step in (1, -1, 10):
      yield f"all {step:+}", array + step
      yield f"one {step:+}", _at_first(array, lambda x, step=step: x + step)
      yield f"last {step:+}", _at_first(array[..., ::-1] if array.ndim else array,
                                        lambda x, step=step: x + step)  # fmt: skip
  else:
    for factor in (1.5, 0.5, 1 + 1e-8, 1 - 1e-8):
      yield f"all times {factor}", array * factor
      yield f"the largest times {factor}", np.where(array == array.max(), array * factor, array)
    yield "zero", np.zeros_like(array)
  if array.ndim and array.size > 1:
    yield "turned around", array[::-1].copy()


def _at_first(array: np.ndarray, change: Callable[[Any], Any]) -> np.ndarray:
  changed = array.copy()
  changed.flat[:1] = change(changed.flat[:1])
  return changed


def other_values(value: Any) -> Iterator[Any]:
  """Other values of an entry of `meta`."""
  if isinstance(value, bool):
    yield not value
  elif isinstance(value, int | float):
    yield from (value + 1, value * 0.5, value * 2, 0)
  elif isinstance(value, str):
    yield value[::-1] + "x"
  elif isinstance(value, list):
    yield from (value[::-1], value[:-1], [*value, *value[-1:]])
  elif value is None:
    yield from (1, "x", [0.5, 0.1])
  yield None


def entries(meta: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
  """The places of all that is no mapping in a mapping of mappings."""
  for name, value in meta.items():
    if isinstance(value, Mapping):
      yield from entries(value, (*prefix, name))
    else:
      yield *prefix, name


def replaced(meta: Mapping[str, Any], place: Sequence[str], value: Any) -> dict[str, Any]:
  """A mapping of mappings with another value in one place; None takes it away."""
  name, *rest = place
  if rest:
    return {**meta, name: replaced(meta[name], rest, value)}
  return {
    key: old for key, old in {**meta, name: value}.items() if key != name or value is not None
  }


def lone_changes(arrays: Arrays) -> Iterator[tuple[str, str, Arrays]]:
  """(field, what is done to it, all arrays with that), for every array and entry of `meta`."""
  for name, array in arrays.items():
    if name in ("digest", "meta"):
      continue
    field = re.sub(r"^certified/.*/(\w+)$", r"certified/.../\1", name)
    field = re.sub(r"^pairs/.*/(\w+)$", r"pairs/.../\1", field)
    for what, changed in changes(array):
      if not np.array_equal(changed, array, equal_nan=array.dtype.kind == "f"):
        yield field, what, {**arrays, name: changed}
    if formats.RECORD.get(name, "").startswith("?"):
      yield field, "left out", {key: other for key, other in arrays.items() if key != name}
  meta = storage.from_json_array(arrays["meta"])
  for place in entries(meta):
    field = f"meta: {'.'.join(place[:2] if place[0] in ('job', 'versions', 'keys') else place[:1])}"
    for value in other_values(_get(meta, place)):
      if value != _get(meta, place):
        told = "left out" if value is None else f"{storage.shortened(value)}"
        yield field, told, {**arrays, "meta": storage.json_array(replaced(meta, place, value))}


def _get(meta: Any, place: Sequence[str]) -> Any:
  for name in place:
    meta = meta[name]
  return meta


def again(record: Record, **parts: Any) -> Arrays:
  """A record that is made anew, as the package makes it, from other parts."""
  given = {name: parts.get(name, getattr(record, name)) for name in record._fields}
  made = records.make_record(
    given["task"],
    given["smoothing"],
    (given["selection"], given["estimation"]),
    given["bounds"],
    given["adversary"],
    truth=given["truth"],
    counted=given["counted"],
    meta=given["meta"],
  )
  return dict(records.to_arrays(made))


def forgeries(record: Record) -> Iterator[tuple[str, Callable[[], Arrays]]]:
  """(what is invented, the record that follows from it)."""
  n, meta, labels = int(record.estimation.num_samples), record.meta, record.base.labels
  stored = record.estimation
  for share in (1.0, 0.05):
    votes, rows = np.asarray(stored.votes).copy(), np.arange(len(labels))
    own = votes[rows, labels]
    moved = (share * votes).astype(votes.dtype)
    moved[rows, labels] = 0
    votes -= moved
    votes[rows, labels] = own + moved.sum(axis=1)
    scores = {}
    if stored.scores is not None and share == 1:
      scores = {"scores": votes * 255, "squares": votes * 255**2}
    raised = stored._replace(votes=votes, **scores)
    told = f"{100 * share:g} % of the votes against a label are for it"
    yield told, lambda raised=raised: again(record, estimation=raised)
  doubled = {name: 2 * value for name, value in stored._asdict().items() if value is not None}
  job = {**meta.get("job", {}), "samples": 2 * n}
  more = {**meta, "ranges": [[0, 2 * n]], "job": job}
  twice = stored._replace(**doubled)
  yield (
    "twice the samples, with twice the votes",
    lambda: again(record, estimation=twice, meta=more),
  )
  truth = labels.astype(np.int64)
  yield "labels (`truth`) that are what is predicted", lambda: again(record, truth=truth)
  stable = record.counted & (record.base.eta > np.median(record.base.eta))
  yield "only stable outputs are counted", lambda: again(record, counted=stable)
  for what, other in (
    ("the SHA-256 of another input", {"input": "0" * 64}),
    ("the SHA-256 of another network", {"model": "0" * 64}),
    ("other keys", {"keys": {"selection": [1, 2], "estimation": [3, 4]}}),
    ("another seed", {"job": {**meta.get("job", {}), "seed": 1234}}),
  ):
    yield what, lambda other=other: again(record, meta={**meta, **other})
  if record.adversary.caps is not None:
    less = record.adversary._replace(caps=np.floor(record.adversary.caps / 2))
    yield "half the caps: less to change than there is", lambda: again(record, adversary=less)
  level, *others = record.noise.parameters
  stronger = 2 * level if record.noise.p else np.sqrt(level)
  made = noise.make(record.noise.family.name, [stronger, *others], record.noise.cells)
  other = record.smoothing._replace(noise=made)
  yield "stronger noise than was drawn", lambda: again(record, smoothing=other)


def fewer(record: Record) -> Record:
  """A record with one certificate of its weights, by trees if there is one, and one of an order."""
  names = sorted(record.certified, key=lambda name: "milp" not in name)
  kept = [next(name for name in names if "@" not in name), *(n for n in names if "@" in n)][:2]
  pairs = {order: pair for order, pair in record.pairs.items() if f"@{order}" in kept[-1]}
  return record._replace(certified={n: record.certified[n] for n in kept}, pairs=pairs)


def of_record(
  path: Path, folder: Path, data_dir: str | None
) -> tuple[dict[str, dict[str, Outcome]], list[tuple[str, Outcome, str]]]:
  """Outcomes of lone changes by field, and of forgeries, with what a new draw says of each."""
  record, arrays = fewer(records.load(path)), {}
  arrays = {**records.to_arrays(record), "digest": np.asarray("")}
  alone: dict[str, dict[str, Outcome]] = {}
  for field, what, changed in lone_changes(arrays):
    sealed = changed if field.endswith(("/digest", "/seals")) else resealed(changed)
    found = outcome(record, sealed, folder)
    kept = alone.setdefault(field, {}).get(what)
    if kept is None or (kept.refusal and not found.refusal) or found.stronger:
      alone[field][what] = found
  made = []
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    whole = records.from_arrays(again(record))
    for what, make in forgeries(record):
      forged = make()
      says = outcome(whole, forged, folder)
      beside = written(forged, path.with_name("forged.npz"))
      try:
        drawn = resampling.resample(beside, DRAWN, TASKS, data_dir=data_dir)
      except ValueError as error:
        drawn = f"refuses: {str(error).replace(f'{path.parent.parent}/', '')}"
      beside.unlink()
      made.append((what, says, drawn))
  return alone, made


def table(found: Mapping[str, tuple]) -> str:
  """The outcomes of all jobs in Markdown."""
  fields = dict.fromkeys(field for alone, _ in found.values() for field in alone)
  lines = ["| field, changed alone | refused | a refusal | passes |", "| --- | --- | --- | --- |"]
  for field in sorted(fields, key=lambda field: (field.startswith("meta"), field)):
    outcomes = [(f"{what}", of) for alone, _ in found.values()
                for what, of in alone.get(field, {}).items()]  # fmt: skip
    refusals = [of.refusal for _, of in outcomes if of.refusal]
    passes = dict.fromkeys(what for what, of in outcomes if not of.refusal)
    stronger = dict.fromkeys(f"{what} ({of.stronger})" for what, of in outcomes if of.stronger)
    told = (
      ", ".join(passes) if len(passes) < 4 else f"{len(passes)} changes, as {next(iter(passes))}"
    )
    told = f"**claims more: {', '.join(stronger)}**" if stronger else told
    shown = storage.shortened(refusals[0])[1:-1] if refusals else ""
    numbers = f"{len(refusals)} of {len(outcomes)}"
    lines.append(f"| {field} | {numbers} | {_cell(shown)} | {_cell(told)} |")
  lines += ["", f"| invented, and all the rest made anew | job | `verify` | `--resample {DRAWN}` |"]
  lines += ["| --- | --- | --- | --- |"]
  for name, (_, made) in found.items():
    for what, of, drawn in made:
      says = f"refuses: {storage.shortened(of.refusal)[1:-1]}" if of.refusal else "passes"
      says += f", and it claims more ({of.stronger})" if of.stronger else ""
      drawn = storage.shortened(drawn)[1:-1] if drawn.startswith("refuses") else "passes"
      lines.append(f"| {what} | {name} | {_cell(says)} | {_cell(drawn)} |")
  return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
  return text.replace("|", "\\|").replace("\\'", "'")


def run_jobs(folder: Path, graph: Path | None) -> dict[str, Path]:
  """Records of the jobs that there is data for, by the task's name."""
  found = {}
  for name, options in JOBS.items():
    if name == "graphs" and graph is None:
      continue
    where = ("--graph", str(graph)) if name == "graphs" else ()
    with contextlib.redirect_stdout(io.StringIO()):
      if cli.main(["certify", *options, *where, "--out", str(folder / name)]):
        raise RuntimeError(f"the job on {name} failed.")
    found[name] = next((folder / name).glob("*/certificate.npz"))
  return found


def main(arguments: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("records", nargs="*", type=Path, help="certificate.npz; else jobs are run")
  parser.add_argument("--graph", type=Path, help="a graph file for the job on a graph")
  parser.add_argument("--out", type=Path, required=True)
  given = parser.parse_args(arguments)
  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    paths = {records.load(path).task: path for path in given.records}
    paths = paths or run_jobs(folder, given.graph)
    data_dir = None if given.graph is None else str(given.graph.parent)
    found = {task: of_record(path, folder, data_dir) for task, path in paths.items()}
  outcomes = [of for alone, _ in found.values() for kept in alone.values() for of in kept.values()]
  passing = [of for of in outcomes if not of.refusal]
  text = (
    f"Of {len(outcomes)} changes of one field, with digests and seals made anew, `lrs-jax verify` "
    f"refuses {len(outcomes) - len(passing)}. Of the other {len(passing)} records, "
    f"{sum(bool(of.stronger) for of in passing)} claim more than they did.\n\n{table(found)}"
  )
  given.out.mkdir(parents=True, exist_ok=True)
  storage.save_text(given.out / "forging.md", f"# Forged certificates\n\n{text}")
  print(text)


if __name__ == "__main__":
  main()
