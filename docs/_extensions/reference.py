"""The API reference: a page for every room and module whose names are public.

A room's `__all__` says what is public in it; modules without one show what they define. A name that
a room shows is documented there, and not again in the module that defines it. Signatures are those
of the source, and the fields of a tuple are told by the comments beside them.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
import tokenize
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

FOLDER = Path(__file__).parent.parent / "reference"
ROOMS = {
  "lrs_jax": ["errors", "jobs.cards"],
  "lrs_jax.cells": ["partition", "locality", "clusters", "hops", "views"],
  "lrs_jax.noise": ["draws", "grids", "tails", "eta", "renyi", "regions"],
  "lrs_jax.sampling": ["guards", "sparse_flips", "edge_flips"],
  "lrs_jax.confidence": [
    "certificates",
    "corrections",
    "margins",
    "naive",
    "planning",
    "statistics",
  ],
  "lrs_jax.collective": ["iou", "attacks", "regions"],
  "lrs_jax.evaluation": ["choosing", "metrics", "plots", "throughput"],
  "lrs_jax.baselines": [
    "center_smoothing",
    "receptive_field",
    "segcertify",
    "sparse_smoothing",
  ],
  "lrs_jax.soundness": [],
  "lrs_jax.tasks": [
    "task",
    "options",
    "common",
    "photos",
    "counts",
    "denoising",
    "models.folded_unet",
    "models.folded_patchnet",
    "models.folded_deeplab",
  ],
}
"""Rooms and their modules that have a page."""

logger = logging.getLogger(__name__)


class Public(NamedTuple):
  """What is documented on a module's page."""

  name: str
  kind: str  # the directive that documents it
  summary: str  # the first sentence of its docstring
  lines: list[str]  # of a constant: what autodoc would find


def public(module: ModuleType) -> Iterator[Public]:
  """Names of a module that are documented on its page, in the order of the source.

  Functions, classes, and constants with a docstring below them. Modules have pages of their own.
  """
  names = getattr(module, "__all__", None)
  room = importlib.import_module(module.__name__.rpartition(".")[0] or module.__name__)
  shown = () if names is not None else getattr(room, "__all__", ())
  for name, (statement, text) in definitions(module).items():
    if name.startswith("_") or name in shown or (names is not None and name not in names):
      continue
    if isinstance(statement, ast.FunctionDef):
      yield Public(name, "autofunction", sentence(text), [])
    elif isinstance(statement, ast.ClassDef):
      error = issubclass(getattr(module, name), Exception)
      yield Public(name, "autoexception" if error else "autoclass", sentence(text), [])
    elif text:
      value = ast.unparse(statement.value)
      lines = [f":value: {value}"] if len(value) < 100 else []
      yield Public(name, "data", sentence(text), [*lines, "", *inspect.cleandoc(text).splitlines()])


def definitions(module: ModuleType) -> dict[str, tuple[ast.stmt, str]]:
  """Definitions and docstrings of what a module defines; of a room, also of what it imports."""
  found: dict[str, tuple[ast.stmt, str]] = {}
  body = ast.parse(inspect.getsource(module)).body
  for statement, below in zip(body, [*body[1:], None], strict=True):
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
      found[statement.name] = statement, ast.get_docstring(statement) or ""
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
      target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
      text = below.value.value if _is_text(below) else ""
      found[ast.unparse(target)] = statement, text
    elif isinstance(statement, ast.ImportFrom) and statement.module.startswith("lrs_jax"):
      source = importlib.import_module(statement.module)
      for each in statement.names:
        here = getattr(module, "__all__", ())
        if each.name in here and not inspect.ismodule(getattr(module, each.name)):
          found[each.name] = definitions(source)[each.name]
  return found


def sentence(text: str) -> str:
  """The first sentence of a docstring."""
  first = " ".join(inspect.cleandoc(text).partition("\n\n")[0].split())
  return re.split(r"(?<=[.:]) (?=[A-Z`:])", first)[0]


def page(module: ModuleType, modules: list[str]) -> str:
  """The page of a module, and of a room with its modules, as reStructuredText."""
  name, names = module.__name__, list(public(module))
  lines = [name, "=" * len(name), "", f".. automodule:: {name}", "   :no-members:", ""]
  if names:
    lines += [f".. currentmodule:: {name}", "", ".. list-table::", "   :widths: auto", ""]
    for each in names:
      lines += [f"   * - :py:obj:`{each.name}`", f"     - {each.summary}"]
    lines += [""]
  if modules:
    lines += [".. toctree::", "   :caption: Modules", "   :titlesonly:", ""]
    lines += [*(f"   {name}.{each}" for each in modules), ""]
  for each in names:
    lines += [f".. {each.kind}:: {each.name}", *(f"   {line}" for line in each.lines), ""]
  return "\n".join(lines)


def write(app: Sphinx) -> None:
  """Writes all pages that changed into a folder, and leaves no other there."""
  FOLDER.mkdir(exist_ok=True)
  pages = {}
  for room, modules in ROOMS.items():
    pages[room] = page(importlib.import_module(room), modules)
    for module in (f"{room}.{each}" for each in modules):
      pages[module] = page(importlib.import_module(module), [])
  for path in FOLDER.glob("*.rst"):
    if path.stem not in pages:
      path.unlink()
  for name, text in pages.items():
    path = FOLDER / f"{name}.rst"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
      path.write_text(text, encoding="utf-8")


def fields(cls: type) -> Iterator[tuple[str, str, str]]:
  """Names, types and comments of the fields of a tuple or dataclass, from its source.

  A comment stands behind its field, or in the lines below it.
  """
  source = textwrap.dedent(inspect.getsource(cls))
  lines = [line.strip() for line in source.splitlines()]
  comments = {
    token.start[0]: token.string.lstrip("# ")
    for token in tokenize.generate_tokens(StringIO(source).readline)
    if token.type == tokenize.COMMENT
  }
  for statement in ast.parse(source).body[0].body:
    if isinstance(statement, ast.AnnAssign):
      last = statement.end_lineno
      found = [comments[last]] if last in comments else []
      for line in range(last, len(lines)):  # from 0: those below the statement
        if not lines[line].startswith("#"):
          break
        found.append(comments[line + 1])
      kind, text = statement.annotation, " ".join(found)
      if isinstance(kind, ast.Subscript) and ast.unparse(kind.value) == "Annotated":
        kind, option, *_ = kind.slice.elts  # of a configuration
        text = text or option.args[0].value
      yield ast.unparse(statement.target), ast.unparse(kind), text


def _has_fields(value: Any) -> bool:
  named = inspect.isclass(value) and issubclass(value, tuple) and hasattr(value, "_fields")
  return named or (inspect.isclass(value) and hasattr(value, "__dataclass_fields__"))


def tell_fields(
  app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
  """Ends the text of a tuple or dataclass with its fields."""
  if what == "class" and _has_fields(value):
    lines += ["", *([] if lines and not lines[-1] else [""])]
    for field, kind, text in fields(value):
      lines += [f".. attribute:: {field}", f"   :type: {kind}", "", f"   {escaped(text)}", ""]


def keep_properties(
  app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
  """Napoleon takes what a property says before a colon for its type: it is text, as elsewhere."""
  if what == "property":
    lines[:] = inspect.getdoc(value).splitlines()


def escaped(text: str) -> str:
  """A comment as reStructuredText: what stands in backticks is code, all else is text."""
  parts = re.split(r"(`[^`]*`)", text)
  return "".join(
    part if i % 2 else re.sub(r"([*_|\\])", r"\\\1", part) for i, part in enumerate(parts)
  )


def skip(app: Sphinx, what: str, name: str, value: Any, skipped: bool, options: Any) -> bool | None:
  """Fields are told by `tell_fields`."""
  return True if type(value).__name__ == "_tuplegetter" else None


def sign(
  app: Sphinx,
  what: str,
  name: str,
  value: Any,
  options: Any,
  signature: str | None,
  returns: str | None,
) -> tuple[str, str | None] | None:
  """Signatures as the source has them, so that a type is called by its name."""
  if what == "class" and _has_fields(value):
    return "", None  # its fields follow
  if what not in {"function", "method"} or signature is None:
    return None
  try:
    definition = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(value)))).body[0]
  except (OSError, TypeError):
    return None
  if not isinstance(definition, ast.FunctionDef):
    return None
  arguments = definition.args
  if what == "method" and arguments.args and arguments.args[0].arg in {"self", "cls"}:
    arguments.args = arguments.args[1:]
  returned = _unquoted(definition.returns)
  for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
    argument.annotation = _unquoted(argument.annotation)
  return f"({ast.unparse(arguments)})", ast.unparse(returned) if returned else None


def resolve(
  app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element
) -> nodes.Element | None:
  """Links `locality.pixel_distances` and the like: names that end in the same way, if one does."""
  if node.get("reftype") != "obj" or not re.fullmatch(r"\w+(\.\w+)+", node["reftarget"]):
    return None
  if node["reftarget"].startswith("lrs_jax."):
    try:  # it may have no page
      pkgutil.resolve_name(node["reftarget"])
    except (AttributeError, ImportError):
      logger.warning("there is no %s", node["reftarget"], location=node)
  domain = env.domains.python_domain
  ends = [name for name in domain.objects if name.endswith(f".{node['reftarget']}")]
  if len(ends) != 1:
    return None
  node["reftarget"] = ends[0]
  return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", node["reftarget"], node, text)


def _unquoted(annotation: ast.expr | None) -> ast.expr | None:
  if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
    return ast.parse(annotation.value, mode="eval").body
  return annotation


def _is_text(statement: ast.stmt | None) -> bool:
  return (
    isinstance(statement, ast.Expr)
    and isinstance(statement.value, ast.Constant)
    and isinstance(statement.value.value, str)
  )


def setup(app: Sphinx) -> dict[str, bool]:
  """Connects all of it to Sphinx."""
  app.connect("builder-inited", write)
  app.connect("autodoc-skip-member", skip)
  app.connect("autodoc-process-signature", sign)
  app.connect("autodoc-process-docstring", keep_properties, priority=800)  # after Napoleon
  app.connect("autodoc-process-docstring", tell_fields, priority=900)
  app.connect("missing-reference", resolve)
  return {"parallel_read_safe": True, "parallel_write_safe": True}
