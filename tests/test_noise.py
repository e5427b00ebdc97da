"""Every noise family: one protocol, draws of the stated law, weights and eta rounded soundly."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from lrs_jax import noise
from lrs_jax.noise import draws, renyi

mp.mp.dps = 50

CELLS = np.array([0, 1, 1])

FAMILIES = {
  "gaussian": lambda cells: noise.gaussian([[0.3, 2.0], [1.0, np.inf]], cells),
  "uniform": lambda cells: noise.uniform([[0.3, 2.0], [1.0, np.inf]], cells),
  "laplace": lambda cells: noise.laplace([[0.3, 2.0], [1.0, np.inf]], cells),
  "ablation": lambda cells: noise.ablation([[0.3, 0.9], [0.5, 1.0]], cells),
  "flips": lambda cells: noise.flips([[0.01, 0.3], [0.5, 0.0]], [[0.6, 0.3], [0.0, 1.0]], cells),
}
LOCATION_SCALE = {
  "gaussian": (noise.gaussian, stats.norm),
  "uniform": (noise.uniform, stats.uniform(-1, 2)),
  "laplace": (noise.laplace, stats.laplace),
}


def samples(distribution, x, group, num_samples, seed=0):
  keys = jax.random.split(jax.random.key(seed), num_samples)
  return jax.jit(jax.vmap(lambda key: noise.sample(key, distribution, x, group)))(keys)


@pytest.mark.parametrize("family", FAMILIES)
class TestProtocol:
  def test_fields(self, family):
    distribution = FAMILIES[family](CELLS)
    assert distribution.family.name == family
    assert len(distribution.family.kinds) == distribution.weights.shape[0]
    assert len(distribution.parameters) == len(distribution.family.parameters)
    assert all(part.shape == (2, 2) for part in distribution.parameters)
    assert all(part.dtype == np.float64 for part in distribution.parameters)
    assert distribution.scale is distribution.parameters[0]
    assert distribution.num_groups == 2
    assert distribution.weights.dtype == np.float64
    assert distribution.weights.shape == (2 if family == "flips" else 1, 2, 2)
    assert (distribution.weights >= 0).all()
    assert (distribution.weights[:, 1, 1] == 0).all(), "a hidden cell costs nothing"
    assert distribution.p == {"gaussian": 2, "uniform": 1, "laplace": 1}.get(family, 0)

  def test_family_parameters_and_cells_make_it_again(self, family):
    one = FAMILIES[family](CELLS)
    again = noise.make(one.family.name, np.stack(one.parameters), one.cells)
    jax.tree.map(np.testing.assert_array_equal, one, again)  # and the family is the same
    arguments = [name for name in inspect.signature(noise.FAMILIES[family]).parameters]
    assert set(arguments) == {*one.family.parameters, "cells"}
    with pytest.raises(ValueError, match=f"`parameters` of {family} must be"):
      noise.make(family, [*one.parameters, one.scale], CELLS)
    with pytest.raises(ValueError, match="but there are 0"):
      noise.make(family, [], CELLS)
    with pytest.raises(ValueError, match="must"):
      noise.make(family, [-part for part in one.parameters], CELLS)

  def test_is_an_argument_of_a_compiled_function(self, family):
    """One program for all levels of a family, and another one for another family."""
    traced = []

    def draw(key, distribution, x):
      traced.append(distribution.family.name)
      return noise.sample(key, distribution, x, 1)

    compiled, x = jax.jit(draw), jnp.asarray([1.0, 0.0, 1.0])
    one = FAMILIES[family](CELLS)
    key = jax.random.key(3)
    np.testing.assert_array_equal(compiled(key, one, x), noise.sample(key, one, x, 1))
    half = [0.5 * part for part in one.parameters]
    compiled(key, noise.make(family, half, 1 - CELLS), x)
    assert traced == [family]
    compiled(key, noise.gaussian([[1.0, 2.0]] * 2, CELLS), x)
    assert traced == list(dict.fromkeys([family, "gaussian"]))

  def test_its_tree(self, family):
    one, other = FAMILIES[family](CELLS), FAMILIES[family](1 - CELLS)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert hash(one.family) == hash(other.family)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(one))
    changed = one._replace(family=dataclasses.replace(one.family, p=7))
    assert jax.tree.structure(one) != jax.tree.structure(changed)

  def test_functions_do_not_depend_on_levels(self, family):
    one, other = FAMILIES[family](CELLS), FAMILIES[family](np.array([[0]]))
    assert (one.draw, one.perturb) == (other.draw, other.perturb)

  def test_hidden_cells_show_a_constant(self, family):
    z = samples(FAMILIES[family](CELLS), np.array([1, 0, 1], np.float32), 1, 50)
    assert np.unique(z[:, 1:]).tolist() == [0.0]

  @pytest.mark.parametrize(
    ("shape", "dtype"),
    [((), jnp.float32), ((0,), jnp.float32), ((1,), jnp.bfloat16), ((2, 3, 3), jnp.float16)],
  )
  def test_keeps_shape_and_type(self, family, shape, dtype):
    distribution = FAMILIES[family](np.zeros(shape, np.int32))
    x = jax.ShapeDtypeStruct(shape, dtype)
    z = jax.eval_shape(lambda x: noise.sample(jax.random.key(0), distribution, x, 0), x)
    assert (z.shape, z.dtype) == (shape, dtype)

  def test_lowers_for_all_platforms(self, family):
    distribution = FAMILIES[family](CELLS)
    sampler = jax.jit(lambda key, x: noise.sample(key, distribution, x, 0))
    args = jax.eval_shape(lambda: (jax.random.key(0), jnp.ones(3, jnp.float32)))
    exported = jax.export.export(sampler, platforms=("cpu", "cuda", "tpu"))(*args)
    assert "f64" not in exported.mlir_module()

  def test_eta_grows_with_q_and_abstains_at_one_half(self, family):
    eta = FAMILIES[family](CELLS).eta(np.linspace(0, 1, 1001))
    assert (eta[:501] == 0).all()
    assert (np.diff(eta[500:]) > 0).all()

  def test_soft_scores_that_are_votes(self, family):
    distribution = FAMILIES[family](CELLS)
    q = np.linspace(0, 0.99, 100)
    soft = distribution.eta_soft(q, np.full(q.shape, 0.25))
    np.testing.assert_array_less(distribution.eta(q) * (1 - 1e-12) - 1e-300, soft)

  def test_not_a_number_abstains(self, family):
    distribution = FAMILIES[family](CELLS)
    assert distribution.eta(np.nan) == 0
    assert distribution.eta_soft(np.nan, 0.1) == 0
    assert np.isfinite(distribution.eta_soft(0.9, np.nan))

  def test_refuses_cells_out_of_range(self, family):
    with pytest.raises(ValueError, match=r"range from 0 to 2"):
      FAMILIES[family](np.array([0, 2]))
    with pytest.raises(ValueError, match="range from -1"):
      FAMILIES[family](np.array([0, -1]))
    with pytest.raises(ValueError, match="integers"):
      FAMILIES[family](np.array([0.0, 1.0]))


def test_the_table_has_all_families():
  assert list(noise.FAMILIES) == list(FAMILIES)
  for unknown in ("cauchy", "__name__", "sample"):
    with pytest.raises(ValueError, match="must be one of gaussian, uniform, laplace, ablation, fl"):
      noise.make(unknown, [[[1.0]]], [0])


def test_fill_survives_a_record():
  """Before, a distribution that was made again showed 0 in hidden entries."""
  for fill in (0.4, np.nan, [[0.1, 0.2]]):
    one = noise.ablation([[1.0, 1.0]], [0, 1], fill=fill)
    again = noise.make("ablation", np.stack(one.parameters), one.cells)
    z = noise.sample(jax.random.key(0), again, jnp.zeros(2), 0)
    np.testing.assert_array_equal(z, np.broadcast_to(np.asarray(fill, np.float32), (1, 2))[0])
  assert noise.make("ablation", [[[0.5]]], [0]).parameters[1] == [[0.0]]  # as it was stored
  with pytest.raises(ValueError, match=r"`fill` must be one number, or have the shape of `rho`"):
    noise.ablation([[0.5, 0.5]], [0, 1], fill=[0.1, 0.2])


def test_orders_of_flips_hold_for_what_is_stated_and_for_what_is_drawn():
  flips = noise.flips([[0.1, 1e-12]], [[0.6, 1e-12]], [0, 1])
  weights, eta = flips.family.renyi(flips, [0.5, 0.9], 2.0)
  assert (weights >= renyi.flip_weights(*flips.parameters, 2.0)).all()
  drawn = [draws.probability(threshold) for threshold in flips.levels]
  assert (weights >= renyi.flip_weights(*drawn, 2.0)).all()
  np.testing.assert_array_equal(eta, renyi.eta([0.5, 0.9], 2.0))
  assert noise.gaussian([[1.0]], [0]).family.renyi is None


@pytest.mark.parametrize("family", LOCATION_SCALE)
@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, 1e-40, 1e40])
def test_refuses_levels_that_are_no_scale(family, scale):
  with pytest.raises(ValueError, match="`scale` must be positive"):
    LOCATION_SCALE[family][0]([[scale]], [0])


@pytest.mark.parametrize("rho", [0.0, -0.1, 1.1, np.nan])
def test_refuses_levels_that_are_no_ablation(rho):
  with pytest.raises(ValueError, match="`rho` must lie in"):
    noise.ablation([[rho]], [0])


@pytest.mark.parametrize(("plus", "minus"), [(1, 0), (0.1, 1), (-0.1, 0), (0, 1.1), (np.nan, 0)])
def test_refuses_levels_that_are_no_flips(plus, minus):
  with pytest.raises(ValueError, match="`theta_"):
    noise.flips([[plus]], [[minus]], [0])


def test_refuses_shapes_that_do_not_fit():
  with pytest.raises(ValueError, match=r"shape \[G, C\]"):
    noise.gaussian([0.1], [0])
  with pytest.raises(ValueError, match="one shape"):
    noise.flips([[0.1]], [[0.1, 0.2]], [0])


# The law of the draws.


@pytest.mark.parametrize("family", LOCATION_SCALE)
def test_location_scale_law(family):
  make, standard = LOCATION_SCALE[family]
  x = np.array([0.5, -1.0, 2.0], np.float32)
  z = np.asarray(samples(make([[0.3, 2.0]], CELLS), x, 0, 20_000), np.float64)
  for column, level, center in zip(z.T, [0.3, 2.0, 2.0], x, strict=True):
    assert stats.kstest((column - center) / level, standard.cdf).pvalue > 1e-4
  assert abs(np.corrcoef(z.T)[0, 1]) < 5 / np.sqrt(len(z))
  assert abs(np.corrcoef(z.T)[1, 2]) < 5 / np.sqrt(len(z))


def test_groups_share_the_standard_draw():
  distribution = noise.gaussian([[1.0], [3.0]], [0, 0])
  one, other = (noise.sample(jax.random.key(1), distribution, jnp.zeros(2), g) for g in (0, 1))
  np.testing.assert_allclose(other, 3 * one, rtol=1e-6)


def test_ablation_law_and_entries():
  x = jnp.arange(1, 13, dtype=jnp.float32).reshape(2, 2, 3)
  together = noise.ablation([[0.3, 0.9]], np.array([[[0], [1]], [[0], [1]]]), fill=-1.0)
  z = np.asarray(samples(together, x, 0, 20_000))
  hidden = z == -1
  assert (hidden == hidden[..., :1]).all(), "channels of a pixel are hidden together"
  np.testing.assert_array_equal(np.where(hidden, np.asarray(x), z), np.broadcast_to(x, z.shape))
  rate = hidden[..., 0].mean(axis=0)
  error = np.sqrt(np.array([0.21, 0.09]) / len(z))
  assert (np.abs(rate - [0.3, 0.9]) < 5 * error).all()
  apart = noise.ablation([[0.3, 0.9]], np.zeros((2, 2, 3), np.int32))
  hidden = np.asarray(samples(apart, x, 0, 2000)) == 0
  assert (hidden[..., 0] != hidden[..., 1]).any()
  marked = noise.ablation([[0.5]], [0] * 3, fill=np.nan)
  assert np.isnan(samples(marked, jnp.zeros(3), 0, 100)).any()


def test_flips_law():
  x = np.array([0, 1, 0, 1], np.float32)
  distribution = noise.flips([[0.02, 0.4]], [[0.7, 0.1]], [0, 0, 1, 1])
  z = np.asarray(samples(distribution, x, 0, 40_000))
  assert set(np.unique(z)) == {0.0, 1.0}
  truth = np.array([0.02, 0.7, 0.4, 0.1])
  error = np.sqrt(truth * (1 - truth) / len(z))
  assert (np.abs((z != x).mean(axis=0) - truth) < 5 * error).all()


def test_certain_flips_never_happen():
  distribution = noise.flips([[0.0, 0.5]], [[0.5, 0.0]], [0, 1])
  z = np.asarray(samples(distribution, np.array([0, 1], np.float32), 0, 1000))
  assert (z == [0, 1]).all()
  assert distribution.weights[0, 0, 0] == np.inf
  assert distribution.weights[1, 0, 1] == np.inf


# What is drawn is at least as noisy as what is stated, and the weights cover both.


@given(st.floats(1e-30, 1e30))
@settings(deadline=None)
def test_drawn_scale_is_at_least_the_stated_one(scale):
  level = noise.gaussian([[scale]], [0]).levels
  assert level.dtype == np.float32
  assert scale <= float(level[0, 0]) <= scale * (1 + 2**-22)


THETA = st.one_of(st.just(0.0), st.floats(0, 1, exclude_max=True), st.floats(0, 1e-8))


@given(THETA, THETA)
@example(0.3, 0.7 - 1e-15)
@example(1 - 1e-16, 0.0)
@example(1 - 2.0**-53, 2.0**-52)
@example(0.0, 0.0)
@settings(deadline=None)
def test_flip_weights_cover_stated_and_drawn(plus, minus):
  distribution = noise.flips([[plus]], [[minus]], [0])
  drawn = [float(draws.probability(level)[0, 0]) for level in distribution.levels]
  for theta, exact in zip((plus, minus), drawn, strict=True):
    if theta == 0:  # a tiny one may be drawn as 0, too: then its weight is infinite, see below
      assert exact == 0
    assert abs(theta - exact) < 2**-31
    assert exact < 1
  for one, other in ((plus, minus), drawn):
    for weight, (add, delete) in zip(
      distribution.weights[:, 0, 0], ((one, other), (other, one)), strict=True
    ):
      add, delete = mp.mpf(add), mp.mpf(delete)
      if add == 0:
        assert weight == np.inf
      else:
        truth = mp.log((1 - delete) ** 2 / add + delete**2 / (1 - add))
        assert mp.mpf(float(weight)) >= truth


@given(st.floats(1e-12, 1, exclude_max=True))
@example(np.nextafter(1, 0))
@example(2.0**-32)
@settings(deadline=None)
def test_ablation_weights_cover_stated_and_drawn(rho):
  distribution = noise.ablation([[rho]], [0])
  drawn = float(draws.probability(distribution.levels[0])[0, 0])
  for truth in (rho, drawn):
    assert mp.mpf(float(distribution.weights[0, 0, 0])) >= -mp.log(mp.mpf(truth))


# Rounding, against 50 digits: on the sound side, and close.

CLOSE = 1e-13


def below(value, truth, close=CLOSE):
  """Value <= truth, by little."""
  value = mp.mpf(float(value))
  return value <= truth <= value * (1 + mp.mpf(close)) + mp.mpf(10) ** -300


@given(st.floats(1e-30, 1e30))
@settings(deadline=None)
def test_scale_weights_are_rounded_up(scale):
  for make, p in ((noise.gaussian, 2), (noise.uniform, 1), (noise.laplace, 1)):
    weight = make([[scale]], [0]).weights[0, 0, 0]
    assert below(1 / mp.mpf(float(weight)), mp.mpf(scale) ** p)


@given(st.floats(1e-6, 0.9), st.floats(1e-6, 0.9))
@settings(deadline=None)
def test_flip_weights_are_close(plus, minus):
  weight = mp.mpf(float(noise.flips([[plus]], [[minus]], [0]).weights[0, 0, 0]))
  plus, minus = mp.mpf(plus), mp.mpf(minus)
  truth = mp.log((1 - minus) ** 2 / plus + minus**2 / (1 - plus))
  slack = mp.mpf(2) ** -31 / abs(1 - plus - minus) if plus + minus != 1 else 1
  assert truth <= weight <= truth * (1 + CLOSE + slack) + mp.mpf(10) ** -16


ETA = {
  "gaussian": lambda q: 2 * mp.erfinv(2 * q - 1) ** 2,
  "uniform": lambda q: 2 * q - 1,
  "laplace": lambda q: -mp.log(2 * (1 - q)),
  "ablation": lambda q: -mp.log(mp.mpf(3) / 2 - q),
  "flips": lambda q: -mp.log(4 * q * (1 - q)),
}
MAJORITY = st.one_of(
  st.floats(0.5, 1, exclude_min=True, exclude_max=True),
  st.integers(1, 50).map(lambda k: 0.5 + 2.0**-k / 2),
  st.integers(2, 52).map(lambda k: 1 - 2.0**-k),
)


@pytest.mark.parametrize("family", FAMILIES)
@given(q=MAJORITY, log_v=st.floats(-30, 0))
@example(q=np.nextafter(1, 0), log_v=-30.0)
@example(q=np.nextafter(0.5, 1), log_v=0.0)
@example(q=0.75, log_v=-1.0)
@settings(deadline=None, max_examples=60)
def test_eta_is_rounded_down(family, q, log_v):
  distribution = FAMILIES[family](CELLS)
  exact = mp.mpf(float(q))
  hard = ETA[family](exact)
  assert below(distribution.eta(q), hard)
  v = float(np.exp(log_v))
  variance = mp.log(1 + (exact - mp.mpf(1) / 2) ** 2 / min(mp.mpf(v), exact * (1 - exact)))
  soft = {"uniform": hard, "ablation": hard, "flips": variance}.get(family, max(hard, variance))
  assert below(distribution.eta_soft(q, v), soft)


@pytest.mark.parametrize(
  ("family", "limit"),
  [
    ("gaussian", np.inf),
    ("laplace", np.inf),
    ("flips", np.inf),
    ("uniform", 1),
    ("ablation", None),
  ],
)
def test_eta_at_certainty(family, limit):
  distribution = FAMILIES[family](CELLS)
  limit = np.log(2) if limit is None else limit
  for eta in (distribution.eta(1.0), distribution.eta_soft(1.0, 0.0)):
    np.testing.assert_allclose(eta, limit, rtol=1e-13)
    assert eta <= limit


def test_variance_enters_to_the_first_power():
  eta = noise.flips([[0.1]], [[0.1]], [0]).eta_soft(0.9, 0.01)
  np.testing.assert_allclose(eta, np.log(1 + 0.16 / 0.01), rtol=1e-12)


def test_bernoulli_draws_are_exact():
  words = jnp.asarray([0, 1, 2**31, 2**32 - 2, 2**32 - 1], jnp.uint32)
  for threshold, expected in ((0, 0), (1, 1), (2**31, 2), (2**32 - 2, 3), (2**32 - 1, 5)):
    assert int(draws.below(words, jnp.uint32(threshold)).sum()) == expected
