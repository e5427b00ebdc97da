"""Documents as sequences of word vectors, under Gaussian noise on these."""

from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from benchmarks.attack_study.gradients import Smoothed, certified_by
from lrs_jax import noise, storage
from lrs_jax.cells import views
from lrs_jax.tasks import training
from lrs_jax.tasks.data import documents

RADII = np.array([0.1, 0.25, 0.5, 1.0])
STD = 0.15  # word vectors have length 1 on average
CHANNELS = 32
LENGTH = 240  # words of every document


class Reader(nn.Module):
  """Residual blocks of dilated convolutions over word vectors [..., L, W]: logits [..., L, K]."""

  width: int = 48
  depth: int = 3

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = nn.Dense(self.width)(x)
    for i in range(self.depth):
      y = nn.Conv(self.width, (5,), kernel_dilation=(1 << i,))(nn.LayerNorm()(x))
      x += nn.relu(y)
    return nn.Dense(len(documents.CLASSES))(nn.LayerNorm()(x))

  @property
  def reach(self) -> int:
    """Words before and after its own that a logit depends on."""
    return 2 * ((1 << self.depth) - 1)


class Loaded(NamedTuple):
  """Test documents, and a trained network."""

  names: tuple[str, ...]
  x: np.ndarray  # float32 [M, L, W]
  params: Any


MODEL = Reader()


def vectors(split: str, count: int) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
  """Names, word vectors and labels of documents; a word's vector is random, and always the same."""
  found = documents.load(split, count, length=LENGTH)
  table = np.random.default_rng(0).normal(size=(len(documents.vocabulary()) + 1, CHANNELS))
  table = (table / np.sqrt(CHANNELS)).astype(np.float32)
  return found.names, table[np.stack(found.tokens)], np.stack(found.labels)


def load(work: Path, count: int, *, steps: int = 1500, training_documents: int = 3000) -> Loaded:
  """Test documents and a network, trained under the noise if `work` has none."""
  path = work / f"reader-{steps}.npz"
  names, x, _ = vectors("test", count)
  shapes = training.initial.eval_shape(jax.random.key(0), MODEL, x[:1])
  if not path.exists():
    _, texts, labels = vectors("train", training_documents)
    variables, _ = training.train(
      jax.random.key(0), MODEL, texts, labels, training.random_group(isotropic()), num_steps=steps
    )
    leaves = jax.tree.leaves(variables)
    storage.save_arrays(path, {f"{i:03d}": np.asarray(leaf) for i, leaf in enumerate(leaves)})
  tree = jax.tree.structure(shapes)
  stored = storage.load_arrays(path, [f"{i:03d}" for i in range(tree.num_leaves)])
  return Loaded(names, x, jax.tree.unflatten(tree, [stored[name] for name in sorted(stored)]))


def isotropic() -> noise.SmoothingDistribution:
  return noise.gaussian([[STD]], np.zeros((LENGTH, 1), int))


def smoothed(loaded: Loaded, index: int, samples: tuple[int, int]) -> Smoothed:
  """One document, certified from so many samples that select and that bound."""
  view = views.around((LENGTH,), MODEL.reach)
  return certified_by(
    loaded.names[index], index, loaded.x[index], apply, loaded.params, isotropic(), view, samples,
    num_classes=len(documents.CLASSES),
  )  # fmt: skip


def apply(params: Any, x: jax.Array) -> jax.Array:
  """The network on one document."""
  return MODEL.apply(params, x)
