"""Records of certified cases: what comes back from disk, what follows from what."""

import numpy as np
import pytest

from lrs_jax import collective, noise, storage
from lrs_jax.jobs import records
from lrs_jax.jobs.records import Bounds
from lrs_jax.tasks.task import Smoothing
from tests.making import (
  RADII,
  TRUTH,
  VOTES,
  ball,
  graph_record,
  image_record,
  votes,
)


@pytest.fixture(scope="module")
def record():
  return image_record()


def ablation(scales, cells):
  return noise.ablation(scales, cells, fill=-1.0)


RECORDS = {
  "gaussian": image_record,
  "laplace": lambda: image_record(noise.laplace),
  "uniform": lambda: image_record(noise.uniform),
  "flips": graph_record,
  "k-FWER": lambda: image_record(k_fwer=0.2),
  "ablation": lambda: image_record(
    ablation, ((0.5, 0.9), (0.9, 0.5)), radii=np.array([0.0, 1.0, 2.0])
  ),
}


@pytest.mark.parametrize("make", RECORDS.values(), ids=RECORDS)
def test_a_record_comes_back_and_is_proven(tmp_path, make):
  made = make()
  records.save(tmp_path / "certificate.npz", made)
  loaded = records.load(tmp_path / "certificate.npz")
  one, other = records.to_arrays(made), records.to_arrays(loaded)
  assert set(one) == set(other)
  for name in one:
    np.testing.assert_array_equal(one[name], other[name], err_msg=name)
  assert loaded.noise.family == made.noise.family
  records.verify(loaded)
  records.verify(loaded, exact=True)


def test_what_a_model_sees_of_a_hidden_entry_survives_a_record(tmp_path):
  made = RECORDS["ablation"]()
  records.save(tmp_path / "certificate.npz", made)
  levels = records.load(tmp_path / "certificate.npz").noise.levels
  np.testing.assert_array_equal(levels[1], np.full((2, 2), -1.0, np.float32))


def test_outputs_that_may_be_false_are_given_up():
  without, given_up = image_record(), image_record(k_fwer=0.2)
  assert given_up.base.forfeit == 1
  assert (given_up.base.q_lower > without.base.q_lower).any()
  assert given_up.certified["all/envelope"].forfeit == 1
  records.verify(given_up, exact=True)
  claims = given_up.certified["all/envelope"]._replace(forfeit=0)
  with pytest.raises(ValueError, match=r"forfeits 0 base certificates, but 1 may be false"):
    records.verify(given_up._replace(certified={"all/envelope": claims}))


def test_unsigned_labels_and_groups_will_do(tmp_path):
  """As images have them, void being 255."""
  smoothing = noise.gaussian([[0.2, 1.0], [1.0, 0.2]], [0, 1])
  made = records.make_record(
    "images", Smoothing("certificate", smoothing, np.array([0, 1], np.int32), ("all/envelope",)),
    (votes(np.array([[999, 1], [2, 998]], np.uint32), 1000), votes([[990, 10], [9, 991]], 1000)),
    Bounds(0.01, 0.0, VOTES), ball(smoothing), truth=np.array([0, 255], np.uint8),
  )  # fmt: skip
  records.save(tmp_path / "certificate.npz", made)
  records.verify(records.load(tmp_path / "certificate.npz"))


def test_without_labels_nothing_is_correct(tmp_path):
  smoothing = noise.gaussian([[0.2]], [0])
  made = records.make_record(
    "images", Smoothing("certificate", smoothing, [0], ("all/naive", "correct/naive")),
    (votes([[90, 10]], 100), votes([[980, 20]], 1000)), Bounds(0.01, 0.0, VOTES), ball(smoothing),
  )  # fmt: skip
  assert list(made.certified) == ["all/naive"]
  assert not made.labelled.any()
  records.verify(made)


@pytest.mark.parametrize("radii", [[0.0, np.nan], [0.1, 0.0], [-0.1, 0.0], [0.0, np.inf]])
def test_radii_that_are_none_are_refused_before_anything_is_certified(radii):
  smoothing = noise.gaussian([[0.2]], [0])
  with pytest.raises(ValueError, match="`radii` must be finite, at least 0 and rise"):
    records.make_record(
      "images", Smoothing("certificate", smoothing, [0], ("all/naive",)),
      (votes([[990, 10]], 1000), votes([[980, 20]], 1000)), Bounds(0.01, 0.0, VOTES),
      ball(smoothing, [0.0])._replace(radii=np.array(radii)),
    )  # fmt: skip


def test_something_is_certified_and_not_all(record):
  for name, certificate in record.certified.items():
    assert certificate.certified[0] > 0, name
    assert certificate.certified[-1] == 0, name
  assert record.certified["all/envelope"].certified[0] == (record.base.predictions >= 0).sum()


def test_targets_are_all_or_the_correct_ones(record):
  assert record.certified["all/naive"].targets.all()
  correct = record.certified["correct/naive"].targets
  np.testing.assert_array_equal(correct, record.base.labels == TRUTH)
  assert not correct[4]  # void


def test_budgets_are_rounded_up(record):
  exact = [int(r * 2**60) ** 2 for r in RADII]
  assert all(int(b * 2**120) >= e for b, e in zip(record.budgets[:, 0], exact, strict=True))


def changed(value, index, by):
  array = np.array(value)
  array[index] += by
  return array


def change(record, part, field, index, by):
  values = getattr(record, part)
  return record._replace(
    **{part: values._replace(**{field: changed(getattr(values, field), index, by)})}
  )


def change_certificate(record, name, field, index, by):
  certificate = record.certified[name]
  other = certificate._replace(**{field: changed(getattr(certificate, field), index, by)})
  return record._replace(certified={**record.certified, name: other})


def renoised(record, family=noise.gaussian, factor=1.0):
  other = family(record.noise.scale * factor, record.noise.cells)
  return record._replace(smoothing=record.smoothing._replace(noise=other))


@pytest.mark.parametrize(
  ("tamper", "message"),
  [
    (lambda r: change(r, "estimation", "votes", (0, 0), 1), "a row of `estimation/votes` sums to"),
    (lambda r: change(r, "estimation", "votes", (0, 1), -50), "must not be negative"),
    (lambda r: change(r, "estimation", "votes", 1, np.array([9, -9])),
     "does not follow"),
    (lambda r: change(r, "selection", "votes", (0, 1), 100), "`selection/votes` sums to 200"),
    (lambda r: r._replace(bounds=r.bounds._replace(alpha=0.05), meta={}),
     "`eta` does not follow|`q_lower` does not follow"),
    (lambda r: r._replace(bounds=r.bounds._replace(alpha=1.5)), "alpha` must lie in"),
    (lambda r: renoised(r, factor=1.01), "`weights` does not follow"),
    (lambda r: renoised(r, noise.laplace), "does not follow"),
    (lambda r: change(r, "base", "eta", 0, 1e-6), "`eta` does not follow"),
    (lambda r: change(r, "base", "labels", 0, 1), "`labels` does not follow"),
    (lambda r: change(r, "adversary", "radii", 1, 0.01), "budgets` does not follow"),
    (lambda r: change(r, "adversary", "budgets", 1, -1e-3), "budgets` does not follow"),
    (lambda r: r._replace(truth=changed(r.truth, 0, 1)), "the targets of 'correct/"),
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
  with pytest.raises(ValueError, match=r"restricts the adversary|are lower than those"):
    records.verify(record._replace(certified={**record.certified, "all/envelope": weaker}))


def test_no_record_is_one_clear_error(tmp_path):
  np.savez(tmp_path / "other.npz", digest=np.asarray(storage.digest({})))
  with pytest.raises(ValueError, match="is not a certificate of lrs-jax"):
    records.load(tmp_path / "other.npz")
