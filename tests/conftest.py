"""Strict JAX for every test: no silent promotion, and two simulated devices on a CPU.

Tests that are marked `eight_devices` run in a process that has eight, see `test_devices`. Compiling
takes longer here than running: XLA's older emitters, which are twice as fast at it, make programs
that LLVM leaves as they are, and what one test compiled, others of the same run load, those of
other processes too. Programs as users run them are in those tests of throughput that compare with
other code, and in one of external models.
"""

import atexit
import functools
import gc
import os
import shutil
import tempfile

os.environ.setdefault("LRS_JAX_TEST_DEVICES", "2")
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "")
  + f" --xla_force_host_platform_device_count={os.environ['LRS_JAX_TEST_DEVICES']}"
  + " --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
  + " --xla_cpu_parallel_codegen_split_count=1"
)

import jax
import pytest
from jax._src.interpreters import mlir

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  _CACHE = tempfile.mkdtemp(prefix="lrs-jax-tests-")
  atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
  for _option, _value in (
    ("jax_compilation_cache_dir", _CACHE),
    ("jax_persistent_cache_min_compile_time_secs", 0.0),
  ):
    jax.config.update(_option, _value)
    os.environ[_option.upper()] = str(_value)  # for workers, and the processes that tests start

if hasattr(mlir, "make_ir_context"):  # of JAX's own, so that it may be gone some day
  # a context of the compiler for all programs: to make one takes longer than most of them
  mlir.make_ir_context = functools.cache(mlir.make_ir_context)

LONG = ("images_study", "every_task", "keys", "processes", "kills", "x64", "throughput_benchmark",
  "notebooks", "front", "devices", "cli", "tampering", "training")  # fmt: skip
"""Files that take long, to begin with: a worker that gets one last makes the other wait."""


def _undrawn():
  """Jobs draw nothing: for those that are run for something else than their figures."""
  from lrs_jax.jobs import reports

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(reports, "draw", lambda *args: None)
    yield


no_figures = pytest.fixture(_undrawn)
no_figures_in_module = pytest.fixture(_undrawn, scope="module")  # nor those of its fixtures


@pytest.fixture(scope="session", autouse=True)
def small_sizes():
  """Networks learn from 50 examples, not from thousands, which take seconds to make every time.

  A device evaluates 16 samples at once, not 256: of toy jobs most of those would not count. What is
  counted is the same for all sizes of chunks, which has tests of its own.
  """
  from lrs_jax.sampling import checks
  from lrs_jax.tasks import tokens, volumes
  from lrs_jax.tasks.data import sets

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(checks, "LARGEST_CHUNK", 16)
    for module, name in (
      (sets, "SCENES"), (tokens, "TRAINING_DOCUMENTS"), (volumes, "TRAINING_VOLUMES"),
    ):  # fmt: skip
      patch.setattr(module, name, 50)
    yield


def pytest_collection_modifyitems(config, items):
  """Long files first; and where there are few devices, not what needs many."""
  many = [item for item in items if item.get_closest_marker("eight_devices")]
  if many and int(os.environ["LRS_JAX_TEST_DEVICES"]) < 8:
    config.hook.pytest_deselected(items=many)
    items[:] = [item for item in items if item not in many]
  order = {f"test_{name}": place for place, name in enumerate(LONG)}
  items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))


def pytest_collection_finish():
  """What was imported stays, and so does most of what is traced: it is looked at less often."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(100_000, 20, 100)


def pytest_sessionfinish():
  """What is garbage by now is found once; pytest looks for more of it ten times."""
  gc.collect()
  gc.freeze()
