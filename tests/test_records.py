import numpy as np
import pytest

from lrs_jax import collective, noise, storage
from lrs_jax.jobs import records
from lrs_jax.sampling.counting import Votes

GROUPS = np.array([0, 0, 0, 1, 1, 1])
TRUTH = np.array([0, 0, 1, 1, 2, 0])  # the fifth is void, two classes
RADII = np.array([0.0, 0.1, 0.3, 1.0])
OPTIONS = {"envelope": {}, "lp": {"bins": 2}, "naive": {}}


def make(family=noise.gaussian, alpha=0.01):
  smoothing = family([[0.2, 1.0], [1.0, 0.2]], [0, 1])
  rng = np.random.default_rng(0)
  votes = rng.binomial(1000, [0.999, 0.98, 0.02, 0.01, 0.9, 0.5])
  counts = np.stack([votes, 1000 - votes], axis=1)
  selection = np.stack([votes // 10, 100 - votes // 10], axis=1)
  votes = Votes(selection, 100), Votes(counts, 1000)
  return records.make_record(
    smoothing, GROUPS, *votes, alpha, TRUTH, RADII, OPTIONS, {"job": {"seed": 0}}
  )


@pytest.fixture(scope="module")
def record():
  return make()


def equal(a, b):
  return all(
    (np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y)
    for x, y in zip(a, b, strict=True)
  )


@pytest.mark.parametrize("family", [noise.gaussian, noise.laplace, noise.uniform])
def test_a_record_comes_back_and_is_proven(tmp_path, family):
  made = make(family)
  records.save(tmp_path / "certificate.npz", made)
  loaded = records.load(tmp_path / "certificate.npz")
  for name in records.Record._fields:
    stored, back = getattr(made, name), getattr(loaded, name)
    if name == "base":
      assert equal(stored, back)
    elif name == "certified":
      assert set(stored) == set(back)
      assert all(np.array_equal(stored[k].certified, back[k].certified) for k in stored)
    else:
      assert np.array_equal(stored, back), name
  records.verify(loaded)
  records.verify(loaded, exact=True)


def test_unsigned_labels_and_groups_will_do(tmp_path):
  """As images have them, void being 255."""
  smoothing = noise.gaussian([[0.2, 1.0], [1.0, 0.2]], [0, 1])
  votes = Votes(np.array([[999, 1], [2, 998]]), 1000), Votes(np.array([[990, 10], [9, 991]]), 1000)
  made = records.make_record(
    smoothing, np.array([0, 1], np.uint8), *votes, 0.01, np.array([0, 255], np.uint8), RADII,
    {"envelope": {}}, {},
  )  # fmt: skip
  records.save(tmp_path / "certificate.npz", made)
  records.verify(records.load(tmp_path / "certificate.npz"))


@pytest.mark.parametrize("radii", [[0.0, np.nan], [0.1, 0.0], [-0.1, 0.0], [0.0, np.inf]])
def test_radii_that_are_none_are_refused_before_anything_is_certified(radii):
  smoothing = noise.gaussian([[0.2]], [0])
  votes = Votes(np.array([[990, 10]]), 1000), Votes(np.array([[980, 20]]), 1000)
  with pytest.raises(ValueError, match="`radii` must be finite, at least 0 and rise"):
    records.make_record(smoothing, [0], *votes, 0.01, np.array([0]), radii, {"envelope": {}}, {})


def test_something_is_certified_and_not_all(record):
  for name, certificate in record.certified.items():
    assert certificate.certified[0] > 0, name
    assert certificate.certified[-1] == 0, name
  assert record.certified["all/envelope"].certified[0] == (records.predictions(record) >= 0).sum()


def test_targets_are_all_or_the_correct_ones(record):
  assert record.certified["all/naive"].targets.all()
  correct = record.certified["correct/naive"].targets
  np.testing.assert_array_equal(correct, record.base.labels == TRUTH)
  assert not correct[4]  # void


def test_budgets_are_rounded_up(record):
  exact = [int(r * 2**60) ** 2 for r in RADII]
  assert all(int(b * 2**120) >= e for b, e in zip(record.budgets, exact, strict=True))


def change(record, field, index, by):
  array = np.array(getattr(record, field))
  array[index] += by
  return record._replace(**{field: array})


def change_base(record, field, index, by):
  return record._replace(base=change(record.base, field, index, by))


def change_certificate(record, name, field, index, by):
  changed = change(record.certified[name], field, index, by)
  return record._replace(certified={**record.certified, name: changed})


@pytest.mark.parametrize(
  ("tamper", "message"),
  [
    (lambda r: change(r, "counts", (0, 0), 1), "a row of `counts` sums to"),
    (lambda r: r._replace(counts=r.counts + np.array([50, -50])), "must not be negative"),
    (lambda r: change(change(r, "counts", (1, 0), 9), "counts", (1, 1), -9), "does not follow"),
    (lambda r: change(r, "selection_counts", (0, 1), 100), "`selection_counts` sums to 200"),
    (lambda r: r._replace(alpha=0.05), "`eta` does not follow|`q_lower` does not follow"),
    (lambda r: r._replace(alpha=1.5), "`alpha` must lie in"),
    (lambda r: r._replace(scales=r.scales * 1.01), "`weights` does not follow"),
    (lambda r: r._replace(family="laplace"), "does not follow"),
    (lambda r: r._replace(family="__name__"), "`family` must be one of gaussian"),
    (lambda r: change_base(r, "eta", 0, 1e-6), "`eta` does not follow"),
    (lambda r: change_base(r, "labels", 0, 1), "`labels` does not follow"),
    (lambda r: change(r, "radii", 1, 0.01), "`budgets` does not follow"),
    (lambda r: change(r, "budgets", 1, -1e-3), "`budgets` does not follow"),
    (lambda r: change(r, "truth", 0, 1), "the targets of 'correct/"),
    (lambda r: change_certificate(r, "all/naive", "certified", 1, 1), "all/naive"),
    (lambda r: change_certificate(r, "all/lp", "attackable", 1, -1), "all/lp"),
    (lambda r: change_certificate(r, "all/envelope", "budgets", 1, -0.001), "all/envelope"),
  ],
)  # fmt: skip
def test_what_does_not_follow_is_refused(record, tamper, message):
  with pytest.raises(ValueError, match=message):
    records.verify(tamper(record))


@pytest.mark.parametrize("restriction", [{"caps": np.zeros(2)}, {"integral": True}])
def test_a_certificate_against_a_weaker_adversary_is_refused(record, restriction):
  """It is proven, but not for the ball that the record speaks of."""
  base = record.base
  weaker = collective.certify(base.weights, base.groups, base.eta, record.budgets, **restriction)
  collective.verify(base.weights, base.groups, base.eta, weaker)
  with pytest.raises(ValueError, match="restricts the adversary"):
    records.verify(record._replace(certified={**record.certified, "all/envelope": weaker}))


def test_no_record_is_one_clear_error(tmp_path):
  np.savez(tmp_path / "other.npz", digest=np.asarray(storage.digest({})))
  with pytest.raises(ValueError, match="is not a certificate of lrs-jax"):
    records.load(tmp_path / "other.npz")
