"""Votes and scores of a model under localized noise, streamed on the device.

`stitching` has the loop over groups, samples and devices, `counting` counts votes, `scores` sums
scores, `sparse_flips` samples graphs with sparse binary attributes, `guards` looks for what would
spoil a certificate, `views` for outputs that see farther than they are said to; `tiles` forces a
view on any model.
"""

from lrs_jax.sampling.checks import default_chunk_size
from lrs_jax.sampling.counting import ClassSums, Votes, vote_counts, votes
from lrs_jax.sampling.scores import class_sums
from lrs_jax.sampling.stitching import (
  MAX_SAMPLES,
  NOBODY,
  Apply,
  See,
  Windows,
  in_windows,
  predict,
  stitched,
  sum_over_samples,
  whole_frame,
)
from lrs_jax.sampling.tiles import tiled
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
  "class_sums",
  "default_chunk_size",
  "in_windows",
  "predict",
  "stitched",
  "sum_over_samples",
  "tiled",
  "vote_counts",
  "votes",
  "whole_frame",
]
