"""Certified IoU against every attack and every relabelling of tiny segmentations."""

import itertools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrs_jax import collective
from lrs_jax.collective import iou as certified_iou
from lrs_jax.collective import slopes as linear
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.evaluation import metrics

THOROUGH = bool(os.environ.get("LRS_JAX_THOROUGH"))
NUM_CLASSES = 3  # 3 is void, or an abstention


def random_base(seed, num_groups, num_cells, num_outputs):
  """Small whole numbers, so that sums are exact and ties frequent; some pixels abstain."""
  rng = np.random.default_rng(seed)
  weights = rng.integers(0, 5, (1, num_groups, num_cells)).astype(float)
  groups = rng.integers(0, num_groups, num_outputs)
  eta = rng.integers(0, 9, num_outputs).astype(float)
  truth = rng.choice(NUM_CLASSES + 1, num_outputs, p=[0.4, 0.35, 0.1, 0.15])
  labels = np.where(rng.random(num_outputs) < 0.7, truth, rng.integers(0, 3, num_outputs)) % 3
  return BaseCertificates(weights, groups, eta, labels, labels), truth


def reachable(base, budget):
  """Sets of pixels that are the adversary's: what abstains, and what falls under some attack."""
  num_cells = base.weights.shape[2]
  for cuts in itertools.product(np.arange(17) / 16, repeat=num_cells - 1):
    share = np.diff([0.0, *np.sort(cuts), 1.0]) * budget
    yield (base.weights[0] @ share)[base.groups] >= base.eta  # eta = 0 always


def ious(truth, predictions):
  """IoU [..., K'] of predictions [..., N] for the classes of the truth."""
  known = truth < NUM_CLASSES
  classes = np.unique(truth[known])
  label, prediction = truth == classes[:, None], predictions[..., None, :] == classes[:, None]
  union = ((label | prediction) & known).sum(axis=-1)
  return (label & prediction & known).sum(axis=-1) / union


def worst(base, truth, budget):
  """The least IoU of every class [K'], and the least mean, over attacks and relabellings."""
  everything = []
  for theirs in {tuple(theirs) for theirs in reachable(base, budget)}:
    places = np.flatnonzero(theirs)
    choices = np.array(list(itertools.product(range(NUM_CLASSES + 1), repeat=places.size)), int)
    predictions = np.tile(base.labels, (len(choices), 1))
    predictions[:, places] = choices.reshape(len(choices), places.size)
    everything.append(ious(truth, predictions))
  found = np.concatenate(everything)
  return found.min(axis=0), found.mean(axis=-1).min()


problems = st.tuples(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), st.integers(1, 6))
budgets = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0])


@settings(deadline=None, max_examples=500 if THOROUGH else 50)
@given(problems, budgets, st.sampled_from(["naive", "envelope", "milp"]))
def test_no_attack_and_no_relabelling_is_worse(problem, budget, method):
  base, truth = random_base(*problem)
  found = certified_iou.per_class(base, truth, [budget], num_classes=NUM_CLASSES, method=method)
  if not found.classes.size:
    assert np.isnan(found.mean_iou).all()
    return
  least, least_mean = worst(base, truth, budget)
  assert (found.iou[0] <= least).all()
  assert found.mean_iou[0] <= least_mean
  certified_iou.verify(base, truth, found, num_classes=NUM_CLASSES)


@pytest.mark.parametrize("seed", range(200 if THOROUGH else 20))
def test_every_class_alone_is_exact_where_the_attack_is_unique(seed):
  """One group: what falls is known, and every class can be hurt by all of it."""
  base, truth = random_base(seed, 1, 1, 6)
  found = certified_iou.per_class(base, truth, [1.0], num_classes=NUM_CLASSES)
  np.testing.assert_allclose(found.iou[0], worst(base, truth, 1.0)[0], rtol=1e-15)


def test_without_attack_and_abstention_it_is_the_iou_itself():
  base, truth = random_base(3, 2, 2, 200)
  base = base._replace(eta=base.eta + 1)
  found = certified_iou.per_class(base, truth, [0.0], num_classes=NUM_CLASSES)
  expected = ious(truth, base.labels)
  np.testing.assert_allclose(found.iou[0], expected, rtol=1e-12)
  assert set(truth) == {0, 1, 2, 3}
  confusion = metrics.confusion_matrix(truth, base.labels, NUM_CLASSES)
  assert found.mean_iou[0] == pytest.approx(metrics.mean_iou(confusion))


def test_classes_that_the_truth_lacks_are_not_in_the_mean():
  """One pixel taken for an absent class is an error of its label, and no class more."""
  weights, groups, labels = np.ones((1, 1, 1)), np.zeros(4, int), np.array([0, 0, 1, 2])
  base = BaseCertificates(weights, groups, np.full(4, 9.0), labels, labels)
  found = certified_iou.per_class(base, [0, 0, 1, 1], [0.0], num_classes=5)
  assert found.classes.tolist() == [0, 1]
  np.testing.assert_allclose(found.iou, [[1.0, 0.5]])
  confusion = metrics.confusion_matrix([0, 0, 1, 1], labels, 5)
  assert metrics.mean_iou(confusion) == pytest.approx(0.5)
  assert found.mean_iou[0] == pytest.approx(0.75)


def test_abstentions_count_against_the_label_and_as_false_positives():
  weights, groups, labels = np.ones((1, 1, 1)), np.zeros(4, int), np.array([0, 0, 1, 1])
  base = BaseCertificates(weights, groups, np.array([9.0, 9.0, 9.0, 0.0]), labels, labels)
  found = certified_iou.per_class(base, labels, [0.0], num_classes=2)
  np.testing.assert_allclose(found.iou, [[2 / 3, 1 / 2]])


def test_void_pixels_count_nowhere():
  base, truth = random_base(5, 2, 2, 50)
  known = truth < NUM_CLASSES
  assert not known.all()
  kept = base._replace(groups=base.groups[known], eta=base.eta[known], labels=base.labels[known])
  ours, without = (
    certified_iou.per_class(b, t, [0.5], num_classes=NUM_CLASSES)
    for b, t in ((base, truth), (kept, truth[known]))
  )
  np.testing.assert_array_equal(ours.iou, without.iou)
  nothing = certified_iou.per_class(base, np.full(50, -1), [0.5, 1.0], num_classes=NUM_CLASSES)
  assert nothing.iou.shape == (2, 0)
  assert np.isnan(nothing.mean_iou).all()


def test_forfeited_bounds_count_twice():
  base, truth = random_base(5, 1, 1, 60)
  base = base._replace(eta=base.eta + 1)
  found = certified_iou.per_class(base._replace(forfeit=2), truth, [0.0], num_classes=NUM_CLASSES)
  whole = certified_iou.per_class(base, truth, [0.0], num_classes=NUM_CLASSES)
  np.testing.assert_array_equal(found.true_positives, whole.true_positives - 2)
  np.testing.assert_array_equal(found.union, whole.union + 2)


def test_no_outputs():
  empty = np.zeros(0, int)
  base = BaseCertificates(np.ones((1, 1, 1)), empty, np.zeros(0), empty, np.zeros(0))
  assert np.isnan(certified_iou.per_class(base, empty, [1.0], num_classes=2).mean_iou).all()


def test_changed_numbers_are_refused():
  base, truth = random_base(7, 2, 2, 30)
  found = certified_iou.per_class(base, truth, [0.5, 1.0], num_classes=NUM_CLASSES)
  certified_iou.verify(base, truth, found, num_classes=NUM_CLASSES, exact=True)
  for changed, message in (
    (found._replace(iou=found.iou + 1e-9), "`iou`"),
    (found._replace(mean_iou=found.mean_iou + 1e-9), "`mean_iou`"),
    (found._replace(hits=found.hits[::-1]), "targets"),
    (found._replace(union=found.union - 1), "`union`"),
    (found._replace(rejections=found.hits), "targets"),
    (found._replace(hits=found.hits[:1]), "certificate"),
  ):
    with pytest.raises(ValueError, match=message):
      certified_iou.verify(base, truth, changed, num_classes=NUM_CLASSES)
  loose = found.hits[0]._replace(certified=found.hits[0].certified + 1)
  with pytest.raises(ValueError, match="Budget 0"):
    certified_iou.verify(
      base, truth, found._replace(hits=(loose, *found.hits[1:])), num_classes=NUM_CLASSES
    )


def test_truth_of_another_shape_is_refused():
  base, truth = random_base(7, 2, 2, 30)
  with pytest.raises(ValueError, match="`truth`"):
    certified_iou.per_class(base, truth[:-1], [0.5], num_classes=NUM_CLASSES)


def both(base, truth, budgets, num_steps=6, **options):
  separate = certified_iou.per_class(base, truth, budgets, num_classes=NUM_CLASSES, **options)
  return separate, certified_iou.jointly(base, truth, separate, num_steps=num_steps, **options)


@settings(deadline=None, max_examples=500 if THOROUGH else 40)
@given(problems, budgets, st.sampled_from(["naive", "lp", "envelope", "milp"]))
def test_no_attack_and_no_relabelling_is_worse_for_all_classes(problem, budget, method):
  base, truth = random_base(*problem)
  separate, joint = both(base, truth, [budget], method=method)
  certified_iou.verify_jointly(base, truth, separate, joint, num_classes=NUM_CLASSES)
  if separate.classes.size:
    least = worst(base, truth, budget)[1]
    assert separate.mean_iou[0] <= joint.mean_iou[0] <= least


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_any_slopes_bound_the_ratio_from_below(seed):
  """On the whole box, and those that support it at a point come close there."""
  rng = np.random.default_rng(seed)
  u_lower, u_upper = np.sort(rng.integers(0, 40, 2))
  v_lower, v_upper = np.sort(rng.integers(max(u_upper, 1), 90, 2))
  box = linear.Box(*(np.array([float(x)]) for x in (u_lower, u_upper, v_lower, v_upper)))
  alpha, kappa = rng.choice([0, 1e-3, 1e-2, 0.1, 1], (2, 1)) * rng.random((2, 1))
  u, v = np.meshgrid(np.arange(u_lower, u_upper + 1), np.arange(v_lower, v_upper + 1))
  assert (u / v >= linear.offset(box, alpha, kappa) + alpha * u - kappa * v).all()
  corner = rng.choice([u_lower, u_upper]), rng.choice([v_lower, v_upper])
  alpha, kappa = linear.supporting(box, *np.array(corner, float)[:, None])
  value = linear.offset(box, alpha, kappa) + alpha * corner[0] - kappa * corner[1]
  np.testing.assert_allclose(value, corner[0] / corner[1], atol=1e-6)


def test_one_attack_is_less_than_one_for_every_class():
  """The joint bound closes most of the gap between the separate ones and the worst case."""
  gaps = []
  for seed in range(12):
    base, truth = random_base(seed, 2, 2, 6)
    if len(np.unique(truth[truth < NUM_CLASSES])) < 2:
      continue
    separate, joint = both(base, truth, [1.0], num_steps=24)
    least = worst(base, truth, 1.0)[1]
    gaps.append([least - separate.mean_iou[0], least - joint.mean_iou[0]])
  before, after = np.sum(gaps, axis=0)
  assert after < 0.6 * before


@pytest.mark.parametrize("budget", [0.2, 0.6, 1.5])
def test_attacks_on_many_pixels_leave_more(budget):
  """Hundreds of pixels, attacks on one cell and on several, false positives where they hurt."""
  rng = np.random.default_rng(0)
  base, truth = random_base(0, 6, 6, 600)
  base = base._replace(
    weights=rng.uniform(0.5, 8, base.weights.shape), eta=rng.gamma(2, 2, 600) - 0.3
  )
  separate, joint = both(base, truth, [budget], num_steps=24)
  assert separate.mean_iou[0] < joint.mean_iou[0]
  shares = np.concatenate([np.eye(6), rng.dirichlet(np.full(6, 0.3), 200)])
  least = 1.0
  for share in shares:
    theirs = (base.eta <= 0) | ((base.weights[0] @ share * budget)[base.groups] >= base.eta)
    for mixed in (False, True):
      for victim in range(NUM_CLASSES):
        chosen = rng.integers(0, NUM_CLASSES, 600) if mixed else np.full(600, victim)
        chosen = np.where(chosen == truth, (chosen + 1) % NUM_CLASSES, chosen)
        least = min(least, ious(truth, np.where(theirs, chosen, base.labels)).mean())
  assert joint.mean_iou[0] <= least
  assert joint.mean_iou[0] > 0.2 * least


def test_jointly_without_attack_and_abstention_it_is_the_mean_iou():
  base, truth = random_base(3, 2, 2, 200)
  base = base._replace(eta=base.eta + 1)
  joint = both(base, truth, [0.0], num_steps=1)[1]
  assert joint.mean_iou[0] == pytest.approx(ious(truth, base.labels).mean(), abs=1e-12)


def test_one_class_and_none():
  base, _ = random_base(3, 2, 2, 20)
  for truth in (np.zeros(20, int), np.full(20, 3)):
    separate, joint = both(base, truth, [0.0, 1.0])
    certified_iou.verify_jointly(base, truth, separate, joint, num_classes=NUM_CLASSES)
    assert (joint.mean_iou >= separate.mean_iou).all() or np.isnan(joint.mean_iou).all()


@settings(deadline=None, max_examples=200 if THOROUGH else 20)
@given(problems, budgets)
def test_one_forfeited_bound_is_covered(problem, budget):
  """Whichever pixel's bound fails, it is the adversary's."""
  base, truth = random_base(*problem)
  separate, joint = both(base._replace(forfeit=1), truth, [budget])
  for n in range(len(truth) if separate.classes.size else 0):
    failed = base._replace(eta=np.where(np.arange(len(truth)) == n, 0.0, base.eta))
    assert joint.mean_iou[0] <= worst(failed, truth, budget)[1]


def test_changed_joint_numbers_are_refused():
  base, truth = random_base(7, 2, 2, 30)
  separate, joint = both(base, truth, [0.5, 1.0])
  kwargs = {"num_classes": NUM_CLASSES, "exact": True}
  certified_iou.verify_jointly(base, truth, separate, joint, **kwargs)
  for changed, message in (
    (joint._replace(mean_iou=joint.mean_iou + 1e-9), "`mean_iou` of budget 0"),
    (joint._replace(slopes=joint.slopes + 1), "targets of budget 0"),
    (joint._replace(slopes=-joint.slopes), "`slopes` of budget 0"),
    (joint._replace(unit=joint.unit * 0.75), "`unit` of budget 0"),
    (joint._replace(certificates=joint.certificates[::-1]), "budget 0"),
    (joint._replace(certificates=()), "`certificates`"),
  ):
    with pytest.raises(ValueError, match=message):
      certified_iou.verify_jointly(base, truth, separate, changed, **kwargs)
  loose = joint.certificates[0]._replace(certified=joint.certificates[0].certified + 1)
  with pytest.raises(ValueError, match="Budget 0"):
    certified_iou.verify_jointly(
      base, truth, separate, joint._replace(certificates=(loose, joint.certificates[1])), **kwargs
    )
  with pytest.raises(ValueError, match="`num_steps`"):
    certified_iou.jointly(base, truth, separate, num_steps=0)


def test_one_adversary_for_all_classes():
  """Bounds against a weaker adversary for some class are proven, but not together with others."""
  base, truth = random_base(7, 2, 2, 30)
  separate = certified_iou.per_class(
    base, truth, [1.0], num_classes=NUM_CLASSES, caps=[2.0, 2.0], method="naive"
  )
  joint = certified_iou.jointly(base, truth, separate, num_steps=2)
  for name in ("hits", "rejections"):
    for change, message in (
      ({"caps": [0.0, 0.0]}, "caps"),
      ({"caps": None}, "caps"),
      ({"caps": [2.0, 2.0], "integral": True}, "integral"),
      ({"caps": [2.0, 2.0], "budgets": [0.25]}, "budgets"),
      ({"caps": [2.0, 2.0], "forfeit": 1}, "forfeit"),
    ):
      parts = list(getattr(separate, name))
      again = {"budgets": [1.0], "targets": parts[1].targets} | change
      parts[1] = collective.certify(base.weights, base.groups, base.eta, **again)
      forged = certified_iou._per_class(
        separate.classes,
        separate.sizes,
        1,
        *(tuple(parts) if n == name else getattr(separate, n) for n in ("hits", "rejections")),
      )
      with pytest.raises(ValueError, match=f"`?{message}`? of `{name}`"):
        certified_iou.verify(base, truth, forged, num_classes=NUM_CLASSES)
      with pytest.raises(ValueError, match=f"`?{message}`? of `{name}`"):
        certified_iou.verify_jointly(base, truth, forged, joint, num_classes=NUM_CLASSES)
  for change in ({"caps": None}, {"integral": True}, {"forfeit": 1}, {"budgets": [0.25]}):
    certificate = joint.certificates[0]
    again = {"budgets": [1.0], "worth": certificate.targets, "caps": [2.0, 2.0]} | change
    other = collective.certify(base.weights, base.groups, base.eta, **again)
    with pytest.raises(ValueError, match=r"of budget 0 is (for|against) another|`forfeit` of"):
      certified_iou.verify_jointly(
        base, truth, separate, joint._replace(certificates=(other,)), num_classes=NUM_CLASSES
      )


@pytest.mark.parametrize("forfeit", [1, 2])
def test_forfeit_is_that_of_the_base_certificates(forfeit):
  """It is subtracted once, by the certificates, and what was made with another one is refused."""
  base, truth = random_base(7, 2, 2, 60)
  separate, joint = both(base, truth, [0.5])
  kwargs = {"num_classes": NUM_CLASSES}
  generous = base._replace(forfeit=forfeit)
  found, together = both(generous, truth, [0.5])
  for certificate in (*found.hits, *found.rejections, *together.certificates):
    assert certificate.forfeit == forfeit
  for k, (ours, others) in enumerate(zip(found.hits, separate.hits, strict=True)):
    assert found.true_positives[0, k] == ours.certified[0] == max(others.certified[0] - forfeit, 0)
  certified_iou.verify_jointly(generous, truth, found, together, **kwargs, exact=True)
  for claim in (separate, found._replace(mean_iou=separate.mean_iou, iou=separate.iou)):
    with pytest.raises(ValueError, match=r"`forfeit` of `hits`|`iou` does not follow"):
      certified_iou.verify(generous, truth, claim, **kwargs)
  with pytest.raises(ValueError, match=r"`forfeit` of .* budget 0"):
    certified_iou.verify_jointly(generous, truth, found, joint, **kwargs)
  with pytest.raises(ValueError, match="`separate` was made with a `forfeit` of 0"):
    certified_iou.jointly(generous, truth, separate)


def forged(base, truth, dtype, slope):
  """A joint bound of kappa = slope for two classes, and the best possible claim."""
  separate = certified_iou.per_class(base, truth, [1.0], num_classes=2)
  pixels = linear.make_pixels(truth, base.labels, separate.classes, separate.sizes)
  slopes = np.array([[0, 0], [slope, slope]], dtype)
  with np.errstate(over="ignore"):
    worth = linear.worth(pixels, slopes).astype(np.int64)
  certificate = collective.certify(base.weights, base.groups, base.eta, [1.0], worth=worth)
  return separate, certified_iou.JointIoU(
    np.ones(1), slopes[None], 2.0 ** -np.round(np.log2([slope])), (certificate,)
  )


@pytest.mark.parametrize(
  ("dtype", "slope"), [(np.int8, 127), (np.int16, 32767), (np.int32, 2**31 - 1), (np.int64, 9)]
)
def test_narrow_slopes_do_not_wrap(dtype, slope):
  """Twice the slope is what a pixel can lose: it must not become less than nothing."""
  truth = np.arange(40) % 2
  base = BaseCertificates(np.ones((1, 1, 1)), truth * 0, np.full(40, 0.5), truth, truth)
  separate, joint = forged(base, truth, dtype, slope)
  assert separate.mean_iou[0] == 0
  with pytest.raises(ValueError, match=r"`mean_iou` of budget 0 is 1\.0"):
    certified_iou.verify_jointly(base, truth, separate, joint, num_classes=2)
  honest = joint._replace(mean_iou=separate.mean_iou)
  certified_iou.verify_jointly(base, truth, separate, honest, num_classes=2)


def bad_numbers(array):
  """What is no array of real numbers of this shape, or has none where there was one."""
  return [
    array + 0j, array.astype(str), array.astype(object), array[None], array[:0], array[0],
    array.astype(np.longdouble), None, "1",
  ]  # fmt: skip


def test_numbers_of_other_types_and_shapes_are_refused():
  base, truth = random_base(7, 2, 2, 30)
  separate, joint = both(base, truth, [0.5, 1.0])
  kwargs = {"num_classes": NUM_CLASSES}
  floats = lambda array: [array * np.nan, array * np.inf, array.astype(int)]  # noqa: E731
  whole = lambda array: [array.astype(float), array.astype(np.uint64)]  # noqa: E731
  for name in ("iou", "mean_iou", "classes", "sizes", "true_positives", "union"):
    array = getattr(separate, name)
    for bad in bad_numbers(array) + (floats if "iou" in name else whole)(array):
      with pytest.raises(ValueError, match=f"`{name}`"):
        certified_iou.verify(base, truth, separate._replace(**{name: bad}), **kwargs)
  for name, more in (("mean_iou", floats), ("unit", floats), ("slopes", whole)):
    array = getattr(joint, name)
    for bad in bad_numbers(array) + more(array):
      with pytest.raises(ValueError, match=f"`{name}`"):
        certified_iou.verify_jointly(base, truth, separate, joint._replace(**{name: bad}), **kwargs)
  for unit in (0.0, -1.0, 2.0**-1000, 2.0**1000, 5e-324):
    with pytest.raises(ValueError, match="`unit` of budget 0"):
      certified_iou.verify_jointly(
        base, truth, separate, joint._replace(unit=np.full(2, unit)), **kwargs
      )


def test_nan_is_no_bound():
  base, truth = random_base(7, 2, 2, 30)
  separate, joint = both(base, truth, [0.5, 1.0])
  claim = joint._replace(mean_iou=np.array([joint.mean_iou[0], np.nan]))
  with pytest.raises(ValueError, match="`mean_iou` of budget 1 is nan"):
    certified_iou.verify_jointly(base, truth, separate, claim, num_classes=NUM_CLASSES)


def test_nothing_is_claimed_of_void():
  base, _ = random_base(3, 2, 2, 20)
  void = np.full(20, 3)
  separate, joint = both(base, void, [0.0, 1.0])
  with pytest.raises(ValueError, match="`mean_iou`"):
    certified_iou.verify_jointly(
      base, void, separate, joint._replace(mean_iou=np.ones(2)), num_classes=NUM_CLASSES
    )


def test_no_budgets():
  base, truth = random_base(7, 2, 2, 30)
  separate, joint = both(base, truth, [])
  assert separate.mean_iou.shape == joint.mean_iou.shape == (0,)
  certified_iou.verify_jointly(base, truth, separate, joint, num_classes=NUM_CLASSES)


@pytest.mark.parametrize("name", ["worth", "targets", "forfeit", "caps", "integral"])
def test_what_is_set_here_cannot_be_given(name):
  """Worth per class would count pixels more than once: an IoU above 1."""
  base, truth = random_base(7, 2, 2, 30)
  value = {"worth": np.full(30, 2), "targets": truth == 0, "forfeit": 1, "caps": [1.0, 1.0]}
  options = {name: value.get(name, True)}
  if name not in ("caps", "integral"):
    with pytest.raises(ValueError, match=f"`{name}` cannot be given"):
      certified_iou.per_class(base, truth, [0.5], num_classes=NUM_CLASSES, **options)
  separate = certified_iou.per_class(base, truth, [0.5], num_classes=NUM_CLASSES)
  with pytest.raises(ValueError, match=f"`{name}` cannot be given"):
    certified_iou.jointly(base, truth, separate, **options)
