"""From counts to base certificates that hold together with probability 1 - alpha (host).

`bounds` has one bound at one level, `corrections` the levels for many outputs, `certificates` base
certificates made of both, `naive` those of every output on its own, `planning` says beforehand how
many samples they take.
"""

from lrs_jax.confidence.bounds import (
  LEVELS,
  ScoreBounds,
  binomial_p_value,
  clopper_pearson_lower,
  score_bounds_bernstein,
  score_bounds_dkw,
  score_bounds_kl,
  score_bounds_mixed,
)

__all__ = [
  "LEVELS",
  "ScoreBounds",
  "binomial_p_value",
  "clopper_pearson_lower",
  "score_bounds_bernstein",
  "score_bounds_dkw",
  "score_bounds_kl",
  "score_bounds_mixed",
]
