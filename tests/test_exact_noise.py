"""Exact noise: its law, its draws, what it certifies, and what float noise lets a model read."""

import itertools
from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import lrs_jax
from lrs_jax import errors, noise, sampling
from lrs_jax.baselines import segcertify
from lrs_jax.cli import main
from lrs_jax.confidence import naive
from lrs_jax.front import steps
from lrs_jax.jobs import cards, records
from lrs_jax.noise import grids, tails
from lrs_jax.tasks import common, images
from tests.test_cli import TOY

KEY = jax.random.key(5)
STEP = 1 / 255
ADDITIVE = {
  "gaussian": (noise.gaussian, tails.GAUSSIAN, lambda t: special.erfc(t / np.sqrt(2))),
  "laplace": (noise.laplace, tails.LAPLACE, lambda t: np.exp(-t)),
  "uniform": (noise.uniform, tails.UNIFORM, lambda t: np.clip(1 - t, 0, 1)),
}

draw = jax.jit(noise.sample)


# The law.


@pytest.mark.parametrize("scale", [0.3, 0.05, 1.0])
def test_gaussian_thresholds_are_those_of_another_series(scale):
  """Of alternating terms, in 130 digits, of which cancellation leaves 90."""
  words = grids.thresholds(tails.GAUSSIAN, scale, STEP)
  with localcontext() as context:
    context.prec = 130
    root = (2 / Decimal("3.14159265358979323846264338327950288419716939937510582")).sqrt()
    for a in [*range(0, len(words), 101), len(words) - 1]:
      t = (a + Decimal("0.5")) * Decimal(STEP) / Decimal(scale)
      term, total, j = t, t, 0
      while abs(term) > Decimal(10) ** -60 or j < 100:
        j += 1
        term = -term * t * t / (2 * j)
        total += term / (2 * j + 1)
      assert abs(Decimal(words[a]) / 2**64 - (1 - root * total)) <= Decimal(2) ** -64
      assert words[a] % 2 == 0


@pytest.mark.parametrize("family", ADDITIVE)
@pytest.mark.parametrize("scale", [0.001, 0.02, 0.3])
def test_thresholds_are_all_of_the_tail(family, scale):
  _, tail, probability = ADDITIVE[family]
  words = grids.thresholds(tail, scale, STEP)
  expected = probability((np.arange(len(words) + 1) + 0.5) * STEP / scale)
  np.testing.assert_allclose(np.array(words, float) / 2**64, expected[:-1], rtol=1e-12, atol=2e-19)
  assert expected[-1] <= 2.0**-64 * (1 + 1e-12)
  assert len(words) + 1 < 2**16


def test_distance_bounds_what_the_drawn_law_can_differ_by():
  """From every threshold's error, for the most thresholds and the largest inputs there may be."""
  most = len(grids.thresholds(tails.LAPLACE, grids.MAX_STEPS, 1.0))
  assert (most + 1) * 2.0**-64 * grids.MAX_COORDINATES <= grids.DISTANCE
  words = grids.thresholds(tails.GAUSSIAN, 0.02, STEP)
  drawn = -np.diff([1.0, *(word / 2**64 for word in words), 0.0])
  beyond = special.erfc((np.arange(len(words)) + 0.5) * STEP / 0.02 / np.sqrt(2))
  ideal = -np.diff([1.0, *beyond, 0.0])
  assert abs(drawn - ideal).sum() < 1e-14


# The draws.


@pytest.mark.parametrize("family", ADDITIVE)
@pytest.mark.parametrize("scale", [0.001, 0.3, 0.8])
def test_draws_are_right_beside_every_threshold(family, scale):
  """Two numbers beside each of them, and the smallest and largest that there are."""
  _, tail, _ = ADDITIVE[family]
  words = grids.thresholds(tail, scale, STEP)
  near = {word + shift for word in words for shift in (-2, 0, 2)}
  values = np.array(sorted(near | set(range(0, 2000, 2)) | {2**64 - 2}), dtype=object)
  values = values[(values >= 0) & (values < 2**64)].astype(np.uint64)
  expected = np.array([len(words)] * values.size) - np.searchsorted(
    np.array(words[::-1], np.uint64), values, side="right"
  )
  table = grids.Thresholds(*map(jnp.asarray, grids._table(tail, (0.01, scale), STEP)))
  halves = jnp.asarray(np.stack([values >> 32, values & 0xFFFFFFFF]).astype(np.uint32))
  steps_of = jax.jit(grids.steps_of, static_argnames="near")
  level = jnp.int32(table.high.shape[1]), jnp.float32(scale / STEP)
  np.testing.assert_array_equal(steps_of(halves, level, table, tail.near), expected)
  signed = halves.at[1].set(halves[1] | 1)
  np.testing.assert_array_equal(steps_of(signed, level, table, tail.near), -expected)


@pytest.mark.parametrize("family", ADDITIVE)
def test_where_thresholds_are_looked_for_is_near_enough(family):
  """By half of what it may be off, for numbers of all sizes; t is that of SciPy's inverse."""
  _, tail, _ = ADDITIVE[family]
  inverse = {
    "gaussian": lambda p: -special.ndtri(p / 2),
    "laplace": lambda p: -np.log(p),
    "uniform": lambda p: 1 - p,
  }[family]
  rng = np.random.default_rng(0)
  values = (2.0 ** (64 - 63 * rng.random(200_000) ** 2)).astype(np.uint64) // 2 * 2
  values = np.concatenate([values, np.arange(0, 1000, 2, dtype=np.uint64), ~values // 2 * 2])
  halves = jnp.asarray(np.stack([values >> 32, values & 0xFFFFFFFF]).astype(np.uint32))
  t = inverse((values.astype(np.float64) + 1) / 2.0**64)
  off = np.abs(np.asarray(jax.jit(tail.near)(*halves), np.float64) - t)
  assert off.max() * grids.MAX_STEPS < 0.25


@pytest.mark.parametrize("family", ADDITIVE)
def test_draws_have_the_law_of_rounded_real_noise(family):
  factory, _, probability = ADDITIVE[family]
  x = jnp.full(300_000, 7 * STEP, jnp.float32)
  distribution = noise.on_grid(factory([[2.2 * STEP]], np.zeros(1, int)), STEP)
  z = np.asarray(draw(KEY, distribution, x, 0), np.float64) / STEP - 7
  steps = np.rint(z).astype(int)
  np.testing.assert_allclose(z, steps, atol=1e-4)
  a = np.arange(6)
  mass = probability((a - 0.5) / 2.2) - probability((a + 0.5) / 2.2)
  mass[0] = 1 - probability(0.5 / 2.2)
  expected = np.concatenate([mass[:0:-1] / 2, mass[:1], mass[1:] / 2]) * x.size
  observed = np.array([(steps == i).sum() for i in range(-5, 6)])
  rest = x.size - expected.sum(), x.size - observed.sum()
  expected, observed = np.append(expected, rest[0]), np.append(observed, rest[1])
  possible = expected > 1e-6
  assert not observed[~possible].any()
  chi2 = ((observed - expected)[possible] ** 2 / expected[possible]).sum()
  assert chi2 < stats.chi2.ppf(1 - 1e-6, possible.sum() - 1)


def test_a_model_is_shown_a_function_of_integers():
  """The same draw at another input is the same noise, in whole steps, and at 0 noise the input."""
  x = jnp.asarray(np.arange(256, dtype=np.float32) / np.float32(255))
  distribution = noise.on_grid(noise.gaussian([[0.3, np.inf]], np.arange(256) % 16 // 15), STEP)
  seen = [np.asarray(draw(KEY, distribution, x, 0))]
  seen.append(np.asarray(draw(KEY, distribution, jnp.zeros_like(x), 0)))
  hidden = np.arange(256) % 16 == 15
  whole, other = (np.rint(z * 255.0).astype(int) for z in seen)
  np.testing.assert_array_equal((whole - other)[~hidden], np.arange(256)[~hidden])
  assert not seen[0][hidden].any()
  by_integer = {}
  for integer, value in zip(np.concatenate([whole, other]), np.concatenate(seen), strict=True):
    assert by_integer.setdefault(integer, value) == value
  still = noise.on_grid(noise.gaussian([[1e-9]], np.zeros(1, int)), STEP)
  np.testing.assert_allclose(draw(KEY, still, x, 0), x, rtol=2e-7)


# What it certifies.


def test_weights_are_those_of_real_noise_and_eta_allows_for_the_distance():
  real = noise.gaussian([[0.1, 0.4], [0.4, np.inf]], [0, 1, 1])
  exact = noise.on_grid(real, STEP)
  np.testing.assert_array_equal(exact.weights, real.weights)
  q = np.array([0.4, 0.5, 0.9, 0.999, 1.0])
  np.testing.assert_array_equal(exact.eta(q), real.eta(q - grids.DISTANCE))
  np.testing.assert_allclose(exact.eta(q[:-1]), real.eta(q[:-1]), rtol=1e-4, atol=1e-14)
  assert exact.eta([0.5 + grids.DISTANCE / 2]) == 0 < real.eta([0.5 + grids.DISTANCE / 2])
  soft = real.eta_soft(0.9 - grids.DISTANCE, 0.01 + grids.DISTANCE)
  assert exact.eta_soft(0.9, 0.01) == soft < real.eta_soft(0.9, 0.01)
  assert exact.family.margin(0.6, 0.8) < real.family.margin(0.6, 0.8)
  needed = naive.probability_needed(exact, [1.0]) - naive.probability_needed(real, [1.0])
  np.testing.assert_allclose(needed, grids.DISTANCE, rtol=1e-6)
  votes = np.array([[1000, 0], [700, 300]])
  how = {"alpha": 0.01, "radius": 0.1, "std": 0.4}
  alike = segcertify.at_radius(votes, votes, **how)
  np.testing.assert_array_equal(
    segcertify.at_radius(votes, votes, **how, distance=grids.DISTANCE).labels, alike.labels
  )
  assert (segcertify.at_radius(votes, votes, **how, distance=0.5).labels < 0).all()


@pytest.mark.parametrize("family", ADDITIVE)
def test_no_classifier_of_integers_contradicts_its_certificate(family):
  """All sets of nine integers, and all that is left and right of them, at all shifts."""
  factory, _, probability = ADDITIVE[family]
  ratio, few = 1.7, 9
  distribution = noise.on_grid(factory([[ratio]], np.zeros(1, int)), 1.0)

  def below(t):
    return np.where(t > 0, 1 - probability(np.abs(t)) / 2, probability(np.abs(t)) / 2)

  edges = np.arange(few + 1) - few / 2  # between the integers -4..4 and beside them
  sets = np.array(list(itertools.product([0, 1], repeat=few + 2)), float)

  def masses(shift):
    inner = below((edges - shift) / ratio)
    return sets @ np.diff(np.concatenate([[0.0], inner, [1.0]]))

  q, certified = masses(0), 0
  eta = distribution.eta(q)
  for shift in range(-few, few + 1):
    price = distribution.weights[0, 0, 0] * abs(shift) ** distribution.p
    survives = price < eta
    assert (masses(shift)[survives] > 0.5).all()
    certified += int(survives.sum())
  assert certified > (eta > 0).sum()  # some beyond no shift


def test_half_lines_are_certified_as_far_as_they_survive():
  """Certificates lose nothing to the grid: a threshold between two integers attains them."""
  distribution = noise.on_grid(noise.gaussian([[2.5]], np.zeros(1, int)), 1.0)
  for last in (1, 3, 8):  # integers up to it
    radius = np.sqrt(distribution.eta([special.ndtr((last + 0.5) / 2.5)])[0]) * 2.5
    np.testing.assert_allclose(radius, last + 0.5, rtol=1e-4)


# What a model can read of float32 sums, and not of whole steps.

HALF, ZERO = np.full(100, 0.5, np.float32), np.zeros(100, np.float32)


def reads_bits(params, z):
  """Whether no number has bits below 2^-25: at 1/2, where noise of that size is rounded, none."""
  scaled = z * 2.0**25
  coarse = (jnp.floor(scaled) == scaled).all()
  return jnp.stack([coarse, ~coarse]).astype(jnp.float32)[None]


@pytest.fixture(scope="module")
def attacked():
  """Certificates and votes of the two inputs, whose distance is 5, under both kinds of noise."""
  found = {}
  real = noise.gaussian([[2.0]], np.zeros(1, int))
  for name, distribution in {"float": real, "exact": noise.on_grid(real, 0.5)}.items():
    given = distribution, [0], [5.0]
    asked = [lrs_jax.certify(KEY, reads_bits, None, x, *given, check=False) for x in (HALF, ZERO)]
    found[name] = [(int(one.labels[0]), int(one.certified[0])) for one in asked]
  return found


def test_float_noise_over_claims_for_a_model_that_reads_low_bits(attacked):
  """It is open, and documented: `noise.on_grid` is the way to close it."""
  at_half, at_zero = attacked["float"]
  assert at_half == (0, 1)  # certified up to 5, where zero is
  assert at_zero[0] == 1  # which has another label


def test_exact_noise_certifies_nothing_that_the_other_input_violates(attacked):
  (label, certified), (other, _) = attacked["exact"]
  assert not certified or label == other


# Samplers, guards, records.

IMAGE = (np.random.default_rng(0).integers(0, 256, (6, 8, 3)) / 255).astype(np.float32)
CELLS = np.arange(48).reshape(6, 8, 1) % 4
LOCAL = noise.on_grid(
  noise.gaussian(0.1 + 0.2 * abs(np.subtract.outer(*[np.arange(4)] * 2)), CELLS), STEP
)


def redder(params, x):
  return jnp.stack([x[..., 0] - x[..., 1], x[..., 1] - x[..., 0] + 0.001], axis=-1)


def predict(batch):
  red, green = batch[..., 0], batch[..., 1]
  return np.stack([red - green, green - red + np.float32(0.001)], axis=-1)


@pytest.mark.eight_devices
def test_counts_do_not_depend_on_chunks_devices_or_framework():
  asked = KEY, redder, None, IMAGE, LOCAL, CELLS.ravel(), 20
  expected = np.asarray(sampling.vote_counts(*asked, num_classes=2, chunk_size=20))
  assert (expected.sum(axis=1) == 20).all()
  assert (expected > 0).all(axis=1).any()
  for chunk_size, num_devices in ((1, 8), (7, 2)):
    mesh = jax.make_mesh((num_devices,), ("samples",), devices=jax.devices()[:num_devices])
    counts = sampling.vote_counts(*asked, num_classes=2, chunk_size=chunk_size, mesh=mesh)
    np.testing.assert_array_equal(counts, expected)
  outside = sampling.external_votes(KEY, predict, IMAGE, LOCAL, CELLS.ravel(), 20, num_classes=2)
  np.testing.assert_array_equal(outside.counts, expected)


def test_refuses_what_it_is_not_for():
  off, half = IMAGE.copy(), jnp.asarray(IMAGE, jnp.bfloat16)
  off[0, 1, 2] += 0.001
  with pytest.raises(errors.OffGridError, match="multiples of 1/255, but 1 of its 144 numbers"):
    sampling.votes(KEY, redder, None, off, LOCAL, CELLS.ravel(), 2, num_classes=2)
  with pytest.raises(errors.OffGridError, match="must be float32"):
    sampling.votes(KEY, redder, None, half, LOCAL, CELLS.ravel(), 2, num_classes=2)
  with pytest.raises(errors.OffGridError, match="multiples of 1/255"):
    sampling.external_votes(KEY, predict, IMAGE + 0.3, LOCAL, CELLS.ravel(), 2, num_classes=2)
  with pytest.raises(ValueError, match=r"must be additive, .* ablation noise"):
    noise.on_grid(noise.ablation([[0.5]], [0]), STEP)
  with pytest.raises(ValueError, match="not yet on a grid"):
    noise.on_grid(LOCAL, STEP)
  for step in (0.0, np.nan, 1e-4):
    with pytest.raises(ValueError, match=r"`step` must be positive, and at least 0\.0006"):
      noise.on_grid(noise.gaussian([[0.3, np.inf]], [0, 1]), step)


def test_the_front_door_stores_it_and_proves_it_again(tmp_path):
  given = KEY, redder, None, IMAGE
  how = {"std": 0.2, "view": 0, "num_samples": 200, "radii": [0.0, 0.05, 0.1]}
  certified = lrs_jax.certify_segmentation(*given, **how, step=STEP)
  assert certified.certified[0] > 0
  assert "exact gaussian noise" in repr(certified)
  lrs_jax.verify(certified)
  drawn, field = certified.fields
  real = noise.gaussian(drawn.scale, drawn.cells)
  with pytest.raises(ValueError, match="must be what groups see of `fields`"):
    lrs_jax.verify(certified._replace(fields=(real, field)))
  path = tmp_path / "exact.npz"
  certified.save(path)
  stored = records.load(path)
  assert stored.noise.family is certified.noise.family
  card = cards.of_file(path)
  assert card["noise"]["exact, in steps of"] == "1/255"
  assert "in whole steps of 1/255" in card["perturbations"]
  assert any("No float stands for a real number" in text for text in card["assumptions"])
  real = noise.gaussian(stored.noise.scale, stored.noise.cells)
  changed = stored._replace(smoothing=stored.smoothing._replace(noise=real))
  assert not any("No float" in text for text in cards.of_record(changed, {})["assumptions"])
  with pytest.raises(ValueError, match="does not follow from"):  # not of the law that it names
    records.verify(changed)


def test_fields_are_of_the_family_that_is_certified():
  """Laplace and uniform noise have the same weights, and other thresholds."""
  drawn, seen = (of([[0.3]], np.zeros(3, int)) for of in (noise.uniform, noise.laplace))
  np.testing.assert_array_equal(drawn.weights, seen.weights)
  with pytest.raises(ValueError, match="must be what groups see of `fields`"):
    steps.check_fields(seen, np.zeros(3, int), (drawn, np.zeros(3, int)), 3)
  steps.check_fields(drawn, np.zeros(3, int), (drawn, np.zeros(3, int)), 3)


def test_tasks_on_images_of_8_bits_draw_it_if_asked():
  config = images.Config(size=(16, 40), images=1, depth=1, exact_noise=True)
  data = images.load(config)
  for smoothing in images.smoothings(config):
    assert smoothing.noise.family.step == smoothing.drawn[0].family.step == STEP
    sampling.checks.check_inputs(KEY, data.cases[0].x, *smoothing.drawn)
  (ours, *_), (real, *_) = (images.smoothings(config._replace(exact_noise=on)) for on in (1, None))
  assert common.noise_digest(ours.noise) != common.noise_digest(real.noise)
  np.testing.assert_array_equal(ours.noise.weights, real.noise.weights)
  scene = images.load(config._replace(exact_noise=None)).cases[0].x
  with pytest.raises(errors.OffGridError, match=r"multiples of 1/255, but .* such as"):
    sampling.checks.check_inputs(KEY, scene, *ours.drawn)


@pytest.mark.usefixtures("no_figures")
def test_a_job_of_exact_noise_through_the_command(tmp_path, capsys):
  job = "certify", "scenes", *TOY[:-4], "--images", "1", "--exact-noise", "--out", str(tmp_path)
  assert main([*job, "--quiet"]) == 0
  assert main(["verify", str(tmp_path)]) == 0
  capsys.readouterr()
  assert main(["card", str(tmp_path / "scene-000" / "certificate.npz")]) == 0
  assert "perturbation and noise are whole steps of" in capsys.readouterr().out
