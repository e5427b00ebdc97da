"""Tagger: classes of words from the words nearby, by convolutions over a sequence of any length."""

import flax.linen as nn
import jax
import jax.numpy as jnp

KERNEL = 5
"""Tokens that a convolution sees, so many apart as its block's dilation says."""


class Tagger(nn.Module):
  """Embedding and residual blocks of dilated convolutions, for sequences of any length (device).

  Block i sees tokens 2^i apart: it is LayerNorm (of each token by itself), a convolution of five
  tokens and ReLU, added to what it was given. A logit depends on the tokens at most
  `reach(depth)` before and after its own, and on nothing else.

  Attributes:
    num_classes: K.
    num_tokens: V, tokens that there are, 0 to V - 1; any below 0 is a hidden one.
    width: channels.
    depth: number of blocks.
  """

  num_classes: int
  num_tokens: int
  width: int = 32
  depth: int = 4

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Logits [..., L, K] of tokens [..., L], which may be floating-point."""
    numbers = jnp.clip(x.astype(jnp.int32), -1, self.num_tokens - 1) + 1
    x = nn.Embed(self.num_tokens + 1, self.width, name="words")(numbers)
    for i in range(self.depth):
      y = nn.LayerNorm(name=f"norm_{i}")(x)
      y = nn.Conv(self.width, (KERNEL,), kernel_dilation=(1 << i,), name=f"conv_{i}")(y)
      x = x + nn.relu(y)
    return nn.Dense(self.num_classes, name="logits")(nn.LayerNorm(name="norm")(x))


def reach(depth: int) -> int:
  """How many tokens before and after its own a logit of a `Tagger` depends on.

  Example:
    >>> reach(4)
    30
  """
  return (KERNEL // 2) * ((1 << depth) - 1)
