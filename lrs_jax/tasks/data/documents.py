"""Documents: passages on different subjects, one label per word. Needs no download (host).

The text is the documentation inside the source files of Python's standard library. Every document
strings together passages on different subjects, and a word's label is the subject of its passage,
so that it depends on the words nearby and hardly on those far away. Documents differ in length.
Training, validation and test documents are made of different blocks of the text; a paragraph
that occurs twice is used once. The text changes a little from one version of Python to the next.
"""

import ast
import functools
import re
import sysconfig
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lrs_jax.tasks.data.splits import generators

SUBJECTS: Mapping[str, tuple[str, ...]] = {
  "concurrency": ("asyncio", "threading", "concurrent", "multiprocessing", "queue", "selectors"),
  "mail": ("email", "smtplib", "imaplib", "mailbox", "poplib", "quopri"),
  "numbers": ("_pydecimal", "statistics", "fractions", "random", "datetime", "_pydatetime"),
  "testing": ("unittest", "doctest"),
  "markup": ("xml", "html", "json", "plistlib"),
  "modules": ("importlib", "inspect", "pkgutil", "zipimport", "runpy", "typing", "dis"),
}
"""Every class, and the modules and packages of the standard library that are about it."""

CLASSES = tuple(SUBJECTS)
SPLITS = {"train": (0, 1, 2, 4, 5), "val": (3,), "test": (6,)}
"""Which of every seven blocks a split is made of."""

BLOCK = 200  # words of a block
PASSAGE = (80, 180)  # the fewest and the most words of a passage
PASSAGES = (3, 5)  # the fewest and the most passages of a document
UNKNOWN = 0  # the token of a word that the training text has not, or only once


class Documents(NamedTuple):
  """M documents, each with L words of its own."""

  names: tuple[str, ...]
  words: tuple[tuple[str, ...], ...]  # as they are written
  tokens: tuple[np.ndarray, ...]  # int32 [L], in [0, V): numbers of words
  labels: tuple[np.ndarray, ...]  # int32 [L], in [0, K): subjects


def load(split: str, count: int, seed: int = 0, *, length: int | None = None) -> Documents:
  """Composes `count` documents, M; the first ones are the same for any count, others for any seed.

  The split is "train", "val" or "test". Where a `length` is given, every document has so many
  words, cut out of a longer one. A Python without its standard library's source files is a
  ValueError, and so is another split.

  Example:
    >>> documents = load("test", count=2)
    >>> [word.shape == label.shape for word, label in zip(documents.tokens, documents.labels)]
    [True, True]
  """
  composed = [_compose(rng, split, length) for rng in generators(split, SPLITS, count, seed)]
  numbers = {word: number for number, word in enumerate(vocabulary(), UNKNOWN + 1)}
  words, labels = tuple(text for text, _ in composed), tuple(labels for _, labels in composed)
  tokens = ([numbers.get(word.lower(), UNKNOWN) for word in text] for text in words)
  names = tuple(f"document-{i:03d}" for i in range(count))
  return Documents(names, words, tuple(np.array(of, np.int32) for of in tokens), labels)


@functools.cache
def vocabulary() -> tuple[str, ...]:
  """The words that occur in the training text more than once, in lower case, by frequency.

  The token of word i is i + 1. There are V = len(vocabulary()) + 1 tokens.

  Example:
    >>> "the" in vocabulary()[:3]
    True
  """
  blocks = (block for subject in CLASSES for block in passages("train", subject))
  counts = Counter(word.lower() for block in blocks for word in block)
  return tuple(sorted((w for w, n in counts.items() if n > 1), key=lambda w: (-counts[w], w)))


@functools.cache
def passages(split: str, subject: str) -> tuple[tuple[str, ...], ...]:
  """The blocks of words on a subject that documents of a split are made of.

  Example:
    >>> len(passages("test", "mail")[0]) == BLOCK
    True
  """
  words, period = _text(subject), sum(map(len, SPLITS.values()))
  blocks = [words[i : i + BLOCK] for i in range(0, len(words) - BLOCK + 1, BLOCK)]
  return tuple(block for i, block in enumerate(blocks) if i % period in SPLITS[split])


@functools.cache
def _text(subject: str) -> tuple[str, ...]:
  """All words on a subject in order, every paragraph once."""
  texts = (text for docstring in _docstrings(subject) for text in re.split(r"\n\s*\n", docstring))
  paragraphs = dict.fromkeys(tuple(re.findall(r"[A-Za-z]+", text)) for text in texts)
  return tuple(word for words in paragraphs for word in words)


def _docstrings(subject: str) -> Iterator[str]:
  library = Path(sysconfig.get_path("stdlib"))
  for name in SUBJECTS[subject]:
    files = [library / f"{name}.py", *sorted((library / name).rglob("*.py"))]
    for file in files:
      if file.exists() and not {"test", "tests"} & set(file.parts[len(library.parts) :]):
        for node in _walk(ast.parse(file.read_bytes())):
          documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
          if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield text


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
  """The nodes of `ast.walk` in its order, without expressions: those document nothing."""
  found = deque([tree])
  while found:
    yield (node := found.popleft())
    inner = ast.stmt | ast.ExceptHandler | ast.match_case
    found.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, inner))


def _compose(
  rng: np.random.Generator, split: str, length: int | None
) -> tuple[tuple[str, ...], np.ndarray]:
  few, many = PASSAGES
  left = int(rng.integers(few, many + 1)) if length is None else 2 + length // PASSAGE[0]
  words, labels = list[str](), list[int]()
  while left:
    subject = int(rng.integers(len(CLASSES)))
    if labels and labels[-1] == subject:
      continue
    blocks = passages(split, CLASSES[subject])
    if not blocks:
      raise ValueError(
        f"there is no text about {CLASSES[subject]} in {sysconfig.get_path('stdlib')}: documents "
        "need the source files of Python's standard library."
      )
    block, size = blocks[rng.integers(len(blocks))], int(rng.integers(PASSAGE[0], PASSAGE[1] + 1))
    first = int(rng.integers(BLOCK - size + 1))
    words += block[first : first + size]
    labels += [subject] * size
    left -= 1
  first = 0 if length is None else int(rng.integers(PASSAGE[0]))
  last = None if length is None else first + length
  return tuple(words[first:last]), np.array(labels[first:last], np.int32)
