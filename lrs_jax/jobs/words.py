"""What the words mean that a command prints, and their colors (host)."""

import os
import re
from collections.abc import Sequence
from typing import TextIO

ENTRIES: Sequence[tuple[str, str]] = (
  (
    r"certified accuracy at",
    "certified accuracy: of the {unit} with a label, the part that is predicted right and stays "
    "so, all at the same time, whatever one perturbation of the input of that size is; on average "
    "over the inputs",
  ),
  (
    r"certified at",
    "certified: the part of all {unit} whose prediction stays as it is, all at the same time, "
    "whatever one perturbation of the input of that size is; on average over the inputs",
  ),
  (r"at radius", "radius, or epsilon: {perturbations}"),
  (
    r"average radius",
    "average radius: the area under the curve, which is the average of the largest radius at which "
    "an output is still counted",
  ),
  (r"at additions", "additions: how many 0s of the input are turned into 1s, in all"),
  (r"at deletions", "deletions: how many 1s of the input are turned into 0s, in all"),
  (r"at both", "both: at 2, any two additions and any two deletions, at the same time"),
  (r"at entries", "entries: how many entries of the input are changed to anything, in all"),
  (r"    area", "area: the sum of the curve at 1, 2, 3, ... changes"),
  (r"localized", "localized: noise that is weak near an output's group and strong far away"),
  (r"isotropic", "isotropic: noise that is the same everywhere"),
  (
    r"limited view",
    "limited view: an adversary has to pay for changes where an output looks, which the network's "
    "layers limit; tested before sampling",
  ),
  (
    r"\benvelope",
    "envelope: certificates of single {unit} combined by a linear program over concave envelopes: "
    "the default",
  ),
  (r"all orders", "all orders: the best of the base certificates of several Rényi orders"),
  (r"\bnaive", "naive: every output on its own, as if all of the perturbation were spent on it"),
  (
    r"paper's LP|/lp",
    "lp, the paper's LP: the linear program of the paper on localized smoothing (ICLR 2023)",
  ),
  (
    r"exact \(MILP\)|/milp",
    "milp, exact (MILP): as much as the base certificates allow, up to the gap that was asked for",
  ),
  (
    r"SegCertify",
    "SegCertify: the published baseline (ICML 2021) with Holm's correction; isotropic noise, every "
    "radius by a test of its own",
  ),
  (
    r"exact regions",
    "exact regions: localized noise, the exact certificate of every group, over all ways to split "
    "a budget over the cells, where these can be enumerated",
  ),
  (
    r"exact region \(",
    "exact region: isotropic noise with the exact certificate for numbers of additions and "
    "deletions (ICML 2020), every output on its own",
  ),
  (r"no noise", "network, no noise: the network itself, on the input as it is"),
  (
    r"accuracy (\d|-| )",
    "accuracy: the part of the {unit} with a label that are predicted right, over all inputs; "
    "abstaining is wrong",
  ),
  (r"mIoU", "mIoU: intersection over union, averaged over the classes that there are"),
  (r"abstains", "abstains: the part of the {unit} of which nothing can be said, not even at 0"),
  (
    r"always answering",
    "always answering: how often the most frequent label is right; hardly better is worth little",
  ),
  (r"\ball/", "all/METHOD: what is proven of all outputs that count"),
  (r"correct/", "correct/METHOD: what is proven of those whose prediction is the label"),
  (
    r"\bproven",
    "proven: bounds, thresholds and every number of outputs follow from the stored votes; all of "
    "it was computed again, and no solver is believed",
  ),
  (
    r"drawn again",
    "drawn again: so many samples got the noise that they had once more; the stored counts must "
    "have room for their votes",
  ),
  (r"taken on trust", "taken on trust: what a file says of itself and nobody can see in it"),
  (r"k_fwer|given up", "given up: so many {unit} may be wrong, and are subtracted everywhere"),
)
"""A pattern of a text, and what is said of it; {unit} and {perturbations} are filled in."""


def explain(text: str, unit: str = "outputs", perturbations: str = "") -> str:
  """What the words of a text mean, a line for each that occurs in it.

  Example:
    >>> print(explain("mIoU .3, abstains .1", "pixels"))
    mIoU: intersection over union, averaged over the classes that there are
    abstains: the part of the pixels of which nothing can be said, not even at 0
  """
  found = [said for pattern, said in ENTRIES if re.search(pattern, text)]
  if unit == "pixels" and "||_2" in perturbations:
    perturbations += " Values are in [0, 1]: one pixel from black to white is √3, which is 1.73."
  told = (said.replace("{unit}", unit).replace("{perturbations}", perturbations) for said in found)
  return "\n".join(told)


_COLORS = (
  (r"^certified .*", "1"),
  (r"^NOTE: .*", "33"),
  (r"\bproven\b|\bagrees\b", "32"),
  (r"\bREFUSED\b", "1;31"),
)
"""Patterns of what is printed, and how a terminal shows them."""


def painted(text: str, file: TextIO) -> str:
  """A text in color, if a file is a terminal that has it, and NO_COLOR (no-color.org) is not set.

  Example:
    >>> import io
    >>> painted("a.npz: proven", io.StringIO())
    'a.npz: proven'
  """
  if not file.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
    return text
  for pattern, code in _COLORS:
    text = re.sub(pattern, f"\033[{code}m\\g<0>\033[0m", text, flags=re.MULTILINE)
  return text
