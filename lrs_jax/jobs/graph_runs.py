"""Whole jobs on graphs: train, sample, certify, compare with isotropic smoothing (host)."""

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from lrs_jax import keys, storage
from lrs_jax.baselines import sparse_smoothing
from lrs_jax.confidence import planning
from lrs_jax.evaluation import metrics
from lrs_jax.jobs import cards, checkpoints, graph_plots, graph_records, results
from lrs_jax.jobs.graph_records import GraphRecord
from lrs_jax.jobs.reports import nothing_learned
from lrs_jax.jobs.runs import describe_devices, discard_others, partial_path, telling, versions
from lrs_jax.noise.families import SmoothingDistribution
from lrs_jax.sampling import sparse_flips
from lrs_jax.sampling.sparse_flips import ClassSums
from lrs_jax.tasks import graphs as graph_jobs
from lrs_jax.tasks.graph_training import head_of
from lrs_jax.tasks.graphs import GraphInput, GraphJob

_PIECE = 500
"""Samples of a call, per device."""


class Seconds(NamedTuple):
  """Wall-clock times of one smoothing; sampling is without compilation."""

  training: float = 0.0
  compilation: float = 0.0
  sampling: float = 0.0
  certificates: float = 0.0


def certify_graph(
  job: GraphJob, out: Path, model: Path | None = None, *, force: bool = False
) -> dict[str, Any]:
  """Runs a whole job and leaves its results under `out`.

  Writes `summary.json`, `additions.png`, `deletions.png`, `heatmap.png` and, in a folder with the
  graph's name, `certificate.npz` (localized) with its card, and `isotropic.npz` (baseline).
  Networks and samples that an earlier run of the same job left there are not made again.

  Args:
    job: the configuration.
    out: folder for the results.
    model: file of the network for both smoothings, trained there under the localized flips if it
      does not exist; by default each has a network of its own under `out`/models.
    force: replaces results and unfinished samples of other jobs, where they are in the way.

  Returns:
    What `summary.json` holds.

  Raises:
    OtherResultsError: `out` holds results of another job; nothing is done.
    ValueError: configuration, data or files that can not be used.
  """
  graph_jobs.check(job)
  if not force:
    asked = {out / "summary.json": {"job": plain(job)}}
    results.refuse_others(asked, plain(GraphJob()))
  data = graph_jobs.load(job)
  smoothings = graph_jobs.smoothings(job, data)
  plan = planning.samples_needed(
    smoothings["isotropic"], np.zeros(2), num_outputs=data.clusters.size, alpha=job.alpha
  )
  if job.samples < plan.num_samples[0]:
    raise ValueError(
      f"--samples {job.samples} can not certify any of {data.clusters.size} nodes at --alpha "
      f"{job.alpha}: at least {plan.num_samples[0]:.0f} samples are needed."
    )
  if not force:
    _refuse_others(job, data, smoothings, out, model)
  for note in data.graph.notes:
    tqdm.write(f"{data.name}: {note}")
  reports = {}
  for name, distribution in smoothings.items():
    with jax.default_matmul_precision(job.precision):
      record, seconds, clean = smooth(job, data, distribution, out, name, model, force)
    start = time.perf_counter()
    record = certify(job, record, localized=name == "certificate")
    seconds = seconds._replace(certificates=time.perf_counter() - start)
    path = out / data.name / f"{name}.npz"
    graph_records.save(path, record)
    for part, facts in record.meta["samples"].items():
      checkpoints.discard(partial_path(path, part), facts, facts["ranges"])
    if name == "certificate":
      cards.save(path.parent, cards.of_record(record, {"device": describe_devices()}))
    reports[name] = {**report(job, record), "network": clean, "seconds": seconds._asdict()}
  summary = {
    "job": plain(job),
    "versions": versions(),
    "device": describe_devices(),
    "graph": {
      "name": data.name,
      "nodes": int(data.graph.labels.size),
      "edges": int(data.graph.adjacency.nnz // 2),
      "attributes": int(data.graph.attributes.shape[1]),
      "classes": data.num_classes,
      "test_nodes": int(data.split.test.size),
      "clusters": np.bincount(data.clusters).tolist(),
      "notes": list(data.graph.notes),
    },
    "majority": majority(data),
    "localized": reports["certificate"],
    "isotropic": reports["isotropic"],
  }
  storage.save_json(out / "summary.json", summary)
  graph_plots.draw(summary, out)
  return summary


def _refuse_others(
  job: GraphJob,
  data: GraphInput,
  smoothings: Mapping[str, SmoothingDistribution],
  out: Path,
  model: Path | None,
) -> None:
  """Refuses to replace certificates of another job, network or graph."""
  asked = {}
  for name, flips in smoothings.items():
    facts: dict[str, Any] = {"job": plain(job), "samples": {"estimation": _graph_digests(data)}}
    path = model or graph_jobs.model_path(job, flips, data, out)
    if path.exists():
      facts["model"] = graph_jobs.obtain_model(job, data, flips, name, path)[2]
    asked[out / data.name / f"{name}.npz"] = facts
  results.refuse_others(asked, plain(GraphJob()))


def majority(data: GraphInput) -> dict[str, Any]:
  """The most frequent class of the test nodes, and how often always answering it is right."""
  counts = np.bincount(data.graph.labels[data.split.test], minlength=data.num_classes)
  return {"class": int(counts.argmax()), "share": float(counts.max() / data.split.test.size)}


def smooth(
  job: GraphJob,
  data: GraphInput,
  flips: SmoothingDistribution,
  out: Path,
  name: str,
  model: Path | None = None,
  force: bool = False,
) -> tuple[GraphRecord, Seconds, dict[str, float]]:
  """Trains (or loads) a network for some flips and samples it: a record without certificates.

  Returns:
    The record, the seconds that this took, and the network's accuracy without noise.
  """
  path = model or graph_jobs.model_path(job, flips, data, out)
  training, variables, digest = graph_jobs.obtain_model(job, data, flips, name, path)
  attributes = data.graph.attributes
  logits = jax.jit(data.model.apply)(variables, attributes.toarray(), data.edges)
  correct = np.asarray(logits).argmax(axis=1) == data.graph.labels
  clean = {"test_accuracy": float(correct[data.split.test].mean())}
  plan = sparse_flips.plan_flips(attributes, flips)
  groups = graph_jobs.groups_of(flips, data)
  meta = {"job": plain(job), "model": digest, "versions": versions(), "smoothing": name}
  key_selection, key_estimation = (
    keys.tagged(jax.random.key(job.seed), f"{name}, {part}") for part in ("selection", "estimation")
  )
  arguments = {
    "head": head_of(data.model),
    "params": (variables, data.edges),
    "kernel": variables["params"]["first_kernel"],
    "plan": plan,
    "groups": groups,
  }
  counted = {
    "selection": (key_selection, job.selection_samples),
    "estimation": (key_estimation, job.samples),
  }
  samples = {
    part: {**_manifest(part_key, digest, flips, data), "ranges": [[0, total]]}
    for part, (part_key, total) in counted.items()
  }
  seconds = Seconds(training)
  sums = _sampled_before(out / data.name / f"{name}.npz", samples)
  if sums is None:
    start = time.perf_counter()
    sparse_flips.class_sums(key_selection, num_samples=0, **arguments)
    seconds, sums = seconds._replace(compilation=time.perf_counter() - start), []
    for part, (part_key, total) in counted.items():
      unfinished = partial_path(out / data.name / f"{name}.npz", part)
      if force:
        discard_others(unfinished, samples[part], [(0, total)])
      with tqdm(total=total, desc=f"{name}, {part}", unit="sample") as progress:
        found, spent = checkpoints.count_in_pieces(
          partial(_class_sums, part_key, arguments),
          [(0, total)],
          unfinished,
          samples[part],
          piece=_PIECE * jax.device_count(),
          progress=telling(progress),
        )
      sums.append(found)
      seconds = seconds._replace(sampling=seconds.sampling + spent)
  base = graph_records.base_certificates(flips, groups, *sums, alpha=job.alpha, methods=job.scores)
  test = np.zeros(groups.size, bool)
  test[data.split.test] = True
  theta_plus, theta_minus = flips.parameters
  record = GraphRecord(
    theta_plus=theta_plus,
    theta_minus=theta_minus,
    cells=flips.cells,
    groups=groups,
    num_ones=np.diff(attributes.indptr).astype(np.int64),
    num_attributes=attributes.shape[1],
    selection=sums[0],
    estimate=sums[1],
    alpha=job.alpha,
    methods=tuple(job.scores),
    truth=data.graph.labels,
    test=test,
    base=base,
    certified={},
    meta={**meta, "samples": samples},
  )
  return record, seconds, clean


def _class_sums(key: jax.Array, arguments: Mapping[str, Any], first: int, size: int) -> ClassSums:
  return sparse_flips.class_sums(key, num_samples=size, first_sample=first, **arguments)


def _manifest(
  key: jax.Array, model_digest: str, flips: SmoothingDistribution, data: GraphInput
) -> dict[str, Any]:
  """What decides samples, beside their numbers, so that only their like are added to them."""
  return {
    "model": model_digest,
    "jax": versions()["jax"],
    "device": jax.local_devices()[0].device_kind,
    "key": jax.random.key_data(key).tolist(),
    "flips": _digest(*flips.parameters, flips.cells),
    **_graph_digests(data),
  }


def _graph_digests(data: GraphInput) -> dict[str, str]:
  attributes, adjacency = data.graph.attributes, data.graph.adjacency
  return {
    "attributes": _digest(attributes.indices, attributes.indptr),
    "edges": _digest(adjacency.indices, adjacency.indptr),
  }


def _digest(*arrays: np.ndarray) -> str:
  return storage.digest({str(i): array for i, array in enumerate(arrays)})


def _sampled_before(path: Path, samples: Mapping[str, Any]) -> list[ClassSums] | None:
  """The sums of an earlier run, if it drew the same samples and its record can be read."""
  if not path.exists():
    return None
  try:
    record = graph_records.load(path)
    graph_records.check(record)
  except ValueError:
    return None
  same = record.meta.get("samples") == samples
  return [record.selection, record.estimate] if same else None


def certify(job: GraphJob, record: GraphRecord, *, localized: bool) -> GraphRecord:
  """Adds the collective certificates of a job to a sampled record.

  Envelope, the paper's LP and naive certificates cover the whole grid of budgets, the first for
  every Rényi order as well, and the exact one (`--method milp`) the axes and a coarse grid.
  """
  additions, deletions = (np.arange(most + 1) for most in job.budgets)
  grid = np.stack(np.meshgrid(additions, deletions, indexing="ij"), axis=-1).reshape(-1, 2)
  coarse = [np.unique(np.linspace(0, most, 6).round()) for most in job.budgets]
  few = np.isin(grid[:, 0], coarse[0]) & np.isin(grid[:, 1], coarse[1])
  limit = {"time_limit": job.time_limit}
  plans: list[tuple[str, np.ndarray, dict[str, Any]]] = [("envelope", grid, limit)]
  plans += [(f"envelope@{order:g}", grid, limit) for order in job.orders]
  if localized:
    plans += [("naive", grid, {}), ("lp", grid, {**limit, "bins": job.bins})]
    if job.method == "milp":
      plans.append(("milp", grid[few | (grid == 0).any(axis=1)], limit))
  for method, budgets, options in plans:
    record = graph_records.certify(
      record, f"correct/{method}", budgets, method.partition("@")[0], **options
    )
  return graph_records.certify(record, "all/envelope", grid, "envelope", **limit)


def report(job: GraphJob, record: GraphRecord) -> dict[str, Any]:
  """What a record is worth on its test nodes: accuracy, certified accuracy, areas under it.

  Method "orders" is the best envelope of all Rényi orders at every budget, "region" the exact
  certificate of isotropic noise. An area is the sum of certified accuracy over 1, 2, ... additions
  (or deletions) alone: the number of flips that are certified, on average over the test nodes.
  """
  right = record.test & (record.base.labels == record.truth)
  num_test = int(record.test.sum())
  abstains = record.base.eta <= 0
  surfaces = {
    name.partition("/")[2]: (certificate.budgets, certificate.certified / num_test)
    for name, certificate in record.certified.items()
    if name.startswith("correct/")
  }
  orders = [surfaces.pop(name)[1] for name in list(surfaces) if "@" in name]
  budgets, fraction = surfaces["envelope"]
  surfaces["orders"] = budgets, np.max([fraction, *orders], axis=0)
  if record.theta_plus.size == 1:
    region = _region_surface(job, record, right)  # isotropic
    budgets = np.argwhere(np.ones(region.shape, bool)).astype(np.float64)
    surfaces["region"] = budgets, region.ravel() / num_test
  methods = {}
  for method, (budgets, fraction) in surfaces.items():
    methods[method] = {
      name: _curve(budgets, fraction, axis) for axis, name in enumerate(("additions", "deletions"))
    }
  found = {
    "smoothed_accuracy": float((right & ~abstains).sum() / num_test),
    "abstention": float(abstains[record.test].mean()),
    "statistics": dict(zip(*_counted(record.base.method), strict=True)),
    "theta_plus": record.theta_plus.tolist(),
    "theta_minus": record.theta_minus.tolist(),
    "certified_accuracy": methods,
    "surface": surfaces["orders"][1].reshape(job.budgets[0] + 1, job.budgets[1] + 1).tolist(),
    "solve_seconds": {
      name: float(certificate.solve_time.sum()) for name, certificate in record.certified.items()
    },
    "not_optimal": {
      name: int((certificate.status != "optimal").sum())
      for name, certificate in record.certified.items()
    },
  }
  milp = record.certified.get("correct/milp")
  if milp is not None:
    found["largest_gap"] = float(np.nanmax(milp.gap))
  return found


def _region_surface(job: GraphJob, record: GraphRecord, right: np.ndarray) -> np.ndarray:
  """Correct test nodes that the exact certificate of ICML 2020 keeps, each on its own.

  It rests on the very bounds that the envelopes rest on, `base.q_lower`: a bound on the mean of a
  score in [0, 1] serves it as one on the probability of a vote does (Neyman & Pearson). So all
  methods hold together with probability 1 - alpha, and the best of them may be taken.
  """
  return sparse_smoothing.certified_grid(
    record.base.q_lower[right],
    record.theta_plus.item(),
    record.theta_minus.item(),
    *job.budgets,
  )


def _counted(names: Any) -> tuple[list[str], list[int]]:
  unique, counts = np.unique(np.asarray(names, str), return_counts=True)
  return unique.tolist(), counts.tolist()


def _curve(budgets: np.ndarray, fraction: np.ndarray, axis: int) -> dict[str, Any]:
  alone = budgets[:, 1 - axis] == 0
  order = np.argsort(budgets[alone, axis])
  number, curve = budgets[alone, axis][order], fraction[alone][order]
  area = metrics.average_certifiable_radius(number, curve)
  return {"budgets": number.astype(int).tolist(), "curve": curve.tolist(), "area": area}


def compare(summaries: Sequence[Path], out: Path) -> str:
  """Localized against isotropic smoothing over several finished jobs, such as noise levels.

  Writes `pareto-additions.png` and `pareto-deletions.png`: smoothed accuracy against the area under
  certified accuracy, by each smoothing's strongest method. All methods of a job follow from the
  same bounds, so that the best may be taken afterwards (see `_region_surface`).

  Args:
    summaries: files `summary.json` of jobs on one graph.
    out: folder for the figures.

  Returns:
    A table for a terminal.
  """
  lines = [f"{'smoothing':<56}{'accuracy':>9}{'additions':>10}{'deletions':>10}"]
  points: dict[str, dict[str, list]] = {"additions": {}, "deletions": {}}
  for path in summaries:
    summary = json.loads(Path(path).read_text())
    job = summary["job"]
    for smoothing in ("localized", "isotropic"):
      report = summary[smoothing]
      areas = {
        kind: max(method[kind]["area"] for method in report["certified_accuracy"].values())
        for kind in points
      }
      accuracy = report["smoothed_accuracy"]
      name = f"{smoothing}, {job['model_name']}"
      name += f", {job['partition']}" if smoothing == "localized" else ""
      for kind, area in areas.items():
        points[kind].setdefault(name, []).append((area, accuracy))
      minus = np.asarray(report["theta_minus"])
      label = f"{name}, theta_minus {minus.min():g} to {minus.max():g}"
      values = f"{accuracy:>9.3f}{areas['additions']:>10.3f}{areas['deletions']:>10.3f}"
      lines.append(f"{label:<56}{values}")
  for kind, found in points.items():
    figure = graph_plots.pareto_figure(found, f"area under certified accuracy ({kind})")
    graph_plots.save(out / f"pareto-{kind}.png", figure)
  return "\n".join(lines)


def table(summary: Mapping[str, Any]) -> str:
  """What a summary says, for a terminal."""
  localized, isotropic = summary["localized"], summary["isotropic"]
  curves = [
    *((f"localized, {name}", curve) for name, curve in localized["certified_accuracy"].items()),
    *((f"isotropic, {name}", curve) for name, curve in isotropic["certified_accuracy"].items()),
  ]
  lines, cut = [], False
  for kind, shown in (("additions", (1, 2, 5, 10, 20)), ("deletions", (1, 5, 10, 20, 50))):
    lines.append(f"certified accuracy, {kind:<12}" + "".join(f"{n:>8}" for n in shown) + "    area")
    for label, by_kind in curves:
      budgets, curve = by_kind[kind]["budgets"], by_kind[kind]["curve"]
      values = "".join(
        f"{metrics.round_down(curve[budgets.index(n)], decimals=3):>8.3f}"
        if n in budgets
        else f"{'-':>8}"
        for n in shown
      )
      cut |= curve[-1] > 0
      area = f"{metrics.round_down(by_kind[kind]['area'], decimals=3):.3f}"
      lines.append(f"  {label:<29}{values}{'>' * (curve[-1] > 0) + area:>8}")
  lines.append("area: the sum over 1, 2, ... flips" + "; >: as far as --budgets go" * cut)
  for name, part in (("localized", localized), ("isotropic", isotropic)):
    lines.append(
      f"{name}: clean accuracy {part['network']['test_accuracy']:.3f} (no noise), "
      f"{part['smoothed_accuracy']:.3f} (smoothed), abstains {part['abstention']:.3f}; seconds: "
      + "   ".join(f"{what} {value:.1f}" for what, value in part["seconds"].items())
    )
  most = summary["majority"]
  lines.append(f"always answering class {most['class']}: accuracy {most['share']:.3f}")
  accuracies = {}
  for name, part in (("localized", localized), ("isotropic", isotropic)):
    accuracies[f"network of {name} smoothing without noise"] = part["network"]["test_accuracy"]
    accuracies[f"{name} smoothing"] = part["smoothed_accuracy"]
  return "\n".join([*lines, *nothing_learned(accuracies, most["share"])])


def plain(job: GraphJob) -> dict[str, Any]:
  """A job as it comes back from JSON, without the paths of a machine."""
  graph = None if job.graph is None else Path(job.graph).name
  return json.loads(json.dumps(job._replace(data_dir=None, graph=graph)._asdict()))
