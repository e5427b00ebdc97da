"""`python -m lrs_jax` is `lrs-jax`."""

import sys

from lrs_jax.cli import main

if __name__ == "__main__":
  sys.exit(main())
