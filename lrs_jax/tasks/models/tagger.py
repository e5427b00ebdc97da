"""Tagger: classes of words from the words nearby, by convolutions over a sequence of any length."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

KERNEL = 5  # tokens that a convolution sees, so many apart as its block's dilation says
HIDDEN = -1  # the token of a hidden word, and of those before the first word and after the last


class Tagger(nn.Module):
  """Embedding and residual blocks of dilated convolutions, for sequences of any length (device).

  Block i sees tokens 2^i apart: it is LayerNorm (of each token by itself), a convolution of five
  tokens and ReLU, added to what it was given. A logit depends on the tokens at most
  `reach(depth)` before and after its own, and on nothing else: not even on how far the ends of the
  sequence are, beyond which hidden words go on.
  """

  num_classes: int  # K
  num_tokens: int  # V, tokens that there are, 0 to V - 1; any below 0 is a hidden one
  width: int = 32  # channels
  depth: int = 5  # number of blocks

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, whole: bool = True) -> jax.Array:
    """Logits [..., L, K] of tokens [..., L], which may be floating-point; `train` does nothing.

    Unless x is the `whole` sequence, it is a part of [..., reach + L + reach], and the logits are
    those of its middle.
    """
    tokens = jnp.clip(x.astype(jnp.int32), HIDDEN, self.num_tokens - 1)
    if whole:
      beyond = [(0, 0)] * (x.ndim - 1) + [(reach(self.depth),) * 2]
      tokens = jnp.pad(tokens, beyond, constant_values=HIDDEN)
    x = nn.Embed(self.num_tokens + 1, self.width, name="words")(tokens - HIDDEN)
    for i in range(self.depth):
      y = nn.LayerNorm(name=f"norm_{i}")(x)
      conv = nn.Conv(
        self.width, (KERNEL,), kernel_dilation=(1 << i,), padding="VALID", name=f"conv_{i}"
      )
      lost = KERNEL // 2 << i
      x = x[..., lost : x.shape[-2] - lost, :] + nn.relu(conv(y))
    return nn.Dense(self.num_classes, name="logits")(nn.LayerNorm(name="norm")(x))


def reach(depth: int) -> int:
  """How many tokens before and after its own a logit of a `Tagger` depends on.

  Example:
    >>> reach(4)
    30
  """
  return (KERNEL // 2) * ((1 << depth) - 1)


def window(model: Tagger, size: int) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
  """The model on a window of w = `size` tokens, and on what it can see from there alone.

  (variables, x [L], start) -> logits [w, K] of the tokens from `start` on, which is in [0, L);
  those beyond the end mean nothing.

  Example:
    >>> model, x = Tagger(num_classes=2, num_tokens=9, width=4, depth=1), jnp.arange(9.0)
    >>> variables = jax.jit(model.init)(jax.random.key(0), x)
    >>> part = jax.jit(window(model, 3))(variables, x, jnp.asarray(2))
    >>> bool(jnp.allclose(part, jax.jit(model.apply)(variables, x)[2:5], atol=1e-6))
    True
  """
  side = reach(model.depth)

  def apply(variables: Any, x: jax.Array, start: jax.Array) -> jax.Array:
    padded = jnp.pad(x, (side, side + size), constant_values=HIDDEN)
    seen = jax.lax.dynamic_slice(padded, (start,), (size + 2 * side,))
    return jnp.asarray(model.apply(variables, seen, whole=False))

  return apply
