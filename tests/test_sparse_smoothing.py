"""The region certificate against enumeration of all noise outcomes, and against ours."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from lrs_jax import noise
from lrs_jax.baselines import sparse_smoothing


def enumerated(theta_plus, theta_minus, additions, deletions):
  """Fills single outcomes of all flips of the touched entries, in rational arithmetic."""
  plus, minus = Fraction(theta_plus), Fraction(theta_minus)

  def mass(z, x):
    out = Fraction(1)
    for zi, xi in zip(z, x, strict=True):
      one = (1 - minus) if xi else plus
      out *= one if zi else 1 - one
    return out

  x = (0,) * additions + (1,) * deletions
  attacked = tuple(1 - xi for xi in x)
  pairs = [(mass(z, x), mass(z, attacked)) for z in product((0, 1), repeat=len(x))]
  infinite = Fraction(10**30)
  pairs.sort(key=lambda pair: -(pair[0] / pair[1] if pair[1] else infinite))
  left, held = Fraction(1, 2), Fraction(0)
  for clean, bad in pairs:
    if bad >= left:
      return held + (clean * left / bad if bad else 0)
    left, held = left - bad, held + clean
  raise AssertionError


@pytest.mark.parametrize(
  ("plus", "minus"), [(0.01, 0.6), (0.1, 0.1), (0.3, 0.9), (0.25, 0.75), (0.0, 0.4), (0.4, 0.0)]
)
def test_equals_enumeration(plus, minus):
  required = sparse_smoothing.required_probability(plus, minus, 3, 3)
  for a in range(4):
    for d in range(4):
      exact = enumerated(plus, minus, a, d)
      assert required[a, d] >= exact
      assert float(required[a, d]) == pytest.approx(float(exact), rel=1e-15)


def test_is_never_weaker_than_the_variance_certificate_of_votes():
  plus, minus = 0.01, 0.6
  required = sparse_smoothing.required_probability(plus, minus, 8, 30)
  flips = noise.flips([[plus]], [[minus]], [0])
  price_plus, price_minus = flips.weights[:, 0, 0]
  for q in (0.6, 0.9, 0.99, 0.9999):
    eta = flips.eta(q)
    ours = price_plus * np.arange(9)[:, None] + price_minus * np.arange(31)[None, :] < eta
    exact = q > required
    assert (exact | ~ours).all()
    assert exact.sum() >= ours.sum() > 0


def test_monotone_in_both_budgets():
  required = sparse_smoothing.required_probability(0.01, 0.6, 50, 50)
  assert (np.diff(required, axis=0) >= 0).all()
  assert (np.diff(required, axis=1) >= 0).all()
  assert required[0, 0] == 0.5
  assert required.max() <= 1


def test_no_noise_certifies_nothing():
  required = sparse_smoothing.required_probability(0.0, 0.0, 2, 2)
  assert (required.ravel()[1:] == 1).all()
  counts = sparse_smoothing.certified_grid([1.0, 0.7], 0.0, 0.0, 2, 2)
  assert counts[0, 0] == 2
  assert counts.ravel()[1:].sum() == 0


def test_counts_are_strict():
  required = sparse_smoothing.required_probability(0.25, 0.25, 1, 0)[1, 0]
  above = np.nextafter(required, 1)
  assert sparse_smoothing.certified_grid([required, above], 0.25, 0.25, 1, 0)[1, 0] == 1


def test_bad_probabilities_are_named():
  with pytest.raises(ValueError, match=r"`theta_minus` must lie in \[0, 1\), but it is 1"):
    sparse_smoothing.required_probability(0.1, 1.0, 1, 1)
  with pytest.raises(ValueError, match="at least 0"):
    sparse_smoothing.required_probability(0.1, 0.2, -1, 1)
