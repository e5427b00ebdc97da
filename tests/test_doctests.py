"""The examples in the docstrings run and print what they say."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import lrs_jax

MODULES = [
  info.name
  for info in pkgutil.walk_packages(lrs_jax.__path__, prefix=f"{lrs_jax.__name__}.")
  if ".templates." not in info.name  # files that users are given, see `test_photos`
]


@pytest.mark.parametrize("name", MODULES)
def test_doctest(name):
  failures, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
  assert failures == 0


PUBLIC = tuple(
  name.removeprefix("lrs_jax.")
  for name in MODULES
  if (
    name != "lrs_jax.sampling.sparse_flips"  # its parts go by the example of `class_sums`
    and name.split(".")[1] in {"cells", "noise", "sampling", "confidence", "evaluation", "errors"}
  )
  or name in {"lrs_jax.collective", "lrs_jax.tasks.models.gnn"}
)
EXCUSED = {"lrs_jax.cells.clusters.metis_clusters": "needs the optional METIS"}


def without_example(name):
  module = importlib.import_module(f"lrs_jax.{name}")
  for function in getattr(module, "__all__", vars(module)):
    value = getattr(module, function)
    here = getattr(value, "__module__", "").startswith(module.__name__)
    if inspect.isfunction(value) and here and not function.startswith("_"):
      title = f"{module.__name__}.{function}"
      if ">>> " not in (value.__doc__ or "") and title not in EXCUSED:
        yield title


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_function_has_an_example(name):
  assert list(without_example(name)) == []
