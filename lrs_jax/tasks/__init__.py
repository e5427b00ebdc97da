"""What is certified: one file a task, with its training, models and data beside it.

A task is a value (`tasks.task`) that `lrs_jax.jobs` runs whatever it is; `TASKS` are those that
come with the library, and a new one is one file and one entry here.
"""

from lrs_jax.tasks import counts, edges, graphs, images, tokens, volumes
from lrs_jax.tasks.finding import find
from lrs_jax.tasks.task import Task

__all__ = ["TASKS", "Task", "find"]

TASKS: dict[str, Task] = {
  task.name: task
  for task in (images.TASK, graphs.TASK, edges.TASK, tokens.TASK, volumes.TASK, counts.TASK)
}
"""Every task by its name."""
