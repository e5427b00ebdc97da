"""The README's picture of what is proven: noise, attack, and what is left between them.

    lrs-jax certify scenes --method milp
    python -m benchmarks.picture lrs-out/scenes --out benchmarks/results

draws picture.png of one image of that job: a noisy sample as one group of outputs sees it, the
split of a budget over the cells that breaks most base certificates, and at every budget what is
proven to survive any split.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrs_jax import noise, storage
from lrs_jax.evaluation import labels
from lrs_jax.jobs import records
from lrs_jax.tasks import images as jobs


def main(arguments: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("job", type=Path, help="results of a job with --method milp")
  parser.add_argument("--image", type=int, default=0, help="which of its images")
  parser.add_argument("--radius", type=float, help="of the attack that is shown")
  parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
  options = parser.parse_args(arguments)
  summary = json.loads((options.job / "summary.json").read_text())
  job = storage.from_plain(jobs.Config, summary["job"])
  image = jobs.load_images(job, "test", job.images).images[options.image]
  record = records.load(options.job / summary["inputs"][options.image] / "certificate.npz")
  options.out.mkdir(parents=True, exist_ok=True)
  figure(job, image, record, options.radius).savefig(options.out / "picture.png", dpi=110)


def figure(
  job: jobs.Config, image: np.ndarray, record: records.Record, radius: float | None
) -> Figure:
  groups, smoothing = record.groups.reshape(job.size), record.noise
  exact, naive = record.certified["all/milp"], record.certified["all/naive"]
  size = record.base.eta.size
  if radius is None:  # where half of the outputs are still certified
    i = int(np.flatnonzero(exact.certified >= min(size / 2, exact.certified.max()))[-1])
  else:
    i = int(np.abs(record.adversary.radii - radius).argmin())
  whole = Figure(figsize=(8, 6.4), layout="constrained")
  panels = whole.subplots(2, 2).ravel()
  group = int(groups.max()) // 2
  noisy = noise.sample(jax.random.key(0), smoothing, jnp.asarray(image), group)
  panels[0].imshow(image)
  panels[0].set_title("one input")
  panels[1].imshow(np.clip(noisy, 0, 1))
  panels[1].set_title("as the outputs in the red cell see it")
  panels[1].set_xlabel("little noise nearby, much far away", fontsize=9)
  _outline(panels[1], groups == group)
  _attack(panels[2], groups, exact, i, record.base.eta)
  panels[2].set_title(f"one budget, ε = {record.adversary.radii[i]:.2f}, split over the cells")
  assert exact.attack is not None
  found = ((record.base.eta > 0).sum() - exact.attack.num_attacked) / size
  _curves(
    panels[3], record.adversary.radii, exact.certified / size, naive.certified / size, found, i
  )
  panels[3].set_title(f"pixels that cannot change (level {1 - record.alpha:g})")
  for axes in panels[:3]:
    axes.set(xticks=[], yticks=[])
  for axes in panels:
    axes.title.set_fontsize(10)
  labels.name_curves(panels[3])
  return whole


def _curves(
  axes: Axes, radii: np.ndarray, proven: np.ndarray, alone: np.ndarray, found: np.ndarray, i: int
) -> None:
  """What is proven of all pixels and of each `alone`, up to what the best split `found` leaves."""
  steps = np.stack([radii[:-1], radii[1:]], axis=1).ravel()
  axes.fill_between(  # between two budgets: proven at the larger one, attacked at the smaller
    steps, np.repeat(proven[1:], 2), np.repeat(found[:-1], 2), color="0.75"
  )
  options = {"linewidth": 2, "drawstyle": "steps-pre"}
  label = "proven for any perturbation;\nin gray: up to the best split found"
  axes.plot(radii, proven, color="#0072B2", label=label, **options)
  label = "proven one pixel at a time"
  axes.plot(radii, alone, color="#E69F00", linestyle=":", label=label, **options)
  axes.axvline(radii[i], color="0.5", linewidth=1)
  axes.set(
    xlabel=r"$\ell_2$ budget ε of one perturbation of the image",
    ylabel="fraction",
    xlim=(0, radii[min(np.argmin(proven > 0) + 1, len(proven) - 1)]),
    ylim=(0, 1),
  )


def _attack(axes: Axes, groups: np.ndarray, exact: object, i: int, eta: np.ndarray) -> None:
  """Fallen, surviving and abstaining outputs, and the part of the budget spent in every cell."""
  attack = exact.attack  # type: ignore[attr-defined]
  kinds = np.where(attack.attacked[i], 2, np.where(eta > 0, 1, 0)).reshape(groups.shape)
  palette = matplotlib.colors.ListedColormap(["#BBBBBB", "#A6CEE3", "#D55E00"])
  axes.imshow(kinds, cmap=palette, vmin=0, vmax=2, interpolation="nearest")
  spent = attack.b[i, 0]
  for cell in np.unique(groups):
    row, column = np.argwhere(groups == cell).mean(axis=0)
    axes.text(column, row, f"{spent[cell] / max(spent.sum(), 1e-9):.0%}", ha="center", va="center")
    _outline(axes, groups == cell, color="white")
  axes.set_xlabel(
    "the split that breaks most base certificates (orange);\nblue ones hold, gray pixels abstain",
    fontsize=9,
  )


def _outline(axes: Axes, inside: np.ndarray, color: str = "red") -> None:
  (top, left), (bottom, right) = np.argwhere(inside).min(axis=0), np.argwhere(inside).max(axis=0)
  corners = [left, right + 1, right + 1, left, left], [top, top, bottom + 1, bottom + 1, top]
  axes.plot(*(np.array(line) - 0.5 for line in corners), color=color, linewidth=1.5)


if __name__ == "__main__":
  main()
