"""Training under the noise that will be certified, with Optax."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.ndimage import map_coordinates
from jax.tree_util import Partial
from jax.typing import ArrayLike
from tqdm import tqdm

from lrs_jax import keys, storage
from lrs_jax.noise.distributions import SmoothingDistribution, perturbed, sample, to_device

Augment = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""(key, image [H, W, channels], labels [H, W]) -> both again, changed at random alike (device)."""

Expose = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""(key, image [H, W, channels]) -> noisy views [V, H, W, channels] of it, and bool [V, H, W]: the
pixels whose loss counts in each view (device). A `jax.tree_util.Partial` of arrays, such as the
functions below return, lets one compiled program serve all levels of noise."""

Loss = Callable[[jax.Array, jax.Array], jax.Array]
"""(outputs [batch, ..., K], labels [batch, ...], -1 where none counts) -> their loss, []."""


class TrainingState(NamedTuple):
  """What a step of training changes."""

  variables: Any  # {"params": ..., "batch_stats": ...}, what `model.apply` takes
  optimizer: Any
  step: jax.Array  # int32


class Checkpoint(NamedTuple):
  """Where training is kept, so that it goes on after a stop."""

  path: Path
  manifest: Mapping[str, Any]  # JSON values that tell this training from all others
  interval: float = 30.0  # seconds of work that a kill may cost


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  r"""The mean of :math:`-\log \mathrm{softmax}(f(z))_{n, y_n}` over pixels n with a label.

  Example:
    >>> cross_entropy(jnp.zeros((3, 2)), jnp.asarray([0, 1, -1]))
    Array(0.693..., dtype=float32)
  """
  known = (labels >= 0) & (labels < logits.shape[-1])
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(known, labels, 0))
  return jnp.sum(loss, where=known) / jnp.maximum(known.sum(dtype=loss.dtype), 1)


def keep(key: jax.Array, image: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """No augmentation: what a digit or a letter means changes when it is mirrored."""
  return image, labels


def mirror(key: jax.Array, image: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Flips every other image left to right."""
  flip = jax.random.bernoulli(key)
  return jnp.where(flip, image[:, ::-1], image), jnp.where(flip, labels[:, ::-1], labels)


def rescale(key: jax.Array, image: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Magnifies by 1/2 to 2, log-uniformly, about a random point; beyond the image all is void."""
  key_scale, key_center = jax.random.split(key)
  factor = 2 ** jax.random.uniform(key_scale, minval=-1.0, maxval=1.0)
  size = jnp.asarray(labels.shape, jnp.float32)
  center = jax.random.uniform(key_center, (2,)) * (size - 1)
  lines = [
    center[i] + (jnp.arange(n, dtype=jnp.float32) - center[i]) / factor
    for i, n in enumerate(labels.shape)
  ]
  at = tuple(jnp.meshgrid(*lines, indexing="ij"))
  bilinear = partial(map_coordinates, coordinates=at, order=1, mode="nearest")
  nearest = tuple(jnp.rint(a).astype(jnp.int32) for a in at)
  inside = [(a >= 0) & (a < n) for a, n in zip(nearest, labels.shape, strict=True)]
  return (
    jax.vmap(bilinear, in_axes=-1, out_axes=-1)(image),
    jnp.where(inside[0] & inside[1], labels.at[nearest].get(mode="clip"), -1),
  )


def mirror_and_rescale(
  key: jax.Array, image: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """`mirror`, then `rescale`."""
  key_mirror, key_rescale = jax.random.split(key)
  return rescale(key_rescale, *mirror(key_mirror, image, labels))


def random_crop(size: tuple[int, int], augment: Augment = keep) -> Augment:
  """Cuts `size` = (h, w) pixels out of every image at a random place, after `augment`.

  A convolutional network for large images learns from many small pieces of them at the cost of
  small images; `expose` then makes noise for images of that size.
  """

  def crop(key: jax.Array, image: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    key_first, key_before = jax.random.split(key)
    image, labels = augment(key_before, image, labels)
    last = jnp.asarray(image.shape[:2], jnp.int32) - jnp.asarray(size, jnp.int32)
    first = jax.random.randint(key_first, (2,), 0, last + 1)

    def cut(whole: jax.Array) -> jax.Array:
      rest = whole.shape[2:]
      return jax.lax.dynamic_slice(whole, (*first, *(0,) * len(rest)), (*size, *rest))

    return cut(image), cut(labels)

  return crop


def random_group(noise: SmoothingDistribution) -> Expose:
  """One view, under the noise of a group drawn at random, whose loss counts everywhere.

  A distribution of one group makes this training under isotropic noise; one that stacks the groups
  of several distributions trains for all of them.

  References: Schuchardt et al. 2023 (arXiv 2210.16140), section 7: training with one group's noise.
  """
  return Partial(_everywhere, to_device(noise))


def own_pixels(noise: SmoothingDistribution, groups: ArrayLike) -> Expose:
  """One view, under the noise of a group drawn at random, whose loss counts where the group lies.

  What the network says elsewhere, where that noise is strong, is never asked for: it need not learn
  to say it. The group of every pixel, int [H, W] or [D, H, W], is in [0, G); the noise is of G
  groups, or of a multiple: distributions of the same groups may be stacked, one after the other.
  """
  groups = jnp.asarray(groups, jnp.int32)
  return Partial(_at_own_pixels, to_device(noise), groups, groups.max() + 1)


def _everywhere(
  noise: SmoothingDistribution, key: jax.Array, image: jax.Array
) -> tuple[jax.Array, jax.Array]:
  views, _ = _of_random_group(noise, key, image)
  return views, jnp.ones((), bool)


def _at_own_pixels(
  noise: SmoothingDistribution,
  groups: jax.Array,
  num_groups: jax.Array,
  key: jax.Array,
  image: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  views, row = _of_random_group(noise, key, image)
  return views, (groups == row % num_groups)[None]


def _of_random_group(
  noise: SmoothingDistribution, key: jax.Array, image: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """One view under the noise of a group drawn at random, and the group."""
  key_group, key_noise = jax.random.split(key)
  group = jax.random.randint(key_group, (), 0, noise.num_groups)
  return sample(key_noise, noise, image, group)[None], group


def stitched(noise: SmoothingDistribution, groups: ArrayLike) -> Expose:
  """A view per group under one shared draw, whose loss counts at that group's own pixels.

  The loss is that of the prediction as it will be certified, at G times the cost of a step. The
  group of every pixel is int [H, W].

  References: Schuchardt et al. 2023 (arXiv 2210.16140), section 7: the assembled prediction.
  """
  return Partial(_every_group, to_device(noise), jnp.asarray(groups, jnp.int32))


def _every_group(
  noise: SmoothingDistribution, groups: jax.Array, key: jax.Array, image: jax.Array
) -> tuple[jax.Array, jax.Array]:
  standard = noise.draw(key, image, noise.cells)

  def view(group: jax.Array) -> jax.Array:
    return perturbed(standard, image, noise, group)

  every_group = jnp.arange(noise.num_groups, dtype=jnp.int32)
  return jax.vmap(view)(every_group), groups[None] == every_group[:, None, None]


def train(
  key: jax.Array,
  model: nn.Module,
  images: ArrayLike,
  labels: ArrayLike,
  expose: Expose,
  *,
  num_steps: int,
  batch_size: int = 16,
  learning_rate: float = 3e-3,
  augment: Augment = keep,
  loss: Loss = cross_entropy,
  variables: Any = None,
  checkpoint: Checkpoint | None = None,
) -> tuple[Any, np.ndarray]:
  """Trains a network on noisy views of images.

  Minimises the loss of the views of a batch, for segmentation `cross_entropy`, by AdamW with a
  warm-up and a cosine schedule. BatchNorm sees batches of noisy images, as it will at inference.

  Args:
    key: typed key.
    model: Flax module, `model(x, train)` -> logits [batch, ..., K]; BatchNorm is all it may update.
    images: float32 [M, H, W, channels], or inputs of other axes [M, ...].
    labels: int [M, H, W] or [M, ...]; labels outside [0, K) are void and do not count.
    expose: noisy views of an image: `random_group`, `own_pixels` or `stitched`.
    num_steps: gradient steps.
    batch_size: images a step, drawn with repetition.
    learning_rate: the schedule's peak.
    augment: pure function of one image.
    loss: of outputs and labels.
    variables: of a trained network to start from; random ones if None.
    checkpoint: keeps the state on disk; the same call goes on from there after a stop.

  Returns:
    The variables for `model.apply`, and the loss of every step, float32 [num_steps].

  Raises:
    ValueError: the checkpoint is damaged, or of another training.
  """
  key_init, key_steps = keys.tagged(key, "variables"), keys.tagged(key, "steps")
  images, labels = jnp.asarray(images, jnp.float32), jnp.asarray(labels, jnp.int32)
  if variables is None:
    variables = initial(key_init, model, images[0])
  variables = jax.tree.map(jnp.array, variables)  # a copy: every step gives its state away
  memory = _optimizer(learning_rate, num_steps).init(variables["params"])
  state = TrainingState(variables, memory, jnp.asarray(0, jnp.int32))
  state, told = load_state(checkpoint, state, losses=np.zeros(0, np.float32))
  losses: list[jax.Array | np.ndarray] = list(told)
  how = model, augment, loss, batch_size, learning_rate, num_steps
  given = expose if isinstance(expose, Partial) else Partial(expose), images, labels
  kept = time.monotonic()
  # One call a step: XLA on a CPU runs the convolutions of a gradient ten times slower in a loop.
  with tqdm(
    total=num_steps, initial=len(losses), desc="training", unit="step", mininterval=1.0
  ) as progress:
    try:
      for i in range(len(losses), num_steps):
        state, now = _step(state, key_steps, given, how)
        losses.append(now)
        if i % 20 == 19 or i == num_steps - 1:
          progress.set_postfix(loss=f"{now:.3f}", refresh=False)
          progress.update(i + 1 - progress.n)
          if checkpoint is not None and time.monotonic() - kept > checkpoint.interval:
            _keep(checkpoint, state, losses)
            kept = time.monotonic()
    finally:
      _keep(checkpoint, state, losses)
  return state.variables, np.asarray(losses, np.float32)


@partial(jax.jit, static_argnames="model")
def initial(key: jax.Array, model: nn.Module, x: jax.Array) -> Any:
  """The variables of a network for inputs like x, before training; traced once for equal ones."""
  return model.init(key, x)


def _keep(checkpoint: Checkpoint | None, state: TrainingState, losses: list) -> None:
  if any(leaf.is_deleted() for leaf in jax.tree.leaves(state)):
    return  # stopped within a step, which owns the state: what was kept before stays
  save_state(checkpoint, state, losses=np.asarray(losses[: int(state.step)], np.float32))


def save_state(checkpoint: Checkpoint | None, state: Any, **history: np.ndarray) -> None:
  """Keeps a training's state, a pytree of arrays, and what it told so far: whole or not at all."""
  if checkpoint is None:
    return
  arrays = {f"state/{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
  manifest = storage.json_array(checkpoint.manifest)
  storage.save_arrays(checkpoint.path, {**arrays, **history, "manifest": manifest})


def load_state(
  checkpoint: Checkpoint | None, state: Any, **history: np.ndarray
) -> tuple[Any, np.ndarray]:
  """What `save_state` was given: the state, on the device, and the one array of its history.

  Where nothing was kept, it is the start that is given here, of the same structure and types.

  Raises:
    ValueError: a file that is damaged, no checkpoint, or of another training.
  """
  ((name, told),) = history.items()
  if checkpoint is None or not checkpoint.path.exists():
    return state, told
  arrays = storage.load_arrays(checkpoint.path)
  leaves, structure = jax.tree.flatten(state)
  try:
    if str(arrays["manifest"]) != str(storage.json_array(checkpoint.manifest)):
      raise ValueError(
        f"{checkpoint.path} holds another training, {arrays['manifest']}, not "
        f"{dict(checkpoint.manifest)}: delete it to start again, or choose another file."
      )
    stored = [arrays[f"state/{i}"] for i in range(len(leaves))]
    told = arrays[name]
  except KeyError as error:
    raise ValueError(
      f"{checkpoint.path} is no training checkpoint, its array {error} is missing: "
      "delete it to start again."
    ) from None
  if [(a.shape, a.dtype) for a in stored] != [(a.shape, a.dtype) for a in leaves]:
    raise ValueError(f"{checkpoint.path} holds a network of other shapes: delete it.")
  return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in stored]), told


def _optimizer(learning_rate: float, num_steps: int) -> optax.GradientTransformation:
  schedule = optax.warmup_cosine_decay_schedule(
    learning_rate / 100, learning_rate, max(1, num_steps // 20), max(2, num_steps)
  )
  return optax.adamw(schedule, weight_decay=1e-4)


@partial(jax.jit, static_argnames="how", donate_argnames="state")
def _step(
  state: TrainingState,
  key: jax.Array,
  given: tuple[Expose, jax.Array, jax.Array],
  how: tuple[nn.Module, Augment, Loss, int, float, int],
) -> tuple[TrainingState, jax.Array]:
  """One gradient step: noise and data are arrays, so that other noise is no other program."""
  model, augment, loss_of, batch_size, learning_rate, num_steps = how
  expose, images, labels = given

  def example(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    key_image, key_augment, key_noise = jax.random.split(key, 3)
    i = jax.random.randint(key_image, (), 0, images.shape[0])
    x, y = augment(key_augment, images[i], labels[i])
    views, counts = expose(key_noise, x)
    counts = jnp.broadcast_to(counts, (len(views), *y.shape))
    return views, jnp.where(counts, y, -1)

  def loss_and_statistics(params: Any, variables: Any, x: jax.Array, y: jax.Array) -> Any:
    whole = {**variables, "params": params}
    outputs, updates = model.apply(whole, x, train=True, mutable=["batch_stats"])
    return loss_of(outputs, y), updates

  each = jax.random.split(jax.random.fold_in(key, state.step), batch_size)
  x, y = (a.reshape(-1, *a.shape[2:]) for a in jax.vmap(example)(each))
  params = state.variables["params"]
  differentiate = jax.value_and_grad(loss_and_statistics, has_aux=True)
  (loss, updates), gradient = differentiate(params, state.variables, x, y)
  with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer step count
    optimizer = _optimizer(learning_rate, num_steps)
    direction, memory = optimizer.update(gradient, state.optimizer, params)
  variables = {**updates, "params": optax.apply_updates(params, direction)}
  return TrainingState(variables, memory, state.step + 1), loss
