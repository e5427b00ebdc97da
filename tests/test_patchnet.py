"""The PatchNet, folded, in windows, and what it sees; networks that know where a pixel lies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrs_jax import errors, sampling
from lrs_jax.tasks import images, training
from lrs_jax.tasks.models import folded_patchnet, folding, positions
from lrs_jax.tasks.models.architectures import architecture
from lrs_jax.tasks.models.patchnet import PatchNet

KEY = jax.random.key(0)


def trained(size, depth, channels=3):
  """A PatchNet whose BatchNorm has statistics, scales and biases of its own, and an image."""
  model, rng = PatchNet(num_classes=3, width=3, depth=depth), np.random.default_rng(1)
  shapes = jax.eval_shape(model.init, KEY, jnp.zeros((8, 8, channels)))

  def some(path, leaf):
    if path[-1].key == "kernel":
      return rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape).astype(np.float32)
    low = 0.5 if path[-1].key in ("var", "scale") else -0.5
    return rng.uniform(low, low + 1, leaf.shape).astype(np.float32)

  variables = jax.tree_util.tree_map_with_path(some, shapes)
  return model, variables, jnp.asarray(rng.random((*size, channels), np.float32))


@pytest.mark.parametrize("size", [(16, 24), (13, 18), (3, 5)])
def test_folding_changes_nothing_but_rounding(size):
  model, variables, x = trained(size, 2)
  logits = jax.jit(model.apply)(variables, x)
  assert logits.shape == (*size, 3)
  assert (np.ptp(logits, axis=(0, 1)) > 0).all()
  folded = jax.jit(folded_patchnet.apply)(folding.fold(variables), x)
  np.testing.assert_allclose(folded, logits, atol=1e-5 * float(jnp.abs(logits).max()))
  batched = jax.jit(model.apply)(variables, jnp.stack([1 - x, x]))[1]
  np.testing.assert_allclose(batched, logits, atol=1e-5 * float(jnp.abs(logits).max()))


@pytest.mark.parametrize(
  ("size", "window"), [((40, 52), (14, 17)), ((37, 50), (8, 12)), ((12, 70), (12, 3))]
)
def test_a_window_has_the_logits_of_the_whole(size, window):
  _, variables, x = trained(size, 1)
  params = folding.fold(variables)
  whole = np.asarray(folded_patchnet.apply(params, x))
  evaluate = jax.jit(folded_patchnet.window(window))
  for row in range(0, size[0] - window[0] + 4, 4):
    for column in range(0, size[1] - window[1] + 4, 4):
      found = evaluate(params, x, jnp.array([row, column], jnp.int32))
      there = whole[row : row + window[0], column : column + window[1]]
      assert found.shape == (*window, 3)
      np.testing.assert_allclose(found[: len(there), : there.shape[1]], there, atol=1e-5)


@pytest.mark.parametrize(("depth", "shape"), [(1, (41, 30)), (2, (44, 47))])
def test_the_view_is_exact(depth, shape):
  """Where all weights are positive, a row that is infinite makes all outputs so that see it."""
  _, variables, x = trained(shape, depth)
  params = jax.tree.map(lambda w: jnp.abs(w) + 0.01, folding.fold(variables))
  view = folded_patchnet.view(depth, shape)
  model = jax.jit(lambda x: ~jnp.isfinite(folded_patchnet.apply(params, x)).all(axis=-1))
  for axis, intervals in enumerate(view.axes):
    for place in range(shape[axis]):
      changed = np.moveaxis(np.array(x), axis, 0)
      changed[place] = np.inf
      found = np.asarray(model(np.moveaxis(changed, 0, axis)))
      sees = (intervals[:, 0] <= place) & (place < intervals[:, 1])
      np.testing.assert_array_equal(found, np.broadcast_to(np.expand_dims(sees, 1 - axis), shape))


def test_positions_are_no_part_of_what_can_be_changed():
  _, variables, x = trained((48, 40), 1, channels=5)
  params, ours = folding.fold(variables), architecture("patchnet", True)
  whole = positions.append(x[..., :3])
  assert whole.shape == (48, 40, 5)
  np.testing.assert_allclose(whole[:, 0, 3], (np.arange(48) + 0.5) / 48, rtol=1e-6)
  np.testing.assert_allclose(whole[0, :, 4], (np.arange(40) + 0.5) / 40, rtol=1e-6)
  logits = ours.apply(params, x[..., :3])
  np.testing.assert_array_equal(logits, folded_patchnet.apply(params, whole))
  window = ours.window((8, 8))(params, x[..., :3], jnp.array([16, 32], jnp.int32))
  np.testing.assert_allclose(window, logits[16:24, 32:40], atol=1e-5)
  sampling.check_view(ours.apply, params, x[..., :3], ours.view(1, (48, 40)))
  with pytest.raises(errors.FartherViewError):
    sampling.check_view(ours.apply, params, x[..., :3], 4)
  assert ours.apply is architecture("patchnet", True).apply  # or it would be compiled again


def test_noise_leaves_positions_as_they_are():
  config = images.Config(network="patchnet", positions=True, size=(16, 24))
  expose = positions.kept(training.random_group(images.fields(config)))
  x = positions.append(jax.random.uniform(KEY, (16, 24, 3)))
  views, counts = expose(jax.random.key(1), x)
  assert views.shape == (1, 16, 24, 5)
  assert counts.shape == ()
  np.testing.assert_array_equal(views[0, :, :, 3:], x[:, :, 3:])
  assert float(jnp.std(views[0, :, :, :3] - x[:, :, :3])) == pytest.approx(0.15, rel=0.1)
