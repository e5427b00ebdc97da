"""What is not trusted: the solver, and stored certificates."""

import contextlib
import itertools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrs_jax import collective, errors
from lrs_jax.collective import digests, highs
from lrs_jax.collective.certificate import seal
from lrs_jax.collective.digests import digest
from lrs_jax.collective.methods import METHODS
from lrs_jax.soundness.tiny import optimum, random_problem

THOROUGH = bool(os.environ.get("LRS_JAX_THOROUGH"))
NUM_PROBLEMS = 300 if THOROUGH else 8
PROBLEMS = [random_problem(np.random.default_rng(seed)) for seed in range(NUM_PROBLEMS)]
OPTIMA = [optimum(problem) for problem in PROBLEMS]
TRUE_SOLVE = highs.solve


def everything_fails(status):
  return lambda *args, **kwargs: highs.Solution(status)


def with_wrong(field, change):
  """The true solution, with one of its arrays changed."""

  def solve(*args, **kwargs):
    solution = TRUE_SOLVE(*args, **kwargs)
    array = getattr(solution, field)
    return solution if array is None else solution._replace(**{field: change(array.copy())})

  return solve


def claims(status):
  return lambda *args, **kwargs: TRUE_SOLVE(*args, **kwargs)._replace(status=status)


def noise(array):
  return array + np.random.default_rng(0).normal(size=array.shape) * (1 + np.abs(array))


FAULTS = {
  **{
    f"status {status}": everything_fails(status)
    for status in ("infeasible", "optimal", "time limit", "Unbounded", "Empty", "Not Set", "")
  },
  "claims infeasible": claims("infeasible"),
  "claims unbounded": claims("Unbounded"),
  "claims optimal": claims("optimal"),
  **{
    f"{name} {field}": with_wrong(field, change)
    for field in ("dual", "primal")
    for name, change in {
      "nan": lambda x: x * np.nan,
      "inf": lambda x: x + np.inf,
      "huge": lambda x: x * 1e300 + 1e300,
      "negated": lambda x: -x,
      "zero": lambda x: x * 0,
      "noisy": noise,
      "short": lambda x: x[:-1],
      "reversed": lambda x: x[::-1],
    }.items()
  },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_solver_weakens_but_never_breaks(monkeypatch, fault):
  monkeypatch.setattr(highs, "solve", FAULTS[fault])
  for (problem, best), method in itertools.product(
    zip(PROBLEMS, OPTIMA, strict=True), ("lp", "envelope", "milp")
  ):
    certificate = collective.certify(
      *problem.inputs, problem.budgets, method=method, **problem.options
    )
    collective.verify(*problem.inputs, certificate, exact=True)
    naive = collective.certify(*problem.inputs, problem.budgets, method="naive", **problem.options)
    assert best <= np.floor(certificate.attackable[0]) <= naive.attackable[0]
    if method == "milp":
      assert certificate.attack.num_attacked[0] <= best
      if certificate.status[0] == "optimal":
        assert certificate.gap[0] == 0


@pytest.mark.parametrize("method", ["lp", "envelope", "milp"])
def test_the_status_says_that_a_solver_failed(monkeypatch, method):
  def explode(*args):
    raise RuntimeError("out of luck")

  arguments = [[4.0, 1.0], [1.0, 4.0]], [0, 0, 1, 1], [1.0, 9.0, 1.0, 9.0], [1.0, 3.0]
  naive = collective.certify(*arguments, method="naive")
  monkeypatch.setattr(highs, "_solve", explode)
  certificate = collective.certify(*arguments, method=method)
  assert certificate.status[1] == "RuntimeError: out of luck"
  np.testing.assert_array_equal(certificate.certified, naive.certified)
  collective.verify(*arguments[:3], certificate)


def test_a_solver_out_of_time_says_so():
  rng = np.random.default_rng(0)
  weights, groups, eta = rng.gamma(2, 1, (9, 9)), rng.integers(0, 9, 3000), rng.gamma(2, 2, 3000)
  for method in ("lp", "milp"):
    certificate = collective.certify(weights, groups, eta, [1.0], method=method, time_limit=1e-9)
    assert certificate.status[0] == "time limit"
    collective.verify(weights, groups, eta, certificate)


@pytest.mark.parametrize(
  ("method", "calls"),
  [("lp", 1), ("lp", 5), ("envelope", 1), ("envelope", 5), ("milp", 1), ("milp", 5), ("milp", 50)],
)
def test_interruption_keeps_what_is_proven(monkeypatch, method, calls):
  rng = np.random.default_rng(0)
  weights, groups, eta = rng.gamma(2, 1, (5, 5)), rng.integers(0, 5, 300), rng.gamma(2, 2, 300)
  countdown = iter(range(calls))

  def interrupted(*args, **kwargs):
    if next(countdown, None) is None:
      raise KeyboardInterrupt
    return TRUE_SOLVE(*args, **kwargs)

  budgets = np.linspace(0.5, 3, 20)
  monkeypatch.setattr(highs, "solve", interrupted)
  certificate = collective.certify(weights, groups, eta, budgets, method=method, gap=0.0)
  assert certificate.status[-1] == "interrupted"
  if calls > 1 and method != "milp":
    assert certificate.status[0] == "optimal"
  collective.verify(weights, groups, eta, certificate, exact=True)


def example(method="milp"):
  rng = np.random.default_rng(3)
  weights = 10 ** rng.uniform(-1, 1, (2, 3, 3))
  groups, eta = rng.integers(0, 3, 40), rng.integers(1, 30, 40) / 2
  budgets = np.array([[0.0, 0.5], [0.75, 0.5], [2.0, 1.0]])
  inputs = weights, groups, eta
  options = {"targets": rng.random(40) < 0.9, "caps": np.full((2, 3), 0.75), "forfeit": 1}
  return inputs, collective.certify(*inputs, budgets, method=method, gap=0.0, **options)


INPUTS, CERTIFICATE = example()
ARRAYS = collective.to_arrays(CERTIFICATE)


def changed(draw, array):
  """The array with one entry changed to something else of its kind."""
  flat = array.copy().reshape(-1)
  position = draw(st.integers(0, flat.size - 1))
  old = flat[position]
  if array.dtype.kind == "b":
    flat[position] = not old
  elif array.dtype.kind == "U":
    flat = flat.astype(object)
    flat[position] = old[:-1] + ("x" if old[-1:] != "x" else "y")
    flat = flat.astype(str)
  elif array.dtype.kind == "i":
    flat[position] = old + draw(st.integers(-3, 3).filter(bool))
  elif np.isnan(old):
    flat[position] = draw(st.floats(-2, 2))
  else:
    new = draw(
      st.sampled_from([old * (1 + 2**-52), old * 0.999, old * 1.001, old + 1, old - 1, -old, np.inf,
                       np.nan, 0.0, old / 2]).filter(lambda x: x != old)
    )  # fmt: skip
    flat[position] = new
  return flat.reshape(array.shape)


def test_the_example_has_everything_to_tamper_with():
  assert (np.diff(CERTIFICATE.witness.starts) > 1).any()
  assert CERTIFICATE.attack.num_attacked.any()
  collective.verify(*INPUTS, CERTIFICATE)
  collective.verify(*INPUTS, CERTIFICATE, exact=True)


@settings(max_examples=1000 if THOROUGH else 150, deadline=None, derandomize=True)
@given(st.data())
def test_any_single_changed_number_is_refused(data):
  name = data.draw(st.sampled_from(sorted(set(ARRAYS))))
  arrays = ARRAYS | {name: changed(data.draw, ARRAYS[name])}
  with pytest.raises(ValueError, match=r"Budget|must|digest|malformed|mapping"):
    collective.verify(*INPUTS, collective.from_arrays(arrays))


@settings(max_examples=1000 if THOROUGH else 80, deadline=None, derandomize=True)
@given(st.data(), st.booleans())
def test_a_sealed_change_is_accepted_only_if_it_is_proven(data, exact):
  """Change anything, recompute the seals: what is still accepted is still true."""
  name = data.draw(st.sampled_from(sorted(set(ARRAYS) - {"seals"})))
  try:
    certificate = collective.from_arrays(ARRAYS | {name: changed(data.draw, ARRAYS[name])})
    certificate = certificate._replace(seals=seal(certificate))
    collective.verify(*INPUTS, certificate, exact=exact)
  except (ValueError, IndexError):
    return
  honest = collective.certify(
    *INPUTS,
    certificate.budgets,
    method="milp",
    gap=0.0,
    targets=certificate.targets,
    caps=certificate.caps,
    integral=certificate.integral,
    forfeit=certificate.forfeit,
  )
  assert (certificate.certified <= honest.certified).all()
  assert (certificate.attack.num_attacked <= np.floor(honest.attackable)).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("part", [0, 1, 2])
def test_other_inputs_are_refused(method, part):
  inputs, certificate = example(method)
  inputs = [array.copy() for array in inputs]
  inputs[part].reshape(-1)[7] = (inputs[part].reshape(-1)[7] + 1) % 3
  with pytest.raises(errors.OtherProblemError, match="their digest is"):
    collective.verify(*inputs, certificate)


def test_the_budget_at_fault_is_named():
  attack = CERTIFICATE.attack._replace(b=CERTIFICATE.attack.b + [[[0.0]], [[0.0]], [[0.25]]])
  cases = {
    r"Budget 1, \[0\.75, 0\.5\]: `certified` is": {
      "certified": CERTIFICATE.certified + np.array([0, 1, 0])
    },
    r"Budget 2, .*: `attackable` is .*the witness proves only": {
      "attackable": CERTIFICATE.attackable - np.array([0, 0, 1]),
      "certified": CERTIFICATE.certified + np.array([0, 0, 1]),
    },
    r"Budget 2, .*: the attack (spends .* of a budget|.* exceeds the caps)": {"attack": attack},
  }
  for message, change in cases.items():
    with pytest.raises(ValueError, match=message):
      collective.verify(*INPUTS, CERTIFICATE._replace(**change))


def test_a_looser_claim_is_accepted_when_sealed():
  """What is proven need not be the best that can be."""
  certificate = CERTIFICATE._replace(
    attackable=CERTIFICATE.attackable + 1,
    certified=CERTIFICATE.certified - 1,
    gap=CERTIFICATE.gap + 1 / (INPUTS[2][CERTIFICATE.targets] > 0).sum(),
  )
  with pytest.raises(ValueError, match=r"Budget 0, .*: its seal is broken"):
    collective.verify(*INPUTS, certificate)
  collective.verify(*INPUTS, certificate._replace(seals=seal(certificate)))


BAD = {  # field: values that a certificate cannot have
  "certified": [
    CERTIFICATE.certified.astype(np.uint64),
    CERTIFICATE.certified.astype(float),
    CERTIFICATE.certified + 0j,
    CERTIFICATE.certified.astype(str),
    CERTIFICATE.certified.astype(object),
    CERTIFICATE.certified[:, None],
    CERTIFICATE.certified[:-1],
    None,
  ],
  "attackable": [
    CERTIFICATE.attackable * np.nan,
    -CERTIFICATE.attackable - 1,
    CERTIFICATE.attackable + np.inf,
    CERTIFICATE.attackable + 0j,
    CERTIFICATE.attackable.astype(str),
    CERTIFICATE.attackable.astype(object),
    CERTIFICATE.attackable.astype(np.longdouble),
    CERTIFICATE.attackable[None],
    np.nan,
  ],
  "gap": [CERTIFICATE.gap * np.nan, CERTIFICATE.gap + 0j, CERTIFICATE.gap.astype(str)],
  "status": [np.zeros(3), np.array([b"optimal"] * 3), np.array(["optimal"] * 3, object), "optimal"],
  "solve_time": [CERTIFICATE.solve_time.astype(str), CERTIFICATE.solve_time + 0j],
  "budgets": [
    CERTIFICATE.budgets * np.nan,
    -CERTIFICATE.budgets - 1,
    CERTIFICATE.budgets - np.inf,
    CERTIFICATE.budgets + 0j,
    CERTIFICATE.budgets.astype(str),
    CERTIFICATE.budgets.astype(object),
    CERTIFICATE.budgets[None],
    CERTIFICATE.budgets[:, :1],
    CERTIFICATE.budgets.ravel(),
  ],
  "targets": [
    CERTIFICATE.targets.astype(float),
    CERTIFICATE.targets.astype(np.uint8),
    CERTIFICATE.targets.astype(str),
    CERTIFICATE.targets.astype(object),
    CERTIFICATE.targets[None],
    None,
  ],
  "caps": [
    CERTIFICATE.caps * np.nan,
    -CERTIFICATE.caps,
    CERTIFICATE.caps + 0j,
    CERTIFICATE.caps.astype(str),
    CERTIFICATE.caps.astype(object),
    CERTIFICATE.caps[None],
    CERTIFICATE.caps.ravel(),
  ],
  "integral": [0, 1.0, None, "False", np.array([True])],
  "method": [3, None, b"milp", np.array(["milp"])],
  "digest": [3, None, b"00", np.array([CERTIFICATE.digest] * 2)],
  "seals": [np.zeros(3), np.array([None] * 3), CERTIFICATE.seals[:, None]],
  "witness.starts": [
    CERTIFICATE.witness.starts.astype(np.uint64),
    CERTIFICATE.witness.starts.astype(float),
    CERTIFICATE.witness.starts - 1,
    CERTIFICATE.witness.starts[::-1],
    CERTIFICATE.witness.starts[None],
  ],
  "witness.variables": [
    CERTIFICATE.witness.variables.astype(float),
    CERTIFICATE.witness.variables - 1,
    CERTIFICATE.witness.variables + 100 * (CERTIFICATE.witness.variables >= 0),
    CERTIFICATE.witness.variables[:, None],
  ],
  "witness.values": [
    CERTIFICATE.witness.values * np.nan,
    CERTIFICATE.witness.values + np.inf,
    CERTIFICATE.witness.values + 0j,
    CERTIFICATE.witness.values.astype(str),
    CERTIFICATE.witness.values.astype(object),
    CERTIFICATE.witness.values[:, None],
  ],
  "witness.multipliers": [
    CERTIFICATE.witness.multipliers * np.nan,
    CERTIFICATE.witness.multipliers + np.inf,
    CERTIFICATE.witness.multipliers - np.inf,
    CERTIFICATE.witness.multipliers + 0j,
    CERTIFICATE.witness.multipliers.astype(str),
    CERTIFICATE.witness.multipliers.astype(object),
    CERTIFICATE.witness.multipliers[0],
    CERTIFICATE.witness.multipliers[:, :1],
  ],
  "attack.b": [
    CERTIFICATE.attack.b * np.nan,
    -CERTIFICATE.attack.b - 1,
    CERTIFICATE.attack.b + np.inf,
    CERTIFICATE.attack.b + 1e308,
    CERTIFICATE.attack.b + 0j,
    CERTIFICATE.attack.b.astype(str),
    CERTIFICATE.attack.b.astype(object),
    CERTIFICATE.attack.b[0],
  ],
  "attack.attacked": [
    CERTIFICATE.attack.attacked.astype(float),
    CERTIFICATE.attack.attacked * np.nan,
    CERTIFICATE.attack.attacked.astype(int),
    CERTIFICATE.attack.attacked[0],
    ~CERTIFICATE.attack.attacked,
  ],
  "attack.num_attacked": [
    CERTIFICATE.attack.num_attacked * np.nan,
    CERTIFICATE.attack.num_attacked.astype(np.uint64),
    CERTIFICATE.attack.num_attacked[0],
  ],
}


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
  ("name", "k"), [(name, k) for name, v in BAD.items() for k in range(len(v))]
)
def test_what_a_field_cannot_be_is_refused(name, k, exact):
  """By a `ValueError` that says which, sealed or not; in memory and in storage alike."""
  value, (field, _, part) = BAD[name][k], name.partition(".")
  if part:
    value = getattr(CERTIFICATE, field)._replace(**{part: value})
  certificate = CERTIFICATE._replace(**{field: value})
  with contextlib.suppress(ValueError, TypeError, IndexError, AttributeError):  # or the old seals
    certificate = certificate if field == "seals" else certificate._replace(seals=seal(certificate))
  with pytest.raises(ValueError, match=r"`\w+`|Budget|`attack\.\w+`|its tree") as error:
    collective.verify(*INPUTS, certificate, exact=exact)
  assert "seal" not in str(error.value) or field == "seals"
  if BAD[name][k] is None and not part:
    return
  arrays = ARRAYS | {name.replace(".", "_"): np.asarray(BAD[name][k])}
  with pytest.raises(ValueError, match=r"`\w+`|Budget"):
    collective.verify(*INPUTS, collective.from_arrays(arrays), exact=exact)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, ">i8"])
def test_integers_of_other_types_are_the_same_numbers(dtype):
  """Narrow ones do not wrap where they are added: here, trees of more than 127 nodes."""
  rng = np.random.default_rng(0)
  inputs = rng.gamma(2, 1, (5, 5)), rng.integers(0, 5, 120), rng.gamma(2, 2, 120)
  certificate = collective.certify(*inputs, [1.0, 2.0], method="milp", gap=0.0)
  witness = certificate.witness
  certificate = certificate._replace(
    certified=certificate.certified.astype(dtype),
    witness=witness._replace(variables=witness.variables.astype(dtype)),
  )
  collective.verify(*inputs, certificate)
  wrapped = witness.starts.astype(dtype)
  certificate = certificate._replace(witness=witness._replace(starts=wrapped))
  if (wrapped == witness.starts).all():
    collective.verify(*inputs, certificate)
  else:
    with pytest.raises(ValueError, match="`witness` is malformed"):
      collective.verify(*inputs, certificate)


def test_narrow_starts_that_wrap_are_refused():
  """As int8, 100 to -56 is a step of 100: numbers must be compared, not their differences."""
  witness = CERTIFICATE.witness
  size = witness.variables.size
  starts = np.array([0, 100, -56, size if size < 128 else 127], np.int8)
  with pytest.raises(ValueError, match="`witness` is malformed"):
    collective.verify(*INPUTS, CERTIFICATE._replace(witness=witness._replace(starts=starts)))


def test_a_huge_tree_is_checked_without_recursion():
  """A path of 5,000 splits, each at a threshold that no attack reaches."""
  weights, groups, eta, number = [[1.0]], [0, 0], [1.0, 9.0], 5000
  certificate = collective.certify(weights, groups, eta, [2.0])
  certificate = certificate._replace(
    witness=collective.Witness(
      np.array([0, 2 * number + 1]),
      np.concatenate([np.zeros(number, int), np.full(number + 1, -1)]),
      np.concatenate([100.0 + np.arange(number)[::-1], np.zeros(number + 1)]),
      np.zeros((number + 1, 1)),
    )
  )
  certificate = certificate._replace(seals=seal(certificate))
  collective.verify(weights, groups, eta, certificate)
  collective.verify(weights, groups, eta, certificate, exact=True)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("size", [1e300, 1.7e308, -1.7e308])
def test_huge_multipliers_prove_nothing(size, exact):
  """Sums of what they make overflow: that is a bound of inf, and no other error."""
  inputs = np.full((2, 2, 2), 2.0), [0, 1], [3.0, 5.0]
  certificate = collective.certify(*inputs, [[1.5, 2.0]])
  witness = certificate.witness._replace(multipliers=np.full((1, 2), size))
  certificate = certificate._replace(witness=witness)
  certificate = certificate._replace(seals=seal(certificate))
  with pytest.raises(ValueError, match=r"`attackable` is 2\.0, but the witness proves only"):
    collective.verify(*inputs, certificate, exact=exact)


@pytest.mark.parametrize("exact", [False, True])
def test_finite_terms_whose_sum_overflows_prove_nothing(exact):
  inputs = np.ones((2, 1, 1)), [0, 0], [1.0, 5.0]
  certificate = collective.certify(*inputs, [[1.0, 1.0]])
  witness = certificate.witness._replace(multipliers=np.full((1, 1), 1.2e308))
  certificate = certificate._replace(witness=witness)
  certificate = certificate._replace(seals=seal(certificate))
  with pytest.raises(ValueError, match=r"`attackable` is .*, but the witness proves only inf"):
    collective.verify(*inputs, certificate, exact=exact)


def test_seals_and_digests_tell_apart_whatever_differs():
  """In value, type or shape: also the bytes of another order, and the middle of long texts."""

  def sealed(**change):
    return seal(CERTIFICATE._replace(**change)).tolist()

  worth = CERTIFICATE.targets.astype(np.int64)
  swapped = worth.view(worth.dtype.newbyteorder())  # the same bytes
  assert not (worth == swapped).all()
  texts = np.array([["optimal"] * 3000] * 3)
  other = texts.copy()
  other[:, 1500] = "interrupted"
  different = [
    sealed(),
    sealed(targets=worth),
    sealed(targets=swapped),
    sealed(targets=CERTIFICATE.targets[None]),
    sealed(caps=None),
    sealed(forfeit=2),
    sealed(integral=True),
    sealed(status=texts),
    sealed(status=other),
    sealed(attack=None),
  ]
  assert len({first for first, *_ in different}) == len(different)
  assert sealed(method="milp\0") != sealed(method="milp")
  assert sealed(status=CERTIFICATE.status.astype("<U99")) == sealed()  # the same texts, wider
  floats = INPUTS[2].astype(np.float64)
  digests = [
    digest(*arrays)
    for arrays in (
      (INPUTS[0], INPUTS[1], floats),
      (INPUTS[0], INPUTS[1], floats.view(np.int64)),
      (INPUTS[0], INPUTS[1], floats[None]),
      (INPUTS[0], INPUTS[1].astype(np.float64), floats),
    )
  ]
  assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("array", [np.arange(6), np.zeros((3, 2)), np.array(["a", "é"]), [True]])
def test_rows_are_hashed_as_they_are_alone(array):
  array = np.asarray(array)
  assert digests.fed_by_rows("x", array) == [digests.fed("x", row) for row in array]
  assert digests.fed_by_rows("x", array[:0]) == []
