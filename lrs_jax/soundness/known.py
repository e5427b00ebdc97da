"""Functions whose verdict is known: ours, and mistakes that the checks must find (host).

Mistakes are small, on purpose, and most of them have been made in published code.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import stats

from lrs_jax import collective, confidence, noise


def _by(method: str) -> Callable[..., Any]:
  def certify(weights: Any, groups: Any, eta: Any, budgets: Any, **options: Any) -> Any:
    return collective.certify(weights, groups, eta, budgets, method=method, **options)

  return certify


def flips(theta_plus: Any, theta_minus: Any, cells: Any) -> tuple[np.ndarray, Callable[..., Any]]:
  """The base certificate of `noise.flips`, of votes."""
  distribution = noise.flips(theta_plus, theta_minus, cells)
  return distribution.weights, distribution.eta


def ablation(rho: Any, cells: Any) -> tuple[np.ndarray, Callable[..., Any]]:
  """The base certificate of `noise.ablation`, of votes."""
  distribution = noise.ablation(rho, cells)
  return distribution.weights, distribution.eta


OURS: Mapping[str, Mapping[str, Callable[..., Any]]] = {
  "collective": {f"collective.certify, {m}": _by(m) for m in ("naive", "lp", "envelope", "milp")},
  "bound": {"confidence.clopper_pearson_lower": confidence.clopper_pearson_lower},
  "flips": {"noise.flips": flips},
  "ablation": {"noise.ablation": ablation},
}
"""What lrs_jax has for every kind of check."""


def _alive(eta: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
  """Targets that do not abstain."""
  return options.get("targets", np.ones(len(eta), bool)) & (eta > 0)


def _strict(weights: Any, groups: Any, eta: Any, budgets: Any, **options: Any) -> np.ndarray:
  """Every output on its own, and an attack at exactly the price is taken to fail."""
  kinds = np.reshape(weights, (-1, *np.shape(weights)[-2:]))
  with np.errstate(invalid="ignore"):
    prices = np.nan_to_num(kinds * np.reshape(budgets, (-1, 1, 1)), posinf=np.inf)
  reached = prices.max(axis=2, initial=0.0).sum(axis=0)  # [G]
  return np.array([(_alive(eta, options) & (eta >= reached[groups])).sum()])


def _incumbent(weights: Any, groups: Any, eta: Any, budgets: Any, **options: Any) -> np.ndarray:
  """The best attack that was found, here on a single cell, is taken for the best there is."""
  kinds = np.reshape(weights, (-1, *np.shape(weights)[-2:]))
  spent = np.reshape(budgets, (-1, 1)) + np.zeros((1, kinds.shape[2]))
  if options.get("caps") is not None:
    spent = np.minimum(spent, options["caps"])
  with np.errstate(invalid="ignore"):
    reached = np.nan_to_num(kinds * spent[:, None], posinf=np.inf).sum(axis=0)  # [G, C]
  alive = _alive(eta, options)
  fallen = (alive[:, None] & (eta[:, None] <= reached[groups])).sum(axis=0)
  return np.array([alive.sum() - fallen.max(initial=0)])


def _failed(weights: Any, groups: Any, eta: Any, budgets: Any, **options: Any) -> np.ndarray:
  """A solver that failed is taken to have found that there is no attack."""
  return np.full(len(budgets), _alive(eta, options).sum())


def _abstaining(weights: Any, groups: Any, eta: Any, budgets: Any, **options: Any) -> np.ndarray:
  """Outputs that abstain are counted as if they had a label to keep."""
  certified = collective.certify(weights, groups, eta, budgets, **options).certified
  return certified + len(eta) - (eta > 0).sum()


def _one_kind(weights: Any, groups: Any, eta: Any, budgets: Any, **options: Any) -> np.ndarray:
  """Each kind of perturbation is certified as if there were no other one."""
  if np.ndim(weights) == 2:
    return collective.certify(weights, groups, eta, budgets, **options).certified
  caps = options.pop("caps", [None, None])
  parts = [
    collective.certify(weights[a], groups, eta, budgets[:, a], caps=caps[a], **options).certified
    for a in range(2)
  ]
  return np.minimum(*parts)


def _orderings(weights: Any, groups: Any, eta: Any, budgets: Any, **options: Any) -> np.ndarray:
  """Cells are taken in another order than that in which noise was added to them."""
  return collective.certify(weights[..., ::-1], groups, eta, budgets, **options).certified


def _radius(weights: Any, groups: Any, eta: Any, budgets: Any, **options: Any) -> np.ndarray:
  """A radius is handed over where its square is asked for."""
  return collective.certify(weights, groups, eta, np.sqrt(budgets), **options).certified


def _split(weights: Any, groups: Any, eta: Any, budgets: Any, **options: Any) -> np.ndarray:
  """Every cell is taken to have an equal share of the budget."""
  share = np.reshape(budgets, (-1, 1)) / np.shape(weights)[-1]
  caps = np.broadcast_to(share, (share.size, np.shape(weights)[-1]))
  options["caps"] = np.minimum(
    options.get("caps", np.inf), caps.reshape(np.shape(weights)[-3:-2] + (-1,))
  )
  return collective.certify(weights, groups, eta, budgets, **options).certified


def _mean(weights: Any, groups: Any, eta: Any, budgets: Any, **options: Any) -> np.ndarray:
  """A group's outputs share one threshold, their mean instead of the smallest."""
  rounded = np.array(eta, np.float64)
  for g in np.unique(groups):
    alive = (groups == g) & (eta > 0) & np.isfinite(eta)
    if alive.any():
      rounded[alive] = eta[alive].mean()
  return collective.certify(weights, groups, rounded, budgets, **options).certified


def _level(share: float) -> Callable[..., Any]:
  def lower(successes: int, trials: int, alpha: float) -> float:
    return float(confidence.clopper_pearson_lower(successes, trials, min(share * alpha, 0.999)))

  return lower


def _wald(successes: int, trials: int, alpha: float) -> float:
  """The central limit theorem's, of the estimated variance."""
  q = successes / trials
  return q - stats.norm.isf(alpha) * np.sqrt(q * (1 - q) / trials)


def _wilson(successes: int, trials: int, alpha: float) -> float:
  """The central limit theorem's, of the variance at the bound."""
  q, z = successes / trials, max(stats.norm.isf(alpha), 0.0)
  half = z * np.sqrt(q * (1 - q) / trials + z**2 / (4 * trials**2))
  return (q + z**2 / (2 * trials) - half) / (1 + z**2 / trials)


def _bayes(successes: int, trials: int, alpha: float) -> float:
  """A credible bound, under Jeffreys' prior."""
  return float(stats.beta.ppf(alpha, successes + 0.5, trials - successes + 0.5))


def _beside(successes: int, trials: int, alpha: float) -> float:
  """Clopper & Pearson's, with the shapes of the upper bound."""
  return float(stats.beta.ppf(alpha, successes + 1, max(trials - successes, 1e-9)))


def _single(successes: int, trials: int, alpha: float) -> float:
  """Clopper & Pearson's in single precision, which is rounded up as often as down."""
  return float(np.float32(stats.beta.ppf(alpha, max(successes, 1e-9), trials - successes + 1)))


def _squared(theta_plus: Any, theta_minus: Any, cells: Any) -> tuple[Any, Callable[..., Any]]:
  """The variance of a vote is squared once too often."""
  weights, _ = flips(theta_plus, theta_minus, cells)

  def eta(q: Any) -> np.ndarray:
    variance = np.maximum(q * (1 - q), 1e-9)
    return np.where(q > 0.5, np.log1p((q - 0.5) ** 2 / variance**2), 0.0)

  return weights, eta


def _half(theta_plus: Any, theta_minus: Any, cells: Any) -> tuple[Any, Callable[..., Any]]:
  """Weights are half of what they must be."""
  weights, eta = flips(theta_plus, theta_minus, cells)
  return weights / 2, eta


def _swapped(theta_plus: Any, theta_minus: Any, cells: Any) -> tuple[Any, Callable[..., Any]]:
  """Additions are priced as deletions, and deletions as additions."""
  weights, eta = flips(theta_plus, theta_minus, cells)
  return weights[::-1], eta


def _minorities(theta_plus: Any, theta_minus: Any, cells: Any) -> tuple[Any, Callable[..., Any]]:
  """The formula is believed for probabilities under 1/2 as well."""
  weights, eta = flips(theta_plus, theta_minus, cells)
  return weights, lambda q: eta(np.maximum(q, 1 - q))


def _reached(rho: Any, cells: Any) -> tuple[Any, Callable[..., Any]]:
  """An attack at exactly the price is taken to fail."""
  weights, eta = ablation(rho, cells)
  return weights, lambda q: eta(q) * (1 + 1e-9)


def _kept(rho: Any, cells: Any) -> tuple[Any, Callable[..., Any]]:
  """The probability to be hidden is taken for that to be shown."""
  weights, eta = ablation(1 - np.asarray(rho), cells)
  return weights, eta


PLANTED: Mapping[str, Mapping[str, Callable[..., Any]]] = {
  "collective": {
    "attacks at the price fail": _strict,
    "an attack that was found is the best": _incumbent,
    "a solver's failure is no attack": _failed,
    "abstaining outputs count": _abstaining,
    "kinds of perturbation apart": _one_kind,
    "cells in another order": _orderings,
    "radius, not its power": _radius,
    "budget spread evenly": _split,
    "mean threshold of a group": _mean,
  },
  "bound": {
    "twice alpha": _level(2),
    "Wald": _wald,
    "Wilson": _wilson,
    "Jeffreys": _bayes,
    "shapes of the upper bound": _beside,
    "single precision": _single,
  },
  "flips": {
    "variance squared twice": _squared,
    "half the weights": _half,
    "additions for deletions": _swapped,
    "minorities are certified": _minorities,
  },
  "ablation": {"attacks at the price fail": _reached, "shown for hidden": _kept},
}
"""Mistakes for every kind of check, each of which it must find."""
