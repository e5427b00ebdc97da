"""Votes and scores of a model under localized noise, streamed on the device.

`counting` has the loop over samples and devices and counts votes, `scores` sums one label's scores,
`sparse_flips` samples graphs with sparse binary attributes, `guards` looks for what would spoil a
certificate, `views` for outputs that see farther than they are said to.
"""

from lrs_jax.sampling.counting import (
  MAX_SAMPLES,
  NOBODY,
  Apply,
  ClassSums,
  See,
  Votes,
  Windows,
  default_chunk_size,
  in_windows,
  predict,
  stitched,
  sum_over_samples,
  vote_counts,
  votes,
  whole_frame,
)
from lrs_jax.sampling.views import check_view

__all__ = [
  "MAX_SAMPLES",
  "NOBODY",
  "Apply",
  "ClassSums",
  "See",
  "Votes",
  "Windows",
  "check_view",
  "default_chunk_size",
  "in_windows",
  "predict",
  "stitched",
  "sum_over_samples",
  "vote_counts",
  "votes",
  "whole_frame",
]
