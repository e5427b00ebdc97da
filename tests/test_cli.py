"""The command line as a user runs it, on a job of toy size."""

import csv
import json
import re
import shutil
from importlib import metadata

import numpy as np
import pytest

from lrs_jax import noise, storage
from lrs_jax.cli import main
from lrs_jax.confidence import certificates
from lrs_jax.jobs import networks, records
from lrs_jax.tasks import images as jobs
from tests.test_data import make_camvid, make_cityscapes, make_voc

pytestmark = pytest.mark.usefixtures("no_figures")

TOY = (
  *("--size", "16x24", "--grid", "2x2", "--width", "2", "--depth", "1", "--steps", "3"),
  *("--batch-size", "2", "--samples", "40", "--selection-samples", "10"),
  *("--std-max", "0.6", "--view", "whole"),
)
SCENES = ("certify", "scenes", *TOY, "--images", "2")


NOT_ITS = "not those of the noise of the job"


def ours(summary):
  """The part of a summary on localized smoothing."""
  return summary["smoothings"]["certificate"]


def resmoothed(record, **changes):
  return record._replace(smoothing=record.smoothing._replace(**changes))


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
  out = tmp_path_factory.mktemp("toy")
  assert main([*SCENES, "--out", str(out)]) == 0
  return out


def test_results_are_where_the_readme_says(toy):
  names = sorted(str(path.relative_to(toy)) for path in toy.rglob("*") if path.is_file())
  sizes = {"size": (16, 24), "grid": (2, 2), "std_max": 0.6, "width": 2, "depth": 1}
  config = jobs.Config(**sizes, steps=3, batch_size=2)
  network = jobs.TASK.models.network(config, jobs.load(config), "")
  model = networks.path_of(network, toy)
  expected = [str(model.relative_to(toy)), "curves.csv", "curves.png", "job.toml", "noise.png"]
  expected += ["report.html", "summary.json"]
  for image in ("scene-000", "scene-001"):
    files = "card.json", "card.md", "certificate.npz", "image.png", "isotropic.npz"
    expected += [f"{image}/{file}" for file in files]
  assert names == sorted(expected)
  for path in toy.rglob("*.png"):
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_summary_says_what_was_done(toy):
  summary = json.loads((toy / "summary.json").read_text())
  assert summary["job"]["samples"] == 40
  assert set(summary["seconds"]) == {"training", "compilation", "sampling", "certificates"}
  assert summary["versions"]["jax"]
  methods = summary["smoothings"]["certificate"]["certified_accuracy"]
  assert set(methods) == {"envelope", "lp", "naive"}
  assert len(methods["envelope"]["epsilon"]["budgets"]) == 41
  envelope, lp, naive = (
    np.array(methods[name]["epsilon"]["curve"]) for name in ("envelope", "lp", "naive")
  )
  assert (envelope >= lp).all()
  assert (envelope >= naive).all()
  assert (np.diff(envelope) <= 0).all()
  assert envelope[-1] == 0
  isotropic = summary["smoothings"]["isotropic"]["certified"]
  of_envelope, of_holm = (isotropic[name]["epsilon"] for name in ("envelope", "segcertify"))
  assert of_envelope["curve"][-1] == 0
  by_votes = []  # whose bounds SegCertify improves by Holm's correction
  for image in ("scene-000", "scene-001"):
    record = records.load(toy / image / "isotropic.npz")
    votes = record.selection.votes, record.estimation.votes
    base = certificates.from_votes(record.noise, record.groups, *votes, alpha=0.01)
    right = record.counted & (base.labels == record.truth)
    by_votes.append(
      (right & (base.eta > record.budgets[:, :1] / record.noise.scale[0, 0] ** 2)).mean(axis=1)
    )
  assert (np.array(of_holm["curve"]) >= np.mean(by_votes, axis=0)).all()


def test_curves_are_those_of_the_certificates(toy):
  summary = json.loads((toy / "summary.json").read_text())
  done = [records.load(toy / name / "certificate.npz") for name in summary["inputs"]]
  fraction = np.mean([r.certified["all/envelope"].certified / 384 for r in done], axis=0)
  found = summary["smoothings"]["certificate"]["certified"]["envelope"]["epsilon"]["curve"]
  np.testing.assert_array_equal(found, fraction)


def test_curves_are_a_table_too(toy):
  """Every point of every curve of the summary, in the order of the summary."""
  with (toy / "curves.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  for name, report in json.loads((toy / "summary.json").read_text())["smoothings"].items():
    for targets in ("certified", "certified_accuracy"):
      for method, by_kind in report[targets].items():
        of = by_kind["epsilon"]
        asked = {"smoothing": name, "targets": targets.replace("_", " "), "method": method}
        asked["perturbation"] = "radius"
        found = [row for row in rows if asked.items() <= row.items()]
        assert [float(row["budget"]) for row in found] == of["budgets"]
        assert [float(row["fraction"]) for row in found] == of["curve"]
        rows = [row for row in rows if row not in found]
  assert not rows


def test_the_options_of_a_job_are_a_file_that_does_it_again(toy, capsys):
  before = {path: path.stat().st_mtime_ns for path in toy.glob("*/*.npz")}
  again = ["certify", "scenes", "--config", str(toy / "job.toml"), "--out", str(toy)]
  assert main(again) == 0
  assert {path: path.stat().st_mtime_ns for path in toy.glob("*/*.npz")} == before
  assert main([*again, "--seed", "7"]) == 1  # what is given beside it counts
  assert "seed: 0 there, 7 asked for" in capsys.readouterr().err
  with pytest.raises(SystemExit):
    main([*again, "--help"])
  assert "(default: 16x24)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("seed = ", "cannot be read as TOML"),
    ("sead = 1", "there is no option sead"),
    ("seed = 'one'", "`seed` must be int, but it is 'one'"),
    ("sead = 1", "is it seed?"),
    ("size = [16, 24, 3]", "`size` must be"),
    ("size = '16x24'", "`size` must be a list, as in size = [16, 24], but it is '16x24'"),
    ("scores = 'votes'", '`scores` must be a list, as in scores = ["votes"], but it is'),
    ("data = 'camvid'", "is for 'camvid', but this is 'scenes'"),
    (None, "cannot be read as TOML: [Errno 2]"),
  ],
)
def test_a_file_of_options_that_cannot_be_is_said(tmp_path, capsys, text, message):
  path = tmp_path / "job.toml"
  if text is not None:
    path.write_text(text)
  assert main(["certify", "scenes", "--config", str(path), "--out", str(tmp_path / "out")]) == 1
  assert message in capsys.readouterr().err
  assert not (tmp_path / "out").exists()


def test_verify_accepts_the_folder_and_refuses_a_changed_number(toy, tmp_path, capsys):
  assert main(["verify", str(toy)]) == 0
  assert capsys.readouterr().out.count("proven") == 4
  record = records.load(toy / "scene-000" / "certificate.npz")
  certificate = record.certified["all/envelope"]
  changed = certificate._replace(certified=certificate.certified + 1)
  records.save(
    tmp_path / "changed.npz",
    record._replace(certified={**record.certified, "all/envelope": changed}),
  )
  assert main(["verify", str(tmp_path)]) == 1
  assert "REFUSED: all/envelope" in capsys.readouterr().err
  assert main(["verify", str(tmp_path / "nothing.npz")]) == 1
  (tmp_path / "empty").mkdir()
  assert main(["verify", str(tmp_path / "empty")]) == 1
  assert "no certificates under" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      lambda s: ours(s)["certified"]["envelope"]["epsilon"].update(curve=[1.0] * 41),
      "certificate.certified.envelope.epsilon.curve",
    ),
    (lambda s: ours(s)["certified"]["lp"]["epsilon"].update(area=9.0), "lp.epsilon.area"),
    (lambda s: s["smoothings"]["isotropic"].update(accuracy=1.0), "isotropic.accuracy"),
    (lambda s: ours(s)["certified"].update(milp={}), "certified.milp does not foll"),
    (lambda s: ours(s).update(proven=1), "certificate.proven does not follow"),
    (
      lambda s: ours(s)["certified"]["lp"]["epsilon"].update(budgets=[0.5] * 41),
      "lp.epsilon.budgets",
    ),
    (lambda s: s["job"].update(alpha=1e-6), "its `job` is not that of"),
    (lambda s: s["model"].update(certificate="another"), "its `model` is not that of"),
    (lambda s: s.update(ranges=[[0, 10_000]]), "its `ranges` is not that of"),
    (lambda s: s.update(inputs=["scene-000", "scene-000"]), "must be different"),
    (lambda s: s.update(inputs=["../elsewhere"]), "`inputs` must be names"),
    (lambda s: s.update(inputs=["scene-999"]), "cannot read"),
    (lambda s: s.update(smoothings={"../../x": {}}), "`smoothings` must be names"),
    (lambda s: s.update(task="nothing"), "there is no task 'nothing'"),
    (lambda s: s.pop("job"), "it is no summary of a job"),
  ],
)
def test_verify_compares_the_summary_with_the_certificates(toy, tmp_path, capsys, change, message):
  out = tmp_path / "out"
  shutil.copytree(toy, out)
  summary = json.loads((out / "summary.json").read_text())
  change(summary)
  (out / "summary.json").write_text(json.dumps(summary))
  assert main(["verify", str(out)]) == 1
  error = capsys.readouterr().err
  assert "summary.json: REFUSED" in error
  assert message in error
  assert error.count("\n") == 1


def test_verify_finds_that_all_agrees(toy, capsys):
  assert main(["verify", str(toy)]) == 0
  told = capsys.readouterr().out
  others = "; not compared: unit, device, facts, seconds"
  assert f"summary.json: agrees with its 4 certificates{others}" in told
  assert told.count("card.json: agrees") == told.count("card.md: agrees") == 2


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda r: resmoothed(r, noise=noise.gaussian(r.noise.scale * 2, r.noise.cells)), NOT_ITS),
    (lambda r: resmoothed(r, noise=noise.gaussian(r.noise.scale, r.noise.cells[::-1])), NOT_ITS),
    (lambda r: resmoothed(r, noise=noise.laplace(r.noise.scale, r.noise.cells)), "not follow"),
    (lambda r: resmoothed(r, groups=r.groups[::-1]), "not those of the grid"),
    (
      lambda r: r._replace(meta={**r.meta, "job": {**r.meta["job"], "std_max": 9.0}}),
      "noise of th",
    ),
    (
      lambda r: r._replace(meta={**r.meta, "job": {**r.meta["job"], "grid": [9, 2]}}),
      NOT_ITS,
    ),
    (
      lambda r: r._replace(meta={**r.meta, "job": {**r.meta["job"], "size": [9, 9]}}),
      "size is",
    ),
    (lambda r: r._replace(meta={**r.meta, "job": {**r.meta["job"], "reach": "far"}}), "--reach"),
    (lambda r: r._replace(meta={**r.meta, "job": {**r.meta["job"], "grid": "2x2"}}), "`grid` must"),
  ],
)
def test_a_certificate_must_be_of_the_job_that_it_names(toy, change, message):
  record = records.load(toy / "scene-000" / "certificate.npz")
  with pytest.raises(ValueError, match=message):
    records.verify(change(record), task=jobs.TASK)


def test_the_second_run_does_nothing_again(toy, capsys):
  files = {path: path.stat().st_mtime_ns for path in toy.rglob("*.npz")}
  assert main([*SCENES, "--out", str(toy)]) == 0
  assert {path: path.stat().st_mtime_ns for path in toy.rglob("*.npz")} == files
  assert "localized, envelope" in capsys.readouterr().out


def test_another_job_does_not_take_the_first_ones_certificates(toy, tmp_path):
  model = next((toy / "models").iterdir())
  out = tmp_path / "out"
  arguments = [*SCENES, "--images", "1", "--model", str(model), "--out", str(out)]
  assert main(arguments) == 0
  first = records.load(out / "scene-000" / "certificate.npz")
  other = ("--alpha", "0.1", "--budgets", "0,0.05", "--method", "naive")
  assert main([*arguments, *other, "--force"]) == 0
  second = records.load(out / "scene-000" / "certificate.npz")
  assert (first.alpha, second.alpha) == (0.01, 0.1)
  np.testing.assert_array_equal(
    first.estimation.votes, second.estimation.votes
  )  # the same key and network
  np.testing.assert_array_equal(second.adversary.radii, [0, 0.05])
  assert not (out / "models").exists()


def contents(folder):
  return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys, out, *options):
  """The one line of a job that is refused and leaves everything as it is."""
  before = contents(out)
  capsys.readouterr()
  assert main([*SCENES, *options, "--out", str(out)]) == 1
  error = capsys.readouterr().err
  assert error.count("\n") == 1
  assert "--force" in error
  assert contents(out) == before
  return error


@pytest.fixture
def copy(toy, tmp_path):
  return shutil.copytree(toy, tmp_path / "copy")


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (("--seed", "1"), "summary.json holds results of another job (seed: 0 there, 1 asked for)"),
    (
      ("--samples", "30"),
      "(samples: 40 there, 30 asked for)",
    ),
    (("--images", "1"), "(images: 2 there, 1 asked for)"),
    (("--grid", "1x2"), "(grid: 2x2 there, 1x2 asked for)"),
    (("--budgets", "0,0.5"), "(budgets: not given there, 0,0.5 asked for)"),
  ],
)
def test_finished_results_are_not_replaced_by_another_job(copy, capsys, options, message):
  assert message in refused(capsys, copy, *options)


def test_neither_are_certificates_without_a_summary(copy, capsys):
  (copy / "summary.json").unlink()
  error = refused(capsys, copy, "--selection-samples", "12")
  assert "scene-000/certificate.npz holds results of another job (selection-samples: 10" in error


def test_neither_are_those_of_another_network_with_the_same_options(copy, capsys, tmp_path):
  arrays = storage.load_arrays(next((copy / "models").iterdir()))
  name = next(name for name in arrays if name.endswith("kernel"))
  storage.save_arrays(tmp_path / "other.npz", {**arrays, name: arrays[name] + 1})
  error = refused(capsys, copy, "--model", str(tmp_path / "other.npz"))
  assert "summary.json holds results of another job (network (SHA-256): " in error


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("{", "summary.json is in the way, and cannot be read as results of lrs-jax (cannot"),
    ("[1]", "summary.json is in the way, and is not a result of lrs-jax certify"),
    ('{"job": 3}', "it names no `job`"),
    ("\0", "summary.json is in the way"),
    ('{"job": {"data": "citeseer"}}', "(data: citeseer there, scenes asked for)"),
  ],
)
def test_a_summary_that_is_damaged_or_foreign_is_not_replaced(tmp_path, capsys, text, message):
  (tmp_path / "summary.json").write_text(text)
  assert message in refused(capsys, tmp_path)


def test_a_damaged_certificate_is_not_replaced(copy, capsys):
  (copy / "summary.json").unlink()
  path = copy / "scene-001" / "isotropic.npz"
  path.write_bytes(path.read_bytes()[:100])
  assert "isotropic.npz is in the way, and cannot be read" in refused(capsys, copy)


def test_force_replaces_what_is_of_another_job(copy, capsys):
  (copy / "scene-000" / "isotropic.npz").write_bytes(b"damaged")
  options = ("--images", "1", "--selection-samples", "12", "--out", str(copy))
  assert main([*SCENES, *options, "--force"]) == 0
  assert json.loads((copy / "summary.json").read_text())["job"]["selection_samples"] == 12
  record = records.load(copy / "scene-000" / "isotropic.npz")
  assert (record.selection.votes.sum(axis=1) == 12).all()
  written = contents(copy / "scene-000")
  assert main([*SCENES, *options]) == 0  # goes on, though certificates of the other job remain
  assert contents(copy / "scene-000")[copy / "scene-000" / "isotropic.npz"] == written[
    copy / "scene-000" / "isotropic.npz"
  ]  # fmt: skip


def test_versions_and_devices_make_no_other_job(copy):
  path = copy / "summary.json"
  summary = json.loads(path.read_text())
  summary["versions"]["lrs_jax"], summary["device"] = "0.0.1", "8 x TPU"
  del summary["job"]["precision"], summary["ranges"]  # as of a version that did not know them
  path.write_text(json.dumps(summary))
  assert main([*SCENES, "--out", str(copy)]) == 0
  assert json.loads(path.read_text())["job"]["precision"] == "float32"


def test_a_network_that_learned_nothing_is_called_that(toy, capsys):
  assert main([*SCENES, "--out", str(toy)]) == 0
  text = capsys.readouterr().out
  majority = json.loads((toy / "summary.json").read_text())["majority"]
  test = jobs.load_images(jobs.Config(size=(16, 24)), "test", 2)
  assert majority == {"class": "background", "share": np.mean(test.labels == 0)}
  assert f"always answering background        accuracy {majority['share']:.3f}" in text
  assert "NOTE: hardly more often right than that, or less often: network, no noise" in text


def test_there_is_no_average_radius_over_a_users_budgets(toy, tmp_path, capsys):
  model = next((toy / "models").iterdir())
  arguments = [*SCENES, "--images", "1", "--model", str(model), "--out", str(tmp_path)]
  assert main([*arguments, "--budgets", "0.05"]) == 0
  head, *rows = capsys.readouterr().out.splitlines()
  assert head.split() == ["certified", "accuracy", "at", "radius", "0.05"]
  assert rows[0].strip().startswith("localized, envelope")
  assert len(rows[0].split()) == 3
  assert "no average radius: it needs the automatic radii, a run without --budgets" in rows
  localized = ours(json.loads((tmp_path / "summary.json").read_text()))
  assert {of["epsilon"]["area"] for of in localized["certified"].values()} == {None}


def test_camvid_trains_and_certifies(tmp_path, capsys, monkeypatch):
  make_camvid(tmp_path / "camvid", size=(24, 16))
  monkeypatch.setenv("LRS_JAX_DATA", str(tmp_path))
  out = tmp_path / "out"
  arguments = ["camvid", *TOY, "--hide-beyond", "0", "--images", "1", "--out", str(out)]
  assert main(["train", *arguments]) == 0
  assert "trained in" in capsys.readouterr().out
  (trained,) = (out / "models").iterdir()
  before = trained.stat().st_mtime_ns
  assert main(["certify", *arguments, "--method", "milp"]) == 0
  assert trained.stat().st_mtime_ns == before  # found by its configuration, not trained again
  record = records.load(out / "000" / "certificate.npz")
  assert np.isinf(record.noise.scale).sum() == 12  # of 2 x 2 cells every group sees its own only
  assert "all/milp" in record.certified


def test_voc_trains_and_certifies_a_deeplab(tmp_path, capsys):
  make_voc(tmp_path / "VOCdevkit" / "VOC2012", size=(24, 16))
  data, out = str(tmp_path), tmp_path / "out"
  arguments = [
    *("certify", "voc", *TOY, "--data-dir", data, "--network", "deeplab", "--images", "1"),
    *("--train-split", "trainaug", "--out", str(out)),
  ]
  assert main(arguments) == 0
  (model,) = (out / "models").iterdir()
  assert model.name.startswith("deeplab-")
  summary = json.loads((out / "summary.json").read_text())
  assert summary["inputs"] == ["2008_000002"]  # the validation list's
  assert summary["job"]["network"] == "deeplab"
  assert records.load(out / "2008_000002" / "certificate.npz").estimation.votes.shape == (384, 21)
  assert main(["verify", str(out)]) == 0
  for change, message in (
    (("--network", "unet"), "was trained with --network deeplab, but this job has unet"),
    (("--train-split", "train"), "was trained with --train-split trainaug, but this job has train"),
  ):
    capsys.readouterr()
    assert main([*arguments, *change, "--model", str(model), "--force"]) == 1
    assert message in capsys.readouterr().err


def test_cityscapes_is_certified_on_validation_images(tmp_path):
  make_cityscapes(tmp_path)
  job = jobs.DEFAULTS["cityscapes"]._replace(data_dir=str(tmp_path), size=(4, 34), images=1)
  data = jobs.load_images(job, "test", job.images)
  assert data.names == ("aachen_000000_000019",)
  assert len(jobs.load_images(job, "train", None).names) == 4
  assert (data.labels < 19).any()
  with pytest.raises(ValueError, match="the val images of cityscapes are those that are certified"):
    jobs.load_images(job, "val", 1)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (("scenes", "--samples", "5"), "--samples 5 cannot certify any of 384 pixels .* at least 16"),
    (("scenes", "--size", "64x-3"), "--size must be at least 1, but one of them is -3"),
    (("scenes", "--grid", "17x2"), "--grid must lie between 1x1 and --size 16x24"),
    (("scenes", "--std-min", "0"), "0 < std-min <= std-max, but they are 0.0 and 0.6"),
    (("scenes", "--std-min", "0.7"), "0 < std-min <= std-max, but they are 0.7 and 0.6"),
    (("scenes", "--isotropic-std", "-1"), "--isotropic-std must be positive"),
    (("scenes", "--alpha", "1"), "--alpha must lie strictly between 0 and 1"),
    (("scenes", "--alpha", "nan"), "--alpha must lie strictly between 0 and 1"),
    (("scenes", "--budgets", "0,-1"), "--budgets must be finite and at least 0"),
    (("scenes", "--budgets", "0,inf"), "--budgets must be finite and at least 0"),
    (("scenes", "--images", "0"), "--images must be at least 1"),
    (("camvid", "--data-dir", "nowhere"), "no folder nowhere"),
    (("camvid",), "needs --data-dir DIR"),
    (("cityscapes", "--data-dir", "nowhere"), "no folder nowhere/leftImg8bit/val"),
    (("voc", "--train-split", "val"), "--train-split of voc must be one of train, trainaug"),
    (("scenes", "--train-split", "trainaug"), "--train-split of scenes must be one of train"),
  ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
  arguments, message, tmp_path, capsys, monkeypatch
):
  monkeypatch.delenv("LRS_JAX_DATA", raising=False)
  data, *rest = arguments
  out = tmp_path / "out"
  assert main(["certify", data, *TOY, *rest, "--out", str(out)]) == 1
  error = capsys.readouterr().err
  assert error.count("\n") == 1
  assert re.search(message, error)
  assert not out.exists()


def test_a_model_of_another_configuration_is_refused(toy, tmp_path, capsys):
  model = next((toy / "models").iterdir())
  out = tmp_path / "out"
  for change, message in (
    (("--width", "3"), "was trained with --width 2, but this job has 3"),
    (("--std-max", "0.5"), "was trained with --std-max 0.6, but this job has 0.5"),
  ):
    assert main([*SCENES, *change, "--model", str(model), "--out", str(out)]) == 1
    assert message in capsys.readouterr().err
  assert main([*SCENES, "--model", str(toy / "summary.json"), "--out", str(out)]) == 1
  assert "cannot read" in capsys.readouterr().err
  assert not out.exists()


@pytest.mark.parametrize("text", ["64", "ax3", "64x", "64x3x2"])
def test_sizes_that_are_none(text, capsys):
  with pytest.raises(SystemExit):
    main(["certify", "scenes", "--size", text])
  assert "expected 2 whole numbers with 'x' between them, as in HxW" in capsys.readouterr().err


@pytest.mark.parametrize("command", [(), ("certify",), ("certify", "camvid"), ("verify",)])
def test_help_teaches(command, capsys):
  with pytest.raises(SystemExit) as stopped:
    main([*command, "--help"])
  assert stopped.value.code == 0
  assert "usage: lrs-jax" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["scenes", "camvid", "citeseer"])
def test_help_shows_defaults_as_one_would_type_them(command, capsys):
  with pytest.raises(SystemExit):
    main(["certify", command, "--help"])
  text = " ".join(capsys.readouterr().out.split())
  assert "None" not in text
  assert not re.search(r"default: [(\[]", text)
  assert "(default: 0)" in text  # --seed
  if command == "citeseer":
    assert "(default: 0.6,0.95)" in text
    assert "(default: votes,kl,mixed)" in text
    assert "(default: 0.6,1,1.5,2,4,1000)" in text
    assert "(default: 50,50)" in text


def test_version(capsys):
  with pytest.raises(SystemExit) as stopped:
    main(["--version"])
  assert stopped.value.code == 0
  assert capsys.readouterr().out == f"lrs-jax {metadata.version('lrs_jax')}\n"
