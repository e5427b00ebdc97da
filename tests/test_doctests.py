"""The examples in the docstrings run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import lrs_jax

MODULES = [
  info.name for info in pkgutil.walk_packages(lrs_jax.__path__, prefix=f"{lrs_jax.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_doctest(name):
  failures, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
  assert failures == 0
