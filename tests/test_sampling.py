"""Vote counts: closed forms, and the same noise for any chunk size and number of devices."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from scipy import stats

from lrs_jax import noise, sampling
from lrs_jax.confidence import certificates
from lrs_jax.errors import LostVotesWarning, NaNLogitsError, NonFiniteInputError
from lrs_jax.sampling import checks, counting, stitching
from lrs_jax.tasks.models.unet import UNet

SCALE = np.array([[0.5, 2.0], [1.0, 0.25]])
CELLS = np.array([0, 0, 1, 1])
GROUPS = np.array([0, 1, 0, 1, 1])
X = np.array([0.3, -0.2, 0.1, 0.4], np.float32)
PARAMS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def linear(params, x):
  """Five outputs with two classes each: the sign of a linear function, without a matrix product."""
  margin = sum(params[:, d] * x[d] for d in range(4))
  return jnp.stack([-margin, margin], axis=-1)


def count(num_samples=500, seed=0, apply=linear, **options):
  gaussian = noise.gaussian(SCALE, CELLS)
  return np.asarray(
    sampling.vote_counts(
      jax.random.key(seed),
      apply,
      PARAMS,
      X,
      gaussian,
      GROUPS,
      num_samples,
      num_classes=2,
      **options,
    )
  )


def test_linear_model_has_the_closed_form_probabilities():
  num_samples = 20_000
  counts = count(num_samples)
  assert (counts.sum(axis=1) == num_samples).all()
  std = np.sqrt((PARAMS**2 * SCALE[GROUPS][:, CELLS] ** 2).sum(axis=1))
  expected = stats.norm.cdf(PARAMS @ X / std)
  error = np.sqrt(expected * (1 - expected) / num_samples)
  assert (abs(counts[:, 1] / num_samples - expected) < 4.5 * error).all()


@pytest.mark.eight_devices
def test_counts_do_not_depend_on_chunks_or_devices():
  num_samples = 100
  expected = count(num_samples, chunk_size=num_samples)
  assert len(np.unique(expected)) > 4  # the outputs do not all agree
  for chunk_size in (1, 7, num_samples):
    for num_devices in (1, 2, 8):
      mesh = jax.make_mesh((num_devices,), ("samples",), devices=jax.devices()[:num_devices])
      np.testing.assert_array_equal(count(num_samples, chunk_size=chunk_size, mesh=mesh), expected)


def test_pieces_add_up():
  pieces = [count(first_sample=first, num_samples=n) for first, n in ((0, 3), (3, 60), (63, 37))]
  np.testing.assert_array_equal(sum(pieces), count(100))


def test_the_noise_of_a_sample_is_that_of_its_number():
  """A model that returns its input shows the noise itself, bit for bit."""
  seen = []

  def spy(params, x):
    jax.debug.callback(lambda z: seen.append(np.asarray(z)), x)
    return linear(params, x)

  key, gaussian = jax.random.key(3), noise.gaussian(SCALE, CELLS)
  mesh = jax.make_mesh((1,), ("samples",), devices=jax.devices()[:1])
  count(5, seed=3, apply=spy, chunk_size=2, mesh=mesh)
  jax.effects_barrier()
  for i in range(5):
    for group in range(2):
      z = np.asarray(noise.sample(jax.random.fold_in(key, i), gaussian, jnp.asarray(X), group))
      assert any(np.array_equal(z, other) for other in seen)


def test_different_keys_draw_different_noise():
  assert not np.array_equal(count(seed=0), count(seed=1))


def test_no_samples_and_no_outputs_count_nothing():
  assert (count(0) == 0).all()
  nothing = sampling.vote_counts(
    jax.random.key(0),
    lambda params, x: jnp.zeros((0, 2)),
    None,
    X,
    noise.gaussian(SCALE, CELLS),
    np.zeros(0, int),
    10,
    num_classes=2,
  )
  assert nothing.shape == (0, 2)


def test_one_group_equals_ordinary_smoothing():
  sigma, num_samples, key = 0.7, 50, jax.random.key(5)
  counts = sampling.vote_counts(
    key, linear, PARAMS, X, noise.gaussian([[sigma]], np.zeros(4, int)), np.zeros(5, int),
    num_samples, num_classes=2,
  )  # fmt: skip
  expected = np.zeros((5, 2), int)
  for i in range(num_samples):
    z = noise.sample(
      jax.random.fold_in(key, i), noise.gaussian([[sigma]], np.zeros(4, int)), jnp.asarray(X), 0
    )
    expected[np.arange(5), np.asarray(linear(PARAMS, z).argmax(axis=-1))] += 1
  np.testing.assert_array_equal(counts, expected)


def test_a_hidden_cell_does_not_reach_the_model():
  hiding = noise.gaussian([[0.5, np.inf]], CELLS)
  votes = [
    sampling.vote_counts(
      jax.random.key(0), linear, PARAMS, np.where(CELLS == 1, far, X).astype(np.float32), hiding,
      np.zeros(5, int), 50, num_classes=2,
    )
    for far in (0.0, 100.0)
  ]  # fmt: skip
  np.testing.assert_array_equal(*votes)
  assert hiding.weights[0, 0, 1] == 0


def test_the_loop_is_traced_once_per_job():
  """Other keys, inputs, parameters, noise levels and numbers of samples do not compile again."""
  traced = chex.assert_max_traces(linear, n=2)  # once for shapes, once in the loop

  def job(params, x, scale, num_samples, seed):
    return sampling.vote_counts(
      jax.random.key(seed), traced, params, x, noise.gaussian(scale, CELLS), GROUPS, num_samples,
      num_classes=2,
    )  # fmt: skip

  job(PARAMS, X, SCALE, 10, 0)
  before = counting._vote_counts._cache_size()
  job(PARAMS + 1, X + 1, SCALE * 2, 1000, 1)
  assert counting._vote_counts._cache_size() == before


def test_memory_does_not_grow_with_the_number_of_samples():
  """The compiled loop takes the number of samples as an argument, so its buffers cannot."""
  sizes = []
  for num_samples in (1_000, 20_000):
    compiled = counting._vote_counts.lower(
      *lowered_arguments(num_samples), **static_options(chunk_size=16)
    ).compile()
    sizes.append(compiled.memory_analysis().temp_size_in_bytes)
  assert sizes[0] == sizes[1] > 0


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"x": X.astype(np.int32)}, "`x` must be floating-point, but its type is int32"),
    ({"x": X[:3]}, r"`noise.cells` must have the axes of `x`, \(3,\)"),
    ({"groups": GROUPS[:4]}, r"`groups` must have shape \[N\] = \(5,\)"),
    ({"groups": GROUPS + 1}, "G = 2 groups in `noise`, but they range from 1 to 2"),
    ({"num_samples": -1}, "must be at least 0, but they are -1 and 0"),
    ({"num_classes": 3}, "`num_classes` is 3, but `apply` returns logits of shape"),
    ({"apply": lambda params, x: None}, "returns None: is its `return` missing"),
    ({"apply": lambda params, x: (x, x)}, "returns a tuple"),
    ({"apply": lambda params, x: x.sum()}, "returns a scalar"),
  ],
)
def test_arguments_that_do_not_fit(change, message):
  arguments = {
    "x": X, "groups": GROUPS, "num_samples": 5, "num_classes": 2,
    "noise": noise.gaussian(SCALE, CELLS), "apply": linear, "params": PARAMS,
  }  # fmt: skip
  with pytest.raises(ValueError, match=message):
    sampling.vote_counts(jax.random.key(0), **{**arguments, **change})


def logarithms(params, x):
  """Two outputs: the first has nan logits where x[0] is negative, the second is always sure."""
  sure = jnp.asarray([0.0, 1.0], x.dtype)
  return jnp.stack([jnp.log(jnp.stack([x[0], 2 * x[0]])), sure])


HALF = {"x": np.zeros(4, np.float32), "groups": [0, 1], "num_classes": 2}


def test_a_sample_whose_logits_are_not_finite_votes_for_nobody():
  """Before, nan logits were unanimous votes for class 0, and certified."""
  gaussian = noise.gaussian(SCALE, CELLS)
  with pytest.warns(LostVotesWarning, match=r"50.0% of the outputs lost votes, up to \d+ of 200"):
    counts = sampling.vote_counts(
      jax.random.key(0), logarithms, None, noise=gaussian, num_samples=200, **HALF
    )
  assert counts[0, 0] == 0
  assert 60 < counts[0, 1] < 140  # for nobody where x[0] is negative
  assert counts[1].tolist() == [0, 200]
  with pytest.raises(ValueError, match="must say how many samples there were"):
    certificates.from_votes(gaussian, [0, 1], counts, counts, alpha=0.01)
  base = certificates.from_votes(gaussian, [0, 1], counts, counts, alpha=0.01, num_samples=200)
  assert base.q_lower[0] < 0.5 < base.q_lower[1]
  assert base.eta[0] == 0


def test_if_every_output_lost_votes_nothing_is_left_to_tell_how_many_there_were():
  def apply(params, x):
    return jnp.log(jnp.stack([x, 2 * x], axis=-1)[:2])

  arguments = jax.random.key(0), apply, None
  options = {"noise": noise.gaussian(SCALE, CELLS), "num_samples": 50, **HALF}
  with pytest.raises(NaNLogitsError, match=r"of every output at least \d+"):
    sampling.vote_counts(*arguments, **options)
  votes = sampling.votes(*arguments, **options)
  assert votes.num_samples == 50
  assert (votes.counts.sum(axis=1) < 50).all()


@pytest.mark.parametrize(
  ("logits", "expected"),
  [
    ([0.0, jnp.nan], -1), ([jnp.nan, 0.0], -1), ([jnp.inf, 0.0], -1), ([-jnp.inf, 0.0], 1),
    ([-jnp.inf, -jnp.inf], -1), ([jnp.nan, jnp.nan], -1), ([1.0, 1.0], 0), ([jnp.nan, jnp.inf], -1),
  ],
)  # fmt: skip
def test_what_a_sample_votes_for(logits, expected):
  for dtype in (jnp.float32, jnp.bfloat16):
    assert jax.jit(sampling.predict)(jnp.asarray([logits], dtype)).tolist() == [expected]


def test_pieces_with_lost_votes_add_up():
  options = {"noise": noise.gaussian(SCALE, CELLS), **HALF}
  one, other, both = (
    sampling.votes(
      jax.random.key(0), logarithms, None, num_samples=n, first_sample=first, **options
    )
    for first, n in ((0, 30), (30, 20), (0, 50))
  )
  assert jax.tree.all(jax.tree.map(lambda a, b, c: (a + b == c).all(), one, other, both))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_input_that_is_not_finite_is_refused(value):
  x = X.copy()
  x[2] = value
  with pytest.raises(NonFiniteInputError, match=rf"1 of its 4 entries are not, such as {value} at"):
    sampling.vote_counts(
      jax.random.key(0), linear, PARAMS, x, noise.gaussian(SCALE, CELLS), GROUPS, 5, num_classes=2
    )


def test_sample_ids_stay_below_two_to_the_thirty_first():
  """Before, the last chunk wrapped around to negative ids, which are other samples."""
  mesh = jax.make_mesh((1,), ("samples",), devices=jax.devices()[:1])
  with pytest.raises(ValueError, match="must be at most 2147483631, so that the last chunk"):
    count(8, first_sample=2**31 - 12, chunk_size=16, mesh=mesh)
  last = count(8, first_sample=2**31 - 25, chunk_size=16, mesh=mesh)
  assert (last.sum(axis=1) == 8).all()
  np.testing.assert_array_equal(last, count(8, first_sample=2**31 - 25, chunk_size=4, mesh=mesh))


def lowered_arguments(num_samples):
  gaussian = noise.gaussian(SCALE, CELLS)
  sample_range = jnp.asarray((0, num_samples), jnp.int32)
  groups = jnp.asarray(GROUPS, jnp.int32)
  arrays = jax.random.key(0), jnp.asarray(PARAMS), jnp.asarray(X), noise.to_device(gaussian), groups
  return sample_range, checks.Setting(*arrays), None


def static_options(chunk_size):
  mesh = jax.make_mesh((1,), ("samples",), devices=jax.devices()[:1])
  return {
    "apply": linear, "num_classes": 2, "chunk_size": chunk_size, "mesh": mesh,
  }  # fmt: skip


def test_no_device_waits_for_another():
  """XLA ends the process where one of a CPU waits for more than 40 seconds."""
  mesh = jax.make_mesh((2,), ("samples",), devices=jax.devices()[:2])
  options = static_options(chunk_size=4) | {"mesh": mesh}
  compiled = counting._vote_counts.lower(*lowered_arguments(10), **options).compile()
  assert "all-reduce" not in compiled.as_text()
  together = jax.jit(lambda *given: stitching.summed(counting._vote_counts(*given, **options)))
  assert "all-reduce" in together.lower(*lowered_arguments(10)).compile().as_text()


def test_the_loop_lowers_for_cpu_gpu_and_tpu():
  exported = export.export(counting._vote_counts, platforms=("cpu", "cuda", "tpu"))(
    *lowered_arguments(10), **static_options(chunk_size=4)
  )
  assert "f64" not in exported.mlir_module()


def test_the_loop_around_a_u_net_lowers_for_tpu():
  model = UNet(num_classes=3, width=2, depth=1)
  x = jnp.zeros((6, 7, 3), jnp.float32)
  variables = model.init(jax.random.key(0), x)
  gaussian = noise.gaussian([[0.5]], np.zeros(x.shape, int))
  groups = jnp.zeros(42, jnp.int32)
  setting = checks.Setting(jax.random.key(0), variables, x, noise.to_device(gaussian), groups)
  arguments = jnp.asarray((0, 4), jnp.int32), setting, None
  options = {**static_options(chunk_size=2), "apply": model.apply, "num_classes": 3}
  export.export(counting._vote_counts, platforms=("cpu", "cuda", "tpu"))(*arguments, **options)
