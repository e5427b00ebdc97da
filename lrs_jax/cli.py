"""The `lrs-jax` command."""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from lrs_jax.jobs import graph_cli, processes
from lrs_jax.tasks import graphs as graph_jobs
from lrs_jax.tasks import images as jobs

Run = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit status: 0, 1 on bad input, 130 on Ctrl-C."""
  options = _parser().parse_args(arguments)
  before = signal.getsignal(signal.SIGTERM)
  try:
    if getattr(options, "coordinator", None) is not None:
      processes.start(options.coordinator, options.num_processes, options.process_id)
    signal.signal(signal.SIGTERM, _stop)  # after JAX's runtime has set its own
    return options.run(options)
  except (ValueError, OSError) as error:
    print(f"lrs-jax: error: {error}", file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print(
      "lrs-jax: interrupted; samples counted so far are kept for the same command.", file=sys.stderr
    )
    return 130
  finally:
    signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: object) -> None:
  """SIGTERM ends a job as Ctrl-C does: what was counted is kept."""
  raise KeyboardInterrupt


class _Help(argparse.HelpFormatter):
  """Shows defaults as one would type them; what None does is for an option's help to say."""

  def _get_help_string(self, action: argparse.Action) -> str | None:
    help, default = super()._get_help_string(action), action.default
    if help is None or default is None or default is False or default is argparse.SUPPRESS:
      return help
    if isinstance(default, tuple):
      default = ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in default)
    return f"{help} (default: {str(default).replace('%', '%%')})"


def _version() -> str:
  try:
    return metadata.version("lrs_jax")
  except metadata.PackageNotFoundError:
    return "not installed"


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="lrs-jax",
    description="Proves how many predictions of a multi-output model no single perturbation of its "
    "input can change, by localized randomized smoothing (arXiv 2210.16140).",
  )
  parser.add_argument("--version", action="version", version=f"lrs-jax {_version()}")
  commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

  def add_command(name: str, text: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=text, description=_sentence(text))

  certify = add_command("certify", "train or load a network, sample, certify, draw")
  train = add_command("train", "only train the network that `certify` would use")
  for command, run, run_graph in (
    (certify, _certify, graph_cli.certify),
    (train, _train, graph_cli.train),
  ):
    data = command.add_subparsers(dest="data", required=True, metavar="DATA")
    for name, text in (
      ("scenes", "handwritten digits on textured canvases: embedded, no download"),
      ("camvid", "street scenes; --data-dir holds camvid/{train,val,test}{,annot}"),
      ("voc", "Pascal VOC 2012; --data-dir holds VOCdevkit/VOC2012; certifies validation images"),
      (
        "cityscapes",
        "street scenes; --data-dir holds leftImg8bit and gtFine; certifies validation images",
      ),
    ):
      images = data.add_parser(name, help=text, description=_sentence(text), formatter_class=_Help)
      _add_image_options(images, jobs.DEFAULTS[name], run)
      if command is certify:
        _add_run_options(images)
    for name, default in graph_jobs.DEFAULTS.items():
      text = f"citation graph; --data-dir holds {name}.npz, or --graph FILE"
      graph = data.add_parser(name, help=text, description=_sentence(text), formatter_class=_Help)
      graph_cli.add_options(graph, default)
      if command is certify:
        _add_force(graph)
      graph.set_defaults(run=run_graph)
  merge = add_command(
    "merge", "add up samples that several machines counted with certify --sample-range, and certify"
  )
  merge.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="folder, or .counts.npz")
  merge.add_argument("--out", type=Path, required=True, help="folder for the results")
  merge.add_argument(
    "--model", type=Path, metavar="PATH", help="file of the network; else as found"
  )
  merge.add_argument("--data-dir", metavar="DIR", help="folder of the data, as of certify")
  _add_force(merge)
  merge.set_defaults(run=_merge)
  verify = add_command(
    "verify", "re-check stored certificates from their counts, without trusting a solver"
  )
  verify.add_argument("paths", nargs="+", type=Path, metavar="PATH", help=".npz file, or a folder")
  verify.add_argument("--exact", action="store_true", help="in rational arithmetic (slow)")
  verify.set_defaults(run=_verify)
  card = add_command(
    "card", "print what a stored certificate proves and assumes, once it is re-checked"
  )
  card.add_argument("path", type=Path, metavar="PATH", help=".npz file")
  card.add_argument("--json", action="store_true", help="instead of Markdown")
  card.set_defaults(run=_card)
  return parser


def _sentence(text: str) -> str:
  return f"{text[0].upper()}{text[1:]}."


def _add_force(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "--force",
    action="store_true",
    help="replace results of another job that are under --out, which are refused otherwise",
  )


def _add_image_options(parser: argparse.ArgumentParser, default: jobs.ImageJob, run: Run) -> None:
  add = parser.add_argument_group("where things are").add_argument
  add("--data-dir", metavar="DIR", help="folder of the data; else LRS_JAX_DATA in the environment")
  add("--out", type=Path, default=Path("lrs-out") / default.data, help="folder for the results")
  add(
    "--model",
    type=Path,
    metavar="PATH",
    help="file of the network, trained there if absent; by default OUT/models, named by what "
    "decides it",
  )
  add = parser.add_argument_group("images").add_argument
  add(
    "--size",
    type=_pair,
    default="{}x{}".format(*default.size),
    metavar="HxW",
    help="pixels, images are resized",
  )
  add("--images", type=int, default=default.images, help="test images to certify")
  add = parser.add_argument_group(
    "noise", "Standard deviations are on the input's own scale, which is [0, 1]."
  ).add_argument
  add(
    "--grid",
    type=_pair,
    default="{}x{}".format(*default.grid),
    metavar="RxQ",
    help="cells, rows by columns",
  )
  add("--std-min", type=float, default=default.std_min, help="noise in a group's own cell")
  add("--std-max", type=float, default=default.std_max, help="noise in the farthest cell")
  add(
    "--interpolation",
    choices=("std", "variance"),
    default=default.interpolation,
    help="what grows linearly with the Chebyshev distance between cells",
  )
  add(
    "--reach",
    choices=("grid", "border"),
    default=default.reach,
    help="where std-max is reached: at the largest distance in the grid, or at every group's "
    "farthest cell",
  )
  add(
    "--hide-beyond",
    type=float,
    default=default.hide_beyond,
    metavar="CELLS",
    help="hide cells farther away than this from the group (strictly local); by default none",
  )
  add(
    "--isotropic-std",
    type=float,
    default=default.isotropic_std,
    metavar="STD",
    help="noise of the isotropic baseline; by default --std-min",
  )
  add = parser.add_argument_group("network and training").add_argument
  add(
    "--network",
    choices=tuple(jobs.NETWORKS),
    default=default.network,
    help="U-Net, or DeepLabv3's atrous convolutions at 1/8 of the resolution",
  )
  add(
    "--width",
    type=int,
    default=default.width,
    help="channels of unet at full resolution, of deeplab at a half of it",
  )
  add(
    "--depth",
    type=int,
    default=default.depth,
    help="poolings of unet, residual blocks per stage of deeplab",
  )
  add(
    "--train-split",
    default=default.train_split,
    help="what to train on; for voc also trainaug, with SegmentationClassAug",
  )
  add("--steps", type=int, default=default.steps, help="gradient steps")
  add("--batch-size", type=int, default=default.batch_size, help="images per step")
  add("--learning-rate", type=float, default=default.learning_rate, help="peak of the schedule")
  add("--seed", type=int, default=default.seed, help="of training and of sampling")
  add = parser.add_argument_group("certificate").add_argument
  add(
    "--alpha",
    type=float,
    default=default.alpha,
    help="probability that anything certified for an image is wrong, all pixels and budgets "
    "together",
  )
  add("--samples", type=int, default=default.samples, help="votes per pixel that bound its class")
  add(
    "--selection-samples",
    type=int,
    default=default.selection_samples,
    help="further votes per pixel that choose its class",
  )
  add(
    "--budgets",
    type=_numbers,
    default=default.budgets,
    metavar="E,E,...",
    help="l2 radii of the perturbation of the whole image, instead of an average radius; by "
    "default 41 from 0 to where nothing can be certified",
  )
  add(
    "--method",
    choices=("naive", "lp", "envelope", "milp"),
    default=default.method,
    help="how base certificates are combined; naive, lp (the paper's) and envelope are always "
    "reported, milp (exact up to --gap, seconds per budget) only if asked for",
  )
  add("--bins", type=int, default=default.bins, help="thresholds per group in lp; by default all")
  add(
    "--gap",
    type=float,
    default=default.gap,
    help="milp: part of the pixels by which the bound may exceed the best attack found",
  )
  add(
    "--time-limit",
    type=float,
    default=default.time_limit,
    help="seconds per budget; by default none",
  )
  add(
    "--precision",
    choices=("float32", "tensorfloat32", "bfloat16"),
    default=default.precision,
    help="of products and convolutions on accelerators, recorded in the result",
  )
  parser.set_defaults(run=run, data=default.data)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
  _add_force(parser)
  add = parser.add_argument_group("long runs and several machines").add_argument
  add(
    "--checkpoint-interval",
    type=float,
    default=10.0,
    metavar="SECONDS",
    help="of sampling that a kill may cost",
  )
  add(
    "--sample-range",
    type=_sample_range,
    metavar="FIRST:END",
    help="only count the samples FIRST, ..., END - 1 of --samples, for lrs-jax merge; the range "
    "that starts at 0 comes with --selection-samples. Give all machines the same --model",
  )
  add(
    "--coordinator",
    metavar="HOST:PORT",
    help="deal the images out to several processes that share --out: where process 0 listens, or "
    "auto under Slurm, Open MPI, Kubernetes and on TPU pods",
  )
  add("--num-processes", type=int, metavar="P", help="with --coordinator HOST:PORT")
  add("--process-id", type=int, metavar="I", help="of this process, from 0")


def _job(options: argparse.Namespace) -> jobs.ImageJob:
  return jobs.ImageJob(**{name: getattr(options, name) for name in jobs.ImageJob._fields})


def _certify(options: argparse.Namespace) -> int:
  from lrs_jax.jobs import runs

  job, interval, force = _job(options), options.checkpoint_interval, options.force
  if options.sample_range is None:
    summary = runs.certify_images(job, options.out, options.model, interval=interval, force=force)
    _show(summary, options.out)
    return 0
  first, end = options.sample_range
  paths = runs.count_images(
    job, options.out, options.model, first=first, end=end, interval=interval, force=force
  )
  print(f"counted samples {first} to {end - 1}: {len(paths)} files *.counts.npz in {options.out}")
  return 0


def _merge(options: argparse.Namespace) -> int:
  from lrs_jax.jobs import merging

  summary = merging.merge_images(
    options.paths, options.out, options.model, options.data_dir, force=options.force
  )
  _show(summary, options.out)
  return 0


def _show(summary: Mapping[str, Any], out: Path) -> None:
  from lrs_jax.jobs import reports

  if processes.is_first():
    print(reports.table(summary))
    print(f"\nresults in {out}: summary.json, curves.png, noise.png, and a folder per image")


def _train(options: argparse.Namespace) -> int:
  from lrs_jax.jobs import runs

  job = _job(options)
  jobs.check(job)
  seconds, _, digest = runs.obtain_model(job, options.out, options.model)
  path = options.model or jobs.model_path(job, options.out)
  done = f"trained in {seconds:.0f} s" if seconds else "was trained before"
  print(f"{path}: {done}; SHA-256 of its arrays {digest}")
  return 0


def _verify(options: argparse.Namespace) -> int:
  from lrs_jax.jobs import folders

  failures, trusted = 0, dict[str, None]()
  for path in folders.find(options.paths):
    try:
      finding = folders.check(path, exact=options.exact)
    except Exception as error:  # whatever this file does, the others are checked as well
      failures += 1
      told = str(error) if isinstance(error, ValueError | OSError) else repr(error)
      print(f"{path}: REFUSED: {' '.join(told.split())}", file=sys.stderr)
    else:
      print(f"{path}: {finding.note}")
      trusted |= dict.fromkeys(finding.trusted)
  for text in trusted:
    print(f"taken on trust: {text}")
  return 1 if failures else 0


def _card(options: argparse.Namespace) -> int:
  from lrs_jax.jobs import cards

  card = cards.of_file(options.path)
  print(json.dumps(card, indent=2) if options.json else cards.markdown(card), end="")
  return 0


def _sample_range(text: str) -> tuple[int, int]:
  first, _, end = text.partition(":")
  if not (first.isdigit() and end.isdigit()):
    raise argparse.ArgumentTypeError(f"expected two numbers such as 0:5000, not {text!r}")
  return int(first), int(end)


def _pair(text: str) -> tuple[int, int]:
  first, _, second = text.lower().partition("x")
  if not (first.isdigit() and second.isdigit()):
    raise argparse.ArgumentTypeError(f"expected two numbers such as 64x96, not {text!r}")
  return int(first), int(second)


def _numbers(text: str) -> tuple[float, ...]:
  try:
    return tuple(float(part) for part in text.split(","))
  except ValueError:
    raise argparse.ArgumentTypeError(
      f"expected numbers with commas between them, such as 0,0.25,0.5, not {text!r}"
    ) from None


if __name__ == "__main__":
  sys.exit(main())
