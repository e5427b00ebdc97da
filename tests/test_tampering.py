"""Stored certificates that were forged, mutated or made up: refused in one line, or harmless."""

import dataclasses
import json
import zipfile

import numpy as np
import pytest

from lrs_jax import noise, storage
from lrs_jax.cli import main
from lrs_jax.confidence import certificates
from lrs_jax.jobs import cards, records
from lrs_jax.jobs.records import Bounds
from lrs_jax.sampling import ClassSums
from lrs_jax.tasks.task import Adversary, Smoothing
from tests.making import (
  GROUPS,
  TRUTH,
  VOTES,
  ball,
  graph_record,
  image_record,
  recertified,
  votes,
)

KINDS = {"image": image_record, "graph": graph_record}
SMALL = {
  "image": lambda: image_record(options={"milp": {}}),
  "graph": lambda: graph_record(names=("all/milp", "correct/envelope@2")),
}


@pytest.fixture(scope="module", params=KINDS)
def stored(request, tmp_path_factory):
  """A kind of record, on disk: (its path, its arrays)."""
  path = tmp_path_factory.mktemp("record") / "certificate.npz"
  records.save(path, SMALL[request.param]())
  return path, storage.load_arrays(path)


def write(path, arrays):
  """Stores arrays as if they had been a record: with a digest that fits."""
  arrays = {name: array for name, array in arrays.items() if name != "digest"}
  np.savez(path, **arrays, digest=np.asarray(storage.digest(arrays)))
  return path


def outcome(path):
  """What comes of loading and proving: "proven" or the refusal; all else is an error."""
  try:
    cards.prove(records.load(path))
  except ValueError as error:
    return f"REFUSED: {error}"
  return "proven"


# Mutations.


def _first(array, value):
  changed = np.array(array, np.result_type(array.dtype, type(value)))
  if changed.size:
    changed.flat[0] = value
  return changed


MUTATIONS = {
  "complex": lambda a: a.astype(complex) if a.dtype.kind in "bif" else a.astype("S"),
  "string": lambda a: a.astype(str) if a.dtype.kind != "U" else np.zeros(a.shape),
  "narrow": lambda a: a.astype(np.float32) if a.dtype.kind in "bif" else np.ones(a.shape, bool),
  "long": lambda a: a.astype(np.longdouble) if a.dtype.kind in "bif" else np.full(a.shape, "x" * 9),
  "unsigned": lambda a: (
    np.ones(a.shape, np.uint8) if a.dtype.kind in "bif" else np.full(a.shape, "1")
  ),
  "flattened": lambda a: a.reshape(-1),
  "extra axis": lambda a: a[None],
  "empty": lambda a: a.reshape(-1)[:0],
  "none": lambda a: a[:0] if a.ndim else np.zeros((0, 3), a.dtype),
  "nan": lambda a: _first(a, np.nan) if a.dtype.kind in "if" else np.full(a.shape, "nan"),
  "inf": lambda a: _first(a, np.inf) if a.dtype.kind in "if" else np.full(a.shape, "inf"),
  "negative": lambda a: -a - 1 if a.dtype.kind in "if" else np.full(a.shape, "-1"),
  "huge": lambda a: (
    np.full_like(a, 2**62 if a.dtype.itemsize > 4 else 2**31 - 1)
    if a.dtype.kind == "i"
    else np.full_like(a, 1e308)
    if a.dtype.kind == "f"
    else np.full(a.shape, "[" * 60_000 if a.ndim == 0 else "[" * 60)
  ),
  "one huge": lambda a: _first(a, 2**62 if a.dtype.kind == "i" and a.dtype.itemsize > 4 else 1),
  "swapped": lambda a: a[::-1] if a.ndim else np.asarray(json.dumps([1])),
  "turned": lambda a: a.T if a.ndim > 1 else a.reshape(-1, 1),
  "zero": np.zeros_like,
  "missing": lambda a: None,
}


def same(one, other):
  return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


HARMLESS = {
  "noise/cells",  # the claim is about the cells that it names
  "truth",  # labels, as long as they make the same predictions correct
  "smoothing",  # a name
  "task",  # likewise
  "selection/num_samples",
  "selection/scores",  # choose the statistic, by a sample set that bounds nothing
  "selection/squares",
  "estimation/scores",  # where an output is bounded by votes
  "estimation/squares",
  "adversary/budgets",  # in another order
  "adversary/caps",  # lower than those that the certificates allow for
}
"""Arrays of which some other value is as true, and proves no more."""


def test_no_mutation_of_any_array_is_a_traceback_or_proves_more(stored, tmp_path, monkeypatch):
  """Every changed array is written and read; those that stay as they were are read once."""
  path, arrays = stored
  before, read = records.load(path).certified, storage.load_arrays
  assert outcome(write(tmp_path / "same.npz", arrays)) == "proven"
  accepted, tracebacks = set(), {}
  for name, array in arrays.items():
    if name == "digest" or name.startswith("certified/correct"):
      continue
    for mutation, change in MUTATIONS.items():
      changed = change(array)
      if changed is not None and same(changed, array):
        continue
      others = {key: other.copy() for key, other in arrays.items() if key not in ("digest", name)}
      alone = {} if changed is None else {name: changed}
      np.savez(
        tmp_path / "mutated.npz", **alone, digest=np.asarray(storage.digest({**others, **alone}))
      )

      def beside_others(path, others=others):
        return {**others, **read(path)}

      try:
        with monkeypatch.context() as patch:
          patch.setattr(storage, "load_arrays", beside_others)
          found = outcome(tmp_path / "mutated.npz")
          after = records.load(tmp_path / "mutated.npz").certified if found == "proven" else {}
      except Exception as error:
        tracebacks[name, mutation] = repr(error)[:90]
        continue
      if found == "proven":
        accepted.add(name)
        assert set(after) <= set(before), (name, mutation)
        for title, certificate in after.items():
          assert np.array_equal(certificate.budgets, before[title].budgets), (name, mutation)
          assert (certificate.certified <= before[title].certified).all(), (name, mutation)
  assert not tracebacks, f"{len(tracebacks)} tracebacks: {tracebacks}"
  assert accepted <= HARMLESS


def test_no_swap_of_two_arrays_passes(stored, tmp_path):
  _, arrays = stored
  names = sorted(set(arrays) - {"digest"})
  for one, other in zip(names, [*names[1:], names[0]], strict=True):
    if np.array_equal(arrays[one], arrays[other]) or {one, other} == {"smoothing", "task"}:
      continue
    others = {**arrays, one: arrays[other], other: arrays[one]}
    found = outcome(write(tmp_path / "swapped.npz", others))
    assert found.startswith("REFUSED"), (one, other)


def test_what_belongs_to_no_record_is_refused(stored, tmp_path):
  _, arrays = stored
  for name in ("note", "certified/all/milp/more", "base/more", "all/more"):
    found = outcome(write(tmp_path / "more.npz", {**arrays, name: np.zeros(1)}))
    assert "has no array" in found or "is missing" in found, name


def test_any_changed_byte_is_refused(stored, tmp_path):
  _, arrays = stored
  for name, array in arrays.items():
    if name == "digest" or not array.size:
      continue
    flat = array.reshape(-1).copy()
    flat[0] = not flat[0] if array.dtype.kind == "b" else (4 if flat[0] == 3 else 3)
    np.savez(tmp_path / "changed.npz", **{**arrays, name: flat.reshape(array.shape)})
    found = outcome(tmp_path / "changed.npz")
    assert "was changed after it was written" in found or "is of format" in found, name


def test_a_record_of_version_0_1_is_named_as_such(stored, tmp_path):
  _, arrays = stored
  old = {"family": np.asarray("gaussian"), "counts": arrays["estimation/votes"]}
  found = outcome(write(tmp_path / "old.npz", old))
  assert "was written by version 0.1 in an older format: certify again" in found
  found = outcome(write(tmp_path / "new.npz", {**arrays, "format": np.asarray(9)}))
  assert "is of format 9, but this version reads 3" in found


# Forgeries: what is stored fits together, but is not what follows from the counts.

UNANIMOUS = (1.0, 1.0, 0.0, 0.0, 1.0, 1.0)
CELL = ((1.0, 1.0), (1.0, 1.0))


def at_the_edge():
  """A radius at which all six outputs can just be attacked."""
  return np.sqrt(image_record(scales=CELL, agree=UNANIMOUS).base.eta[0]) * (1 + 5e-12)


@pytest.mark.parametrize("side", ["weights", "eta", "weights and eta", "budgets", "q_lower"])
@pytest.mark.parametrize("shift", [1e-9, 3e-10])
def test_no_shift_to_the_stronger_side_is_proven(tmp_path, side, shift):
  honest = image_record(scales=CELL, agree=UNANIMOUS, radii=np.array([0.0, at_the_edge()]))
  assert honest.certified["all/envelope"].certified.tolist() == [6, 0]
  base = honest.base
  changes = {
    "weights": {"weights": base.weights * (1 - shift)}, "eta": {"eta": base.eta * (1 + shift)},
    "weights and eta": {"weights": base.weights * (1 - shift), "eta": base.eta * (1 + shift)},
    "q_lower": {"q_lower": base.q_lower * (1 + shift)},
  }.get(side, {})  # fmt: skip
  lower = honest.adversary._replace(budgets=honest.budgets * (1 - shift))
  adversary = lower if side == "budgets" else honest.adversary
  forged = recertified(honest, base=base._replace(**changes), adversary=adversary)
  if side != "q_lower":
    assert forged.certified["all/envelope"].certified.tolist() == [6, 6]
  records.save(tmp_path / "certificate.npz", forged)
  forged = records.load(tmp_path / "certificate.npz")
  with pytest.raises(ValueError, match="does not follow"):
    records.verify(forged, exact=True)


@pytest.mark.parametrize("shift", [1e-9, 3e-10])
@pytest.mark.parametrize("field", ["weights", "eta", "q_lower", "variance_upper"])
def test_no_shift_of_a_graph_record_is_proven(field, shift):
  honest = graph_record()
  stronger = 1 - shift if field in ("weights", "variance_upper") else 1 + shift
  base = honest.base._replace(**{field: getattr(honest.base, field) * stronger})
  with pytest.raises(ValueError, match="does not follow"):
    records.verify(recertified(honest, base=base))


@pytest.mark.parametrize("shift", [-1e-12, -1e-14, 1e-14, 1e-12])
@pytest.mark.parametrize("make", [image_record, graph_record])
def test_libraries_that_differ_in_the_last_digits_agree(make, shift, monkeypatch):
  """Bounds, thresholds and weights of the verifying machine are others by 1e-12."""
  record = make()
  lower = certificates.clopper_pearson_lower
  monkeypatch.setattr(certificates, "clopper_pearson_lower", lambda *a: lower(*a) * (1 + shift))
  made = record.noise
  family = dataclasses.replace(
    made.family,
    eta=lambda q: made.eta(q) * (1 + shift),
    eta_soft=lambda m, v: made.eta_soft(m, v) * (1 + shift),
  )
  other = made._replace(family=family, weights=made.weights * (1 - shift))
  records.verify(record._replace(smoothing=record.smoothing._replace(noise=other)), exact=True)


def image(**changes):
  return lambda: image_record()._replace(**changes)


def meta(**changes):
  def make():
    record = image_record()
    return record._replace(meta={**record.meta, **changes})

  return make


def job(**changes):
  return meta(job={"seed": 0, "alpha": 0.01, "samples": 1000, "selection_samples": 100, **changes})


def same_samples():
  divided = np.array([[990, 10], [980, 20], [970, 30], [960, 40], [950, 50], [940, 60]])
  distribution = noise.gaussian(((0.2, 1.0), (1.0, 0.2)), [0, 1])
  return records.make_record(
    "images", Smoothing("certificate", distribution, GROUPS, ("all/envelope",)),
    [votes(divided, 1000)] * 2, Bounds(0.01, 0.0, VOTES), ball(distribution), truth=TRUTH,
  )  # fmt: skip


def adversary(**changes):
  record = image_record()
  return lambda: record._replace(adversary=record.adversary._replace(**changes))


def counted(part="estimation", make=image_record, **changes):
  def made():
    record = make()
    return record._replace(**{part: getattr(record, part)._replace(**changes)})

  return made


def bounded(make=image_record, **changes):
  def made():
    record = make()
    return record._replace(bounds=record.bounds._replace(**changes))

  return made


def renamed(old, new):
  record = image_record()
  certified = dict(record.certified)
  return record._replace(certified={**certified, new: certified.pop(old)})


@pytest.mark.filterwarnings("ignore:`selection_counts` and `counts` are the same")
@pytest.mark.parametrize(
  ("make", "message"),
  [
    (same_samples, "the same samples"),
    (adversary(radii=np.array([0, np.nan, 0.3, 1])), "`radii` must"),
    (adversary(radii=np.array([-0.1, 0.1, 0.3, 1])), "`radii` must"),
    (adversary(radii=np.array([0.1, 0, 0.3, 1])), "`radii` must"),
    (adversary(radii=np.array([0, 0.1, 0.1, 1])), "`radii` must"),
    (adversary(radii=np.array([0, 0.1, 0.3, np.inf])), "`radii` must"),
    (counted(votes=image_record().estimation.votes.astype(complex)), "`estimation/votes`"),
    (counted(votes=image_record().estimation.votes.astype(str)), "`estimation/votes`"),
    (counted(votes=image_record().estimation.votes * 1.0), "`estimation/votes`"),
    (counted(num_samples=np.asarray(-1)), "`estimation/num_samples` must"),
    (counted(num_samples=np.asarray(2**40)), "`estimation/num_samples` must"),
    (counted("selection", num_samples=np.asarray(2000)), "selection"),
    (bounded(alpha=0.0), "alpha` must lie in"),
    (bounded(alpha=np.nan), "alpha` must lie in"),
    (bounded(k_fwer=1.0), "k_fwer` must lie in"),
    (bounded(k_fwer=0.5), "does not follow"),
    (bounded(statistics=("kl",)), "only votes were summed"),
    (adversary(caps=np.ones((1, 2))), "a ball has not"),
    (adversary(integral=True), "a ball has not"),
    (adversary(radii=None), "radii"),
    (image(certified={}), "proves nothing"),
    (lambda: renamed("all/naive", "all/milp"), "'all/milp' is by the method 'naive'"),
    (job(alpha=0.001), "alpha"),
    (job(samples=900), "ranges"),
    (job(selection_samples=1000), "selection_samples"),
    (image(meta={"job": {"samples": 10_000}}), "samples is 10000, but the record's is 1000"),
    (meta(job=[1]), "`meta`"),
    (meta(ranges=[[0, 10]]), "ranges"),
    (meta(ranges=[[0, 600], [500, 900]]), "ranges"),
    (meta(ranges=[[900, 1000], [0, 900]]), "ranges"),
    (meta(ranges="0:1000"), "ranges"),
    (meta(ranges=[[0, 1000, 3]]), "ranges"),
    (meta(ranges=[[0.0, 1000.0]]), "ranges"),
    (image(meta=["text"]), "`meta`"),
  ],
)  # fmt: skip
def test_contradictions_of_an_image_record_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    records.verify(make())


def graph(**changes):
  return lambda: graph_record()._replace(**changes)


def other_adversary(**changes):
  def made():
    record = graph_record()
    return record._replace(adversary=record.adversary._replace(**changes))

  return made


def same_sums():
  agree = np.array([[990, 10], [980, 20], [970, 30], [960, 40], [950, 50], [940, 60]])
  both = ClassSums(agree, agree * 200, agree * 200**2, np.asarray(1000))
  record = graph_record()
  return records.make_record(
    "graphs", Smoothing("certificate", record.noise, GROUPS, ("all/naive",)), (both, both),
    Bounds(0.01, 0.0, ("votes", "kl")), Adversary(np.array([[0.0, 1.0]]), None, None, True),
  )  # fmt: skip


@pytest.mark.filterwarnings("ignore:`selection_counts` and `counts` are the same")
@pytest.mark.parametrize(
  ("make", "message"),
  [
    (other_adversary(caps=np.array([[9.0, 8.0], [6.0, 8.0]])), "caps"),
    (other_adversary(caps=None), "caps"),
    (other_adversary(caps=np.array([[9.0, 8.0], [6.0, -1.0]])), "caps"),
    (other_adversary(integral=False), "integers"),
    (other_adversary(budgets=np.array([[0.0, 0.0], [1, 0], [0, 1], [2, 3]])), "budgets"),
    (bounded(graph_record, alpha=0.0), "alpha` must lie in"),
    (graph(certified={}), "proves nothing"),
    (graph(counted=np.ones(6, bool)), "targets"),
    (bounded(graph_record, statistics=()), "statistics"),
    (bounded(graph_record, statistics=("guess",)), "statistics"),
    (same_sums, "the same samples"),
    (counted("estimation", graph_record, num_samples=np.asarray(900)),
     "but `estimation/num_samples` is 900"),
    (counted("estimation", graph_record, scores=graph_record().estimation.scores * 2),
     "`estimation`"),
    (counted("estimation", graph_record, squares=graph_record().estimation.squares // 2),
     "`estimation`"),
    (counted("estimation", graph_record, squares=None), "both scores and squares"),
    (graph(meta={"job": {"alpha": 0.05}}), "alpha"),
    (graph(meta={"job": {"k_fwer": 0.05}}), "k_fwer"),
    (graph(meta={"job": {"scores": ["votes"]}}), "scores"),
    (graph(meta={"job": {"samples": 77}}), "samples"),
    (graph(meta={"job": {"selection_samples": 77}}), "selection_samples"),
    (graph(meta={"keys": {"selection": [0, 1], "estimation": [0, 1]}}), "one key"),
    (graph(meta={"ranges": [[0, 10]]}), "ranges"),
  ],
)  # fmt: skip
def test_contradictions_of_a_graph_record_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    records.verify(make())


# Archives.


def test_an_archive_that_claims_more_than_fits_is_not_unpacked(tmp_path):
  path = tmp_path / "bomb.npz"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for i in range(20):
      with archive.open(f"a{i}.npy", "w", force_zip64=True) as member:
        member.write(b"\0" * 1000)
  with pytest.raises(ValueError, match="unpacks to 20,000 bytes, more than the 10,000"):
    storage.load_arrays(path, largest=10_000)


def test_a_header_that_claims_more_than_there_is_allocates_nothing(tmp_path):
  path = tmp_path / "liar.npz"
  for shape in ("(1000000000000,)", "(1000000, 1000000)", "(2,)", "(0, 1000000000000)", "(-1,)"):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    with zipfile.ZipFile(path, "w") as archive:
      content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
      archive.writestr("a.npy", content + bytes(8))
    with pytest.raises(ValueError, match=r"cannot read .*liar.npz: array 'a'"):
      storage.load_arrays(path)


def test_honest_zeros_are_read_however_well_they_pack(tmp_path):
  np.savez_compressed(tmp_path / "zeros.npz", zeros=np.zeros((1000, 5000)))
  assert (tmp_path / "zeros.npz").stat().st_size < 40_000_000 / 900
  assert storage.load_arrays(tmp_path / "zeros.npz")["zeros"].shape == (1000, 5000)


def test_two_arrays_of_one_name_are_refused(tmp_path):
  path = tmp_path / "twice.npz"
  np.savez(path, a=np.zeros(1))
  with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
    archive.writestr("a.npy", archive.read("a.npy"))
  with pytest.raises(ValueError, match="two arrays 'a'"):
    storage.load_arrays(path)


# The command.


@pytest.mark.parametrize("make", ["image", "graph"])
def test_one_bad_file_does_not_keep_verify_from_the_others(make, tmp_path, capsys):
  records.save(tmp_path / "a.npz", KINDS[make]())
  records.save(tmp_path / "z.npz", KINDS[make]())
  arrays = storage.load_arrays(tmp_path / "a.npz")
  for name, changed in (
    ("b", {"bounds/alpha": np.full((2, 2), 0.01)}),
    ("c", {"meta": np.asarray("[" * 60_000)}),
    ("d", {"bounds/alpha": np.asarray("one\nline")}),
  ):
    write(tmp_path / f"{name}.npz", {**arrays, **changed})
  (tmp_path / "e.npz").write_text("text")
  (tmp_path / "f.npz").mkdir()
  assert main(["verify", str(tmp_path)]) == 1
  captured = capsys.readouterr()
  assert captured.out.count("proven") == 2
  assert captured.err.count("REFUSED") == captured.err.count("\n") == 5
  assert "Traceback" not in captured.err


def test_verify_says_what_is_taken_on_trust(tmp_path, capsys):
  records.save(tmp_path / "graph" / "certificate.npz", graph_record())
  records.save(tmp_path / "image" / "certificate.npz", image_record())
  assert main(["verify", str(tmp_path)]) == 0
  out = capsys.readouterr().out
  assert "on trust" in out
  for word in ("model", "input", "independent keys", "labels", "counted", "capped"):
    assert word in out
  card = cards.of_file(tmp_path / "graph" / "certificate.npz")
  assert any("capped" in text for text in card["trusted"])


@pytest.mark.parametrize("name", ["notes.txt", "model.py", "certificate.npz"])
def test_what_is_no_archive_is_called_that(tmp_path, capsys, name):
  (tmp_path / name).write_text("import numpy as np\n")
  for command in ("verify", "card"):
    assert main([command, str(tmp_path / name)]) == 1
    error = capsys.readouterr().err
    assert "is no .npz archive" in error
    assert "pickle" not in error


def test_a_card_of_a_folder_names_its_certificates(tmp_path, capsys):
  records.save(tmp_path / "image" / "certificate.npz", image_record())
  assert main(["card", str(tmp_path)]) == 1
  error = capsys.readouterr().err
  assert "is a folder" in error
  assert "image/certificate.npz" in error
  assert error.count("\n") == 1
  (tmp_path / "empty").mkdir()
  assert main(["card", str(tmp_path / "empty")]) == 1
  assert "no certificate" in capsys.readouterr().err


def test_no_line_of_a_card_can_be_made_up(tmp_path):
  record = image_record()
  made_up = "x\n\n**6 of 6 predictions cannot change.**\n| all (6) | exact | 6 |"
  records.save(tmp_path / "certificate.npz", record._replace(meta={"device": made_up}))
  text = cards.markdown(cards.of_file(tmp_path / "certificate.npz"))
  assert "\n**6 of 6" not in text
  assert "\n| all (6) | exact" not in text


def test_a_card_that_says_more_than_its_certificate_is_refused(tmp_path, capsys):
  path = tmp_path / "image" / "certificate.npz"
  records.save(path, image_record())
  card = cards.of_record(records.load(path), {"device": "cpu"})
  cards.save(path.parent, card)
  assert main(["verify", str(tmp_path)]) == 0
  assert "card.json: agrees" in capsys.readouterr().out
  for change, message in (
    ({"claim": card["claim"].replace("of 6", "of 5")}, "claim"),
    ({"certified": {**card["certified"], "rows": card["certified"]["rows"][1:]}}, "certified.rows"),
    ({"assumptions": []}, "assumptions"),
    ({"context": {**card["context"], "job": {"alpha": 1e-9}}}, "context.job"),
    ({"more": "than that"}, "more"),
  ):
    storage.save_json(path.parent / "card.json", {**card, **change})
    assert main(["verify", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "card.json: REFUSED" in error
    assert message in error
  cards.save(path.parent, card)
  (path.parent / "card.md").write_text(cards.markdown(card) + "All is certified.\n")
  assert main(["verify", str(tmp_path)]) == 1
  assert "card.md: REFUSED" in capsys.readouterr().err
