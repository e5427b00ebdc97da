"""The front door gives what the functions behind it give, and what it gives can be proven again."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import lrs_jax
from lrs_jax import collective, errors, keys, noise, sampling
from lrs_jax.cells import locality, partition, views
from lrs_jax.cli import main
from lrs_jax.confidence import certificates, planning
from lrs_jax.jobs import records

KEY = jax.random.key(7)
X = np.random.default_rng(0).random((8, 12, 3)).astype(np.float32)
GRID = partition.image_grid((8, 12), (2, 3))
FRACTION = locality.fraction_of_grid(locality.chebyshev_distances((2, 3)))
NOISE = noise.gaussian(locality.interpolate_std(FRACTION, 0.2, 1.0), GRID[..., None])
RADII = np.linspace(0, 1, 6)


def bright(params, x):
  gray = x.mean(axis=-1)
  return jnp.stack([gray - params, params - gray], axis=-1)


HALF = np.float32(0.5)


def certified_image(**options):
  return lrs_jax.certify(
    KEY, bright, HALF, X, NOISE, GRID, options.pop("radii", RADII), **{"check": False, **options}
  )


IMAGE = certified_image()


def test_the_same_as_step_by_step():
  selection, counts = (
    sampling.vote_counts(
      keys.tagged(KEY, name), bright, HALF, X, NOISE, GRID.ravel(), number, num_classes=2
    )
    for name, number in (("selection", 100), ("estimation", 1000))
  )
  base = certificates.from_votes(NOISE, GRID.ravel(), selection, counts, alpha=0.01)
  proof = collective.certify(
    base.weights, base.groups, base.eta, noise.budgets_from_radii(RADII, 2)
  )
  np.testing.assert_array_equal(IMAGE.certified, proof.certified)
  np.testing.assert_array_equal(IMAGE.base.eta, base.eta)
  np.testing.assert_array_equal(IMAGE.labels, np.where(base.eta > 0, base.labels, -1))
  np.testing.assert_array_equal(IMAGE.estimation.counts, counts)
  assert (IMAGE.shape, IMAGE.estimation.num_samples) == ((8, 12), 1000)
  assert 0 < IMAGE.certified[-2] < IMAGE.certified[0] == (IMAGE.labels >= 0).sum() < 96


def test_what_unanimous_votes_certify():
  """One output whose label every sample agrees about survives up to a radius known beforehand."""

  def apply(params, x):
    return jnp.stack([jnp.zeros_like(x), jnp.ones_like(x)], axis=-1)

  gaussian = noise.gaussian([[0.5]], [0])
  reach = 0.5 * np.sqrt(planning.reachable_eta(gaussian, 1000, num_outputs=1, alpha=0.01))
  certified = lrs_jax.certify(
    KEY, apply, None, np.zeros(1, np.float32), gaussian, [0], [0, reach * 0.999, reach * 1.001],
    check=False,
  )  # fmt: skip
  assert certified.certified.tolist() == [1, 1, 0]
  assert certified.labels.tolist() == [1]
  everywhere = lrs_jax.certify(
    KEY, apply, None, np.zeros(1, np.float32), gaussian, [0], check=False
  )
  assert len(everywhere.radii) == 41
  assert everywhere.certified[[0, -1]].tolist() == [1, 0]
  assert reach < everywhere.radii[-1] < 1.02 * reach


def test_groups_with_one_noise_share_their_passes():
  evaluated = []

  def apply(params, x):
    jax.debug.callback(lambda: evaluated.append(1))
    return bright(params, x)

  mesh = jax.make_mesh((1,), ("samples",), devices=jax.devices()[:1])
  scale = np.array([[0.2, 1.0], [0.2, 1.0], [1.0, 0.2], [0.2, 1.0]])
  halves = noise.gaussian(scale, (np.arange(12) // 6)[None, :, None])
  groups = np.random.default_rng(0).integers(0, 4, 96)
  options = {"num_samples": 40, "selection_samples": 0, "chunk_size": 8, "mesh": mesh}
  certified = lrs_jax.certify(KEY, apply, HALF, X, halves, groups, [0.1], **options, check=False)
  jax.effects_barrier()
  assert len(evaluated) == 2 * 40 / 8  # two noises, chunks of 8
  counts = sampling.vote_counts(
    keys.tagged(KEY, "estimation"), bright, HALF, X, halves, groups, 40, num_classes=2
  )
  np.testing.assert_array_equal(certified.estimation.counts, counts)


def test_options_reach_what_they_are_for():
  mesh = jax.make_mesh((2,), ("samples",), devices=jax.devices()[:2])
  pieces = certified_image(chunk_size=4, mesh=mesh)
  np.testing.assert_array_equal(pieces.estimation.counts, IMAGE.estimation.counts)
  assert (certified_image(method="naive").certified <= IMAGE.certified).all()
  exact = certified_image(method="milp", time_limit=20.0, radii=[0.4])
  assert exact.certified[0] >= IMAGE.certified[2]
  many = certified_image(k_fwer=0.05)
  assert many.base.forfeit == 4
  assert many.proof.forfeit == 4
  assert (many.base.eta >= IMAGE.base.eta).all()
  for certified in (pieces, exact, many):
    lrs_jax.verify(certified)


def test_windows():
  def apply_window(params, x, start):
    return bright(params, jax.lax.dynamic_slice(x, (*start, start[0] * 0), (4, 4, 3)))

  starts, size = partition.windows(GRID)
  assert size == (4, 4)
  windows = sampling.Windows(apply_window, starts, size)
  certified = certified_image(windows=windows)
  np.testing.assert_array_equal(certified.estimation.counts, IMAGE.estimation.counts)
  image = lrs_jax.certify_segmentation(
    KEY, bright, HALF, X, std=0.2, std_max=1.0, grid=(2, 3), radii=RADII, windows=windows
  )
  np.testing.assert_array_equal(image.certified, IMAGE.certified)


def test_targets_and_truth():
  targets = np.arange(96).reshape(8, 12) % 3 > 0
  counted = certified_image(targets=targets)
  assert counted.certified[0] == (IMAGE.labels >= 0)[targets.ravel()].sum()
  np.testing.assert_array_equal(counted.share, counted.certified / 64)
  truth = np.where(np.arange(96) % 2, IMAGE.base.labels, 1 - IMAGE.base.labels)
  truth[:10] = 7  # void
  right = certified_image(truth=truth.reshape(8, 12), targets=targets)
  inside = targets.ravel() & (np.arange(96) >= 10)
  assert right.counted.sum() == inside.sum()
  assert right.certified[0] == (inside & (IMAGE.labels == truth)).sum()
  assert "certified accuracy" in str(right)
  assert f"{inside.sum()} counted" in str(right)
  for certified in (counted, right):
    lrs_jax.verify(certified)


def test_ablation_counts_entries():
  ablation = noise.ablation([[0.9]], np.zeros((8, 12, 1), int))
  certified = certified_ablation = lrs_jax.certify(
    KEY, bright, HALF, np.where(X > 0.5, 1, 0).astype(np.float32), ablation, np.zeros(96, int)
  )
  assert certified.radii.tolist() == list(range(len(certified.radii)))
  assert certified.certified[-1] == 0 < certified.certified[1]
  assert certified.proof.integral
  assert "changed entries" in str(certified_ablation)
  lrs_jax.verify(certified)


FLIPS = noise.flips([[0.01, 0.1], [0.1, 0.01]], [[0.5, 0.8], [0.8, 0.5]], [[0] * 9, [1] * 9])
BUDGETS = np.array([[0, 0], [1, 0], [0, 1], [0, 3], [1, 1], [2, 4]])


def certified_flips():
  def apply(params, x):
    return jnp.stack([x.sum(axis=1), params - x.sum(axis=1)], axis=-1)

  x = np.stack([np.arange(9) % 2, np.ones(9)]).astype(np.float32)
  return lrs_jax.certify(KEY, apply, np.float32(9), x, FLIPS, [0, 1], BUDGETS)


def test_flips_have_budgets_of_two_kinds():
  certified = certified_flips()
  proof = collective.certify(
    FLIPS.weights, [0, 1], certified.base.eta, BUDGETS.astype(float), integral=True
  )
  np.testing.assert_array_equal(certified.certified, proof.certified)
  assert certified.radii.shape == (6, 2)
  assert certified.certified[0] > 0
  assert str(certified).splitlines()[1].startswith("additions, deletions    0, 0    0, 1    0, 3")
  lrs_jax.verify(certified)
  lines = certified.plot().axes[0].get_lines()
  assert len(lines) == 4
  for line, deletions in zip(lines, (0, 1, 3, 4), strict=True):
    for additions, share in zip(*line.get_data(), strict=True):
      beyond = np.greater_equal(BUDGETS, [additions, deletions]).all(axis=1)
      assert share == max(certified.share[beyond], default=0)
  with pytest.raises(ValueError, match=r"budgets \[B, A\]"):
    lrs_jax.certify(KEY, bright, HALF, X, _flips_of_pixels(), [0] * 96, check=False)


def _flips_of_pixels():
  return noise.flips([[0.1]], [[0.1]], np.zeros((1, 1, 1), int))


def test_corners():
  empty = lrs_jax.certify(
    KEY, lambda p, x: jnp.zeros((0, 2)), None, X, NOISE, np.zeros(0, int), RADII, check=False
  )
  assert empty.certified.tolist() == [0] * 6
  assert str(empty).startswith("0 outputs, 0 abstain")
  nowhere = certified_image(radii=[])
  assert nowhere.certified.shape == (0,)
  zero = certified_image(radii=0)
  assert zero.certified.tolist() == [(IMAGE.labels >= 0).sum()]
  with pytest.warns(errors.TooFewSamplesWarning):
    none = certified_image(num_samples=5, radii=None)
  assert (none.labels == -1).all()
  assert none.radii.tolist() == [0]
  assert none.certified.tolist() == [0]
  with pytest.warns(errors.TooFewSamplesWarning):
    nothing = certified_image(num_samples=0, selection_samples=0)
  assert nothing.certified.tolist() == [0] * 6
  for certified in (empty, nowhere, zero, none, nothing):
    lrs_jax.verify(certified)
    assert "<table>" in certified._repr_html_()
    certified.plot()


def test_lost_votes_are_samples():
  def apply(params, x):
    return jnp.where((x[..., :1] < params) | (x[..., :1] > 0.9), jnp.nan, bright(params, x))

  kept = lrs_jax.certify(KEY, apply, HALF, X, NOISE, GRID, RADII, check=False)
  assert kept.estimation.counts.sum(axis=1).max() < 1000
  share = np.take_along_axis(kept.estimation.counts, kept.base.labels[:, None], 1)[:, 0] / 1000
  by_votes = kept.base.method == "votes"
  assert by_votes.any()
  assert (kept.base.q_lower <= share)[by_votes].all()
  lost = 1 - kept.estimation.counts.sum(axis=1) / 1000  # as if they were for another class
  assert (share > lost)[kept.base.eta > 0].all()
  lrs_jax.verify(kept)


# Guards.


def test_guards_are_inside():
  with pytest.raises(errors.IntegerInputError):
    lrs_jax.certify(KEY, bright, HALF, (X * 255).astype(np.uint8), NOISE, GRID, RADII)
  with pytest.raises(errors.NonFiniteInputError):
    certified_image_of(np.where(X > 0.9, np.nan, X))
  with pytest.raises(errors.NaNLogitsError):
    lrs_jax.certify(KEY, lambda p, x: jnp.log(bright(p, x)), HALF, X, NOISE, GRID, RADII)
  with pytest.warns(errors.InputScaleWarning):
    certified_image_of(X * 255)

  def dropout(params, x):
    return nn.Dropout(0.5, deterministic=False).apply({}, bright(params, x))

  with pytest.raises(errors.TrainingModeError, match="dropout off"):
    lrs_jax.certify(KEY, dropout, HALF, X, NOISE, GRID, RADII)
  with pytest.raises(errors.NotLogitsError):
    lrs_jax.certify(KEY, lambda p, x: (bright(p, x),), HALF, X, NOISE, GRID, RADII)


def certified_image_of(x):
  return lrs_jax.certify(KEY, bright, HALF, x, NOISE, GRID, RADII)


def test_batch_statistics_in_training_mode():
  class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.Dense(2)(nn.BatchNorm(use_running_average=False)(x))

  variables = Network().init(jax.random.key(0), X[None])

  def apply(variables, x):
    return Network().apply(variables, x[None], mutable=["batch_stats"])[0][0]

  def frozen(variables, x):
    return Network().apply(variables, x[None])[0]

  with pytest.warns(errors.TrainingModeWarning, match="running averages"):
    lrs_jax.certify(KEY, apply, variables, X, NOISE, GRID, RADII, num_samples=100)
  with pytest.raises(errors.TrainingModeError, match="running averages"):
    lrs_jax.certify(KEY, frozen, variables, X, NOISE, GRID, RADII, check=False)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"radii": [[0.1]]}, r"`radii` must have shape \[B\]"),
    ({"radii": [-0.1]}, "`radii` must be finite and at least 0"),
    ({"radii": [np.nan]}, "`radii` must be finite"),
    ({"alpha": 0.0}, r"`alpha` must lie in \(0, 1\)"),
    ({"k_fwer": 1.0}, "`k_fwer` must be a part"),
    ({"method": "best"}, "`method` must be one of"),
    ({"targets": np.ones(95, bool)}, r"`targets` must be bool \[N\] = \(96,\)"),
    ({"targets": np.ones(96)}, "`targets` must be bool"),
    ({"truth": np.zeros(96)}, "`truth` must be int"),
    ({"truth": np.zeros((8, 11), int)}, "`truth` must be int"),
    ({"num_samples": -1}, "`num_samples` and `first_sample` must be at least 0"),
  ],
)
def test_arguments(options, message):
  with pytest.raises(ValueError, match=message):
    certified_image(**options)


def test_groups_that_do_not_fit():
  for groups, message in ((GRID[:-1], "`groups` must be int"), (GRID + 1, "`groups` must lie in")):
    with pytest.raises(ValueError, match=message):
      lrs_jax.certify(KEY, bright, HALF, X, NOISE, groups, RADII, check=False)
  with pytest.raises(ValueError, match=r"`radii` must have shape \[B, 2\]"):
    lrs_jax.certify(KEY, bright, HALF, X, _flips_of_pixels(), [0] * 96, [1, 2], check=False)


# Segmentation, and how far an output sees.


def row_sums(params, x):
  """Of one row [1, W]: every output sums its neighborhood of three pixels."""
  padded = jnp.pad(x, ((0, 0), (1, 1)))
  score = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:] - params
  return jnp.stack([score, -score], axis=-1)


def distance_to_flip(rows, margins):
  """Least norm of a perturbation with rows @ delta >= margins (Lawson & Hanson, LDP)."""
  stacked = np.vstack([rows.T, margins])
  target = np.append(np.zeros(rows.shape[1]), 1.0)
  solution, residual = optimize.nnls(stacked, target)
  if residual < 1e-9:
    return np.inf
  rest = stacked @ solution - target
  return np.linalg.norm(rest[:-1] / rest[-1])


def cheapest_attacks(x, threshold, labels):
  """Least norm that flips k of the outputs that do not abstain, for k = 0, 1, ...

  The smoothed prediction of a linear model is its prediction: noise is symmetric.
  """
  width = x.size
  window = np.array([[abs(i - j) <= 1 for j in range(width)] for i in range(width)], float)
  scores = window @ x.ravel().astype(float) - threshold
  kept = np.flatnonzero(labels >= 0)
  sign = np.where(labels == 0, -1.0, 1.0)  # label 0 is a positive score
  least = np.full(kept.size + 1, np.inf)
  least[0] = 0
  for k in range(1, kept.size + 1):
    for chosen in itertools.combinations(kept, k):
      part = list(chosen)
      rows, margins = sign[part, None] * window[part], -sign[part] * scores[part]
      least[k] = min(least[k], distance_to_flip(rows, margins))
  return least


def brute_force(seed, view, **options):
  """What was certified of a row of eight, and how many outputs survive the best attack."""
  x = np.random.default_rng(seed).uniform(-0.5, 1.5, (1, 8)).astype(np.float32)
  radii = np.linspace(0, 3, 31)
  if "std_max" in options:
    options["grid"] = (1, 4)
  if view is not None:
    options["block"] = 2
  certified = lrs_jax.certify_segmentation(
    jax.random.key(seed), row_sums, np.float32(1.5), x, view=view, radii=radii,
    num_samples=10_000, **options,
  )  # fmt: skip
  least = cheapest_attacks(x, 1.5, certified.labels)
  fallen = np.array([(least <= radius).nonzero()[0].max() for radius in radii])
  return certified, (certified.labels >= 0).sum() - fallen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("options", [{"std": 0.4}, {"std": 0.3, "std_max": 0.8}])
def test_no_attack_leaves_less_than_is_certified(seed, options):
  seeing, survive = brute_force(seed, 1, **options)
  assert (seeing.certified <= survive).all()
  blind, _ = brute_force(seed, None, **options)
  assert (blind.certified <= seeing.certified).all()
  assert blind.certified.sum() < seeing.certified.sum()
  np.testing.assert_array_equal(blind.estimation.counts, seeing.estimation.counts)
  lrs_jax.verify(seeing)


def test_a_view_that_is_too_small_would_claim_too_much_and_is_refused():
  claims = [brute_force(seed, 0, std=0.4, check=False) for seed in range(4)]
  assert any((certified.certified > survive).any() for certified, survive in claims)
  with pytest.raises(errors.FartherViewError, match="sees 1 pixels far"):
    brute_force(0, 0, std=0.4)


def test_one_field_whatever_the_blocks():
  image = np.random.default_rng(0).random((20, 18, 3)).astype(np.float32)
  certified = lrs_jax.certify_segmentation(
    KEY, bright, HALF, image, std=0.25, view=0, block=8, radii=[0.1, 0.5]
  )
  one = noise.gaussian([[0.25]], np.zeros((1, 1, 1), int))
  counts = sampling.vote_counts(
    keys.tagged(KEY, "estimation"), bright, HALF, image, one, [0] * 360, 1000, num_classes=2
  )
  np.testing.assert_array_equal(certified.estimation.counts, counts)
  assert certified.base.weights.shape == (1, 9, 9)
  np.testing.assert_array_equal(certified.base.weights[0] > 0, np.eye(9, dtype=bool))
  assert certified.base.weights.max() == pytest.approx(16)
  near = lrs_jax.certify_segmentation(
    KEY, bright, HALF, image, std=0.25, view=1, block=8, radii=[0.1, 0.5], check=False
  )
  assert near.base.weights.shape == (1, 9, 4)  # cells are the borders of blocks, seen from both
  whole = lrs_jax.certify_segmentation(
    KEY, bright, HALF, image, std=0.25, view=20, block=8, radii=[0.1, 0.5]
  )
  blind = lrs_jax.certify_segmentation(KEY, bright, HALF, image, std=0.25, radii=[0.1, 0.5])
  np.testing.assert_array_equal(whole.certified, blind.certified)
  assert (certified.certified >= near.certified).all()
  assert (near.certified >= blind.certified).all()
  assert certified.certified[1] > blind.certified[1]
  assert "if no output sees more than its view: 0 pixels to every side" in str(certified)
  assert "view" not in str(blind)
  assert not certified.base.forfeit
  finest = lrs_jax.certify_segmentation(
    KEY, bright, HALF, image, std=0.25, view=0, radii=[0.1, 0.5], check=False
  )
  assert finest.base.weights.shape == (1, 360, 360)
  assert (finest.certified >= certified.certified).all()


def test_a_cell_is_left_out_only_if_no_output_of_the_group_sees_any_of_it():
  """Against every pair of pixels, one by one."""
  image = np.zeros((9, 7), np.float32)
  for view, localized in itertools.product((0, 1, 2, 4, 9), (False, True)):
    options = {"std_max": 0.5, "grid": (2, 2)} if localized else {}
    certified = lrs_jax.certify_segmentation(
      KEY, lambda p, x: jnp.stack([x, -x], -1), None, image, view=view, block=2, radii=[0.1],
      num_samples=100, alpha=0.5, check=False, **options,
    )  # fmt: skip
    weights, cells = certified.base.weights[0], certified.noise.cells
    grid = partition.image_grid((9, 7), (2, 2) if localized else (1, 1))
    std = np.array([[0.3, 0.5], [0.5, 0.3]])
    wanted = np.zeros(weights.shape)
    for (i, j), group in np.ndenumerate(certified.base.groups.reshape(9, 7)):
      for (k, l), cell in np.ndenumerate(cells):
        if max(abs(i - k), abs(j - l)) <= view:
          wanted[group, cell] = std[int(grid[i, j] != grid[k, l])][0] ** -2.0
    np.testing.assert_allclose(weights, wanted, rtol=1e-14)


def test_nan_outside_the_view_is_refused():
  with pytest.raises(errors.FartherViewError, match="became nan"):
    lrs_jax.certify_segmentation(
      KEY, lambda p, x: bright(p, x) + 0 * x.sum(), HALF, X, std=0.3, view=2
    )


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"std": 0.0}, "noise scales must satisfy"),
    ({"std": 0.5, "std_max": 0.1, "grid": (2, 3)}, "noise scales must satisfy"),
    ({"std_max": 0.6}, r"needs a `grid` of \(R, Q\)"),
    ({"std_max": 0.6, "grid": (9, 3)}, "`grid_shape` must lie between"),
    ({"grid": (2, 3)}, "a `grid` needs `std_max`"),
    ({"block": 4}, "`block` is for outputs of a limited `view`"),
    ({"view": 3, "block": 0}, "`block` must be a number of places"),
    ({"view": views.around((8, 11), 1)}, "`view` is of outputs of shape"),
    ({"view": -1}, "`view` must be a number of pixels"),
    ({"windows": sampling.Windows(bright, np.zeros((1, 2), int), (8, 12))}, "`windows` are for"),
  ],
)
def test_arguments_of_segmentation(options, message):
  with pytest.raises(ValueError, match=message):
    lrs_jax.certify_segmentation(KEY, bright, HALF, X, **options)


def test_images_and_outputs_of_other_shapes():
  with pytest.raises(ValueError, match="`image` must have shape"):
    lrs_jax.certify_segmentation(KEY, bright, HALF, X[None])
  with pytest.raises(errors.NotLogitsError, match="for every pixel"):
    lrs_jax.certify_segmentation(KEY, lambda p, x: bright(p, x)[::2], HALF, X)


# What it shows, and the way back.


def test_a_table_promises_no_more_than_is_proven():
  certified = IMAGE._replace(
    radii=np.array([0.0, 0.123456, 0.2, 0.3, 1.99999, 12345.6]),
    certified=np.array([96, 95, 64, 32, 1, 0]),
  )
  lines = str(certified).splitlines()
  assert lines[1].split() == ["l2", "radius", "0", "0.1234", "0.2", "0.3", "1.999", "12340"]
  assert lines[2].split() == ["certified", "96", "95", "64", "32", "1", "0"]
  assert lines[3].split()[3::2] == ["100.0", "98.9", "66.6", "33.3", "1.0", "0.0"]
  assert lines[4] == (
    "with probability 0.99; 1000 samples, 100 to select; gaussian noise; envelope"
  )
  assert repr(certified) == str(certified)
  many = certified_image(radii=np.linspace(1, 0, 33))
  assert str(many).splitlines()[1].split()[2:] == ["0", "0.1875", "0.375", "0.5937", "0.7812", "1"]


def test_html_is_the_same_table_and_escaped():
  page = IMAGE._repr_html_()
  assert page.count("<tr>") == 3
  assert page.count("<td>") == 21
  assert f"<td>{IMAGE.certified[1]}</td>" in page
  strange = IMAGE._replace(proof=IMAGE.proof._replace(method="<script>&"))
  assert "&lt;script&gt;&amp;" in strange._repr_html_()
  assert "<script>" not in strange._repr_html_()


def test_the_curve_is_drawn_in_steps():
  line = IMAGE.plot().axes[0].get_lines()[0]
  assert line.get_drawstyle() == "steps-pre"
  np.testing.assert_array_equal(line.get_ydata(), IMAGE.certified / 96)
  backwards = certified_image(radii=RADII[::-1]).plot().axes[0].get_lines()[0]
  np.testing.assert_array_equal(backwards.get_ydata(), IMAGE.certified / 96)


def with_proof(**fields):
  return lambda c: c._replace(proof=c.proof._replace(**{k: f(c) for k, f in fields.items()}))


def with_base(**fields):
  return lambda c: c._replace(base=c.base._replace(**{k: f(c) for k, f in fields.items()}))


def stronger_everywhere(c):
  """A whole certificate of eta that do not follow from the votes."""
  base = c.base._replace(eta=c.base.eta * 1.01)
  proof = collective.certify(base.weights, base.groups, base.eta, c.proof.budgets)
  return c._replace(base=base, proof=proof, certified=proof.certified)


def of_smaller_budgets(c):
  proof = collective.certify(c.base.weights, c.base.groups, c.base.eta, c.proof.budgets * 0.9)
  return c._replace(proof=proof, certified=proof.certified)


def of_whole_numbers(c):
  proof = collective.certify(
    c.base.weights, c.base.groups, c.base.eta, c.proof.budgets, integral=True
  )
  return c._replace(proof=proof, certified=proof.certified)


def of_capped_adversaries(c):
  caps = np.full((1, 6), 0.01)
  proof = collective.certify(c.base.weights, c.base.groups, c.base.eta, c.proof.budgets, caps=caps)
  return c._replace(proof=proof, certified=proof.certified)


def hidden_although_seen(c):
  scale = c.noise.scale.copy()
  scale[0, 5] = np.inf
  other = noise.gaussian(scale, GRID[..., None])
  base = c.base._replace(weights=other.weights)
  return c._replace(noise=other, base=base, view=views.around((8, 12), 12))


@pytest.mark.parametrize(
  ("tamper", "message"),
  [
    (lambda c: c._replace(certified=c.certified + 1), "`certified` does not follow from `proof`"),
    (lambda c: c._replace(certified=c.certified[:-1]), "`certified` does not follow"),
    (lambda c: c._replace(labels=np.zeros(96, int)), "`labels` does not follow from `base`"),
    (lambda c: c._replace(alpha=0.001), "`base.eta` does not follow"),
    (lambda c: c._replace(k_fwer=0.1), "`base.eta` does not follow"),
    (hidden_although_seen, "`noise` hides cell 5 from group 0, which sees it by `view`"),
    (lambda c: c._replace(noise=noise.gaussian(2 * c.noise.scale, GRID[..., None])), "weights"),
    (lambda c: c._replace(radii=c.radii * 1.001), "`proof.budgets` does not follow from `radii`"),
    (lambda c: c._replace(radii=c.radii[:-1]), "`proof.budgets` does not follow"),
    (lambda c: c._replace(radii=c.radii * np.nan), "`proof.budgets` does not follow"),
    (lambda c: c._replace(counted=c.counted & (np.arange(96) > 0)), "`proof.targets`"),
    (lambda c: c._replace(truth=np.zeros(96, int)), "`proof.targets` does not follow"),
    (lambda c: c._replace(truth=np.full(96, 9)), "`counted` does not follow"),
    (lambda c: c._replace(shape=(8, 11)), "`base.groups` does not follow"),
    (
      lambda c: c._replace(estimation=c.estimation._replace(num_samples=999)),
      "`num_samples` is 999",
    ),
    (lambda c: c._replace(estimation=c.estimation._replace(num_samples=1001)), "base.eta"),
    (lambda c: c._replace(selection=c.estimation), "one key drew both"),
    (with_base(eta=lambda c: c.base.eta * 1.001), "`base.eta` does not follow"),
    (with_base(q_lower=lambda c: c.base.q_lower * 1.001), "`base.q_lower` does not follow"),
    (with_base(weights=lambda c: c.base.weights / 2), "`base.weights` does not follow"),
    (with_base(labels=lambda c: 1 - c.base.labels), "`base.labels` does not follow"),
    (with_proof(certified=lambda c: c.certified + 1), "Budget 0"),
    (with_proof(attackable=lambda c: c.proof.attackable / 2), "Budget"),
    (with_proof(forfeit=lambda c: 1), "`proof.forfeit` does not follow from `k_fwer`"),
    (stronger_everywhere, "`base.eta` does not follow"),
    (of_smaller_budgets, "`proof.budgets` does not follow from `radii`"),
    (of_whole_numbers, "`proof.integral` does not follow from `noise`"),
    (of_capped_adversaries, "`proof.caps` does not follow"),
  ],
)
def test_what_was_tampered_with_is_refused(tamper, message):
  lrs_jax.verify(IMAGE, exact=True)
  with pytest.raises(ValueError, match=message):
    lrs_jax.verify(tamper(IMAGE))


def test_sampling_stops_as_soon_as_enough_is_certified():
  """Looks share alpha, and the votes are the first of those that were to be drawn."""
  x, gaussian = np.asarray([0.0, 0.1, 0.2, 0.45], np.float32), noise.gaussian([[0.2]], [0] * 4)

  def apply(params, x):
    return jnp.stack([x, params - x], axis=-1)

  asked = jax.random.key(0), apply, np.float32(1), x, gaussian, [0] * 4, [0.0, 0.1, 0.2]
  whole = lrs_jax.certify(*asked, num_samples=800)
  soon = lrs_jax.certify(*asked, num_samples=800, until=(0.5, 0.1))
  later = lrs_jax.certify(*asked, num_samples=800, until=(1.0, 0.2))
  assert (whole.looks, soon.looks, later.looks) == (1, 4, 4)
  assert (soon.estimation.num_samples, later.estimation.num_samples) == (100, 800)
  assert soon.certified[1] >= 2
  assert (later.certified <= whole.certified).all()
  np.testing.assert_array_equal(later.estimation.counts, whole.estimation.counts)
  votes = soon.selection.counts, soon.estimation.counts
  base = certificates.from_votes(gaussian, [0] * 4, *votes, alpha=0.01 / 4)
  np.testing.assert_array_equal(soon.base.eta, base.eta)
  assert "0.99" in str(soon)
  for certified in (soon, later):
    lrs_jax.verify(certified)
  with pytest.raises(ValueError, match=r"`base.(q_lower|eta)`"):
    lrs_jax.verify(soon._replace(looks=1))
  with pytest.raises(ValueError, match="`until` must be a part of the outputs"):
    lrs_jax.certify(*asked, until=(80, 0.1))


def test_margins_are_used_where_noise_has_them():
  x, classes = np.zeros(3, np.float32), np.asarray([0.0, 0.35, -0.35], np.float32)

  def apply(params, x):
    return -jnp.abs(x[:, None] - params[None])  # the nearest of three classes

  gaussian = noise.gaussian([[0.4]], [0, 0, 0])
  asked = jax.random.key(0), apply, classes, x + 0.01, gaussian, [0, 0, 0], [0.0, 0.05]
  found = lrs_jax.certify(*asked, num_samples=4000, check=False)
  assert found.base.method.tolist() == ["margins"] * 3
  votes = found.selection.counts, found.estimation.counts
  assert (certificates.from_votes(gaussian, [0] * 3, *votes, alpha=0.01).eta == 0).all()
  lrs_jax.verify(found)


@pytest.mark.parametrize("truth", [None, (X.mean(axis=-1) > 0.6).astype(int)])
def test_what_is_saved_is_proven_by_the_command(tmp_path, capsys, truth):
  view = views.around((8, 12), 0)
  certified = lrs_jax.certify_segmentation(
    KEY, bright, HALF, X, std=0.2, view=view, radii=[0.3, 0.0, 0.1], truth=truth, k_fwer=0.05
  )
  path = tmp_path / "new" / "mine.npz"
  certified.save(path)
  record = records.load(path)
  order = np.argsort(certified.radii)
  name = "all/envelope" if truth is None else "correct/envelope"
  stored, made = record.certified[name].certified, certified.certified[order]
  assert (stored <= made).all()
  assert (stored >= made - 1).all()
  np.testing.assert_array_equal(record.adversary.radii, certified.radii[order])
  np.testing.assert_array_equal(record.base.predictions, certified.labels)
  assert main(["verify", str(path), "--exact"]) == 0
  told = capsys.readouterr().out
  assert "mine.npz: proven" in told
  assert "names neither the model nor the input" in told
  assert "no output sees more than its view" in told
  assert main(["card", str(path)]) == 0
  assert "With probability at least 1 - 0.01" in capsys.readouterr().out


def test_flips_and_ablation_are_saved_too(tmp_path):
  flips = noise.flips([[0.1]], [[0.4]], np.zeros(6, int))
  x = np.asarray([1, 0, 1, 1, 0, 1], np.float32)

  def apply(params, x):
    return jnp.stack([params - x, x - params], axis=-1)

  asked = {"num_samples": 500, "check": False}
  both = lrs_jax.certify(
    KEY, apply, HALF, x, flips, [0] * 6, np.array([[1, 1], [0, 0], [0, 1]]), **asked
  )
  ablation = noise.ablation([[0.3]], np.zeros(6, int), fill=0.0)
  few = lrs_jax.certify(KEY, apply, HALF, x, ablation, [0] * 6, [0, 1, 2], **asked)
  for name, certified in (("flips", both), ("ablation", few)):
    certified.save(tmp_path / f"{name}.npz")
    record = records.load(tmp_path / f"{name}.npz")
    records.verify(record, exact=True)
    assert sorted(record.certified["all/envelope"].certified) == sorted(certified.certified)
  with pytest.raises(ValueError, match=r"must end in \.npz"):
    few.save(tmp_path / "few.json")
