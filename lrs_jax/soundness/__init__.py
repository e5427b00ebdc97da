"""Does a certificate claim more than is true? Checks of any implementation, not only ours (host).

`check_collective`, `check_bound` and `check_base` take a function, and compare what it claims with
exact answers: of tiny problems whose attacks can all be listed, of all outcomes of few trials, of
all noise on a few binary inputs. `python -m lrs_jax.soundness` runs them, on functions that it is
told of or on ours; `PLANTED` are mistakes that they find, so that one sees that they can.
"""

from lrs_jax.soundness.base import check_base
from lrs_jax.soundness.bounds import Trials, check_bound, trials
from lrs_jax.soundness.collective import Solved, check_collective, options_of, tiny_problems
from lrs_jax.soundness.known import OURS, PLANTED
from lrs_jax.soundness.reports import Overclaim, Report
from lrs_jax.soundness.tiny import Tiny, optimum, random_problem, survivors

__all__ = [
  "OURS",
  "PLANTED",
  "Overclaim",
  "Report",
  "Solved",
  "Tiny",
  "Trials",
  "check_base",
  "check_bound",
  "check_collective",
  "optimum",
  "options_of",
  "random_problem",
  "survivors",
  "tiny_problems",
  "trials",
]
