"""The folded DeepLab equals the trained one, and a window of its logits the whole frame's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from lrs_jax import noise, sampling
from lrs_jax.cells import partition
from lrs_jax.tasks.models import folded_deeplab
from lrs_jax.tasks.models.deeplab import STRIDE, DeepLab


@functools.cache
def trained(size, depth=1, rates=(1, 3)):
  """A DeepLab whose BatchNorm has statistics, scales and biases of its own, and an image."""
  model = DeepLab(num_classes=3, width=2, depth=depth, rates=rates)
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.random((*size, 3), np.float32))

  def fill(path, leaf):
    if path[-1].key == "kernel":
      return rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape).astype(np.float32)
    low = 0.5 if path[-1].key in ("var", "scale") else -0.5
    return rng.uniform(low, low + 1, leaf.shape).astype(np.float32)

  shapes = jax.eval_shape(model.init, jax.random.key(0), x)
  return model, jax.tree_util.tree_map_with_path(fill, shapes), x


def test_a_prediction_depends_on_one_image_only():
  model, variables, _ = trained((16, 24))
  apply = jax.jit(model.apply)
  images = jax.random.uniform(jax.random.key(1), (2, 2, 16, 24, 3))
  batched = apply(variables, images)
  scale = float(jnp.abs(batched).max())
  for i, j in np.ndindex(2, 2):
    np.testing.assert_allclose(apply(variables, images[i, j]), batched[i, j], atol=1e-5 * scale)


def test_batch_norm_learns_statistics_in_training_only():
  model, variables, x = trained((16, 24))
  apply = jax.jit(model.apply, static_argnames=("train", "mutable"))
  images = jnp.stack([x, 1 - x])
  _, updates = apply(variables, images, train=True, mutable="batch_stats")
  changed = jax.tree.map(
    lambda a, b: bool((a != b).any()), variables["batch_stats"], updates["batch_stats"]
  )
  assert all(jax.tree.leaves(changed))
  _, updates = apply(variables, images, train=False, mutable="batch_stats")
  jax.tree.map(np.testing.assert_array_equal, variables["batch_stats"], updates["batch_stats"])


def test_every_pixel_sees_the_whole_image():
  """Through the mean of the features, however far away the change is."""
  model, variables, x = trained((8, 160), rates=(1,))
  before, after = jax.jit(model.apply)(variables, jnp.stack([x, x.at[:, -8:].set(1 - x[:, -8:])]))
  assert (before != after).all()


@pytest.mark.parametrize(
  ("size", "depth", "rates"), [((16, 24), 1, (1, 3)), ((13, 19), 2, (4, 2)), ((1, 5), 1, ())]
)
def test_folding_changes_nothing_but_rounding(size, depth, rates):
  model, variables, x = trained(size, depth, rates)
  logits = jax.jit(model.apply)(variables, x)
  assert logits.shape == (*size, 3)
  assert logits.dtype == jnp.float32
  folded = jax.jit(folded_deeplab.apply)(folded_deeplab.fold(variables), x)
  scale = float(jnp.abs(logits).max())
  np.testing.assert_allclose(folded, logits, atol=1e-5 * scale)


@pytest.mark.parametrize(
  ("size", "rates", "window"),
  [
    ((32, 40), (1, 3), (8, 16)),
    ((29, 43), (1, 3), (11, 13)),
    ((24, 24), (2,), (24, 24)),
    ((9, 17), (), (4, 3)),
  ],
)
def test_a_window_is_that_part_of_the_whole_frame(size, rates, window):
  _, variables, x = trained(size, rates=rates)
  params = folded_deeplab.fold(variables)
  logits = np.asarray(jax.jit(folded_deeplab.apply)(params, x))
  scale = abs(logits).max()
  step = STRIDE
  apply_window = jax.jit(folded_deeplab.window(window))
  for top in range(0, size[0] - window[0] + step, step):
    for left in range(0, size[1] - window[1] + step, step):
      seen = apply_window(params, x, jnp.asarray((top, left), jnp.int32))
      assert seen.shape == (*window, 3)
      expected = logits[top : top + window[0], left : left + window[1]]
      np.testing.assert_allclose(
        seen[: expected.shape[0], : expected.shape[1]], expected, atol=1e-5 * scale
      )


def test_votes_in_windows_are_those_of_the_whole_frame():
  size, grid = (19, 26), (2, 2)
  _, variables, x = trained(size)
  params = folded_deeplab.fold(variables)
  groups = partition.image_grid(size, grid)
  smoothing = noise.gaussian(np.full((4, 4), 0.5), groups[..., None])
  starts, window = partition.windows(groups, STRIDE)
  whole, seen = (
    sampling.vote_counts(
      jax.random.key(2), folded_deeplab.apply, params, x, smoothing, groups.ravel(), 20,
      num_classes=3, chunk_size=4, windows=windows,
    )
    for windows in (None, sampling.Windows(folded_deeplab.window(window), starts, window))
  )  # fmt: skip
  assert (np.asarray(whole).max(axis=1) < 20).any()  # votes differ between samples
  np.testing.assert_array_equal(seen, whole)


def test_it_lowers_for_cpu_gpu_and_tpu():
  _, variables, x = trained((13, 22))
  params, start = folded_deeplab.fold(variables), jnp.zeros(2, jnp.int32)
  for function, arguments in (
    (folded_deeplab.apply, (params, x)),
    (folded_deeplab.window((8, 8)), (params, x, start)),
  ):
    exported = export.export(jax.jit(function), platforms=("cpu", "cuda", "tpu"))(*arguments)
    assert "f64" not in exported.mlir_module()


def test_width_depth_and_rates_configure_the_network():
  key, x = jax.random.key(0), jnp.ones((16, 16, 3))
  sizes = [
    sum(p.size for p in jax.tree.leaves(jax.eval_shape(DeepLab(2, *options).init, key, x)))
    for options in ((2, 1, (2,)), (4, 1, (2,)), (4, 2, (2,)), (4, 2, (2, 4)))
  ]
  assert sizes == sorted(set(sizes))
