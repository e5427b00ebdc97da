"""Small records for tests, certified from made-up counts."""

import numpy as np

from lrs_jax import noise
from lrs_jax.jobs import graph_records, records
from lrs_jax.jobs.graph_records import GraphRecord
from lrs_jax.sampling.counting import Votes
from lrs_jax.sampling.sparse_flips import ClassSums

GROUPS = np.array([0, 0, 0, 1, 1, 1])
TRUTH = np.array([0, 0, 1, 1, 2, 0])  # the fifth is void, two classes
RADII = np.array([0.0, 0.1, 0.3, 1.0])
OPTIONS = {"envelope": {}, "lp": {"bins": 2}, "naive": {}}
META = {"job": {"seed": 0, "alpha": 0.01, "samples": 1000, "selection_samples": 100}}


def image_record(
  family=noise.gaussian,
  scales=((0.2, 1.0), (1.0, 0.2)),
  alpha=0.01,
  radii=RADII,
  options=OPTIONS,
  agree=(0.999, 0.98, 0.02, 0.01, 0.9, 0.5),
):
  """Six outputs of two classes, in two groups of two cells."""
  smoothing = family(scales, [0, 1])
  votes = np.random.default_rng(0).binomial(1000, agree)
  counts = np.stack([votes, 1000 - votes], axis=1)
  selection = np.stack([votes // 10, 100 - votes // 10], axis=1)
  meta = {"job": {**META["job"], "alpha": alpha}, "ranges": [[0, 1000]]}
  return records.make_record(
    smoothing, GROUPS, Votes(selection, 100), Votes(counts, 1000), alpha, TRUTH, radii, options,
    meta,
  )  # fmt: skip


def class_sums(votes, certainty, num_samples):
  """Sums of scores that go with votes [N, K]: certain ones for the class that has the vote."""
  scores = votes * int(255 * certainty)
  return ClassSums(votes, scores, votes * int(255 * certainty) ** 2, np.asarray(num_samples))


NAMES = (
  *("correct/envelope", "correct/naive", "all/envelope"),
  *("correct/envelope@1", "correct/envelope@2"),
)


def graph_record(methods=("votes", "kl", "bernstein"), names=NAMES):
  """Six nodes of two classes with five attributes each, in two clusters."""
  flips = noise.flips(
    np.array([[0.01, 0.02], [0.02, 0.01]]), np.array([[0.5, 0.9], [0.9, 0.5]]), GROUPS[:, None]
  )
  agree = np.random.default_rng(0).binomial(1000, [0.999, 0.98, 0.02, 0.01, 0.9, 0.5])
  selected = agree // 10
  estimate = class_sums(np.stack([agree, 1000 - agree], axis=1), 0.9, 1000)
  selection = class_sums(np.stack([selected, 100 - selected], axis=1), 0.9, 100)
  test = np.array([True, True, True, True, True, False])
  record = GraphRecord(
    theta_plus=flips.parameters[0],
    theta_minus=flips.parameters[1],
    cells=flips.cells,
    groups=GROUPS,
    num_ones=np.array([1, 2, 3, 0, 5, 2]),
    num_attributes=5,
    selection=selection,
    estimate=estimate,
    alpha=0.01,
    methods=tuple(methods),
    truth=np.array([0, 0, 1, 1, 1, 0]),
    test=test,
    base=graph_records.base_certificates(
      flips, GROUPS, selection, estimate, alpha=0.01, methods=tuple(methods)
    ),
    certified={},
    meta=META,
  )
  budgets = np.array([[0, 0], [1, 0], [0, 1], [2, 2]])
  for name in names:
    method = name.partition("/")[2].partition("@")[0]
    record = graph_records.certify(record, name, budgets, method)
  return record
