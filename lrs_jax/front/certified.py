"""What the front door returns: a certificate that prints, draws and can be gone through again."""

import html
from decimal import ROUND_FLOOR, Context, Decimal
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lrs_jax.cells.views import View
from lrs_jax.collective import CollectiveCertificate
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.noise import SmoothingDistribution
from lrs_jax.sampling import Votes

if TYPE_CHECKING:
  from pathlib import Path

  from matplotlib.figure import Figure


class Certified(NamedTuple):
  """At radius i, at least `certified[i]` outputs keep their label, whatever the perturbation is.

  That holds at all radii together with probability 1 - alpha. `print` and notebooks show a table,
  `plot` draws the curve, `lrs_jax.verify` goes through it from the votes on, `save` stores it.
  """

  labels: np.ndarray  # int64 [N], the smoothed prediction; -1 abstains
  certified: np.ndarray  # int64 [B], counted outputs that keep their label
  radii: np.ndarray  # float64 [B], in the units of the input or entries; flips: [B, 2] counts
  base: BaseCertificates  # of every output on its own
  proof: CollectiveCertificate
  selection: Votes  # int64 [N, K] and S, the votes that chose the labels
  estimation: Votes  # int64 [N, K] and S, the votes that bound their probabilities
  noise: SmoothingDistribution  # as groups see it
  alpha: float  # joint error probability
  looks: int  # at the votes, that share alpha: sampling could stop at each of them
  k_fwer: float  # part of the base certificates that may be false
  shape: tuple[int, ...]  # of the outputs: N is its product
  counted: np.ndarray  # bool [N], outputs of which `certified` counts some
  truth: np.ndarray | None  # int64 [N]: if given, only outputs with this label are certified
  fields: tuple[SmoothingDistribution, np.ndarray] | None
  # what was drawn, if groups see less of it: K noise fields, and int [N], the field of every output
  view: View | None  # what outputs see at most, where the certificate counts on it

  @property
  def share(self) -> np.ndarray:
    """Part of the counted outputs that is certified, float64 [B]: with truth, certified accuracy.

    0 where no output is counted.
    """
    return self.certified / max(int(self.counted.sum()), 1)

  def plot(self) -> "Figure":
    """Draws the certified share against the radius; of flips, one curve per number of deletions.

    `figure.savefig(path)` writes the Matplotlib figure that it returns.
    """
    from lrs_jax.evaluation import plots  # Matplotlib is heavy

    what = _what(self)
    if self.radii.ndim == 1:
      order = np.argsort(self.radii, kind="stable")
      radii, curves = self.radii[order], {self.proof.method: self.share[order]}
    else:
      radii, curves = np.unique(self.radii[:, 0]), {}
      for deletions in np.unique(self.radii[:, 1]):
        beyond = (self.radii[:, 0] >= radii[:, None]) & (self.radii[:, 1] >= deletions)
        share = np.where(beyond, self.share, 0.0).max(axis=1, initial=0.0)
        curves[f"{self.proof.method}, {deletions:g} deletions"] = share
    return plots.curves_figure(
      radii,
      curves,
      xlabel=_unit(self) if self.radii.ndim == 1 else "additions",
      ylabel=what,
      title=f"{what}, with probability {_confidence(self)}",
      whole=self.noise.p == 0,
    )

  def save(self, path: "str | Path") -> None:
    """Stores it as an .npz file for `lrs-jax verify` and `lrs-jax card`: `front.saving.save`."""
    from lrs_jax.front import saving  # jobs are heavy

    saving.save(self, path)

  def __repr__(self) -> str:
    title, rows, notes = _table(self)
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = []
    for name, *values in rows:
      shown = [value.rjust(width) for value, width in zip(values, widths, strict=True)]
      lines.append("  ".join([name.ljust(first), *shown]))
    return "\n".join([title, *lines, *notes])

  def _repr_html_(self) -> str:
    title, rows, notes = _table(self)
    cells = ("".join(f"<td>{html.escape(text)}</td>" for text in row) for row in rows)
    table = "".join(f"<tr>{row}</tr>" for row in cells)
    below = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return f"<p><b>{html.escape(title)}</b></p><table>{table}</table>{below}"


# What a certificate shows of itself. Numbers are rounded down: they promise no more than is proven.


def _table(certified: Certified) -> tuple[str, list[list[str]], list[str]]:
  """Title, rows of equal length, and notes."""
  num_outputs, counted = certified.labels.size, int(certified.counted.sum())
  title = f"{num_outputs} outputs, {int((certified.labels < 0).sum())} abstain"
  if counted < num_outputs:
    title += f", {counted} counted"
  order = np.lexsort(np.atleast_2d(certified.radii.T)[::-1])  # by additions, then deletions
  shown = order[np.unique(np.linspace(0, len(order) - 1, 6).astype(int))] if len(order) else order
  rows = [
    [_unit(certified), *(_shown_radius(certified.radii[i]) for i in shown)],
    ["certified", *(str(int(certified.certified[i])) for i in shown)],
    [_what(certified), *(_percent(int(certified.certified[i]), counted) for i in shown)],
  ]
  samples = int(certified.estimation.num_samples), int(certified.selection.num_samples)
  family = certified.noise.family
  exact = "" if family.step is None else "exact "
  notes = [
    f"with probability {_confidence(certified)}; {samples[0]} samples, {samples[1]} to select; "
    f"{exact}{family.name} noise; {certified.proof.method}"
  ]
  if certified.base.forfeit:
    notes.append(f"{certified.base.forfeit} base certificates may be false, and are given up")
  if certified.view is not None:
    notes.append(f"if no output sees more than its view: {certified.view.origin}")
  elif certified.fields is not None:
    notes.append("if no output sees what the noise of its group hides")
  return title, rows, notes


def _unit(certified: Certified) -> str:
  if certified.radii.ndim == 2:
    return "additions, deletions"
  return f"l{certified.noise.p} radius" if certified.noise.p else "changed entries"


def _what(certified: Certified) -> str:
  return "share of outputs" if certified.truth is None else "certified accuracy"


def _confidence(certified: Certified) -> str:
  return _down(Decimal(1) - Decimal(repr(float(certified.alpha))))


def _shown_radius(radius: np.ndarray) -> str:
  return ", ".join(_down(Decimal(repr(float(part)))) for part in np.atleast_1d(radius))


def _down(number: Decimal) -> str:
  """Four digits, rounded down, without an exponent."""
  return f"{Context(prec=4, rounding=ROUND_FLOOR).plus(number).normalize():f}"


def _percent(part: int, whole: int) -> str:
  tenths = 1000 * part // whole if whole else 0
  return f"{tenths // 10}.{tenths % 10} %"
