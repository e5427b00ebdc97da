"""The throughput benchmark runs at toy size, section by section."""

import json
from importlib import util

import pytest

from benchmarks import throughput


@pytest.fixture(scope="module")
def out(tmp_path_factory):
  return tmp_path_factory.mktemp("results")


def measure(out, section):
  return throughput.main(["--toy", "--only", section, "--out", str(out)])[section]


def test_naive_counts_are_ours(out):
  found = measure(out, "naive")
  assert [row["outputs"] for row in found["rows"]] == [2, 2, 24 * 32]
  assert len(found["counts_identical_for"]) == 2


def test_against_the_bare_model(out):
  ratios = [row["ratio"] for row in measure(out, "bare")["rows"]]
  assert ratios[0] == 1
  assert min(ratios) > 0


@pytest.mark.skipif(util.find_spec("torch") is None, reason="PyTorch is not installed: extra bench")
def test_against_pytorch(out):
  rows = measure(out, "pytorch")["rows"]
  differences = [row["logits_difference"] for row in rows if "batch_size" in row]
  assert len(differences) == 6
  assert max(differences) < 1e-4


def test_without_pytorch(monkeypatch):
  monkeypatch.setattr(throughput.util, "find_spec", lambda name: None)
  assert "not installed" in throughput.pytorch(throughput.TOY, "float32")["skipped"]


def test_scaling(out):
  found = measure(out, "scaling")
  assert [row["devices"] for row in found["simulated_devices"]] == [1, 2]
  few, many = found["samples"]
  assert many["peak_bytes"] < few["peak_bytes"] + 2**26


def test_graphs(out):
  assert [row["clusters"] for row in measure(out, "graphs")["rows"]] == [1, 5]


def test_a_job_is_projected_unless_it_is_run(out):
  found = measure(out, "job")
  assert found["evaluations_per_image"] == 16 * 6
  if found["platform"] == "cpu":
    assert found["measured_seconds"] is None
  for row in found["rows"]:
    assert row["projected_seconds"] == pytest.approx(96 * row["seconds_per_evaluation"])


def test_sections_are_kept_and_drawn(out):
  """The files hold what the tests above measured; each wrote its own part."""
  if not (out / "throughput.json").exists():
    measure(out, "job")
  results = json.loads((out / "throughput.json").read_text())
  before = {name for name in results if name != "graphs"}
  measure(out, "graphs")
  results = json.loads((out / "throughput.json").read_text())
  assert set(results) == before | {"graphs"}
  text = (out / "throughput.md").read_text()
  assert text.count("\n## ") == len(results)
  assert (out / "throughput.png").read_bytes().startswith(b"\x89PNG")
