"""Center smoothing: the theorem where everything can be enumerated, and its statistics."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export
from scipy import stats

from lrs_jax import noise, sampling
from lrs_jax.baselines import center_smoothing
from lrs_jax.sampling import checks

NUM_OUTPUTS = 4
MASKS = np.array(list(itertools.product([0, 1], repeat=NUM_OUTPUTS)))
BETWEEN = (MASKS[:, None] != MASKS[None]).sum(axis=-1)  # distances of all masks


class Line:
  """A function of one number: a random mask on every interval between the cuts."""

  def __init__(self, seed, std=1.0):
    rng = np.random.default_rng(seed)
    self.cuts = np.sort(rng.uniform(-2.5, 2.5, 5))
    walk = np.cumsum(rng.random((6, NUM_OUTPUTS)) < 0.4, axis=0) % 2  # neighbors are often alike
    self.masks = rng.permutation(walk) if rng.random() < 0.3 else walk
    self.std = std
    self.params = jnp.asarray(self.cuts, jnp.float32), jnp.asarray(self.masks)

  def law(self, x):
    """Probability of every mask at x."""
    edges = stats.norm.cdf(np.concatenate([[-np.inf], self.cuts, [np.inf]]), x, self.std)
    law = np.zeros(len(MASKS))
    np.add.at(law, self.masks @ (1 << np.arange(NUM_OUTPUTS)[::-1]), np.diff(edges))
    return law

  def held(self, x):
    """[mask, radius]: probability of the ball of that radius about that mask."""
    radii = np.arange(NUM_OUTPUTS + 1)
    return (BETWEEN[:, None] <= radii[None, :, None]) @ self.law(x)

  def centers(self, x, delta, beta):
    """All centers at x."""
    held = self.held(x)
    smallest = int((held >= 0.5 + delta).any(axis=0).argmax())
    radius = min(int(beta * smallest), NUM_OUTPUTS)
    return np.flatnonzero(held[:, radius] >= 0.5 - delta)


def theorem(line, epsilon, delta, beta, factor):
  """The greatest of d(y, y') - factor R over all masks y and all centers y' within epsilon."""
  held = line.held(0.0)
  needed = stats.norm.cdf(stats.norm.ppf(0.5 + delta) + epsilon / line.std) + 1e-12
  reached = held > needed
  radius = np.where(reached.any(axis=1), reached.argmax(axis=1), NUM_OUTPUTS)
  excess = -np.inf
  for x in np.linspace(-epsilon, epsilon, 41):
    farthest = BETWEEN[:, line.centers(x, delta, beta)].max(axis=1)
    excess = max(excess, (farthest - np.minimum(factor * radius, NUM_OUTPUTS)).max())
  return excess


@settings(deadline=None, max_examples=80)
@given(
  st.integers(0, 10**6),
  st.floats(0, 1.5),
  st.sampled_from([(0.0, 1.0), (0.05, 1.0), (0.05, 2.0), (0.2, 2.0)]),
)
def test_no_center_within_reach_is_farther(seed, epsilon, how):
  delta, beta = how
  assert theorem(Line(seed), epsilon, delta, beta, 1 + beta) <= 0


@pytest.mark.parametrize(("delta", "beta"), [(0.05, 1.0), (0.05, 2.0)])
def test_the_factor_is_needed(delta, beta):
  """What would be wrong is found wrong: R alone does not bound the distance of centers."""
  assert max(theorem(Line(seed), 0.3, delta, beta, 1.0) for seed in range(60)) > 0


def apply_line(params, x):
  cuts, masks = params
  return jax.nn.one_hot(masks[(x[0] > cuts).sum()], 2)


X, GAUSSIAN = np.zeros(1, np.float32), noise.gaussian([[1.0]], cells=[0])


def distances(line, centers, num_samples, seed=0, **options):
  return np.asarray(
    center_smoothing.hamming_distances(
      jax.random.key(seed), apply_line, line.params, X, GAUSSIAN, centers, num_samples, **options
    )
  )


def test_distances_have_the_exact_law():
  line, num_samples = Line(3), 4000
  found = distances(line, MASKS, num_samples)
  assert found.shape == (len(MASKS), num_samples)
  held = line.held(0.0)
  for radius in range(NUM_OUTPUTS + 1):
    error = np.sqrt(held[:, radius] * (1 - held[:, radius]) / num_samples)
    assert (abs((found <= radius).mean(axis=1) - held[:, radius]) <= 4.5 * error + 1e-9).all()


def test_distances_are_those_of_the_samples_that_votes_count():
  line = Line(3)
  expected = []
  for i in range(5):
    votes = sampling.vote_counts(
      jax.random.key(0), apply_line, line.params, X, GAUSSIAN, np.zeros(NUM_OUTPUTS, int), 1,
      num_classes=2, first_sample=i,
    )  # fmt: skip
    expected.append((np.asarray(votes).argmax(axis=1) != MASKS).sum(axis=1))
  np.testing.assert_array_equal(distances(line, MASKS, 5), np.stack(expected, axis=1))


@pytest.mark.eight_devices
def test_distances_do_not_depend_on_chunks_or_devices():
  line = Line(5)
  expected = distances(line, MASKS[:3], 50, chunk_size=50)
  assert len(np.unique(expected)) > 1
  for chunk_size, num_devices in ((1, 8), (7, 1), (7, 3), (64, 8)):
    mesh = jax.make_mesh((num_devices,), ("samples",), devices=jax.devices()[:num_devices])
    found = distances(line, MASKS[:3], 50, chunk_size=chunk_size, mesh=mesh)
    np.testing.assert_array_equal(found, expected)
  pieces = [distances(line, MASKS[:3], n, first_sample=i) for i, n in ((0, 20), (20, 30))]
  np.testing.assert_array_equal(np.concatenate(pieces, axis=1), expected)
  assert distances(line, MASKS, 0).shape == (len(MASKS), 0)


def test_distances_keep_no_predictions():
  """Temporary memory does not grow with samples times outputs."""
  num_outputs, num_samples = 2048, 4096

  def apply(params, x):
    return jnp.stack([x, -x], axis=-1)

  def memory(num_samples):
    gaussian = noise.gaussian([[1.0]], cells=np.zeros(num_outputs, int))
    x, centers = jnp.zeros(num_outputs), jnp.zeros((1, num_outputs), jnp.int32)
    mesh = jax.make_mesh((1,), ("samples",), devices=jax.devices()[:1])
    request = checks.check_request(
      jax.random.key(0), apply, None, x, gaussian, np.zeros(num_outputs, int), num_samples,
      num_classes=None, chunk_size=8, mesh=mesh,
    )  # fmt: skip
    lowered = center_smoothing._hamming_distances.lower(
      request.sample_range, request.setting, centers, apply=apply, num_samples=num_samples,
      chunk_size=8, mesh=mesh,
    )  # fmt: skip
    return lowered.compile().memory_analysis().temp_size_in_bytes

  assert memory(num_samples) - memory(8) < 8 * 4 * num_samples < num_outputs * num_samples


def test_lowers_for_every_platform():
  line = Line(0)
  mesh = jax.make_mesh((1,), ("samples",), devices=jax.devices()[:1])
  request = checks.check_request(
    jax.random.key(0), apply_line, line.params, X, GAUSSIAN, np.zeros(NUM_OUTPUTS, int), 10,
    num_classes=None, chunk_size=4, mesh=mesh,
  )  # fmt: skip
  centers = jnp.asarray(MASKS, jnp.int32)

  def on_data(key_data, sample_range, setting, centers):
    return center_smoothing._hamming_distances(
      sample_range, setting._replace(key=jax.random.wrap_key_data(key_data)), centers,
      apply=apply_line, num_samples=10, chunk_size=4, mesh=mesh,
    )  # fmt: skip

  setting = request.setting
  exported = export.export(jax.jit(on_data), platforms=("cpu", "cuda", "tpu"))(
    jax.random.key_data(setting.key), request.sample_range, setting._replace(key=None), centers
  )
  assert set(exported.platforms) == {"cpu", "cuda", "tpu"}


def test_an_accepted_answer_is_a_center():
  """Errors of the whole selection, and of nothing else, at most alpha."""
  alpha, delta, rounds, num_sampled = 0.2, 0.15, 300, 6
  rng = np.random.default_rng(0)
  wrong = accepted = 0
  for round_ in range(rounds):
    line = Line(round_ % 20)
    law, centers = line.law(0.0), set(line.centers(0.0, delta, 2.0).tolist())
    sampled = rng.choice(len(MASKS), num_sampled, p=law)
    candidates = np.append(sampled, rng.integers(len(MASKS)))  # another, whatever it is
    selection, test = (BETWEEN[candidates][:, rng.choice(len(MASKS), 100, p=law)] for _ in range(2))
    center = center_smoothing.select_center(selection, test, num_sampled, alpha=alpha, delta=delta)
    accepted += center.accepted
    wrong += center.accepted and int(candidates[center.candidate]) not in centers
  assert wrong / rounds < alpha
  assert accepted > rounds / 4


def test_selects_the_smallest_ball_of_half_and_abstains_outside_it():
  selection = np.array([[0] * 49 + [7] * 51, [3] * 50 + [9] * 50, [4] * 100])
  center = center_smoothing.select_center(selection, selection, 9, alpha=0.1, delta=0.2)
  assert center == (1, 3, True)
  nowhere = np.full((3, 100), 5)
  assert not center_smoothing.select_center(selection, nowhere, 9, alpha=0.1, delta=0.2).accepted
  with pytest.raises(ValueError, match="take more"):
    center_smoothing.select_center(selection, selection, 9, alpha=1e-3, delta=0.05)
  with pytest.raises(ValueError, match="take more"):
    center_smoothing.select_center(selection, selection, 1, alpha=0.1, delta=0.2)


@pytest.mark.parametrize(
  "ranks", [center_smoothing.ranks_by_dkw, center_smoothing.ranks_by_binomial]
)
@pytest.mark.parametrize("num_samples", [30, 400])
def test_order_statistics_bound_the_quantiles_together(ranks, num_samples):
  """Of a uniform law: the k-th order statistic is to exceed p, for all p at once."""
  alpha, rounds = 0.1, 4000
  probability = np.linspace(0.5, 0.97, 12)
  rank = ranks(probability, num_samples, alpha)
  assert (np.diff(rank) >= 0).all()
  assert rank[0] <= num_samples
  rng = np.random.default_rng(0)
  ordered = np.append(np.sort(rng.random((rounds, num_samples)), axis=1), np.ones((rounds, 1)), 1)
  wrong = (ordered[:, rank - 1] < probability).any(axis=1).mean()
  assert wrong < alpha + 4 * np.sqrt(alpha * (1 - alpha) / rounds)
  assert wrong > 0


def test_ranks_by_hand():
  one = np.array([0.75])
  tail = stats.binom.sf(np.arange(100) - 1, 100, 0.75)
  assert center_smoothing.ranks_by_binomial(one, 100, 0.01) == [int((tail > 0.01).sum())]
  assert center_smoothing.ranks_by_dkw(one, 100, 0.01) == [
    int(np.ceil(75 + np.sqrt(50 * np.log(100))))
  ]
  for ranks in (center_smoothing.ranks_by_dkw, center_smoothing.ranks_by_binomial):
    assert ranks(one, 0, 0.01) == [1]
    assert ranks(one, 3, 0.01) == [4]


def test_certificate_is_an_order_statistic():
  rng = np.random.default_rng(0)
  found, radii, std = rng.integers(0, 50, 500), np.array([0.0, 0.1, 0.2, 9.0]), 0.5
  bound = center_smoothing.certify(found, radii, std, alpha=0.01, delta=0.1)
  p = stats.norm.cdf(stats.norm.ppf(0.6) + radii / std)
  rank = np.ceil(500 * (p + np.sqrt(np.log(100) / 1000))).astype(int)
  assert (bound[:3] == 3 * np.sort(found)[rank[:3] - 1]).all()
  assert bound[3] == np.inf
  assert center_smoothing.certify([], [0.0], 1.0, alpha=0.01).tolist() == [np.inf]
  exact = center_smoothing.certify(found, radii, std, alpha=0.01, delta=0.0, beta=1.0)
  assert (exact[:3] <= bound[:3]).all()
  np.testing.assert_array_equal(center_smoothing.certified_outputs(bound, 100)[3], 0)
  assert (center_smoothing.certified_outputs([3.0, 5.0, np.inf], 4) == [1, 0, 0]).all()


@pytest.mark.parametrize("seed", range(3))
def test_certificate_from_samples_holds_at_every_center(seed):
  """From the samples on the device to the bound, against all centers around x, exactly."""
  line, radii, delta = Line(seed + 7), np.array([0.0, 0.2, 0.5]), 0.05
  sampled = np.asarray(MASKS[np.random.default_rng(seed).choice(len(MASKS), 9, p=line.law(0.0))])
  selection, test = (distances(line, sampled, 3000, seed=10 * seed + i) for i in range(2))
  center = center_smoothing.select_center(selection, test, 9, alpha=0.01, delta=delta)
  fresh = distances(line, sampled[center.candidate][None], 3000, seed=10 * seed + 2)[0]
  bound = center_smoothing.certify(fresh, radii, 1.0, alpha=1e-4, delta=delta)
  y = int(sampled[center.candidate] @ (1 << np.arange(NUM_OUTPUTS)[::-1]))
  for epsilon, far in zip(radii, bound, strict=True):
    for x in np.linspace(-epsilon, epsilon, 41):
      assert BETWEEN[y, line.centers(x, delta, 2.0)].max(initial=0) <= far


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"delta": 0.5}, "`delta`"),
    ({"beta": 0.5}, "`beta`"),
    ({"std": 0.0}, "`std`"),
    ({"alpha": 0.9}, "alpha"),
  ],
)
def test_errors_of_certify(options, message):
  arguments = {"std": 1.0, "alpha": 0.01} | options
  with pytest.raises(ValueError, match=message):
    center_smoothing.certify([1, 2], [0.1], **arguments)


def test_errors_of_distances():
  two = noise.gaussian([[1.0], [2.0]], cells=[0])
  with pytest.raises(ValueError, match="one group"):
    center_smoothing.hamming_distances(
      jax.random.key(0), apply_line, Line(0).params, X, two, MASKS, 1
    )
  with pytest.raises(ValueError, match=r"int \[M, N\]"):
    distances(Line(0), MASKS[0], 1)
