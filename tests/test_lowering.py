"""Everything that runs on the device lowers for CPU, GPU and TPU, without the hardware."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from scipy import sparse

from lrs_jax import noise, sampling
from lrs_jax.cells import partition
from lrs_jax.noise import draws
from lrs_jax.sampling import checks, edge_flips, flip_sums, scores, sparse_flips
from lrs_jax.tasks.graph_training import edges_of, head_of
from lrs_jax.tasks.models import folded_unet, gnn
from lrs_jax.tasks.models.unet import UNet

KEY = jax.random.key(0)
IMAGE = jax.ShapeDtypeStruct((10, 14, 3), jnp.float32)
CELLS = partition.image_grid((10, 14), (2, 2))
SMOOTHING = noise.gaussian(np.full((4, 4), 0.5), partition.pixel_cells(CELLS, 3))
NET = UNet(num_classes=3, width=2, depth=1)
VARIABLES = jax.eval_shape(NET.init, KEY, IMAGE)
FOLDED = jax.eval_shape(folded_unet.fold, VARIABLES)
STARTS, WINDOW = partition.windows(CELLS, 2)
MESH = jax.make_mesh((1,), ("samples",), devices=jax.devices()[:1])  # JAX 0.7.0 fails with more
ADJACENCY = sparse.csr_array(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0.0]]))
EDGES = gnn.normalized_edges(ADJACENCY)
ATTRIBUTES = np.eye(3, 5)
FLIPS = noise.flips(np.full((2, 2), 0.1), np.full((2, 2), 0.5), np.array([[0], [1], [1]]))
PLAN = sparse_flips.plan_flips(sparse.csr_array(ATTRIBUTES), FLIPS)
EDGE_PLAN = edge_flips.plan_edges(ADJACENCY, FLIPS)
ENTRIES = PLAN.arrays.columns, PLAN.arrays.rows
GROUPS = jnp.array([0, 1, 1], jnp.int32)


def votes(key, params, x, **options):
  return sampling.vote_counts(
    key, folded_unet.apply, params, x, SMOOTHING, CELLS.ravel(), 9, num_classes=3, chunk_size=2,
    mesh=MESH, **options,
  )  # fmt: skip


def score_sums(key, params, x):
  request = checks.check_request(
    key, folded_unet.apply, params, x, SMOOTHING, CELLS.ravel(), 9, num_classes=3, chunk_size=2,
    mesh=MESH,
  )  # fmt: skip
  labels = jnp.zeros(CELLS.size, jnp.int32)
  arrays = request.sample_range, request.setting, request.starts, labels
  return scores._sums(*arrays, **request.static, num_bins=256)


def class_sums(key, params, x, windows=None):
  request = checks.check_request(
    key, folded_unet.apply, params, x, SMOOTHING, CELLS.ravel(), 9, num_classes=3, chunk_size=2,
    mesh=MESH, windows=windows,
  )  # fmt: skip
  arrays = request.sample_range, request.setting, request.starts, None
  return scores._sums(*arrays, **request.static)


def class_sums_of_flips(key, variables, arrays):
  model = gnn.make_model("gcn", 5, 3)
  args = (variables, EDGES), variables["params"]["first_kernel"], arrays, GROUPS
  noisy = sparse_flips._noisy(head_of(model), PLAN.sizes)
  options = {"noisy": noisy, "chunk_size": 2, "mesh": MESH}
  return flip_sums._class_sums(jnp.array([0, 9], jnp.int32), (key, args), **options)


def class_sums_of_edges(key, variables, arrays):
  args = (variables, ENTRIES), arrays, GROUPS
  noisy = edge_flips._noisy(edges_of(gnn.make_model("gcn", 5, 3), 3), EDGE_PLAN.sizes)
  options = {"noisy": noisy, "chunk_size": 2, "mesh": MESH}
  return flip_sums._class_sums(jnp.array([0, 9], jnp.int32), (key, args), **options)


def graph(name):
  model = gnn.make_model(name, 5, 3)
  x = jax.ShapeDtypeStruct(ATTRIBUTES.shape, jnp.float32)
  return model.apply, jax.eval_shape(model.init, KEY, x, EDGES), x, EDGES


WINDOWS = sampling.Windows(folded_unet.window(WINDOW), STARTS, WINDOW)
TABLE = {
  "sampling.vote_counts": (votes, KEY, FOLDED, IMAGE),
  "sampling.tiled": (sampling.tiled(folded_unet.apply, 4, 2), FOLDED, IMAGE),
  "sampling.vote_counts, windows": (partial(votes, windows=WINDOWS), KEY, FOLDED, IMAGE),
  "scores.score_sums": (score_sums, KEY, FOLDED, IMAGE),
  "scores.class_sums": (class_sums, KEY, FOLDED, IMAGE),
  "scores.class_sums, windows": (partial(class_sums, windows=WINDOWS), KEY, FOLDED, IMAGE),
  "sparse_flips.class_sums": (class_sums_of_flips, KEY, graph("gcn")[1], PLAN.arrays),
  "edge_flips.class_sums": (class_sums_of_edges, KEY, graph("gcn")[1], EDGE_PLAN.arrays),
  "sparse_flips.flipped_products": (
    lambda key, arrays: sparse_flips.flipped_products(key, arrays, PLAN.sizes, jnp.eye(5)),
    KEY, PLAN.arrays,
  ),
  "sparse_flips.candidates": (
    lambda key, arrays: sparse_flips.candidates(key, arrays, PLAN.sizes), KEY, PLAN.arrays,
  ),
  "sparse_flips.gather_sum": (
    lambda kernel: jax.grad(
      lambda k: sparse_flips.gather_sum(k, GROUPS, GROUPS, 2).sum()
    )(kernel),
    jnp.eye(5),
  ),
  "models.unet": (partial(NET.apply, train=False), VARIABLES, IMAGE),
  "models.folded_unet.fold": (folded_unet.fold, VARIABLES),
  "models.folded_unet.apply": (folded_unet.apply, FOLDED, IMAGE),
  "models.folded_unet.window": (WINDOWS.apply, FOLDED, IMAGE, jnp.zeros(2, jnp.int32)),
  **{f"models.gnn, {name}": graph(name) for name in ("appnp", "gcn", "gcn6", "gat")},
  **{
    f"draws.{draw.__name__}": (partial(draw, shape=(3, 5)), KEY)
    for draw in (draws.normal, draws.laplace, draws.uniform, draws.bits)
  },
  **{
    f"noise.on_grid, {smoothing.family.name}": (
      lambda key, x, noisy: noise.sample(key, noisy, x, 0), KEY, jnp.ones((3, 1)),
      noise.on_grid(smoothing, 1 / 255),
    )
    for smoothing in (
      noise.gaussian([[0.5, 1.0]], FLIPS.cells),
      noise.uniform([[0.5, 1.0]], FLIPS.cells),
      noise.laplace([[0.1, 0.2]], FLIPS.cells),
    )
  },
  **{
    f"noise.{smoothing.family.name}": (
      lambda key, x, noisy: noise.sample(key, noisy, x, 0), KEY, jnp.ones((3, 1)), smoothing,
    )
    for smoothing in (
      noise.gaussian([[0.5, 1.0]], FLIPS.cells),
      noise.uniform([[0.5, 1.0]], FLIPS.cells),
      noise.laplace([[0.5, 1.0]], FLIPS.cells),
      noise.ablation([[0.5, 0.9]], FLIPS.cells),
      FLIPS,
    )
  },
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_lowers_for_cpu_gpu_and_tpu(name):
  function, *arguments = TABLE[name]
  exported = export.export(jax.jit(function), platforms=("cpu", "cuda", "tpu"))(*arguments)
  assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
  text = exported.mlir_module()
  assert "f64" not in text
  assert "callback" not in text
