"""What to ask of a model and of keys once, before a long run: what only they can show (host).

A randomized smoothing certificate takes for granted that the base model is a function of one input:
the same logits for it every time, whatever else is in the batch. What arrays cannot show, the
certificate's card states as an assumption (`jobs.cards`).
"""

import math
import re
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr
from jax.typing import ArrayLike

from lrs_jax import errors
from lrs_jax.noise.distributions import SmoothingDistribution, as_input, sample, to_device
from lrs_jax.sampling import checks
from lrs_jax.sampling.stitching import Apply

NUM_INPUTS = 4
"""Noisy inputs that `check_model` looks at."""

TOLERANCE = 1e-2
"""Part of the greatest logit by which two evaluations of one input may differ by rounding alone."""

MAX_TIED = 1e-3
"""Part of the outputs whose two greatest logits may be equal."""


def check_model(
  key: jax.Array,
  apply: Apply,
  params: Any,
  x: ArrayLike,
  noise: SmoothingDistribution,
  groups: ArrayLike,
  *,
  num_classes: int,
) -> None:
  r"""Looks for what would make the certificates of a model wrong, or not what was meant.

  Draws noisy copies :math:`z_1, \dots, z_4` of x for as many groups and demands
  :math:`|f(z_i) - f'(z_i)| \le 10^{-2} \max |f|` of every logit, where f' is the model compiled
  again, or evaluated for all :math:`z_i` at once. A dozen evaluations in all, and no proof.

  Arguments are those of `sampling.vote_counts`, but that the key is not one that samples.

  Raises:
    ValueError: as `sampling.vote_counts`, for what does not fit together or is not finite.
    TrainingModeError, NotLogitsError: as `logits_of`; or there is not one row of logits per output.
    NotDeterministicError: two evaluations of one input differ.
    BatchDependenceError: the logits of an input depend on the batch that it is evaluated in.
    NaNLogitsError: some logits are not numbers.

  Warns:
    TrainingModeWarning: the model draws random numbers (dropout), or its batch statistics do not
      reach its logits.
    InputScaleWarning: the noise is far larger or smaller than the input's range, or flips are asked
      of an input that is not binary.
    TiedLogitsWarning: the two greatest logits are equal for more than 0.1 % of the outputs.

  Example:
    >>> from lrs_jax import noise
    >>> x, gaussian = np.asarray([0.0, 1.0], np.float32), noise.gaussian([[0.1]], cells=[0, 0])
    >>> apply = lambda params, x: jnp.stack([x, params - x], axis=-1)
    >>> check_model(jax.random.key(7), apply, 0.5, x, gaussian, [0, 0], num_classes=2)
    >>> check_model(jax.random.key(7), apply, np.nan, x, gaussian, [0, 0], num_classes=2)
    Traceback (most recent call last):
    ...
    lrs_jax.errors.NaNLogitsError: `apply` returns logits that are not numbers: 8 of 16 are nan...
  """
  x = as_input(x)
  if jnp.issubdtype(x.dtype, jnp.floating):  # else `check_request` refuses it
    _check_logits(logits_of(apply, params, x).shape, np.size(groups), num_classes)
  prng = str(jax.random.key_impl(key))
  checks.check_request(key, apply, params, x, noise, groups, 0, num_classes=None, prng=prng)
  check_scale(np.asarray(x), noise)
  _check_training_mode(apply, params, x)
  inputs = noisy_inputs(key, x, noise)
  model = jax.jit(lambda params, z: apply(params, z))
  logits = [model(params, z) for z in inputs]
  alone = np.stack([np.asarray(part, np.float64) for part in logits])
  if np.isnan(alone).any():
    raise errors.NaNLogitsError(
      f"`apply` returns logits that are not numbers: {np.isnan(alone).sum()} of {alone.size} are "
      "nan. A division by zero, a logarithm of noisy (negative) inputs, or broken parameters?"
    )
  again = [function(params, inputs[0]) for function in (model, jax.jit(lambda p, z: apply(p, z)))]
  greatest = max(difference(alone[0], other) for other in again)
  if greatest > TOLERANCE:
    raise errors.NotDeterministicError(
      "`apply` must return the same logits whenever it is given the same input, but two "
      f"evaluations differ by {greatest:.2g} of the greatest logit. Dropout that is still on, or "
      "random numbers that are not made from `params`?"
    )
  together = jax.jit(jax.vmap(lambda params, z: apply(params, z), in_axes=(None, 0)))
  greatest = difference(alone, together(params, jnp.stack(inputs)))
  if greatest > TOLERANCE:
    raise errors.BatchDependenceError(
      "`apply` must map one input to its logits, whatever else is evaluated with it, but in a "
      f"batch of {len(inputs)} they differ by {greatest:.2g} of the greatest logit from those of "
      "the input alone. Batch statistics in training mode? Use the running averages."
    )
  check_ties(alone, logits[0].dtype)


def noisy_inputs(key: jax.Array, x: jax.Array, noise: SmoothingDistribution) -> list[jax.Array]:
  """`NUM_INPUTS` noisy copies of x, for as many groups.

  Example:
    >>> from lrs_jax import noise
    >>> len(noisy_inputs(jax.random.key(0), jnp.ones(1), noise.gaussian([[0.1]], [0])))
    4
  """
  asked = np.linspace(0, noise.num_groups - 1, NUM_INPUTS).astype(np.int32)
  return list(_samples(jax.random.split(key, NUM_INPUTS), to_device(noise), x, asked))


_samples = jax.jit(jax.vmap(sample, in_axes=(0, None, None, 0)))


def logits_of(apply: Apply, params: Any, x: ArrayLike) -> jax.ShapeDtypeStruct:
  """As `checks.logits_of`, and says what is wrong with a model in training mode.

  Raises:
    TrainingModeError: dropout is on and has no random numbers, or batch statistics are updated.
    NotLogitsError: as there.

  Example:
    >>> logits_of(lambda params, x: jnp.stack([x, -x], axis=-1), None, np.zeros(3)).shape
    (3, 2)
  """
  try:
    return checks.logits_of(apply, params, as_input(x))
  except errors.NotLogitsError:
    raise
  except Exception as error:
    import flax.errors  # heavy, and not everyone's

    if isinstance(error, flax.errors.ModifyScopeVariableError):
      raise errors.TrainingModeError(
        "`apply` updates variables, such as batch statistics: evaluate it with running averages "
        "(train=False, use_running_average=True, or `model.eval()`)."
      ) from error
    if isinstance(error, flax.errors.InvalidRngError) or _RANDOM.search(str(error)):
      raise errors.TrainingModeError(
        "`apply` asks for random numbers that it is not given: turn dropout off "
        "(deterministic=True, train=False, or `model.eval()`)."
      ) from error
    raise


def check_keys(selection_key: jax.Array, estimation_key: jax.Array) -> None:
  """Raises `SameKeyError` if the labels and their bounds come from one key.

  Disjoint ranges of samples of one key (`first_sample`) are independent as well.

  Example:
    >>> check_keys(jax.random.key(0), jax.random.key(0))
    Traceback (most recent call last):
    ...
    lrs_jax.errors.SameKeyError: selection and estimation need two independent keys, but ...
  """
  one, other = jax.random.key_data(selection_key), jax.random.key_data(estimation_key)
  if np.array_equal(one, other):
    raise errors.SameKeyError(
      "selection and estimation need two independent keys, but both are "
      f"{np.asarray(one).tolist()}: make two by `jax.random.split(key)`."
    )


def _check_logits(shape: tuple[int, ...], num_outputs: int, num_classes: int) -> None:
  """Whether the model returns one row of logits for every output."""
  if shape[-1] != num_classes and math.prod(shape) == num_outputs:
    raise errors.NotLogitsError(
      f"`apply` must return logits [..., K] with K = {num_classes} classes last, but it returns an "
      f"array of shape {shape} without such an axis: are these labels, after an argmax, or one "
      "logit for two classes?"
    )
  checks.check_classes(num_classes, shape)
  if math.prod(shape[:-1]) != num_outputs:
    raise errors.NotLogitsError(
      f"`apply` returns logits of shape {shape}, which are {math.prod(shape[:-1])} outputs of "
      f"{num_classes} classes, but `groups` has {num_outputs}: either `groups` is not for this "
      "input, or the logits are not at the resolution of its outputs."
    )


_RANDOM = re.compile(r"dropout|`?deterministic|inference mode", re.IGNORECASE)
"""What other errors for want of random numbers say, as of Flax NNX and Equinox."""


def difference(logits: np.ndarray, other: ArrayLike) -> float:
  """Greatest difference over the greatest logit; infinite logits must be the same ones.

  Example:
    >>> difference(np.array([4.0, -np.inf]), np.array([3.0, -np.inf]))
    0.25
  """
  other = np.asarray(other, np.float64)
  finite = np.isfinite(logits)
  if not np.array_equal(logits[~finite], other[~finite]) or not np.isfinite(other[finite]).all():
    return np.inf
  scale = np.abs(logits[finite]).max(initial=0.0)
  return float(np.abs(logits[finite] - other[finite]).max(initial=0.0) / (scale or 1.0))


def check_scale(x: np.ndarray, distribution: SmoothingDistribution) -> None:
  """Warns if the noise is far larger or smaller than the input's range, or the input not binary.

  Example:
    >>> from lrs_jax import noise
    >>> check_scale(np.array([0.0, 1.0]), noise.gaussian([[0.3]], [0, 0]))
  """
  if distribution.family.binary:
    if not np.isin(x, (0, 1)).all():
      _warn(
        errors.InputScaleWarning,
        f"{distribution.family.name} see of an input only whether it is 0, but `x` ranges from "
        f"{x.min():g} to {x.max():g}: the model is shown 0 and 1 alone.",
      )
    return
  if distribution.p == 0 or not x.size:  # levels are probabilities
    return
  spread = float(np.ptp(np.asarray(x, np.float64)))
  visible = distribution.scale[np.isfinite(distribution.scale)]
  if spread == 0 or not visible.size:
    return
  if visible.max() < spread / 100 or visible.min() > spread * 10:
    _warn(
      errors.InputScaleWarning,
      f"`noise` has scales from {visible.min():g} to {visible.max():g}, but `x` ranges from "
      f"{x.min():g} to {x.max():g}: both must be in the same units (8-bit images are / 255).",
    )


def check_ties(logits: np.ndarray, dtype: Any) -> None:
  """Warns if the two greatest logits, on the last axis, are equal for too many outputs.

  Example:
    >>> check_ties(np.array([[0.0, 1.0]]), np.float32)
  """
  if logits.shape[-1] < 2 or not logits.size:
    return
  greatest = np.partition(logits, -2, axis=-1)[..., -2:]
  tied = float(np.mean(greatest[..., 0] == greatest[..., 1]))
  if tied > MAX_TIED:
    _warn(
      errors.TiedLogitsWarning,
      f"the two greatest logits are equal for {tied:.1%} of the outputs, and the lower class wins: "
      f"{dtype} logits may have too few bits; return them as float32.",
    )


def _check_training_mode(apply: Apply, params: Any, x: jax.Array) -> None:
  """Reads the model's program: what it draws, and which of its parameters reach its logits."""
  jaxpr = jax.make_jaxpr(apply)(params, x).jaxpr
  random = re.compile(r"random_bits|threefry|rng_")
  drawn = sorted({name for name in _primitives(jaxpr) if random.match(name)})
  if drawn:
    _warn(
      errors.TrainingModeWarning,
      f"`apply` draws random numbers ({', '.join(drawn)}): if that is dropout, turn it off "
      "(deterministic=True, train=False, or `model.eval()`).",
    )
  leaves = jax.tree_util.tree_leaves_with_path(params)
  _, needed = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  paths = [jax.tree_util.keystr(path) for path, _ in leaves]
  unused = [
    path for path, used in zip(paths, needed, strict=False) if not used and _STATISTICS.search(path)
  ]
  if unused:
    _warn(
      errors.TrainingModeWarning,
      f"{len(unused)} batch statistics among `params` do not reach the logits, such as "
      f"{unused[0]}: the normalization uses those of its input; evaluate it with running averages "
      "(train=False, or `model.eval()`).",
    )


_STATISTICS = re.compile(r"batch_?stat|running_|\b(mean|var)\b", re.IGNORECASE)
"""Paths of running averages in Flax Linen (`batch_stats`), Flax NNX (`mean`, `var`) and others."""


def _primitives(jaxpr: Any) -> Iterator[str]:
  for equation in jaxpr.eqns:
    yield equation.primitive.name
    for part in jax.tree.leaves(list(equation.params.values())):
      inner = getattr(part, "jaxpr", part)
      if hasattr(inner, "eqns"):
        yield from _primitives(inner)


def _warn(category: type[Warning], message: str) -> None:
  warnings.warn(message, category, stacklevel=4)
