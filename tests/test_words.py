"""What commands print: explained, in color, or not at all."""

import io
import re
from pathlib import Path

import numpy as np
import pytest

from lrs_jax import cli
from lrs_jax.jobs import reports, words
from lrs_jax.tasks import TASKS

pytestmark = pytest.mark.usefixtures("no_figures_in_module")


@pytest.fixture
def counts(tmp_path):
  votes = [[90, 10], [10, 90]]
  path = tmp_path / "mine.npz"
  of_votes = {"selection": votes, "estimation": np.multiply(votes, 10)}
  np.savez(path, family="gaussian", scale=[[0.5]], cells=[0, 0], groups=[0, 0], **of_votes)
  return ["counts", str(path), "--out", str(tmp_path / "out")]


def test_what_is_printed_is_explained_if_asked_for(counts, capsys):
  assert cli.main(["certify", *counts]) == 0
  assert "--explain says what the words above mean" in capsys.readouterr().out
  assert cli.main(["certify", *counts, "--explain"]) == 0
  out = capsys.readouterr().out
  for word in ("certified:", "radius, or epsilon: Every delta", "naive:", "SegCertify:", "mIoU:"):
    assert f"\n{word}" in out, word
  assert "deletions" not in out
  assert cli.main(["verify", counts[-1], "--explain"]) == 0
  assert "\nproven: bounds" in capsys.readouterr().out


def test_every_method_and_smoothing_has_an_entry():
  methods = [
    *reports._METHODS.values(),
    "naive",
    "envelope",
    "isotropic, limited view",
    "localized",
  ]
  for method in methods:
    assert words.explain(method), method
  assert {rival for task in TASKS.values() for rival in task.rivals} <= set(reports._METHODS)
  assert "{" not in words.explain(" ".join(pattern for pattern, _ in words.ENTRIES))


def test_quiet_prints_errors_alone(counts, capsys):
  assert cli.main(["certify", *counts, "--quiet"]) == 0
  assert cli.main(["verify", counts[-1], "--quiet"]) == 0
  assert capsys.readouterr() == ("", "")
  assert cli.main(["certify", *counts, "--quiet", "--alpha", "0.5"]) == 1
  out, err = capsys.readouterr()
  assert out == ""
  assert re.fullmatch("lrs-jax: error: .*holds results of another job.*\n", err)
  (record,) = Path(counts[-1]).glob("*/certificate.npz")
  record.write_bytes(b"PK")
  assert cli.main(["verify", counts[-1], "--quiet"]) == 1
  assert "REFUSED" in capsys.readouterr().err


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_color_is_for_terminals_that_want_it(monkeypatch):
  for name in ("NO_COLOR", "TERM"):
    monkeypatch.delenv(name, raising=False)
  assert words.painted("x: proven, all/lp", Terminal()) == "x: \033[32mproven\033[0m, all/lp"
  assert words.painted("x: proven", io.StringIO()) == "x: proven"
  monkeypatch.setenv("NO_COLOR", "1")
  assert words.painted("x: proven", Terminal()) == "x: proven"
