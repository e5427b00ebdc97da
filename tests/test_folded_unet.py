"""The folded network equals the trained one, and a window of its logits the whole frame's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrs_jax.models import folded_unet
from lrs_jax.models.unet import UNet


def trained(size, depth, seed=0):
  """A U-Net whose BatchNorm has statistics, scales and biases of its own."""
  model = UNet(num_classes=3, width=2, depth=depth)
  x = jax.random.uniform(jax.random.key(seed), (*size, 3))
  variables = model.init(jax.random.key(seed + 1), x)
  leaves, treedef = jax.tree.flatten(variables)
  keys = jax.random.split(jax.random.key(seed + 2), len(leaves))
  leaves = [
    leaf + 0.3 * jax.random.uniform(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)
  ]
  return model, jax.tree.unflatten(treedef, leaves), x


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("size", [(16, 24), (13, 19)])
def test_folding_changes_nothing_but_rounding(size, depth):
  model, variables, x = trained(size, depth)
  logits = model.apply(variables, x)
  folded = folded_unet.apply(folded_unet.fold(variables), x)
  scale = float(jnp.abs(logits).max())
  np.testing.assert_allclose(folded, logits, atol=1e-5 * scale)


@pytest.mark.parametrize(
  ("size", "depth", "window"),
  [
    ((32, 40), 3, (8, 16)),
    ((29, 43), 3, (11, 13)),
    ((24, 24), 2, (24, 24)),
    ((17, 30), 1, (5, 6)),
    ((9, 9), 0, (4, 3)),
  ],
)
def test_a_window_is_that_part_of_the_whole_frame(size, depth, window):
  _, variables, x = trained(size, depth)
  params = folded_unet.fold(variables)
  logits = np.asarray(folded_unet.apply(params, x))
  scale = abs(logits).max()
  step = folded_unet.alignment(params)
  assert step == 2**depth
  apply_window = jax.jit(folded_unet.window(window))
  for top in range(0, size[0] - window[0] + step, step):
    for left in range(0, size[1] - window[1] + step, step):
      seen = apply_window(params, x, jnp.asarray((top, left), jnp.int32))
      expected = logits[top : top + window[0], left : left + window[1]]
      np.testing.assert_allclose(
        seen[: expected.shape[0], : expected.shape[1]], expected, atol=1e-5 * scale
      )
