"""Models outside of JAX against the device path: the same votes, and what asking them costs.

    PYTHONPATH=. python benchmarks/external.py --data-dir DIR

gives one network of three 3 x 3 convolutions to JAX, PyTorch and ONNX Runtime, with the same random
weights, and counts votes on a CamVid test image (an embedded scene without --data-dir) under the
same noise. What is not installed is left out, which is told. All take turns; times are medians,
without compilation. It writes external.md and external.json under benchmarks/results.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lrs_jax import noise, sampling, storage
from lrs_jax.sampling import Predict
from lrs_jax.tasks.data import camvid, scenes
from lrs_jax.tasks.data.images import Size
from lrs_jax.tasks.options import shown

CHANNELS = 3, 16, 16, 11
Weights = Sequence[tuple[np.ndarray, np.ndarray]]
"""Kernel [out, in, 3, 3] and bias [out] of every layer."""


def weights(seed: int = 0) -> Weights:
  rng = np.random.default_rng(seed)
  found = []
  for inside, outside in itertools.pairwise(CHANNELS):
    kernel = rng.normal(0, np.sqrt(2 / (9 * inside)), (outside, inside, 3, 3))
    found.append((kernel.astype(np.float32), rng.normal(0, 0.1, outside).astype(np.float32)))
  return found


def in_jax(params: Weights, image: jax.Array) -> jax.Array:
  """Logits [H, W, K] of an image [H, W, 3]."""
  x = image[None]
  for i, (kernel, bias) in enumerate(params):
    order = ("NHWC", "HWIO", "NHWC")  # of kernels, too: the one that XLA is fast with on a CPU
    kernel = jax.numpy.transpose(kernel, (2, 3, 1, 0))
    x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=order)
    x = x + bias[None, None, None]
    x = x if i == len(params) - 1 else jax.nn.relu(x)
  return x[0]


def in_torch(given: Weights) -> Predict:
  import torch

  layers: list[Any] = []
  for kernel, bias in given:
    layer = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
    layer.load_state_dict({"weight": torch.tensor(kernel), "bias": torch.tensor(bias)})
    layers += [layer, torch.nn.ReLU()]
  model = torch.nn.Sequential(*layers[:-1]).eval()

  def predict(images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
      logits = model(torch.from_numpy(np.moveaxis(images, -1, 1).copy()))
    return np.moveaxis(logits.numpy(), 1, -1)

  return predict


def in_onnx(given: Weights) -> Predict:
  import onnx
  import onnxruntime

  helper, tensor = onnx.helper, onnx.numpy_helper.from_array
  nodes, stored, last = [], [], "images"
  for i, (kernel, bias) in enumerate(given):
    stored += [tensor(kernel, f"kernel{i}"), tensor(bias, f"bias{i}")]
    inputs, output = [last, f"kernel{i}", f"bias{i}"], f"conv{i}"
    nodes.append(helper.make_node("Conv", inputs, [output], pads=[1, 1, 1, 1]))
    last = output
    if i < len(given) - 1:
      nodes.append(helper.make_node("Relu", [last], [f"relu{i}"]))
      last = f"relu{i}"
  kind, free = onnx.TensorProto.FLOAT, ["B", "C", "H", "W"]
  ends = [[helper.make_tensor_value_info(name, kind, free)] for name in ("images", last)]
  graph = helper.make_graph(nodes, "three convolutions", *ends, stored)
  opset = [helper.make_opsetid("", 13)]
  model = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
  session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

  def predict(images: np.ndarray) -> np.ndarray:
    (logits,) = session.run(None, {"images": np.moveaxis(images, -1, 1).copy()})
    return np.moveaxis(logits, 1, -1)

  return predict


FRAMEWORKS: Mapping[str, Callable[[Weights], Predict]] = {
  "PyTorch": in_torch,
  "ONNX Runtime": in_onnx,
}


def measure(image: np.ndarray, num_samples: int, batch_size: int, turns: int) -> dict[str, Any]:
  """Votes that differ, and seconds of every turn, of all frameworks that are here."""
  given, num_classes = weights(), CHANNELS[-1]
  smoothing = noise.gaussian([[0.25]], np.zeros((*image.shape[:2], 1), int))
  groups = np.zeros(image.shape[0] * image.shape[1], int)
  asked = image, smoothing, groups, num_samples

  def device() -> np.ndarray:
    how: dict[str, Any] = {"num_classes": num_classes, "chunk_size": batch_size}
    counts = sampling.vote_counts(jax.random.key(0), in_jax, given, *asked, **how)
    return np.asarray(counts)

  def outside(predict: Predict) -> np.ndarray:
    how: dict[str, Any] = {"num_classes": num_classes, "batch_size": batch_size}
    return np.asarray(sampling.external_votes(jax.random.key(0), predict, *asked, **how).counts)

  def alone(predict: Predict) -> None:
    batch = np.repeat(image[None], batch_size, axis=0)
    for _ in range(num_samples // batch_size):
      predict(batch)

  runs: dict[str, Callable[[], Any]] = {"JAX, on the device": device}
  for name, make in FRAMEWORKS.items():
    try:
      predict = make(given)
    except ImportError as error:
      print(f"{name} is left out: {error}")
      continue
    runs[name] = lambda predict=predict: outside(predict)
    runs[f"{name}, the model alone"] = lambda predict=predict: alone(predict)
  first = {name: timed(run) for name, run in runs.items()}  # compiles
  seconds: dict[str, list[float]] = {name: [] for name in runs}
  for _ in range(turns):
    for name, run in runs.items():
      seconds[name].append(timed(run)[1])
  counts = device()
  differing = {
    name: int(np.abs(first[name][0] - counts).sum() // 2) for name in runs if name in FRAMEWORKS
  }
  return {
    "size": list(image.shape[:2]),
    "votes": int(counts.sum()),
    "differing": differing,
    "milliseconds": {
      name: 1000 * statistics.median(of) / num_samples for name, of in seconds.items()
    },
    "first call, seconds": {name: taken for name, (_, taken) in first.items()},
  }


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
  start = time.perf_counter()
  found = jax.block_until_ready(run())
  return found, time.perf_counter() - start


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """Milliseconds and differing votes, in Markdown."""
  head = "image", "votes", "ms per sample", "model alone", "votes that differ from JAX's"
  lines = [f"| {' | '.join(head)} |", "| --- | --- | ---: | ---: | ---: |"]
  for row in results:
    times = row["milliseconds"]
    for name in (name for name in times if "alone" not in name):
      alone = times.get(f"{name}, the model alone")
      cells = shown(row["size"], "x"), name, f"{times[name]:.3g}"
      cells += ("" if alone is None else f"{alone:.3g}",)
      differing = row["differing"].get(name)
      cells += ("" if differing is None else f"{differing} of {row['votes']:,}",)
      lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def image_of(data_dir: str | None, size: Size) -> np.ndarray:
  if data_dir is None:
    return scenes.load("test", size, 1).images[0]
  return camvid.load(data_dir, "test", size, 1).images[0]


def main(arguments: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  add = parser.add_argument
  add("--data-dir", help="folder of camvid; an embedded scene without it")
  add("--sizes", nargs="+", default=["64x96", "180x240"], help="HxW (default: 64x96 180x240)")
  add("--samples", type=int, default=256, help="of every turn (default: 256)")
  add("--batch-size", type=int, default=8, help="images at once (default: 8)")
  add("--turns", type=int, default=5, help="(default: 5)")
  add("--out", type=Path, default=Path("benchmarks/results"), help="of the table")
  options = parser.parse_args(arguments)
  results = []
  for text in options.sizes:
    height, width = map(int, text.split("x"))
    image = image_of(options.data_dir, (height, width))
    results.append(measure(image, options.samples, options.batch_size, options.turns))
  text = (
    "# Models outside of JAX\n\nOne network of three 3 x 3 convolutions and 4,363 weights, the "
    f"same in all frameworks, under Gaussian noise of 0.25: {options.samples} samples, "
    f"{options.batch_size} at once, median of {options.turns} turns that all take in turn, on "
    f"{jax.devices()[0].device_kind}. Votes differ where logits are tied but for rounding.\n\n"
    f"{table(results)}\n"
  )
  storage.save_text(options.out / "external.md", text)
  storage.save_json(options.out / "external.json", results)
  print(text)


if __name__ == "__main__":
  main()
