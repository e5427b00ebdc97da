"""Tokens: the subject of every word of a document, certified against words that are replaced.

An adversary replaces up to B words, any of them by any words (p = 0). Noise hides words at random:
for every segment of a document few words of the segment itself are hidden, and most of those far
away. Documents differ in length, and so do the cells, which are the segments of each.

What that gains, and where it does not help: `docs/choosing.md`.
"""

import functools
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from lrs_jax import noise
from lrs_jax.cells import locality, partition
from lrs_jax.confidence import planning
from lrs_jax.confidence.certificates import BaseCertificates
from lrs_jax.sampling import Windows
from lrs_jax.tasks import common, options, training
from lrs_jax.tasks.data import documents
from lrs_jax.tasks.models import tagger
from lrs_jax.tasks.models.tagger import HIDDEN, Tagger
from lrs_jax.tasks.options import ONE, TRAINED, TRAINING, ZERO, Option, rule
from lrs_jax.tasks.task import Adversary, Case, Count, Data, Network, Smoothing, Task

if TYPE_CHECKING:
  from matplotlib.figure import Figure

TRAINING_DOCUMENTS, TRAINING_LENGTH = 4000, 384

COLUMNS = 120  # characters in a row of the figure

_RHO = rule("must lie in (0, 1]", lambda value: 0 < value <= 1)
_OPEN = rule("must lie in (0, 1)", lambda value: 0 < value < 1)


class Config(options.Shared):
  """Configuration of a job on documents."""

  data: str = "documents"
  documents: Annotated[int, Option("test documents to certify", "data", **ONE)] = 6
  segments: Annotated[int, Option("cells of a document", "smoothing", **ONE)] = 12
  rho_min: Annotated[
    float,
    Option("probability that a word of a group's own segment is hidden", "smoothing", **_RHO),
  ] = 0.7
  rho_max: Annotated[
    float,
    Option(
      "probability that a word --reach segments away is hidden; 1 shows none of them",
      "smoothing",
      **_RHO,
    ),
  ] = 1.0
  reach: Annotated[
    int,
    Option("segments between a group's own one and where --rho-max is reached", "smoothing", **ONE),
  ] = 2
  isotropic_rho: Annotated[
    float | None,
    Option("the baseline's probability to hide a word; by default --rho-min", "smoothing", **_OPEN),
  ] = None
  width: Annotated[int, Option("channels of the network", TRAINING, **ONE)] = 32
  depth: Annotated[
    int,
    Option("blocks of the network, which sees 2 (2^depth - 1) words either side", TRAINING, **ONE),
  ] = 5
  steps: options.Steps = 1500
  batch_size: options.BatchSize = 16
  learning_rate: options.LearningRate = 1e-2
  budgets: Annotated[
    int | None,
    Option(
      "replaced words, from 0 to this; by default to where nothing can be certified",
      metavar="WORDS",
      **ZERO,
    ),
  ] = None  # type: ignore[assignment]


_NETWORK = ("data", "segments", "rho_min", "rho_max", "reach", "width", "depth", *TRAINED)
"""Options that decide what is trained."""


def check(config: Config) -> None:
  """Raises a ValueError that names the first option that cannot be right beside the others.

  Example:
    >>> check(Config(rho_min=0.9, rho_max=0.8))
    Traceback (most recent call last):
    ...
    ValueError: --rho-min must be at most --rho-max and below 1, but they are 0.9 and 0.8.
  """
  if not config.rho_min <= config.rho_max or config.rho_min == 1:
    raise ValueError(
      "--rho-min must be at most --rho-max and below 1, but they are "
      f"{config.rho_min:g} and {config.rho_max:g}."
    )
  shortest = documents.PASSAGES[0] * documents.PASSAGE[0]
  if config.segments > shortest:
    raise ValueError(
      f"--segments must be at most {shortest}, the words of the shortest document that may come, "
      f"but it is {config.segments}."
    )


def load(config: Config) -> Data:
  """The test documents of a configuration.

  Example:
    >>> data = load(Config(documents=2))
    >>> len(data.cases), data.cases[0].x.shape == data.cases[0].truth.shape
    (2, True)
  """
  test = documents.load("test", config.documents, config.seed)
  inputs = (tokens.astype(np.float32) for tokens in test.tokens)
  cases = [Case(*case) for case in zip(test.names, inputs, test.labels, strict=True)]
  facts = {
    "words": [case.x.size for case in cases],
    "vocabulary": len(documents.vocabulary()),
    "text": f"documentation in the source files of Python {platform.python_version()}",
  }
  return Data(cases, documents.CLASSES, facts=facts)


def segments(config: Config, num_words: int) -> np.ndarray:
  """The segment of every word of a document, int32 [L]; their sizes differ by one at most.

  Example:
    >>> segments(Config(segments=2), 5)
    array([0, 0, 0, 1, 1], dtype=int32)
  """
  return partition.image_grid((num_words,), (config.segments,))


def localized_noise(config: Config, num_words: int) -> noise.SmoothingDistribution:
  """Hides few words of a group's own segment, and more with distance.

  Example:
    >>> config = Config(segments=3, rho_min=0.5, rho_max=0.9, reach=2)
    >>> localized_noise(config, 6).scale[0]
    array([0.5, 0.7, 0.9])
  """
  distances = locality.chebyshev_distances((config.segments,))
  fraction = np.minimum(distances / config.reach, 1)
  rho = locality.interpolate_std(fraction, config.rho_min, config.rho_max)
  return noise.ablation(rho, segments(config, num_words), fill=HIDDEN)


def smoothings(config: Config, num_words: int) -> tuple[Smoothing, ...]:
  """Localized noise, and the same network's baseline, which hides all words alike."""
  rho = config.rho_min if config.isotropic_rho is None else config.isotropic_rho
  groups, everywhere = segments(config, num_words), np.zeros(num_words, np.int32)
  isotropic = noise.ablation(np.array([[rho]]), everywhere, fill=HIDDEN)
  return common.with_baseline(config, localized_noise(config, num_words), groups, isotropic)


def adversaries(
  config: Config, data: Data, case: Case, smoothings: Sequence[Smoothing]
) -> tuple[Adversary, ...]:
  """Up to B words are replaced, and no segment has more words to replace than it has words."""
  noises, last = [smoothing.noise for smoothing in smoothings], config.budgets
  if last is None:
    last = max(_enough(config, distribution) for distribution in noises)
  budgets = np.arange(last + 1, dtype=np.float64)[:, None]
  return tuple(Adversary(budgets, caps=_sizes(each)[None], integral=True) for each in noises)


def _sizes(distribution: noise.SmoothingDistribution) -> np.ndarray:
  """The words of every segment, float64 [C]."""
  return np.bincount(distribution.cells, minlength=distribution.weights.shape[2]).astype(np.float64)


def _enough(config: Config, distribution: noise.SmoothingDistribution) -> int:
  """So many words, spread evenly over the segments, make every output fall, whatever its votes."""
  sizes, num_words = _sizes(distribution), distribution.cells.size
  eta = planning.reachable_eta(
    distribution, config.samples, num_outputs=num_words, alpha=config.alpha
  )
  for words in range(num_words):
    spread = np.diff(np.arange(sizes.size + 1) * words // sizes.size)
    if (distribution.weights[0] @ np.minimum(spread, sizes) >= eta).all():
      return words
  return num_words


def _model(config: Config) -> Tagger:
  vocabulary = len(documents.vocabulary())
  return Tagger(len(documents.CLASSES), vocabulary + 1, config.width, config.depth)


@functools.cache
def _apply(model: Tagger) -> Callable[[Any, jax.Array], jax.Array]:
  """(params, x) -> logits [1, L, K], a document as an image of one row; one of equal models."""
  return lambda params, x: jnp.asarray(model.apply(params, x))[None]


@functools.cache
def _apply_window(model: Tagger, size: int) -> Callable[..., jax.Array]:
  """Likewise, (params, x, start [2]) -> logits [1, size, K]."""
  apply = tagger.window(model, size)
  return lambda params, x, start: apply(params, x, start[1])[None]


def network(config: Config, data: Data) -> Network:
  """What tells the configuration's network from others: its options, and the text it learns."""
  text = [documents.passages("train", subject) for subject in data.classes]
  return Network("tagger", common.plain_fields(config, _NETWORK), common.digest_of(text))


def lesson(config: Config) -> common.Lesson:
  """Training documents, half of them under the noise of a random group.

  The others are hidden with --rho-min throughout, so that they teach something of every word.
  """
  learned = documents.load("train", TRAINING_DOCUMENTS, config.seed, length=TRAINING_LENGTH)
  localized = localized_noise(config, TRAINING_LENGTH)
  rho = np.concatenate([localized.scale, np.full_like(localized.scale, config.rho_min)])
  expose = training.random_group(noise.ablation(rho, localized.cells, fill=HIDDEN))
  tokens = np.stack(learned.tokens).astype(np.float32)
  return common.Lesson(tokens, np.stack(learned.labels), expose)


def counter(config: Config, data: Data, params: Any, case: Case, smoothing: Smoothing) -> Count:
  """Counts the network's votes on a document, for every group only where the group lies."""
  model, (starts, size) = _model(config), partition.windows(smoothing.groups[None])
  windows = Windows(_apply_window(model, size[1]), starts, size)
  return common.counter(
    config, _apply(model), params, case.x, smoothing, len(data.classes), windows=windows
  )


def figures(
  config: Config, data: Data, records: Sequence[Any], summary: Mapping[str, Any]
) -> "dict[str, Figure]":
  """The first document's words, over their predicted subjects."""
  words, truth = documents.load("test", 1, config.seed).words[0], np.asarray(data.cases[0].truth)
  return {"words.png": words_figure(words, truth, records[0].base, data.classes)}


def words_figure(
  words: Sequence[str], truth: np.ndarray, base: BaseCertificates, classes: Sequence[str]
) -> "Figure":
  """Draws the words of a document over the color of their predicted subject.

  The color is the stronger the more words may be replaced, anywhere in the document, before the
  prediction can change; a line under a word has the color of its label (`truth`, int [L]), where
  that is another. A thin black line stands between two segments.

  Example:
    >>> zeros = np.zeros(2, int)
    >>> base = BaseCertificates(np.ones((1, 1, 1)), zeros, zeros, zeros, zeros)
    >>> figure = words_figure(("two", "words"), zeros, base, ("a subject",))
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['two', 'words']
  """
  from matplotlib.colors import to_rgba  # Matplotlib is heavy
  from matplotlib.figure import Figure
  from matplotlib.patches import Patch, Rectangle

  from lrs_jax.evaluation import plots

  prediction, groups = base.predictions, base.groups
  radius = np.maximum(np.ceil(common.lone_budgets(base)) - 1, 0)  # words that it survives
  sizes = np.array([len(word) + 1 for word in words])
  row = column = 0
  places = []
  for size in sizes:
    if column + size > COLUMNS:
      row, column = row + 1, 0
    places.append((row, column))
    column += size
  family, font, line = "DejaVu Sans Mono", 7.0, 0.2  # points, inches a row
  width, height = COLUMNS * 0.602 * font / 72, (row + 1) * line  # it is .602 em wide
  whole = width + 0.4, height + 1.1
  figure = Figure(figsize=whole)
  axes = figure.add_axes((0.2 / whole[0], 0.2 / whole[1], width / whole[0], height / whole[1]))
  axes.set(xlim=(0, COLUMNS), ylim=(row + 1, 0))
  axes.set_axis_off()
  most = max(int(radius.max(initial=0)), 1)
  palette = [*plots.COLORS[:5], "#999933"]  # told apart when pale, too
  colors = [palette[i % len(palette)] for i in range(len(classes))]
  for i, ((top, left), word, size) in enumerate(zip(places, words, sizes, strict=True)):
    face: Any = "0.85"
    if prediction[i] >= 0:
      face = to_rgba(colors[prediction[i]], 0.15 + 0.6 * radius[i] / most)
    axes.add_patch(Rectangle((left, top + 0.08), size, 0.8, facecolor=face, linewidth=0))
    if prediction[i] != truth[i] and 0 <= truth[i] < len(classes):
      under = [left + 0.4, left + size - 0.6], [top + 0.88] * 2
      axes.plot(*under, color=colors[truth[i]], linewidth=1.5)
    if i and groups[i] != groups[i - 1]:
      axes.plot([left, left], [top + 0.04, top + 0.92], color="black", linewidth=1.2)
    axes.text(left + 0.5, top + 0.5, word, family=family, fontsize=0.94 * font, va="center")
  shown = sorted({*truth.tolist(), *prediction.tolist()} & set(range(len(classes))))
  handles = [Patch(facecolor=colors[k], alpha=0.6, label=classes[k]) for k in shown]
  handles.append(Patch(facecolor="0.85", label="abstains"))
  figure.legend(handles=handles, loc="upper center", ncols=len(handles), fontsize=8, frameon=False)
  explanation = (
    f"Predicted subject: strong if {most} replaced word{'s' * (most > 1)} anywhere cannot change "
    "it, pale if one may.\nUnderlined: the label, where it is another. Black: a new segment."
  )
  figure.text(0.5, 1 - 0.4 / whole[1], explanation, fontsize=8, ha="center", va="top")
  return figure


TASK = Task(
  name="tokens",
  unit="words",
  data={"documents": Config()},
  about={"documents": "passages of Python's own documentation on six subjects, no download"},
  check=check,
  load=load,
  models=common.models(
    network, lambda config, data: _model(config), lesson, lambda config: _apply(_model(config))
  ),
  smoothings=lambda config, data, case: smoothings(config, case.x.size),
  counter=counter,
  chunk_size=common.chunk_size,
  adversaries=adversaries,
  check_record=lambda config, record: common.check_smoothing(
    smoothings(config, record.noise.cells.size), record
  ),
  figures=figures,
)
"""Subjects of words, against replaced words."""
