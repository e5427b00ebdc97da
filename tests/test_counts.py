"""Votes that were counted elsewhere, through the command."""

import json
import re

import numpy as np
import pytest

from lrs_jax import cli, collective, noise
from lrs_jax.confidence import certificates, corrections
from lrs_jax.jobs import records
from lrs_jax.tasks import counts

N, K = 12, 3


def arrays(**changes):
  rng = np.random.default_rng(0)
  probabilities = np.array([[0.95, 0.03, 0.02], [0.1, 0.85, 0.05]])[np.arange(N) % 2]
  found = {
    "family": "gaussian",
    "scale": [[0.25, 1.0], [1.0, np.inf]],
    "cells": np.repeat([0, 1], 5),
    "groups": np.arange(N) // 6,
    "selection": rng.multinomial(100, probabilities),
    "estimation": rng.multinomial(1000, probabilities),
    "truth": np.arange(N) % 2,
  }
  return {name: value for name, value in (found | changes).items() if value is not None}


def write(folder, **changes):
  path = folder / "mine.npz"
  np.savez(path, **arrays(**changes))
  return path


def certify(path, *options):
  return cli.main(["certify", "counts", str(path), "--out", str(path.parent / "out"), *options])


def test_they_are_certified_as_calls_certify_them(tmp_path, capsys):
  assert certify(write(tmp_path), "--k-fwer", "0.1") == 0
  record = records.load(tmp_path / "out" / "mine" / "certificate.npz")
  given = arrays()
  distribution = noise.gaussian(given["scale"], given["cells"])
  votes = given["groups"], given["selection"], given["estimation"]
  base = certificates.from_votes(distribution, *votes, alpha=corrections.levels(0.01, N, 0.1))
  budgets = noise.budgets_from_radii(record.adversary.radii, 2)
  wanted = collective.certify(base.weights, base.groups, base.eta, budgets, forfeit=base.forfeit)
  found = record.certified["all/envelope"].certified
  assert (found <= wanted.certified).all()  # rounded to the weak side
  assert (found >= wanted.certified - 1).all()
  assert found[1] > 0
  assert cli.main(["verify", str(tmp_path / "out")]) == 0
  assert "card.md: agrees" in capsys.readouterr().out
  assert cli.main(["report", str(tmp_path / "out")]) == 0


def test_done_once_and_no_other_counts_replace_it(tmp_path, capsys):
  assert certify(write(tmp_path)) == 0
  record = tmp_path / "out" / "mine" / "certificate.npz"
  before = record.stat().st_mtime_ns
  assert certify(tmp_path / "mine.npz") == 0
  assert record.stat().st_mtime_ns == before
  assert (
    certify(write(tmp_path, truth=np.zeros(N, int), estimation=arrays()["selection"] * 10)) == 1
  )
  assert "holds results of another job" in capsys.readouterr().err
  assert certify(tmp_path / "mine.npz", "--force") == 0
  assert cli.main(["verify", str(tmp_path / "out")]) == 0


def test_without_labels_and_with_names(tmp_path):
  path = write(tmp_path, truth=None, classes=["a", "b", "c"], counted=np.arange(N) < 7)
  assert certify(path, "--scores", "votes,margins") == 0
  summary = json.loads((tmp_path / "out" / "summary.json").read_text())
  assert summary["smoothings"]["certificate"]["certified_accuracy"] == {}
  assert records.load(tmp_path / "out" / "mine" / "certificate.npz").counted.sum() == 7


def test_flips_have_budgets_of_two_kinds(tmp_path):
  levels = {"theta_plus": [[0.1], [0.2]], "theta_minus": [[0.6], [0.7]], "scale": None}
  budgets = [[0, 0], [1, 0], [0, 1], [3, 3]]
  path = write(tmp_path, family="flips", cells=np.zeros(10, int), budgets=budgets, **levels)
  assert certify(path) == 0
  record = records.load(tmp_path / "out" / "mine" / "certificate.npz")
  assert record.adversary.integral
  assert record.certified["all/envelope"].certified[0] == N
  assert certify(write(tmp_path, family="flips", cells=np.zeros(10, int), **levels)) == 1


def test_too_few_samples_for_anything_are_refused(tmp_path, capsys):
  few = {"estimation": arrays()["estimation"] // 200, "samples": 5}
  assert certify(write(tmp_path, **few)) == 1
  assert "--samples 5 cannot certify any of 12 outputs" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("changes", "told"),
  [
    ({"family": "cauchy"}, "`family` must be one of gaussian, .* but it is cauchy"),
    ({"family": None}, "but it is missing"),
    ({"scale": None}, "has no array `scale`: counts under gaussian noise need scale, cells"),
    ({"scale": [0.5]}, r"`scale` must have shape \[G, C\]"),
    ({"groups": np.arange(N)}, "`groups` must lie in"),
    ({"groups": np.zeros(N)}, "`groups` must be integers, but its type is float64"),
    ({"estimation": np.ones((N, 2), int)}, r"must both have shape \[N, K\]"),
    ({"truth": np.zeros(3, int)}, r"`truth` must have shape \(12,\)"),
    ({"counted": np.ones(N, int)}, "`counted` must be booleans"),
    ({"budgets": [[1.0]]}, "give radii by --budgets"),
    ({"votes": np.ones(3)}, "there is no use for its array `votes`"),
    ({"estimation": np.arange(N * K).reshape(N, K)}, "`samples` must say how many samples"),
    ({"samples": 10}, "a row of `estimation/votes` sums to 1000, but"),
    ({"selection": -arrays()["selection"]}, "must not be negative"),
    ({"estimation": arrays()["selection"]}, "selected by the same samples that bound them"),
  ],
)
def test_what_cannot_be_is_refused_in_a_line(tmp_path, changes, told, capsys):
  assert certify(write(tmp_path, **changes)) == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert re.search(told, line), line
  assert not (tmp_path / "out" / "summary.json").exists()


def test_the_table_of_arrays_is_in_the_help_of_read():
  for name in ("family", "cells", "groups", "selection", "estimation", "truth", "budgets"):
    assert f"``{name}``" in counts.read.__doc__
