"""The same U-Net in PyTorch, sampled in the straightforward way: batches, softmax, argmax, host."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lrs_jax.tasks.models import folded_unet


class Block(nn.Sequential):
  """Two 3 x 3 convolutions, each followed by BatchNorm and ReLU."""

  def __init__(self, inputs: int, features: int):
    super().__init__(
      nn.Conv2d(inputs, features, 3, padding=1, bias=False),
      nn.BatchNorm2d(features),
      nn.ReLU(),
      nn.Conv2d(features, features, 3, padding=1, bias=False),
      nn.BatchNorm2d(features),
      nn.ReLU(),
    )


class UNet(nn.Module):
  """`lrs_jax.tasks.models.unet.UNet`, for images [S, channels, H, W]."""

  def __init__(self, num_classes: int, width: int, depth: int, channels: int = 3):
    super().__init__()
    features = [width << level for level in range(depth + 1)]
    inputs = [channels, *features]
    self.down = nn.ModuleList(Block(inputs[i], features[i]) for i in range(depth + 1))
    self.reduce = nn.ModuleList(nn.Conv2d(features[i + 1], features[i], 1) for i in range(depth))
    self.up = nn.ModuleList(Block(2 * features[i], features[i]) for i in range(depth))
    self.pool = nn.MaxPool2d(2, ceil_mode=True)
    self.grow = nn.Upsample(scale_factor=2, mode="nearest")
    self.logits = nn.Conv2d(width, num_classes, 1)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    x = (x - 0.5) / 0.25
    skips = []
    for block in self.down[:-1]:
      x = block(x)
      skips.append(x)
      x = self.pool(x)
    x = self.down[-1](x)
    for reduce, block, skip in reversed(list(zip(self.reduce, self.up, skips, strict=True))):
      x = self.grow(reduce(x))[..., : skip.shape[-2], : skip.shape[-1]]
      x = block(torch.cat([x, skip], dim=1))
    return self.logits(x)


def from_flax(model: Any, variables: Any) -> UNet:
  """The network with the same weights, in evaluation mode."""
  copy = UNet(model.num_classes, model.width, model.depth)
  names = [f"down_{level}" for level in range(model.depth)] + ["bottom"]
  blocks = [*zip(names, copy.down, strict=True)]
  blocks += [(f"up_{level}", block) for level, block in enumerate(copy.up)]
  layers = [(f"up_{level}", layer) for level, layer in enumerate(copy.reduce)]
  params, statistics = jax.device_get((variables["params"], variables["batch_stats"]))
  with torch.no_grad():
    for name, block in blocks:
      for i in range(2):
        conv, norm = block[3 * i], block[3 * i + 1]
        conv.weight.copy_(kernel(params[f"{name}_conv_{i}"]))
        norm.weight.copy_(tensor(params[f"{name}_norm_{i}"]["scale"]))
        norm.bias.copy_(tensor(params[f"{name}_norm_{i}"]["bias"]))
        norm.running_mean.copy_(tensor(statistics[f"{name}_norm_{i}"]["mean"]))
        norm.running_var.copy_(tensor(statistics[f"{name}_norm_{i}"]["var"]))
    for name, layer in [*layers, ("logits", copy.logits)]:
      layer.weight.copy_(kernel(params[name]))
      layer.bias.copy_(tensor(params[name]["bias"]))
  return copy.eval()


def fold(network: UNet) -> UNet:
  """Folds BatchNorm into the convolutions, in place."""
  for block in [*network.down, *network.up]:
    for i in range(2):
      block[3 * i] = fuse_conv_bn_eval(block[3 * i], block[3 * i + 1])
      block[3 * i + 1] = nn.Identity()
  return network


def kernel(layer: Any) -> torch.Tensor:
  return tensor(layer["kernel"]).permute(3, 2, 0, 1)


def tensor(array: Any) -> torch.Tensor:
  return torch.from_numpy(np.array(array))


def sampler(
  given: Any, *, channels_last: bool, folded: bool, sampling: bool, batch_size: int, samples: int
) -> tuple[Callable, Callable, int, dict[str, Any]]:
  """What `throughput_worker.Subject` holds.

  Args:
    given: a `throughput_worker.Setting`.
    channels_last: memory format of weights and images; otherwise PyTorch's default.
    folded: folds BatchNorm.
    sampling: counts the votes of every group's pixels; otherwise only evaluates the network.
    batch_size: noisy images at once.
    samples: per group, rounded up to whole batches.

  Raises:
    AssertionError: logits that are not those of the network in JAX.
  """
  torch.set_float32_matmul_precision("highest")
  device = torch.device({"cpu": "cpu", "gpu": "cuda"}[jax.default_backend()])  # where JAX runs
  memory_format = torch.channels_last if channels_last else torch.contiguous_format
  network = from_flax(given.model, given.variables)
  network = (fold(network) if folded else network).to(device, memory_format=memory_format)
  x = tensor(given.x).permute(2, 0, 1).to(device)
  level = given.smoothing.levels[:, given.groups]  # [G, H, W]
  level = tensor(level).to(device)[:, None]
  num_classes = given.model.num_classes
  with torch.inference_mode():
    logits = network(x[None].contiguous(memory_format=memory_format))[0].permute(1, 2, 0).cpu()
  expected = np.asarray(jax.jit(folded_unet.apply)(given.params, given.x))
  difference = float(abs(logits.numpy() - expected).max() / abs(expected).max())
  if difference > 1e-4:
    raise AssertionError(f"logits differ by {difference:.2g} of their scale: nothing was measured")

  batch = x.expand(batch_size, *x.shape).contiguous(memory_format=memory_format)

  @torch.inference_mode()
  def count(batches: int) -> None:
    counts = np.zeros((num_classes, given.groups.size), np.int64)
    for group in range(len(level)):
      mine = np.flatnonzero(given.groups.ravel() == group)
      for _ in range(batches):
        noisy = batch + level[group] * torch.randn_like(batch)
        labels = network(noisy).softmax(dim=1).argmax(dim=1).cpu().numpy()
        votes = labels.reshape(batch_size, -1)[:, mine]
        for k in range(num_classes):
          counts[k, mine] += (votes == k).sum(axis=0)

  @torch.inference_mode()
  def evaluate(batches: int) -> None:
    for _ in range(batches):
      network(batch)[0, 0, 0, 0].item()

  batches = -(-samples // batch_size)
  if sampling:
    evaluations = len(level) * batches * batch_size
  else:
    batches = max(1, 2 * len(level) // batch_size)
    evaluations = batches * batch_size
  run = count if sampling else evaluate
  facts = {
    "batch_size": batch_size,
    "threads": torch.get_num_threads(),
    "torch": torch.__version__,
    "logits_difference": difference,
  }
  return lambda: evaluate(2), lambda: run(batches), evaluations, facts
