"""No two purposes of a job draw from one key: every key that a toy job of each kind draws from."""

from collections import defaultdict

import jax
import numpy as np
import pytest
from scipy import sparse

from benchmarks import images as study
from benchmarks.image_study import counting
from benchmarks.image_study.configurations import Sizes
from lrs_jax import keys, noise, sampling
from lrs_jax.baselines import center_smoothing
from lrs_jax.jobs import running
from lrs_jax.noise import draws
from lrs_jax.sampling import sparse_flips
from lrs_jax.tasks import graph_training, graphs, images, training
from tests.test_data import make_camvid

RANDOM_BITS = jax.make_jaxpr(jax.random.bits)(jax.random.key(0)).jaxpr
"""Holds the primitive that all random numbers come from, but for those of `draws` on a CPU."""


def primitive(jaxpr):
  for equation in jaxpr.eqns:
    if equation.primitive.name == "random_bits":
      return equation.primitive
    for inner in (v for v in equation.params.values() if hasattr(v, "jaxpr")):
      found = primitive(inner.jaxpr)
      if found is not None:
        return found
  return None


@pytest.fixture
def drawn(monkeypatch):
  """What is drawn from, by (function, key given to it)."""
  streams, current = defaultdict(set), []
  random_bits = primitive(RANDOM_BITS)

  def record(data):
    streams[current[-1] if current else ("elsewhere", None)].add(np.asarray(data).tobytes())

  def recording(draw):
    def recorded(given, *args, **options):
      jax.debug.callback(record, jax.random.key_data(given))
      return draw(given, *args, **options)

    return recorded

  def watch(module, name):
    function = getattr(module, name)

    def watched(key, *args, **kwargs):
      tag = f"{module.__name__}.{name}", jax.random.key_data(key).tobytes()
      current.append(tag)
      try:
        return jax.block_until_ready(function(key, *args, **kwargs))
      finally:
        jax.effects_barrier()
        current.pop()

    monkeypatch.setattr(module, name, watched)

  jax.clear_caches()
  monkeypatch.setattr(random_bits, "bind", recording(random_bits.bind), raising=False)
  monkeypatch.setattr(draws, "_threefry", recording(draws._threefry))  # on a CPU
  for module, name in (
    (training, "train"),
    (graph_training, "train"),
    (sampling, "votes"),
    (sampling, "vote_counts"),
    (sampling, "class_sums"),
    (sparse_flips, "class_sums"),
    (center_smoothing, "hamming_distances"),
    (noise, "sample"),
  ):
    watch(module, name)
  yield streams
  jax.effects_barrier()
  monkeypatch.undo()
  jax.clear_caches()


def assert_disjoint(streams, *, at_least):
  assert "elsewhere" not in {name for name, _ in streams}
  assert len(streams) >= at_least
  owner = {}
  for stream, found in streams.items():
    for key in found:
      assert key not in owner, f"{stream[0]} and {owner[key][0]} draw from the same key"
      owner[key] = stream


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


def test_the_image_study(drawn, tmp_path, monkeypatch):
  """Before, a network and an image had one key."""
  monkeypatch.setattr(counting, "CANDIDATES", 12)
  make_camvid(tmp_path / "camvid", size=(16, 16))
  sizes = Sizes(
    size=(16, 16), start=(16, 16), images=2, width=2, depth=1, steps=2, marks=(12, 24), more=1,
    selection=(6, 12), radii=3, alpha=0.5,
  )  # fmt: skip
  study.run(sizes, str(tmp_path), tmp_path / "work", tmp_path / "out", ("isotropic-0.3",))
  # networks base and isotropic; two images times two parts; four steps of center smoothing
  assert_disjoint(drawn, at_least=2 + 2 * 2 + 2 * 4)
