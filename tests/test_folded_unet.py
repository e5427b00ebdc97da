"""The folded network equals the trained one, and a window of its logits the whole frame's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrs_jax import noise
from lrs_jax.cells import locality, partition
from lrs_jax.tasks.models import folded_unet
from lrs_jax.tasks.models.unet import UNet


def trained(size, depth):
  """A U-Net whose BatchNorm has statistics, scales and biases of its own."""
  model, rng = UNet(num_classes=3, width=2, depth=depth), np.random.default_rng(1)
  shapes = jax.eval_shape(model.init, jax.random.key(1), jnp.zeros((8, 8, 3)))

  def some(path, leaf):
    match path[-1].key:
      case "kernel":
        usual = rng.normal(size=leaf.shape) / np.sqrt(leaf.size / leaf.shape[-1])
      case name:
        usual = 1.0 if name in ("scale", "var") else 0.0
    return (usual + 0.3 * rng.random(leaf.shape)).astype(np.float32)

  variables = jax.tree_util.tree_map_with_path(some, shapes)
  return model, variables, rng.random((*size, 3), np.float32)


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("size", [(16, 24), (13, 19)])
def test_folding_changes_nothing_but_rounding(size, depth):
  model, variables, x = trained(size, depth)
  logits = jax.jit(model.apply)(variables, x)
  assert (np.ptp(logits, axis=(0, 1)) > 0.1 * np.abs(logits).max()).all()  # no ReLU hides all
  folded = jax.jit(folded_unet.apply)(folded_unet.fold(variables), x)
  scale = float(jnp.abs(logits).max())
  np.testing.assert_allclose(folded, logits, atol=1e-5 * scale)


def starts(size, window, step):
  """Of windows at both borders, next to them and between: up to five of all."""
  every = range(0, size - window + step, step)
  return sorted({every[round(i * (len(every) - 1))] for i in (0, 0.1, 0.5, 0.9, 1)})


@pytest.mark.parametrize(
  ("size", "depth", "window"),
  [
    ((32, 40), 3, (8, 16)),
    ((29, 43), 3, (11, 13)),
    ((24, 24), 2, (24, 24)),
    ((17, 30), 1, (5, 6)),
    ((9, 9), 0, (4, 3)),
    ((64, 37), 1, (5, 6)),  # from here on, most windows see a part of the image
    ((90, 61), 2, (9, 7)),
    ((121, 150), 3, (13, 21)),
    ((20, 21), 0, (4, 3)),
  ],
)
def test_a_window_is_that_part_of_the_whole_frame(size, depth, window):
  _, variables, x = trained(size, depth)
  params = folded_unet.fold(variables)
  logits = np.asarray(jax.jit(folded_unet.apply)(params, x))
  scale = abs(logits).max()
  step = folded_unet.alignment(params)
  assert step == 2**depth
  apply_window = jax.jit(folded_unet.window(window))
  for top in starts(size[0], window[0], step):
    for left in starts(size[1], window[1], step):
      seen = apply_window(params, x, jnp.asarray((top, left), jnp.int32))
      expected = logits[top : top + window[0], left : left + window[1]]
      np.testing.assert_allclose(
        seen[: expected.shape[0], : expected.shape[1]], expected, atol=1e-5 * scale
      )


def test_a_window_of_a_large_image_is_little_work():
  _, variables, x = trained((16, 16), depth=3)
  params, start = folded_unet.fold(variables), jnp.zeros(2, jnp.int32)
  x = jnp.zeros((180, 240, 3))
  whole = jax.jit(folded_unet.apply).lower(params, x).cost_analysis()["flops"]
  window = jax.jit(folded_unet.window((64, 48))).lower(params, x, start).cost_analysis()["flops"]
  assert window < whole / 3


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_no_logit_depends_on_what_lies_beyond_the_reach(depth):
  _, variables, _ = trained((8, 8), depth)
  params = folded_unet.fold(variables)
  reach = folded_unet.reach(params)
  size = 2 * reach + 9
  rng = np.random.default_rng(depth)
  x = rng.random((size, size, 3), np.float32)
  farthest = 0
  gradient = jax.jit(jax.grad(lambda x, at: folded_unet.apply(params, x)[at[0], at[1]].sum()))
  for at in rng.integers(reach, size - reach, (6, 2)):
    seen = np.argwhere(np.abs(gradient(x, at)).sum(-1) > 0)
    farthest = max(farthest, np.abs(seen - at).max())
  assert reach / 2 < farthest <= reach


def test_hiding_what_is_not_seen_changes_no_logit_of_the_group():
  _, variables, _ = trained((8, 8), 1)
  params, size, middle = folded_unet.fold(variables), (8, 60), 2
  grid = partition.image_grid(size, (1, 5))
  scale = locality.interpolate_std(locality.chebyshev_distances((1, 5)) / 4, 0.2, 1.0)
  hidden = locality.hide_beyond(
    scale, partition.pixel_distances(grid, grid), folded_unet.reach(params)
  )
  assert np.isinf(hidden).sum() == 12  # all but own and next cells
  x = np.random.default_rng(0).random((*size, 3), np.float32)
  cells = partition.pixel_cells(grid, 3)
  logits = []
  for s in (scale, hidden):
    smoothing = noise.gaussian(s, cells)
    level = noise.level_at(smoothing.levels, cells, middle)
    draw = smoothing.draw(jax.random.key(0), x, cells)
    logits.append(np.asarray(folded_unet.apply(params, smoothing.perturb(x, draw, level))))
  own = grid == middle
  np.testing.assert_array_equal(logits[0][own], logits[1][own])
  assert (logits[0][~own] != logits[1][~own]).any()
