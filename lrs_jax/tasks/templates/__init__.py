"""Files that `lrs-jax init` writes: tasks of one's own to begin with, each runs as it is."""

import re
from importlib import resources
from pathlib import Path

NAMES = ("plain", "linen", "nnx", "torch", "onnx")
"""What the model is written in."""


def write(path: Path, name: str) -> None:
  """Writes a template into a new file, whose own name it then has in its comments.

  Raises:
    ValueError: a file that could not be imported by its name.
    FileExistsError: there is such a file.
  """
  if path.suffix != ".py" or not path.stem.isidentifier():
    raise ValueError(f"the file must be called NAME.py, such as my_task.py, but not {path}.")
  text = resources.files(__name__).joinpath(f"{name}.py").read_text(encoding="utf-8")
  with path.open("x", encoding="utf-8") as file:
    file.write(re.sub(r"my_task(\.py)?", lambda found: str(path) if found[1] else path.stem, text))
