"""Smoothing distributions: a family of functions, and the arrays that they take."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lrs_jax.noise.tails import Tail


@jax.tree_util.register_static
@dataclass(frozen=True)
class Family:
  """What all distributions of one kind of noise have in common: functions and words, no arrays.

  To JAX it is a part of the structure of a tree, as the length of a tuple is. One that is no
  factory's own is made by `dataclasses.replace`, or written down, with module-level functions: a
  compiled program serves all distributions whose families are equal.
  """

  name: str  # of the factory, see `FAMILIES`
  parameters: tuple[str, ...]  # arrays [G, C] that the factory takes beside `cells`
  titles: tuple[str, ...]  # what a reader calls the parameters that matter to a certificate
  hidden: tuple[float | None, ...]  # parameters that hide a cell; None: whatever this one is
  p: int  # exponent of |delta| in the certificate; 0 counts changed entries
  kinds: tuple[str, ...]  # what the A budgets count
  perturbations: str  # a sentence: what a certificate holds against
  draw: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
  # device: (key, x, cells) -> standard draw, which all groups of a sample may share
  perturb: Callable[[jax.Array, jax.Array, Any], jax.Array]
  # device: (x, standard draw, level = levels[g, cells], with `shared` if there is any) -> one noisy
  # copy of x
  eta: Callable[[ArrayLike], np.ndarray]  # host: q_lower [N] -> eta [N], rounded down
  eta_soft: Callable[[ArrayLike, ArrayLike], np.ndarray]
  # host: (lower bound on the mean score, upper bound on its variance) [N] -> eta [N]
  margin: Callable[[ArrayLike, ArrayLike], np.ndarray] | None = None
  # host: (q_lower, 1 - upper bound on the probability of any other class) [N] -> the q_lower [N] of
  # the same eta, see `confidence.margins`; None if it is not known
  renyi: Callable[[Any, ArrayLike, float], tuple[np.ndarray, np.ndarray]] | None = None
  # host: (distribution, q_lower [N], order) -> weights [A, G, C] and eta [N] of a Rényi order, see
  # `noise.renyi`; None if there are none
  binary: bool = False  # of an input, only whether an entry is 0 is seen
  tail: Tail | None = None  # of a scale of additive noise, to draw it on a grid; None: not additive
  step: float | None = None  # of the grid that inputs lie on, see `noise.grids`; None: real numbers
  distance: float = 0.0  # between the law that is drawn and the stated one; eta allows for it


class SmoothingDistribution(NamedTuple):
  """Anisotropic input noise and its base certificate: a family, and arrays for its functions.

  It is a tree of arrays, and so an argument of compiled functions: one program serves all levels of
  a family.

  Example:
    >>> from lrs_jax import noise
    >>> near_and_far = noise.gaussian([[0.1, 0.5]], cells=[0, 1, 1])
    >>> jax.jit(noise.sample)(jax.random.key(0), near_and_far, jnp.zeros(3), 0).shape
    (3,)
  """

  family: Family
  parameters: tuple[np.ndarray, ...]  # float64 [G, C] each: with `cells` they make it again, `make`
  levels: Any  # the same as the device uses it: pytree of arrays [G, C]
  cells: Any  # int32, shaped like x but for axes of size 1: the cell of every input coordinate
  weights: np.ndarray  # float64 [A, G, C]: price of perturbing each cell, rounded up
  shared: Any = None  # pytree of arrays that the device needs beside levels, such as tables

  @property
  def scale(self) -> np.ndarray:
    """The first parameter: the level at which group g perturbs cell c, float64 [G, C]."""
    return self.parameters[0]

  @property
  def num_groups(self) -> int:
    """G."""
    return jax.tree.leaves(self.levels)[0].shape[0]

  @property
  def p(self) -> int:
    """Exponent of the certificate, see `Family`."""
    return self.family.p

  @property
  def draw(self) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """The family's standard draw."""
    return self.family.draw

  @property
  def perturb(self) -> Callable[[jax.Array, jax.Array, Any], jax.Array]:
    """How the family turns a standard draw into a noisy input."""
    return self.family.perturb

  @property
  def eta(self) -> Callable[[ArrayLike], np.ndarray]:
    """The family's thresholds from votes."""
    return self.family.eta

  @property
  def eta_soft(self) -> Callable[[ArrayLike, ArrayLike], np.ndarray]:
    """The family's thresholds from scores."""
    return self.family.eta_soft


def to_device(noise: SmoothingDistribution) -> SmoothingDistribution:
  """What a device needs of a distribution: levels and cells to draw from, nothing in float64.

  Example:
    >>> from lrs_jax import noise
    >>> to_device(noise.gaussian([[0.5]], cells=[0])).levels
    Array([[0.5]], dtype=float32)
  """
  arrays = {name: getattr(noise, name) for name in ("levels", "cells", "shared")}
  nothing = np.zeros((0, 0, 0), np.float32)
  return noise._replace(parameters=(), weights=nothing, **jax.tree.map(jnp.asarray, arrays))


def sample(
  key: jax.Array, noise: SmoothingDistribution, x: jax.Array, group: ArrayLike
) -> jax.Array:
  """One noisy copy of x, of x's shape and type, as the outputs of a group see it (device).

  x is of a floating-point type; float64 is rounded to float32 (`as_input`). `group` may be traced;
  groups that are given the same typed key share their standard draw.

  Example:
    >>> from lrs_jax.noise import gaussian
    >>> sample(jax.random.key(0), gaussian([[0.5, np.inf]], [0, 1]), jnp.ones(2), 0)
    Array([1.1583..., 0.       ], dtype=float32)
  """
  x, noise = as_input(x), to_device(noise)
  return perturbed(noise.draw(key, x, noise.cells), x, noise, group)


def perturbed(
  standard: jax.Array, x: jax.Array, noise: SmoothingDistribution, group: ArrayLike
) -> jax.Array:
  """The noisy copy of x that a group sees of a standard draw; `noise` is as of `to_device`.

  Example:
    >>> from lrs_jax.noise import gaussian
    >>> perturbed(jnp.asarray([-1.0]), jnp.ones(1), to_device(gaussian([[0.5], [2.0]], [0])), 1)
    Array([-1.], dtype=float32)
  """
  level = level_at(noise.levels, noise.cells, group)
  return noise.perturb(x, standard, level if noise.shared is None else (level, noise.shared))


def as_input(x: ArrayLike) -> jax.Array:
  """An input as it gets noise, and as it is certified: float64 is rounded to float32 (device).

  Draws are float32. Under `JAX_ENABLE_X64` the low bits of a float64 input would pass through the
  noise untouched, for a model to read; no certificate allows for that.

  Example:
    >>> as_input(np.ones(1, np.float64)).dtype, as_input(jnp.ones(1, jnp.bfloat16)).dtype
    (dtype('float32'), dtype(bfloat16))
  """
  x = jnp.asarray(x)
  return x.astype(jnp.float32) if x.dtype == jnp.float64 else x


def level_at(levels: Any, cells: jax.Array, group: ArrayLike) -> Any:
  """The level of every coordinate for one group, `levels[group][cells]` (device).

  Of a pytree of arrays [G, C] it makes one of arrays shaped like `cells`; `group` may be traced.

  Example:
    >>> level_at(jnp.asarray([[0.1, 0.2]]), jnp.asarray([1, 0, 0]), 0)
    Array([0.2, 0.1, 0.1], dtype=float32)
  """
  return jax.tree.map(lambda level: level[group][cells], levels)


def check_levels(name: str, level: ArrayLike, cells: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """Levels as float64 [G, C] and cells as int32, if they fit together (host).

  Raises:
    ValueError: levels of another shape, or a cell index that is no integer in [0, C).

  Example:
    >>> check_levels("scale", [[1, 2]], [0, 1])
    (array([[1., 2.]]), array([0, 1], dtype=int32))
  """
  level, cells = np.asarray(level, np.float64), np.asarray(cells)
  if level.ndim != 2:
    raise ValueError(f"`{name}` must have shape [G, C], but its shape is {level.shape}.")
  if not np.issubdtype(cells.dtype, np.integer) and cells.size:
    raise ValueError(f"`cells` must be integers, but their type is {cells.dtype}.")
  if cells.size and (cells.min() < 0 or cells.max() >= level.shape[1]):
    raise ValueError(
      f"`cells` must lie in [0, C) with C = {level.shape[1]} cells in `{name}`, "
      f"but they range from {cells.min()} to {cells.max()}."
    )
  return level, cells.astype(np.int32)
