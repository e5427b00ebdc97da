"""The benchmark runs at toy size, and its claims hold there."""

import json

from benchmarks import collective as benchmark


def test_toy_size(tmp_path, capsys):
  results = benchmark.main(["--toy", "--out", str(tmp_path)])
  assert all(row["optimal"] == row["budgets"] for row in results["envelope"])
  for row in results["methods"]:
    assert row["envelope_never_looser"]
    assert row["naive"] <= row["envelope"] <= row["milp"] <= row["survive_best_attack"]
    assert row["lp"] is None or row["lp"] <= row["envelope"]
    assert row["gap_percent"] <= 1
  assert len(results["times"]) == 2
  assert results["memory"]["peak_MiB"] < 20
  assert json.loads((tmp_path / "collective.json").read_text())["envelope"]
  assert "Certified targets by method" in capsys.readouterr().out
