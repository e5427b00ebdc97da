"""The check of records in one file of plain Python: it agrees with `verify`, by code of its own."""

import ast
import runpy
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lrs_jax import noise, storage
from lrs_jax.collective.problem import make_problem
from lrs_jax.collective.witness import evaluate_exactly, tree
from lrs_jax.confidence import bounds
from lrs_jax.jobs import records
from lrs_jax.jobs.records import Bounds
from lrs_jax.tasks import common
from lrs_jax.tasks.task import Smoothing
from tests.making import ball, graph_record, image_record, recertified, votes

FILE = Path(__file__).parents[1] / "docs" / "check_record.py"
CHECK = runpy.run_path(str(FILE))


def ablation(scales, cells):
  return noise.ablation(np.asarray(scales) / 2, cells, fill=np.nan)


def larger_record(statistics=("votes", "margins"), options=None, k_fwer=0.0, family=noise.gaussian):
  """Sixty outputs of three classes, in three groups of four cells, one of which is hidden."""
  rng, options = np.random.default_rng(0), options or {"envelope": {}, "milp": {"gap": 0.0}}
  likely = rng.dirichlet((6.0, 0.6, 0.6), 60)
  sums = [votes(rng.multinomial(n, likely), n) for n in (100, 1000)]
  scale = 0.1 + rng.random((3, 4))
  scale[0, 3] = np.inf
  distribution = family(scale, np.arange(4))
  names = common.certificates_of(tuple(options), targets=("all",))
  smoothing = Smoothing("certificate", distribution, np.arange(60) % 3, names)
  against = ball(distribution, (0.0, 0.05, 0.1, 0.2, 0.3))
  how = Bounds(0.01, k_fwer, statistics)
  return records.make_record("images", smoothing, sums, how, against, methods=options)


def on_grid(family):
  return lambda *given: noise.on_grid(family(*given), 1 / 255)


RECORDS = {
  "gaussian": image_record,
  "exact noise": lambda: image_record(on_grid(noise.gaussian)),
  "exact margins": lambda: larger_record(options={"envelope": {}}, family=on_grid(noise.gaussian)),
  "margins and trees": larger_record,
  "laplace": lambda: image_record(noise.laplace),
  "uniform": lambda: image_record(noise.uniform),
  "ablation": lambda: image_record(ablation, options={"envelope": {}, "naive": {}}),
  "k-FWER": lambda: larger_record(k_fwer=0.1, options={"envelope": {}}),
  "scores": graph_record,
  "trees of whole numbers": lambda: graph_record(names=("all/milp", "correct/envelope@2")),
  "mixed": lambda: graph_record(
    ("votes", "mixed", "kl"), ("all/envelope@0.6", "all/envelope@1000")
  ),
}


def write(path, arrays):
  arrays = {name: array for name, array in arrays.items() if name != "digest"}
  np.savez(path, **arrays, digest=np.asarray(storage.digest(arrays)))
  return path


def refusal(path, capsys):
  """What the script says of a file, or nothing if it holds."""
  status = CHECK["main"]([str(path)])
  told = capsys.readouterr().out
  assert ("REFUSED" in told) == bool(status)
  return told.partition("REFUSED: ")[2].strip()


def test_it_needs_nothing_but_the_standard_library():
  nodes = list(ast.walk(ast.parse(FILE.read_text())))
  found = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
  found |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
  assert {name.partition(".")[0] for name in found} <= sys.stdlib_module_names


def test_records_have_what_there_is_to_check():
  record = RECORDS["margins and trees"]()
  assert set(record.base.method) == {"votes", "margins"}
  assert (record.certified["all/milp"].witness.variables >= 0).any()
  assert record.base.forfeit == 0 < RECORDS["k-FWER"]().base.forfeit
  whole = RECORDS["trees of whole numbers"]().certified["all/milp"]
  assert (whole.witness.variables >= 2).any()
  assert set(RECORDS["mixed"]().base.method) == {"votes", "mixed"}


@pytest.mark.parametrize("kind", RECORDS)
def test_records_that_verify_proves_hold(kind, tmp_path, capsys):
  record = RECORDS[kind]()
  records.verify(record, exact=True)
  records.save(tmp_path / "record.npz", record)
  assert refusal(tmp_path / "record.npz", capsys) == ""
  fortran = {name: np.asfortranarray(a) for name, a in records.to_arrays(record).items()}
  assert refusal(write(tmp_path / "fortran.npz", fortran), capsys) == ""


@pytest.mark.parametrize("kind", RECORDS)
def test_what_a_witness_proves_is_the_same_fraction(kind, tmp_path, capsys):
  """Just under what rational arithmetic in the package says it is refused, above it is not."""
  record = RECORDS[kind]()
  for name, certificate in record.certified.items():
    weights, eta = records.weights_and_eta(record, name)
    given = certificate.budgets, certificate.targets, certificate.caps, certificate.integral
    problem, _ = make_problem(weights, record.groups, eta, *given)
    for i in range(len(certificate.budgets)):
      exact = evaluate_exactly(problem, certificate.witness, i)
      if not 0 < exact < problem.num_targets:
        continue
      above = float(exact)
      above = above if Fraction(above) >= exact else np.nextafter(above, np.inf)
      for attackable, wrong in ((above, False), (np.nextafter(above, 0), True)):
        attackables = certificate.attackable.copy()
        attackables[i] = attackable
        weaker = certificate._replace(attackable=attackables, certified=0 * certificate.certified)
        changed = record._replace(certified={name: weaker})
        path = write(tmp_path / "changed.npz", records.to_arrays(changed))
        assert bool(refusal(path, capsys)) == (wrong and Fraction(attackable) < exact)
      break  # one budget of every certificate


@pytest.mark.parametrize("integral", [False, True])
def test_any_tree_and_multipliers_prove_the_same_fraction(integral):
  """Made up ones, with negative multipliers, empty leaves and caps."""
  rng, several = np.random.default_rng(0), 0
  for _ in range(40):
    kinds, size, cells = rng.integers(1, 4, 3)
    weights = rng.integers(0, 9, (kinds, size, cells)) / 4
    groups, eta = rng.integers(0, size, 12), rng.integers(0, 20, 12) / 2
    budget, caps = rng.integers(0, 5, kinds) * 1.0, rng.integers(0, 4, (kinds, cells)) * 1.0
    variables = [0, -1, int(rng.integers(0, size + integral * kinds * cells)), -1, -1]
    values, multipliers = rng.integers(0, 9, 5) / 2, rng.integers(-2, 9, (3, size)) / 8
    ours, _ = make_problem(weights, groups, eta, budget[None], None, caps, integral)
    witness = tree(variables, values.tolist(), list(multipliers))
    right = evaluate_exactly(ours, witness, 0)
    fall = [dict(Counter(eta[(groups == g) & (eta > 0)].tolist())) for g in range(size)]
    numbers = [*budget.tolist(), *values.tolist(), *multipliers.ravel().tolist()]
    problem = CHECK["make_problem"](weights.tolist(), fall, caps.tolist(), integral, numbers)
    whole = [int(b * problem.unit) for b in budget]
    prices = iter((multipliers * problem.unit).astype(int).tolist())
    leaves = CHECK["leaves"](problem, variables, values.tolist())
    found = [CHECK["leaf_bound"](problem, whole, leaf, next(prices)) for leaf in leaves]
    assert Fraction(max(found), problem.unit**3) == max(right, 0)
    several += 0 < right < 12
  assert several > 10


def forgeries():
  """Stronger than what follows: (what, a record that is certified again from there on)."""
  image, graph = image_record(), graph_record()
  for record in (image, graph):
    base, task = record.base, record.task
    most = record.estimation.votes.copy()
    most[4] = [1000, 1]
    yield f"{task} votes", record._replace(estimation=record.estimation._replace(votes=most))
    for field, factor in (("q_lower", 1 + 3e-10), ("eta", 1 + 1e-9), ("weights", 1 - 1e-9)):
      changed = base._replace(**{field: getattr(base, field) * factor})
      yield f"{task} {field}", recertified(record, base=changed)
    yield f"{task} labels", record._replace(base=base._replace(labels=1 - base.labels))
    yield f"{task} alpha", record._replace(bounds=record.bounds._replace(alpha=0.001))
    yield f"{task} forfeit", recertified(record, base=base._replace(forfeit=1))
    for name, certificate in record.certified.items():
      more = certificate._replace(certified=certificate.certified + (certificate.certified > 0))
      yield f"{task} {name}", record._replace(certified={name: more})
  ball = image.adversary
  yield "budgets", recertified(image, adversary=ball._replace(budgets=ball.budgets * (1 - 1e-9)))
  yield "radii", image._replace(adversary=ball._replace(radii=ball.radii * 1.1))
  yield "integral", recertified(image, adversary=ball._replace(integral=True))
  yield "caps", recertified(image, adversary=ball._replace(caps=np.full((1, 2), 0.01)))
  caps = graph.adversary._replace(caps=graph.adversary.caps + 1)
  yield "higher caps", graph._replace(adversary=caps)
  yield "variance", recertified(graph, base=graph.base._replace(
    variance_upper=graph.base.variance_upper * (1 - 1e-9), eta=graph.base.eta))  # fmt: skip
  other = np.where(graph.base.method == "votes", "kl", "votes")
  yield "statistic", graph._replace(base=graph.base._replace(method=other))
  pair = graph.pairs["2"]
  for field, factor in (("eta", 1 + 1e-9), ("weights", 1 - 1e-9)):
    pairs = {**graph.pairs, "2": pair._replace(**{field: getattr(pair, field) * factor})}
    yield f"order {field}", recertified(graph, pairs=pairs)
  base = larger_record().base
  other = np.where(base.method == "votes", "margins", "votes")
  yield "margins", larger_record()._replace(base=base._replace(method=other))
  yield "same samples", image._replace(selection=image.estimation)
  yield "until", image._replace(meta={"job": {**image.meta["job"], "until": [0.5, 0.1]}})
  yield "keys", image._replace(meta={**image.meta, "keys": {"selection": [1], "estimation": [1]}})
  yield "nothing", image._replace(certified={})


def test_what_is_too_strong_is_refused_by_both(tmp_path, capsys):
  for what, record in forgeries():
    with pytest.raises(ValueError):  # noqa: PT011 (test_tampering looks at what it says)
      records.verify(record)
    path = write(tmp_path / "forged.npz", records.to_arrays(record))
    assert refusal(path, capsys), what


def test_noise_that_cannot_be_has_no_price(tmp_path, capsys):
  """Formulas would give prices of 0 or less, under which nothing could be attacked."""
  for family, level in ((noise.laplace, -1.0), (noise.gaussian, 0.0), (ablation, 1.5)):
    record = image_record(family, options={"naive": {}})
    free = recertified(record, base=record.base._replace(weights=record.base.weights * 0))
    arrays = records.to_arrays(free)
    arrays["noise/parameters"] = np.full_like(arrays["noise/parameters"], level)
    assert "there is no" in refusal(write(tmp_path / "free.npz", arrays), capsys)


def test_bounds_are_those_of_other_code():
  """Of SciPy, which is good to 1e-11: never above it, and not below by more."""
  for n, level in ((10, 0.01), (1000, 1e-6), (20_000, 1e-8)):
    for k in (0, 1, n // 3, n // 2 + 1, n - 1, n):
      found = CHECK["clopper_pearson"](k, n, Fraction(level))
      assert np.isclose(found, bounds.clopper_pearson_lower(k, n, level), rtol=2e-11, atol=0)
  with CHECK["localcontext"](prec=60):
    for p in (1e-9, 0.3, 0.5, 0.7, 1 - 1e-9):
      z = CHECK["quantile"](p)
      assert 0 <= CHECK["Decimal"](p) - CHECK["normal"](z) < 1e-12


def test_a_file_that_is_none_keeps_no_other_from_being_checked(tmp_path, capsys):
  (tmp_path / "a").mkdir()
  (tmp_path / "a" / "a.npz").write_text("text")
  records.save(tmp_path / "a" / "b.npz", image_record())
  assert CHECK["main"]([str(tmp_path)]) == 1
  told = capsys.readouterr().out
  assert told.count("REFUSED") == told.count(": holds") == 1


def test_thresholds_of_real_noise_are_too_high_for_exact_noise(tmp_path, capsys):
  exact, real = RECORDS["exact noise"](), RECORDS["gaussian"]()
  forged = recertified(exact, base=exact.base._replace(eta=real.base.eta))
  records.save(tmp_path / "record.npz", forged)
  assert "does not follow" in refusal(tmp_path / "record.npz", capsys)
  with pytest.raises(ValueError, match="does not follow"):
    records.verify(forged)
