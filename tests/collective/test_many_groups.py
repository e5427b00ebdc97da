"""Many groups that see few cells each: the envelope's LP against another, and what it costs."""

import numpy as np
import pytest
from scipy import optimize

from benchmarks import collective as benchmark
from lrs_jax import collective
from lrs_jax.collective import attacks, envelope, highs, methods
from lrs_jax.collective.problem import make_problem
from lrs_jax.soundness.tiny import Tiny, optimum


def mosaic(shape, reach, per_group, seed, *, std=(0.5,)):
  """Weights, groups and eta of blocks that see the blocks around them; eta has ties and a top."""
  rng = np.random.default_rng(seed)
  cell = np.argwhere(np.ones(shape))
  near = np.abs(cell[:, None] - cell).max(axis=-1) <= reach
  weights = near * rng.choice(std, (len(cell), 1)) ** -2.0
  eta = np.minimum(
    rng.integers(-1, 14, (len(cell), per_group)), rng.integers(1, 12, (len(cell), 1))
  )
  return weights, np.repeat(np.arange(len(cell)), per_group), eta.ravel() / 4


def sparse_problem(seed):
  """A few groups of a line, with everything that a problem may have."""
  rng = np.random.default_rng(seed)
  num_kinds, num_groups, num_cells = rng.integers(1, 3), rng.integers(1, 9), rng.integers(1, 9)
  middle = np.arange(num_groups)[:, None] * num_cells / num_groups
  near = np.abs(np.arange(num_cells) - middle) <= rng.choice([0.5, 1, 2, 20])
  weights = near * rng.choice([0.5, 1, 2, 4], (num_kinds, num_groups, rng.choice([1, num_cells])))
  integral = bool(rng.integers(2))
  weights[(rng.random(weights.shape) < 0.05) & (weights > 0)] = rng.choice([1, 3, np.inf])
  groups, eta = rng.integers(0, num_groups, 60), rng.integers(-1, 9, 60) / 2
  caps = rng.choice([0, 0.5, 1, 4], (num_kinds, num_cells)) if rng.random() < 0.5 else None
  budgets = np.sort(rng.choice([0, 0.5, 1, 2, 3, 5], (4, num_kinds)), axis=0)
  return Tiny(weights, groups, eta, budgets, None, caps, integral)


def reference(problem, index):
  """The LP's optimum from its definition: b, and any mixture of every group's points (eta, k)."""
  weights, groups, eta, budgets, _, caps, integral = problem
  weights, budget = weights.copy(), budgets[index]
  caps = np.full((weights.shape[0], weights.shape[2]), np.inf) if caps is None else caps
  if integral:
    budget, caps = np.floor(budget), np.floor(caps)
  upper = np.minimum(caps, budget[:, None])
  columns, gains, total = [], [], 0
  for g in range(weights.shape[1]):
    own = eta[(groups == g) & (eta > 0)]
    if integral:
      weights[:, g] = np.minimum(weights[:, g], own.max(initial=0.0) or 1.0)
    row = weights[:, g] = np.where(upper > 0, weights[:, g], 0.0)
    if np.isinf(row).any():
      total += own.size
      weights[:, g] = 0.0
      continue
    reach = 0.0
    for v, u, spare in zip(row, upper, budget, strict=True):
      for c in np.argsort(-v):
        reach, spare = reach + v[c] * min(u[c], spare), spare - min(u[c], spare)
    points = np.unique(own[own <= reach * (1 + 1e-12)])
    columns += [(g, 0.0), *((g, x) for x in points)]
    gains += [0.0, *((own <= x).sum() for x in points)]
  num_groups, size = weights.shape[1], upper.size
  owner, at = np.array([g for g, _ in columns], int), np.array([x for _, x in columns])
  member = (owner == np.arange(num_groups)[:, None]).astype(float)
  perceived = weights.transpose(1, 0, 2).reshape(num_groups, size)
  spent = np.kron(np.eye(len(budget)), np.ones(upper.shape[1]))
  if not gains:
    return total
  result = optimize.linprog(
    np.append(np.zeros(size), -np.array(gains)),
    np.block([[-perceived, member * at], [spent, np.zeros((len(budget), at.size))]]),
    np.append(np.zeros(num_groups), budget),
    np.hstack([np.zeros((num_groups, size)), member])[member.any(axis=1)],
    np.ones(int(member.any(axis=1).sum())),
    bounds=[(0, u) for u in upper.ravel()] + [(0, None)] * at.size,
  )
  return total - result.fun


@pytest.mark.parametrize("seed", range(60))
def test_equals_another_lp(seed):
  problem = sparse_problem(seed)
  certificate = collective.certify(*problem.inputs, problem.budgets, **problem.options)
  best = [reference(problem, i) for i in range(len(problem.budgets))]
  np.testing.assert_allclose(certificate.attackable, best, rtol=1e-9, atol=1e-9)
  collective.verify(*problem.inputs, certificate, exact=True)


@pytest.mark.parametrize("seed", range(30))
def test_bounds_what_enumeration_finds(seed):
  rng = np.random.default_rng(seed)
  weights, groups, eta = mosaic((1, 4), 1, 3, seed, std=(0.5, 1.0))
  integral = bool(seed % 2)
  caps = rng.integers(0, 3, (1, 4)).astype(float) if rng.random() < 0.5 else None
  problem = Tiny(weights[None], groups, eta, np.array([[1.0], [2.0]]), None, caps, integral)
  bounds = collective.certify(*problem.inputs, problem.budgets, **problem.options).attackable
  exact = collective.certify(*problem.inputs, problem.budgets, method="milp", gap=0.0,
                             **problem.options)  # fmt: skip
  for i in range(2):
    best = optimum(problem, i)
    assert best <= np.floor(bounds[i])
    assert best == np.floor(exact.attackable[i])


@pytest.mark.parametrize("many", [0, 1 << 30])
def test_rows_of_large_groups_change_nothing(monkeypatch, many):
  """Whether a multiplier is a column of its own or only the sum of its parts."""
  weights, groups, eta = mosaic((4, 6), 1, 40, 0, std=(0.5, 1.0))
  budgets = np.linspace(0, 4, 9)
  expected = collective.certify(weights, groups, eta, budgets).attackable
  monkeypatch.setattr(envelope, "_MANY_EDGES", many)
  found = collective.certify(weights, groups, eta, budgets)
  np.testing.assert_allclose(found.attackable, expected, rtol=1e-11)
  exact = collective.certify(weights[:6], groups[:240], eta[:240], [1.0], method="milp", gap=0.0)
  assert exact.gap[0] == 0


def test_cells_that_others_dominate_are_left_out():
  """At a border all that see a cell see the one inwards too; not where that one has a cap."""
  weights, groups, eta = mosaic((9, 12), 2, 5, 0)

  def kept(**options):
    arguments = {"budgets": [1.0, 9.0], "targets": None, "caps": None, "integral": False} | options
    return envelope.incidence_of(make_problem(weights, groups, eta, **arguments)[0])

  incidence = kept()
  np.testing.assert_array_equal(incidence.cells, np.arange(108).reshape(9, 12)[2:-2, 2:-2].ravel())
  assert incidence.rows.size == (weights[:, incidence.cells] > 0).sum()
  assert kept(caps=np.full(108, 9.0)).cells.size == incidence.cells.size
  assert kept(caps=np.full(108, 8.9)).cells.size == kept(integral=True).cells.size == 108
  weights[7] *= np.linspace(1, 2, 108)  # one group that perceives the first cells less
  weights[8] *= np.linspace(2, 1, 108)  # and one that perceives the last ones less
  assert incidence.cells.size < kept().cells.size < 108


def test_models_stay_sparse_and_start_where_the_last_one_ended(monkeypatch):
  models, starts, solve = [], [], highs.solve

  def recorded(solver, model, **options):
    models.append(model)
    starts.append(options["start"])
    return solve(solver, model, **options)

  monkeypatch.setattr(highs, "solve", recorded)
  weights, groups, eta = mosaic((12, 12), 2, 20, 0)
  collective.certify(weights, groups, eta, np.linspace(2, 6, 5))
  edges = sum(model.cost.size for model in models) / 5
  assert all(model.values.size <= edges * 26 for model in models)
  assert starts[0] is None
  for model, start in zip(models[1:], starts[1:], strict=True):
    assert start.primal.size == model.cost.size
    assert start.basis.valid


def test_going_on_takes_fewer_pivots_than_starting_anew(monkeypatch):
  """As it does not by the primal simplex, which needs 395 for one budget, and 65 by the dual."""
  pivots = []

  class Counting(highs._Silent):
    def run(self):
      status = super().run()
      pivots.append(self.getInfo().simplex_iteration_count)
      return status

  monkeypatch.setattr(highs, "_Silent", Counting)
  inputs = benchmark.mosaic((16, 20), 64, 1000)
  budgets = np.linspace(0, benchmark.last_budget(inputs), 25)
  pivots.clear()
  collective.certify(*inputs, budgets)
  together = pivots.copy()
  pivots.clear()
  for budget in budgets:
    collective.certify(*inputs, [budget])
  assert max(together) <= max(pivots)
  assert sum(together) < sum(pivots)


def test_a_wrong_start_changes_nothing(monkeypatch):
  weights, groups, eta = mosaic((5, 6), 1, 20, 0)
  budgets, solve = np.linspace(0, 8, 9), highs.solve
  expected = collective.certify(weights, groups, eta, budgets).attackable
  other = solve(highs.new_solver(), highs.Model(*np.ones((3, 2)), *np.ones((2, 1)),
                np.array([0, 1, 2]), np.zeros(2, int), np.ones(2)))  # fmt: skip
  for start in (None, other, highs.Solution("lost")):
    monkeypatch.setattr(highs, "solve", lambda *a, _s=start, **k: solve(*a, **(k | {"start": _s})))
    found = collective.certify(weights, groups, eta, budgets)
    np.testing.assert_allclose(found.attackable, expected, rtol=1e-11)


@pytest.mark.parametrize("caps", [None, 0.02])
def test_budgets_that_change_a_price_alone_are_solved_as_any_other(monkeypatch, caps):
  """Where all thresholds are within reach: their LP goes on, and others are built anew."""
  rng = np.random.default_rng(0)
  seen = np.abs(np.arange(16)[:, None] - np.arange(16)) <= 1
  weights, groups = seen * rng.uniform(4, 9, (16, 16)), np.repeat(np.arange(16), 20)
  eta = rng.random(320)
  budgets, repriced, kept = np.append(np.linspace(0.26, 0.5, 9), [0.1, 0.6]), methods.repriced, []

  def noted(*asked):
    kept.append(found := repriced(*asked))
    return found

  options = {"caps": None if caps is None else np.full(16, caps)}
  with monkeypatch.context() as patch:
    patch.setattr(methods, "repriced", noted)
    found = collective.certify(weights, groups, eta, budgets, **options)
  monkeypatch.setattr(methods, "repriced", lambda *_: None)
  expected = collective.certify(weights, groups, eta, budgets, **options)
  assert any(program is not None for program in kept) == (caps is None)
  assert kept[-1] is None  # too far from the others
  np.testing.assert_array_equal(found.certified, expected.certified)
  np.testing.assert_allclose(found.attackable, expected.attackable, rtol=1e-11)
  collective.verify(weights, groups, eta, found)


def test_no_attack_on_hundreds_of_groups_exceeds_the_bound():
  """Not those that the LP proposes, nor spending evenly in a lattice of cells."""
  weights, groups, eta = mosaic((15, 20), 2, 30, 0, std=(0.4, 0.6))
  budgets = np.linspace(0, 12, 7)
  certificate = collective.certify(weights, groups, eta, budgets)
  collective.verify(weights, groups, eta, certificate)
  problem, given = make_problem(weights, groups, eta, budgets, None, None, False)
  lattice = np.zeros((15, 20), bool)
  lattice[2::5, 2::5] = True
  for i, budget in enumerate(problem.budgets):
    for chosen in (lattice.ravel(), np.arange(300) == 150, np.ones(300, bool)):
      b = attacks.feasible(problem, budget, chosen[None] * budget / chosen.sum())
      assert attacks.outputs(problem, given, budget, b).sum() <= certificate.attackable[i]
  assert (np.diff(certificate.certified) < 0).all()
  assert certificate.certified[-1] == 0 or certificate.certified[-1] < certificate.certified[0] / 4


def test_the_exact_method_keeps_models_sparse_and_is_never_looser(monkeypatch):
  """Its MILPs too: as dense arrays they would have a thousand times as many entries."""
  models, solve = [], highs.solve

  def recorded(solver, model, **options):
    models.append(model)
    return solve(solver, model, **options)

  monkeypatch.setattr(highs, "solve", recorded)
  weights, groups, eta = mosaic((15, 20), 2, 30, 0, std=(0.4, 0.6))
  envelope_only = collective.certify(weights, groups, eta, [3.0])
  certificate = collective.certify(weights, groups, eta, [3.0], method="milp", time_limit=3.0)
  collective.verify(weights, groups, eta, certificate)
  assert envelope_only.certified[0] <= certificate.certified[0]
  assert certificate.attack.num_attacked[0] <= certificate.attackable[0]
  whole = [model for model in models if model.integer is not None]
  assert whole
  assert all(m.values.size < 20 * m.cost.size for m in whole)
