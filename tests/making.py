"""Small records for tests, certified from made-up counts."""

import numpy as np

from lrs_jax import noise
from lrs_jax.jobs import records
from lrs_jax.jobs.records import Bounds
from lrs_jax.sampling import ClassSums
from lrs_jax.tasks import common
from lrs_jax.tasks.task import Adversary, Smoothing

GROUPS = np.array([0, 0, 0, 1, 1, 1])
TRUTH = np.array([0, 0, 1, 1, 2, 0])  # the fifth is void, two classes
RADII = np.array([0.0, 0.1, 0.3, 1.0])
OPTIONS = {"envelope": {}, "lp": {"bins": 2}, "naive": {}}
META = {"job": {"seed": 0, "alpha": 0.01, "samples": 1000, "selection_samples": 100}}
VOTES = ("votes",)


def votes(counts, num_samples):
  """Sums of votes [N, K] alone."""
  return ClassSums(np.asarray(counts), None, None, np.asarray(num_samples))


def ball(distribution, radii=RADII):
  radii = np.asarray(radii, float)
  return Adversary(noise.budgets_from_radii(radii, distribution.p)[:, None], radii)


def image_record(
  family=noise.gaussian,
  scales=((0.2, 1.0), (1.0, 0.2)),
  alpha=0.01,
  radii=RADII,
  options=OPTIONS,
  agree=(0.999, 0.98, 0.02, 0.01, 0.9, 0.5),
  k_fwer=0.0,
):
  """Six outputs of two classes, in two groups of two cells."""
  distribution = family(scales, [0, 1])
  for_one = np.random.default_rng(0).binomial(1000, agree)
  counts = np.stack([for_one, 1000 - for_one], axis=1)
  selection = np.stack([for_one // 10, 100 - for_one // 10], axis=1)
  meta = {"job": {**META["job"], "alpha": alpha}, "ranges": [[0, 1000]]}
  return records.make_record(
    "images",
    Smoothing("certificate", distribution, GROUPS, common.certificates_of(tuple(options))),
    (votes(selection, 100), votes(counts, 1000)),
    Bounds(alpha, k_fwer, VOTES),
    ball(distribution, radii),
    truth=TRUTH,
    methods=options,
    meta=meta,
  )


def class_sums(votes, certainty, num_samples):
  """Sums of scores that go with votes [N, K]: certain ones for the class that has the vote."""
  scores = votes * int(255 * certainty)
  return ClassSums(votes, scores, votes * int(255 * certainty) ** 2, np.asarray(num_samples))


NAMES = (
  *("correct/envelope", "correct/naive", "all/envelope"),
  *("correct/envelope@1", "correct/envelope@2"),
)
BUDGETS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
CAPS = np.array([[9.0, 8.0], [6.0, 7.0]])  # zeros and ones of 2 clusters of 3 nodes, 5 attributes


def graph_record(statistics=("votes", "kl", "bernstein"), names=NAMES, k_fwer=0.0):
  """Six nodes of two classes with five attributes each, in two clusters."""
  flips = noise.flips(
    np.array([[0.01, 0.02], [0.02, 0.01]]), np.array([[0.5, 0.9], [0.9, 0.5]]), GROUPS[:, None]
  )
  agree = np.random.default_rng(0).binomial(1000, [0.999, 0.98, 0.02, 0.01, 0.9, 0.5])
  selected = agree // 10
  return records.make_record(
    "graphs",
    Smoothing("certificate", flips, GROUPS, names),
    (
      class_sums(np.stack([selected, 100 - selected], axis=1), 0.9, 100),
      class_sums(np.stack([agree, 1000 - agree], axis=1), 0.9, 1000),
    ),
    Bounds(0.01, k_fwer, tuple(statistics)),
    Adversary(BUDGETS, None, CAPS, True),
    truth=np.array([0, 0, 1, 1, 1, 0]),
    counted=np.array([True, True, True, True, True, False]),
    meta=META,
  )


def recertified(record, **changes):
  """The record with other parts, and collective certificates that are proven from those."""
  changed = record._replace(**changes)
  certified = {
    name: records._certify(changed, name, {})  # what a forger does
    for name in record.certified
  }
  return changed._replace(certified=certified)
