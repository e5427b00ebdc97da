"""The front door's certificates on disk, for `lrs-jax verify` and `lrs-jax card` (host).

They are stored as jobs store theirs, so jobs are imported: only where something is saved.
"""

from pathlib import Path

import numpy as np

from lrs_jax.front.certified import Certified
from lrs_jax.noise import budgets_from_radii
from lrs_jax.sampling import ClassSums, Votes


def save(certified: Certified, path: str | Path) -> None:
  """Stores a certificate as an .npz file that can be proven again from its votes.

  It is certified once more with numbers that are rounded a little to the weak side, so that any
  machine can prove it; counts may be one less for that. With `truth`, "all" counts all outputs,
  "correct" those that are right.

  Raises:
    OSError: the file cannot be written.
    ValueError: its name does not end in .npz.

  Example:
    >>> import tempfile
    >>> import jax
    >>> from lrs_jax import certify, noise
    >>> from lrs_jax.jobs import cards
    >>> apply = lambda params, x: jax.numpy.stack([x, params - x], axis=-1)
    >>> x, gaussian = np.asarray([0.0, 2.0], np.float32), noise.gaussian([[0.5]], [0, 0])
    >>> certified = certify(jax.random.key(0), apply, 1.0, x, gaussian, [0, 0], [0.0, 0.5])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   path = Path(folder) / "mine.npz"
    ...   certified.save(path)  # save(certified, path)
    ...   cards.of_file(path)["claim"]  # `lrs-jax card mine.npz` prints all of it
    'With probability at least 1 - 0.01, at epsilon = 0.5, 1 or more of 2 predictions ...'
  """
  from lrs_jax.jobs import machines, records
  from lrs_jax.tasks.task import Adversary, Smoothing

  path = Path(path)
  if path.suffix != ".npz":
    raise ValueError(f"`path` must end in .npz, but it is {path}.")
  radii = np.asarray(certified.radii)
  if radii.ndim == 1:  # they must rise
    radii = np.unique(radii)
    adversary = Adversary(
      budgets_from_radii(radii, certified.noise.p)[:, None], radii, integral=certified.noise.p == 0
    )
  else:
    adversary = Adversary(np.unique(radii, axis=0), integral=True)
  names = tuple(f"{targets}/{certified.proof.method}" for targets in ("all", "correct"))
  margins = ("margins",) * (certified.noise.family.margin is not None)
  view = {} if certified.view is None else {"view": certified.view.origin}
  record = records.make_record(
    "",
    Smoothing("certificate", certified.noise, certified.base.groups, names),
    [_sums(certified.selection), _sums(certified.estimation)],
    records.Bounds(certified.alpha, certified.k_fwer, ("votes", *margins), certified.looks),
    adversary,
    truth=certified.truth,
    counted=certified.counted,
    meta={**view, "versions": machines.versions()},
  )
  records.verify(record)
  path.parent.mkdir(parents=True, exist_ok=True)
  records.save(path, record)


def _sums(votes: Votes) -> ClassSums:
  return ClassSums(np.asarray(votes.counts), None, None, np.asarray(votes.num_samples))
