"""Votes and scores of a model under localized noise, streamed on the device.

`stitching` has the loop over groups, samples and devices, `counting` counts votes, `scores` sums
scores, `sparse_flips` samples graphs with sparse binary attributes, `guards` looks for what would
spoil a certificate, `views` for outputs that see farther than they are said to; `tiles` forces a
view on any model. `external` counts votes of models of other frameworks, `external_guards` asks
them the same (host).
"""

from lrs_jax.sampling.checks import default_chunk_size
from lrs_jax.sampling.counting import ClassSums, Votes, vote_counts, votes
from lrs_jax.sampling.external import Predict, external_votes
from lrs_jax.sampling.external_guards import check_predict, check_predict_view
from lrs_jax.sampling.scores import class_sums
from lrs_jax.sampling.stitching import (
  MAX_SAMPLES,
  NOBODY,
  Apply,
  See,
  Windows,
  device_totals,
  in_windows,
  predict,
  stitched,
  summed,
  whole_frame,
)
from lrs_jax.sampling.tiles import tiled, tiled_predict
from lrs_jax.sampling.views import check_view

__all__ = [
  "MAX_SAMPLES",
  "NOBODY",
  "Apply",
  "ClassSums",
  "Predict",
  "See",
  "Votes",
  "Windows",
  "check_predict",
  "check_predict_view",
  "check_view",
  "class_sums",
  "default_chunk_size",
  "device_totals",
  "external_votes",
  "in_windows",
  "predict",
  "stitched",
  "summed",
  "tiled",
  "tiled_predict",
  "vote_counts",
  "votes",
  "whole_frame",
]
