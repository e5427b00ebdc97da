"""Score sums are exact integers, whatever the chunks and devices, and any number of samples."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrs_jax import noise, sampling
from lrs_jax.sampling import checks, scores
from lrs_jax.tasks import common
from lrs_jax.tasks.task import Smoothing

NOISE = noise.gaussian([[0.3, 1.0], [2.0, np.inf]], [0, 1, 0, 1])
X = np.array([0.2, -0.4, 1.0, 0.1], np.float32)
GROUPS = np.array([0, 1, 1, 0])
LABELS = np.array([0, 1, 0, 1])


def apply(params, z):
  """Logits [4, 2], each from elementwise operations: they do not depend on the batch."""
  return jnp.stack([z + params, -z], axis=-1)


def square(logits):
  """A score without transcendental functions, to be computed again in NumPy."""
  return jnp.clip(logits, 0.0, 1.0)


def sums(num_samples=301, *, score=square, histograms=True, chunk_size=16, **options):
  """The same options where possible, to be compiled once."""
  options = {"score": score, "histograms": histograms, "chunk_size": chunk_size, **options}
  return scores.score_sums(
    jax.random.key(5), apply, jnp.float32(0.1), X, NOISE, GROUPS, LABELS, num_samples, **options
  )


def by_hand(num_samples):
  """The samples themselves, int64 [S, N]: scores and votes."""

  @jax.jit
  def by_group(i):
    key = jax.random.fold_in(jax.random.key(5), i)
    return jnp.stack([apply(jnp.float32(0.1), noise.sample(key, NOISE, X, g)) for g in range(2)])

  values = []
  for i in range(num_samples):
    logits = np.asarray(by_group(i))[GROUPS, np.arange(4)]
    score = np.clip(logits, 0, 1)[np.arange(4), LABELS]
    vote = logits.argmax(axis=-1) == LABELS
    values.append((np.floor(score * 2.0**24) * 255 // 2**24, vote))
  return np.asarray(values, np.int64).transpose(1, 0, 2)


def assert_equal(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_equals_the_samples():
  values, votes = by_hand(12)
  found = sums(12)
  np.testing.assert_array_equal(found.votes, votes.sum(axis=0))
  np.testing.assert_array_equal(found.total, values.sum(axis=0))
  np.testing.assert_array_equal(found.squares, (values**2).sum(axis=0))
  histogram = [np.bincount(column, minlength=256) for column in values.T]
  np.testing.assert_array_equal(found.histogram, histogram)


@pytest.mark.eight_devices
@pytest.mark.parametrize(("chunk_size", "devices"), [(1, 3), (7, 8), (64, 1)])
def test_chunks_and_devices_change_nothing(chunk_size, devices):
  mesh = jax.make_mesh((devices,), ("samples",), devices=jax.devices()[:devices])
  assert_equal(sums(chunk_size=chunk_size, mesh=mesh), sums())


def test_pieces_add_up():
  one, other = sums(100), sums(201, first_sample=100)
  assert_equal(jax.tree.map(np.add, one, other), sums(301))


def test_no_samples():
  found = sums(0)
  assert (found.total == 0).all()
  assert (found.squares == 0).all()


def test_votes_are_those_of_vote_counts():
  counts = sampling.vote_counts(
    jax.random.key(5), apply, jnp.float32(0.1), X, NOISE, GROUPS, 301, num_classes=2
  )
  np.testing.assert_array_equal(sums().votes, np.asarray(counts)[np.arange(4), LABELS])


def test_scores_are_rounded_down():
  below = np.nextafter(np.float32(1), np.float32(0))
  multiples = (np.arange(256) / 255).astype(np.float32)
  around = [np.nextafter(multiples, np.float32(end)) for end in (0, 1)]
  values = np.concatenate([[0, 1, below, 0.5, 1e-9], multiples, *around]).astype(np.float32)
  rounded = np.asarray(scores.to_255(jnp.asarray(values)))
  exact = 255 * values.astype(np.float64)  # 8 times 24 bits: no rounding
  assert (rounded <= exact).all()
  assert (exact - rounded < 1 + 255 * 2.0**-24).all()
  np.testing.assert_array_equal(rounded[:5], [0, 255, 254, 127, 0])
  outside = jnp.asarray([-1.0, 2.0, np.nan], jnp.float32)
  np.testing.assert_array_equal(scores.to_255(outside), [0, 255, 0])


def test_softmax_is_the_default_score():
  found = sums(50, score=jax.nn.softmax)
  assert (found.histogram.sum(axis=1) == 50).all()
  np.testing.assert_array_equal(found.total, found.histogram @ np.arange(256))
  np.testing.assert_array_equal(found.squares, found.histogram @ np.arange(256) ** 2)
  assert (found.total > 0).all()


def test_overflow_end_to_end():
  certain = scores.score_sums(
    jax.random.key(0),
    lambda params, z: jnp.stack([jnp.full_like(z, 1e30), z], axis=-1),
    None,
    np.zeros(1, np.float32),
    noise.gaussian([[1.0]], [0]),
    [0],
    [0],
    1_000_000,
    score=square,
    chunk_size=2**14,
  )
  assert (certain.total, certain.squares) == (255 * 10**6, 255**2 * 10**6)
  assert certain.votes == 10**6


def test_lowers_for_all_platforms():
  mesh = jax.make_mesh((1,), ("samples",), devices=jax.devices()[:1])
  request = checks.check_request(
    jax.random.key(0), apply, jnp.float32(0), X, NOISE, GROUPS, 10, num_classes=2, chunk_size=4,
    mesh=mesh,
  )  # fmt: skip
  assert request.logits_shape == (4, 2)

  def job(sample_range, setting, labels):
    return scores._sums(sample_range, setting, None, labels, **request.static, num_bins=256)

  labels = jnp.asarray(LABELS, jnp.int32)
  specs = jax.eval_shape(lambda: (request.sample_range, request.setting, labels))
  exported = jax.export.export(jax.jit(job), platforms=("cpu", "cuda", "tpu"))(*specs)
  assert {aval.dtype.itemsize for aval in exported.out_avals} == {4}
  assert "f64" not in exported.mlir_module()


def test_other_generators_only_when_named():
  key = jax.random.key(0, impl="rbg")
  args = (apply, jnp.float32(0), X, NOISE, GROUPS, LABELS, 8)
  with pytest.raises(ValueError, match="must be a threefry2x32 key, but it is a rbg one"):
    scores.score_sums(key, *args)
  assert scores.score_sums(key, *args, prng="rbg").num_samples == 8


@pytest.mark.parametrize("labels", [[0, 1, 0], [0, 1, 0, 2], [-1, 0, 0, 0]])
def test_refuses_labels_that_do_not_fit(labels):
  with pytest.raises(ValueError, match="`labels` must have shape"):
    scores.score_sums(jax.random.key(0), apply, jnp.float32(0), X, NOISE, GROUPS, labels, 8)


def test_chunks_of_more_samples_than_fit_into_one_sum_change_nothing():
  mesh = jax.make_mesh((1,), ("samples",), devices=jax.devices()[:1])
  assert_equal(sums(chunk_size=2**16 + 1, mesh=mesh), sums())


def class_sums(num_samples=301, *, apply=apply, **options):
  return sampling.class_sums(
    jax.random.key(5), apply, jnp.float32(0.1), X, NOISE, GROUPS, num_samples, num_classes=2,
    **{"chunk_size": 16, **options},
  )  # fmt: skip


def test_class_sums_equal_the_samples():
  @jax.jit
  def by_group(i):
    key = jax.random.fold_in(jax.random.key(5), i)
    return jnp.stack([apply(jnp.float32(0.1), noise.sample(key, NOISE, X, g)) for g in range(2)])

  expected = np.zeros((3, 4, 2), np.int64)
  for i in range(12):
    logits = by_group(i)[GROUPS, np.arange(4)]
    score = np.asarray(scores.to_255(jax.nn.softmax(logits)), np.int64)
    expected += np.stack(
      [np.eye(2, dtype=int)[np.asarray(logits).argmax(axis=-1)], score, score**2]
    )
  found = class_sums(12)
  np.testing.assert_array_equal(np.stack(found[:3]), expected)
  assert {part.dtype for part in found} == {np.dtype(np.int64)}
  assert found.num_samples == 12


@pytest.mark.eight_devices
@pytest.mark.parametrize(("chunk_size", "devices"), [(1, 3), (7, 8), (64, 1)])
def test_class_sums_do_not_depend_on_chunks_and_devices(chunk_size, devices):
  mesh = jax.make_mesh((devices,), ("samples",), devices=jax.devices()[:devices])
  assert_equal(class_sums(chunk_size=chunk_size, mesh=mesh), class_sums())


def test_class_sums_of_pieces_add_up():
  one, other = class_sums(100), class_sums(201, first_sample=100)
  assert_equal(jax.tree.map(np.add, one, other), class_sums(301))
  assert all((part == 0).all() for part in class_sums(0))


def test_class_sums_agree_with_those_of_a_label_and_with_votes():
  found = class_sums()
  own = np.arange(4), LABELS
  expected = sums(score=jax.nn.softmax)
  np.testing.assert_array_equal(found.scores[own], expected.total)
  np.testing.assert_array_equal(found.squares[own], expected.squares)
  counts = sampling.vote_counts(
    jax.random.key(5), apply, jnp.float32(0.1), X, NOISE, GROUPS, 301, num_classes=2
  )
  np.testing.assert_array_equal(found.votes, counts)


@pytest.mark.eight_devices
@pytest.mark.parametrize("piece", [64, 1000])
def test_class_sums_are_made_of_pieces_that_int32_can_hold(piece, monkeypatch):
  ranges, inner = [], scores._sums

  def watched(sample_range, *args, **options):
    ranges.append(np.asarray(sample_range).tolist())
    return inner(sample_range, *args, **options)

  expected = class_sums()
  monkeypatch.setattr(scores, "_sums", watched)
  monkeypatch.setattr(scores, "MAX_PIECE", piece)
  mesh = jax.make_mesh((3,), ("samples",), devices=jax.devices()[:3])
  assert_equal(class_sums(mesh=mesh), expected)
  if piece == 64:  # in multiples of what three devices take at once
    assert ranges[:2] == [[0, 48], [48, 96]]
    assert ranges[-1] == [288, 301]
  else:
    assert ranges == [[0, 301]]
  assert 2**15 * 255**2 < 2**31


def test_class_sums_of_certain_scores_do_not_overflow():
  certain = sampling.class_sums(
    jax.random.key(0), lambda params, z: jnp.stack([jnp.full_like(z, 1e30), z], axis=-1), None,
    np.zeros(1, np.float32), noise.gaussian([[1.0]], [0]), [0], 100_000, num_classes=2,
    chunk_size=2**12,
  )  # fmt: skip
  assert certain.votes.tolist() == [[10**5, 0]]
  assert certain.scores.tolist() == [[255 * 10**5, 0]]
  assert certain.squares.tolist() == [[255**2 * 10**5, 0]]


def test_logits_that_are_not_finite_have_no_vote_and_no_score():
  def broken(params, z):
    return apply(params, z).at[1, 0].set(jnp.nan)

  found, whole = class_sums(50, apply=broken), class_sums(50)
  assert found.num_samples == 50
  for part, expected in zip(found[:3], whole[:3], strict=True):
    assert (part[1] == 0).all()
    np.testing.assert_array_equal(np.delete(part, 1, axis=0), np.delete(expected, 1, axis=0))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"num_classes": 3}, "`num_classes` is 3"),
    ({"groups": GROUPS[:3]}, "`groups` must have shape"),
    ({"x": X.astype(int)}, "must be floating-point"),
    ({"num_samples": -1}, "must be at least 0"),
  ],
)
def test_class_sums_refuse_what_vote_counts_refuses(change, message):
  arguments = {"x": X, "noise": NOISE, "groups": GROUPS, "num_samples": 5, "num_classes": 2}
  with pytest.raises(ValueError, match=message):
    sampling.class_sums(jax.random.key(0), apply, jnp.float32(0), **{**arguments, **change})


@pytest.mark.parametrize("wanted", [("votes",), ("votes", "kl")])
def test_a_task_counts_scores_where_they_are_asked_for(wanted):
  config = SimpleNamespace(scores=wanted, precision="float32")
  smoothing = Smoothing("", NOISE, GROUPS, ())
  count = common.counter(config, apply, jnp.float32(0.1), X, smoothing, 2)
  found = count(jax.random.key(5), 301, 0)
  if wanted == ("votes",):
    assert (found.scores, found.squares) == (None, None)
    np.testing.assert_array_equal(found.votes, class_sums().votes)
  else:
    assert_equal(found, class_sums())
