"""The throughput benchmark runs at toy size, section by section."""

import json
import os
from contextlib import contextmanager
from importlib import util
from pathlib import Path

import jax
import pytest

from benchmarks import throughput, throughput_report
from tests.figures import check_saved, check_texts

QUICKLY_COMPILED = " ".join(
  flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag
)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
  return tmp_path_factory.mktemp("results")


@pytest.fixture(autouse=True)
def no_simulated_devices(monkeypatch):
  monkeypatch.delenv("XLA_FLAGS")  # the benchmark's processes have those that it asks for


@pytest.fixture
def quickly_compiled(no_simulated_devices, monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", QUICKLY_COMPILED)


def measure(out, section, *options):
  return throughput.main(
    ["--toy", "--seconds", "0.1", "--only", section, "--out", str(out), *options]
  )[section]


def measure_here(out, section):
  """In this process, as on an accelerator: nothing is started, imported and compiled again."""
  return measure(out, section, "--here")


def test_naive_counts_are_ours(out):
  found = measure(out, "naive")
  assert [row["outputs"] for row in found["rows"]] == [2, 2, 24 * 32]
  assert len(found["counts_identical_for"]) == 2


def test_against_the_bare_model(out, quickly_compiled, monkeypatch):
  check_saved(monkeypatch)
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


def test_the_figure_shows_the_least_ratios_of_the_tables():
  path = Path(throughput.__file__).parent / "results" / "throughput.json"
  results = json.loads(path.read_text())
  told = throughput_report.table(results)
  ratios = throughput_report.least_ratios(results)
  assert len(ratios) == len(throughput_report.RIVALS)
  assert all(f"{ratio:.2f}" in told or f"{ratio:.3g}" in told for ratio in ratios.values())
  check_texts(throughput_report.figure(results))


def test_scaling(out, quickly_compiled):
  found = measure(out, "scaling")
  assert [row["devices"] for row in found["simulated_devices"]] == [2]
  assert len(found["devices_there"]) >= 1
  few, many = found["samples"]
  assert many["peak_bytes"] < few["peak_bytes"] + 2**26


def test_graphs(out):
  assert [row["clusters"] for row in measure_here(out, "graphs")["rows"]] == [1, 5]


def test_a_job_is_projected_unless_it_is_run(out):
  found = measure_here(out, "job")
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


def test_one_process_measures_what_workers_do(out, monkeypatch):
  def started(*args, **kwargs):
    raise AssertionError("a process was started")

  monkeypatch.setattr(throughput.subprocess, "Popen", started)
  found = {name: measure_here(out / "here", name) for name in ("naive", "bare", "scaling")}
  assert len(found["naive"]["counts_identical_for"]) == 2
  assert {row["allocator"] for row in found["bare"]["rows"]} == {"default"}
  devices = [row["devices"] for row in found["scaling"]["devices_there"]]
  assert devices == [n for n in (1, 2, 4, 8) if n <= jax.device_count()]
  assert found["scaling"]["simulated_devices"] == found["scaling"]["samples"] == []
  assert "simulated devices (cpu)" not in (out / "here" / "throughput.md").read_text()


def pretended(**answers):
  """A place to measure in that answers by subject, without measuring."""

  @contextmanager
  def start(environment):
    common = {"seconds": 1.0, "evaluations": 1, "outputs": 2}
    yield {"platform": "tpu"}, lambda request: {**common, **answers[request["subject"]]}

  return start


@pytest.mark.parametrize(("moved", "identical"), [(0, 2), (5, 1), (6, None)])
def test_counts_may_differ_by_rounding_alone(moved, identical):
  sizes = throughput.TOY._replace(naive_samples=100)
  ours = {"found": [[100, 0, 0], [50, 50, 0]]}
  theirs = {"found": [[100, 0, 0], [50, 50 - moved, moved]]}
  start = pretended(loop=ours, naive_loop=ours, naive_vmap=theirs)
  if identical is None:
    with pytest.raises(AssertionError, match="not ours"):
      throughput.measure("naive", sizes, "float32", start)
  else:
    found = throughput.measure("naive", sizes, "float32", start)
    assert len(found["counts_identical_for"]) == identical


def test_no_cpu_is_compared_with_a_tpu(monkeypatch):
  monkeypatch.setattr(throughput.util, "find_spec", lambda name: "there")
  found = throughput.measure("pytorch", throughput.TOY, "float32", pretended())
  assert found["skipped"] == "PyTorch does not run on a tpu here"


def test_a_process_that_runs_takes_no_environment():
  with (
    pytest.raises(ValueError, match="ONE_PROCESS"),
    throughput.here(throughput.ALLOCATORS["kept"]),
  ):
    pass
