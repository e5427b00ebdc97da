"""Base certificates that may be false: what is certified holds whichever they are."""

import itertools

import numpy as np
import pytest

from lrs_jax import collective, noise
from lrs_jax.collective.certificate import seal
from lrs_jax.collective.methods import METHODS
from lrs_jax.confidence import certificates, corrections
from lrs_jax.soundness.tiny import optimum, random_problem

WEIGHTS, GROUPS, ETA = [[4.0, 1.0], [1.0, 4.0]], [0, 0, 1, 1], [1.0, 9.0, 1.0, 9.0]
BUDGETS = [0.2, 0.4, 3.0]  # without forfeit: 4, 2 and 1 of 4


@pytest.mark.parametrize("method", METHODS)
def test_it_is_subtracted_stored_and_proven(method):
  plain, one = (
    collective.certify(WEIGHTS, GROUPS, ETA, BUDGETS, method=method, forfeit=k) for k in (0, 1)
  )
  assert (plain.forfeit, one.forfeit) == (0, 1)
  np.testing.assert_array_equal(one.certified, np.maximum(plain.certified - 1, 0))
  np.testing.assert_array_equal(one.attackable, plain.attackable)
  np.testing.assert_array_equal(one.gap, plain.gap)
  collective.verify(WEIGHTS, GROUPS, ETA, one, exact=True)
  again = collective.from_arrays(collective.to_arrays(one))
  assert again.forfeit == 1
  collective.verify(WEIGHTS, GROUPS, ETA, again)


def test_nothing_is_certified_below_zero():
  for forfeit in (3, 5, 2**60):
    certificate = collective.certify(WEIGHTS, GROUPS, ETA, BUDGETS, forfeit=forfeit)
    assert certificate.certified.tolist() == [max(4 - forfeit, 0), 0, 0]
    collective.verify(WEIGHTS, GROUPS, ETA, certificate)


def test_each_counts_for_the_largest_worth():
  """Of the targets that do not abstain: no others are counted in the first place."""
  eta, worth, targets = [1.0, 9.0, 0.0, 9.0], [3, 5, 1000, 2000], [True, True, True, False]
  certificate = collective.certify(
    [[1.0]], [0] * 4, eta, [0.5, 1.0], worth=worth, targets=targets, forfeit=1
  )
  assert certificate.certified.tolist() == [3 + 5 - 5, 0]
  collective.verify([[1.0]], [0] * 4, eta, certificate)


def test_worth_of_a_narrow_type_does_not_wrap():
  certificate = collective.certify(
    [[1.0]], [0] * 4, [9.0] * 4, [1.0], worth=np.full(4, 127, np.int8), forfeit=2
  )
  assert certificate.certified.tolist() == [2 * 127]


@pytest.mark.parametrize("seed", range(30))
def test_whichever_are_false(seed):
  """Every set of so many false base certificates, and every attack, of tiny problems of worth."""
  rng = np.random.default_rng(seed)
  problem = random_problem(rng)
  number, forfeit = problem.eta.size, int(rng.integers(1, 3))
  worth = rng.integers(0, 3, number)
  certificate = collective.certify(
    *problem.inputs, problem.budgets, method="milp", gap=0.0, forfeit=forfeit, worth=worth,
    **problem.options,
  )  # fmt: skip
  targets = np.ones(number, bool) if problem.targets is None else problem.targets
  for false in itertools.combinations(range(number), min(forfeit, number)):
    kept = targets & ~np.isin(np.arange(number), false)  # the others fall without an attack
    copies = problem._replace(
      groups=np.repeat(problem.groups, worth),
      eta=np.repeat(problem.eta, worth),
      targets=np.repeat(kept, worth),
    )
    survivors = (copies.targets & (copies.eta > 0)).sum() - optimum(copies)
    assert certificate.certified[0] <= survivors


def test_a_forfeit_that_was_lowered_is_refused():
  certificate = collective.certify(WEIGHTS, GROUPS, ETA, BUDGETS, forfeit=1)
  free = collective.certify(WEIGHTS, GROUPS, ETA, BUDGETS)
  for changed in (
    certificate._replace(forfeit=0),
    certificate._replace(certified=free.certified),
    free._replace(forfeit=1),
  ):
    for sealed in (changed, changed._replace(seals=seal(changed))):
      with pytest.raises(ValueError, match=r"Budget 0, .*`certified` is"):
        collective.verify(WEIGHTS, GROUPS, ETA, sealed)
  nothing = collective.certify(WEIGHTS, GROUPS, [0.0] * 4, BUDGETS)
  with pytest.raises(ValueError, match="its seal is broken"):
    collective.verify(WEIGHTS, GROUPS, [0.0] * 4, nothing._replace(forfeit=7))


@pytest.mark.parametrize("forfeit", [-1, 1.0, True, None, "1", np.array([1]), 2**63])
def test_what_is_no_number_of_outputs_is_refused(forfeit):
  with pytest.raises(ValueError, match="`forfeit` must be an integer"):
    collective.certify(WEIGHTS, GROUPS, ETA, BUDGETS, forfeit=forfeit)
  certificate = collective.certify(WEIGHTS, GROUPS, ETA, BUDGETS)._replace(forfeit=forfeit)
  with pytest.raises(ValueError, match="`forfeit` must be an integer"):
    collective.verify(WEIGHTS, GROUPS, ETA, certificate)


def test_certificates_stored_without_it_say_so():
  arrays = collective.to_arrays(collective.certify(WEIGHTS, GROUPS, ETA, BUDGETS))
  del arrays["forfeit"]
  with pytest.raises(ValueError, match="'forfeit' is missing: an older version stored it"):
    collective.from_arrays(arrays)


def test_k_fwer_from_votes_to_the_certificate():
  votes = np.tile([990, 10], (6, 1))
  levels = corrections.k_fwer(0.01, 6, 3)
  base = certificates.from_votes(
    noise.gaussian([[0.5]], [0]), np.zeros(6, int), votes + [0, 1], votes, alpha=levels
  )
  certificate = collective.certify(
    base.weights, base.groups, base.eta, [0.0, 0.1], forfeit=base.forfeit
  )
  assert certificate.certified.tolist() == [4, 4]
