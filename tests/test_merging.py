"""Samples that several machines counted add up to what one counts, and give its certificates."""

import json
import shutil

import numpy as np
import pytest

from lrs_jax.cli import main
from lrs_jax.jobs import checkpoints, records
from tests.test_cli import TOY

JOB = ("certify", "scenes", *TOY, "--images", "1", "--budgets", "0,0.03")
NAMES = ["certificate", "isotropic"]

pytestmark = pytest.mark.usefixtures("no_figures_in_module")


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
  """One machine that certifies by itself, and three that count 0:16, 16:30 and 30:40."""
  folder = tmp_path_factory.mktemp("machines")
  model = ("--model", str(folder / "unet.npz"))
  assert main([*JOB, *model, "--out", str(folder / "whole")]) == 0
  for name, bounds in (("a", "0:16"), ("b", "16:30"), ("c", "30:40")):
    where = ["--sample-range", bounds, "--out", str(folder / name)]
    assert main([*JOB, *model, *where]) == 0
  return folder


def merge(folder, out, *names):
  paths = [str(folder / name) for name in names]
  return main(["merge", *paths, "--out", str(out), "--model", str(folder / "unet.npz")])


def same(one, other):
  assert one.meta == other.meta
  arrays = [
    {k: v for k, v in records.to_arrays(r).items() if not k.startswith("certified/")}
    for r in (one, other)
  ]
  assert set(arrays[0]) == set(arrays[1])
  for name in arrays[0]:
    np.testing.assert_array_equal(arrays[0][name], arrays[1][name])
  assert set(one.certified) == set(other.certified)
  for name, certificate in one.certified.items():
    np.testing.assert_array_equal(certificate.certified, other.certified[name].certified)


def files(folder):
  return {str(path.relative_to(folder)) for path in folder.rglob("*.*")}


def test_counts_are_left_instead_of_certificates(machines):
  assert files(machines / "a") == {
    f"scene-000/{name}-{part}.counts.npz"
    for name in NAMES
    for part in ("estimation-0-16", "selection-0-10")
  }
  assert files(machines / "b") == {
    f"scene-000/{name}-estimation-16-30.counts.npz" for name in NAMES
  }
  path = machines / "a" / "scene-000" / "certificate-estimation-0-16.counts.npz"
  manifest = checkpoints.load(path).manifest
  assert manifest["ranges"] == [[0, 16]]
  assert manifest["job"]["precision"] == "float32"
  fields = {"job", "model", "versions", "input", "chunk_size", "device", "noise", "key"}
  assert fields < set(manifest)


def test_a_merged_certificate_is_that_of_one_machine(machines, tmp_path, capsys):
  before = {path: path.read_bytes() for path in machines.rglob("*.counts.npz")}
  assert merge(machines, tmp_path, "b", "c", "a", "a") == 0
  assert "localized, envelope" in capsys.readouterr().out
  for name in NAMES:
    path = f"scene-000/{name}.npz"
    same(records.load(tmp_path / path), records.load(machines / "whole" / path))
  one, other = (
    json.loads((f / "summary.json").read_text()) for f in (tmp_path, machines / "whole")
  )
  for summary in (one, other):
    summary.pop("seconds")
    for report in summary["smoothings"].values():
      report.pop("solve_seconds")
  assert one == other
  assert files(tmp_path) == files(machines / "whole")
  assert {path: path.read_bytes() for path in machines.rglob("*.counts.npz")} == before
  assert main(["verify", str(tmp_path)]) == 0

  written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
  assert merge(machines, tmp_path, "a", "b", "c") == 0
  assert main([*JOB, "--model", str(machines / "unet.npz"), "--out", str(tmp_path)]) == 0
  assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")} == written


def test_a_merge_of_fewer_samples_does_not_replace_one_of_more(machines, tmp_path, capsys):
  assert merge(machines, tmp_path, "a", "b", "c") == 0
  before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
  capsys.readouterr()
  assert merge(machines, tmp_path, "a", "c") == 1
  message = "holds results of another job (samples counted: 0:40 there, 0:16, 30:40 asked for)"
  assert message in capsys.readouterr().err
  assert {path: path.read_bytes() for path in before} == before
  paths = [str(machines / name) for name in "ac"]
  model = ("--model", str(machines / "unet.npz"))
  assert main(["merge", *paths, "--out", str(tmp_path), *model, "--force"]) == 0
  assert json.loads((tmp_path / "summary.json").read_text())["ranges"] == [[0, 16], [30, 40]]
  before = (tmp_path / "summary.json").read_bytes()
  counting = [*JOB, *model, "--sample-range", "30:40", "--out", str(tmp_path)]
  assert main(counting) == 0  # counts beside the results replace none
  assert (tmp_path / "summary.json").read_bytes() == before


def test_gaps_make_fewer_samples_and_the_certificate_names_them(machines, tmp_path):
  assert merge(machines, tmp_path, "a", "c") == 0
  record = records.load(tmp_path / "scene-000" / "certificate.npz")
  records.verify(record)
  assert (record.estimation.votes.sum(axis=1) == 26).all()
  assert record.meta["ranges"] == [[0, 16], [30, 40]]
  assert json.loads((tmp_path / "summary.json").read_text())["ranges"] == [[0, 16], [30, 40]]
  whole = records.load(machines / "whole" / "scene-000" / "certificate.npz")
  missing = whole.estimation.votes - record.estimation.votes
  assert (missing.sum(axis=1) == 14).all()
  assert (missing >= 0).all()


def changed(machines, old, new, change):
  """Another machine's folder, with counts that differ by `change`."""
  for path in (machines / old).rglob("*.counts.npz"):
    counts = change(checkpoints.load(path))
    if counts is not None:
      checkpoints.save(machines / new / path.relative_to(machines / old), counts)


def differing(**fields):
  return lambda counts: counts._replace(manifest={**counts.manifest, **fields})


def only(smoothing):
  return lambda counts: counts if counts.manifest["smoothing"] == smoothing else None


def test_what_cannot_be_merged_is_refused_and_leaves_nothing(machines, tmp_path, capsys):
  job = checkpoints.load(next((machines / "a").rglob("*.npz"))).manifest["job"]
  changed(machines, "b", "overlapping", differing(ranges=[[15, 29]]))
  changed(machines, "b", "reseeded", differing(job={**job, "seed": 1}))
  changed(machines, "b", "imprecise", differing(job={**job, "precision": "bfloat16"}))
  changed(machines, "b", "unfinished", lambda counts: counts._replace(done=3))
  changed(machines, "b", "uneven", only("certificate"))
  changed(machines, "a", "incomplete", only("certificate"))
  changed(machines, "a", "foreign", differing(input="of another image"))
  shutil.copytree(machines / "b", machines / "damaged")
  path = next((machines / "damaged").rglob("*.npz"))
  path.write_bytes(path.read_bytes()[:-40])
  for names, message in (
    (("a", "overlapping"), "overlap: both hold sample 15"),
    (("a", "reseeded"), "they differ in job.seed"),
    (("a", "imprecise"), "they differ in job.precision"),
    (("a", "unfinished"), "is unfinished, 3 of 14 samples"),
    (("a", "uneven"), "scene-000 (isotropic) 0:16: all cases need the same"),
    (("a", "damaged"), "cannot read"),
    (("incomplete",), "no selection samples of scene-000 (isotropic)"),
    (("foreign",), "the data or the network that is here: they differ in input"),
    (("b", "c"), "no selection samples: they come with the range that starts at 0"),
    (("whole",), "no counts under"),
    (("nowhere",), "there is no"),
  ):
    assert merge(machines, tmp_path / "out", *names) == 1, names
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
  assert main(["merge", str(machines / "a"), "--out", str(tmp_path / "out")]) == 1
  assert "found no network at" in capsys.readouterr().err
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  ("bounds", "message"),
  [("0:41", "must lie in 0:40"), ("7:7", "not be empty, but it is 7:7"), ("9:3", "it is 9:3")],
)
def test_ranges_that_are_none(bounds, message, tmp_path, capsys):
  assert main([*JOB, "--sample-range", bounds, "--out", str(tmp_path / "o")]) == 1
  assert message in capsys.readouterr().err
  assert not (tmp_path / "o").exists()
  with pytest.raises(SystemExit):
    main([*JOB, "--sample-range", "7"])


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda job: {**job, "colour": "red"}, "there is no option colour"),
    (lambda job: {**job, "samples": "many"}, "`samples` must be int, but it is 'many'"),
    (lambda job: {**job, "size": [16]}, "`size` must be tuple"),
    (lambda job: {**job, "seed": True}, "`seed` must be int"),
    (lambda job: {**job, "data": "flowers"}, "--data must be one of scenes"),
    (lambda job: {**job, "reach": "far"}, "--reach must be one of grid, border, but it is 'far'"),
    (lambda job: [1], "a job must be names and values"),
  ],
)
def test_counts_of_a_job_that_cannot_be_are_refused(machines, tmp_path, capsys, change, message):
  job = checkpoints.load(next((machines / "a").rglob("*.npz"))).manifest["job"]
  for path in (machines / "a").rglob("*.counts.npz"):
    checkpoints.save(
      tmp_path / "in" / path.relative_to(machines / "a"),
      differing(job=change(job))(checkpoints.load(path)),
    )
  paths = [str(tmp_path / "in"), "--model", str(machines / "unet.npz")]
  assert main(["merge", *paths, "--out", str(tmp_path / "out")]) == 1
  error = capsys.readouterr().err
  assert message in error
  assert error.count("\n") == 1
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda counts: counts._replace(sums=counts.sums[:1]), "holds no votes"),
    (lambda counts: counts._replace(sums=counts.sums[::-1]), "holds no votes"),
    (lambda counts: counts._replace(sums=(counts.sums[0] * 2, counts.sums[1])), "sums to"),
    (lambda counts: counts._replace(sums=(-counts.sums[0], counts.sums[1])), "not be negative"),
    (lambda counts: counts._replace(sums=(counts.sums[0], counts.sums[1] + 1)), "its sum says"),
    (lambda counts: counts._replace(sums=(counts.sums[0][:9], counts.sums[1])), "other shapes"),
    (differing(case=3), "does not say which"),
  ],
)
def test_sums_that_are_no_votes_are_refused(machines, tmp_path, capsys, change, message):
  path = next((machines / "b").rglob("certificate-*.npz"))
  checkpoints.save(tmp_path / "in" / path.name, change(checkpoints.load(path)))
  paths = [str(machines / "a"), str(tmp_path / "in"), "--model", str(machines / "unet.npz")]
  assert main(["merge", *paths, "--out", str(tmp_path / "out")]) == 1
  error = capsys.readouterr().err
  assert message in error
  assert error.count("\n") == 1
  assert not (tmp_path / "out").exists()
