"""The `lrs-jax` command: its options are the fields of the tasks' configurations (host)."""

import argparse
import contextlib
import io
import json
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lrs_jax import arguments, tasks
from lrs_jax.jobs import (
  cards,
  counted,
  folders,
  machines,
  merging,
  networks,
  page,
  preparing,
  processes,
  reports,
  resampling,
  running,
  words,
)
from lrs_jax.tasks import TASKS, counts, denoising, options, templates
from lrs_jax.tasks.task import Config, Task


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit status: 0, 1 on any error, 130 on Ctrl-C."""
  before = signal.getsignal(signal.SIGTERM)
  try:
    machines.use_cores()
    words = sys.argv[1:] if arguments is None else arguments
    given = _parser(_jobs(words)).parse_args(words)
    if getattr(given, "coordinator", None) is not None:
      processes.start(given.coordinator, given.num_processes, given.process_id)
    signal.signal(signal.SIGTERM, _stop)
    status = _run(given)
    processes.leave()
    return status
  except (ValueError, OSError) as error:
    print(f"lrs-jax: error: {error}", file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    told = f"error: {lost}" if (lost := processes.lost()) else "interrupted"
    kept = "samples counted so far are kept for the same command."
    print(f"lrs-jax: {told}; {kept}", file=sys.stderr)
    return 1 if lost else 130
  finally:
    signal.signal(signal.SIGTERM, before)


def _run(given: argparse.Namespace) -> int:
  """Runs a command; --quiet leaves its files, its warnings and its errors, and nothing else."""
  if not getattr(given, "quiet", False):
    return given.run(given)
  with contextlib.ExitStack() as stack:
    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
    told = stack.enter_context(warnings.catch_warnings(record=True))
    if given.run is not _verify:  # which says there what it refuses, and draws no bars
      stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
    status = given.run(given)
  for warning in told:
    print(f"lrs-jax: warning: {warning.message}", file=sys.stderr)
  return status


def _stop(number: int, frame: object) -> None:
  """SIGTERM ends a job as Ctrl-C does, what was counted is kept; another one does not disturb."""
  signal.signal(number, signal.SIG_IGN)
  raise KeyboardInterrupt


class _Help(argparse.HelpFormatter):
  """Shows defaults as one would type them; what None does is for an option's help to say."""

  def _get_help_string(self, action: argparse.Action) -> str | None:
    help, default = super()._get_help_string(action), action.default
    if help is None or default is None or default is False or default is argparse.SUPPRESS:
      return help
    separator = "x" if "x" in str(action.metavar or "")[1:] else ","
    return f"{help} (default: {options.shown(default, separator).replace('%', '%%')})"


Jobs = Mapping[str, tuple[Task, Config]]
"""What `certify` and `train` take as DATA: a task, and the defaults of its options."""


def _jobs(arguments: Sequence[str]) -> Jobs:
  """The data set that is asked for, maybe the user's own, or all: their options take a while."""
  if not arguments or arguments[0] not in ("certify", "train"):
    return {}
  command, name, *others = (*arguments, "")
  known = {**TASKS, "denoising": denoising.TASK}  # which is but trained; and counts have no network
  del known["counts" if command == "train" else "denoising"]
  every = {name: (task, of) for task in known.values() for name, of in task.data.items()}
  if ":" in name or name.endswith(".py"):
    every[name] = tasks.find(name)
  if name not in every:
    return every
  task, default = every[name]
  file = argparse.ArgumentParser(add_help=False)
  file.add_argument("--config", type=Path)
  path = file.parse_known_args(others)[0].config
  return {name: (task, default if path is None else options.from_toml(path, default))}


def _parser(jobs: Jobs) -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="lrs-jax",
    description="Proves how many predictions of a multi-output model no single perturbation of its "
    "input can change, by localized randomized smoothing (arXiv 2210.16140).",
  )
  version = f"lrs-jax {machines.versions()['lrs_jax']}"
  parser.add_argument("--version", action="version", version=version)
  commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
  certify = _add_parser(commands, "certify", "train or load a network, sample, certify, draw")
  train = _add_parser(commands, "train", "only train the network that `certify` would use")
  for command, run in ((certify, _certify), (train, _train)):
    command.epilog = "DATA may also be a task of your own, FILE.py:TASK or MODULE:TASK."
    data = command.add_subparsers(dest="called", required=True, metavar="DATA")
    for name, (task, default) in jobs.items():
      counted = task is counts.TASK
      about = task.about[default.data].replace("%", "%%")
      job = _add_parser(data, name, about, formatter_class=_Help)
      job.set_defaults(run=_certify_counts if counted else run, job=(task, default))
      if counted:
        text = "what `lrs_jax.tasks.counts.read` describes: noise, cells, groups and votes"
        job.add_argument("file", metavar="FILE.npz", help=text)
        _add_certifying(job)
      elif command is certify:
        _add_run_options(job)
      _add_telling(job)
      _add_options(job, task, default)
  text = "write a task of your own to begin with, which runs as it is"
  init = _add_parser(commands, "init", text)
  init.add_argument("file", type=Path, metavar="FILE.py", help="to write; it must not exist")
  text = "what your model is written in (default: plain, a function of JAX)"
  init.add_argument("--model", choices=templates.NAMES, default="plain", help=text)
  init.set_defaults(run=_init)
  text = "add up samples that several machines counted with certify --sample-range, and certify"
  merge = _add_parser(commands, "merge", text)
  merge.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="folder, or .counts.npz")
  merge.add_argument("--out", type=Path, required=True, help="folder for the results")
  merge.add_argument("--model", type=Path, metavar="PATH", help="of the network; else as found")
  merge.add_argument("--data-dir", metavar="DIR", help="folder of the data, as of certify")
  _add_task(merge)
  _add_certifying(merge)
  _add_telling(merge)
  merge.set_defaults(run=_merge)
  text = "re-check stored certificates from their counts, without trusting a solver"
  verify = _add_parser(commands, "verify", text)
  verify.add_argument("paths", nargs="+", type=Path, metavar="PATH", help=".npz file, or a folder")
  verify.add_argument("--exact", action="store_true", help="in rational arithmetic (slow)")
  text = "draw so many samples again, from the job's network and data, and compare their votes"
  verify.add_argument("--resample", type=int, metavar="N", help=text)
  verify.add_argument("--model", type=Path, metavar="PATH", help="of --resample; else as found")
  verify.add_argument("--data-dir", metavar="DIR", help="of --resample, as of certify")
  _add_telling(verify)
  _add_task(verify)
  verify.set_defaults(run=_verify)
  text = "print what a stored certificate proves and assumes, once it is re-checked"
  card = _add_parser(commands, "card", text)
  card.add_argument("path", type=Path, metavar="PATH", help=".npz file")
  card.add_argument("--json", action="store_true", help="instead of Markdown")
  _add_task(card)
  card.set_defaults(run=_card)
  text = "write a finished job's report.html anew, once its certificates are re-checked"
  report = _add_parser(commands, "report", text)
  report.add_argument("path", type=Path, metavar="FOLDER", help="--out of the job")
  report.add_argument("--data-dir", metavar="DIR", help="folder of the data, as of certify")
  _add_task(report)
  report.set_defaults(run=_report)
  return parser


def _add_parser(commands: Any, name: str, text: str, **options: Any) -> argparse.ArgumentParser:
  description = f"{text[0].upper()}{text[1:]}."
  return commands.add_parser(name, help=text, description=description, **options)


def _add_task(parser: argparse.ArgumentParser) -> None:
  text = "a task of your own that it may be about, FILE.py:TASK or MODULE:TASK"
  parser.add_argument("--task", action="append", default=[], metavar="TASK", help=text)


def _known(given: argparse.Namespace) -> dict[str, Task]:
  """The package's tasks, and the user's."""
  return TASKS | {task.name: task for task, _ in map(tasks.find, given.task)}


def _add_certifying(parser: argparse.ArgumentParser) -> None:
  text = "replace results of another job that are under --out, which are refused otherwise"
  parser.add_argument("--force", action="store_true", help=text)
  text = (
    "processes that certify, several at a time and while the next input is sampled; 0: this one "
    "does it itself (default: one a core, 8 at most, for lp or milp of thousands of outputs)"
  )
  parser.add_argument("--solvers", type=arguments.number, metavar="N", help=text)


def _add_telling(parser: argparse.ArgumentParser) -> None:
  text = "print nothing but warnings and errors, and draw no bars"
  parser.add_argument("--quiet", action="store_true", help=text)
  text = "say afterwards what the words mean that were printed"
  parser.add_argument("--explain", action="store_true", help=text)


def _add_options(parser: argparse.ArgumentParser, task: Task, default: Config) -> None:
  """Adds where things are, and an option for every field of a configuration that is one."""
  add = parser.add_argument_group("where things are").add_argument
  add("--out", type=Path, default=Path("lrs-out") / default.data, help="folder for the results")
  text = (
    "file of one network for all smoothings, trained there if absent; by default OUT/models, "
    "named by what decides it"
  )
  if task is not counts.TASK:
    add("--model", type=Path, metavar="PATH", help=text)
  text = "defaults of the options below, such as the job.toml that every job leaves in --out"
  add("--config", type=Path, metavar="FILE.toml", help=text)
  given = options.of(default)
  names = dict.fromkeys(option.group for _, option in given.values())
  groups = {name: parser.add_argument_group(name) for name in names}
  for name, (kind, option) in given.items():
    how = arguments.of_field(kind, option, getattr(default, name))
    groups[option.group].add_argument(options.flag(name), **how)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
  _add_certifying(parser)
  add = parser.add_argument_group("long runs and several machines").add_argument
  text = "of sampling that a kill may cost"
  add("--checkpoint-interval", type=float, default=10.0, metavar="SECONDS", help=text)
  text = (
    "only count the samples FIRST, ..., END - 1 of --samples, for lrs-jax merge; the range "
    "that starts at 0 comes with --selection-samples. Give all machines the same --model"
  )
  add("--sample-range", type=arguments.sample_range, metavar="FIRST:END", help=text)
  text = (
    "deal the work out to several processes that share --out: where process 0 listens, or "
    "auto under Slurm, Open MPI, Kubernetes and on TPU pods"
  )
  add("--coordinator", metavar="HOST:PORT", help=text)
  add("--num-processes", type=int, metavar="P", help="with --coordinator HOST:PORT")
  add("--process-id", type=int, metavar="I", help="of this process, from 0")


def _job(given: argparse.Namespace) -> tuple[Task, Config]:
  task, default = given.job
  return task, default._replace(**{name: getattr(given, name) for name in options.of(default)})


def _certify(given: argparse.Namespace) -> int:
  how = {"interval": given.checkpoint_interval, "force": given.force}
  job = *_job(given), given.out, given.model
  if given.sample_range is None:
    _show(running.certify(*job, **how, solvers=given.solvers), given)
    return 0
  first, end = given.sample_range
  paths = running.count(*job, first=first, end=end, **how)
  print(f"counted samples {first} to {end - 1}: {len(paths)} files *.counts.npz in {given.out}")
  return 0


def _certify_counts(given: argparse.Namespace) -> int:
  _, config = _job(given)
  job = config._replace(file=given.file), given.out
  _show(counted.certify(*job, solvers=given.solvers, force=given.force), given)
  return 0


def _merge(given: argparse.Namespace) -> int:
  files = given.paths, given.out, given.model, given.data_dir
  how = {"solvers": given.solvers, "force": given.force}
  _show(merging.merge(_known(given), *files, **how), given)
  return 0


def _show(summary: Mapping[str, Any], given: argparse.Namespace) -> None:
  if not processes.is_first():
    return
  text = reports.table(summary)
  print(words.painted(text, sys.stdout))
  if given.explain:
    (ours, *_) = summary["smoothings"].values()
    print(f"\n{words.explain(text, summary['unit'], ours['perturbations'])}")
  told = "" if given.explain else " (--explain says what the words above mean)"
  print(f"\nresults in {given.out}: report.html to look at, summary.json, a folder per input{told}")


def _init(given: argparse.Namespace) -> int:
  path = given.file
  templates.write(path, given.model)
  when = "as soon as a model.onnx lies beside it" if given.model == "onnx" else "as it is"
  print(f"{path} is there to be changed. It runs {when}:")
  print(f"  lrs-jax certify {path}:TASK --images 'photos/*.png'")
  return 0


def _train(given: argparse.Namespace) -> int:
  task, config = _job(given)
  setting = preparing.load(task, config, given.out)
  for name, path in preparing.network_files(setting, given.model).items():
    found = networks.obtain(task, config, setting.data, name, path)
    done = f"trained in {found.seconds:.0f} s" if found.seconds else "was trained before"
    label = f" ({name})" if name else ""
    print(f"{path}{label}: {done}; SHA-256 of its arrays {found.digest}")
  return 0


def _verify(given: argparse.Namespace) -> int:
  failures, trusted, known, said = 0, dict[str, None](), _known(given), list[str]()
  for path in folders.find(given.paths):
    try:
      finding = folders.check(path, exact=given.exact, known=known)
      if given.resample is not None and finding.trusted:  # a certificate
        drawn = resampling.resample(path, given.resample, known, given.model, given.data_dir)
        finding = finding._replace(note=f"{finding.note}; {drawn}")
    except Exception as error:  # whatever this file does, the others are checked as well
      failures += 1
      told = str(error) if isinstance(error, ValueError | OSError) else repr(error)
      line = f"{path}: REFUSED: {' '.join(told.split())}"
      print(words.painted(line, sys.stderr), file=sys.stderr)
    else:
      print(words.painted(f"{path}: {finding.note}", sys.stdout))
      said.append(finding.note)
      trusted |= dict.fromkeys(finding.trusted)
  for text in trusted:
    print(f"taken on trust: {text}")
  if given.explain:
    told = " ".join([*said, *("taken on trust" for _ in trusted)])
    print(f"\n{words.explain(told)}")
  return 1 if failures else 0


def _report(given: argparse.Namespace) -> int:
  print(page.of_folder(given.path, _known(given), given.data_dir))
  return 0


def _card(given: argparse.Namespace) -> int:
  card = cards.of_file(given.path, known=_known(given))
  print(json.dumps(card, indent=2) if given.json else cards.markdown(card), end="")
  return 0
