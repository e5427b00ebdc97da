"""From a model that votes to a certificate: guards, votes, bounds, proof."""

import jax
import numpy as np
from jax.typing import ArrayLike

from lrs_jax import collective, keys
from lrs_jax.confidence import corrections, planning
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.front import steps
from lrs_jax.front.certified import Certified
from lrs_jax.front.voters import Voter
from lrs_jax.noise import SmoothingDistribution, budgets_from_radii
from lrs_jax.sampling import Votes, checks, guards


def certified(
  key: jax.Array,
  voter: Voter,
  noise: SmoothingDistribution,
  groups: ArrayLike,
  radii: ArrayLike | None,
  *,
  num_samples: int,
  selection_samples: int,
  alpha: float,
  k_fwer: float,
  method: str,
  time_limit: float | None,
  targets: ArrayLike | None,
  truth: ArrayLike | None,
  until: tuple[float, float] | None,
  fields: steps.Fields | None,
  check: bool,
) -> Certified:
  """What `lrs_jax.certify` does once it is known what votes; arguments are explained there."""
  groups, num_outputs = np.asarray(groups).reshape(-1), voter.num_outputs
  counted = steps.counted_of(targets, truth, num_outputs, voter.num_classes)
  truth = None if truth is None else np.asarray(truth, np.int64).reshape(-1)
  share = None if until is None else until[0]
  looks = steps.looks(num_samples, share)
  levels = corrections.levels(alpha / len(looks), num_outputs, k_fwer)  # alpha may be none
  goal = np.zeros(0) if until is None else steps.checked_radii(np.array([until[1]]), noise)
  if radii is not None:
    radii = steps.checked_radii(radii, noise)
  selection_key, estimation_key = keys.tagged(key, "selection"), keys.tagged(key, "estimation")
  guards.check_keys(selection_key, estimation_key)
  drawn, field = noise, groups
  if fields is not None:
    drawn, field = fields[0], np.asarray(fields[1]).reshape(-1)
  if check:
    voter.check(keys.tagged(key, "guards"), drawn, field)
  groups = steps.of_outputs("groups", groups, "int", num_outputs)
  checks.check_groups(groups, noise.num_groups, "noise")
  if fields is not None:
    steps.check_fields(noise, groups, (drawn, field), num_outputs)
  count = voter.counter(drawn, field)

  def prove(base: BaseCertificates, radii: ArrayLike) -> collective.CollectiveCertificate:
    return collective.certify(
      base.weights,
      base.groups,
      base.eta,
      budgets_from_radii(radii, noise.p),
      method=method,
      targets=steps.targets_of(counted, truth, base),
      integral=noise.p == 0,
      time_limit=time_limit,
      forfeit=base.forfeit,
    )

  selection = count(selection_key, selection_samples, "selection", 0)
  estimation, start = np.zeros((), np.int64), 0
  for num_samples in looks:
    estimation = estimation + count(estimation_key, num_samples, "estimation", start)
    start = num_samples
    base = steps.bounded(noise, groups, selection, estimation, levels, num_samples)
    if share is not None and prove(base, goal).certified[0] >= share * counted.sum():
      break
  if radii is None:
    sharing = max(num_outputs // (levels.forfeit + 1), 1)  # as if so many shared alpha
    level = alpha / len(looks)
    radii = planning.radii([noise], num_samples, num_outputs=sharing, alpha=level)
  proof = prove(base, radii)
  return Certified(
    labels=base.predictions,
    certified=proof.certified,
    radii=radii,
    base=base,
    proof=proof,
    selection=Votes(selection, selection_samples),
    estimation=Votes(estimation, num_samples),
    noise=noise,
    alpha=alpha,
    looks=len(looks),
    k_fwer=k_fwer,
    shape=voter.shape,
    counted=counted,
    truth=truth,
    fields=None if fields is None else (drawn, field),
    view=None,
  )
