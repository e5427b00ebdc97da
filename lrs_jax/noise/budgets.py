"""Budgets in the units of the weights, from radii (host)."""

import numpy as np
from jax.typing import ArrayLike


def budgets_from_radii(radii: ArrayLike, p: int) -> np.ndarray:
  r"""What an adversary of radius :math:`\varepsilon` may spend, :math:`\varepsilon^p`, rounded up.

  Radii are in the units of the input, or for p = 0 numbers of entries; for p = 0 and 1 the budgets
  are the radii themselves, float64.

  Example:
    >>> bool(budgets_from_radii([0.1], 2)[0] >= 0.1**2)
    True
  """
  radii = np.asarray(radii, np.float64)
  return radii if p <= 1 else np.where(radii > 0, np.nextafter(radii**p, np.inf), 0.0)
