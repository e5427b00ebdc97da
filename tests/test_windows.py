"""Votes counted in windows of a U-Net's output are those of the whole frame."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import export

from lrs_jax import noise, sampling
from lrs_jax.cells import locality, partition
from lrs_jax.tasks.models import folded_unet
from lrs_jax.tasks.models.unet import UNet

SIZE, GRID, K = (13, 22), (2, 3), 3


@pytest.fixture(scope="module")
def params():
  model = UNet(num_classes=K, width=2, depth=2)
  init = jax.jit(lambda key, x: folded_unet.fold(model.init(key, x)))
  return init(jax.random.key(0), jnp.zeros((8, 8, 3), jnp.float32))


def count(
  params, size=SIZE, grid=GRID, hide_beyond=np.inf, of=sampling.vote_counts, samples=40, **options
):
  groups = partition.image_grid(size, grid)
  distances = locality.chebyshev_distances(grid)
  scale = np.random.default_rng(0).uniform(0.1, 1.0, distances.shape)
  scale = locality.hide_beyond(scale, distances, hide_beyond)
  smoothing = noise.gaussian(scale, partition.pixel_cells(groups, 3))
  x = np.asarray(jax.random.uniform(jax.random.key(1), (*size, 3)))
  counts = of(
    jax.random.key(2), folded_unet.apply, params, x, smoothing, groups.ravel(), samples,
    num_classes=K, chunk_size=8, **options,
  )  # fmt: skip
  return jax.tree.map(np.asarray, counts)


def windows(params, size=SIZE, grid=GRID):
  starts, extent = partition.windows(
    partition.image_grid(size, grid), folded_unet.alignment(params)
  )
  return sampling.Windows(folded_unet.window(extent), starts, extent)


def test_counts_are_those_of_the_whole_frame(params):
  whole = count(params)
  assert (whole.max(axis=1) < 40).any()  # votes differ between samples
  np.testing.assert_array_equal(count(params, windows=windows(params)), whole)


def test_class_sums_are_those_of_the_whole_frame(params):
  whole = count(params, of=sampling.class_sums)
  assert (whole.votes.max(axis=1) < 40).any()
  np.testing.assert_array_equal(whole.votes, count(params))
  there = count(params, windows=windows(params), of=sampling.class_sums)
  jax.tree.map(np.testing.assert_array_equal, there, whole)


@pytest.mark.parametrize("hide_beyond", [0, np.inf])
def test_images_larger_than_the_receptive_field(params, hide_beyond):
  """Cells that are hidden show a constant, and so features that are none at the border."""
  case = {"size": (43, 121), "grid": (2, 7), "hide_beyond": hide_beyond, "samples": 20}
  whole = count(params, **case)
  assert (whole.max(axis=1) < 20).any()
  there = windows(params, case["size"], case["grid"])
  np.testing.assert_array_equal(count(params, windows=there, **case), whole)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"starts": np.zeros((5, 2), int)}, r"must be int \[G, 2\] = \(6, 2\)"),
    ({"starts": np.zeros((6, 2))}, r"is float64 of shape \(6, 2\)"),
    ({"starts": np.full((6, 2), -1)}, r"must lie inside \(13, 22\)"),
    ({"starts": np.full((6, 2), 20)}, r"must lie inside \(13, 22\)"),
  ],
)
def test_windows_that_do_not_fit(params, change, message):
  with pytest.raises(ValueError, match=message):
    count(params, windows=windows(params)._replace(**change))


@pytest.mark.parametrize(("group", "move"), [(0, (1, 0)), (0, (0, 1)), (5, (4, 0)), (4, (0, 4))])
def test_windows_that_do_not_hold_their_groups(params, group, move):
  """Before, what lay outside its window was counted as unanimous votes for class 0."""
  there = windows(params)
  starts = there.starts.copy()
  starts[group] += move
  with pytest.raises(ValueError, match=f"of group {group} lies outside that group's window"):
    count(params, windows=there._replace(starts=starts))


def test_windows_need_a_two_dimensional_output():
  with pytest.raises(ValueError, match=r"needs logits \[H, W, K\]"):
    sampling.vote_counts(
      jax.random.key(0), lambda params, x: jnp.stack([x, -x], axis=-1), None,
      np.ones(2, np.float32), noise.gaussian([[1.0]], [0, 0]), [0, 0], 5, num_classes=2,
      windows=sampling.Windows(None, np.zeros((1, 2), int), (1, 1)),
    )  # fmt: skip


@given(
  st.tuples(st.integers(1, 30), st.integers(1, 30)),
  st.tuples(st.integers(1, 5), st.integers(1, 5)),
  st.sampled_from([1, 2, 8]),
)
def test_windows_hold_their_groups_and_hardly_leave_the_frame(shape, grid, alignment):
  groups = partition.image_grid(shape, np.minimum(shape, grid))
  starts, size = partition.windows(groups, alignment)
  assert (starts % alignment == 0).all()
  assert (starts >= 0).all()
  assert (starts + size < np.array(shape) + alignment).all()
  for group, start in enumerate(starts):
    inside = np.argwhere(groups == group) - start
    assert (inside >= 0).all()
    assert (inside < size).all()


def test_a_window_lowers_for_cpu_gpu_and_tpu(params):
  apply_window = jax.jit(folded_unet.window((8, 8)))
  x, start = jnp.zeros((*SIZE, 3), jnp.float32), jnp.zeros(2, jnp.int32)
  exported = export.export(apply_window, platforms=("cpu", "cuda", "tpu"))(params, x, start)
  assert "f64" not in exported.mlir_module()
