import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrs_jax import collective, noise
from lrs_jax.confidence import certificates
from lrs_jax.tasks import options, tokens, training
from lrs_jax.tasks.data import documents
from lrs_jax.tasks.models import tagger
from lrs_jax.tasks.models.tagger import Tagger

TASK = tokens.TASK
CONFIG = tokens.Config(
  documents=2, segments=4, width=4, depth=1, steps=4, batch_size=2, samples=60, selection_samples=10
)
DATA = TASK.load(CONFIG)


@functools.cache
def initial():
  model = Tagger(len(DATA.classes), len(documents.vocabulary()) + 1, CONFIG.width, CONFIG.depth)
  return jax.jit(model.init)(jax.random.key(0), jnp.zeros(9, jnp.float32))


# Data.


def test_documents_have_a_label_for_every_word():
  loaded = documents.load("val", 5)
  assert len({words.size for words in loaded.tokens}) > 1
  for words, numbers, labels in zip(loaded.words, loaded.tokens, loaded.labels, strict=True):
    assert len(words) == numbers.size == labels.size
    assert numbers.dtype == labels.dtype == np.int32
    assert numbers.min() >= 0
    assert numbers.max() <= len(documents.vocabulary())
    changes = np.count_nonzero(np.diff(labels))
    assert documents.PASSAGES[0] <= changes + 1 <= documents.PASSAGES[1]
    assert set(labels.tolist()) <= set(range(len(documents.CLASSES)))


def test_documents_of_a_given_length():
  loaded = documents.load("train", 3, length=100)
  assert [words.shape for words in loaded.tokens] == [(100,)] * 3
  assert [len(words) for words in loaded.words] == [100] * 3


def test_the_first_documents_are_the_same_for_any_count_and_others_for_another_seed():
  few, many, other = (documents.load("test", n, seed) for n, seed in ((1, 0), (3, 0), (1, 1)))
  assert few.words[0] == many.words[0]
  assert few.words[0] != other.words[0]


@pytest.mark.parametrize("subject", documents.CLASSES)
def test_splits_share_no_passage(subject):
  """Each of many runs of words of a test block is in none of the training blocks."""
  splits = [documents.passages(split, subject) for split in documents.SPLITS]
  assert min(map(len, splits)) >= 3
  assert len({block for blocks in splits for block in blocks}) == sum(map(len, splits))
  learned = {block[i : i + 60] for block in splits[0] for i in range(documents.BLOCK - 59)}
  asked = [
    block[i : i + 60] for blocks in splits[1:] for block in blocks for i in range(0, 141, 20)
  ]
  assert not learned & set(asked)


def test_the_vocabulary_is_of_the_training_text():
  learned = {
    word.lower()
    for subject in documents.CLASSES
    for block in documents.passages("train", subject)
    for word in block
  }
  assert set(documents.vocabulary()) < learned
  assert len(set(documents.vocabulary())) == len(documents.vocabulary())


def test_an_unknown_split_is_refused():
  with pytest.raises(ValueError, match="one of train, val, test"):
    documents.load("training", 1)


def test_a_python_without_sources_is_refused(monkeypatch, tmp_path):
  monkeypatch.setattr(documents.sysconfig, "get_path", lambda name: str(tmp_path))
  monkeypatch.setattr(documents, "passages", documents.passages.__wrapped__)
  monkeypatch.setattr(documents, "_text", documents._text.__wrapped__)
  with pytest.raises(ValueError, match="need the source files"):
    documents.load("train", 1)


# Network.


def test_the_network_sees_no_farther_than_its_reach():
  """And so far: both words at the very distance change the logits, all words beyond nothing."""
  model = Tagger(num_classes=3, num_tokens=50, width=4, depth=2)
  x = jax.random.randint(jax.random.key(1), (33,), -1, 50).astype(jnp.float32)
  variables = jax.jit(model.init)(jax.random.key(0), x)
  apply = jax.jit(model.apply)
  logits, side, middle = apply(variables, x), tagger.reach(2), 16
  other = (x + 7) % 50
  far = abs(np.arange(33) - middle) > side
  np.testing.assert_array_equal(apply(variables, jnp.where(far, other, x))[middle], logits[middle])
  for edge in (middle - side, middle + side):
    assert (apply(variables, x.at[edge].set(other[edge]))[middle] != logits[middle]).any()


@pytest.mark.parametrize("length", [1, 12])
def test_the_ends_of_a_sequence_look_like_hidden_words(length):
  model = Tagger(num_classes=3, num_tokens=50, width=4, depth=1)
  x = jnp.arange(float(length), dtype=jnp.float32)
  variables = jax.jit(model.init)(jax.random.key(0), x)
  hidden = jnp.full(9, tagger.HIDDEN, jnp.float32)
  longer = jax.jit(model.apply)(variables, jnp.concatenate([hidden, x, hidden]))
  np.testing.assert_allclose(longer[9:-9], jax.jit(model.apply)(variables, x), rtol=1e-5, atol=1e-5)


def test_windows_are_parts_of_the_whole():
  model = Tagger(num_classes=3, num_tokens=50, width=4, depth=2)
  x = jax.random.randint(jax.random.key(1), (21,), -1, 50).astype(jnp.float32)
  variables = jax.jit(model.init)(jax.random.key(0), x)
  whole, window = jax.jit(model.apply)(variables, x), jax.jit(tagger.window(model, 6))
  for start in (0, 7, 18, 20):
    part = window(variables, x, jnp.asarray(start))[: 21 - start]
    np.testing.assert_allclose(part, whole[start : start + 6], rtol=1e-5, atol=1e-5)


# Configuration.


def check(config):
  options.check(config)
  TASK.check(config)


def test_defaults_are_right():
  for config in TASK.data.values():
    check(config)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"documents": 0}, "--documents must be at least 1"),
    ({"segments": 0}, "--segments must be at least 1"),
    ({"segments": 10_000}, "--segments must be at most 240"),
    ({"rho_min": 0.0}, r"--rho-min must lie in \(0, 1\]"),
    ({"rho_min": 0.9, "rho_max": 0.8}, "--rho-min must be at most --rho-max"),
    ({"rho_min": 1.0}, "below 1"),
    ({"isotropic_rho": 1.0}, r"--isotropic-rho must lie in \(0, 1\)"),
    ({"reach": 0}, "--reach must be at least 1"),
    ({"budgets": -1}, "--budgets must be at least 0"),
  ],
)
def test_what_cannot_be_right_is_refused(change, message):
  config = tokens.Config()._replace(**change)
  with pytest.raises(ValueError, match=message):
    check(config)


# The task as a whole.


def test_cells_depend_on_the_length():
  first, second = (TASK.smoothings(CONFIG, DATA, case)[0].noise for case in DATA.cases)
  np.testing.assert_array_equal(first.weights, second.weights)
  assert first.cells.shape != second.cells.shape
  assert first.cells.max() == second.cells.max() == CONFIG.segments - 1


def test_records_of_other_noise_or_groups_are_refused():
  """Whatever the length of the document, and where it is too short for its segments."""
  for case in DATA.cases:
    for smoothing in TASK.smoothings(CONFIG, DATA, case):
      own, distribution = smoothing.groups, smoothing.noise
      record = SimpleNamespace(smoothing=smoothing, noise=distribution, groups=own, meta={})
      TASK.check_record(CONFIG, record)
      scale, cells = distribution.scale, distribution.cells
      for change, message in (
        ({"noise": noise.ablation(scale**2, cells, fill=tagger.HIDDEN)}, "`noise` or `cells`"),
        ({"noise": noise.ablation(scale, cells[:3], fill=tagger.HIDDEN)}, "`grid_shape` must lie"),
        ({"groups": own + 1}, "`groups` are not those"),
        ({"meta": {"view": "narrow"}}, "`view`"),
        ({"smoothing": smoothing._replace(name="b")}, "one of certificate, isotropic in .* is 'b'"),
      ):
        with pytest.raises(ValueError, match=message):
          TASK.check_record(CONFIG, SimpleNamespace(**{**vars(record), **change}))
      with pytest.raises(ValueError, match="`noise` or `cells` are not those"):
        TASK.check_record(CONFIG._replace(rho_min=0.6), record)


def test_from_a_document_to_certificates():
  case, params = DATA.cases[0], TASK.models.finish(CONFIG, DATA, initial())
  smoothings = TASK.smoothings(CONFIG, DATA, case)
  adversaries = TASK.adversaries(CONFIG, DATA, case, smoothings)
  assert [s.name for s in smoothings] == ["certificate", "isotropic"]
  for smoothing, adversary in zip(smoothings, adversaries, strict=True):
    count = TASK.counter(CONFIG, DATA, params, case, smoothing)
    keys = jax.random.split(jax.random.key(1))
    selection, estimation = (np.asarray(count(key, 60, 0).votes) for key in keys)
    assert (estimation.sum(axis=1) == 60).all()
    part = sum(np.asarray(count(keys[1], n, first).votes) for n, first in ((20, 0), (40, 20)))
    np.testing.assert_array_equal(part, estimation)
    base = certificates.from_votes(
      smoothing.noise, smoothing.groups, selection, estimation, alpha=0.01
    )
    assert adversary.caps.sum() == case.x.size
    certified = collective.certify(
      base.weights,
      base.groups,
      base.eta,
      adversary.budgets,
      caps=adversary.caps,
      integral=adversary.integral,
    )
    collective.verify(base.weights, base.groups, base.eta, certified)
    assert certified.certified[0] == (base.eta > 0).sum()


def test_the_default_budgets_end_where_nothing_is_left():
  """Even of outputs that all samples agree on; half of them leaves some of those."""
  config = tokens.Config(documents=1)
  case = DATA.cases[0]
  smoothings = TASK.smoothings(config, DATA, case)
  adversaries = TASK.adversaries(config, DATA, case, smoothings)
  left = []
  for smoothing, adversary in zip(smoothings, adversaries, strict=True):
    unanimous = np.zeros((case.x.size, 2), np.int64)
    unanimous[:, 0] = config.samples
    base = certificates.from_votes(
      smoothing.noise, smoothing.groups, unanimous, unanimous, alpha=config.alpha
    )
    certified = collective.certify(
      base.weights,
      base.groups,
      base.eta,
      adversary.budgets,
      caps=adversary.caps,
      integral=True,
    ).certified
    assert certified[0] == case.x.size
    left.append(certified[[len(certified) // 2, -1]])
  assert (np.array(left)[:, 1] == 0).all()
  assert (np.array(left)[:, 0] > 0).any()
  assert len(TASK.adversaries(CONFIG._replace(budgets=3), DATA, case, smoothings)[0].budgets) == 4


def test_hidden_words_change_no_vote():
  """What lies beyond a group's reach is never seen: --rho-max 1 hides it, and costs nothing."""
  smoothing = TASK.smoothings(CONFIG, DATA, DATA.cases[0])[0]
  case = DATA.cases[0]
  far = smoothing.groups >= 2
  other = case._replace(x=np.where(far, 0, case.x).astype(np.float32))
  votes = [
    np.asarray(TASK.counter(CONFIG, DATA, initial(), c, smoothing)(jax.random.key(0), 8, 0)[0])
    for c in (case, other)
  ]
  assert (smoothing.noise.weights[0, 0, 2:] == 0).all()
  np.testing.assert_array_equal(*(v[smoothing.groups == 0] for v in votes))


class _Stopped(training.tqdm):
  """A progress bar at whose first update the user presses Ctrl-C."""

  def update(self, n=1):
    raise KeyboardInterrupt


def test_training_goes_on_after_a_stop(tmp_path, monkeypatch):
  """The same network comes of it, whose variables are those that the task expects."""
  monkeypatch.setattr(tokens, "TRAINING_DOCUMENTS", 8)
  monkeypatch.setattr(tokens, "TRAINING_LENGTH", 32)
  config = CONFIG._replace(steps=22)

  def train(name):
    path = tmp_path / name
    return TASK.models.train(jax.random.key(0), config, DATA, "", path, {"a": "network"})

  whole, facts = train("whole.npz")
  assert len(facts["loss"]) == config.steps
  assert jax.tree.map(np.shape, whole) == jax.tree.map(
    np.shape, jax.tree.map(lambda s: np.zeros(s.shape), TASK.models.shapes(config, DATA))
  )
  with monkeypatch.context() as patch:
    patch.setattr(training, "tqdm", _Stopped)
    with pytest.raises(KeyboardInterrupt):
      train("stopped.npz")
  assert len(np.load(tmp_path / "stopped.npz")["losses"]) == 20
  again, facts_again = train("stopped.npz")
  assert facts_again == facts
  jax.tree.map(np.testing.assert_array_equal, whole, again)


def test_networks_are_told_apart():
  one = TASK.models.network(CONFIG, DATA, "")
  assert one == TASK.models.network(CONFIG._replace(samples=7), DATA, "")
  assert one != TASK.models.network(CONFIG._replace(rho_min=0.6), DATA, "")


def test_the_figure_shows_every_word():
  class Record:
    base = certificates.BaseCertificates(
      TASK.smoothings(CONFIG, DATA, DATA.cases[0])[0].noise.weights,
      tokens.segments(CONFIG, DATA.cases[0].x.size),
      np.resize([0.0, 0.6], DATA.cases[0].x.size),
      DATA.cases[0].truth,
      np.zeros(DATA.cases[0].x.size),
    )

  figure = TASK.figures(CONFIG, DATA, [Record], {})["words.png"]
  shown = [text.get_text() for text in figure.axes[0].texts]
  assert shown == list(documents.load("test", 1, CONFIG.seed).words[0])
