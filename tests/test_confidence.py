"""Confidence bounds: closed forms, rounding against 50 digits, and what they say of corners."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from lrs_jax.confidence.bounds import (
  binomial_p_value,
  clopper_pearson_lower,
  score_bounds_bernstein,
  score_bounds_dkw,
  score_bounds_kl,
  score_bounds_mixed,
)

mp.mp.dps = 50


def binomial_tail(k, trials, p):
  """P[Bin(trials, p) >= k] = I_p(k, trials - k + 1), by its continued fraction, to 50 digits."""
  a, b, x = mp.mpf(k), mp.mpf(trials - k + 1), mp.mpf(p)
  if k == 0:
    return mp.mpf(1)
  if x == 0 or x == 1:
    return x
  if x > (a + 1) / (a + b + 2):
    return 1 - _beta_fraction(b, a, 1 - x)
  return _beta_fraction(a, b, x)


def _beta_fraction(a, b, x):
  front = mp.exp(mp.loggamma(a + b) - mp.loggamma(a) - mp.loggamma(b) + a * mp.log(x))
  front *= mp.exp(b * mp.log1p(-x)) / a
  value, c, d, i = mp.mpf(1), mp.mpf(1), mp.mpf(0), 0
  while True:
    m = i // 2
    if i == 0:
      term = mp.mpf(1)
    elif i % 2 == 0:
      term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
    else:
      term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    d = 1 / (1 + term * d)
    c = 1 + term / c
    value *= c * d
    i += 1
    if i > 3 and abs(1 - c * d) < mp.mpf(10) ** -45:
      return front * (value - 1)


COUNTS = st.integers(1, 10**7).flatmap(
  lambda trials: st.tuples(
    st.one_of(st.integers(0, trials), st.integers(max(0, trials - 30), trials)), st.just(trials)
  )
)
ALPHA = st.floats(-14, -0.1).map(lambda exponent: 10.0**exponent)


@given(COUNTS, ALPHA)
@example((10**7, 10**7), 1e-12)
@example((1, 10**7), 1e-12)
@example((9_990_000, 10**7), 1e-9)
@settings(deadline=None, max_examples=60)
def test_clopper_pearson_is_rounded_down(counts, alpha):
  lower = float(clopper_pearson_lower(*counts, alpha))
  if counts[0] == 0:
    assert lower == 0
    return
  assert binomial_tail(*counts, lower) <= alpha
  assert binomial_tail(*counts, min(lower * (1 + 2e-10), 1.0)) >= alpha


@given(COUNTS, st.floats(0, 1))
@example((22275, 22313), 0.96875)  # SciPy's tail is 0 here
@settings(deadline=None, max_examples=60)
def test_p_value_is_rounded_up(counts, threshold):
  p_value = mp.mpf(float(binomial_p_value(*counts, threshold)))
  truth = binomial_tail(*counts, threshold)
  assert truth <= p_value <= truth * (1 + 2e-6) + mp.mpf(10) ** -99


def test_clopper_pearson_corners():
  assert clopper_pearson_lower(0, 100, 0.05) == 0
  assert clopper_pearson_lower(0, 0, 0.05) == 0
  assert clopper_pearson_lower(50, 100, 0.0) == 0
  np.testing.assert_allclose(clopper_pearson_lower(7, 7, 0.01), 0.01 ** (1 / 7), rtol=2e-12)
  np.testing.assert_allclose(
    clopper_pearson_lower([[3], [9]], 10, [0.1, 0.01]),
    stats.beta.ppf([0.1, 0.01], [[3], [9]], [[8], [2]]),
    rtol=2e-12,
  )


@pytest.mark.parametrize(
  ("successes", "trials", "alpha"), [(-1, 10, 0.1), (11, 10, 0.1), (1.5, 10, 0.1)]
)
def test_refuses_counts_that_are_none(successes, trials, alpha):
  with pytest.raises(ValueError, match=r"integers in \[0, S\]"):
    clopper_pearson_lower(successes, trials, alpha)


@pytest.mark.parametrize("alpha", [-0.1, 1.0, np.nan])
def test_refuses_levels_that_are_none(alpha):
  with pytest.raises(ValueError, match=r"`alpha` must lie in \[0, 1\)"):
    clopper_pearson_lower(1, 2, alpha)


# Soft scores. Histograms are the common ground of the three bounds.


@st.composite
def histograms(draw):
  """A histogram of few, possibly extreme, scores, with up to 1e7 samples."""
  values = draw(st.lists(st.integers(0, 255), min_size=1, max_size=5, unique=True))
  size = st.one_of(st.integers(1, 20), st.integers(1, 2 * 10**6))
  histogram = np.zeros(256, np.int64)
  histogram[values] = [draw(size) for _ in values]
  return histogram


def exact_sums(histogram):
  scores = np.arange(256)
  return histogram @ scores, histogram @ scores**2, histogram.sum()


def kl(m, p):
  terms = ((m, p), (1 - m, 1 - p))
  return sum(a * mp.log(a / b) if a else mp.mpf(0) for a, b in terms)


@given(histograms(), ALPHA, st.integers(0, 255), st.sampled_from([0.1, 0.5, 1.0]))
@settings(deadline=None, max_examples=60)
def test_kl_is_rounded_soundly(histogram, alpha, center, share):
  total, squares, trials = map(int, exact_sums(histogram))
  bounds = score_bounds_kl(total, squares, trials, alpha, center=center, mean_share=share)
  mean, lower = mp.mpf(total) / (255 * trials), mp.mpf(float(bounds.mean))
  split = mp.mpf(alpha * share)
  assert 0 <= lower <= mean
  assert lower == 0 or kl(mean, lower) * trials >= -mp.log(split)
  nearer = lower + (mean - lower) * mp.mpf("1e-3") + mp.mpf(10) ** -12
  assert nearer >= mean or kl(mean, nearer) * trials <= -mp.log(split)
  if share == 1:
    assert bounds.variance == 0.25
    return
  reach = max(center, 255 - center) ** 2
  scattered = squares - 2 * center * total + trials * center**2
  close = 1 - mp.mpf(scattered) / (trials * reach)
  lower = 1 - mp.mpf(float(bounds.variance)) * 255**2 / reach
  rest = mp.mpf(alpha) - split
  assert bounds.variance == 0.25 or lower <= close
  assert bounds.variance == 0.25 or lower <= 0 or kl(close, lower) * trials >= -mp.log(rest)


@given(histograms(), ALPHA)
@settings(deadline=None, max_examples=60)
def test_bernstein_is_rounded_soundly(histogram, alpha):
  total, squares, trials = map(int, exact_sums(histogram))
  bounds = score_bounds_bernstein(total, squares, trials, alpha)
  log_term = -mp.log(mp.mpf(alpha) / 2)
  std = mp.mpf(1) / 2
  if trials > 1:
    variance = mp.mpf(trials * squares - total**2) / (trials * (trials - 1) * 255**2)
    std = min(std, mp.sqrt(variance) + mp.sqrt(2 * log_term / (trials - 1)))
  mean = mp.mpf(total) / (255 * trials)
  mean -= std * mp.sqrt(2 * log_term / trials) + log_term / (3 * trials)
  assert bounds.mean <= max(mean, 0)
  assert bounds.mean >= mean - 1e-12
  assert bounds.variance >= std**2
  assert bounds.variance <= std**2 * (1 + 1e-12)


@given(histograms(), ALPHA, st.integers(0, 255))
@settings(deadline=None, max_examples=60)
def test_mixed_is_rounded_soundly(histogram, alpha, center):
  total, squares, trials = map(int, exact_sums(histogram))
  bounds = score_bounds_mixed(total, squares, trials, alpha, center=center)
  assert bounds.variance == score_bounds_kl(total, squares, trials, alpha, center=center).variance
  log_term = -mp.log(mp.mpf(alpha) / 2) / trials
  mean = mp.mpf(total) / (255 * trials)
  mean -= mp.sqrt(2 * mp.mpf(float(bounds.variance)) * log_term) + log_term / 3
  assert mean - 1e-12 <= bounds.mean <= max(mean, 0)


@given(histograms(), ALPHA)
@settings(deadline=None, max_examples=40)
def test_dkw_is_rounded_soundly(histogram, alpha):
  trials = int(histogram.sum())
  bounds = score_bounds_dkw(histogram[None], alpha)
  epsilon = mp.sqrt(-mp.log(mp.mpf(alpha) / 2) / (2 * trials))
  empirical = [mp.mpf(int(count)) / trials for count in np.cumsum(histogram)[:-1]]
  mean = sum(max(1 - value - epsilon, 0) for value in empirical) / 255
  assert bounds.mean[0] <= mean + mp.mpf(10) ** -40
  assert bounds.mean[0] >= mean - 1e-12
  least = min(
    sum(
      (2 * (c - j) - 1) * min(value + epsilon, 1)
      if j < c
      else (2 * (j - c) + 1) * min(1 - value + epsilon, 1)
      for j, value in enumerate(empirical)
    )
    for c in {int(mean * 255) + step for step in range(-3, 4)} & set(range(256))
  )
  assert bounds.variance[0] <= least / 255**2 + 1e-11
  # every distribution inside the band, such as the empirical one, has at most this variance
  total, squares, _ = map(int, exact_sums(histogram))
  assert bounds.variance[0] >= mp.mpf(trials * squares - total**2) / (trials * 255) ** 2


@given(histograms(), ALPHA, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_dkw_covers_every_distribution_in_the_band(histogram, alpha, seed):
  trials = histogram.sum()
  bounds = score_bounds_dkw(histogram[None], alpha)
  epsilon = np.sqrt(np.log(2 / alpha) / (2 * trials))
  empirical = np.cumsum(histogram) / trials
  shift = np.random.default_rng(seed).uniform(-epsilon, epsilon, (20, 3))
  position = np.random.default_rng(seed + 1).integers(0, 256, (20, 3))
  for steps, where in zip(shift, position, strict=True):
    inside = empirical.copy()
    for step, first in zip(steps, where, strict=True):
      inside[first:] = empirical[first:] + step
    inside = np.clip(np.maximum.accumulate(inside), 0, 1)
    inside = np.clip(inside, empirical - epsilon, empirical + epsilon)
    inside[-1] = 1
    mass = np.diff(inside, prepend=0)
    if mass.min() < 0:
      continue
    score = np.arange(256) / 255
    mean = mass @ score
    assert bounds.mean[0] <= mean + 1e-12
    assert bounds.variance[0] >= mass @ (score - mean) ** 2 - 1e-12


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("trials", [0, 1, 2, 1000])
def test_constant_scores(level, trials):
  histogram = np.zeros((1, 256), np.int64)
  histogram[0, level] = trials
  total, squares = [trials * level], [trials * level**2]
  for bounds in (
    score_bounds_kl(total, squares, trials, 0.01, center=level),
    score_bounds_mixed(total, squares, trials, 0.01, center=level),
    score_bounds_bernstein(total, squares, trials, 0.01),
    score_bounds_dkw(histogram, 0.01),
  ):
    assert 0 <= bounds.mean[0] <= level / 255
    assert 0 < bounds.variance[0] <= 0.25
  assert (
    trials < 1000 or score_bounds_kl(total, squares, trials, 0.01, center=level).variance < 0.01
  )


def test_level_zero_says_nothing():
  histogram = np.zeros((1, 256), np.int64)
  histogram[0, 255] = 100
  for bounds in (
    score_bounds_kl([25500], [255**2 * 100], 100, 0.0, center=255),
    score_bounds_mixed([25500], [255**2 * 100], 100, 0.0, center=255),
    score_bounds_bernstein([25500], [255**2 * 100], 100, 0.0),
    score_bounds_dkw(histogram, 0.0),
  ):
    assert (bounds.mean[0], bounds.variance[0]) == (0, 0.25)


def test_no_outputs():
  empty = np.zeros(0, np.int64)
  assert clopper_pearson_lower(empty, 10, 0.1).shape == (0,)
  for bounds in (
    score_bounds_kl(empty, empty, 10, 0.1, center=empty),
    score_bounds_mixed(empty, empty, 10, 0.1, center=empty),
    score_bounds_bernstein(empty, empty, 10, 0.1),
    score_bounds_dkw(np.zeros((0, 256), np.int64), 0.1),
  ):
    assert bounds.mean.shape == bounds.variance.shape == (0,)


def test_refuses_sums_that_are_none():
  with pytest.raises(ValueError, match="`total` must be integers"):
    score_bounds_bernstein([2551], [100], 10, 0.1)
  with pytest.raises(ValueError, match="`squares` must be integers"):
    score_bounds_bernstein([10], [2551], 10, 0.1)
  with pytest.raises(ValueError, match="`center` must lie"):
    score_bounds_kl([10], [10], 10, 0.1, center=256)
  with pytest.raises(ValueError, match=r"shape \[N, 256\]"):
    score_bounds_dkw(np.zeros((1, 255)), 0.1)
