"""What users import, pinned: a name that goes, or an argument that changes, is a decision."""

import inspect

import lrs_jax
from lrs_jax import collective, confidence, noise, sampling, soundness

NAMES = {
  "lrs_jax": (
    "Certified baselines cells certify certify_external certify_segmentation "
    "certify_segmentation_external collective confidence errors evaluation noise sampling verify"
  ),
  "lrs_jax.noise": (
    "FAMILIES Family SmoothingDistribution ablation as_input budgets_from_radii flips gaussian "
    "in_blocks laplace level_at make on_grid sample seen to_device uniform"
  ),
  "lrs_jax.sampling": (
    "Apply ClassSums MAX_SAMPLES NOBODY Predict See Votes Windows check_predict "
    "check_predict_view check_view class_sums default_chunk_size device_totals external_votes "
    "in_windows predict stitched summed tiled tiled_predict vote_counts votes whole_frame"
  ),
  "lrs_jax.confidence": (
    "LEVELS ScoreBounds binomial_p_value clopper_pearson_lower score_bounds_bernstein "
    "score_bounds_dkw score_bounds_kl score_bounds_mixed"
  ),
  "lrs_jax.collective": (
    "Attack CollectiveCertificate Witness attack certify from_arrays to_arrays verify"
  ),
  "lrs_jax.soundness": (
    "OURS PLANTED Overclaim Report Solved Tiny Trials check_base check_bound check_collective "
    "optimum options_of random_problem survivors tiny_problems trials"
  ),
}

ARGUMENTS = {
  lrs_jax.certify: "key apply params x noise groups radii",
  lrs_jax.certify_segmentation: "key apply params image",
  lrs_jax.certify_external: "key predict x noise groups radii",
  lrs_jax.certify_segmentation_external: "key predict image",
  lrs_jax.verify: "certified",
  confidence.clopper_pearson_lower: "successes trials alpha",
  noise.gaussian: "scale cells",
  noise.uniform: "scale cells",
  noise.laplace: "scale cells",
  noise.ablation: "rho cells",
  noise.on_grid: "noise step",
  noise.flips: "theta_plus theta_minus cells",
  sampling.vote_counts: "key apply params x noise groups num_samples",
  sampling.votes: "key apply params x noise groups num_samples",
  sampling.class_sums: "key apply params x noise groups num_samples",
  noise.seen: "fields field cells sees",
  noise.in_blocks: "fields field view block",
  sampling.tiled: "apply core context",
  sampling.check_view: "apply params x view",
  sampling.external_votes: "key predict x noise groups num_samples",
  sampling.tiled_predict: "predict core context",
  sampling.check_predict: "key predict x noise groups",
  sampling.check_predict_view: "predict x view",
  collective.certify: "weights groups eta budgets",
  collective.verify: "weights groups eta certificate",
  soundness.check_collective: "certify problems",
  soundness.check_bound: "lower_bound problems",
  soundness.check_base: "certificate family num_problems seed",
}

KEYWORDS = {
  lrs_jax.certify: {"num_samples", "selection_samples", "alpha", "method", "fields"},
  lrs_jax.certify_segmentation: {"std", "view", "radii", "grid", "colors", "block", "step"},
  lrs_jax.certify_external: {"num_samples", "alpha", "fields", "num_classes", "batch_size"},
  lrs_jax.certify_segmentation_external: {"std", "view", "radii", "grid", "num_classes", "block"},
  sampling.external_votes: {"num_classes", "first_sample", "batch_size"},
  sampling.vote_counts: {"num_classes", "chunk_size", "mesh", "windows"},
  sampling.votes: {"num_classes", "first_sample", "chunk_size", "mesh", "windows", "prng"},
  sampling.class_sums: {"num_classes", "first_sample", "chunk_size", "mesh", "windows", "prng"},
  collective.certify: {"method", "targets", "caps", "integral", "time_limit", "forfeit"},
  collective.verify: {"exact"},
}


def test_names():
  rooms = {"lrs_jax": lrs_jax, "lrs_jax.noise": noise, "lrs_jax.sampling": sampling}
  rooms |= {"lrs_jax.confidence": confidence, "lrs_jax.collective": collective}
  rooms |= {"lrs_jax.soundness": soundness}
  for name, room in rooms.items():
    assert sorted(room.__all__) == sorted(NAMES[name].split()), name
    assert all(hasattr(room, each) for each in room.__all__)


def test_arguments():
  for function, names in ARGUMENTS.items():
    parameters = inspect.signature(function).parameters
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == names.split(), function
    assert KEYWORDS.get(function, set()) <= set(parameters), function
