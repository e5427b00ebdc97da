"""Levels add up to no more than they may, and Holm's test is Holm's."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_jax.confidence.corrections import bonferroni, holm, k_fwer

ALPHA = st.floats(1e-12, 0.5)


def total(levels):
  return sum((Fraction(float(level)) for level in levels.alpha), Fraction(0))


@given(ALPHA, st.integers(1, 200))
def test_bonferroni_adds_up(alpha, num_outputs):
  levels = bonferroni(alpha, num_outputs)
  assert Fraction(alpha) * (1 - Fraction(1, 10**14)) <= total(levels) <= Fraction(alpha)
  assert levels.forfeit == 0


@given(ALPHA, st.integers(1, 200), st.data())
def test_k_fwer_adds_up(alpha, num_outputs, data):
  m = data.draw(st.integers(1, num_outputs))
  levels = k_fwer(alpha, num_outputs, m)
  assert Fraction(alpha) * m * (1 - Fraction(1, 10**14)) <= total(levels) <= Fraction(alpha) * m
  assert (levels.alpha < 1).all()
  assert levels.forfeit == m - 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 0.5))
def test_holm_step_by_step(p_values, alpha):
  rejected, left = set(), list(range(len(p_values)))
  while left:
    least = min(left, key=lambda i: (p_values[i], i))
    if p_values[least] > alpha / len(left):
      break
    rejected.add(least)
    left.remove(least)
  found = set(np.flatnonzero(holm(p_values, alpha)).tolist())
  assert found <= rejected
  assert all(np.isclose(p_values[i], alpha / np.arange(1, 31), rtol=1e-14).any()
             for i in rejected - found)  # fmt: skip


def test_no_outputs():
  assert bonferroni(0.1, 0).alpha.shape == (0,)
  assert holm([], 0.1).shape == (0,)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, float("nan")])
def test_refuses_levels_that_are_none(alpha):
  for correction in (
    lambda: bonferroni(alpha, 3),
    lambda: holm([0.1], alpha),
  ):
    with pytest.raises(ValueError, match=r"`alpha` must lie in \(0, 1\)"):
      correction()


def test_refuses_other_nonsense():
  for m in (4, 0, 1.5):
    with pytest.raises(ValueError, match=r"`m` must be an integer in \[1, N\] = \[1, 3\]"):
      k_fwer(0.1, 3, m)
