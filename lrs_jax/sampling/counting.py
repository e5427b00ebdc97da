r"""Monte Carlo under localized noise: vote counts, streamed on the device."""

import warnings
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from lrs_jax.errors import LostVotesWarning, NaNLogitsError
from lrs_jax.noise.distributions import SmoothingDistribution
from lrs_jax.sampling import checks, stitching
from lrs_jax.sampling.checks import Request, Setting
from lrs_jax.sampling.stitching import Apply, Window, Windows, predict


class Votes(NamedTuple):
  """What S samples voted for; the votes of disjoint samples add up, leaf by leaf."""

  counts: Any  # int32 [N, K], an array of JAX or NumPy; a row sums to S, less votes that were lost
  num_samples: Any  # int [], S


class ClassSums(NamedTuple):
  """What S samples said of every class, exact integers; those of disjoint samples add up."""

  votes: Any  # int [N, K], samples that predict the class
  scores: Any  # int [N, K], sum of its scores in units of 1/255; None if only votes were counted
  squares: Any  # int [N, K], sum of their squares; likewise
  num_samples: Any  # int [], S; a row of `votes` sums to it, less the votes that were lost


def vote_counts(
  key: jax.Array,
  apply: Apply,
  params: Any,
  x: ArrayLike,
  noise: SmoothingDistribution,
  groups: ArrayLike,
  num_samples: int,
  *,
  num_classes: int,
  first_sample: int = 0,
  chunk_size: int | None = None,
  mesh: Mesh | None = None,
  windows: Windows | None = None,
  prng: str = checks.PRNG,
) -> jax.Array:
  r"""Counts how often each output votes for each class under its group's noise.

  :math:`\mathrm{counts}_{n,k} = \sum_{i < S} [\arg\max f_n(z_i^{g(n)}) = k]`, where sample i draws
  its noise from `fold_in(key, i)`: the noise is the same for any chunk size and number of devices.
  One compilation serves all keys, inputs, parameters, noise levels and numbers of samples of a job.

  If the greatest of an output's logits is nan or infinite in a sample, that vote is lost: it still
  is one of the S samples, and no class has it. (-inf below a finite logit loses nothing.)

  Args:
    key: typed key, `jax.random.key(seed)`. Selection and estimation need two independent ones.
    apply: pure function (params, x) -> logits [..., K] of one input.
    params: pytree of arrays, passed to `apply`.
    x: one input, of a floating-point type; float64 is rounded to float32, and that is certified.
    noise: smoothing distribution with G groups, on the scale of `x`.
    groups: int [N], the group of every output, in the order of the flattened logits.
    num_samples: S >= 0.
    num_classes: K.
    first_sample: number of the first of the S samples: counts of pieces of a job add up.
    chunk_size: samples per device that are evaluated at once; by default chosen from x's size.
    mesh: one-dimensional device mesh to spread the samples over; all devices if None.
    windows: for models that can evaluate a window of their output [H, W, K] for less than all of
      it; then `apply` only says what shape the whole has.
    prng: the PRNG implementation that the key must have. Naming "rbg" or "unsafe_rbg" accepts that
      samples depend on the chunks (they draw a whole chunk from its first key), and that their
      statistical quality under `fold_in` is not established.

  Returns:
    int32 [N, K], on the device; every row sums to S, less the votes that were lost.

  Raises:
    IntegerInputError: x has integer entries.
    NonFiniteInputError: x has entries that are nan or infinite.
    MissingClassesError: the logits' last axis is not `num_classes`.
    NaNLogitsError: every output lost a vote, so that no row shows what S is; `votes` returns it.
    ValueError: shapes, types, sizes or windows that do not fit together.

  Warns:
    LostVotesWarning: some outputs lost votes. Then tell `certificates.from_votes` what S is.

  Example:
    >>> from lrs_jax import noise
    >>> apply = lambda params, x: jnp.stack([x, -x], axis=-1)
    >>> gaussian = noise.gaussian([[0.1, 0.1]], cells=[0, 1])
    >>> x = np.asarray([1.0, -1.0], np.float32)
    >>> vote_counts(jax.random.key(0), apply, None, x, gaussian, [0, 0], 10, num_classes=2)
    Array([[10,  0],
           [ 0, 10]], dtype=int32)

  References: Schuchardt et al. 2023 (arXiv 2210.16140), section 4 and appendix D.
  """
  options: dict[str, Any] = {"chunk_size": chunk_size, "mesh": mesh, "windows": windows}
  options |= {"num_classes": num_classes, "first_sample": first_sample, "prng": prng}
  found = votes(key, apply, params, x, noise, groups, num_samples, **options)
  if not isinstance(found.counts, jax.core.Tracer):  # inside a compiled function nobody is told
    _tell_of_lost_votes(np.asarray(found.counts).sum(axis=1), num_samples)
  return found.counts


@checks.asking
def votes(request: Request) -> Votes:
  """Counts votes as `vote_counts` does, and says how many samples there were (device).

  Arguments and errors are the same; lost votes need no warning, as S is there. It does not wait for
  a single device, but for several, whose counts the host adds up.

  Example:
    >>> from lrs_jax import noise
    >>> apply = lambda params, x: jnp.log(jnp.stack([x, -x], axis=-1))  # nan where x is negative
    >>> x, gaussian = np.ones(1, np.float32), noise.gaussian([[0.1]], cells=[0])
    >>> votes(jax.random.key(0), apply, None, x, gaussian, [0], 10, num_classes=2)
    Votes(counts=Array([[0, 0]], dtype=int32), num_samples=Array(10, dtype=int32))
  """
  counts = _vote_counts(request.sample_range, request.setting, request.starts, **request.static)
  return Votes(stitching.summed(counts), jnp.asarray(request.num_samples, jnp.int32))


def _tell_of_lost_votes(kept: np.ndarray, num_samples: int) -> None:
  if not kept.size or kept.min() == num_samples:
    return
  lost = (
    f"{np.mean(kept < num_samples):.1%} of the outputs lost votes, up to "
    f"{num_samples - kept.min()} of {num_samples}, because the greatest logit was not finite"
  )
  if kept.max() < num_samples:
    raise NaNLogitsError(
      f"`apply`: {lost}; of every output at least {num_samples - kept.max()}. Mend the model, or "
      "take `sampling.votes`, and give its `num_samples` to `certificates.from_votes`."
    )
  warnings.warn(
    f"`apply`: {lost}. They count for no class: give `num_samples={num_samples}` (of all calls "
    "together) to `certificates.from_votes`.",
    LostVotesWarning,
    stacklevel=3,
  )


@partial(jax.jit, static_argnames=("apply", "num_classes", "chunk_size", "mesh", "window"))
def _vote_counts(
  sample_range: jax.Array,
  setting: Setting,
  starts: jax.Array | None,
  *,
  apply: Apply,
  num_classes: int,
  chunk_size: int,
  mesh: Mesh,
  window: Window | None = None,
) -> jax.Array:
  """Every device's counts, int32 [devices, N, K]."""

  def add(counts: jax.Array, sample_ids: jax.Array, valid: jax.Array, args: tuple) -> jax.Array:
    setting, starts = args
    see = stitching.whole_frame(apply, predict)
    if window:
      see = stitching.in_windows(*window, starts, predict)
    predictions = stitching.stitched(sample_ids, *setting, see=see)
    votes = jax.nn.one_hot(predictions, num_classes, dtype=jnp.int32)
    return counts + jnp.where(valid[:, None, None], votes, 0).sum(axis=0, dtype=jnp.int32)

  init = jnp.zeros((setting.groups.size, num_classes), jnp.int32)
  args = setting, starts
  return stitching.device_totals(add, init, sample_range, args, chunk_size=chunk_size, mesh=mesh)
