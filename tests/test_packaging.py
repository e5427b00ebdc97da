"""Importing is quick, touches no device, and needs no optional part; those name their extra."""

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.version import Version
from scipy import sparse

import lrs_jax
from lrs_jax import cli
from lrs_jax.cells import clusters
from tests.test_doctests import MODULES

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(code, platforms="nowhere"):
  """In a new interpreter, where JAX finds no device unless it is told another platform."""
  environment = {**os.environ, "JAX_PLATFORMS": platforms, "PYTHONPATH": str(ROOT)}
  return subprocess.run(
    [sys.executable, "-c", code], env=environment, capture_output=True, text=True
  )


def test_import_takes_less_than_two_seconds_and_no_device():
  code = (
    "import time; start = time.process_time(); import lrs_jax; print(time.process_time() - start)"
  )
  done = run(code)
  assert done.returncode == 0, done.stderr
  assert float(done.stdout) < 2  # of a core, however busy the machine is: 0.9 measured
  assert run("import jax; jax.devices()").returncode != 0  # a touch would have been seen


def test_no_module_touches_a_device_when_it_is_imported():
  done = run(f"import {', '.join(MODULES)}")
  assert done.returncode == 0, done.stderr


def test_heavy_and_optional_parts_wait_until_they_are_used():
  heavy = ("flax", "matplotlib", "sklearn", "optax", "PIL", "pymetis", "torch", "onnxruntime")
  found = f"print([name for name in {heavy} if name in sys.modules])"
  done = run(f"import sys, lrs_jax; {found}; import lrs_jax.cli; {found}")
  assert done.stdout.splitlines() == ["[]", "['flax', 'optax', 'PIL']"], done.stderr


def test_a_missing_optional_part_names_its_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, "pymetis", None)
  with pytest.raises(ValueError, match=r"pip install 'lrs_jax\[graphs\]'"):
    clusters.metis_clusters(sparse.csr_array(1 - np.eye(3)), 2, seed=0)
  assert any(part.startswith("pymetis") for part in PROJECT["optional-dependencies"]["graphs"])


DOOR = (
  *("Certified", "certify", "certify_external", "certify_segmentation"),
  *("certify_segmentation_external", "verify"),
)


def test_all_public_names_are_the_front_door_or_modules_that_exist():
  for name in lrs_jax.__all__:
    value = getattr(lrs_jax, name)
    if name in DOOR:
      assert value.__module__.startswith("lrs_jax.front.")
    else:
      assert value.__name__ == f"lrs_jax.{name}"
  assert set(DOOR) <= set(lrs_jax.__all__)


def test_license_is_named_and_there():
  assert PROJECT["license"] == "Apache-2.0"
  assert "Apache License" in (ROOT / PROJECT["license-files"][0]).read_text()


def test_the_version_without_git_is_of_what_comes_after_the_last_release():
  config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools_scm"]
  titles = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
  assert titles[0] == "Unreleased"
  released = [Version(title) for title in titles[1:]]
  assert released == sorted(released, reverse=True)
  assert Version(config["fallback_version"]) > released[0]
  assert Version(config["fallback_version"]).is_devrelease


def test_the_installed_version_is_what_the_command_prints(capsys):
  with pytest.raises(SystemExit):
    cli.main(["--version"])
  assert capsys.readouterr().out == f"lrs-jax {metadata.version('lrs_jax')}\n"
