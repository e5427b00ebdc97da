"""The throughput benchmark runs at toy size, section by section."""

import json
from importlib import util

import pytest

from benchmarks import throughput


@pytest.fixture(scope="module")
def out(tmp_path_factory):
  return tmp_path_factory.mktemp("results")


@pytest.fixture(autouse=True)
def no_simulated_devices(monkeypatch):
  monkeypatch.delenv("XLA_FLAGS")  # the benchmark's processes have those that it asks for


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
  assert "| loop in windows |" in (out / "throughput.md").read_text()
  assert (out / "throughput.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(util.find_spec("torch") is None, reason="PyTorch is not installed: extra bench")
def test_against_pytorch(out):
  rows = measure(out, "pytorch")["rows"]
  differences = [row["logits_difference"] for row in rows if "batch_size" in row]
  assert len(differences) == 6
  assert max(differences) < 1e-4


def test_scaling(out):
  found = measure(out, "scaling")
  assert [row["devices"] for row in found["simulated_devices"]] == [1, 2]
  assert len(found["devices_there"]) >= 1
  few, many = found["samples"]
  assert many["peak_bytes"] < few["peak_bytes"] + 2**26


def test_graphs(out):
  assert [row["clusters"] for row in measure(out, "graphs")["rows"]] == [1, 5]


def test_a_job_is_projected_unless_it_is_run(out):
  found = measure(out, "job")
  assert found["evaluations_per_image"] == 16 * 6
  if found["platform"] == "cpu":
    assert found["measured_seconds"] is None
    assert "Not run whole." in (out / "throughput.md").read_text()
  for row in found["rows"]:
    assert row["projected_seconds"] == pytest.approx(96 * row["seconds_per_evaluation"])


def test_a_section_is_written_beside_the_others(out, monkeypatch):
  kept = {"naive": {"skipped": "it was not asked for"}}
  (out / "alone").mkdir()
  (out / "alone" / "throughput.json").write_text(json.dumps(kept))
  monkeypatch.setattr(throughput.util, "find_spec", lambda name: None)
  measure(out / "alone", "pytorch")
  results = json.loads((out / "alone" / "throughput.json").read_text())
  assert results["naive"] == kept["naive"]
  assert "not installed" in results["pytorch"]["skipped"]
  assert "Not measured: PyTorch is not installed" in (out / "alone" / "throughput.md").read_text()
