r"""The families of noise: how to sample them (device), what they certify (host).

Every distribution is anisotropic: group g of the outputs perturbs each cell c of the input at a
level of its own. A level at which nothing of the input is left hides the cell from the group (a
strictly local model), at no cost in the certificate: its weight is 0 and the model sees a constant.

The noise and the weights come from the same arrays. What a device can represent (float32 levels,
probabilities that are multiples of :math:`2^{-32}`) is rounded to the noisier side, so that the
weights of the stated level hold for what is drawn.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jax.typing import ArrayLike

from lrs_jax.noise.additive import gaussian, laplace, uniform
from lrs_jax.noise.discrete import ablation, flips
from lrs_jax.noise.distributions import SmoothingDistribution
from lrs_jax.noise.grids import on_grid

FAMILIES: Mapping[str, Callable[..., SmoothingDistribution]] = MappingProxyType(
  {factory.__name__: factory for factory in (gaussian, uniform, laplace, ablation, flips)}
)
"""Name of a family -> its factory, of the arrays that `Family.parameters` names, and `cells`."""


def make(
  name: str,
  parameters: Sequence[ArrayLike] | np.ndarray,
  cells: ArrayLike,
  step: float | None = None,
) -> SmoothingDistribution:
  """Makes a distribution again from its family's name, parameters and cells, as they are stored.

  Parameters that the factory has a default for may be left out at the end. With a `step` it is
  `on_grid`.

  Raises:
    ValueError: an unknown name, a wrong number of parameters, or what the factory refuses.

  Example:
    >>> noise = ablation([[0.5]], [0], fill=0.3)
    >>> make(noise.family.name, noise.parameters, noise.cells).parameters
    (array([[0.5]]), array([[0.3]]))
  """
  if name not in FAMILIES:
    raise ValueError(f"`name` must be one of {', '.join(FAMILIES)}, but it is {name!r}.")
  arguments = dict(inspect.signature(FAMILIES[name]).parameters)
  arguments.pop("cells")
  needed = sum(argument.default is argument.empty for argument in arguments.values())
  if not needed <= len(parameters) <= len(arguments):
    raise ValueError(
      f"`parameters` of {name} must be {', '.join(arguments)}, but there are {len(parameters)}."
    )
  found = FAMILIES[name](**dict(zip(arguments, parameters, strict=False)), cells=cells)
  return found if step is None else on_grid(found, step)
