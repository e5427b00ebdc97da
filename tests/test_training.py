import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrs_jax import noise
from lrs_jax.tasks import training
from lrs_jax.tasks.models.unet import UNet

IMAGES = np.random.default_rng(0).uniform(size=(6, 8, 8, 3)).astype(np.float32)
LABELS = (IMAGES[..., 0] > 0.5).astype(np.int32)
NOISE = noise.gaussian([[0.01, 0.02]], np.repeat([[0] * 8, [1] * 8], 4, axis=0)[..., None])


RANDOM_GROUP = training.random_group(NOISE)
RESCALE = jax.jit(training.rescale)


def train(labels=LABELS, expose=RANDOM_GROUP, **options):
  model = UNet(num_classes=2, width=4, depth=1)
  return model, *training.train(
    jax.random.key(0),
    model,
    IMAGES,
    labels,
    expose,
    **{"num_steps": 60, "learning_rate": 0.03, **options},
  )


@pytest.fixture(scope="module")
def trained():
  return train()


def test_a_simple_rule_is_learned(trained):
  model, variables, losses = trained
  assert losses.shape == (60,)
  assert losses[-5:].mean() < losses[:5].mean() / 2
  accuracy = (jax.jit(model.apply)(variables, IMAGES).argmax(axis=-1) == LABELS).mean()
  assert accuracy > 0.9


def test_other_noise_is_no_other_program(trained):
  """Levels are arrays: a study of many networks compiles a step once."""
  programs = training._step._cache_size()
  louder = noise.gaussian(10 * NOISE.scale, NOISE.cells)
  train(expose=training.random_group(louder))
  assert training._step._cache_size() == programs


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
  assert (train(np.full_like(LABELS, 2), num_steps=3)[2] == 0).all()


def test_no_steps_return_the_initial_network():
  _, variables, losses = train(num_steps=0)
  assert losses.shape == (0,)
  assert all(np.isfinite(p).all() for p in jax.tree.leaves(variables))


@pytest.mark.parametrize("seed", range(4))
def test_mirroring_treats_image_and_labels_alike(seed):
  image, labels = training.mirror(jax.random.key(seed), jnp.asarray(IMAGES[0]), LABELS[0])
  np.testing.assert_array_equal(image[..., 0] > 0.5, labels == 1)


@pytest.mark.parametrize("seed", range(6))
def test_rescaling_treats_image_and_labels_alike(seed):
  rows, columns = np.meshgrid(np.arange(24), np.arange(32), indexing="ij")
  labels = rows * 32 + columns
  image = np.stack([rows, columns, rows], axis=-1).astype(np.float32)
  scaled, moved = RESCALE(jax.random.key(seed), jnp.asarray(image), jnp.asarray(labels))
  moved = np.asarray(moved)
  inside = moved >= 0
  assert 0.2 < inside.mean() <= 1
  assert np.abs(np.asarray(scaled[..., 0]) - moved // 32)[inside].max() <= 0.5 + 1e-4
  assert np.abs(np.asarray(scaled[..., 1]) - moved % 32)[inside].max() <= 0.5 + 1e-4
  assert set(moved[~inside].tolist()) <= {-1}


def test_crops_are_pieces_of_the_augmented_image():
  labels = np.arange(24 * 32).reshape(24, 32)
  image = labels[..., None].astype(np.float32)
  crop = jax.vmap(training.random_crop((22, 30), training.mirror), in_axes=(0, None, None))
  crop = jax.jit(crop)
  keys = jax.random.split(jax.random.key(0), 400)
  pieces, moved = crop(keys, jnp.asarray(image), jnp.asarray(labels))
  np.testing.assert_array_equal(pieces[..., 0], moved)
  steps = np.diff(np.asarray(moved), axis=2)
  assert set(np.unique(steps)) == {-1, 1}  # mirrored or not
  assert (np.diff(np.asarray(moved), axis=1) == 32).all()
  assert moved.min() == 0  # every place occurs, the last one too
  assert moved.max() == 24 * 32 - 1


def test_mirroring_happens_to_some():
  keys = jax.random.split(jax.random.key(0), 20)
  mirror = jax.jit(jax.vmap(training.mirror, in_axes=(0, None, None)))
  images = mirror(keys, IMAGES[0], LABELS[0])[0]
  flipped = [not np.array_equal(image, IMAGES[0]) for image in images]
  assert 0 < sum(flipped) < 20


def test_views_under_noise():
  """A random group's view counts everywhere; stitched views count where their group lies."""
  image = jnp.asarray(IMAGES[0])
  views, counted = jax.jit(RANDOM_GROUP)(jax.random.key(1), image)
  assert views.shape == (1, 8, 8, 3)
  assert counted.all()
  groups = np.repeat([[0] * 8, [1] * 8], 4, axis=0)
  wide = noise.gaussian([[0.01, 1.0], [1.0, 0.01]], NOISE.cells)
  views, counted = jax.jit(training.stitched(wide, groups))(jax.random.key(1), image)
  np.testing.assert_array_equal(counted.sum(axis=0), 1)
  np.testing.assert_array_equal(counted[1], groups == 1)
  rows = noise.gaussian(np.concatenate([wide.scale, 2 * wide.scale]), wide.cells)
  seen, own_pixels = [], jax.jit(training.own_pixels(rows, groups))
  for seed in range(12):
    views_one, counted_one = own_pixels(jax.random.key(seed), image)
    own = np.asarray(counted_one)[0]
    assert np.array_equal(own, groups == groups[own][0])
    away = np.abs(np.asarray(views_one) - IMAGES[:1])[0].mean(axis=-1)
    assert away[own].max() < 0.1 < away[~own].mean()
    seen.append(groups[own][0])
  assert set(seen) == {0, 1}
  spread = np.abs(np.asarray(views) - IMAGES[:1]).mean(axis=-1)
  assert spread[np.asarray(counted)].max() < 0.05 < spread[~np.asarray(counted)].mean()


def test_stitched_training_learns_too():
  groups = np.repeat([[0] * 8, [1] * 8], 4, axis=0)
  _, _, losses = train(expose=training.stitched(NOISE, groups))
  assert losses[-5:].mean() < losses[:5].mean() / 2


def test_training_goes_on_from_a_trained_network(trained):
  _, variables, losses = trained
  _, further, after = train(variables=variables, num_steps=3, learning_rate=1e-6)
  assert after.max() < losses[:5].mean() / 2
  difference = jax.tree.map(
    lambda a, b: np.abs(a - b).max(), variables["params"], further["params"]
  )
  assert 0 < max(jax.tree.leaves(difference)) < 1e-4


class _StoppedOnce(training.tqdm):
  """A progress bar at whose first update the user presses Ctrl-C."""

  def update(self, n=1):
    raise KeyboardInterrupt


def test_a_stopped_training_goes_on_to_the_same_network(tmp_path, monkeypatch):
  _, whole, losses = train(num_steps=25)
  checkpoint = training.Checkpoint(tmp_path / "net.partial.npz", {"job": 1})
  with monkeypatch.context() as patch:
    patch.setattr(training, "tqdm", _StoppedOnce)
    with pytest.raises(KeyboardInterrupt):
      train(num_steps=25, checkpoint=checkpoint)
  assert len(np.load(checkpoint.path)["losses"]) == 20
  _, resumed, again = train(num_steps=25, checkpoint=checkpoint)
  np.testing.assert_array_equal(losses, again)
  jax.tree.map(np.testing.assert_array_equal, whole, resumed)
  with pytest.raises(ValueError, match="holds another training"):
    train(num_steps=25, checkpoint=checkpoint._replace(manifest={"job": 2}))
  checkpoint.path.write_bytes(b"half a file")
  with pytest.raises(ValueError, match="cannot read"):
    train(num_steps=25, checkpoint=checkpoint)
