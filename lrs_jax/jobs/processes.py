"""Several processes on one or many hosts, through JAX's own runtime (host).

Without `start` there is one process, and all of this holds trivially.
"""

from typing import Any

import jax


def start(coordinator: str, num_processes: int | None, process_id: int | None) -> None:
  """Joins the processes of a job; called before anything else uses JAX.

  `coordinator` is HOST:PORT of process 0, or "auto" where JAX finds everything out by itself: under
  Slurm, Open MPI, Kubernetes and on TPU pods. `process_id` counts from 0.

  Raises:
    ValueError: numbers that are missing, that are not asked for or that do not fit.
  """
  if coordinator == "auto":
    if num_processes is not None or process_id is not None:
      raise ValueError("--coordinator auto finds --num-processes and --process-id by itself.")
    jax.distributed.initialize()
    return
  if num_processes is None or process_id is None:
    raise ValueError(f"--coordinator {coordinator} needs --num-processes and --process-id.")
  if not 0 <= process_id < num_processes:
    limits = f"[0, --num-processes) = [0, {num_processes})"
    raise ValueError(f"--process-id must lie in {limits}, but it is {process_id}.")
  jax.distributed.initialize(coordinator, num_processes, process_id)


def is_first() -> bool:
  """Whether this is the process that writes what all have in common."""
  return jax.process_index() == 0


def mine(number: int) -> bool:
  """Whether the input with this number is dealt to this process."""
  return number % jax.process_count() == jax.process_index()


def wait_for_all(what: str) -> None:
  """Returns when every process is here, and fails if one of them ends before.

  This asks JAX's coordination service: collective operations, as of `sync_global_devices`, give up
  on a process that is half a minute late. A meeting is named by `what` it is for, and is held once.
  """
  if jax.process_count() > 1:
    from jax._src import distributed

    client: Any = distributed.global_state.client
    client.wait_at_barrier(what, timeout_in_ms=30 * 24 * 3600 * 1000)  # a month
