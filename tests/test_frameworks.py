"""Networks of PyTorch and of ONNX vote as the same network in JAX, and the page about them runs."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import lrs_jax
from lrs_jax import errors, noise, sampling
from tests.test_readme import blocks

PAGE = Path(__file__).parent.parent / "docs" / "other_frameworks.md"
KEY = jax.random.key(5)
RNG = np.random.default_rng(0)
IMAGE = RNG.random((20, 24, 3)).astype(np.float32)
WEIGHTS = [
  (RNG.normal(size=(3, 3, 3, 8)).astype("f4") / 5, RNG.normal(size=8).astype("f4") / 5),
  (RNG.normal(size=(3, 3, 8, 4)).astype("f4") / 8, RNG.normal(size=4).astype("f4") / 5),
]  # of two convolutions, [rows, columns, in, out], and their biases
SMOOTHING = noise.gaussian([[0.3]], np.zeros((20, 24, 1), int))
GROUPS = np.zeros(20 * 24, int)


def apply(params, x):
  for i, (kernel, bias) in enumerate(params):
    sizes = {"window_strides": (1, 1), "padding": "SAME"}
    layout = ("NHWC", "HWIO", "NHWC")
    x = jax.nn.relu(x) if i else x
    x = jax.lax.conv_general_dilated(x[None], kernel, **sizes, dimension_numbers=layout)[0]
    x = x + bias[None, None]
  return x


def logits_of(z):
  return np.asarray(jax.jit(apply)(WEIGHTS, jnp.asarray(z)))


def torch_network(torch):
  model = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3, padding=1)
  )
  for layer, (kernel, bias) in zip((model[0], model[2]), WEIGHTS, strict=True):
    layer.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
    layer.bias.data = torch.tensor(bias)
  return model.eval()


def torch_predict(torch, model):
  def predict(images):
    with torch.inference_mode():
      return model(torch.from_numpy(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

  return predict


def onnx_bytes(onnx, batch="B"):
  """The same network, images [B, 3, H, W] -> logits [B, 4, H, W]."""
  helper, numpy_helper = onnx.helper, onnx.numpy_helper
  tensors, nodes, at = [], [], "images"
  for i, (kernel, bias) in enumerate(WEIGHTS):
    tensors.append(numpy_helper.from_array(kernel.transpose(3, 2, 0, 1).copy(), f"kernel{i}"))
    tensors.append(numpy_helper.from_array(bias, f"bias{i}"))
    if i:
      nodes.append(helper.make_node("Relu", [at], [f"relu{i}"]))
      at = f"relu{i}"
    inputs, to = [at, f"kernel{i}", f"bias{i}"], f"conv{i}"
    nodes.append(helper.make_node("Conv", inputs, [to], pads=[1, 1, 1, 1], kernel_shape=[3, 3]))
    at = to
  infos = [
    helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, channels, "H", "W"])
    for name, channels in (("images", 3), (at, 4))
  ]
  graph = helper.make_graph(nodes, "network", infos[:1], infos[1:], tensors)
  opsets = [helper.make_opsetid("", 17)]
  return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def onnx_predict(onnxruntime, model):
  session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

  def predict(images):
    (logits,) = session.run(None, {"images": np.moveaxis(images, -1, 1).copy()})
    return np.moveaxis(logits, 1, -1)

  return predict


def assert_the_same_votes(predict, batch_size, num_samples=60):
  """Up to near-ties: outputs whose two greatest logits nearly agree in some sample."""
  sizes = {"num_classes": 4, "batch_size": batch_size}
  asked = KEY, predict, IMAGE, SMOOTHING, GROUPS
  counts = sampling.external_votes(*asked, num_samples, **sizes).counts
  asked = KEY, apply, WEIGHTS, IMAGE, SMOOTHING, GROUPS
  expected = np.asarray(sampling.vote_counts(*asked, num_samples, num_classes=4))
  near = np.zeros(GROUPS.size, int)
  for i in range(num_samples):
    z = noise.sample(jax.random.fold_in(KEY, i), SMOOTHING, jnp.asarray(IMAGE), 0)
    two = np.partition(logits_of(z).reshape(-1, 4), -2, axis=-1)[:, -2:]
    near += two[:, 1] - two[:, 0] < 1e-5
  assert (abs(counts - expected).sum(axis=1) <= 2 * near).all()
  assert near.sum() < 10
  assert (counts.max(axis=1) < num_samples).mean() > 0.5  # they do not all agree


@pytest.fixture
def torch():
  torch = pytest.importorskip("torch")
  torch.manual_seed(0)
  return torch


@pytest.fixture
def onnx():
  pytest.importorskip("onnxruntime")
  return pytest.importorskip("onnx")


@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_pytorch(torch, batch_size):
  predict = torch_predict(torch, torch_network(torch))
  logits = predict(IMAGE[None].copy())[0]
  np.testing.assert_allclose(logits, logits_of(IMAGE), atol=1e-5)
  assert_the_same_votes(predict, batch_size)


def test_certificates_of_pytorch(torch):
  predict = torch_predict(torch, torch_network(torch))
  options = {"std": 0.3, "num_samples": 200, "radii": [0.0, 0.2, 0.5]}
  for view in (None, 2):
    found = lrs_jax.certify_segmentation_external(KEY, predict, IMAGE, view=view, **options)
    expected = lrs_jax.certify_segmentation(KEY, apply, WEIGHTS, IMAGE, view=view, **options)
    assert (abs(found.certified - expected.certified) <= 5).all()
    lrs_jax.verify(found)
  with pytest.raises(errors.FartherViewError, match="sees 2 pixels far"):
    lrs_jax.certify_segmentation_external(KEY, predict, IMAGE, view=1, **options)


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_what_is_wrong_with_a_module_is_told(torch):
  model = torch_network(torch)
  options = {"std": 0.3, "num_samples": 20}

  def certify(*layers):
    predict = torch_predict(torch, torch.nn.Sequential(model, *layers))
    lrs_jax.certify_segmentation_external(KEY, predict, IMAGE, batch_size=8, **options)

  with pytest.raises(errors.NotDeterministicError, match=r"model.eval\(\)"):
    certify(torch.nn.Dropout(0.5))
  with pytest.raises(errors.BatchDependenceError, match=r"model.eval\(\)"):
    certify(torch.nn.BatchNorm2d(4))
  certify(torch.nn.BatchNorm2d(4).eval(), torch.nn.Dropout(0.5).eval())


def test_tensors_that_are_no_arrays_and_classes_that_are_first(torch):
  model = torch_network(torch)

  def grad(images):
    return model(torch.from_numpy(images).permute(0, 3, 1, 2))

  def first(images):
    return grad(images).detach()

  with pytest.raises(errors.NotLogitsError, match=r"takes, but it returns Tensor, .*detach"):
    lrs_jax.certify_segmentation_external(KEY, grad, IMAGE)
  with pytest.raises(errors.NotLogitsError, match="are the classes last"):
    lrs_jax.certify_segmentation_external(KEY, first, IMAGE)


@pytest.mark.parametrize(("batch", "batch_size"), [("B", 7), (1, 1), (16, 16)])
def test_onnx(onnx, batch, batch_size):
  onnxruntime = pytest.importorskip("onnxruntime")
  predict = onnx_predict(onnxruntime, onnx_bytes(onnx, batch))
  assert_the_same_votes(predict, batch_size)
  found = lrs_jax.certify_segmentation_external(
    KEY, predict, IMAGE, view=2, num_samples=100, batch_size=batch_size
  )
  lrs_jax.verify(found)
  with pytest.raises(errors.FartherViewError):
    sampling.check_predict_view(predict, IMAGE, 1, batch_size=batch_size)


def run(number, capsys):
  namespace: dict = {}
  exec(blocks(PAGE)[number], namespace)
  certified = namespace["certified"]
  assert f"{certified.labels.size} outputs, " in capsys.readouterr().out
  assert certified.certified[0] > 0
  return certified


@pytest.fixture
def photo(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  Image.fromarray((np.tile(IMAGE, (2, 2, 1)) * 255).astype(np.uint8)).save("street.png")


def test_the_page_runs_with_pytorch(torch, photo, capsys):
  certified = run(0, capsys)
  assert certified.shape == (40, 48)
  assert certified.certified[1] > 0
  assert Path("street-certified.png").exists()


def test_the_page_runs_with_onnx(onnx, photo, capsys):
  Path("model.onnx").write_bytes(onnx_bytes(onnx, 1))
  assert run(2, capsys).shape == (40, 48)


@pytest.mark.parametrize("number", [1, 3])
def test_the_page_runs_without_either(number, capsys):
  certified = run(number, capsys)
  assert certified.certified[1] > 0


@pytest.mark.filterwarnings("ignore")
def test_the_page_runs_with_pytorch_inside_jax(torch, capsys):
  pytest.importorskip("torch2jax")
  with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
    certified = run(4, capsys)
  assert certified.certified[1] > 0
