"""Models of other frameworks get the noise, and the certificates, of those in JAX."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lrs_jax
from lrs_jax import errors, noise, sampling
from lrs_jax.cells import partition, views
from lrs_jax.sampling import external

KEY = jax.random.key(11)
X = np.random.default_rng(0).random((6, 8, 3)).astype(np.float32)
CELLS = partition.image_grid((6, 8), (2, 2))
GROUPS = CELLS.ravel()
NEAR = np.array(
  [[0.1, 0.4, 0.4, 0.7], [0.4, 0.1, 0.7, 0.4], [0.4, 0.7, 0.1, 0.4], [0.1, 0.4, 0.4, 0.7]]
)
NOISES = {
  "gaussian": noise.gaussian(NEAR, CELLS[..., None]),
  "hiding": noise.gaussian(np.where(NEAR == 0.7, np.inf, NEAR), CELLS[..., None]),
  "laplace": noise.laplace(NEAR, CELLS[..., None]),
  "uniform": noise.uniform(NEAR, CELLS[..., None]),
  "ablation": noise.ablation(NEAR, CELLS[..., None], fill=0.5),
  "flips": noise.flips(NEAR / 2, NEAR, np.repeat(CELLS[..., None], 3, axis=2)),
  "isotropic": noise.gaussian([[0.3]], np.zeros((6, 8, 1), int)),
}
ONE = jax.make_mesh((1,), ("samples",), devices=jax.devices()[:1])


def apply(params, x):
  """Three classes: sums of a few numbers, whose order no batch changes."""
  gray = x[..., 0] - x[..., 1] * params
  return jnp.stack([gray, x[..., 2] - gray, jnp.full_like(gray, 0.3)], axis=-1)


HALF = np.float32(0.5)
MODEL = jax.jit(jax.vmap(apply, in_axes=(None, 0)))


def predict(batch):
  return np.asarray(MODEL(HALF, batch))


def labels(batch):
  return predict(batch).argmax(axis=-1)


def asked(name):
  smoothing = NOISES[name]
  return X, smoothing, GROUPS if smoothing.num_groups > 1 else np.zeros(48, int)


def count(name="gaussian", num_samples=50, model=predict, **options):
  options = {"num_classes": 3, **options}
  return sampling.external_votes(KEY, model, *asked(name), num_samples, **options)


@pytest.mark.parametrize("name", NOISES)
def test_the_same_votes_as_in_jax(name):
  expected = sampling.vote_counts(KEY, apply, HALF, *asked(name), 50, num_classes=3, mesh=ONE)
  for model, batch_size in ((predict, None), (predict, 1), (labels, 7), (predict, 50)):
    found = count(name, model=model, batch_size=batch_size)
    np.testing.assert_array_equal(found.counts, expected)
    assert (found.num_samples, found.counts.dtype) == (50, np.int64)
  assert len(np.unique(found.counts)) > 10


@pytest.mark.parametrize("name", NOISES)
def test_the_same_noisy_inputs_bit_for_bit(name):
  """A model in JAX, and one outside of it, that keep what they are shown."""
  inside, outside = [], []

  def spy(params, x):
    jax.debug.callback(lambda z: inside.append(np.array(z)), x)
    return apply(params, x)

  def keeping(batch):
    outside.append(batch)
    return predict(batch)

  x, smoothing, groups = asked(name)
  drawn, field = noise.views.distinct(smoothing, groups)
  options = {"num_classes": 3, "first_sample": 5}
  sampling.votes(KEY, spy, HALF, x, drawn, field, 6, chunk_size=3, mesh=ONE, **options)
  jax.effects_barrier()
  sampling.external_votes(KEY, keeping, x, smoothing, groups, 6, batch_size=2, **options)
  shown = np.concatenate(outside)
  assert len(shown) == len(inside) == 6 * drawn.num_groups
  assert {z.tobytes() for z in shown} == {z.tobytes() for z in inside}
  assert len({z.tobytes() for z in shown}) == len(shown)


PROGRAM = """
import jax, numpy as np
from lrs_jax import noise, sampling

x, key = np.random.default_rng(0).random((9, 11, 3), np.float32), jax.random.key(1)
blur = lambda z: jax.lax.reduce_window(z, 0.0, jax.lax.add, (3, 3, 1), (1, 1, 1), "SAME")
one, two = [[0.2]], [[0.2], [0.3]]
for family, levels in (noise.gaussian, two), (noise.laplace, one):
  inside, outside = [], []

  def spy(params, z):
    jax.debug.callback(lambda z: inside.append(np.array(z).tobytes()), z)
    return blur(z) - params

  def predict(batch):
    outside.extend(z.tobytes() for z in batch)
    return batch

  smoothing = family(levels, np.zeros((9, 11, 1), int))
  asked = x, smoothing, np.arange(99) % len(levels), 4
  sampling.votes(key, spy, np.float32(2), *asked, num_classes=3, chunk_size=2)
  jax.effects_barrier()
  sampling.external_votes(key, predict, *asked, num_classes=3, batch_size=4)
  assert set(inside) == set(outside), (family, levels)
"""


def test_bit_for_bit_as_users_compile():
  """The compiler's usual optimizations, which these tests run without, round by what they fuse."""
  environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
  environment.pop("XLA_FLAGS")
  done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True)
  assert done.returncode == 0, done.stderr.decode()


def test_one_pass_for_groups_with_one_noise():
  sizes = []

  def counting(batch):
    sizes.append(len(batch))
    return predict(batch)

  count(model=counting, num_samples=20, batch_size=8)  # groups 0 and 3 have one noise
  assert sizes == [8] * (3 * 3)
  alone = sampling.external_votes(
    KEY, counting, X, NOISES["gaussian"], np.full(48, 2), 8, num_classes=3, batch_size=8
  )
  assert len(sizes) == 10  # fields without outputs are not evaluated
  assert alone.counts.sum() == 48 * 8


def test_pieces_add_up():
  pieces = [
    count(num_samples=n, first_sample=first).counts for first, n in ((0, 3), (3, 30), (33, 17))
  ]
  np.testing.assert_array_equal(sum(pieces), count().counts)


def test_corners():
  def never(batch):
    raise AssertionError("nothing is to be evaluated")

  assert (count(num_samples=0, model=never).counts == np.zeros((48, 3))).all()
  nothing = sampling.external_votes(
    KEY, never, X, NOISES["isotropic"], np.zeros(0, int), 9, num_classes=3
  )
  assert nothing.counts.shape == (0, 3)
  few = count(num_samples=3, batch_size=64)
  np.testing.assert_array_equal(few.counts, count(num_samples=3, batch_size=2).counts)
  assert (few.counts.sum(axis=1) == 3).all()


def test_votes_that_are_lost():
  """The first half of the outputs has no finite greatest logit where the first pixel is bright."""

  def losing(batch, value):
    logits = predict(batch).reshape(len(batch), 48, 3).copy()
    logits[batch[:, 0, 0, 0] > X[0, 0, 0], :24, 1] = value
    return logits.reshape(len(batch), 6, 8, 3)

  def in_jax(params, x):
    logits, value = apply(params[0], x).reshape(48, 3), params[1]
    lost = (x[0, 0, 0] > X[0, 0, 0]) & (jnp.arange(48) < 24)
    return logits.at[:, 1].set(jnp.where(lost, value, logits[:, 1]))

  for value in (np.nan, np.inf, -np.inf):
    found = count(model=lambda batch, value=value: losing(batch, value))
    params = HALF, np.float32(value)
    expected = sampling.votes(KEY, in_jax, params, *asked("gaussian"), 50, num_classes=3, mesh=ONE)
    np.testing.assert_array_equal(found.counts, expected.counts)
    assert (found.counts.sum() < 48 * 50) == (value != -np.inf)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint64, np.int8])
def test_labels_outside_are_lost(dtype):
  void = np.iinfo(dtype).max

  def with_void(batch):
    found = labels(batch).astype(dtype)
    found[:, 0, 0], found[:, 0, 1] = void, 3
    return found

  found, expected = count(model=with_void).counts, count().counts
  assert (found[:2] == 0).all()
  np.testing.assert_array_equal(found[2:], expected[2:])


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32, np.float64])
def test_logits_of_any_width_vote_as_in_jax(dtype):
  rows = [
    [0, np.nan],
    [np.nan, 0],
    [np.inf, 0],
    [-np.inf, 0],
    [-np.inf] * 2,
    [1, 1],
    [np.nan, np.inf],
  ]
  logits = np.asarray(rows, np.float32).astype(dtype)
  expected = jax.jit(sampling.predict)(jnp.asarray(np.asarray(logits, np.float32)))
  assert external.labels_of(logits[None], 7, 2).tolist() == [expected.tolist()]


def test_a_model_may_write_to_its_inputs():
  def writing(batch):
    batch *= 2
    found = predict(batch / 2)
    batch[:] = np.nan
    return found

  np.testing.assert_array_equal(count(model=writing).counts, count().counts)
  certified = certify(writing, num_samples=50, selection_samples=10)
  np.testing.assert_array_equal(
    certified.labels, certify(num_samples=50, selection_samples=10).labels
  )


def test_a_model_may_use_its_output_again():
  kept = np.zeros((8, 6, 8, 3), np.float32)

  def again(batch):
    kept[:] = predict(batch)
    return kept

  np.testing.assert_array_equal(count(model=again, batch_size=8).counts, count(batch_size=8).counts)
  sampling.check_predict(KEY, again, *asked("gaussian"), num_classes=3, batch_size=8)

  def far(batch):
    return again(batch + batch.mean((1, 2), keepdims=True))

  with pytest.raises(errors.FartherViewError):
    sampling.check_predict_view(far, X, 1, batch_size=8)


def test_memory_does_not_grow_with_the_samples():
  def peak(num_samples):
    tracemalloc.start()
    count(num_samples=num_samples, batch_size=8)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found

  peak(16)  # what is compiled and cached
  few, many = peak(80), peak(800)
  assert many - few < 20 * 8 * X.nbytes  # of 270 batches more


class Tensor:
  """What `np.asarray` refuses, as of a device."""

  def __array__(self, dtype=None, copy=None):
    raise TypeError("can't convert cuda:0 device type tensor to numpy")


@pytest.mark.parametrize(
  ("model", "error", "message"),
  [
    (lambda b: None, errors.NotLogitsError, "returns None: is its `return` missing"),
    (lambda b: [predict(b)], errors.NotLogitsError, r"a list of 1, of shapes \(8, 6, 8, 3\)"),
    (lambda b: {"out": predict(b)}, errors.NotLogitsError, "a dict of 1"),
    (lambda b: Tensor(), errors.NotLogitsError, "takes, but it returns Tensor, .* cuda:0"),
    (lambda b: predict(b) > 0, errors.NotLogitsError, "but their type is bool"),
    (lambda b: predict(b).astype("U4"), errors.NotLogitsError, "but their type is <U4"),
    (lambda b: predict(b)[0], errors.NotLogitsError, r"\[8, ...\], but for inputs of shape"),
    (lambda b: predict(b)[:4], errors.NotLogitsError, r"their shape is \(4, 6, 8, 3\)"),
    (lambda b: np.moveaxis(predict(b), -1, 1), errors.MissingClassesError, r"\(logits, 1, -1"),
    (lambda b: predict(b)[..., :2], errors.MissingClassesError, "last axis has 2 classes"),
    (lambda b: predict(b)[:, ::2], errors.NotLogitsError, "24 outputs for every input .* has 48"),
    (lambda b: labels(b)[:, ::2], errors.NotLogitsError, "returns labels .* 24 outputs"),
    (lambda b: predict(b).astype(int), errors.NotLogitsError, "of an integer type they must be"),
    (lambda b: np.zeros(8, np.float32), errors.NotLogitsError, "with an axis of the K classes"),
  ],
)  # fmt: skip
def test_answers_that_are_no_votes_are_refused_at_the_first_batch(model, error, message):
  asked_for = []

  def once(batch):
    asked_for.append(1)
    return model(batch)

  with pytest.raises(error, match=message):
    count(model=once, batch_size=8)
  assert len(asked_for) == 1


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"batch_size": 0}, "`batch_size` must be an integer >= 1, but it is 0"),
    ({"batch_size": 2.0}, "`batch_size` must be an integer >= 1, but it is 2.0"),
    ({"num_samples": -1}, "must be at least 0, but they are -1"),
    ({"first_sample": 2**31 - 10}, "take another key instead"),
  ],
)
def test_arguments_that_do_not_fit(change, message):
  with pytest.raises(ValueError, match=message):
    count(**change)


def test_inputs_that_do_not_fit():
  gaussian = NOISES["gaussian"]
  for x, groups, error, message in (
    (X.astype(int), GROUPS, errors.IntegerInputError, "floating-point"),
    (X * np.nan, GROUPS, errors.NonFiniteInputError, "must be finite"),
    (X[:4], GROUPS, ValueError, "`noise.cells` must have the axes"),
    (X, GROUPS + 1, ValueError, "G = 4 groups"),
    (X, CELLS, ValueError, r"`groups` must have shape \[N\]"),
  ):
    with pytest.raises(error, match=message):
      sampling.external_votes(KEY, predict, x, gaussian, groups, 5, num_classes=3)
  key = jax.random.key(0, impl="rbg")
  with pytest.raises(ValueError, match="must be a threefry2x32 key"):
    sampling.external_votes(key, predict, X, gaussian, GROUPS, 5, num_classes=3)


# What only the model itself shows.


def check(model, batch_size=4, **options):
  options = {"num_classes": 3, "batch_size": batch_size, **options}
  sampling.check_predict(KEY, model, *asked("gaussian"), **options)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_functions_of_one_input_pass_in_silence(batch_size):
  for model in (predict, labels, lambda b: np.asarray(predict(b), np.float64)):
    check(model, batch_size)


def position(batch):
  return predict(batch + np.arange(len(batch), dtype=np.float32)[:, None, None, None])


@pytest.mark.parametrize("last", [lambda found: found, lambda found: found.argmax(axis=-1)])
def test_what_is_no_function_of_one_input_is_refused(last):
  rng, state = np.random.default_rng(0), np.zeros((6, 8, 3), np.float32)

  def drifting(batch):
    state[...] = 0.5 * state + batch.mean(axis=0)
    return predict(batch - state)

  def random(batch):
    return predict(batch) + rng.normal(size=(len(batch), 6, 8, 3))

  for model in (random, drifting):
    for batch_size in (1, 4):
      with pytest.raises(errors.NotDeterministicError, match=r"model.eval\(\)"):
        check(lambda b, model=model: last(model(b)), batch_size)
  with pytest.raises(errors.BatchDependenceError, match="in another place of the batch"):
    check(lambda b: last(position(b)))
  for batch_size in (2, 3, 8):
    with pytest.raises(errors.BatchDependenceError, match="in a batch with other inputs"):
      check(lambda b: last(predict(b - b.mean(axis=0))), batch_size)
  check(lambda b: last(predict(b - b.mean(axis=0))), 1)  # then it is one of one input


def test_other_oddities_are_told():
  with pytest.raises(errors.NaNLogitsError, match="not numbers"):
    check(lambda b: np.where(b > 0.5, np.nan, predict(b)))
  with pytest.warns(errors.LostVotesWarning, match=r"1\d\.\d% of the labels .* K = 3"):
    check(lambda b: np.where(np.arange(8) == 7, 255, labels(b)))
  with pytest.warns(errors.TiedLogitsWarning):
    check(lambda b: np.round(predict(b)))
  with pytest.warns(errors.InputScaleWarning):
    sampling.check_predict(
      KEY, predict, X * 255, NOISES["isotropic"], np.zeros(48, int), num_classes=3
    )


# The front door.


def certify(model=predict, **options):
  options = {"radii": [0.0, 0.05, 0.1], **options}
  return lrs_jax.certify_external(KEY, model, X, NOISES["gaussian"], CELLS, **options)


@pytest.mark.parametrize(
  "options",
  [
    {},
    {"method": "naive", "k_fwer": 0.05},
    {"targets": np.arange(48) % 3 > 0, "truth": np.arange(48) % 4},
    {"until": (0.5, 0.02), "num_samples": 400},
    {"num_samples": 40, "selection_samples": 0, "radii": None},
    {"num_samples": 0},
  ],
)
@pytest.mark.filterwarnings("ignore::lrs_jax.errors.TooFewSamplesWarning")
def test_the_same_certificate_as_in_jax(options):
  options = {"num_samples": 300, **options}
  found, given = certify(batch_size=7, **options), {"radii": [0.0, 0.05, 0.1], **options}
  expected = lrs_jax.certify(KEY, apply, HALF, X, NOISES["gaussian"], CELLS, **given)
  assert jax.tree.structure(found.base) == jax.tree.structure(expected.base)
  same = found._replace(proof=None), expected._replace(proof=None)
  for one, other in zip(*map(jax.tree.leaves, same), strict=True):
    np.testing.assert_array_equal(one, other)
  np.testing.assert_array_equal(found.proof.certified, expected.proof.certified)
  assert repr(found) == repr(expected)
  lrs_jax.verify(found)


def test_labels_say_not_how_many_classes_there_are():
  with pytest.raises(errors.MissingClassesError, match="`predict` returns labels, which do not"):
    certify(labels)
  of_labels, of_logits = certify(labels, num_classes=3), certify()
  np.testing.assert_array_equal(of_labels.estimation.counts, of_logits.estimation.counts)
  with pytest.raises(errors.MissingClassesError, match="last axis has 3"):
    certify(num_classes=2)


def test_guards_are_inside():
  with pytest.raises(errors.BatchDependenceError):
    certify(position)
  certify(position, check=False, num_samples=20, selection_samples=5)
  with pytest.raises(errors.IntegerInputError):
    lrs_jax.certify_external(KEY, predict, X.astype(int), NOISES["gaussian"], CELLS)


def test_all_abstain():
  def split(batch):  # by the sign of the noise of one pixel
    return (batch[..., 0] > X[..., 0]).astype(int)

  certified = certify(split, num_classes=2, num_samples=200)
  assert (certified.labels == -1).all()
  assert (certified.certified == 0).all()
  lrs_jax.verify(certified)


# Views.

IMAGE = np.random.default_rng(1).random((20, 24, 3)).astype(np.float32)


def blurred(params, x):
  """Every pixel and its neighbors, three classes."""
  padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
  rows = sum(padded[i : i + x.shape[0], 1:-1] for i in range(3))
  return jnp.stack([rows[..., 0] - params, rows[..., 1] - params, params - rows[..., 2]], axis=-1)


BLURRED = jax.jit(jax.vmap(blurred, in_axes=(None, 0)))


def blur(batch):
  return np.asarray(BLURRED(HALF, batch))


@pytest.mark.parametrize(
  "options",
  [
    {"std": 0.3},
    {"std": 0.3, "view": 1},
    {"std": 0.3, "view": views.around((20, 24), 2), "block": 4},
    {"std": 0.2, "std_max": 0.6, "grid": (2, 2)},
    {"std": 0.2, "std_max": 0.6, "grid": (2, 3), "colors": (2, 1), "view": 1},
  ],
)
def test_the_same_segmentation_as_in_jax(options):
  options = {"radii": [0.0, 0.1, 0.3], "num_samples": 200, **options}
  expected = lrs_jax.certify_segmentation(KEY, blurred, HALF, IMAGE, **options)
  for model, classes in ((blur, None), (lambda b: blur(b).argmax(-1), 3)):
    found = lrs_jax.certify_segmentation_external(
      KEY, model, IMAGE, num_classes=classes, batch_size=16, **options
    )
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.estimation.counts, expected.estimation.counts)
    np.testing.assert_array_equal(found.certified, expected.certified)
    assert repr(found) == repr(expected)
    lrs_jax.verify(found)
  assert found.certified[0] > found.certified[-1]
  assert found.plot() is not None


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("last", [lambda found: found, lambda found: found.argmax(axis=-1)])
def test_views_are_tested(batch_size, last):
  def model(batch):
    return last(blur(batch))

  for view in (1, 2, views.around((20, 24), 1)):
    sampling.check_predict_view(model, IMAGE, view, batch_size=batch_size)
  message = f"sees 1 pixels far, .* its {'logits' if model(IMAGE[None]).ndim == 4 else 'label'}"
  with pytest.raises(errors.FartherViewError, match=message):
    sampling.check_predict_view(model, IMAGE, 0, batch_size=batch_size)


@pytest.mark.parametrize(
  "far",
  [
    lambda b: b - b.mean(axis=(1, 2), keepdims=True),
    lambda b: b + 0 * b.sum(axis=(1, 2), keepdims=True),  # shows nan alone
    lambda b: b + (b > 100).any(axis=(1, 2), keepdims=True),  # hides nan
    lambda b: np.roll(b, 1, axis=1),
  ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_sees_the_whole_image(far):
  with pytest.raises(errors.FartherViewError):
    sampling.check_predict_view(lambda b: blur(far(b)), IMAGE, 3, batch_size=8)
  with pytest.raises(errors.FartherViewError):
    lrs_jax.certify_segmentation_external(KEY, lambda b: blur(far(b)), IMAGE, view=3, batch_size=8)


def test_the_same_places_are_tested_as_in_jax():
  """One pixel looks across the image, and only where all others look nowhere."""

  def across(params, x):
    return jnp.stack([x[..., 0].at[3, 4].add(x[19, 23, 0]), -x[..., 1]], axis=-1)

  model = jax.jit(jax.vmap(across, in_axes=(None, 0)))
  told = []
  for check_one in (
    lambda: sampling.check_view(across, None, IMAGE, 12),
    lambda: sampling.check_predict_view(
      lambda b: np.asarray(model(None, b)), IMAGE, 12, batch_size=5
    ),
  ):
    with pytest.raises(
      errors.FartherViewError, match=r"output at \(3, 4\) sees 19 pixels"
    ) as caught:
      check_one()
    told.append(str(caught.value))
  assert told[0] == told[1]


def test_views_that_cannot_be_tested():
  rng = np.random.default_rng(0)
  with pytest.raises(errors.NotDeterministicError, match="what an output sees"):
    sampling.check_predict_view(lambda b: blur(b) + rng.normal(), IMAGE, 3)
  with pytest.raises(errors.NotLogitsError, match="one output for every pixel"):
    sampling.check_predict_view(lambda b: blur(b)[:, ::2], IMAGE, 3)
  with pytest.raises(ValueError, match="`view` must be a number of pixels"):
    sampling.check_predict_view(blur, IMAGE, -1)
  with pytest.raises(errors.NotLogitsError, match="are the classes last"):
    lrs_jax.certify_segmentation_external(KEY, lambda b: np.moveaxis(blur(b), -1, 1), IMAGE)
  with pytest.raises(ValueError, match="`image` must have shape"):
    lrs_jax.certify_segmentation_external(KEY, blur, IMAGE[0, 0])


# Tiles.


def everything(params, x):
  """Sees the whole of what it is shown."""
  return jnp.stack([x[..., 0] - x.max(), params - x[..., 1], x[..., 2] - x.min()], axis=-1)


EVERYTHING = jax.jit(jax.vmap(everything, in_axes=(None, 0)))


@pytest.mark.parametrize(("core", "context"), [(4, 2), (7, 3), (5, 0), (8, 40), (1, 1), (30, 1)])
def test_tiles_are_those_in_jax(core, context):
  expected = jax.vmap(sampling.tiled(everything, core, context), in_axes=(None, 0))(
    HALF, IMAGE[None]
  )
  model = sampling.tiled_predict(lambda b: np.asarray(EVERYTHING(HALF, b)), core, context)
  np.testing.assert_array_equal(model(IMAGE[None]), expected)
  of_labels = sampling.tiled_predict(
    lambda b: np.asarray(EVERYTHING(HALF, b)).argmax(-1), core, context
  )
  np.testing.assert_array_equal(of_labels(IMAGE[None]), np.asarray(expected).argmax(-1))


def test_tiles_have_the_view_they_say():
  shown = []

  def model(batch):
    shown.append(batch.shape)
    found = np.array(EVERYTHING(HALF, batch))
    batch[...] = np.nan  # it may write to its crop, which is no other tile's
    return found

  tiled, view = sampling.tiled_predict(model, 6, 3), views.tiles((20, 24), 6, 3)
  sampling.check_predict_view(tiled, IMAGE, view, batch_size=16)
  assert set(shown) == {(16, 12, 12, 3)}
  with pytest.raises(errors.FartherViewError):
    sampling.check_predict_view(tiled, IMAGE, 6, batch_size=16)
  certified = lrs_jax.certify_segmentation_external(
    KEY, tiled, IMAGE, view=view, num_samples=100, selection_samples=20, batch_size=20
  )
  assert "tiles of 6 pixels" in repr(certified)
  lrs_jax.verify(certified)


def test_tiles_of_something_else():
  with pytest.raises(ValueError, match="`core` must be an integer >= 1"):
    sampling.tiled_predict(blur, 0, 1)
  with pytest.raises(errors.NotLogitsError, match="one output for every pixel of a crop"):
    sampling.tiled_predict(lambda b: blur(b)[:, ::2], 4, 1)(IMAGE[None])
