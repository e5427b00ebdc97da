"""Arguments, corners and storage of certificates."""

import io
import math

import numpy as np
import pytest

from lrs_jax import collective
from lrs_jax.collective.methods import METHODS

INF, NAN = math.inf, math.nan
WEIGHTS = [[4.0, 1.0], [1.0, 4.0]]
GROUPS = [0, 0, 1, 1]
ETA = [1.0, 9.0, 1.0, 9.0]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"weights": [4.0]}, r"`weights` must have shape \[G, C\] or \[A, G, C\]"),
    ({"weights": [[4.0, -1.0], [1.0, 4.0]]}, r"`weights` must be >= 0, but at index \(0, 0, 1\)"),
    ({"weights": [[4.0, NAN], [1.0, 4.0]]}, "`weights` must be >= 0.*nan"),
    ({"weights": "many"}, "`weights` must be an array of real numbers"),
    ({"weights": [["4", "1"], ["1", "4"]]}, "`weights` must be .* real numbers, but .*<U1"),
    ({"weights": [[4.0 + 0j, 1.0], [1.0, 4.0]]}, "`weights` must be .* real numbers.*complex128"),
    ({"weights": [[4.0, 1.0], [1.0]]}, "`weights` must be an array of numbers"),
    ({"eta": [1.0, None, 1.0, 9.0]}, "`eta` must be an array of real numbers.*object"),
    ({"eta": np.array(ETA, np.longdouble)}, "`eta` must be exact in float64"),
    ({"eta": [1, 2**53 + 1, 1, 9]}, "`eta` must be exact in float64"),
    ({"budgets": ["1.0"]}, "`budgets` must be an array of real numbers"),
    ({"budgets": np.array([1.0 + 2.0j])}, "`budgets` must be an array of real numbers"),
    ({"caps": np.array([1.0, 1.0j])}, "`caps` must be an array of real numbers"),
    ({"groups": [0, 0, 1]}, r"`groups` must have the shape \[N\]"),
    ({"groups": [0, 0, 1, 2]}, r"`groups` must lie in \[0, G\) with G = 2.*index 3 it is 2"),
    ({"groups": [0, 0, -1, 1]}, "`groups` must lie in .*index 2 it is -1"),
    ({"groups": [0.0, 0, 1, 1]}, "`groups` must be integers"),
    ({"eta": [1.0, NAN, 1.0, 9.0]}, "`eta` must be numbers, but at index 1 it is nan"),
    ({"eta": [ETA]}, r"`eta` must have shape \[N\]"),
    ({"budgets": [1.0, -1.0]}, r"`budgets` must be >= 0, but at index \(1, 0\) it is -1.0"),
    ({"budgets": [NAN]}, "`budgets` must be >= 0"),
    ({"budgets": 1.0}, "`budgets` must have shape"),
    ({"budgets": [[1.0, 1.0]]}, "`budgets` must have shape .* A = 1 perturbation kinds"),
    ({"targets": [True]}, "`targets` must be bool of the shape"),
    ({"targets": [1, 0, 1, 0]}, "`targets` must be bool of the shape"),
    ({"worth": [1.0, 1, 1, 1]}, "`worth` must be int of the shape"),
    ({"worth": [1]}, "`worth` must be int of the shape"),
    ({"worth": [1, 2, -1, 1]}, "`worth` must be at least 0"),
    ({"worth": [2**51, 2**51, 1, 1]}, "`worth` must .* sum to less"),
    ({"caps": [1.0]}, r"`caps` must have shape \[A, C\] = \(1, 2\)"),
    ({"caps": [1.0, -1.0]}, "`caps` must be >= 0"),
    ({"caps": [1.0, NAN]}, "`caps` must be >= 0"),
    ({"integral": 1}, "`integral` must be True or False, but it is 1"),
    ({"method": "best"}, "`method` must be one of .*'best'"),
    ({"time_limit": 0}, "`time_limit` must be None or seconds > 0, but it is 0"),
    ({"bins": 0}, "`bins` must be None or an integer >= 1, but it is 0"),
  ],
)
def test_wrong_arguments_are_named(arguments, message):
  given = {"weights": WEIGHTS, "groups": GROUPS, "eta": ETA, "budgets": [1.0]} | arguments
  with pytest.raises(ValueError, match=message):
    collective.certify(**given)


def check(certified, weights, groups, eta, budgets, *, methods=METHODS, **options):
  """These methods certify so many, and prove it."""
  for method in methods:
    certificate = collective.certify(weights, groups, eta, budgets, method=method, **options)
    np.testing.assert_array_equal(certificate.certified, certified, err_msg=method)
    assert certificate.certified.dtype == np.int64
    assert certificate.attackable.dtype == np.float64
    assert (certificate.status == "optimal").all(), certificate.status
    collective.verify(weights, groups, eta, certificate)
    collective.verify(weights, groups, eta, certificate, exact=True)


@pytest.mark.parametrize("caps", [None, [1.0, 2.0]])
@pytest.mark.parametrize("integral", [False, True])
class TestCorners:
  """Every one of them legal, and right."""

  def test_no_outputs(self, caps, integral):
    check([0, 0], WEIGHTS, [], [], [0.0, 1.0], caps=caps, integral=integral)

  def test_no_budgets(self, caps, integral):
    check([], WEIGHTS, GROUPS, ETA, [], caps=caps, integral=integral)

  def test_no_targets(self, caps, integral):
    targets = np.zeros(4, bool)
    check([0], WEIGHTS, GROUPS, ETA, [1.0], targets=targets, caps=caps, integral=integral)

  def test_all_abstain(self, caps, integral):
    check([0], WEIGHTS, GROUPS, [0.0, -1.0, -INF, -0.0], [1.0], caps=caps, integral=integral)

  def test_abstaining_outputs_are_no_targets(self, caps, integral):
    check([1], WEIGHTS, GROUPS, [0.0, 9.0, -1.0, 0.0], [1.0], caps=caps, integral=integral)

  def test_infinite_eta_survives(self, caps, integral):
    check([4, 4], WEIGHTS, GROUPS, [INF] * 4, [1.0, 1e300], caps=caps, integral=integral)

  def test_budget_zero(self, caps, integral):
    check([4], WEIGHTS, GROUPS, ETA, [0.0], caps=caps, integral=integral)

  def test_zero_weights(self, caps, integral):
    check([4, 4], np.zeros((2, 2)), GROUPS, ETA, [1.0, INF], caps=caps, integral=integral)

  def test_infinite_weights_without_budget(self, caps, integral):
    check([4], np.full((2, 2), INF), GROUPS, ETA, [0.0], caps=caps, integral=integral)

  def test_infinite_weights(self, caps, integral):
    weights = [[INF, 0.0], [0.0, 0.0]]
    check([2], weights, GROUPS, [1.0, INF, 1.0, INF], [1.0], caps=caps, integral=integral)

  def test_ties_fall_at_the_threshold(self, caps, integral):
    check([4, 0], [[2.0, 0.0]], [0] * 4, [2.0] * 4, [0.0, 1.0], caps=caps, integral=integral)

  def test_one_group_one_cell(self, caps, integral):
    caps = None if caps is None else caps[:1]
    check([2, 1, 1], [[3.0]], [0, 0], [3.0, 9.0], [0.0, 1.0, 2.0], caps=caps, integral=integral)


def test_huge_budgets():
  check([0, 0, 0], WEIGHTS, GROUPS, ETA, [1e12, 1e300, INF])
  check([4], WEIGHTS, GROUPS, ETA, [INF], caps=[0.0, 0.0])
  check([3], WEIGHTS, GROUPS, ETA, [INF], caps=[0.25, 0.0])


def test_infinite_weight_in_a_cell_that_cannot_change_is_dropped():
  check([4], [[INF, 0.5], [INF, 0.5]], GROUPS, ETA, [1.0], caps=[0.0, 1.0])


def test_integral_infinite_weights_take_a_whole_unit():
  """One unit fells one group; a finite weight does not fell an infinite threshold."""
  weights = [[INF, 0.0, 100.0], [0.0, INF, 0.0]]
  eta = [5.0, INF, 5.0, INF]
  methods = set(METHODS) - {"naive", "lp"}
  check([2, 0], weights, GROUPS, eta, [1.0, 2.0], integral=True, methods=methods)
  check([3], weights, GROUPS, eta, [5.0], integral=True, caps=[0.0, 0.0, 9.0])


def test_integral_budgets_and_caps_are_rounded_down():
  check([2, 1], [[1.0]], [0, 0], [1.0, 2.0], [0.9, 1.9], integral=True)
  check([1], [[1.0]], [0, 0], [1.0, 2.0], [9.0], integral=True, caps=[1.9])


def test_nothing_at_all():
  check([0], np.zeros((0, 0)), [], [], [1.0])
  check([2], np.zeros((1, 0)), [0, 0], [1.0, 2.0], [1.0])


def test_two_kinds_add_up():
  weights = [[[1.0]], [[10.0]]]
  budgets = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.9, 1.0]]
  check([1, 1, 0, 1], weights, [0, 0], [1.0, 11.0], budgets)


def test_24_decades_in_one_problem():
  eta = 10.0 ** np.arange(-12, 13)
  check(
    25 - np.arange(0, 26, 5), [[1.0]], [0] * 25, eta, np.append(0, 10.0 ** np.arange(-8, 13, 5))
  )


def test_order_of_budgets_does_not_matter():
  rng = np.random.default_rng(0)
  weights, groups, eta = rng.gamma(2, 1, (3, 4)), rng.integers(0, 3, 200), rng.gamma(2, 2, 200)
  budgets = np.linspace(0, 6, 13)
  for method in METHODS:
    shuffled = rng.permutation(budgets)
    bounds = collective.certify(weights, groups, eta, budgets, method=method).attackable
    again = collective.certify(weights, groups, eta, shuffled, method=method).attackable
    np.testing.assert_allclose(again, bounds[budgets.searchsorted(shuffled)], rtol=1e-7)
    assert (np.diff(bounds) > -1e-6).all()


def test_bins_weaken_the_lp():
  rng = np.random.default_rng(0)
  weights, groups, eta = rng.gamma(2, 1, (3, 4)), rng.integers(0, 3, 500), rng.gamma(2, 2, 500)
  budgets = np.linspace(0, 6, 5)

  def bounds(**options):
    certificate = collective.certify(weights, groups, eta, budgets, **options)
    collective.verify(weights, groups, eta, certificate, exact=True)
    return certificate.attackable

  lp, coarse = bounds(method="lp"), bounds(method="lp", bins=5)
  assert (bounds(method="lp", bins=50) <= coarse + 1e-6).all()
  assert (lp <= coarse + 1e-6).all()
  assert (lp < coarse - 1).any()
  np.testing.assert_allclose(bounds(method="lp", bins=500), lp, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("caps", [None, [1.0, 2.0]])
def test_storage_round_trip(method, caps):
  targets = np.array([True, True, True, False])
  certificate = collective.certify(
    WEIGHTS, GROUPS, ETA, [0.0, 0.5, 3.0], method=method, targets=targets, caps=caps
  )
  file = io.BytesIO()
  np.savez(file, **collective.to_arrays(certificate))
  file.seek(0)
  with np.load(file, allow_pickle=False) as mapping:
    again = collective.from_arrays(mapping)
  collective.verify(WEIGHTS, GROUPS, ETA, again, exact=True)
  arrays = collective.to_arrays(certificate)
  assert arrays.keys() == collective.to_arrays(again).keys()
  for name, array in collective.to_arrays(again).items():
    np.testing.assert_array_equal(array, arrays[name])
    assert array.dtype == arrays[name].dtype


def test_from_arrays_says_what_is_missing_or_odd():
  arrays = collective.to_arrays(collective.certify(WEIGHTS, GROUPS, ETA, [1.0]))
  with pytest.raises(ValueError, match="'witness_values' is missing"):
    collective.from_arrays({k: v for k, v in arrays.items() if k != "witness_values"})
  with pytest.raises(
    ValueError, match="`certified` must be signed integers of 1 axes, but it is float64"
  ):
    collective.from_arrays(arrays | {"certified": np.array([1.5])})


@pytest.mark.parametrize("method", METHODS)
def test_worth_is_storable_and_provable(method):
  """Targets of very different worth, up to 2^50 in all; a changed worth is no more proven."""
  rng = np.random.default_rng(0)
  weights, groups = rng.uniform(1, 9, (3, 4)), rng.integers(0, 3, 40)
  eta, worth = rng.gamma(2, 2, 40), (2.0 ** rng.uniform(0, 44, 40)).astype(np.int64)
  targets = rng.random(40) < 0.8
  certificate = collective.certify(
    weights, groups, eta, [0.3, 0.6], method=method, targets=targets, worth=worth
  )
  assert certificate.targets.tolist() == np.where(targets, worth, 0).tolist()
  buffer = io.BytesIO()
  np.savez(buffer, **collective.to_arrays(certificate))
  buffer.seek(0)
  with np.load(buffer, allow_pickle=False) as arrays:
    loaded = collective.from_arrays(arrays)
  for exact in (False, True):
    collective.verify(weights, groups, eta, loaded, exact=exact)
  dearer = loaded._replace(targets=loaded.targets + 2**40 * (loaded.targets > 0))
  with pytest.raises(ValueError, match="Budget 0"):
    collective.verify(weights, groups, eta, dearer)


@pytest.mark.parametrize("method", ["naive", "lp", "envelope"])
def test_a_budget_is_bounded_alike_whatever_smaller_ones_lost(method):
  rng = np.random.default_rng(0)
  weights, groups = rng.uniform(0.2, 1, (2, 3, 3)), rng.integers(0, 3, 20)
  eta, grid = rng.uniform(0, 3, 20), np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), -1)
  options = {"method": method, "integral": True, "caps": np.full((2, 3), 4.0)}
  together = collective.certify(weights, groups, eta, grid.reshape(-1, 2), **options)
  collective.verify(weights, groups, eta, together)
  assert (together.certified == 0).sum() > 1
  for i, budget in enumerate(grid.reshape(-1, 2)):
    alone = collective.certify(weights, groups, eta, [budget], **options)
    assert together.certified[i] == alone.certified[0]
    if together.certified[i] == 0:
      assert together.attackable[i] == alone.attackable[0]
