"""Volumes: the task's parts, and that they fit together, at a size of seconds."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrs_jax import collective, noise
from lrs_jax.confidence import certificates
from lrs_jax.tasks import options, training, volumes
from lrs_jax.tasks.data import bodies
from lrs_jax.tasks.models import slabs

TINY = volumes.Config(
  size=(8, 8, 12),
  volumes=2,
  grid=(1, 2, 3),
  std_min=0.15,
  std_max=0.5,
  width=2,
  depth=1,
  steps=6,
  batch_size=2,
  learning_rate=1e-2,
  samples=64,
  selection_samples=32,
  alpha=0.1,
)


@pytest.fixture(scope="module", autouse=True)
def _few_training_volumes():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(volumes, "TRAINING_VOLUMES", 4)
    yield


@pytest.fixture(scope="module")
def data():
  return volumes.TASK.load(TINY)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory, _few_training_volumes):
  return train(data, tmp_path_factory.mktemp("volumes") / "net.partial.npz")


def train(data, path):
  return volumes.TASK.models.train(jax.random.key(0), TINY, data, "", path, {"job": 1})


def test_volumes_are_made_from_disjoint_seeds():
  loaded = {split: bodies.load(split, (8, 12, 16), 3) for split in bodies.SPLITS}
  for volume in loaded.values():
    assert volume.volumes.shape == (3, 8, 12, 16, 1)
    assert volume.volumes.dtype == np.float32
    assert volume.labels.shape == (3, 8, 12, 16)
    assert volume.labels.dtype == np.int32
    assert 0 <= volume.volumes.min() <= volume.volumes.max() <= 1
  every = np.concatenate([volume.volumes for volume in loaded.values()])
  assert len(np.unique(every.reshape(9, -1), axis=0)) == 9
  again = bodies.load("val", (8, 12, 16), 2)
  np.testing.assert_array_equal(again.volumes, loaded["val"].volumes[:2])
  np.testing.assert_array_equal(again.labels, loaded["val"].labels[:2])
  assert (bodies.load("val", (8, 12, 16), 2, seed=1).volumes != again.volumes).any()


def test_all_classes_occur_and_no_brightness_tells_them():
  loaded = bodies.load("train", (16, 24, 24), 20)
  means = [loaded.volumes[..., 0][loaded.labels == k].mean() for k in range(4)]
  shares = [(loaded.labels == k).mean() for k in range(4)]
  assert min(shares) > 0.05
  assert np.ptp(means) < 0.03


def test_textures_alternate_along_the_axes_of_their_class():
  loaded = bodies.load("train", (16, 24, 24), 20)
  for k, axes in enumerate(bodies.TEXTURES):
    for axis in range(3):
      values, labels = (
        np.moveaxis(a, axis + 1, 1) for a in (loaded.volumes[..., 0], loaded.labels)
      )
      inside = (labels[:, 1:] == k) & (labels[:, :-1] == k)
      step = np.abs(np.diff(values, axis=1))[inside].mean()
      assert (step > bodies.CONTRAST) == (axis in axes)


def test_what_there_is_not_is_refused():
  with pytest.raises(ValueError, match="`split` must be one of train, val, test"):
    bodies.load("dev", (8, 8, 8), 1)
  with pytest.raises(ValueError, match="`size` must be at least 8x8x8 voxels, but it is 7x8x8"):
    bodies.load("val", (7, 8, 8), 1)


def random_network(depth, width=3, seed=0):
  """A network and variables for it, all at random: its statistics are not those of a new one."""
  rng = np.random.default_rng(seed)
  model = slabs.Slabs(num_classes=3, width=width, depth=depth)
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((8, 8, 8, 1)))

  def some(path, leaf):
    low = 0.5 if path[0].key == "batch_stats" else -0.5  # variances are positive
    return rng.uniform(low, 1.0, leaf.shape).astype(np.float32)

  return model, jax.tree_util.tree_map_with_path(some, shapes)


APPLY = jax.jit(slabs.apply)


@pytest.mark.parametrize("size", [(8, 8, 12), (9, 7, 5)])
def test_the_folded_network_is_the_network(size):
  model, variables = random_network(depth=2)
  x = jax.random.uniform(jax.random.key(3), (2, *size, 1))
  whole = jax.jit(model.apply)(variables, x)
  assert whole.shape == (2, *size, 3)
  for one, logits in zip(x, whole, strict=True):
    found = APPLY(slabs.fold(variables), one)
    np.testing.assert_allclose(found, logits, atol=1e-5 * float(jnp.abs(logits).max()))


def test_a_slab_convolution_is_one_in_three_dimensions():
  x = jax.random.normal(jax.random.key(0), (5, 6, 7, 2))
  kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 2, 4))  # depth, height, width
  flat = jnp.moveaxis(kernel, 0, 2).reshape(3, 3, 6, 4)
  found = jax.lax.conv_general_dilated(
    slabs.stack(x), flat, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  wanted = jax.lax.conv_general_dilated(
    x[None], kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
  )[0]
  np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_network_sees_as_far_as_it_says_and_no_farther(depth):
  """What is far from a voxel changes nothing there, whatever it is; what is near may."""
  sight, reached = slabs.reach(depth), []
  for seed, at in enumerate([(7, 7, 8), (8, 8, 7), (0, 15, 6), (7, 8, 8), (5, 9, 15)]):
    away = np.abs(np.indices((16, 16, 16)) - np.reshape(at, (3, 1, 1, 1))).max(axis=0)[..., None]
    params = slabs.fold(random_network(depth, seed=seed)[1])
    x = np.random.default_rng(seed).uniform(size=away.shape).astype(np.float32)
    logits, farther, as_far = (
      np.asarray(APPLY(params, np.where(changed, 10 - 20 * x, x))[at])
      for changed in (away < 0, away > sight, away >= sight)
    )
    np.testing.assert_array_equal(logits, farther)
    reached.append((logits != as_far).any())
  assert any(reached)  # the claim is tight


def test_what_the_network_does_not_see_is_hidden():
  """And nothing else: hiding it changes no logit of the group."""
  config = TINY._replace(size=(8, 8, 24), grid=(1, 1, 4))
  scale = volumes.localized_noise(config).scale
  np.testing.assert_array_equal(np.isinf(scale), np.abs(np.subtract.outer(range(4), range(4))) > 1)
  assert (np.diagonal(scale) == config.std_min).all()
  assert scale[np.isfinite(scale)].max() == config.std_max
  _, variables = random_network(config.depth)
  params, groups = slabs.fold(variables), volumes.output_groups(config)
  x = jax.random.uniform(jax.random.key(3), (*config.size, 1))
  for group in range(4):
    seen = jnp.asarray(np.isfinite(scale[group])[groups])[..., None]
    shown = APPLY(params, jnp.where(seen, x, 0))
    own = groups == group
    np.testing.assert_array_equal(shown[own], APPLY(params, x)[own])


@pytest.mark.parametrize("seed", range(3))
def test_mirroring_treats_volume_and_labels_alike(seed):
  labels = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(np.int32)
  volume, moved = volumes.mirror(jax.random.key(seed), jnp.asarray(labels[..., None]), labels)
  np.testing.assert_array_equal(volume[..., 0], moved)
  assert sorted(np.ravel(moved)) == list(range(24))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"grid": (1, 9, 3)}, "--grid must be at most --size 8x8x12, but it is 1x9x3"),
    ({"std_min": 0.6}, "--std-min must be at most --std-max, but they are 0.6 and 0.5"),
    ({"size": (8, 4, 12)}, "--size must be at least 8 each, but one of them is 4"),
    ({"grid": (0, 2, 3)}, "--grid must be at least 1, but one of them is 0"),
    ({"volumes": 0}, "--volumes must be at least 1"),
    ({"std_max": np.inf}, "--std-max must be positive and finite"),
    ({"isotropic_std": 0.0}, "--isotropic-std must be positive"),
  ],
)
def test_options_that_cannot_be_right_are_refused(change, message):
  config = TINY._replace(**change)

  def every_check():
    options.check(config)
    volumes.TASK.check(config)

  with pytest.raises(ValueError, match=message):
    every_check()


def test_defaults_are_right():
  for config in volumes.TASK.data.values():
    options.check(config)
    volumes.TASK.check(config)
    assert np.isinf(volumes.localized_noise(config).scale).any()


def test_records_of_other_noise_or_groups_are_refused(data):
  smoothings = volumes.TASK.smoothings(TINY, data, data.cases[0])
  for smoothing in smoothings:
    own, distribution = smoothing.groups, smoothing.noise
    record = SimpleNamespace(smoothing=smoothing, noise=distribution, groups=own, meta={})
    volumes.TASK.check_record(TINY, record)
    other = noise.gaussian(distribution.scale * 2, distribution.cells)
    for change, message in (
      ({"noise": other}, "`noise` or `cells` are not those"),
      ({"groups": own + 1}, "`groups` are not those"),
      ({"meta": {"view": "narrow"}}, "`view`"),
      ({"smoothing": smoothing._replace(name="b")}, "one of certificate, isotropic in .* is 'b'"),
    ):
      with pytest.raises(ValueError, match=message):
        volumes.TASK.check_record(TINY, SimpleNamespace(**{**vars(record), **change}))
    with pytest.raises(ValueError, match="`noise` or `cells` are not those"):
      volumes.TASK.check_record(TINY._replace(std_min=0.2), record)


class _StoppedOnce(training.tqdm):
  """A progress bar at whose first update the user presses Ctrl-C."""

  def update(self, n=1):
    raise KeyboardInterrupt


def test_a_stopped_training_goes_on_to_the_same_network(data, trained, tmp_path):
  path = tmp_path / "net.partial.npz"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(training, "tqdm", _StoppedOnce)
    with pytest.raises(KeyboardInterrupt):
      train(data, path)
  assert path.exists()
  variables, meta = train(data, path)
  jax.tree.map(np.testing.assert_array_equal, variables, trained[0])
  assert meta == trained[1]
  with pytest.raises(ValueError, match="holds another training"):
    volumes.TASK.models.train(jax.random.key(0), TINY, data, "", path, {"job": 2})


def test_a_task_from_data_to_certificates(data, trained):
  task, (variables, meta) = volumes.TASK, trained
  assert len(meta["loss"]) == TINY.steps
  shape = jax.tree.map(lambda a: (a.shape, a.dtype), task.models.shapes(TINY, data))
  assert shape == jax.tree.map(lambda a: (a.shape, a.dtype), variables)
  assert task.models.network(TINY, data, "").options["grid"] == [1, 2, 3]
  params, case = task.models.finish(TINY, data, variables), data.cases[1]
  assert task.models.predict(TINY, data, params, case).shape == case.truth.shape
  found = task.smoothings(TINY, data, case)
  assert [smoothing.name for smoothing in found] == ["certificate", "isotropic"]
  adversaries = task.adversaries(TINY, data, case, found)
  records = []
  for smoothing, adversary in zip(found, adversaries, strict=True):
    count = task.counter(TINY, data, params, case, smoothing)
    key_selection, key_estimation = jax.random.split(jax.random.key(1))
    selection = count(key_selection, TINY.selection_samples, 0)
    whole, *parts = (count(key_estimation, *n) for n in ((64, 0), (32, 0), (32, 32)))
    np.testing.assert_array_equal(whole.votes.sum(axis=1), TINY.samples)
    np.testing.assert_array_equal(whole.votes, sum(part.votes for part in parts))
    base = certificates.from_votes(
      smoothing.noise, smoothing.groups, selection.votes, whole.votes, alpha=TINY.alpha
    )
    certified = collective.certify(base.weights, base.groups, base.eta, adversary.budgets)
    collective.verify(base.weights, base.groups, base.eta, certified)
    assert certified.certified[0] == (base.eta > 0).sum() > 0
    assert certified.certified[-1] == 0
    records.append(type("Record", (), {"base": base}))
  figures = task.figures(TINY, data, [records[0]] * 2, {})
  assert set(figures) == {"noise.png", "volume-000/volume.png", "volume-001/volume.png"}
  for figure in figures.values():
    figure.canvas.draw()
