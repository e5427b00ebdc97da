import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrs_jax import noise, training
from lrs_jax.models.unet import UNet

IMAGES = np.random.default_rng(0).uniform(size=(6, 8, 8, 3)).astype(np.float32)
LABELS = (IMAGES[..., 0] > 0.5).astype(np.int32)
NOISE = noise.gaussian([[0.01, 0.02]], np.repeat([[0] * 8, [1] * 8], 4, axis=0)[..., None])


def train(labels=LABELS, **options):
  model = UNet(num_classes=2, width=4, depth=1)
  return model, *training.train(
    jax.random.key(0),
    model,
    IMAGES,
    labels,
    NOISE,
    **{"num_steps": 60, "learning_rate": 0.03, **options},
  )


def test_a_simple_rule_is_learned():
  model, variables, losses = train()
  assert losses.shape == (60,)
  assert losses[-5:].mean() < losses[:5].mean() / 2
  accuracy = (model.apply(variables, jnp.asarray(IMAGES)).argmax(axis=-1) == LABELS).mean()
  assert accuracy > 0.9


def test_void_pixels_do_not_count():
  """What a void pixel is labelled makes no difference, and void alone has no gradient."""
  half = LABELS.copy()
  half[:, :4] = 2
  other = LABELS.copy()
  other[:, :4] = -7
  _, first, loss = train(half, num_steps=3)
  _, second, _ = train(other, num_steps=3)
  jax.tree.map(np.testing.assert_array_equal, first, second)
  assert (loss > 0).all()
  assert (train(np.full_like(LABELS, 2), num_steps=2)[2] == 0).all()


def test_no_steps_return_the_initial_network():
  _, variables, losses = train(num_steps=0)
  assert losses.shape == (0,)
  assert all(np.isfinite(p).all() for p in jax.tree.leaves(variables))


@pytest.mark.parametrize("seed", range(4))
def test_mirroring_treats_image_and_labels_alike(seed):
  image, labels = training.mirror(jax.random.key(seed), jnp.asarray(IMAGES[0]), LABELS[0])
  np.testing.assert_array_equal(image[..., 0] > 0.5, labels == 1)


def test_mirroring_happens_to_some():
  keys = jax.random.split(jax.random.key(0), 20)
  images = jax.vmap(training.mirror, in_axes=(0, None, None))(keys, IMAGES[0], LABELS[0])[0]
  flipped = [not np.array_equal(image, IMAGES[0]) for image in images]
  assert 0 < sum(flipped) < 20
