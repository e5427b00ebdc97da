"""The networks for images, by their names on the command line: one entry, and it can be trained,
certified, and its view is known."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from lrs_jax.cells.views import View
from lrs_jax.tasks.models import folded_deeplab, folded_patchnet, folded_unet, positions
from lrs_jax.tasks.models.deeplab import DeepLab
from lrs_jax.tasks.models.folding import Folded
from lrs_jax.tasks.models.patchnet import PatchNet
from lrs_jax.tasks.models.unet import UNet
from lrs_jax.tasks.training import Expose


class Architecture(NamedTuple):
  """A network as it is trained, and, folded, as it is certified (`folded_unet` has all of it)."""

  module: Callable[..., nn.Module]  # of num_classes, width and depth
  shown: Callable[[jax.Array], jax.Array]  # image -> what the module is shown of it
  exposed: Callable[[Expose], Expose]  # noisy views of an image -> of what is shown
  apply: Callable[[Folded, jax.Array], jax.Array]  # image [H, W, .] -> logits [H, W, K]
  window: Callable[[tuple[int, int]], Callable[[Folded, jax.Array, jax.Array], jax.Array]]
  alignment: Callable[[Folded], int]  # of windows
  view: Callable[[int, tuple[int, ...]], View]  # of depth and shape


NETWORKS: dict[str, tuple[Callable[..., nn.Module], Any]] = {
  "unet": (UNet, folded_unet),
  "patchnet": (PatchNet, folded_patchnet),
  "deeplab": (DeepLab, folded_deeplab),
}


@functools.cache  # the same functions every time, so that what samples is compiled once
def architecture(name: str, with_positions: bool = False) -> Architecture:
  """A network of `NETWORKS`; `with_positions` it also knows where a pixel lies.

  Example:
    >>> architecture("patchnet").view(2, (64, 64)).axes[0][30].tolist()
    [12, 48]
  """
  module, folded = NETWORKS[name]
  certified = folded.apply, folded.window, folded.alignment, folded.view
  found = Architecture(module, lambda x: x, lambda expose: expose, *certified)
  if not with_positions:
    return found
  return found._replace(
    shown=positions.append,
    exposed=positions.kept,
    apply=positions.appended(found.apply),
    window=lambda size: positions.appended(folded.window(size)),
  )
