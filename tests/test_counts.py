"""Votes that were counted elsewhere, through the command."""

import json
import re
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrs_jax import cli, collective, noise
from lrs_jax.confidence import certificates, corrections
from lrs_jax.jobs import records
from lrs_jax.tasks import counts

pytestmark = pytest.mark.usefixtures("no_figures_in_module")

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


@pytest.mark.parametrize("scores", ["votes", "votes,margins"])
def test_votes_of_exact_noise_are_certified_with_its_allowance(tmp_path, capsys, scores):
  """Each output's eta is that of a bound which is lower by `DISTANCE`."""
  assert certify(write(tmp_path, step=1 / 255), "--scores", scores) == 0
  path = tmp_path / "out" / "mine" / "certificate.npz"
  record = records.load(path)
  given = arrays()
  real = noise.gaussian(given["scale"], given["cells"])
  exact = noise.on_grid(real, 1 / 255)
  votes = given["groups"], given["selection"], given["estimation"]
  etas = [certificates.from_votes(of, *votes, alpha=0.01).eta for of in (real, exact)]
  if scores == "votes":
    np.testing.assert_allclose(record.base.eta, etas[1], rtol=1e-8)  # rounded down
    assert (record.base.eta <= etas[1]).all()
    assert (etas[1] < etas[0] * (1 - 2e-8)).all()
  assert record.noise.family.step == 1 / 255
  assert "exact" in path.with_name("card.md").read_text()
  assert cli.main(["verify", str(tmp_path / "out")]) == 0
  assert cli.main(["verify", str(path), "--exact"]) == 0
  check = Path(__file__).parents[1] / "docs" / "check_record.py"
  assert runpy.run_path(str(check))["main"]([str(path)]) == 0
  assert certify(write(tmp_path)) == 1  # float noise is another job
  assert "holds results of another job" in capsys.readouterr().err


def test_votes_that_a_model_cast_under_exact_noise_certify_as_they_do_here(tmp_path):
  """Drawn by `noise.sample`, counted in NumPy: base certificates are those of the front door."""
  x = np.arange(10, dtype=np.float32) / 255
  exact = noise.on_grid(noise.gaussian([[0.1]], np.zeros(10, int)), 1 / 255)
  draw = jax.vmap(lambda key: noise.sample(key, exact, jnp.asarray(x), 0))
  draws = np.asarray(draw(jax.random.split(jax.random.key(0), 300)))
  labels = (draws > x.mean()).astype(int)
  assert (np.abs(draws * 255 - np.rint(draws * 255)) < 1e-3).all()
  parts = [
    np.stack([np.bincount(c, minlength=2) for c in part.T]) for part in (labels[:100], labels[100:])
  ]
  np.savez(
    tmp_path / "mine.npz", family="gaussian", scale=[[0.1]], cells=np.zeros(10, int), step=1 / 255,
    groups=np.zeros(10, int), selection=parts[0], estimation=parts[1],
  )  # fmt: skip
  assert certify(tmp_path / "mine.npz") == 0
  record = records.load(tmp_path / "out" / "mine" / "certificate.npz")
  expected = certificates.from_votes(exact, np.zeros(10, int), *parts, alpha=0.01)
  np.testing.assert_allclose(record.base.eta, expected.eta, rtol=1e-8)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"step": 0.0}, "`step` must be positive"),
    ({"step": np.nan}, "`step` must be positive"),
    ({"step": 1e-4}, "at least 0.002 for scales up to 500 steps"),
    ({"step": [0.1]}, "`step` must be a number"),
    ({"step": "a"}, "`step` must be a number"),
    (
      {"step": 1.0, "family": "ablation", "scale": None, "rho": [[0.5, 0.5]] * 2},
      "must be additive",
    ),
  ],
)
def test_a_step_that_cannot_be(tmp_path, changes, message, capsys):
  assert certify(write(tmp_path, **changes)) == 1
  assert message in capsys.readouterr().err


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
