"""Strict JAX for every test: no silent promotion, and eight simulated devices on a CPU.

What one test compiled, others of the same run load: workers share a folder of compiled programs.
"""

import os
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  _RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
  _FOLDER = Path(tempfile.gettempdir()) / f"lrs-jax-tests-{_RUN}"
  os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_FOLDER)  # for the processes that tests start
  jax.config.update("jax_compilation_cache_dir", str(_FOLDER))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
