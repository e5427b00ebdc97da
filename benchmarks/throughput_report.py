"""Table and figure of what `benchmarks.throughput` measured."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

PUBLISHED_JOB_SECONDS = 1475
"""Per Cityscapes image, from the log of the paper's implementation."""


def write(results: Mapping[str, Any], out: Path) -> None:
  (out / "throughput.md").write_text(table(results))
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
  """What there is of four panels."""
  shown = [name for name in PANELS if name in results]
  height = 2 if len(shown) > 3 else 1
  width = max(1, -(-len(shown) // height))
  made = Figure(figsize=(11 if height == 2 else 4.7 * width, 3.5 * height), layout="constrained")
  axes = made.subplots(height, width, squeeze=False).ravel()
  for ax, name in zip(axes, shown, strict=False):
    section = results[name]
    ax.set_title(TITLES[name], fontsize=10)
    if "skipped" in section:
      ax.text(0.5, 0.5, f"not measured\n{section['skipped']}", ha="center", va="center", fontsize=8)
      ax.set_axis_off()
    else:
      PANELS[name](ax, section)
  return made


def draw_naive(ax: Axes, section: Mapping[str, Any]) -> None:
  names = [row["name"] for row in section["rows"]]
  rates = [row["outputs_per_second"] for row in section["rows"]]
  bars = ax.barh(names, rates)
  labels = [f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}" for rate in rates]
  ax.bar_label(bars, labels, padding=3, fontsize=8)
  ax.set_xscale("log")
  ax.set_xlabel(f"outputs per second, {section['rows'][0]['samples']} samples each")
  ax.margins(x=0.2)


def draw_bare(ax: Axes, section: Mapping[str, Any]) -> None:
  shown = [row for row in section["rows"] if row["subject"] != "bare model"]
  several = len({row["allocator"] for row in shown}) > 1
  names = [
    f"{row['subject']}\n{by(row['size'])}{', ' + row['allocator'] if several else ''}"
    for row in shown
  ]
  bars = ax.barh(names, [row["ratio"] for row in shown])
  ax.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
  ax.axvline(1, color="black", lw=0.8)
  ax.tick_params(axis="y", labelsize=7)
  ax.set_xlabel("evaluations per second / those of the bare model")
  ax.margins(x=0.1)


def draw_pytorch(ax: Axes, section: Mapping[str, Any]) -> None:
  best: dict[str, float] = {}
  for row in section["rows"]:
    if "batch_size" in row:
      kind = "model alone" if "alone" in row["name"] else "sampling"
      name = f"PyTorch, {kind}"
    else:
      name = row["name"]
    best[name] = min(best.get(name, float("inf")), row["seconds_per_evaluation"] * 1e3)
  bars = ax.barh(list(best), list(best.values()))
  ax.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
  ax.tick_params(axis="y", labelsize=7)
  ax.set_xlabel("ms per evaluation, in the best format, batch and allocator")
  ax.margins(x=0.1)


def draw_scaling(ax: Axes, section: Mapping[str, Any]) -> None:
  names = {"simulated_devices": "simulated devices", "chunk_sizes": "chunk size"}
  if len(section["devices_there"]) > 1:
    names["devices_there"] = "devices"
  ticks: set[int] = set()
  for name, label in names.items():
    if found := section[name]:
      first, numbers = found[0]["samples_per_second"], [int(row["name"]) for row in found]
      ax.plot(numbers, [row["samples_per_second"] / first for row in found], "o-", label=label)
      ticks |= set(numbers)
  ax.set_xscale("log", base=2)
  ax.set_xticks(sorted(ticks), [str(tick) for tick in sorted(ticks)])
  ax.set_ylim(0, 1.1 * ax.get_ylim()[1])
  ax.set_xlabel("devices, or samples in a chunk")
  ax.set_ylabel("samples per second / those of the first")
  ax.legend(loc="lower right")


PANELS: dict[str, Callable[[Axes, Mapping[str, Any]], None]] = {
  "naive": draw_naive,
  "bare": draw_bare,
  "pytorch": draw_pytorch,
  "scaling": draw_scaling,
}
