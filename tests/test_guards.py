"""Every guard rail is triggered, and sound models pass all of them in silence."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lrs_jax import errors, noise, sampling
from lrs_jax.confidence import certificates, naive
from lrs_jax.sampling import guards

KEY = jax.random.key(7)
GROUPS = np.array([0, 0, 1, 1])
CELLS = np.array([0, 0, 1, 1])
GAUSSIAN = noise.gaussian([[0.2, 0.8], [0.8, 0.2]], CELLS)
X = np.array([0.1, 0.9, 0.4, 0.6], np.float32)


def linear(params, x):
  return jnp.stack([x * params, 1 - x], axis=-1)


ONE = np.float32(1)


def check(apply, params=ONE, x=X, smoothing=GAUSSIAN, num_classes=2):
  guards.check_model(KEY, apply, params, x, smoothing, GROUPS, num_classes=num_classes)


def linen(train):
  """A Flax Linen network for one input, as users adapt one that wants a batch."""

  class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = nn.Dense(8)(x[..., None])
      x = nn.BatchNorm(use_running_average=not train)(x)
      return nn.Dense(2)(nn.relu(x))

  model = Network()
  variables = model.init(jax.random.key(0), jnp.asarray(X)[None])

  def apply(variables, x):
    return model.apply(variables, x[None], mutable=["batch_stats"])[0][0]

  return apply, variables


def linen_dropout(deterministic):
  model = nn.Sequential([nn.Dense(64), nn.Dropout(0.5, deterministic=deterministic), nn.Dense(2)])
  variables = model.init({"params": KEY, "dropout": KEY}, jnp.asarray(X)[:, None])
  return lambda v, x: model.apply(v, x[:, None], rngs={"dropout": jax.random.key(3)}), variables


def nnx_network(train):
  class Network(nnx.Module):
    def __init__(self, rngs):
      self.first, self.last = nnx.Linear(1, 8, rngs=rngs), nnx.Linear(8, 2, rngs=rngs)
      self.norm = nnx.BatchNorm(8, use_running_average=not train, rngs=rngs)

    def __call__(self, x):
      return self.last(nnx.relu(self.norm(self.first(x[:, None]))))

  graph, state = nnx.split(Network(nnx.Rngs(0)))
  return lambda state, x: nnx.merge(graph, state)(x), state


@pytest.mark.parametrize(
  "make",
  [
    lambda: (linear, ONE),
    lambda: (jax.jit(linear), ONE),
    lambda: linen(train=False),
    lambda: nnx_network(train=False),
    lambda: linen_dropout(deterministic=True),
    lambda: (lambda p, x: jnp.stack([x, jnp.full_like(x, -jnp.inf)], -1), None),  # a masked class
  ],
)
def test_a_function_of_one_input_passes_in_silence(make):
  check(*make())


def test_integer_inputs():
  for x in (np.array([0, 255, 3, 4], np.uint8), [1, 2, 3, 4], np.array([True] * 4)):
    with pytest.raises(errors.IntegerInputError, match=r"x / np.float32\(255\)"):
      check(linear, x=x)
    with pytest.raises(errors.IntegerInputError):
      sampling.vote_counts(KEY, linear, 1.0, x, GAUSSIAN, GROUPS, 4, num_classes=2)


@pytest.mark.parametrize("num_classes", [1, 3])
def test_missing_classes(num_classes):
  with pytest.raises(errors.MissingClassesError, match=r"shape \(4, 2\), whose last axis has 2"):
    check(linear, num_classes=num_classes)
  with pytest.raises(errors.MissingClassesError):
    sampling.vote_counts(KEY, linear, ONE, X, GAUSSIAN, GROUPS, 4, num_classes=num_classes)


def test_logits_that_are_no_numbers():
  with pytest.raises(errors.NaNLogitsError, match="logarithm of noisy"):
    check(lambda p, x: jnp.stack([jnp.log(x - 0.2), x], axis=-1))


def test_a_model_that_differs_from_compilation_to_compilation():
  rng = np.random.default_rng(0)
  with pytest.raises(errors.NotDeterministicError, match="same logits whenever"):
    check(lambda p, x: linear(p, x) + rng.normal(size=(4, 2)).astype(np.float32))


def test_a_model_that_differs_from_call_to_call():
  rng = np.random.default_rng(0)

  def outside(x):
    return np.asarray(x) + rng.normal(size=x.shape).astype(np.float32)

  def apply(params, x):
    seen = jax.pure_callback(
      outside, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims"
    )
    return linear(params, seen)

  with pytest.raises(errors.NotDeterministicError, match="Dropout that is still on"):
    check(apply)


def batch_normalized(x):
  x = np.asarray(x)
  return (x - x.mean(axis=0)) / (x.std(axis=0) + 0.1) if x.ndim > 1 else x


def test_a_model_that_looks_at_the_rest_of_the_batch():
  def apply(params, x):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    seen = jax.pure_callback(batch_normalized, shape, x, vmap_method="expand_dims")
    return linear(params, seen)

  with pytest.raises(errors.BatchDependenceError, match="Batch statistics in training mode"):
    check(apply)


@pytest.mark.parametrize("make", [linen, nnx_network])
def test_batch_statistics_in_training_mode(make):
  with pytest.warns(errors.TrainingModeWarning, match=r"2 batch statistics .* running averages"):
    check(*make(train=True))


def test_dropout_in_training_mode():
  with pytest.warns(errors.TrainingModeWarning, match="draws random numbers .* dropout"):
    check(*linen_dropout(deterministic=False))


def test_dropout_that_is_on_and_has_no_random_numbers():
  model = nn.Sequential([nn.Dense(8), nn.Dropout(0.5, deterministic=False), nn.Dense(2)])
  variables = model.init({"params": KEY, "dropout": KEY}, jnp.asarray(X)[:, None])
  with pytest.raises(ValueError, match=r"turn dropout off \(deterministic=True") as raised:
    check(lambda v, x: model.apply(v, x[:, None]), variables)
  assert isinstance(raised.value, errors.TrainingModeError)
  assert type(raised.value.__cause__).__name__ == "InvalidRngError"
  nnx_model = nnx.Dropout(0.5)
  with pytest.raises(ValueError, match="turn dropout off"):
    check(lambda p, x: linear(p, nnx_model(x)))


def test_batch_statistics_that_are_updated():
  class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.Dense(2)(nn.BatchNorm(use_running_average=False)(x[:, None]))

  variables = Network().init(KEY, jnp.asarray(X))
  with pytest.raises(ValueError, match="running averages") as raised:
    check(Network().apply, variables)
  assert isinstance(raised.value, errors.TrainingModeError)


def test_other_errors_of_a_model_are_its_own():
  with pytest.raises(TypeError, match="of the model's"):
    check(lambda p, x: (_ for _ in ()).throw(TypeError("of the model's")))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_inputs_that_are_not_finite(wrong):
  x = X.copy()
  x[2] = wrong
  finite = lambda p, x: linear(p, jnp.nan_to_num(x, posinf=0.0, neginf=0.0))  # noqa: E731
  with pytest.raises(ValueError, match="must be finite, but 1 of its 4 entries are not") as raised:
    check(finite, x=x)
  assert isinstance(raised.value, errors.NonFiniteInputError)


@pytest.mark.parametrize(
  ("apply", "message"),
  [
    (lambda p, x: None, "but it returns None: is its `return` missing"),
    (lambda p, x: (linear(p, x), x), r"a tuple of arrays of shapes \(4, 2\), \(4,\): return"),
    (lambda p, x: {"out": linear(p, x)}, r"a dict of arrays of shapes \(4, 2\)"),
    (lambda p, x: linear(p, x).argmax(axis=-1), r"shape \(4,\) without .*after an argmax"),
    (lambda p, x: x[:, None], r"shape \(4, 1\) without such an axis.* one logit"),
    (lambda p, x: x.sum(), "with an axis of the K classes, but it returns a scalar"),
    (lambda p, x: linear(p, x)[:2], r"\(2, 2\), which are 2 outputs of 2 classes, but .* has 4"),
    (lambda p, x: linear(p, x).T.reshape(2, 2, 2, 1), r"move the axis .*moveaxis\(logits, 0, -1"),
  ],
)
def test_what_are_no_logits(apply, message):
  with pytest.raises(ValueError, match=message):
    check(apply)


@pytest.mark.parametrize(
  ("x", "scale"),
  [(X * 255, 0.25), (X, 50.0), (X, 0.25 * 255), (X * 2.0**16, 1.0)],
)
def test_input_and_noise_in_different_units(x, scale):
  x = x.astype(np.float32)
  with pytest.warns(errors.InputScaleWarning, match="8-bit images are / 255"):
    check(
      lambda p, x: linear(p, x / x.max()), x=x, smoothing=noise.laplace([[scale] * 2] * 2, CELLS)
    )


def test_units_that_are_usual_pass():
  for x, scale in ((X, 0.02), (X, 2.0), ((X - 0.45) / 0.22, 0.25), (X * 255, 25.0), (X * 0, 0.1)):
    check(linear, x=x.astype(np.float32), smoothing=noise.gaussian([[scale] * 2] * 2, CELLS))


def test_flips_of_an_input_that_is_not_binary():
  flips = noise.flips([[0.1] * 2] * 2, [[0.5] * 2] * 2, CELLS)
  binary = lambda p, x: jnp.stack([x, 0.5 - x], axis=-1)  # noqa: E731
  check(binary, x=np.array([0, 1, 1, 0], np.float32), smoothing=flips)
  with pytest.warns(errors.InputScaleWarning, match="only whether it is 0"):
    check(binary, smoothing=flips)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_logits_of_few_bits_that_tie(dtype):
  near = lambda p, x: jnp.stack([100 + x * 0.01, 100 - x * 0.01], axis=-1)  # noqa: E731
  check(near)
  with pytest.warns(errors.TiedLogitsWarning, match=f"{jnp.dtype(dtype)} logits"):
    check(lambda p, x: near(p, x).astype(dtype))


def test_one_key_for_selection_and_estimation():
  guards.check_keys(*jax.random.split(KEY))
  with pytest.raises(errors.SameKeyError, match="two independent keys"):
    guards.check_keys(KEY, jax.random.key(7))


def test_one_key_with_as_many_samples_is_seen_of_the_counts():
  params = np.linspace(0.2, 3, 4).astype(np.float32)
  x = np.linspace(0.3, 0.7, 8).astype(np.float32)
  gaussian = noise.gaussian([[0.5]], np.zeros(8, int))
  groups = np.zeros(8, int)

  def counts(key):
    return sampling.vote_counts(
      key, lambda p, x: linear(p[0], x), params, x, gaussian, groups, 200, num_classes=2
    )

  with pytest.warns(errors.SameSamplesWarning, match="two independent keys"):
    certificates.from_votes(gaussian, groups, counts(KEY), counts(KEY), alpha=0.01)
  with pytest.warns(errors.SameSamplesWarning):
    naive.naive_holm(gaussian, groups, counts(KEY), counts(KEY), 0.1, alpha=0.01)
  certificates.from_votes(gaussian, groups, counts(KEY), counts(jax.random.key(8)), alpha=0.01)
  unanimous = np.tile([200, 0], (8, 1))  # equal by chance, as often as not
  certificates.from_votes(gaussian, groups, unanimous, unanimous, alpha=0.01)


@pytest.mark.parametrize("num_outputs", [1, 1000])
def test_alpha_and_samples_at_which_nothing_can_be_certified(num_outputs):
  gaussian, groups = noise.gaussian([[0.5]], [0]), np.zeros(num_outputs, int)
  needed = int(np.log2(num_outputs / 0.01)) + 1
  enough, few = (np.tile([size, 0], (num_outputs, 1)) for size in (needed, needed - 1))
  assert (certificates.from_votes(gaussian, groups, enough, enough, alpha=0.01).eta > 0).all()
  with pytest.warns(errors.TooFewSamplesWarning, match=f"at least {needed} are needed"):
    base = certificates.from_votes(gaussian, groups, few, few, alpha=0.01)
  assert not base.eta.any()


def test_the_same_for_scores():
  flips = noise.flips([[0.1]], [[0.1]], [0])
  sums = certificates.ScoreSums(5, *(np.asarray([s]) for s in (5, 5 * 255, 5 * 255**2)))
  with pytest.warns(errors.TooFewSamplesWarning, match="at least 7 are needed"):
    assert not certificates.from_scores(flips, [0], [0], sums, sums, alpha=0.01).eta.any()


def test_errors_can_be_caught_as_before():
  for name, kind in vars(errors).items():
    if isinstance(kind, type):
      assert issubclass(kind, UserWarning if name.endswith("Warning") else ValueError), name
