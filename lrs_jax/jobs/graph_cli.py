"""The `lrs-jax` command on graphs: options, and what `certify` and `train` do with them (host)."""

import argparse
from pathlib import Path
from typing import Any

from lrs_jax.tasks import graphs as graph_jobs
from lrs_jax.tasks.graphs import GraphJob


def add_options(parser: argparse.ArgumentParser, default: GraphJob) -> None:
  """Adds the options of a graph job to a (sub)parser."""
  add = parser.add_argument_group("where things are").add_argument
  add("--data-dir", metavar="DIR", help="folder of the data; else LRS_JAX_DATA in the environment")
  add("--graph", metavar="FILE", help="any other graph of the same layout (.npz)")
  add("--binarize", action="store_true", help="turn attributes of --graph into 0 and 1")
  add("--out", type=Path, default=Path("lrs-out") / default.data, help="folder for the results")
  add(
    "--model",
    type=Path,
    metavar="PATH",
    help="file of one network for both smoothings, trained there if absent; by default each has "
    "its own under OUT/models",
  )
  add = parser.add_argument_group("flips").add_argument
  add("--clusters", type=int, default=default.clusters, help="clusters of nodes")
  add(
    "--partition",
    choices=("spectral", "metis"),
    default=default.partition,
    help="metis needs the package pymetis",
  )
  for sign, verb in (("plus", "add an attribute"), ("minus", "delete one")):
    add(
      f"--theta-{sign}",
      type=_range,
      default=getattr(default, f"theta_{sign}"),
      metavar="LOW,HIGH",
      help=f"probability to {verb}: in a group's own cluster, and in the least affine one",
    )
    add(
      f"--isotropic-theta-{sign}",
      type=float,
      metavar="P",
      help=f"of the isotropic baseline; by default the low end of --theta-{sign}",
    )
  add = parser.add_argument_group("network and training").add_argument
  add(
    "--model-name",
    choices=("appnp", "gcn", "gcn6", "gat"),
    default=default.model_name,
    help="architecture",
  )
  add("--per-class", type=int, default=default.per_class, help="training nodes of every class")
  add("--steps", type=int, default=default.steps, help="gradient steps at most")
  add("--learning-rate", type=float, default=default.learning_rate, help="of Adam")
  add("--seed", type=int, default=default.seed, help="of split, clusters, training and sampling")
  add = parser.add_argument_group("certificate").add_argument
  add(
    "--alpha",
    type=float,
    default=default.alpha,
    help="probability that anything certified is wrong, all nodes and budgets together",
  )
  add("--samples", type=int, default=default.samples, help="that bound a node's class")
  add(
    "--selection-samples",
    type=int,
    default=default.selection_samples,
    help="that choose class and statistic",
  )
  add(
    "--scores",
    type=_names,
    default=default.scores,
    metavar="NAME,...",
    help="statistics that each node may choose from: votes, kl, bernstein",
  )
  add(
    "--orders",
    type=_orders,
    default=default.orders,
    metavar="ORDER,...",
    help="Rényi orders whose base certificates are combined too; each budget takes the best",
  )
  add(
    "--budgets",
    type=_counts,
    default=default.budgets,
    metavar="A,D",
    help="all of 0..A additions and 0..D deletions",
  )
  add(
    "--method",
    choices=("envelope", "milp"),
    default=default.method,
    help="milp: exact certificates too, on the axes and a coarse grid",
  )
  add("--bins", type=int, default=default.bins, help="thresholds per group in lp; by default all")
  add("--time-limit", type=float, default=default.time_limit, help="seconds per budget")
  add(
    "--precision",
    choices=("float32", "tensorfloat32", "bfloat16"),
    default=default.precision,
    help="of products on accelerators, recorded in the result",
  )
  parser.set_defaults(data=default.data)


def job_from(options: argparse.Namespace) -> GraphJob:
  """The job that parsed options describe."""
  return GraphJob(**{name: getattr(options, name) for name in GraphJob._fields})


def certify(options: argparse.Namespace) -> int:
  """Runs `lrs-jax certify GRAPH`; returns the exit status."""
  from lrs_jax.jobs import graph_runs

  summary = graph_runs.certify_graph(
    job_from(options), options.out, options.model, force=options.force
  )
  print(graph_runs.table(summary))
  print(f"\nresults in {options.out}: summary.json, figures, and a folder with the certificates")
  return 0


def train(options: argparse.Namespace) -> int:
  """Runs `lrs-jax train GRAPH`; returns the exit status."""
  job = job_from(options)
  graph_jobs.check(job)
  data = graph_jobs.load(job)
  for name, flips in graph_jobs.smoothings(job, data).items():
    path = options.model or graph_jobs.model_path(job, flips, data, options.out)
    seconds, _, digest = graph_jobs.obtain_model(job, data, flips, name, path)
    done = f"trained in {seconds:.0f} s" if seconds else "was trained before"
    print(f"{path} ({name}): {done}; SHA-256 of its arrays {digest}")
  return 0


def _range(text: str) -> tuple[float, float]:
  try:
    numbers = [float(part) for part in text.split(",")]
  except ValueError:
    numbers = []
  if len(numbers) not in (1, 2):
    raise argparse.ArgumentTypeError(f"expected one number, or two as in 0.6,0.95, not {text!r}")
  return numbers[0], numbers[-1]


def _orders(text: str) -> tuple[float, ...]:
  try:
    return tuple(float(part) for part in text.split(",") if part)
  except ValueError:
    raise argparse.ArgumentTypeError(f"expected numbers such as 1,2,1000, not {text!r}") from None


def _counts(text: str) -> tuple[int, int]:
  first, _, second = text.partition(",")
  if not (first.isdigit() and second.isdigit()):
    raise argparse.ArgumentTypeError(f"expected two numbers such as 50,50, not {text!r}")
  return int(first), int(second)


def _names(text: str) -> tuple[str, ...]:
  names: Any = tuple(text.split(","))
  known = ("votes", "kl", "bernstein")
  if not set(names) <= set(known):
    raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}, not {text!r}")
  return names
