"""The ICLR 2021 certificate against brute force, and our envelope against it."""

from itertools import product

import numpy as np
import pytest
from scipy import sparse

from lrs_jax import collective
from lrs_jax.baselines import receptive_field


def random_instance(seed, num_outputs=4, sizes=(3, 2), radii=(3, 2)):
  rng = np.random.default_rng(seed)
  levels = rng.integers(0, 4, num_outputs)
  prices = rng.integers(1, 3, (num_outputs, len(sizes)))
  grid = np.stack(np.meshgrid(*map(np.arange, radii), indexing="ij"), axis=-1)
  survived = np.einsum("...a,na->n...", grid, prices) < levels.reshape(-1, *[1] * len(radii))
  fields = [sparse.csr_array((rng.random((num_outputs, size)) < 0.6) * 1.0) for size in sizes]
  local = [rng.integers(0, 3, size) for size in sizes]
  return survived, fields, local


def brute_force(survived, fields, local, budget):
  """Tries every b within the global and local budgets."""
  most = [np.minimum(limit, total).astype(int) for limit, total in zip(local, budget, strict=True)]
  worst = 0
  for flat in product(*(range(m + 1) for m in np.concatenate(most))):
    parts = np.split(np.array(flat), np.cumsum([len(m) for m in most])[:-1])
    if any(part.sum() > total for part, total in zip(parts, budget, strict=True)):
      continue
    seen = np.stack(
      [(field.toarray() > 0) @ part for field, part in zip(fields, parts, strict=True)], axis=1
    )
    fallen = 0
    for grid, r in zip(survived, seen, strict=True):
      inside = (r < grid.shape).all()
      fallen += not (inside and grid[tuple(r)])
    worst = max(worst, fallen)
  return len(survived) - worst


@pytest.mark.parametrize("seed", range(25))
def test_equals_brute_force_and_the_relaxation_is_sound(seed):
  survived, fields, local = random_instance(seed)
  budgets = [[0, 0], [1, 0], [1, 1], [3, 2]]
  truth = [brute_force(survived, fields, local, budget) for budget in budgets]
  exact = receptive_field.certify(survived, fields, budgets, local=local, relaxed=False)
  assert exact.status.tolist() == ["optimal"] * 4
  np.testing.assert_array_equal(exact.certified, truth)
  relaxed = receptive_field.certify(survived, fields, budgets, local=local)
  assert (relaxed.certified <= truth).all()
  assert relaxed.certified.max() > 0 or max(truth) == 0 or not survived.any()


def test_disjoint_fields_need_a_budget_each():
  survived = np.ones((5, 3), bool)  # survives 0, 1, 2
  eye = sparse.csr_array(np.eye(5))
  found = receptive_field.certify(survived, [eye], [[2], [3], [6], [14], [15]])
  assert found.certified.tolist() == [5, 4, 3, 1, 0]
  capped = receptive_field.certify(survived, [eye], [[15]], local=[np.full(5, 2)])
  assert capped.certified.tolist() == [5]


@pytest.mark.parametrize("seed", range(30))
def test_envelope_is_no_weaker_on_strictly_local_models(seed):
  """Equal base certificates: output n survives fewer than r_n perturbations in its field."""
  rng = np.random.default_rng(seed)
  num_fields, num_elements, num_outputs = 4, 6, 40
  mask = rng.random((num_fields, num_elements)) < 0.5
  groups = rng.integers(0, num_fields, num_outputs)
  radius = rng.integers(0, 6, num_outputs)
  caps = rng.integers(1, 4, num_elements)
  budgets = np.arange(0, 9)[:, None]
  price = 0.25  # a power of two: price * radius is exact
  ours = collective.certify(
    price * mask[None], groups, price * radius, budgets, caps=caps[None], integral=True
  )
  survived = np.arange(6) < radius[:, None]
  field = sparse.csr_array(mask[groups] * 1.0)
  theirs = receptive_field.certify(survived, [field], budgets, local=[caps])
  # they have no abstention: an output that is attacked by nothing is not certified either way
  assert (ours.certified >= theirs.certified).all()


def test_bad_input_is_named():
  survived = np.array([[True, False, True]])
  one = sparse.csr_array(np.ones((1, 1)))
  with pytest.raises(ValueError, match="monotone, but output 0"):
    receptive_field.certify(survived, [one], [[1]])
  with pytest.raises(ValueError, match="1 matrices with 1 rows"):
    receptive_field.certify(survived[:, :2], [one, one], [[1]])
  with pytest.raises(ValueError, match=r"shape \[B, 1\]"):
    receptive_field.certify(survived[:, :2], [one], [1])
  with pytest.raises(ValueError, match="each of 1 elements"):
    receptive_field.certify(survived[:, :2], [one], [[1]], local=[[1, 2]])


def test_a_failing_solver_leaves_every_output_on_its_own(monkeypatch):
  survived = np.ones((3, 2), bool)
  eye = sparse.csr_array(np.eye(3))
  monkeypatch.setattr(
    receptive_field.highs, "solve", lambda *args, **options: receptive_field.highs.Solution("lost")
  )
  found = receptive_field.certify(survived, [eye], [[1], [2]], relaxed=False)
  assert found.certified.tolist() == [3, 0]
  assert found.status.tolist() == ["relaxed (lost)"] * 2
