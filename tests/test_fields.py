"""Fields of noise, views of outputs, and the blocks that follow from them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lrs_jax
from lrs_jax import collective, errors, keys, noise, sampling
from lrs_jax.cells import locality, partition, views
from lrs_jax.cells.views import View
from lrs_jax.tasks import images
from lrs_jax.tasks.models import folded_deeplab, folded_unet, folding, unet

KEY = jax.random.key(3)


def network(depth, positive=False):
  variables = unet.UNet(num_classes=2, width=2, depth=depth).init(
    KEY, np.zeros((1, 8, 8, 3), np.float32), train=False
  )
  params = folding.fold(variables)
  return jax.tree.map(lambda w: jnp.abs(w) + 0.01, params) if positive else params


@pytest.mark.parametrize(
  ("depth", "shape"), [(1, (12, 21)), (2, (30, 24)), (2, (19, 37)), (3, (56, 101))]
)
def test_the_view_of_a_network_is_exact(depth, shape):
  """Where all weights are positive, a row that is infinite makes all outputs so that see it."""
  params, view = network(depth, positive=True), folded_unet.view(depth, shape)
  model = jax.jit(lambda x: ~jnp.isfinite(folded_unet.apply(params, x)).all(axis=-1))
  x = np.full((*shape, 3), 0.5, np.float32)
  for axis, intervals in enumerate(view.axes):
    for place in range(shape[axis]):
      changed = np.moveaxis(x.copy(), axis, 0)
      changed[place] = np.inf
      found = np.asarray(model(np.moveaxis(changed, 0, axis)))
      sees = (intervals[:, 0] <= place) & (place < intervals[:, 1])
      np.testing.assert_array_equal(found, np.broadcast_to(np.expand_dims(sees, 1 - axis), shape))


def test_a_block_that_is_pooled_together_sees_46_pixels_around_it():
  rows, _ = folded_unet.view(3, (240, 240)).axes
  assert rows[104:112].min(axis=0)[0] == 104 - 46
  assert rows[104:112].max(axis=0)[1] == 112 + 46
  reach = max(int(abs(rows[i] - [i, i + 1]).max()) for i in range(96, 112))
  assert reach <= folded_unet.reach(network(3))
  assert folded_deeplab.view(2, (9, 12)).axes[1].tolist() == [[0, 12]] * 12


def random_view(rng, n):
  first = np.sort(rng.integers(0, n, n))
  end = np.maximum.accumulate(np.minimum(first + rng.integers(1, n, n), n))
  return View((np.stack([first, end], axis=1),), "random")


@pytest.mark.parametrize("seed", range(30))
def test_cells_lose_nothing(seed):
  """Against cells of one place each: the same groups, the same bound on every attack."""
  rng = np.random.default_rng(seed)
  n = int(rng.integers(4, 13))
  view, labels = random_view(rng, n), np.sort(rng.integers(0, 2, n))
  found = views.blocks(view, int(rng.integers(1, 4)), [labels])
  np.testing.assert_array_equal(views.seen(view, found.groups, found.cells), found.seen)
  finest = views.seen(view, found.groups, np.arange(n))
  level = np.array([4.0, 1.0])
  kind = np.zeros(len(found.seen), int)
  kind[found.groups] = labels
  price = np.where(kind[:, None] == labels, *level)  # dear in the own part, cheap elsewhere
  own = np.zeros(found.seen.shape[1], int)
  own[found.cells] = labels
  np.testing.assert_array_equal(own[found.cells], labels)  # no cell has two noises
  few = np.where(found.seen, np.where(kind[:, None] == own, *level), 0.0)
  eta = rng.choice([0.5, 1.0, 3.0], n)
  for method in ("envelope", "milp"):
    ways = [
      collective.certify(weights, found.groups, eta, [0.1, 0.4, 1.0, 3.0], method=method, gap=0)
      for weights in (few, price * finest)
    ]
    np.testing.assert_allclose(ways[0].attackable, ways[1].attackable, atol=1e-6)


def test_cells_of_a_large_image_are_few():
  """One for every place where a group's view begins: at most as many as groups."""
  found = views.blocks(folded_unet.view(3, (180, 240)), 8)
  assert found.seen.shape == (690, 198)
  assert views.blocks(folded_unet.view(3, (180, 240)), 1).seen.shape == (1785, 240)
  assert views.blocks(views.whole((180, 240)), 8).seen.tolist() == [[True]]


def test_blocks_of_volumes():
  found = views.blocks(views.around((4, 6, 8), 1), 2)
  assert found.seen.shape[0] == 2 * 3 * 4
  np.testing.assert_array_equal(
    views.seen(views.around((4, 6, 8), 1), found.groups, found.cells), found.seen
  )


@pytest.mark.parametrize(
  "fields",
  [
    noise.gaussian([[0.5, 1.0], [2.0, 0.5]], [0, 0, 1, 1]),
    noise.laplace([[0.5, 1.0], [2.0, 0.5]], [0, 0, 1, 1]),
    noise.uniform([[0.5, 1.0], [2.0, 0.5]], [0, 0, 1, 1]),
    noise.ablation([[0.5, 0.9], [0.6, 0.5]], [0, 0, 1, 1], fill=0.3),
    noise.flips([[0.1, 0.2], [0.3, 0.1]], [[0.1, 0.2], [0.3, 0.1]], [0, 0, 1, 1]),
  ],
)
def test_noise_as_it_is_seen(fields):
  sees = np.array(
    [[True, True, True, False], [True, False, True, True], [False, False, True, True]]
  )
  found = noise.seen(fields, [0, 0, 1], [0, 1, 2, 3], sees)
  wanted = np.where(sees, fields.weights[:, [0, 0, 1]][:, :, [0, 0, 1, 1]], 0)
  np.testing.assert_array_equal(found.weights, wanted)
  again = noise.make(found.family.name, found.parameters, found.cells)
  np.testing.assert_array_equal(again.weights, found.weights)


def test_noise_that_does_not_fit():
  one = noise.gaussian([[0.5, 1.0]], [0, 0, 1, 1])
  with pytest.raises(ValueError, match="one is in several of them"):
    noise.seen(one, [0], [0, 1, 1, 1], np.ones((1, 2)))
  with pytest.raises(ValueError, match="`cells` must have 1 axes"):
    noise.seen(one, [0, 0], [0, 1, 2, 3], np.ones((1, 4)))


def shifted(view, by):
  """A view whose poolings are aligned to other pixels."""
  axes = []
  for axis in view.axes:
    moved = np.roll(axis, by, axis=0) + by
    axes.append(np.clip(moved, 0, len(axis)))
  return View(tuple(axes), "misaligned")


def narrowed(view, side):
  axes = []
  for axis in view.axes:
    at = np.arange(len(axis))
    narrow = axis.copy()
    narrow[:, side] += 1 - 2 * side
    axes.append(np.stack([np.minimum(narrow[:, 0], at), np.maximum(narrow[:, 1], at + 1)], axis=1))
  return View(tuple(axes), "a pixel short")


PLACES = 8


@pytest.mark.parametrize("depth", [1, 2])
def test_mistakes_in_a_view_are_found(depth):
  x = np.random.default_rng(0).random((52, 60, 3)).astype(np.float32)
  params, view = network(depth), folded_unet.view(depth, x.shape[:2])
  sampling.check_view(folded_unet.apply, params, x, view, num_places=PLACES)
  wrong = [narrowed(view, 0), narrowed(view, 1), *(shifted(view, by) for by in (-1, 1))]
  wrong += [View((view.axes[0], narrowed(view, side).axes[1]), "columns") for side in (0, 1)]
  for other in wrong:
    with pytest.raises(errors.FartherViewError, match=other.origin):
      sampling.check_view(folded_unet.apply, params, x, other, num_places=PLACES)


def pools_the_image(params, x):
  """A network that adds the mean over the image to its logits."""
  logits = folded_unet.apply(params, x)
  return logits + 1e-3 * logits.mean(axis=(0, 1), keepdims=True)


def test_pooling_over_the_image_is_found_and_mended_by_tiles():
  x = np.random.default_rng(0).random((20, 28, 3)).astype(np.float32)
  params = network(1)
  with pytest.raises(errors.FartherViewError):
    sampling.check_view(
      pools_the_image, params, x, folded_unet.view(1, (20, 28)), num_places=PLACES
    )
  model = sampling.tiled(pools_the_image, 8, 4)
  view = views.tiles((20, 28), 8, 4)
  sampling.check_view(model, params, x, view, num_places=PLACES)
  for wrong in (views.tiles((20, 28), 8, 3), views.tiles((20, 28), 4, 4), narrowed(view, 0)):
    with pytest.raises(errors.FartherViewError):
      sampling.check_view(model, params, x, wrong, num_places=PLACES)


@pytest.mark.parametrize("shape", [(7, 12), (3, 4), (8, 8), (1, 9)])
def test_tiles_are_crops(shape):
  x = np.random.default_rng(0).random((*shape, 2)).astype(np.float32)

  def model(params, crop):
    whole = jnp.broadcast_to(crop.sum(), crop.shape[:2])
    return jnp.stack([whole, crop[..., 0]], axis=-1)

  found = jax.jit(lambda x: sampling.tiled(model, 3, 2)(None, x))(x)
  view = views.tiles(shape, 3, 2)
  for i, j in np.ndindex(shape):
    (top, bottom), (left, right) = view.axes[0][i], view.axes[1][j]
    assert top <= i < bottom
    assert left <= j < right
    assert (bottom - top, right - left) == (min(shape[0], 7), min(shape[1], 7))
    crop = x[top:bottom, left:right]
    np.testing.assert_allclose(found[i, j], [crop.sum(), x[i, j, 0]], rtol=1e-5)


def test_arguments_of_tiles_and_views():
  for core, context in ((0, 1), (1.5, 1), (2, -1), (2, True)):
    with pytest.raises(ValueError, match="must be an integer >="):
      sampling.tiled(pools_the_image, core, context)
  with pytest.raises(ValueError, match="`labels` must be one int"):
    views.blocks(views.whole((3, 4)), 1, [np.zeros(3)])
  for intervals in ([[0, 4]] * 3, [[1, 1]] * 3, [[-1, 2]] * 3):
    with pytest.raises(ValueError, match="intervals within the 3 places"):
      views.as_view(View((np.array(intervals),), ""), (3,))


def test_votes_are_those_of_the_fields_whatever_sees_them():
  """Drawing what groups see, hidden cells and all, has the law of drawing the whole field."""

  def means(params, x):  # of three neighbors
    padded = jnp.pad(x, 1)
    mean = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return jnp.stack([mean, 0.3 - mean], axis=-1)

  x, view, samples = np.linspace(0, 0.5, 12, dtype=np.float32), views.around((12,), 1), 4000
  one = noise.gaussian([[0.3]], np.zeros(12, int))
  seen, groups = noise.in_blocks(one, np.zeros(12, int), view, 2)
  assert (seen.weights == 0).any()
  drew = [
    np.asarray(sampling.vote_counts(key, means, None, x, which, of, samples, num_classes=2))[:, 0]
    for key, which, of in zip(
      jax.random.split(KEY), (one, seen), (np.zeros(12, int), groups), strict=True
    )
  ]
  share = sum(drew) / (2 * samples)
  error = np.sqrt(2 * share * (1 - share) / samples)
  assert (abs(drew[0] - drew[1]) / samples < 4.5 * error).all()


def test_every_pair_of_pixels_of_localized_noise():
  """W[g, c] = 1 / sigma^2 of the field where the group sees the cell, pair by pair."""
  shape = (10, 14)
  field = np.indices(shape)[1] // 7
  fields = noise.gaussian([[0.3, 0.9], [0.9, 0.3]], field)
  view = View(
    (views.spread(views.pooled(views.places(10), 2), 0).repeat(2, axis=0), views.places(14)), "rows"
  )
  found, groups = noise.in_blocks(fields, field, view, 3)
  groups = groups.reshape(shape)
  wanted = np.zeros(found.weights[0].shape)
  for (i, j), (k, l) in itertools.product(np.ndindex(shape), repeat=2):
    (top, bottom), (left, right) = view.axes[0][i], view.axes[1][j]
    if top <= k < bottom and left <= l < right:
      price = fields.weights[0, field[i, j], field[k, l]]
      wanted[groups[i, j], found.cells[k, l]] = price
  np.testing.assert_array_equal(found.weights[0], wanted)


@pytest.mark.parametrize(
  ("options", "names", "fields"),
  [
    ({}, ["certificate", "isotropic"], 1),
    ({"std_max": 0.6}, ["certificate", "isotropic", "isotropic-view"], 6),
    ({"std_max": 0.6, "colors": (2, 2)}, ["certificate", "isotropic", "isotropic-view"], 4),
    ({"std_max": 0.6, "colors": (1, 2)}, ["certificate", "isotropic", "isotropic-view"], 2),
    ({"view": "whole"}, ["certificate"], 1),
    ({"network": "deeplab"}, ["certificate"], 1),
    ({"isotropic_std": 0.4}, ["certificate", "isotropic", "isotropic-view"], 1),
    ({"std_max": 0.6, "view": "whole"}, ["certificate", "isotropic"], 6),
  ],
)
def test_how_images_are_smoothed(options, names, fields):
  """What is drawn, who shares samples, and every price, of pairs of pixels drawn at random."""
  config = images.Config(depth=1, **options)
  found = images.smoothings(config)
  assert [smoothing.name for smoothing in found] == names
  drawn, field = found[0].drawn
  assert drawn.num_groups == fields
  by_name = {smoothing.name: smoothing for smoothing in found}
  for smoothing in found:
    assert (smoothing.sampled == smoothing.name) == (not smoothing.samples)
    np.testing.assert_array_equal(
      smoothing.drawn[0].scale, by_name[smoothing.sampled].drawn[0].scale
    )
  view = images.network_view(config) if config.view == "network" else views.whole(config.size)
  cells, groups = found[0].noise.cells[..., 0], found[0].groups.reshape(config.size)
  rng, own = np.random.default_rng(0), drawn.cells[..., 0]
  for _ in range(300):
    (i, k), (j, l) = (rng.integers(0, n, 2) for n in config.size)
    (top, bottom), (left, right) = view.axes[0][i], view.axes[1][j]
    price = found[0].noise.weights[0, groups[i, j], cells[k, l]]
    if top <= k < bottom and left <= l < right:
      assert price >= drawn.weights[0, field.reshape(config.size)[i, j], own[k, l]] > 0
  assert (found[0].view != "") == (found[0].noise.weights.min() == 0)


def test_colors_need_localized_noise():
  for options in ({"colors": (2, 2)}, {"colors": (2, 2), "std_max": 0.6, "hide_beyond": 1.0}):
    with pytest.raises(ValueError, match="--colors need --std-max"):
      images.check(images.Config(**options))
  with pytest.raises(ValueError, match="`colors` are of the blocks of a `grid`"):
    lrs_jax.certify_segmentation(
      KEY, pools_the_image, network(1), np.zeros((8, 8, 3), np.float32), colors=(2, 2)
    )


def test_a_few_fields_share_their_passes():
  """Four colors of a grid of twelve cells: four passes a sample, and a proof from their votes."""
  image = np.random.default_rng(0).random((24, 32, 3)).astype(np.float32)
  params = network(1)
  params["logits"] = params["logits"][0], jnp.asarray([0.0, 1e-3])  # no ties
  certified = lrs_jax.certify_segmentation(
    KEY, folded_unet.apply, params, image, std=0.2, std_max=0.4, grid=(3, 4), colors=(2, 2),
    view=folded_unet.view(1, (24, 32)), radii=[0.0, 0.1, 0.3], num_samples=64, alpha=0.1,
    selection_samples=16,
  )  # fmt: skip
  lrs_jax.verify(certified)
  field = partition.coloring((3, 4), (2, 2)).reshape(-1)[partition.image_grid((24, 32), (3, 4))]
  colors = noise.gaussian(locality.own_color(4, 0.2, 0.4), field[..., None])
  counts = sampling.vote_counts(
    keys.tagged(KEY, "estimation"),
    folded_unet.apply,
    params,
    image,
    colors,
    field.ravel(),
    64,
    num_classes=2,
  )
  np.testing.assert_array_equal(certified.estimation.counts, counts)
  assert len(certified.noise.weights[0]) > 12


def test_what_groups_see_must_be_of_the_fields_that_are_drawn():
  """A certificate with other levels than were drawn would be wrong, and is refused."""

  def apply(params, x):
    return jnp.stack([x, 0.4 - x], axis=-1)

  x, view = np.linspace(0, 0.5, 8, dtype=np.float32), views.around((8,), 0)
  one, field = noise.gaussian([[0.3]], np.zeros(8, int)), np.zeros(8, int)
  seen, groups = noise.in_blocks(one, field, view, 2)
  options = {"num_samples": 100, "check": False, "radii": [0.0, 0.1]}
  certified = lrs_jax.certify(KEY, apply, None, x, seen, groups, fields=(one, field), **options)
  lrs_jax.verify(certified)
  assert "if no output sees what the noise of its group hides" in str(certified)
  louder, two = noise.gaussian([[0.6]], one.cells), noise.gaussian([[0.3], [0.3]], one.cells)
  split = np.arange(8) % 2  # two fields in one group
  for wrong, message in (
    ((louder, field), "`noise` must be what groups see of `fields`"),
    ((two, split), "of one of them each"),
    ((one, field[:7]), "`fields` must be int"),
    ((one, field + 1), r"must lie in \[0, G\) with G = 1 groups in `fields`"),
  ):
    with pytest.raises(ValueError, match=message):
      lrs_jax.certify(KEY, apply, None, x, seen, groups, fields=wrong, **options)
  with pytest.raises(ValueError, match="`noise` must be what groups see"):
    lrs_jax.verify(certified._replace(fields=(louder, field)))
  lrs_jax.verify(certified._replace(view=view))
  with pytest.raises(ValueError, match="`noise` hides cell 1 from group 0, which sees it"):
    lrs_jax.verify(certified._replace(view=views.around((8,), 1)))
