"""The benchmark of the bounds runs, and its best bound is what it says."""

import json

from benchmarks import bounds


def test_runs(tmp_path):
  bounds.main(["--out", str(tmp_path), "--samples", "100", "1000", "--outputs", "1", "1000"])
  rows = json.loads((tmp_path / "bounds.json").read_text())["rows"]
  assert len(rows) == len(bounds.DISTRIBUTIONS) * len(bounds.FAMILIES) * 4
  assert all(row["mixed"] >= row["bernstein"] for row in rows)
  assert "**" in (tmp_path / "bounds.md").read_text()


def test_expected_sums_are_of_so_many_samples():
  for distribution in bounds.DISTRIBUTIONS.values():
    assert bounds.expected_sums(distribution, 777).histogram.sum() == 777
