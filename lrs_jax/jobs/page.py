"""A job's report as one HTML page that needs nothing else, to be looked at and handed on (host)."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lrs_jax import collective, storage
from lrs_jax.collective import CollectiveCertificate
from lrs_jax.evaluation import metrics
from lrs_jax.jobs import cards, preparing, records, reports
from lrs_jax.jobs.records import Record
from lrs_jax.tasks import common
from lrs_jax.tasks.task import Case, Config, Data, Task

_MOST = 6
"""Curves of a figure, and columns of a table."""

_PICTURES = 24
"""Inputs whose pictures are in a page, for its size."""

_SPENT, _FALLEN = np.array([0.75, 0.0, 0.1]), np.array([0.95, 0.75, 0.3])
"""Colors of where a budget is spent, and of outputs that fall."""

RECHECK = (
  "`lrs-jax verify FOLDER`, with the folder of this page, goes from the stored votes to every "
  "number again, without trusting a solver, and says what it takes on trust."
)


def page(
  task: Task, config: Config, data: Data, done: Sequence[Record], summary: Mapping[str, Any]
) -> str:
  """The page of a job: what is proven of every input, of all on average, and how to check it.

  `done` are the records of the task's own smoothing, one for every case. Inputs that are images of
  one output a pixel are shown, with a perturbation of every size, and what is proven under it.
  """
  content = {
    "title": f"{summary['job']['data']}: certified robustness of {len(done)} inputs",
    "claim": _claim(summary, done),
    "meaning": _meaning(data, done[0]),
    "unit": task.unit,
    "inputs": [
      _input(config, task, case, record, i < _PICTURES)
      for i, (case, record) in enumerate(zip(data.cases, done, strict=True))
    ],
    "curves": _curves(summary),
    "recheck": RECHECK,
  }
  # Nothing in it may end the element that it is put into.
  text = json.dumps(storage.plain(content)).replace("<", "\\u003c")
  template = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
  title = f"<title>{html.escape(str(content['title']))}</title>"
  return template.replace("<title>Certificate</title>", title).replace("@DATA@", text)


def save(
  path: Path,
  task: Task,
  config: Config,
  data: Data,
  done: Sequence[Record],
  summary: Mapping[str, Any],
) -> None:
  """Writes a job's page, whole or not at all."""
  storage.save_text(path, page(task, config, data, done, summary))


def of_folder(folder: Path, known: Mapping[str, Task], data_dir: str | None = None) -> Path:
  """Writes the page of a finished job once its certificates are proven again; returns its path.

  `known` are tasks by their names, `data_dir` the folder of the data, which are loaded again.

  Raises:
    ValueError: no finished job, a task that is not known, a certificate that does not hold, or data
      that are not there.
  """
  summary = storage.load_json(folder / "summary.json")
  if not isinstance(summary, Mapping) or not isinstance(summary.get("job"), Mapping):
    raise ValueError(f"{folder} holds no finished job.")
  task = known.get(str(summary.get("task")))
  if task is None:
    told = storage.shortened(summary.get("task"))
    raise ValueError(f"there is no task {told} here: say where it is by --task FILE.py:TASK.")
  config = storage.from_plain(type(next(iter(task.data.values()))), summary["job"])
  config = config._replace(data_dir=data_dir)
  data, (ours, *_) = task.load(config), summary["smoothings"]
  done = [records.load(folder / case.name / f"{ours}.npz") for case in data.cases]
  for case, record in zip(data.cases, done, strict=True):
    records.verify(record, task=task)
    if record.meta.get("input", digest := preparing.input_digest(case)) != digest:
      raise ValueError(f"the input {case.name} is not the one that was certified.")
  save(folder / "report.html", task, config, data, done, summary)
  return folder / "report.html"


def _claim(summary: Mapping[str, Any], done: Sequence[Record]) -> str:
  """At the budget that leaves nearest to half of the outputs, on average over the inputs."""
  (_, curves), number = reports.curves_of(summary, "certified"), len(done)
  kinds = next(iter(curves.values()))
  kind, of = next(iter(kinds.items()))
  curve, budgets = np.asarray(of["curve"]), of["budgets"]
  told = np.flatnonzero((curve > 0) & (np.asarray(budgets) > 0))
  if not told.size:
    return "Nothing is certified of these inputs."
  i = told[np.argmin(np.abs(curve[told] - 0.5))]
  budget = f"{metrics.round_down(budgets[i]):.3g}"
  size = f"of norm {budget}" if kind == "epsilon" else f"of {budget} {kind}"
  share = f"{100 * metrics.round_down(curve[i], decimals=3):.1f}"
  every = "" if number == 1 else ", on average over the inputs"
  return (
    f"With probability at least 1 - {summary['job']['alpha']} for each input, a perturbation "
    f"{size} leaves {share} % of the {summary['unit']} or more as they are{every}, whatever it is."
  )


def _meaning(data: Data, record: Record) -> str:
  """What a budget is, in words."""
  text = record.noise.family.perturbations
  if _is_picture(data.cases[0], record):
    text += (
      " Values of an image are in [0, 1]: turning one pixel from black to white has the norm √3, "
      "which is 1.73."
    )
  return text


def _is_picture(case: Case, record: Record) -> bool:
  """Whether an input is an image of three colors, and has an output for every pixel."""
  shape = np.shape(case.x) if isinstance(case.x, np.ndarray) else ()
  pixels = len(shape) == 3 and shape[2] == 3 and shape[0] * shape[1] == record.groups.size
  return pixels and record.adversary.radii is not None and record.noise.p == 2


def _input(
  config: Config, task: Task, case: Case, record: Record, pictured: bool
) -> dict[str, Any]:
  card = cards.of_record(record, {}, known={task.name: task})
  found: dict[str, Any] = {"name": case.name, "card": cards.markdown(card)}
  radii, name = record.adversary.radii, f"all/{config.method}"
  certificate = record.certified[name if name in record.certified else "all/envelope"]
  if not pictured or radii is None or not _is_picture(case, record):
    return found
  shape = case.x.shape[:2]
  alone = np.searchsorted(record.budgets[:, 0], common.lone_budgets(record.base), side="left")
  alone = np.where(record.counted, alone, 0)  # so many of the budgets are survived
  return (
    found
    | _split(case, record, certificate)
    | {
      "image": _png(np.rint(np.clip(case.x, 0, 1) * 255).astype(np.uint8)),
      "index": _png(np.minimum(alone, 255).astype(np.uint8).reshape(shape)),
      "radii": radii.tolist()[:255],
      "certified": certificate.certified.tolist()[:255],
      "number": int(certificate.targets.sum()),
      "forfeit": record.base.forfeit,
    }
  )


def _split(case: Case, record: Record, certificate: CollectiveCertificate) -> dict[str, Any]:
  """How an adversary would spend the budget that leaves about half, and what falls: a picture."""
  number = int(certificate.targets.sum())
  left = certificate.certified
  told = np.flatnonzero((left < number) & (record.budgets[:, 0] > 0))
  if not told.size:
    return {}
  i, radii = told[np.argmin(np.abs(left[told] - number / 2))], record.adversary.radii
  assert radii is not None
  base, shape = record.base, case.x.shape[:2]
  attack = collective.attack(
    base.weights, base.groups, base.eta, record.budgets[i : i + 1], targets=certificate.targets
  )
  spent = attack.b[0, 0]
  cells = np.broadcast_to(record.noise.cells, case.x.shape)[..., 0]
  density = spent / np.maximum(np.bincount(cells.ravel(), minlength=spent.size), 1)
  strength = np.sqrt(density / max(density.max(), np.finfo(float).tiny))[cells][..., None]
  gray = np.repeat(0.35 + 0.5 * np.clip(case.x, 0, 1).mean(axis=-1, keepdims=True), 3, axis=-1)
  fallen = attack.attacked[0].reshape(shape)[..., None]
  picture = np.where(fallen, 0.5 * gray + 0.5 * _FALLEN, gray)
  picture = (1 - strength) * picture + strength * _SPENT
  return {
    "split": _png(np.rint(255 * picture).astype(np.uint8)),
    "splitradius": float(radii[i]),
    "splitcells": int((spent > 0).sum()),
    "fallen": int(attack.num_attacked[0]),
    "atmost": number - int(left[i]),
  }


def _png(pixels: np.ndarray) -> str:
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "PNG", optimize=True)
  return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _curves(summary: Mapping[str, Any]) -> dict[str, Any]:
  """Curves of all kinds of perturbations, those of the strongest methods."""
  what, curves = reports.reported(summary)
  kinds = []
  for kind in dict.fromkeys(kind for by_kind in curves.values() for kind in by_kind):
    series = [{"label": label, **by_kind[kind]} for label, by_kind in curves.items()][:_MOST]
    longest = max((one["budgets"] for one in series), key=len)
    end = max((int(np.max(np.flatnonzero(one["curve"]), initial=0)) for one in series), default=0)
    chosen = np.unique(np.linspace(0, min(end + 1, len(longest) - 1), _MOST).round().astype(int))
    columns = [longest[i] for i in chosen]
    kinds.append({"axis": reports.axis_of(kind), "series": series, "columns": columns})
  return {"title": f"{what[0].upper()}{what[1:]}, on average over the inputs", "kinds": kinds}
