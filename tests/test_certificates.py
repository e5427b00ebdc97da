"""Base certificates: from votes, from scores, naive with Holm; and the published special cases."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from lrs_jax import noise
from lrs_jax.confidence import naive
from lrs_jax.confidence.bounds import clopper_pearson_lower, score_bounds_bernstein, score_bounds_kl
from lrs_jax.confidence.certificates import from_scores, from_votes
from lrs_jax.confidence.corrections import Levels, k_fwer
from lrs_jax.confidence.planning import reachable_eta, samples_needed
from lrs_jax.sampling.scores import ScoreSums

GAUSSIAN = noise.gaussian([[0.5, 2.0], [1.0, np.inf]], [0, 1])
FLIPS = noise.flips([[0.01, 0.1]], [[0.6, 0.1]], [0, 1])


def test_from_votes_by_hand():
  selection = np.array([[9, 1], [4, 6], [5, 5], [10, 0]])
  counts = np.array([[990, 10], [100, 900], [400, 600], [500, 500]])
  base = from_votes(GAUSSIAN, [0, 1, 0, 1], selection, counts, alpha=0.01)
  np.testing.assert_array_equal(base.labels, [0, 1, 0, 0])
  q = clopper_pearson_lower([990, 900, 400, 500], 1000, 0.01 / 4)
  np.testing.assert_allclose(base.q_lower, q, rtol=1e-12)
  expected = np.where(q > 0.5, special.ndtri(q) ** 2, 0)
  np.testing.assert_allclose(base.eta, expected, rtol=1e-10)
  assert (base.eta[2:] == 0).all(), "not in the majority: abstain"
  assert base.forfeit == 0


def test_labels_never_come_from_the_estimate():
  base = from_votes(GAUSSIAN, [0], [[6, 4]], [[0, 1000]], alpha=0.01)
  assert base.labels == [0]
  assert base.eta == [0]


def test_from_votes_with_other_corrections():
  counts = np.array([[990, 10]] * 8)
  default = from_votes(GAUSSIAN, [0] * 8, counts, counts, alpha=0.01)
  generous = from_votes(GAUSSIAN, [0] * 8, counts, counts, alpha=k_fwer(0.01, 8, 3))
  assert generous.forfeit == 2
  assert (generous.eta > default.eta).all()
  levels = Levels(np.array([0.005, 0.005, 0, 0, 0, 0, 0, 0]), 0)
  weighted = from_votes(GAUSSIAN, [0] * 8, counts, counts, alpha=levels)
  assert (weighted.eta[:2] > default.eta[:2]).all()
  assert (weighted.eta[2:] == 0).all()
  with pytest.raises(ValueError, match=r"shape \[N\]"):
    from_votes(GAUSSIAN, [0] * 8, counts, counts, alpha=k_fwer(0.01, 9, 3))


def test_no_outputs():
  votes = np.zeros((0, 3), np.int32)
  assert from_votes(GAUSSIAN, [], votes, votes, alpha=0.01).eta.shape == (0,)
  empty = np.zeros(0, np.int64)
  sums = ScoreSums(10, empty, empty, empty)
  assert from_scores(GAUSSIAN, [], [], sums, sums, alpha=0.01).eta.shape == (0,)


def test_refuses_shapes_that_do_not_fit():
  with pytest.raises(ValueError, match="one shape"):
    from_votes(GAUSSIAN, [0], [[1, 2]], [[1, 2, 3]], alpha=0.01)
  sums = ScoreSums(10, *np.zeros((3, 2), np.int64))
  with pytest.raises(ValueError, match="one shape"):
    from_scores(GAUSSIAN, [0], [0], sums, sums, alpha=0.01)
  with pytest.raises(ValueError, match="must be among"):
    from_scores(GAUSSIAN, [0, 0], [0, 0], sums, sums, alpha=0.01, methods=["hoeffding"])
  with pytest.raises(ValueError, match="histograms=True"):
    from_scores(GAUSSIAN, [0, 0], [0, 0], sums, sums, alpha=0.01, methods=["dkw"])


def score_sums(scores, votes):
  """Sums of the samples scores [S, N], in units of 1/255, and votes [S, N]."""
  histogram = np.stack([np.bincount(column, minlength=256) for column in scores.T])
  return ScoreSums(len(scores), votes.sum(0), scores.sum(0), (scores**2).sum(0), histogram)


def random_sums(seed, num_samples):
  """Five outputs: narrow and broad, near one half and near one, and one in the minority."""
  rng = np.random.default_rng(seed)
  mean = np.array([200, 200, 140, 250, 60])
  spread = np.array([2.0, 60.0, 3.0, 20.0, 30.0])
  scores = np.clip(np.rint(rng.normal(mean, spread, (num_samples, 5))), 0, 255).astype(np.int64)
  return score_sums(scores, scores > 127)


@pytest.mark.parametrize("family", [GAUSSIAN, FLIPS])
@pytest.mark.parametrize("method", ["votes", "kl", "mixed", "bernstein", "dkw"])
def test_from_scores_with_one_method(family, method):
  selection, estimate = random_sums(0, 500), random_sums(1, 5000)
  level = 0.01 / 5
  base = from_scores(family, [0] * 5, [0] * 5, selection, estimate, alpha=0.01, methods=[method])
  if method == "votes":
    expected = family.eta(clopper_pearson_lower(estimate.votes, 5000, level))
  elif method == "kl":
    center = np.rint(selection.total / 500).astype(int)
    sums = estimate.total, estimate.squares, 5000, level
    expected = family.eta_soft(*score_bounds_kl(*sums, center=center))
  elif method == "bernstein":
    expected = family.eta_soft(
      *score_bounds_bernstein(estimate.total, estimate.squares, 5000, level)
    )
  else:
    expected = base.eta
  np.testing.assert_allclose(base.eta, expected, rtol=1e-10)
  assert (base.method == method).all()
  assert base.eta[4] == 0
  assert (base.eta[[0, 3]] > 0).all()


def test_methods_are_chosen_by_the_selection_alone():
  selection = random_sums(0, 500)
  methods = ("votes", "kl", "mixed", "bernstein", "dkw")
  bases = [
    from_scores(FLIPS, [0] * 5, [0] * 5, selection, estimate, alpha=0.01, methods=methods)
    for estimate in (
      random_sums(1, 5000),
      ScoreSums(5000, *np.zeros((3, 5), int), np.zeros((5, 256))),
    )
  ]
  np.testing.assert_array_equal(bases[0].method, bases[1].method)
  single = {
    method: from_scores(
      FLIPS, [0] * 5, [0] * 5, selection, random_sums(1, 5000), alpha=0.01, methods=[method]
    )
    for method in methods
  }
  for n, method in enumerate(bases[0].method):
    assert bases[0].eta[n] == single[method].eta[n]
  assert set(bases[0].method) == {"votes", "mixed"}


def test_a_mean_alone_has_all_of_alpha():
  uniform = noise.uniform([[1.0]], [0])
  selection, estimate = random_sums(0, 500), random_sums(1, 5000)
  base = from_scores(uniform, [0] * 5, [0] * 5, selection, estimate, alpha=0.01, methods=["kl"])
  bounds = score_bounds_kl(estimate.total, estimate.squares, 5000, 0.002, center=0, mean_share=1.0)
  np.testing.assert_allclose(base.q_lower, bounds.mean, rtol=1e-9)


# The naive certificate.


def test_naive_price():
  weights = np.array([[[1.0, np.inf], [3.0, 0.0]], [[np.inf, 2.0], [0.0, 0.5]]])
  np.testing.assert_allclose(naive.naive_price(weights, [0, 0]), [0, 0])
  np.testing.assert_allclose(naive.naive_price(weights, [2, 0]), [np.inf, 6])
  np.testing.assert_allclose(naive.naive_price(weights, [2, 4]), [np.inf, 8])
  with pytest.raises(ValueError, match="`budgets` must have shape"):
    naive.naive_price(weights, 1.0)


FAMILIES = [
  GAUSSIAN,
  FLIPS,
  noise.uniform([[1.0]], [0]),
  noise.laplace([[1.0]], [0]),
  noise.ablation([[0.5]], [0]),
]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.family.name)
@given(price=st.floats(0, 30))
@settings(deadline=None, max_examples=50)
def test_probability_needed(family, price):
  needed = float(naive.probability_needed(family, price))
  if needed > 1:
    assert family.eta(1.0) <= price
    return
  assert family.eta(needed) > price
  assert needed <= 0.5 or family.eta(needed - 1e-13) <= price * (1 + 1e-9) + 1e-12


def test_holm_certifies_at_least_what_bonferroni_does():
  rng = np.random.default_rng(0)
  votes = rng.binomial(1000, rng.uniform(0.5, 1, 50))
  counts = np.stack([votes, 1000 - votes], axis=1)
  groups = rng.integers(0, 2, 50)
  base = from_votes(GAUSSIAN, groups, counts // 2, counts, alpha=0.01)
  gained = 0
  for budget in (0.0, 0.01, 0.1, 0.5, 2.0):
    alone = base.eta > naive.naive_price(base.weights, budget)[groups]
    by_holm = naive.naive_holm(GAUSSIAN, groups, counts // 2, counts, budget, alpha=0.01)
    assert (by_holm >= alone).all()
    gained += (by_holm & ~alone).sum()
  assert gained > 0


# The planner.


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.family.name)
def test_planner_is_exact_for_unanimous_votes(family):
  budgets = [1, 1] if family is FLIPS else 0.3
  plan = samples_needed(family, budgets, num_outputs=100, alpha=0.01)
  options = {"num_outputs": 100, "alpha": 0.01}
  for price, num_samples in zip(plan.price, plan.num_samples, strict=True):
    assert reachable_eta(family, int(num_samples), **options) > price
    assert reachable_eta(family, int(num_samples) - 1, **options) <= price


def test_planner_knows_what_is_out_of_reach():
  uniform = noise.uniform([[1.0]], [0])
  plan = samples_needed(uniform, 1.5, num_outputs=10, alpha=0.01)
  assert plan.probability == [np.inf]
  assert plan.num_samples == [np.inf]
  plan = samples_needed(uniform, 0.9, num_outputs=10, alpha=0.01, agreement=0.9)
  assert plan.num_samples == [np.inf], "votes agree less than is needed"
  plan = samples_needed(uniform, 0.5, num_outputs=10, alpha=0.01, agreement=0.9)
  assert 20 < plan.num_samples[0] < 1000


# Published special cases: one group, one cell.

MAJORITY = st.floats(0.5001, 0.9999)


@given(MAJORITY, st.floats(0.05, 3))
def test_cohen_2019(q, sigma):
  isotropic = noise.gaussian([[sigma]], [0])
  radius = sigma * stats.norm.ppf(q)  # theorem 1, with p_B = 1 - p_A
  np.testing.assert_allclose(np.sqrt(isotropic.eta(q) / isotropic.weights[0, 0, 0]), radius, 1e-9)


@given(MAJORITY, st.floats(0.05, 3))
def test_yang_2020(q, half_width):
  isotropic = noise.uniform([[half_width]], [0])
  radius = 2 * half_width * (q - 0.5)  # uniform noise against l1
  np.testing.assert_allclose(isotropic.eta(q) / isotropic.weights[0, 0, 0], radius, 1e-9)


@given(MAJORITY, st.floats(0.05, 3))
def test_teng_2020(q, scale):
  isotropic = noise.laplace([[scale]], [0])
  radius = -scale * np.log(2 * (1 - q))
  np.testing.assert_allclose(isotropic.eta(q) / isotropic.weights[0, 0, 0], radius, 1e-9)


@given(MAJORITY, st.floats(0.05, 0.999), st.integers(1, 50))
def test_levine_2020(q, rho, count):
  isotropic = noise.ablation([[rho]], [0])
  margin = q - (1 - rho**count) - 0.5  # p_A - Delta > 1/2
  if abs(margin) > 1e-9:
    assert (count * isotropic.weights[0, 0, 0] < isotropic.eta(q)) == (margin > 0)


def bojchevski_2020(q, plus, minus, additions, deletions):
  """The least probability after the flips, of an event of probability q: regions of equal ratio."""
  regions = []
  for i in range(additions + 1):
    for j in range(deletions + 1):
      ways = math.comb(additions, i) * math.comb(deletions, j)
      flipped = (plus**i * (1 - plus) ** (additions - i)) * (
        minus**j * (1 - minus) ** (deletions - j)
      )
      after = ((1 - minus) ** i * minus ** (additions - i)) * (
        (1 - plus) ** j * plus ** (deletions - j)
      )
      regions.append((after / flipped if flipped else np.inf, ways * flipped, ways * after))
  left, least = q, 0.0
  for ratio, before, after in sorted(regions):
    if before >= left:
      return least + left * ratio
    left, least = left - before, least + after
  return least


@given(
  st.floats(0.51, 0.99999), st.floats(0.001, 0.6), st.floats(0.001, 0.6), st.integers(0, 6),
  st.integers(0, 6),
)  # fmt: skip
@settings(max_examples=300)
def test_bojchevski_2020_is_never_weaker(q, plus, minus, additions, deletions):
  isotropic = noise.flips([[plus]], [[minus]], [0])
  price = isotropic.weights[:, 0, 0] @ [additions, deletions]
  if price < isotropic.eta(q):
    assert bojchevski_2020(q, plus, minus, additions, deletions) > 0.5


def test_bojchevski_2020_is_sometimes_stronger():
  isotropic = noise.flips([[0.1]], [[0.1]], [0])
  assert isotropic.weights[0, 0, 0] > isotropic.eta(0.95)
  assert bojchevski_2020(0.95, 0.1, 0.1, 1, 0) > 0.5
