"""Votes and scores of a model under localized noise, streamed on the device.

`counting` has the loop over samples and devices and counts votes, `scores` sums one label's scores,
`sparse_flips` samples graphs with sparse binary attributes, `guards` looks for what would spoil a
certificate.
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

__all__ = [
  "MAX_SAMPLES",
  "NOBODY",
  "Apply",
  "ClassSums",
  "See",
  "Votes",
  "Windows",
  "default_chunk_size",
  "in_windows",
  "predict",
  "stitched",
  "sum_over_samples",
  "vote_counts",
  "votes",
  "whole_frame",
]
