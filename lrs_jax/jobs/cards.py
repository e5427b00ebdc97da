"""Certificate cards: what a result proves, against whom, and what it assumes (host).

A card is a nested dictionary of strings, numbers and lists, ready for JSON; `markdown` renders it.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lrs_jax import storage
from lrs_jax.collective import CollectiveCertificate
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.evaluation import metrics
from lrs_jax.jobs import rechecks, records
from lrs_jax.jobs.records import Record
from lrs_jax.noise import SmoothingDistribution
from lrs_jax.noise.grids import shown
from lrs_jax.tasks import TASKS, Task

ASSUMPTIONS = (
  "What is certified is the smoothed model: the class that the base model votes for most often (or "
  "whose mean score is above 1/2) under the stated noise. Nothing is said of the base model's own "
  "prediction.",
  "The perturbation is measured where the noise is added: on the array that the sampler was given, "
  "before whatever the model does to it.",
  "Noise scales and the partition into cells and groups were chosen neither from the certified "
  "input nor from anything else that the adversary may change.",
  "The base model is a fixed function of one input: no dropout, no statistics of a batch, and the "
  "same class at a near tie whatever is evaluated beside it.",
  "Selection and estimation drew from independent keys, and no sampling was repeated because its "
  "result was not liked.",
)
"""What no re-check of arrays can show, beside what `_drawn` says of the noise."""

_FLOATS = (
  "Pseudo-random bits stand for random ones, float32 draws for real ones, and the float32 sum of "
  "input and noise for a real one, of which a model may read no more than rounding leaves. How far "
  "draws are off is measured in benchmarks/results/draws.md; for the sum there is exact noise, "
  "docs/exact_noise.md."
)
_STEPS = (
  "Pseudo-random bits stand for random ones. No float stands for a real number: input, "
  "perturbation and noise are whole steps of {}, and what was drawn of the whole input differs "
  "from the stated noise by at most {:.2g} in total variation, which all bounds allow for."
)

_METHODS = {
  "naive": "every output on its own",
  "lp": "the paper's linear program",
  "envelope": "linear program over concave envelopes",
  "milp": "exact up to its gap, by branch and bound",
}
_COLUMNS = 6
_SHOWN = 5
_UNKNOWN = (
  "that the noise is that of the configuration: task or options are not those of this version of "
  "lrs-jax, or the task is one of your own, and --task FILE.py:TASK was not given"
)
_CALLED = "what was certified: a record of one's own call names neither the model nor the input"
_VIEW = "that no output sees more than its view, which would over-claim: {}"
_COMMAND = (
  "`lrs-jax verify FILE.npz` (`--exact`: in rational arithmetic) goes from the stored counts to "
  "every number again, without trusting a solver; `lrs-jax card FILE.npz` does so before it prints"
)
_CALL = (
  "`lrs_jax.collective.verify(base.weights, base.groups, base.eta, certificate)` proves every "
  "bound again without a solver, and `certificates` makes `base` again of the counts"
)


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
    >>> markdown(card).splitlines()[0]
    '# Certificate'
  """
  certified = {f"targets/{certificate.method}": certificate}
  samples = {"selection": selection_samples, "estimation": num_samples}
  return _card(noise, base, certified, alpha, samples, context, _CALL)


def of_record(
  record: Record, context: Mapping[str, Any], *, known: Mapping[str, Task] = TASKS
) -> dict[str, Any]:
  """The card of all certificates of a case; `context` is on record beside `record.meta`."""
  parts = {"selection": record.selection, "estimation": record.estimation}
  samples = {part: int(sums.num_samples) for part, sums in parts.items()}
  if record.bounds.looks > 1:
    samples["looks at which sampling could stop, which share alpha"] = record.bounds.looks
  proven = record.noise, record.base, record.certified, record.alpha
  return _card(*proven, samples, {**record.meta, **context}, _COMMAND, trusted(record, known))


def trusted(record: Record, known: Mapping[str, Task] = TASKS) -> tuple[str, ...]:
  """What a record says of itself that no re-check can show, in words."""
  options = () if records.is_known(record, known.get(record.task)) else (_UNKNOWN,)
  if "job" not in record.meta:
    options = (_CALLED,)
  view = record.meta.get("view")
  seen = (_VIEW.format(_line(view)[:200]),) if view else ()
  assumed = known[record.task].assumes if record.task in known else ()
  return (*rechecks.TRUSTED, *assumed, *seen, *options)


def prove(record: Record, *, exact: bool = False, known: Mapping[str, Task] = TASKS) -> None:
  """Re-checks a record with what is known of its task: `records.verify`."""
  records.verify(record, task=known.get(record.task), exact=exact)


def of_file(path: Path, *, known: Mapping[str, Task] = TASKS) -> dict[str, Any]:
  """The card of a stored certificate, once it is proven again; a ValueError if it does not hold.

  The devices are those that a `summary.json` of the same job, in the folder above, names.
  """
  if path.is_dir():
    found = [str(file) for file in sorted(path.rglob("*.npz")) if may_be_certificate(file)]
    more = f" or {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    hint = f"take {', '.join(found[:_SHOWN])}{more}" if found else "there is no certificate in it"
    raise ValueError(f"{path} is a folder, and a card is of one file: {hint}.")
  record = records.load(path)
  prove(record, known=known)
  context = {"file": path.name}
  with contextlib.suppress(ValueError):  # there may be no summary
    summary = storage.load_json(path.absolute().parent.parent / "summary.json")
    if isinstance(summary, Mapping) and summary.get("job") == record.meta.get("job"):
      context |= {name: summary[name] for name in ("device",) if name in summary}
  return of_record(record, context, known=known)


def may_be_certificate(path: Path) -> bool:
  """Whether a file's name is not that of a network, of counts, or of what was being written.

  Example:
    >>> names = "models/unet.npz", "scene-000/.isotropic-1.npz", "scene-000/isotropic.npz"
    >>> [may_be_certificate(Path(name)) for name in names]
    [False, False, True]
  """
  counts = path.name.endswith((".partial.npz", ".counts.npz"))
  return path.parent.name != "models" and not counts and not path.name.startswith(".")


def save(folder: Path, card: Mapping[str, Any]) -> None:
  """Writes `card.json` and `card.md` into a folder, which is made if it is not there."""
  storage.save_json(folder / "card.json", card)
  storage.save_text(folder / "card.md", markdown(card))


def markdown(card: Mapping[str, Any]) -> str:
  """Renders a card, from this module or read from its JSON, as Markdown: see `of_certificate`."""
  budgets = card["certified"]["budgets"]
  lines = ["# Certificate", "", card["claim"], ""]
  lines += [f"**Perturbations.** {card['perturbations']}", ""]
  lines += [f"**Confidence.** {card['confidence']}", "", "## Certified outputs", ""]
  lines += [_row(["targets", "method", *budgets, "status", "seconds"])]
  lines += [_row(["---"] * 2 + ["---:"] * len(budgets) + ["---"] * 2)]
  for row in card["certified"]["rows"]:
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
  samples: Mapping[str, int],
  context: Mapping[str, Any],
  recheck: str,
  trusted: tuple[str, ...] = (),
) -> dict[str, Any]:
  forfeit = min((certificate.forfeit for certificate in certified.values()), default=base.forfeit)
  if forfeit < base.forfeit:
    raise ValueError(
      f"`certificate` must forfeit as many base certificates as may be false, {base.forfeit}, but "
      f"it forfeits {forfeit}: give `forfeit=base.forfeit` to `collective.certify`."
    )
  order = sorted(certified, key=lambda name: (-int(certified[name].certified.sum()), name))
  strongest, rows = certified[order[0]], []
  shown = _shown(strongest)
  for name in order:
    certificate, (targets, _, method) = certified[name], name.partition("/")
    order_of = f", Rényi order {method.partition('@')[2]}" if "@" in method else ""
    counts = zip(certificate.budgets.tolist(), certificate.certified.tolist(), strict=True)
    kept = {tuple(budget): count for budget, count in counts}
    rows.append(
      {
        "targets": targets,
        "number": int(certificate.targets.sum()),
        "method": f"{method}: {_METHODS[certificate.method]}{order_of}",
        "certified": [kept.get(budget) for budget in shown],
        "status": _status(certificate.status),
        "seconds": float(certificate.solve_time.sum()),
      }
    )
  caps = " In no cell more than its cap, which is how much there is to change."
  return {
    "claim": _claim(distribution, strongest, alpha),
    "perturbations": distribution.family.perturbations
    + (caps if strongest.caps is not None else "")
    + " One perturbation for all outputs, chosen knowing model, noise and samples.",
    "confidence": _confidence(alpha, base),
    "certified": {"budgets": [_budget(distribution, budget) for budget in shown], "rows": rows},
    "outputs": {
      "number": int(base.eta.size),
      "abstaining": int(np.sum(~(base.eta > 0))),
      "groups": int(base.weights.shape[1]),
      "cells": int(base.weights.shape[2]),
    },
    "noise": _levels(distribution),
    "samples": dict(samples),
    "context": dict(context),
    "assumptions": [*ASSUMPTIONS, _drawn(distribution)],
    "trusted": list(trusted),
    "recheck": recheck,
  }


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
  return f"epsilon = {metrics.round_down(budget[0] ** (1 / distribution.p)):.3g}"


def _claim(
  distribution: SmoothingDistribution, certificate: CollectiveCertificate, alpha: float
) -> str:
  """At the budget, not 0 if there is one, that leaves nearest to half of the targets."""
  targets, certified = int(certificate.targets.sum()), certificate.certified
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


def _confidence(alpha: float, base: BaseCertificates) -> str:
  which = "all" if base.forfeit == 0 else f"all but at most {base.forfeit}"
  given_up = "" if base.forfeit == 0 else " So many are given up in every count."
  return (
    f"alpha = {alpha}: with probability at least 1 - alpha over the sampling, {which} of the "
    f"{base.eta.size:,} base certificates of this one input hold together, and with them every row "
    f"and budget of this card.{given_up}"
  )


def _levels(distribution: SmoothingDistribution) -> dict[str, Any]:
  found: dict[str, Any] = {"family": distribution.family.name}
  if distribution.family.step is not None:
    found["exact, in steps of"] = shown(distribution.family.step)
  for name, level in zip(distribution.family.titles, distribution.parameters, strict=False):
    visible = level[np.isfinite(level)]
    if visible.size:
      ends = visible.min(), visible.max()
      found[name] = " to ".join(f"{number:g}" for number in dict.fromkeys(ends))
    if visible.size < level.size:
      found["hidden cells"] = int(level.size - visible.size)
  return found


def _drawn(distribution: SmoothingDistribution) -> str:
  """What stands for what in the noise: float32 for real numbers, or whole steps of a grid."""
  family = distribution.family
  if family.step is None:
    return _FLOATS
  return _STEPS.format(shown(family.step), family.distance)


def _status(status: np.ndarray) -> str:
  kinds, numbers = np.unique(status, return_counts=True)
  if kinds.size == 1:
    return str(kinds[0])
  return ", ".join(f"{kind} {number}" for kind, number in zip(kinds, numbers, strict=True))


def _inline(value: Any) -> str:
  if isinstance(value, Mapping):
    known = {key: item for key, item in value.items() if item is not None}
    return ", ".join(f"{_line(key)} {_inline(item)}" for key, item in known.items())
  if isinstance(value, list | tuple):
    shown = value if len(value) < 8 else [value[0], "...", value[-1]]
    return ("/" if len(value) < 8 else " ").join(map(_line, shown))
  return f"{value:g}" if isinstance(value, float) else _line(value)


def _line(value: Any) -> str:
  """Text of a file on one line, and so that it cannot end a cell of a table."""
  return " ".join(str(value).split()).replace("|", "\\|")


def _row(cells: list[str]) -> str:
  return "| " + " | ".join(map(_line, cells)) + " |"
