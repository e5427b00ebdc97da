"""Models that see farther than they are said to are refused, and others pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrs_jax import errors, sampling
from lrs_jax.tasks.models import folded_unet, folding, unet

KEY = jax.random.key(0)
X = np.random.default_rng(0).random((40, 48, 3)).astype(np.float32)


def two(values):
  return jnp.stack([values, -values], axis=-1)


def box(radius):
  """Every output is the sum of the pixels within `radius`."""

  def apply(params, x):
    return two(
      jax.lax.conv_general_dilated(
        x[None], jnp.ones((2 * radius + 1, 2 * radius + 1, 3, 1)), (1, 1), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
      )[0, ..., 0]
    )  # fmt: skip

  return apply


def pooled(width):
  """Every output is the greatest value of the block of `width` pixels that it lies in."""

  def apply(params, x):
    height, breadth = (-(-size // width) * width for size in x.shape[:2])
    padded = jnp.pad(x, ((0, height - x.shape[0]), (0, breadth - x.shape[1]), (0, 0)))
    blocks = padded.reshape(height // width, width, breadth // width, width, 3).max(axis=(1, 3, 4))
    return two(blocks.repeat(width, 0).repeat(width, 1)[: x.shape[0], : x.shape[1]])

  return apply


@pytest.mark.parametrize(
  ("apply", "sees"),
  [
    (box(0), 0),
    (box(1), 1),
    (box(7), 7),
    (pooled(4), 3),
    (pooled(32), 31),
    (lambda p, x: two(x.sum(axis=2) + jnp.pad(x, ((9, 0), (0, 0), (0, 0)))[:-9].sum(axis=2)), 9),
    (lambda p, x: two(x.sum(axis=2) + jnp.pad(x, ((0, 0), (0, 5), (0, 0)))[:, 5:].sum(axis=2)), 5),
  ],
)
def test_the_view_of_known_models(apply, sees):
  for view in (sees, sees + 1, 100):
    sampling.check_view(apply, None, X, view)
  for view in {max(sees - 1, 0), 0} - {sees}:
    with pytest.raises(errors.FartherViewError, match=r"sees .* pixels far, more than the rows"):
      sampling.check_view(apply, None, X, view)
  if sees:
    with pytest.raises(errors.FartherViewError, match=f"sees {sees} pixels far"):
      sampling.check_view(apply, None, X, sees - 1)


@pytest.mark.parametrize(
  "apply",
  [
    lambda p, x: two(x[..., 0] - x.mean()),
    lambda p, x: two(x[..., 0] + 0 * x.sum()),  # shows nan alone
    lambda p, x: two(x[..., 0] + jnp.isnan(x).any().astype(x.dtype)),
    lambda p, x: two(x[..., 0] + (x > 100).any().astype(x.dtype)),  # hides nan
    lambda p, x: two(x[..., 0] + (x > 0.5).sum(dtype=x.dtype) * 1e-3),
    lambda p, x: two(x[..., 0] * jax.lax.rsqrt(x.var() + 1e-3)),  # as a normalization would
    lambda p, x: two(jnp.roll(x, 1, axis=0)[..., 0]),  # around the edge
  ],
)
def test_what_sees_the_whole_image(apply):
  with pytest.raises(errors.FartherViewError):
    sampling.check_view(apply, None, X, 10)


def test_the_error_says_where_and_how_far():
  def apply(params, x):  # one output alone looks across the image
    return two(x[..., 0].at[3, 4].add(x[39, 47, 0]))

  with pytest.raises(errors.FartherViewError, match=r"output at \(3, 4\) sees 43 pixels far"):
    sampling.check_view(apply, None, X, 20)
  sampling.check_view(apply, None, X, 43)


def test_a_network_with_poolings_to_the_pixel():
  """Where all weights are positive, a huge pixel reaches every output that sees it."""
  x = np.full((80, 88, 3), 0.6, np.float32)
  variables = unet.UNet(num_classes=2, width=4, depth=2).init(KEY, x[None], train=False)
  params = folding.fold(variables)
  positive = jax.tree.map(lambda weights: jnp.abs(weights) + 0.01, params)
  model = jax.jit(folded_unet.apply)
  before = np.asarray(model(positive, x))
  sees = 0
  for place in range(40, 44):  # all alignments
    after = np.asarray(model(positive, jnp.asarray(x).at[place, place].set(1e6)))
    changed = np.argwhere((after != before).any(axis=-1))
    sees = max(sees, int(np.abs(changed - place).max()))
  assert 0 < sees <= folded_unet.reach(params)
  image = np.random.default_rng(0).random((80, 88, 3)).astype(np.float32)
  sampling.check_view(folded_unet.apply, params, image, sees, num_places=8)
  with pytest.raises(errors.FartherViewError, match=f"sees {sees} pixels far"):
    sampling.check_view(folded_unet.apply, params, image, sees - 1, num_places=8)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_narrow_logits_and_gray_images(dtype):
  sampling.check_view(lambda p, x: two(x).astype(dtype), None, X[..., 0], 0)
  with pytest.raises(errors.FartherViewError):
    sampling.check_view(lambda p, x: two(x + x.sum()).astype(dtype), None, X[..., 0], 0)


def test_constant_images_and_small_ones():
  sampling.check_view(box(2), None, np.zeros((40, 48, 3), np.float32), 2)
  sampling.check_view(box(2), None, np.zeros((1, 1, 3), np.float32), 0)
  with pytest.raises(errors.FartherViewError):
    sampling.check_view(box(2), None, np.zeros((5, 1, 3), np.float32), 1)


def test_a_model_with_random_numbers_cannot_be_tested():
  rng = np.random.default_rng(0)

  def apply(params, x):
    noise = jax.pure_callback(
      lambda: rng.normal(size=(40, 48)).astype(np.float32),
      jax.ShapeDtypeStruct((40, 48), np.float32),
    )
    return two(x[..., 0] + noise)

  with pytest.raises(errors.NotDeterministicError, match="what an output sees"):
    sampling.check_view(apply, None, X, 3)


def test_arguments():
  for view in (-1, 1.5, True, None):
    with pytest.raises(ValueError, match="`view` must be a number of pixels"):
      sampling.check_view(box(1), None, X, view)
  with pytest.raises(errors.NotLogitsError, match="one output for every pixel"):
    sampling.check_view(lambda p, x: two(x[::2, :, 0]), None, X, 3)
  with pytest.raises(errors.IntegerInputError):
    sampling.check_view(box(1), None, np.zeros((40, 48, 3), np.uint8), 3)
