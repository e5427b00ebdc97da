"""The benchmark runs, at toy size; its claim is checked where time allows."""

import os

import pytest

from benchmarks import sparse_flips


def test_toy_size_runs():
  graph = sparse_flips.random_graph(60, 40)
  found = sparse_flips.measure(graph, 2, 30, 30)
  assert found["ratio"] > 0


@pytest.mark.skipif(not os.environ.get("LRS_JAX_THOROUGH"), reason="takes a minute")
def test_at_least_five_times_faster_than_dense():
  for found in sparse_flips.main([]):
    assert found["ratio"] >= 5
