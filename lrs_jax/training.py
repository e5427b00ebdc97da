"""Training under the noise that will be certified, with Optax."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from tqdm import tqdm

from lrs_jax.noise import SmoothingDistribution, level_at

Augment = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""(key, image [H, W, channels], labels [H, W]) -> both again, changed at random alike (device)."""


class TrainingState(NamedTuple):
  """What a step of training changes."""

  variables: Any  # {"params": ..., "batch_stats": ...}, what `model.apply` takes
  optimizer: Any
  step: jax.Array  # int32


def keep(key: jax.Array, image: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """No augmentation: what a digit or a letter means changes when it is mirrored."""
  return image, labels


def mirror(key: jax.Array, image: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Flips every other image left to right."""
  flip = jax.random.bernoulli(key)
  return jnp.where(flip, image[:, ::-1], image), jnp.where(flip, labels[:, ::-1], labels)


def train(
  key: jax.Array,
  model: nn.Module,
  images: ArrayLike,
  labels: ArrayLike,
  noise: SmoothingDistribution,
  *,
  num_steps: int,
  batch_size: int = 16,
  learning_rate: float = 3e-3,
  augment: Augment = keep,
) -> tuple[Any, np.ndarray]:
  r"""Trains a segmentation network on images with the noise of a randomly drawn group each.

  Minimises the mean of :math:`-\log \mathrm{softmax}(f(z^{g}))_{n, y_n}` over the labelled pixels n
  of a batch, where every image draws a group g and gets its noise; AdamW with a warm-up and a
  cosine schedule. BatchNorm sees batches of noisy images, as it will at inference.

  Args:
    key: typed key.
    model: Flax module with BatchNorm, `model(x, train)` -> logits [batch, H, W, K].
    images: float32 [M, H, W, channels].
    labels: int [M, H, W]; labels outside [0, K) are void and do not count.
    noise: smoothing distribution of one image.
    num_steps: gradient steps.
    batch_size: images a step, drawn with repetition.
    learning_rate: the schedule's peak.
    augment: pure function of one image.

  Returns:
    The variables for `model.apply`, and the loss of every step, float32 [num_steps].

  References:
    Schuchardt et al. 2023 (arXiv 2210.16140), section 7: training with the noise of one group.
  """
  key_init, key_steps = jax.random.split(key)
  images, labels = jnp.asarray(images, jnp.float32), jnp.asarray(labels, jnp.int32)
  optimizer = optax.adamw(
    optax.warmup_cosine_decay_schedule(
      learning_rate / 100, learning_rate, max(1, num_steps // 20), max(2, num_steps)
    ),
    weight_decay=1e-4,
  )
  variables = jax.jit(model.init)(key_init, images[0])
  state = TrainingState(variables, optimizer.init(variables["params"]), jnp.asarray(0, jnp.int32))
  data = images, labels, jax.tree.map(jnp.asarray, noise.levels), jnp.asarray(noise.cells)
  step = jax.jit(
    partial(_step, model, optimizer, augment, noise.draw, noise.perturb, batch_size),
    donate_argnums=0,
  )
  losses: list[jax.Array] = []
  # One call a step: XLA on a CPU runs the convolutions of a gradient ten times slower in a loop.
  with tqdm(total=num_steps, desc="training", unit="step", mininterval=1.0) as progress:
    for i in range(num_steps):
      state, loss = step(state, key_steps, data)
      losses.append(loss)
      if i % 20 == 19 or i == num_steps - 1:
        progress.set_postfix(loss=f"{loss:.3f}", refresh=False)
        progress.update(i + 1 - progress.n)
  return state.variables, np.asarray(losses, np.float32)


def _step(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  augment: Augment,
  draw: Callable,
  perturb: Callable,
  batch_size: int,
  state: TrainingState,
  key: jax.Array,
  data: tuple[jax.Array, jax.Array, Any, jax.Array],
) -> tuple[TrainingState, jax.Array]:
  images, labels, levels, cells = data
  num_groups = jax.tree.leaves(levels)[0].shape[0]

  def example(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    key_image, key_augment, key_group, key_noise = jax.random.split(key, 4)
    i = jax.random.randint(key_image, (), 0, images.shape[0])
    group = jax.random.randint(key_group, (), 0, num_groups)
    x, y = augment(key_augment, images[i], labels[i])
    return perturb(x, draw(key_noise, x, cells), level_at(levels, cells, group)), y

  def loss_and_statistics(params: Any, variables: Any, x: jax.Array, y: jax.Array) -> Any:
    logits, updates = model.apply(
      {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
    )
    known = (y >= 0) & (y < logits.shape[-1])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(known, y, 0))
    count = jnp.maximum(known.sum(dtype=loss.dtype), 1)
    return jnp.sum(loss, where=known) / count, updates

  keys = jax.random.split(jax.random.fold_in(key, state.step), batch_size)
  x, y = jax.vmap(example)(keys)
  (loss, updates), gradient = jax.value_and_grad(loss_and_statistics, has_aux=True)(
    state.variables["params"], state.variables, x, y
  )
  params = state.variables["params"]
  with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer step count
    direction, memory = optimizer.update(gradient, state.optimizer, params)
  variables = {**updates, "params": optax.apply_updates(params, direction)}
  return TrainingState(variables, memory, state.step + 1), loss
