"""No two purposes of a job draw from one key: every key that toy jobs draw from.

Those of the study on images are looked at in `test_images_study`, where it is run.
"""

import jax
import numpy as np
import pytest
from scipy import sparse

from lrs_jax import keys
from lrs_jax.jobs import running
from lrs_jax.tasks import graphs, images
from tests.drawn_keys import assert_disjoint, recorded


@pytest.fixture
def drawn():
  with recorded() as streams:
    yield streams


def test_tags_differ_from_each_other_and_from_what_is_split_or_folded():
  key = jax.random.key(0)
  tags = ("training", "variables", "steps", "figures", "selection", "estimation", "a", "b", "")
  found = [keys.tagged(key, tag) for tag in tags]
  found += [key, *jax.random.split(key, 1000)]
  assert len({jax.random.key_data(k).tobytes() for k in found}) == len(found)


def test_splitting_and_folding_one_key_collide():
  """Why there are tags."""
  key = jax.random.key(5)
  for i, split in enumerate(jax.random.split(key, 4)):
    assert jax.random.key_data(split).tolist() == (
      jax.random.key_data(jax.random.fold_in(key, i)).tolist()
    )


def test_an_image_job(drawn, tmp_path):
  job = images.Config(
    size=(16, 16), grid=(1, 2), std_max=0.6, images=2, width=2, depth=1, steps=2, batch_size=2,
    samples=16, selection_samples=8, budgets=(0.0, 0.1), alpha=0.5,
  )  # fmt: skip
  running.certify(images.TASK, job, tmp_path)
  # one training, two images times two smoothings times two parts, and the figures
  assert_disjoint(drawn, at_least=1 + 2 * 2 * 2 + 1)


def test_a_graph_job(drawn, tmp_path, no_figures):
  """Before, the isotropic samples 0 shared keys with the steps 0 and 1 of training."""
  rng = np.random.default_rng(0)
  labels = np.repeat([0, 1], 8)
  upper = np.triu(rng.random((16, 16)) < np.where(labels[:, None] == labels, 0.7, 0.1), 1)
  arrays = {"labels": labels}
  for name, matrix in (("adj_matrix", upper), ("attr_matrix", rng.random((16, 8)) < 0.5)):
    matrix = sparse.csr_array(matrix * 1.0)
    arrays |= {
      f"{name}.{part}": np.asarray(getattr(matrix, part))
      for part in ("data", "indices", "indptr", "shape")
    }
  np.savez(tmp_path / "toy.npz", **arrays)
  job = graphs.GraphConfig(
    graph=str(tmp_path / "toy.npz"), model_name="gcn", per_class=3, clusters=2, steps=4,
    samples=16, selection_samples=8, budgets=(1, 1), theta_plus=(0.02, 0.05), orders=(2.0,),
    theta_minus=(0.4, 0.8), alpha=0.5,
  )  # fmt: skip
  running.certify(graphs.TASK, job, tmp_path / "out")
  assert_disjoint(drawn, at_least=2 + 2 * 2)  # two networks, two smoothings times two parts
