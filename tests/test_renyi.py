"""Base certificates of any Rényi order: closed forms, 50 digits, corners."""

import mpmath
import numpy as np
import pytest

from lrs_jax import noise
from lrs_jax.noise import renyi

ORDERS = [0.3, 1.0, 1.5, 2.0, 7.0, 1000.0, np.inf]


def precise(a, p, order):
  with mpmath.workdps(50):
    a, p = mpmath.mpf(a), mpmath.mpf(p)
    pairs = [(a, p), (1 - a, 1 - p)]
    if order == 1:
      return sum(x * mpmath.log(x / y) for x, y in pairs if x)
    if order == np.inf:
      return max(mpmath.log(x / y) for x, y in pairs if x)
    order = mpmath.mpf(order)
    return mpmath.log(sum(x**order * y ** (1 - order) for x, y in pairs if x)) / (order - 1)


@pytest.mark.parametrize("order", ORDERS)
def test_rounded_to_the_sound_side_of_50_digits(order):
  rng = np.random.default_rng(0)
  for plus, minus in [(0.01, 0.6), (0.01, 0.95), (0.5, 0.5), (1e-9, 0.3), *rng.random((20, 2))]:
    found = renyi.flip_weights([[plus]], [[minus]], order)[:, 0, 0]
    with mpmath.workdps(50):
      exact_minus = 1 - mpmath.mpf(minus)
      wanted = precise(exact_minus, plus, order), precise(plus, exact_minus, order)
    for ours, true in zip(found, wanted, strict=True):
      assert ours >= true
      assert float(ours) == pytest.approx(float(true), rel=1e-10, abs=1e-13)
  for q in [0.5 + 1e-9, 0.6, 0.99, 1 - 1e-9, *(0.5 + rng.random(20) / 2)]:
    true = precise(0.5, q, order)
    ours = float(renyi.eta(q, order))
    assert ours <= true
    assert ours == pytest.approx(float(true), rel=1e-10, abs=1e-13)


def test_order_two_is_the_variance_certificate_of_votes():
  plus, minus = np.array([[0.01, 0.2]]), np.array([[0.6, 0.95]])
  flips = noise.flips(plus, minus, [0, 1])
  np.testing.assert_allclose(renyi.flip_weights(plus, minus, 2.0), flips.weights, rtol=1e-8)
  q = np.array([0.3, 0.5, 0.6, 0.999])
  np.testing.assert_allclose(renyi.eta(q, 2.0), flips.eta(q), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("order", ORDERS)
def test_corners(order):
  # no noise of a kind: that flip costs everything (unless the order is below 1, where a
  # distribution that moves off its support still has a finite divergence)
  additions, deletions = renyi.flip_weights([[0.0, 0.2]], [[0.3, 0.0]], order)
  assert np.isinf(additions[0, 0]) == np.isinf(deletions[0, 1]) == (order >= 1)
  assert (renyi.flip_weights([[0.0]], [[1.0]], order) == 0).all()  # a hidden cell
  assert (renyi.flip_weights([[0.25]], [[0.75]], order) <= 1e-10).all()  # nothing is left of x
  assert renyi.eta([0.2, 0.5], order).tolist() == [0, 0]
  assert np.isinf(renyi.eta(1.0, order)) == (order >= 1)
  assert (np.diff(renyi.eta(np.linspace(0.5, 1, 50)[:-1], order)) >= 0).all()


def test_bad_order_is_named():
  with pytest.raises(ValueError, match="`order` must be greater than 0, but it is 0"):
    renyi.eta([0.7], 0.0)
