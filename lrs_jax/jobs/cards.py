"""Certificate cards: what a result proves, against whom, and what it assumes (host).

A card is a nested dictionary of strings, numbers and lists, ready for JSON; `markdown` renders it.
`of_certificate` makes one of the values that every certificate consists of, `of_record` of what a
job keeps, `of_file` of what it stored.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lrs_jax import storage, tasks
from lrs_jax.collective import CollectiveCertificate
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.jobs import rechecks, records
from lrs_jax.jobs.records import Record
from lrs_jax.noise import SmoothingDistribution

ASSUMPTIONS = (
  "What is certified is the smoothed model: the majority vote (or the class of mean score above "
  "1/2) of the base model under the stated noise. Nothing is said of the base model's own "
  "prediction.",
  "The perturbation is measured where the noise is added: on the array that the sampler was given, "
  "before whatever the model does to it.",
  "Noise scales and the partition into cells and groups were chosen neither from the certified "
  "input nor from anything else that the adversary may change.",
  "The base model is a fixed function of one input: no dropout, no statistics of a batch, and the "
  "same class at a near tie whatever is evaluated beside it.",
  "Selection and estimation drew from independent keys, and no sampling was repeated because its "
  "result was not liked.",
  "Pseudo-random bits stand for random ones, and float32 draws for real ones; how far they are off "
  "is measured in benchmarks/results/draws.md.",
)
"""What no re-check of arrays can show."""

_METHODS = {
  "naive": "every output on its own",
  "lp": "the paper's linear program",
  "envelope": "linear program over concave envelopes",
  "milp": "exact up to its gap, by branch and bound",
}
_COLUMNS = 6


def of_certificate(
  noise: SmoothingDistribution,
  base: BaseCertificates,
  certificate: CollectiveCertificate,
  *,
  alpha: float,
  num_samples: int,
  selection_samples: int,
  context: Mapping[str, Any],
) -> dict[str, Any]:
  """The card of one collective certificate.

  Args:
    noise: the smoothing distribution that was sampled.
    base: the base certificates.
    certificate: from `collective.certify`.
    alpha: joint error probability that `base` was made with, in (0, 1).
    num_samples: S, samples that bound the labels' probabilities.
    selection_samples: samples that chose the labels.
    context: what else should be on record, such as the model's hash, the input, the seed, devices,
      precision and versions.

  Returns:
    The card.

  Raises:
    ValueError: `certificate` forfeits fewer base certificates than may be false.

  Example:
    >>> from lrs_jax import collective, noise
    >>> from lrs_jax.confidence import certificates
    >>> votes, gaussian = [[990, 10], [700, 300]], noise.gaussian([[0.5]], cells=[0])
    >>> base = certificates.from_votes(gaussian, [0, 0], votes, votes, alpha=0.01)  # two in earnest
    >>> certificate = collective.certify(base.weights, base.groups, base.eta, [0.0, 0.5**2])
    >>> card = of_certificate(
    ...   gaussian, base, certificate, alpha=0.01, num_samples=1000, selection_samples=1000,
    ...   context={"model": "sha256:..."},
    ... )
    >>> print(card["claim"])
    With probability at least 1 - 0.01, at epsilon = 0.5, 1 or more of 2 predictions cannot change.
  """
  return _card(
    noise,
    base,
    {f"targets/{certificate.method}": certificate},
    alpha,
    (selection_samples, num_samples),
    context,
    "`lrs_jax.collective.verify(base.weights, base.groups, base.eta, certificate)` proves every "
    "bound again without a solver, and `certificates` makes `base` again of the counts",
  )


def of_record(record: Record, context: Mapping[str, Any]) -> dict[str, Any]:
  """The card of a certified case.

  Args:
    record: from `records.load`.
    context: what should be on record beside `record.meta`.

  Returns:
    The card, of all the record's certificates.
  """
  return _card(
    record.noise,
    record.base,
    record.certified,
    record.alpha,
    (int(record.selection.num_samples), int(record.estimation.num_samples)),
    {**record.meta, **context},
    _COMMAND,
    trusted(record),
  )


def trusted(record: Record) -> tuple[str, ...]:
  """What a record says of itself that no re-check can show, in words."""
  if record.task in tasks.TASKS:
    return rechecks.TRUSTED
  return (*rechecks.TRUSTED, f"that the noise is that of the configuration: {_UNKNOWN}")


_UNKNOWN = "the task is not one of those that come with lrs-jax"


def prove(record: Record, *, exact: bool = False) -> None:
  """Re-checks a record with what is known of its task: `records.verify`.

  Raises:
    ValueError: naming what does not follow from what.
  """
  records.verify(record, task=tasks.TASKS.get(record.task), exact=exact)


_COMMAND = (
  "`lrs-jax verify FILE.npz` (`--exact`: in rational arithmetic) goes from the stored counts to "
  "every number again, without trusting a solver; `lrs-jax card FILE.npz` does so before it prints"
)


def of_file(path: Path) -> dict[str, Any]:
  """The card of a stored certificate, once it is proven again.

  Args:
    path: an .npz file that `lrs-jax certify` wrote. The devices are those that a `summary.json` of
      the same job, in the folder above, names.

  Returns:
    The card.

  Raises:
    ValueError: no certificate, or one that does not hold.

  Example:
    >>> of_file(Path("nowhere.npz"))
    Traceback (most recent call last):
    ...
    ValueError: cannot read nowhere.npz: ...
  """
  if path.is_dir():
    raise ValueError(f"{path} is a folder, and a card is of one file: {_found(path)}.")
  record = records.load(path)
  prove(record)
  summary = path.absolute().parent.parent / "summary.json"
  try:
    found = storage.load_json(summary) if summary.exists() else {}
  except ValueError:
    found = {}
  return of_record(record, {"file": path.name} | _device(found, record.meta))


_SHOWN = 5


def _found(folder: Path) -> str:
  """The certificates of a folder, for a message."""
  found = [str(path) for path in sorted(folder.rglob("*.npz")) if may_be_certificate(path)]
  if not found:
    return "there is no certificate in it"
  more = f" or {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
  return f"take {', '.join(found[:_SHOWN])}{more}"


def may_be_certificate(path: Path) -> bool:
  """Whether a file's name is not that of a network, of counts, or of what was being written.

  Args:
    path: an .npz file of a job's folder.

  Example:
    >>> names = "models/unet.npz", "scene-000/.isotropic-1.npz", "scene-000/isotropic.npz"
    >>> [may_be_certificate(Path(name)) for name in names]
    [False, False, True]
  """
  counts = path.name.endswith((".partial.npz", ".counts.npz"))
  return path.parent.name != "models" and not counts and not path.name.startswith(".")


def save(folder: Path, card: Mapping[str, Any]) -> None:
  """Writes `card.json` and `card.md` into a folder.

  Args:
    folder: made if it is not there.
    card: from this module.

  Example:
    >>> import tempfile
    >>> from lrs_jax import noise
    >>> votes, gaussian = [[990, 10]], noise.gaussian([[0.5]], cells=[0])
    >>> from lrs_jax import collective
    >>> from lrs_jax.confidence import certificates
    >>> base = certificates.from_votes(gaussian, [0], votes, votes, alpha=0.01)  # two in earnest
    >>> certificate = collective.certify(base.weights, base.groups, base.eta, [0.25])
    >>> card = of_certificate(
    ...   gaussian, base, certificate, alpha=0.01, num_samples=1000, selection_samples=1000,
    ...   context={},
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   save(Path(folder), card)
    ...   sorted(path.name for path in Path(folder).iterdir())
    ['card.json', 'card.md']
  """
  storage.save_json(folder / "card.json", card)
  storage.write_whole(folder / "card.md", lambda path: _write(path, markdown(card)))


def markdown(card: Mapping[str, Any]) -> str:
  """Renders a card as Markdown.

  Args:
    card: from this module, or read from its JSON.

  Returns:
    The text.

  Example:
    >>> from lrs_jax import collective
    >>> from lrs_jax.confidence import certificates
    >>> from lrs_jax import noise
    >>> votes, gaussian = [[990, 10]], noise.gaussian([[0.5]], cells=[0])
    >>> base = certificates.from_votes(gaussian, [0], votes, votes, alpha=0.01)  # two in earnest
    >>> certificate = collective.certify(base.weights, base.groups, base.eta, [0.25])
    >>> card = of_certificate(
    ...   gaussian, base, certificate, alpha=0.01, num_samples=1000, selection_samples=1000,
    ...   context={},
    ... )
    >>> markdown(card).splitlines()[0]
    '# Certificate'
  """
  budgets = card["certified"]["budgets"]
  rows = card["certified"]["rows"]
  head = ["targets", "method", *budgets, "status", "seconds"]
  lines = [
    "# Certificate",
    "",
    card["claim"],
    "",
    f"**Perturbations.** {card['perturbations']}",
    "",
  ]
  lines += [f"**Confidence.** {card['confidence']}", "", "## Certified outputs", ""]
  lines += [_row(head), _row(["---"] * 2 + ["---:"] * len(budgets) + ["---"] * 2)]
  for row in rows:
    counts = ["" if count is None else f"{count:,}" for count in row["certified"]]
    name = f"{row['targets']} ({row['number']:,})"
    lines.append(_row([name, row["method"], *counts, row["status"], f"{row['seconds']:.3g}"]))
  lines += ["", "## Setting", ""]
  for title in ("outputs", "noise", "samples", "context"):
    lines += [f"- {title}: {_inline(card[title])}"] if card[title] else []
  lines += ["", "## Assumptions", "", *(f"- {text}" for text in card["assumptions"])]
  if card["trusted"]:
    lines += ["", "## On trust", "", "No re-check of the record can show"]
    lines += ["", *(f"- {text}" for text in card["trusted"])]
  return "\n".join([*lines, "", "## Re-check", "", f"{card['recheck']}.", ""])


def _card(
  distribution: SmoothingDistribution,
  base: BaseCertificates,
  certified: Mapping[str, CollectiveCertificate],
  alpha: float,
  samples: tuple[int, ...],
  context: Mapping[str, Any],
  recheck: str,
  trusted: tuple[str, ...] = (),
) -> dict[str, Any]:
  order = sorted(certified, key=lambda name: (-int(certified[name].certified.sum()), name))
  strongest = certified[order[0]]
  shown = _shown(strongest)
  rows = []
  for name in order:
    certificate = certified[name]
    counts = _left(certificate, base).tolist()
    kept = dict(zip(map(tuple, certificate.budgets.tolist()), counts, strict=True))
    rows.append(
      {
        "targets": name.partition("/")[0],
        "number": int(certificate.targets.sum()),
        "method": _method(name.partition("/")[2], certificate.method),
        "certified": [kept.get(budget) for budget in shown],
        "status": _status(certificate.status),
        "seconds": float(certificate.solve_time.sum()),
      }
    )
  return {
    "claim": _claim(distribution, strongest, alpha, _left(strongest, base)),
    "perturbations": _perturbations(distribution, strongest),
    "confidence": _confidence(alpha, base),
    "certified": {
      "budgets": [_budget(distribution, budget) for budget in shown],
      "rows": rows,
    },
    "outputs": {
      "number": int(base.eta.size),
      "abstaining": int(np.sum(~(base.eta > 0))),
      "groups": int(base.weights.shape[1]),
      "cells": int(base.weights.shape[2]),
    },
    "noise": _levels(distribution),
    "samples": {"selection": samples[0], "estimation": samples[1]},
    "context": dict(context),
    "assumptions": list(ASSUMPTIONS),
    "trusted": list(trusted),
    "recheck": recheck,
  }


def _left(certificate: CollectiveCertificate, base: BaseCertificates) -> np.ndarray:
  """What is certified at every budget, base certificates that may be false given up."""
  if certificate.forfeit < base.forfeit:
    raise ValueError(
      f"`certificate` must forfeit as many base certificates as may be false, {base.forfeit}, but "
      f"it forfeits {certificate.forfeit}: give `forfeit=base.forfeit` to `collective.certify`."
    )
  return certificate.certified


def _method(name: str, method: str) -> str:
  _, _, order = name.partition("@")
  return f"{name}: {_METHODS[method]}" + (f", Rényi order {order}" if order else "")


def _shown(certificate: CollectiveCertificate) -> list[tuple[float, ...]]:
  """Budgets for a table: along every kind alone, up to where something is certified."""
  budgets, chosen = certificate.budgets, set()
  for kind in range(budgets.shape[1]):
    alone = (np.delete(budgets, kind, axis=1) == 0).all(axis=1)
    axis = np.flatnonzero(alone & (certificate.certified > 0))
    axis = axis[np.argsort(budgets[axis, kind])]
    columns = _COLUMNS // budgets.shape[1]
    picked = np.unique(np.linspace(0, axis.size - 1, columns + 1).round().astype(int))
    chosen |= {tuple(budgets[i].tolist()) for i in axis[picked]} if axis.size else set()
  return sorted(chosen, key=lambda budget: (sum(x > 0 for x in budget), budget[::-1], budget))


def _budget(distribution: SmoothingDistribution, budget: tuple[float, ...]) -> str:
  if distribution.p == 0:
    kinds = distribution.family.kinds
    return ", ".join(f"{number:g} {kind}" for number, kind in zip(budget, kinds, strict=True))
  return f"epsilon = {_down(budget[0] ** (1 / distribution.p))}"


def _down(number: float) -> str:
  """Three digits, never more than the number but for its own rounding."""
  text = f"{number:.3g}"
  while float(text) > number * (1 + 1e-12):
    step = 10.0 ** (np.floor(np.log10(number)) - 2)
    text = f"{float(text) - step:.3g}"
  return text


def _claim(
  distribution: SmoothingDistribution,
  certificate: CollectiveCertificate,
  alpha: float,
  certified: np.ndarray,
) -> str:
  """At the budget, not 0 if there is one, that leaves nearest to half of the targets."""
  targets = int(certificate.targets.sum())
  left, positive = certified > 0, certificate.budgets.sum(axis=1) > 0
  if not left.any():
    return f"Nothing is certified of {targets:,} predictions."
  told = np.flatnonzero(left & positive if (left & positive).any() else left)
  i = told[np.argmin(np.abs(certified[told] - targets / 2))]
  return (
    f"With probability at least 1 - {alpha}, "
    f"at {_budget(distribution, tuple(certificate.budgets[i]))}, "
    f"{certified[i]:,} or more of {targets:,} predictions cannot change."
  )


def _perturbations(distribution: SmoothingDistribution, certificate: CollectiveCertificate) -> str:
  text = distribution.family.perturbations
  if certificate.caps is not None:
    text += " In no cell more than its cap, which is how much there is to change."
  return f"{text} One perturbation for all outputs, chosen knowing model, noise and samples."


def _confidence(alpha: float, base: BaseCertificates) -> str:
  which = "all" if base.forfeit == 0 else f"all but at most {base.forfeit}"
  text = (
    f"alpha = {alpha}: with probability at least 1 - alpha over the sampling, {which} of the "
    f"{base.eta.size:,} base certificates of this one input hold together, and with them every row "
    "and budget of this card."
  )
  return text if base.forfeit == 0 else f"{text} So many are given up in every count."


def _levels(distribution: SmoothingDistribution) -> dict[str, Any]:
  family = distribution.family
  found: dict[str, Any] = {"family": family.name}
  for name, level in zip(family.titles, distribution.parameters, strict=False):
    visible = level[np.isfinite(level)]
    if visible.size:
      ends = visible.min(), visible.max()
      found[name] = " to ".join(f"{number:g}" for number in dict.fromkeys(ends))
    if visible.size < level.size:
      found["hidden cells"] = int(level.size - visible.size)
  return found


def _status(status: np.ndarray) -> str:
  kinds, numbers = np.unique(status, return_counts=True)
  if kinds.size == 1:
    return str(kinds[0])
  return ", ".join(f"{kind} {number}" for kind, number in zip(kinds, numbers, strict=True))


def _device(summary: Any, meta: Mapping[str, Any]) -> dict[str, Any]:
  known = isinstance(summary, Mapping) and "device" in summary
  same = known and summary.get("job") == meta.get("job")
  return {"device": summary["device"]} if same else {}


def _inline(value: Any) -> str:
  if isinstance(value, Mapping):
    parts = (f"{_line(key)} {_inline(item)}" for key, item in value.items() if item is not None)
    return ", ".join(parts)
  if isinstance(value, list | tuple):
    shown = value if len(value) < 8 else [value[0], "...", value[-1]]
    return ("/" if len(value) < 8 else " ").join(map(_line, shown))
  return f"{value:g}" if isinstance(value, float) else _line(value)


def _line(value: Any) -> str:
  """Text of a file on one line, and so that it cannot end a cell of a table."""
  return " ".join(str(value).split()).replace("|", "\\|")


def _row(cells: list[str]) -> str:
  return "| " + " | ".join(map(_line, cells)) + " |"


def _write(path: Path, text: str) -> None:
  path.write_text(text)
