"""The sparse sampler is the dense Bernoulli sampler's distribution, at the cost of the ones."""

import bisect
from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.sharding import Mesh
from scipy import sparse, stats

from lrs_jax import noise, sampling
from lrs_jax.cells import clusters
from lrs_jax.sampling import scores, sparse_flips
from lrs_jax.tasks.graph_training import head_of
from lrs_jax.tasks.models import gnn

EYE = np.eye(4, dtype=np.float32)  # the product with it is the noisy attributes themselves
X = np.array([[1, 0, 0, 1], [0, 0, 1, 0]], np.float32)
PLUS = np.array([[0.3, 0.05], [0.1, 0.3], [0.3, 0.0]])
MINUS = np.array([[0.6, 0.2], [0.6, 0.0], [0.95, 0.5]])


def toy_plan(plus=PLUS, minus=MINUS, x=X, cells=((0,), (1,))):
  levels = noise.flips(plus, minus, np.asarray(cells))
  return sparse_flips.plan_flips(sparse.csr_array(x), levels), levels


@partial(jax.jit, static_argnames="sizes")
def products(keys, arrays, kernel, sizes):
  return jax.lax.map(lambda key: sparse_flips.flipped_products(key, arrays, sizes, kernel), keys)


def draw(plan, num_samples, seed=0, kernel=EYE):
  keys = jax.random.split(jax.random.key(seed), num_samples)
  drawn, overflow = products(keys, plan.arrays, jnp.asarray(kernel), plan.sizes)
  assert not overflow.any()
  return np.asarray(drawn)  # [S, N, G, D]


def pattern_probabilities(x, plus, minus):
  """Exact probabilities of all 2^8 noisy inputs of a toy, for levels per node."""
  flip = np.where(x != 0, minus[:, None], plus[:, None]).ravel()
  one = np.where(x.ravel() != 0, 1 - flip, flip)
  bits = (np.arange(2**x.size)[:, None] >> np.arange(x.size)) & 1
  return np.where(bits == 1, one, 1 - one).prod(axis=1)


def chi_squared_p_value(drawn, probabilities):
  patterns = (drawn.reshape(len(drawn), -1).astype(int) << np.arange(8)).sum(axis=1)
  observed = np.bincount(patterns, minlength=2**8)
  assert observed[probabilities == 0].sum() == 0
  order = np.argsort(probabilities)  # merge rare patterns until each bin expects 10
  bins = np.floor(np.cumsum(probabilities[order]) * len(drawn) / 10).astype(int)
  expected = np.bincount(bins, probabilities[order]) * len(drawn)
  found = np.bincount(bins, observed[order])
  keep = expected > 5
  return stats.chisquare(found[keep], expected[keep] * found[keep].sum() / expected[keep].sum())[1]


def test_joint_distribution_is_the_bernoulli_one():
  plan, _ = toy_plan()
  drawn = draw(plan, 20_000)
  for g in range(3):
    wanted = pattern_probabilities(X, PLUS[g], MINUS[g])
    assert chi_squared_p_value(drawn[:, :, g], wanted) > 1e-4
    other = pattern_probabilities(X, PLUS[g] + 0.02, MINUS[g])
    assert chi_squared_p_value(drawn[:, :, g], np.where(wanted > 0, other, 0)) < 1e-4  # it can fail


@pytest.mark.parametrize("theta", [0.002, 0.02, 0.06])
def test_gaps_that_leave_a_short_block(theta):
  """Most gaps are longer than all eight entries: the rest of them must not fall inside."""
  x = np.zeros((2, 4), np.float32)
  plan, _ = toy_plan([[theta]], [[0.0]], x, [[0], [0]])
  drawn = draw(plan, 20_000)[:, :, 0]
  error = 5 * np.sqrt(theta / 20_000)
  assert abs(drawn.mean(axis=0) - theta).max() < error
  assert abs((drawn.sum(axis=(1, 2)) == 0).mean() - (1 - theta) ** 8) < 5 * np.sqrt(8) * error


def test_same_distribution_as_the_dense_sampler():
  plan, levels = toy_plan()
  sparse_draws = draw(plan, 10_000)
  keys = jax.random.split(jax.random.key(7), 10_000)
  dense_draws = jax.jit(
    jax.vmap(lambda key, g: noise.sample(key, levels, jnp.asarray(X), g), in_axes=(0, None))
  )
  for g in range(3):
    dense = dense_draws(keys, g)
    both = [
      np.bincount((np.asarray(z).reshape(-1, 8).astype(int) << np.arange(8)).sum(axis=1), None, 256)
      for z in (sparse_draws[:, :, g], dense)
    ]
    table = np.array(both)[:, np.sum(both, axis=0) > 10]
    assert stats.chi2_contingency(table)[1] > 1e-4


def test_groups_see_nested_noise_and_level_zero_nothing():
  drawn = draw(toy_plan()[0], 2_000)
  ones, zeros = X != 0, X == 0
  # node 0 loses its ones in group 2 (0.95) whenever it loses them in group 0 (0.6)
  assert (drawn[:, 0, 2][:, ones[0]] <= drawn[:, 0, 0][:, ones[0]]).all()
  # and gains its zeros in group 0 (0.3) whenever it gains them in group 1 (0.1)
  assert (drawn[:, 0, 0][:, zeros[0]] >= drawn[:, 0, 1][:, zeros[0]]).all()
  assert (drawn[:, 1, 1][:, ones[1]] == 1).all()  # theta_minus = 0
  assert (drawn[:, 1, 2][:, zeros[1]] == 0).all()  # theta_plus = 0


THETAS = [1e-5, 0.001, 0.01, 0.1, 0.9, 1 - 2.0**-32]


def numbers(scale, which):
  """A table as 64-bit integers, up to the first 0."""
  high, low = scale.high[which].tolist(), scale.low[which].tolist()
  found = [h << 32 | l for h, l in zip(high, low, strict=True)]
  return found[: found.index(0) + 1]


@pytest.mark.parametrize("theta", THETAS)
def test_gaps_are_geometric_to_sixty_four_bits(theta):
  """Before, 32 bits and float32 made the total variation of a Citeseer's flips up to 1.4e-4."""
  theta = round(theta * 2**32) / 2**32
  scale = sparse_flips.gap_scale(theta)
  m = int(scale.stride)
  with mpmath.workprec(200):
    survive = 1 - mpmath.mpf(theta)
    for table, exact in (
      (numbers(scale, 0), lambda j: survive ** (m * j)),
      (numbers(scale, 1), lambda r: (survive**r - survive**m) / (1 - survive**m)),
    ):
      assert table[0] == 2**64 - 1
      assert exact(len(table) - 1) < 2.0**-65 * 1.01
      some = np.unique(np.linspace(1, len(table) - 1, 200).astype(int)).tolist()
      worst = max(abs(table[j] / mpmath.mpf(2) ** 64 - exact(j)) for j in some)
      assert worst <= 1.01 * 2.0**-65
  entries = 2110 * 3703
  drawn = sparse_flips._capacity(entries, theta, 8.0)
  choices = scale.high.size
  assert drawn * choices * 2.0**-65 < 1e-10 * max(1, theta / 0.01)


@pytest.mark.parametrize("theta", THETAS)
def test_the_table_decides_not_the_guess(theta):
  """Words around every boundary are read as exact integers are compared."""
  scale = sparse_flips.gap_scale(round(theta * 2**32) / 2**32)
  rng = np.random.default_rng(0)
  m, most = int(scale.stride), sparse_flips.MAX_BLOCK + 1
  read = jax.jit(lambda words: sparse_flips.gaps(words, scale, most) - 1)
  for which in (0, 2):
    table = numbers(scale, which // 2)
    near = rng.choice(np.arange(1, len(table)), min(len(table) - 1, 300), replace=False)
    values = [table[j] + d for j in near for d in (-1, 0, 1)] + [0, 1, 2**63, 2**64 - 2]
    values += [int(v) for v in rng.integers(0, 2**63, 1000)]
    values = [v for v in values if 0 <= v < 2**64 - 1]
    words = np.full((4, len(values)), 2**32 - 1, np.uint32)  # the other one is 0
    words[which], words[which + 1] = zip(*((v >> 32, v & 0xFFFFFFFF) for v in values), strict=True)
    rising = table[:0:-1]  # of j = J - 1, ..., 1
    wanted = np.array([len(rising) - bisect.bisect_right(rising, v) for v in values])
    wanted = np.minimum(wanted * m if which == 0 else wanted, most - 1)
    np.testing.assert_array_equal(np.asarray(read(jnp.asarray(words))), wanted)


def test_row_of_a_long_stream_is_uniform_over_zeros():
  """Blocks of several nodes, several blocks, the last one not full."""
  x = np.zeros((7, 5), np.float32)
  x[2] = 1
  plan, _ = toy_plan([[0.2]], [[0.0]], x, np.zeros((7, 1), int))
  assert plan.sizes == (7, 5, 1, 7, 35)
  sizes = plan.sizes._replace(blocks=3, block_nodes=3, capacity=15)
  plan = plan._replace(sizes=sizes)
  drawn = draw(plan, 8_000, kernel=np.eye(5, dtype=np.float32))[:, :, 0]
  assert (drawn[:, 2] == 1).all()
  rate = np.delete(drawn, 2, axis=1).mean(axis=0)
  assert abs(rate - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 8_000)


def test_positions_never_overflow():
  """Streams are cut shorter where many deviations of few, long gaps could pass 2^31."""
  nodes, attributes = 4_000, 2_000
  flips = noise.flips([[3e-6]], [[0.5]], np.zeros((nodes, 1), int))
  sizes = sparse_flips.plan_flips(
    sparse.csr_array((nodes, attributes)), flips, deviations=30.0
  ).sizes
  assert sizes.capacity * sizes.block_nodes * attributes < 2**31
  assert sizes.blocks * sizes.block_nodes >= nodes
  assert sizes.blocks > 1


def test_overflow_is_detected_and_an_error():
  rng = np.random.default_rng(0)
  x = (rng.random((6, 40)) < 0.2).astype(np.float32)
  plan, _ = toy_plan([[0.5]], [[0.5]], x, np.zeros((6, 1), int))
  small = plan._replace(sizes=plan.sizes._replace(capacity=60))
  with pytest.raises(OverflowError, match="larger `deviations`"):
    sparse_flips.class_sums(
      jax.random.key(0), take_two, None, jnp.ones((40, 2)), small, np.zeros(6, int), 20
    )


def take_two(params, product):
  return product[..., :2]


def linear_job(num_samples, **options):
  rng = np.random.default_rng(0)
  x = (rng.random((9, 30)) < 0.3).astype(np.float32)
  cells = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
  levels = noise.flips(
    np.full((3, 3), 0.05),
    np.array([[0.3, 0.6, 0.9], [0.6, 0.3, 0.9], [0.6, 0.9, 0.3]]),
    cells[:, None],
  )
  kernel = jnp.asarray(rng.integers(-2, 3, (30, 4)), jnp.float32)  # whole numbers: no rounding
  plan = sparse_flips.plan_flips(sparse.csr_array(x), levels)
  sums = sparse_flips.class_sums(
    jax.random.key(3), take_all, None, kernel, plan, cells, num_samples, **options
  )
  return sums, (x, kernel, levels, cells)


def take_all(params, product):
  return product * 0.25


@pytest.mark.eight_devices
def test_sums_do_not_depend_on_chunks_pieces_or_devices(monkeypatch):
  whole, _ = linear_job(50, chunk_size=1)
  one_device = Mesh(np.array(jax.devices()[:1]), ("samples",))
  for other in (
    linear_job(50, chunk_size=4, mesh=one_device)[0],
    jax.tree.map(np.add, linear_job(30)[0], linear_job(20, first_sample=30)[0]),
  ):
    jax.tree.map(np.testing.assert_array_equal, whole, other)
  monkeypatch.setattr(scores, "MAX_PIECE", 16)
  jax.tree.map(np.testing.assert_array_equal, whole, linear_job(50)[0])
  assert (whole.votes.sum(axis=1) == 50).all()
  assert linear_job(0)[0].votes.sum() == 0


def test_sums_agree_with_dense_sampling():
  sums, (x, kernel, levels, cells) = linear_job(4_000)
  dense = sampling.vote_counts(
    jax.random.key(9), lambda params, z: 0.25 * z @ params, kernel, x, levels, cells, 4_000,
    num_classes=4,
  )  # fmt: skip
  rate, other = sums.votes / 4_000, np.asarray(dense) / 4_000
  assert abs(rate - other).max() < 5 * np.sqrt(2 * 0.25 / 4_000)
  # scores: the same model by hand, on fresh dense draws
  keys = jax.random.split(jax.random.key(10), 4_000)

  @jax.jit
  @partial(jax.vmap, in_axes=(0, None))
  def scores_of(key, g):
    noisy = noise.sample(key, levels, jnp.asarray(x), g)
    return jnp.floor(jax.nn.softmax(noisy @ kernel * 0.25) * 255)

  for g in range(3):
    score = np.asarray(scores_of(keys, g))[:, cells == g]
    for power, total in ((1, sums.scores), (2, sums.squares)):
      spread = (score**power).std(axis=0) * np.sqrt(2 / 4_000)
      assert (
        abs(total[cells == g] / 4_000 - (score**power).mean(axis=0)) < 5.5 * spread + 1e-9
      ).all()


def test_permuted_clusters_sample_and_certify_alike():
  """Levels that sample and weights that certify move together when clusters are renumbered."""
  rng = np.random.default_rng(0)
  x = (rng.random((9, 4)) < 0.5).astype(np.float32)
  cells = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
  ranks = clusters.affinity_ranks(rng.random((3, 3)))
  plus, minus = clusters.levels_by_rank(ranks, 0.01, 0.1), clusters.levels_by_rank(ranks, 0.6, 0.9)
  order = np.array([2, 0, 1])  # new cluster i is old cluster order[i]
  renamed = np.argsort(order)[cells]
  plan, levels = toy_plan(plus, minus, x, cells[:, None])
  plan_p, levels_p = toy_plan(plus[order][:, order], minus[order][:, order], x, renamed[:, None])
  drawn, drawn_p = draw(plan, 50), draw(plan_p, 50)
  np.testing.assert_array_equal(drawn[:, :, order], drawn_p)
  np.testing.assert_array_equal(levels.weights[:, order][:, :, order], levels_p.weights)
  # weights in the order of an argsort instead of the ranks belong to other noise
  ordering = np.argsort(ranks, axis=1)
  assert (levels.weights != noise.flips(
    clusters.levels_by_rank(ordering, 0.01, 0.1), clusters.levels_by_rank(ordering, 0.6, 0.9),
    cells[:, None],
  ).weights).any()  # fmt: skip


def test_hidden_cells_show_nothing():
  plan, levels = toy_plan([[0.2, 0.0], [0.0, 0.2]], [[0.5, 1.0], [1.0, 0.5]])
  drawn = draw(plan, 500)
  assert (drawn[:, 1, 0] == 0).all()
  assert (drawn[:, 0, 1] == 0).all()
  assert (levels.weights[:, [0, 1], [1, 0]] == 0).all()


def test_gather_sum_and_its_gradient():
  rng = np.random.default_rng(0)
  columns, segments = rng.integers(0, 6, 40), rng.integers(0, 4, 40)  # segment 3 is discarded
  kernel, weight = rng.normal(size=(6, 3)), rng.normal(size=(3, 3))
  select = np.zeros((4, 6))
  np.add.at(select, (segments, columns), 1)
  args = jnp.asarray(columns, jnp.int32), jnp.asarray(segments, jnp.int32)

  def loss(kernel):
    return (sparse_flips.gather_sum(kernel, *args, 3) * jnp.asarray(weight, jnp.float32)).sum()

  value = sparse_flips.gather_sum(jnp.asarray(kernel, jnp.float32), *args, 3)
  np.testing.assert_allclose(value, select[:3] @ kernel, atol=1e-5)
  grad = jax.jit(jax.grad(loss))(jnp.asarray(kernel, jnp.float32))
  np.testing.assert_allclose(grad, select[:3].T @ weight, atol=1e-5)


def test_lowers_for_tpu_and_gpu():
  plan, _ = toy_plan()

  def sample(key_data, arrays, kernel):
    key = jax.random.wrap_key_data(key_data)
    return sparse_flips.flipped_products(key, arrays, plan.sizes, kernel)

  exported = jax.export.export(jax.jit(sample), platforms=("cpu", "cuda", "tpu"))(
    jax.random.key_data(jax.random.key(0)), plan.arrays, jnp.asarray(EYE)
  )
  assert set(exported.platforms) == {"cpu", "cuda", "tpu"}


def test_never_an_array_of_all_entries():
  nodes, attributes = 500, 1000
  x = sparse.csr_array(np.random.default_rng(0).random((nodes, attributes)) < 0.01, dtype=float)
  levels = noise.flips([[0.01]], [[0.6]], np.zeros((nodes, 1), int))
  plan = sparse_flips.plan_flips(x, levels)
  kernel = jnp.zeros((attributes, 8))
  lowered = jax.jit(sparse_flips.flipped_products, static_argnums=2).lower(
    jax.random.key(0), plan.arrays, plan.sizes, kernel
  )
  memory = lowered.compile().memory_analysis()
  assert memory.temp_size_in_bytes < nodes * attributes  # not even one byte per entry


def test_bad_input_is_named():
  flips = noise.flips([[0.1]], [[0.5]], np.zeros((2, 1), int))
  with pytest.raises(ValueError, match=r"0 or 1, but one of them is 0\.5"):
    sparse_flips.plan_flips(sparse.csr_array(X * 0.5), flips)
  with pytest.raises(ValueError, match=r"\[N, 1\] = \(2, 1\)"):
    sparse_flips.plan_flips(
      sparse.csr_array(X), noise.flips([[0.1]], [[0.5]], np.zeros((2, 3), int))
    )
  per_entry = noise.flips([[0.1]], [[0.5]], np.zeros((2, 4), int))
  with pytest.raises(ValueError, match=r"one cell for each node, but they have shape \(2, 4\)"):
    sparse_flips.class_sums(
      jax.random.key(0), lambda params, product: product, None, jnp.asarray(EYE),
      sparse_flips.plan_flips(sparse.csr_array(X), per_entry), np.zeros(2, int), 1,
    )  # fmt: skip
  with pytest.raises(ValueError, match="gaussian"):
    sparse_flips.plan_flips(sparse.csr_array(X), noise.gaussian([[1.0]], np.zeros((2, 1), int)))
  plan, _ = toy_plan()
  args = jax.random.key(0), take_all, None
  with pytest.raises(ValueError, match="`groups` must have shape"):
    sparse_flips.class_sums(*args, jnp.asarray(EYE), plan, np.zeros(3, int), 1)
  with pytest.raises(ValueError, match="range from 0 to 3"):
    sparse_flips.class_sums(*args, jnp.asarray(EYE), plan, np.array([0, 3]), 1)
  with pytest.raises(ValueError, match="each of the 4 attributes"):
    sparse_flips.class_sums(*args, jnp.ones((3, 4)), plan, np.array([0, 1]), 1)
  with pytest.raises(ValueError, match="at least 0"):
    sparse_flips.class_sums(*args, jnp.asarray(EYE), plan, np.array([0, 1]), -1)


def test_one_node_no_edges_and_no_attributes():
  plan, _ = toy_plan([[0.1]], [[0.5]], np.zeros((1, 3), np.float32), [[0]])
  model = gnn.make_model("gcn", 3, 2)
  edges = gnn.normalized_edges(sparse.csr_array((1, 1)))
  variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 3), jnp.float32), edges)
  sums = sparse_flips.class_sums(
    jax.random.key(0),
    head_of(model),
    (variables, edges),
    variables["params"]["first_kernel"],
    plan,
    np.zeros(1, int),
    10,
  )
  assert sums.votes.sum() == 10
