"""How fast a device samples a model, against the model alone (host)."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from matplotlib.figure import Figure

from lrs_jax.noise import SmoothingDistribution
from lrs_jax.sampling import Apply, Windows, vote_counts


class Rate(NamedTuple):
  """What a device does with chunks of one size."""

  chunk_size: int  # samples that it evaluates at once
  per_second: float  # passes through the model a second: one for every field and sample
  bare: float  # of the model alone, jitted, in batches of the same size
  compilation: float  # seconds, of the sampling


def rates(
  key: jax.Array,
  apply: Apply,
  params: Any,
  x: ArrayLike,
  noise: SmoothingDistribution,
  groups: ArrayLike,
  *,
  num_classes: int,
  chunk_sizes: Sequence[int] = (1, 4, 16, 64),
  num_samples: int = 64,
  turns: int = 3,
  windows: Windows | None = None,
) -> list[Rate]:
  """Times `sampling.vote_counts` on the first device, and the bare model beside it.

  Both take turns, so that what else a machine does meets them alike; a rate is that of the median
  turn, without compilation. The loop adds noise, argmax and counting to the model: a `per_second`
  close to `bare` means that they cost next to nothing.

  Every turn takes `num_samples` samples, rounded up to a multiple of the size of chunks. All other
  arguments are those of `sampling.vote_counts`.

  Example:
    >>> from lrs_jax import noise
    >>> apply = lambda params, x: jnp.stack([x, params - x], axis=-1)
    >>> gaussian, x = noise.gaussian([[0.5]], [0]), np.zeros(1, np.float32)
    >>> given = jax.random.key(0), apply, jnp.float32(1), x, gaussian, [0]
    >>> (rate,) = rates(*given, num_classes=2, chunk_sizes=(4,), num_samples=8, turns=1)
    >>> rate.chunk_size, rate.per_second > 0
    (4, True)
  """
  given = key, apply, params, x, noise, groups
  how: dict[str, Any] = {"num_classes": num_classes, "windows": windows}
  how["mesh"] = jax.make_mesh((1,), ("samples",), devices=jax.devices()[:1])
  alone = jax.jit(jax.vmap(lambda params, x: apply(params, x).argmax(axis=-1), in_axes=(None, 0)))

  def timed(chunk_size: int) -> Rate:
    number = -(-num_samples // chunk_size) * chunk_size
    passes = number * noise.num_groups
    batch = jnp.broadcast_to(jnp.asarray(x), (chunk_size, *np.shape(x)))

    def sampled() -> Any:
      return vote_counts(*given, number, chunk_size=chunk_size, **how)

    def bare() -> Any:
      for _ in range(passes // chunk_size):
        labels = alone(params, batch)
      return labels

    compilation = _seconds(lambda: vote_counts(*given, 0, chunk_size=chunk_size, **how))
    alone(params, batch)
    times = [(_seconds(sampled), _seconds(bare)) for _ in range(turns)]
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    return Rate(chunk_size, passes / ours, passes / theirs, compilation)

  return [timed(chunk_size) for chunk_size in chunk_sizes]


def _seconds(run: Callable[[], Any]) -> float:
  start = time.perf_counter()
  jax.block_until_ready(run())
  return time.perf_counter() - start


def figure(found: Sequence[Rate], title: str = "") -> Figure:
  """Draws passes per second against the size of chunks, sampled and bare.

  Example:
    >>> len(figure([Rate(1, 90.0, 100.0, 0.5), Rate(2, 95.0, 100.0, 0.5)]).axes)
    1
  """
  whole = Figure(figsize=(6, 3.6), layout="constrained")
  axes = whole.subplots()
  sizes = [rate.chunk_size for rate in found]
  axes.plot(sizes, [rate.bare for rate in found], "o--", color="#888888", label="the model alone")
  axes.plot(sizes, [rate.per_second for rate in found], "o-", label="sampled: noise, votes, counts")
  axes.set_xscale("log", base=2)
  axes.set_xticks(sizes, [str(size) for size in sizes])
  axes.set(xlabel="samples at once (chunk size)", ylabel="passes per second", title=title)
  axes.set_ylim(bottom=0)
  axes.legend()
  return whole


def table(found: Sequence[Rate]) -> str:
  """The rates as Markdown.

  Example:
    >>> print(table([Rate(4, 90.0, 100.0, 0.5)]))
    | samples at once | passes per second | the model alone | ratio | compilation, s |
    | ---: | ---: | ---: | ---: | ---: |
    | 4 | 90 | 100 | 0.90 | 0.5 |
  """
  head = "samples at once", "passes per second", "the model alone", "ratio", "compilation, s"
  lines = [f"| {' | '.join(head)} |", f"|{' ---: |' * len(head)}"]
  for size, ours, bare, seconds in found:
    cells = str(size), f"{ours:.4g}", f"{bare:.4g}", f"{ours / bare:.2f}", f"{seconds:.1f}"
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)
