import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrs_jax.tasks.models.unet import UNet


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (1, 5)])
def test_logits_have_the_images_size_whatever_it_is(size):
  model = UNet(num_classes=4, width=2, depth=3)
  x = jnp.ones((*size, 3))
  logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
  assert logits.shape == (*size, 4)
  assert logits.dtype == jnp.float32


def test_a_prediction_depends_on_one_image_only():
  """At inference BatchNorm is a fixed affine map: other images in a batch change nothing."""
  model = UNet(num_classes=3, width=2, depth=2)
  images = jax.random.uniform(jax.random.key(1), (4, 10, 12, 3))
  variables, apply = jax.jit(model.init)(jax.random.key(0), images[0]), jax.jit(model.apply)
  for image, logits in zip(images, apply(variables, images), strict=True):
    np.testing.assert_allclose(apply(variables, image), logits, rtol=1e-4, atol=1e-4)


def test_batch_norm_is_affine_at_inference_and_not_in_training():
  model = UNet(num_classes=3, width=2, depth=1)
  images = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3))
  variables = jax.jit(model.init)(jax.random.key(0), images[0])
  train = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
  logits, updates = train(variables, images)
  changed = jax.tree.map(
    lambda a, b: bool((a != b).any()), variables["batch_stats"], updates["batch_stats"]
  )
  assert all(jax.tree.leaves(changed))
  other = train(variables, images[:1])[0]
  assert not np.allclose(other, logits[:1], atol=1e-4)


def test_width_and_depth_configure_the_network():
  key, x = jax.random.key(0), jnp.ones((16, 16, 3))
  sizes = [
    sum(p.size for p in jax.tree.leaves(jax.eval_shape(UNet(2, width, depth).init, key, x)))
    for width, depth in ((2, 1), (4, 1), (4, 2))
  ]
  assert sizes[0] < sizes[1] < sizes[2]
