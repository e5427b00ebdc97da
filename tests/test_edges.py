"""Flips of edges as a task, on a toy graph: blocks, how near they are, and how much they hold."""

import numpy as np
import pytest

from lrs_jax.cells import clusters
from lrs_jax.jobs import cards
from lrs_jax.sampling import edge_flips
from lrs_jax.tasks import edges
from lrs_jax.tasks.edges import TASK, EdgeConfig
from lrs_jax.tasks.graph_training import matrix
from tests.making import graph_record
from tests.toys import write_graph


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
  path = write_graph(tmp_path_factory.mktemp("graph") / "toy.npz")
  config = EdgeConfig(graph=str(path), clusters=3, per_class=4, theta_minus=(0.3, 0.9))
  data = TASK.load(config)
  return config, data, data.cases[0], TASK.smoothings(config, data, data.cases[0])


def test_every_pair_flips_as_the_nearer_of_its_clusters_says(loaded):
  config, _, case, (localized, isotropic) = loaded
  groups, ranks = case.x.clusters, case.x.ranks
  first, second = edge_flips.ends(groups.size)
  _, minus = localized.noise.parameters
  for g in range(3):
    near = np.minimum(ranks[g, groups[first]], ranks[g, groups[second]])
    wanted = clusters.levels_by_rank(near, *config.theta_minus)
    np.testing.assert_array_equal(minus[g][localized.noise.cells], wanted)
  assert localized.noise.weights.shape == (2, 3, 6)
  assert isotropic.noise.weights.shape == (2, 1, 1)
  assert isotropic.noise.parameters[1].item() == 0.3
  np.testing.assert_array_equal(localized.groups, groups)


def test_an_adversary_flips_the_pairs_that_there_are(loaded):
  config, data, case, smoothings = loaded
  localized, isotropic = TASK.adversaries(config, data, case, smoothings)
  adjacency, groups = matrix(case.x.adjacency).toarray(), case.x.clusters
  assert len(groups) % 2 == 0  # the layout has some pairs twice
  upper = np.triu(np.ones(adjacency.shape, bool), 1)
  for one, kind in ((0, 0), (1, 1)):
    found = [
      (upper & (adjacency == one) & _between(groups, a, b)).sum()
      for a in range(3)
      for b in range(a, 3)
    ]
    assert localized.caps[kind].tolist() == found
    assert isotropic.caps[kind].tolist() == [sum(found)]
  assert localized.integral


def _between(groups, a, b):
  pairs = np.sort(np.stack(np.broadcast_arrays(groups[:, None], groups)), axis=0)
  return (pairs[0] == a) & (pairs[1] == b)


def test_records_of_other_blocks_are_refused(loaded):
  config, _, case, smoothings = loaded
  for smoothing in smoothings:
    TASK.check_record(config, smoothing)
  other = smoothings[0]._replace(groups=(case.x.clusters + 1) % 3)
  with pytest.raises(ValueError, match="not the blocks between the clusters"):
    TASK.check_record(config, other)
  with pytest.raises(ValueError, match=r"from 0\.3 to 0\.9, but .* says 0\.3,0\.8"):
    TASK.check_record(config._replace(theta_minus=(0.3, 0.8)), smoothings[0])


def test_a_card_says_that_clusters_are_kept():
  (assumed,) = TASK.assumes
  record = graph_record()._replace(task="edges")
  assert assumed in cards.trusted(record)
  assert assumed not in cards.trusted(record._replace(task="graphs"))


def test_a_data_set_is_that_of_the_attributes(tmp_path):
  write_graph(tmp_path / "cora_ml.npz")
  config = TASK.data["cora_ml_edges"]._replace(data_dir=str(tmp_path), per_class=4, clusters=2)
  data = edges.load(config)
  assert data.cases[0].name == "cora_ml"
