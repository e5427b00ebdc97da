"""The documented example of a task runs as CONTRIBUTING says, in the package or outside of it."""

import runpy
from pathlib import Path

import pytest

from lrs_jax import cli
from lrs_jax.tasks import TASKS, find

FILE = Path(__file__).parents[1] / "docs" / "toy_task.py"
TASK = runpy.run_path(str(FILE))["TASK"]


def test_one_file_and_one_entry_make_a_task(tmp_path, capsys, monkeypatch):
  monkeypatch.setitem(TASKS, TASK.name, TASK)
  assert cli.main(["certify", "strips", "--samples", "200", "--out", str(tmp_path)]) == 0
  told = capsys.readouterr().out
  assert "localized, envelope" in told
  assert cli.main(["verify", str(tmp_path)]) == 0
  assert capsys.readouterr().out.count("proven") == 4


def test_a_task_may_stay_where_it_is(tmp_path, capsys):
  """Through the verbs, by the name of its file; what checks its records has to be told of it."""
  name, out, parts = f"{FILE}:TASK", tmp_path / "out", tmp_path / "parts"
  options = ["--strips", "1", "--samples", "200"]
  assert cli.main(["train", name, *options, "--out", str(parts)]) == 0
  assert cli.main(["certify", name, *options, "--out", str(out)]) == 0
  for samples in ("0:80", "80:200"):
    of_range = [*options, "--sample-range", samples, "--out", str(parts)]
    assert cli.main(["certify", name, *of_range]) == 0
  own = ["--task", name]
  assert cli.main(["merge", str(parts), "--out", str(tmp_path / "merged"), *own]) == 0
  certificate = out / "strip-0" / "certificate.npz"
  capsys.readouterr()
  assert cli.main(["card", str(certificate), *own]) == 0
  assert "With probability at least" in capsys.readouterr().out
  assert cli.main(["verify", str(out), *own]) == 0
  assert "not those of this version" not in capsys.readouterr().out
  assert cli.main(["verify", str(out)]) == 1
  told = capsys.readouterr()
  assert told.out.count("proven") == 2  # the certificates are, whoever made them
  assert told.err.count("say where by --task FILE.py:TASK") == 2
  with pytest.raises(SystemExit):
    cli.main(["certify", name, "--help"])
  assert "cells of a strip" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("nowhere.py:TASK", "there is no file nowhere.py"),
    ("no.such.module:TASK", "no.such.module cannot be imported: ModuleNotFoundError"),
    (f"{FILE}:Config", "`Config` must be an `lrs_jax.tasks.Task`, but it is type"),
    (f"{FILE}:TASK:stripes", "its data sets are strips, but not 'stripes'"),
    (":TASK", "a task is named FILE.py:TASK or MODULE:TASK"),
  ],
)
def test_what_is_no_task_is_said(name, message, capsys):
  with pytest.raises(ValueError, match=message):
    find(name)
  assert cli.main(["certify", name]) == 1
  assert message in capsys.readouterr().err


def test_a_file_that_does_not_run_is_said(tmp_path, capsys):
  path = tmp_path / "broken.py"
  path.write_text("TASK = 1 / 0\n")
  assert cli.main(["certify", f"{path}:TASK"]) == 1
  assert "broken.py cannot be imported: ZeroDivisionError" in capsys.readouterr().err
