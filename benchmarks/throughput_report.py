"""Table and figure of what `benchmarks.throughput` measured."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lrs_jax.evaluation import plots

PUBLISHED_JOB_SECONDS = 1475
"""Per Cityscapes image, from the log of the paper's implementation."""


def write(results: Mapping[str, Any], out: Path) -> None:
  (out / "throughput.md").write_text(table(results))
  if least_ratios(results):
    figure(results).savefig(out / "throughput.png", dpi=130)


def table(results: Mapping[str, Any]) -> str:
  """Markdown: one table or more for every section there is."""
  lines = ["# Throughput", "", "Medians over turns, without compilation."]
  for name, section in results.items():
    lines += ["", f"## {TITLES[name]}", ""]
    if "skipped" in section:
      lines += [f"Not measured: {section['skipped']}."]
      continue
    network = "" if name == "graphs" else f" {unet(section['sizes'])}"
    lines += [conditions(section) + network, "", *TABLES[name](section)]
  return "\n".join(lines) + "\n"


def conditions(section: Mapping[str, Any]) -> str:
  return (
    f"{section['device']}, {section['cores']} cores (load average before: "
    f"{section['load_before']:.1f}), {section['precision']}, jax {section['versions']['jax']}."
  )


def unet(sizes: Mapping[str, Any]) -> str:
  return f"U-Net of width {sizes['width']} and depth {sizes['depth']}."


def naive(section: Mapping[str, Any]) -> list[str]:
  row = section["rows"][-1]
  return [
    f"Images {by(section['sizes']['size'])}, grid {by(section['sizes']['grid'])}, "
    f"{row['samples']} samples for each output. Counts of {len(section['counts_identical_for'])} "
    f"outputs are identical; the time for all {row['outputs']:,} is extrapolated from them.",
    "",
    *rows(
      ("", "outputs timed", "outputs / s", "s for all outputs", "lrs_jax is faster by"),
      (
        (
          row["name"],
          f"{row['outputs']:,}",
          f"{row['outputs_per_second']:,.3g}",
          f"{row['extrapolated_seconds']:,.3g}",
          f"{row['ratio']:,.3g}",
        )
        for row in section["rows"]
      ),
    ),
  ]


def bare(section: Mapping[str, Any]) -> list[str]:
  return rows(
    ("images", "allocator", "", "chunk", "ms / evaluation", "ratio to the bare model", "compile s"),
    (
      (
        by(row["size"]),
        row["allocator"],
        row["subject"],
        str(row["chunk_size"]),
        milliseconds(row),
        f"{row['ratio']:.2f}",
        f"{row['compile_seconds']:.1f}",
      )
      for row in section["rows"]
    ),
  )


def pytorch(section: Mapping[str, Any]) -> list[str]:
  torch = next(row for row in section["rows"] if "torch" in row)
  return [
    f"Images {by(section['sizes']['size'])}, grid {by(section['sizes']['grid'])}; PyTorch "
    f"{torch['torch']} with {torch['threads']} threads; logits differ by "
    f"{max(row.get('logits_difference', 0) for row in section['rows']):.1g} of the greatest.",
    "",
    *rows(
      ("allocator", "", "ms / evaluation", "of lrs_jax in windows"),
      (
        (row["allocator"], row["name"], milliseconds(row), f"{row['ratio']:.2f}")
        for row in section["rows"]
      ),
    ),
  ]


def scaling(section: Mapping[str, Any]) -> list[str]:
  heads = {
    "simulated_devices": f"simulated devices ({section['simulated_on']})",
    "devices_there": "devices",
    "chunk_sizes": "chunk size",
    "image_sizes": "image size",
    "samples": "samples",
  }
  sizes = section["sizes"]
  small, size = by(sizes["sizes"][0]), by(sizes["size"])
  apart, peaks = "", "The peak"
  if section["simulated_devices"] or section["samples"]:
    apart = f"{small} over simulated devices (chunks of 1) and samples, "
    peaks = (
      "Each number of simulated devices and of samples has a process of its own; elsewhere the peak"
    )
  lines = [
    f"In windows, grid {by(sizes['grid'])}; images {apart}{size} over devices and chunk sizes. "
    f"{peaks} is that of all rows so far.",
    "",
  ]
  for name, head in heads.items():
    if not section[name]:
      continue
    lines += rows(
      (head, "devices used", "samples / s", "ms / evaluation", "compile s", "peak MiB"),
      (
        (
          row["name"],
          str(row["devices"]),
          f"{row['samples_per_second']:.3g}",
          milliseconds(row),
          f"{row['compile_seconds']:.1f}",
          f"{row['peak_bytes'] / 2**20:,.0f}",
        )
        for row in section[name]
      ),
    )
    lines.append("")
  return lines[:-1]


def graphs(section: Mapping[str, Any]) -> list[str]:
  return rows(
    ("clusters", "nodes", "sparse, evaluations / s", "dense, evaluations / s", "ratio"),
    (
      (
        str(row["clusters"]),
        f"{row['nodes']:,}",
        f"{row['sparse_samples_per_second'] * row['clusters']:.3g}",
        f"{row['dense_samples_per_second'] * row['clusters']:.3g}",
        f"{row['ratio']:.1f}",
      )
      for row in section["rows"]
    ),
  )


def job(section: Mapping[str, Any]) -> list[str]:
  sizes, measured = section["sizes"], section["measured_seconds"]
  lines = rows(
    ("", "ms / evaluation", "projected s / image"),
    (
      (row["name"], milliseconds(row), f"{row['projected_seconds']:,.0f}")
      for row in section["rows"]
    ),
  )
  done = "Not run whole." if measured is None else f"Run whole, in windows: {measured:,.0f} s."
  return [
    f"Image {by(sizes['job_size'])}, grid {by(sizes['job_grid'])}, {sizes['job_samples']:,} "
    f"samples per cell: {section['evaluations_per_image']:,} evaluations. {done} The published "
    f"implementation's log: {PUBLISHED_JOB_SECONDS:,} s.",
    "",
    *lines,
  ]


TITLES = {
  "naive": "Against naive per-output smoothing",
  "bare": "Against the bare model",
  "pytorch": "Against PyTorch",
  "scaling": "Scaling",
  "graphs": "Graphs: sparse against dense flips",
  "job": "A whole Cityscapes-sized image",
}
TABLES: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
  made.__name__: made for made in (naive, bare, pytorch, scaling, graphs, job)
}


def rows(head: tuple[str, ...], cells: Iterable[tuple[str, ...]]) -> list[str]:
  ruler = "| --- |" + " ---: |" * (len(head) - 1)
  return [f"| {' | '.join(head)} |", ruler, *(f"| {' | '.join(row)} |" for row in cells)]


def milliseconds(row: Mapping[str, Any]) -> str:
  return f"{row['seconds_per_evaluation'] * 1e3:.3g}"


def by(size: Iterable[int]) -> str:
  return "×".join(map(str, size))


def figure(results: Mapping[str, Any]) -> Figure:
  """How many times as fast sampling in windows is as what it was compared with, on a log scale."""
  made = Figure(figsize=(6.4, 3.2), layout="constrained")
  axes = made.subplots()
  ratios = least_ratios(results)
  told = [_times(ratio) for ratio in ratios.values()]
  bars = axes.barh(list(ratios), [r - 1 for r in ratios.values()], left=1, color=plots.COLORS[0])
  axes.bar_label(bars, [f"{times}×" for times in told], padding=4, fontsize=10)
  axes.axvline(1, color="black", linewidth=0.8)
  axes.set_xscale("log")
  axes.xaxis.set_major_formatter("{x:,g}")
  axes.set_xlim(min([0.8, *(r / 2 for r in ratios.values())]), 10 * max([1, *ratios.values()]))
  axes.set_xlabel("times as fast; the least that was measured")
  axes.invert_yaxis()
  axes.spines[["top", "right", "left"]].set_visible(False)
  made.suptitle("How many times as fast lrs_jax samples in windows as others do", fontsize=11)
  axes.set_title(_where(results), fontsize=8, color="0.3")
  return made


def least_ratios(results: Mapping[str, Any]) -> dict[str, float]:
  """What sampling in windows was compared with -> the least of its ratios in the tables."""
  found: dict[str, list[float]] = {}
  for name, (section, of) in RIVALS.items():
    for row in results.get(section, {}).get("rows", ()):
      if of(row, results[section]["sizes"]):
        found.setdefault(name, []).append(row["ratio"])
  return {name: min(ratios) for name, ratios in found.items()}


RIVALS: dict[str, tuple[str, Callable[[Mapping[str, Any], Mapping[str, Any]], bool]]] = {
  "PyTorch, the model alone": (
    "pytorch",
    lambda row, sizes: "batch_size" in row and "alone" in row["name"],
  ),
  "JAX, the model alone,\ncompiled": (
    "bare",
    lambda row, sizes: row["subject"] == "loop in windows" and by(row["size"]) == by(sizes["size"]),
  ),
  "PyTorch, the same sampling": (
    "pytorch",
    lambda row, sizes: "batch_size" in row and "alone" not in row["name"],
  ),
  "JAX, noise and model calls for\neach pixel, compiled (extrapolated)": (
    "naive",
    lambda row, sizes: row["name"] == "compiled, vmapped",
  ),
}
"""Name in the figure -> section, and which of its rows have the ratio, given the sizes."""


def _times(ratio: float) -> str:
  return f"{float(f'{ratio:.3g}'):,.0f}" if ratio >= 100 else f"{ratio:.1f}"


def _where(results: Mapping[str, Any]) -> str:
  """Images and devices of what is compared."""
  there = [results[section] for section, _ in RIVALS.values() if "rows" in results.get(section, {})]
  sizes = sorted({by(section["sizes"]["size"]) for section in there})
  devices = sorted({f"{section['device']}, {section['cores']} cores" for section in there})
  return f"{unet(there[0]['sizes'])}\nImages of {', '.join(sizes)}; {'; '.join(devices)}"
