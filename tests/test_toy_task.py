"""The documented example of a task runs as CONTRIBUTING says."""

import runpy
from pathlib import Path

from lrs_jax import cli
from lrs_jax.tasks import TASKS

TASK = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "toy_task.py"))["TASK"]


def test_one_file_and_one_entry_make_a_task(tmp_path, capsys, monkeypatch):
  monkeypatch.setitem(TASKS, TASK.name, TASK)
  assert cli.main(["certify", "strips", "--samples", "200", "--out", str(tmp_path)]) == 0
  told = capsys.readouterr().out
  assert "localized, envelope" in told
  assert cli.main(["verify", str(tmp_path)]) == 0
  assert capsys.readouterr().out.count("proven") == 4
