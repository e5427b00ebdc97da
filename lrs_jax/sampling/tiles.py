"""Tiles: a field of view that is forced on any image model, whatever it does inside."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax.cells import views
from lrs_jax.errors import NotLogitsError
from lrs_jax.sampling.external import Predict, ask
from lrs_jax.sampling.stitching import Apply


def tiled(apply: Apply, core: int, context: int) -> Apply:
  r"""Evaluates a model tile by tile, each shown the pixels around it and nothing else (device).

  Output (i, j) is what the model says of it in the crop

  .. math:: R(i, j) = [a_i, a_i + s) \times [c_j, c_j + t), \quad s = \min(H, \text{core} + 2\,
    \text{context}),

  with the tile in its middle; at the borders, crops are moved into the image. So no output sees
  more than its crop, `views.tiles`, be the model a transformer, normalized over the whole image, or
  a black box. It takes (core + 2 context)^2 / core^2 times the model's work, and the model should
  have been trained on crops of that size.

  Args:
    apply: (params, crop [s, t, ...]) -> logits [s, t, K].
    core: pixels of a tile, in rows and columns.
    context: pixels around it.

  Returns:
    (params, image [H, W, ...]) -> logits [H, W, K]: a new function, to be made once, so that it is
    compiled once.

  Raises:
    ValueError: `core` is no integer >= 1, or `context` none >= 0.

  Example:
    >>> def apply(params, x):  # sees everything
    ...   return jnp.stack([x, jnp.broadcast_to(x.mean(), x.shape)], axis=-1)
    >>> x = jnp.asarray([[0.0, 1.0, 0.0, 0.0, 0.0, 4.0]])
    >>> tiled(apply, core=2, context=1)(None, x)[0, :, 1]  # of the mean, in crops of 4 pixels
    Array([0.25, 0.25, 0.25, 0.25, 1.  , 1.  ], dtype=float32)
  """
  views.tiles((1, 1), core, context)  # checks both

  def apply_tiles(params: Any, x: jax.Array) -> jax.Array:
    height, width = x.shape[:2]
    view = views.tiles((height, width), core, context)
    cores = [np.arange(0, size, core) for size in (height, width)]
    crops = [axis[at] for axis, at in zip(view.axes, cores, strict=True)]
    size = tuple(int(crop[0, 1] - crop[0, 0]) for crop in crops)
    starts = np.stack(np.meshgrid(*(crop[:, 0] for crop in crops), indexing="ij"), axis=-1)
    inside = np.stack(np.meshgrid(*cores, indexing="ij"), axis=-1) - starts

    def of_tile(where: tuple[jax.Array, jax.Array]) -> jax.Array:
      start, first = where
      rest = x.shape[2:]
      zeros = (jnp.zeros((), jnp.int32),) * len(rest)
      logits = apply(params, jax.lax.dynamic_slice(x, (*start, *zeros), (*size, *rest)))
      padded = jnp.pad(logits, ((0, core), (0, core), (0, 0)))  # the last tile may be cut off
      corner = (*first, jnp.zeros((), jnp.int32))
      return jax.lax.dynamic_slice(padded, corner, (core, core, logits.shape[-1]))

    flat = (jnp.asarray(part.reshape(-1, 2), jnp.int32) for part in (starts, inside))
    tiles = jax.lax.map(of_tile, tuple(flat))
    rows, columns = len(cores[0]), len(cores[1])
    tiles = tiles.reshape(rows, columns, core, core, -1).transpose(0, 2, 1, 3, 4)
    return tiles.reshape(rows * core, columns * core, -1)[:height, :width]

  return apply_tiles


def tiled_predict(predict: Predict, core: int, context: int) -> Predict:
  """`tiled` for a model that is not in JAX: each tile is shown a crop and nothing else (host).

  So that any black box has an exact view, `views.tiles`, which is what `tiled` makes.

  Args:
    predict: crops [B, s, t, ...] -> logits [B, s, t, K], or labels [B, s, t].
    core: pixels of a tile, in rows and columns.
    context: pixels around it.

  Returns:
    images [B, H, W, ...] -> logits [B, H, W, K], or labels [B, H, W].

  Raises:
    ValueError: `core` is no integer >= 1, or `context` none >= 0; and, when it is called, a
      `NotLogitsError` if `predict` does not return one output for every pixel of a crop.

  Example:
    >>> def predict(batch):  # sees everything
    ...   return np.stack([batch, 0 * batch + batch.mean((1, 2), keepdims=True)], axis=-1)
    >>> batch = np.array([[[0.0, 1.0, 0.0, 0.0, 0.0, 4.0]]])
    >>> tiled_predict(predict, core=2, context=1)(batch)[0, 0, :, 1]  # in crops of 4 pixels
    array([0.25, 0.25, 0.25, 0.25, 1.  , 1.  ])
  """
  views.tiles((1, 1), core, context)  # checks both

  def predict_tiles(batch: np.ndarray) -> np.ndarray:
    height, width = batch.shape[1:3]
    view, frame = views.tiles((height, width), core, context), np.zeros((len(batch), 0, 0))
    for i, j in itertools.product(range(0, height, core), range(0, width, core)):
      (top, bottom), (left, right) = view.axes[0][i], view.axes[1][j]
      crop = batch[:, top:bottom, left:right].copy()  # the model may write to it
      shape = crop.shape
      answer = ask(predict, crop)
      if answer.shape[:3] != shape[:3]:
        raise NotLogitsError(
          f"`predict` must return one output for every pixel of a crop, {shape[:3]}, but for crops "
          f"of shape {shape} their shape is {answer.shape}."
        )
      if not frame.size:
        frame = np.zeros((len(batch), height, width, *answer.shape[3:]), answer.dtype)
      tile = answer[:, i - top : i - top + core, j - left : j - left + core]
      frame[:, i : i + core, j : j + core] = tile
    return frame

  return predict_tiles
