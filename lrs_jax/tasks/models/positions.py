"""Position channels: what a pixel's place tells, for networks that see little (device).

Two channels beside those of an image say how far down and how far right a pixel lies. Nobody can
perturb them: they are constants of the model that is certified, which takes the image alone.

References: Liu et al. 2018 (arXiv 1807.03247): CoordConv.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from lrs_jax.tasks.training import Expose


def append(x: jax.Array) -> jax.Array:
  """An image [H, W, channels] with two channels more: its pixels' row and column, in (0, 1).

  Example:
    >>> append(jnp.zeros((2, 4, 0)))[:, :, 1].tolist()
    [[0.125, 0.375, 0.625, 0.875], [0.125, 0.375, 0.625, 0.875]]
  """
  shape = x.shape[:2]
  row, column = ((jax.lax.iota(x.dtype, n) + 0.5) / n for n in shape)
  places = jnp.broadcast_to(row[:, None], shape), jnp.broadcast_to(column[None], shape)
  return jnp.concatenate([x, jnp.stack(places, axis=-1)], axis=-1)


@functools.cache  # one function a model, so that what samples is compiled once
def appended(apply: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
  """A model of images, from one of images with positions: (params, x, ...) -> logits."""

  def apply_image(params: Any, x: jax.Array, *rest: Any) -> jax.Array:
    return apply(params, append(x), *rest)

  return apply_image


def kept(expose: Expose) -> Expose:
  """Noisy views of images with positions: noise is on the image's channels alone.

  Where an augmentation moves pixels, their positions go with them: they are those in the scene.
  """

  return Partial(_on_image_alone, expose)


def _on_image_alone(expose: Expose, key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
  views, counts = expose(key, x[..., :-2])
  places = jnp.broadcast_to(x[..., -2:], (*views.shape[:-1], 2))
  return jnp.concatenate([views, places], axis=-1), counts
