"""Every benchmark runs at toy size, so that none can rot."""

import json
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from benchmarks import external, fields, forfeits, methods, picture, schedules, solvers
from lrs_jax import storage
from lrs_jax.cli import main
from lrs_jax.jobs import records, reports
from lrs_jax.tasks import images
from lrs_jax.tasks.models import folding
from lrs_jax.tasks.task import Case, Data
from tests import figures
from tests.making import image_record as make
from tests.test_cli import SCENES

ROOT = Path(__file__).parents[1]


def test_methods(tmp_path, capsys, monkeypatch):
  figures.check_saved(monkeypatch)
  records.save(tmp_path / "certificate.npz", make())
  methods.main([str(tmp_path / "certificate.npz"), "--out", str(tmp_path), "--budgets", "3"])
  results = json.loads((tmp_path / "methods.json").read_text())
  counts = {name: found["certified"] for name, found in results["methods"].items()}
  for weaker, stronger in (("naive", "envelope"), ("lp", "envelope"), ("envelope", "milp")):
    assert all(a <= b for a, b in zip(counts[weaker], counts[stronger], strict=True))
  assert "| exact (to the gap) |" in capsys.readouterr().out
  assert (tmp_path / "methods.png").read_bytes().startswith(b"\x89PNG")


def test_picture(tmp_path, monkeypatch):
  job = tmp_path / "job"
  options = "--images", "1", "--budgets", "0,0.05,0.1", "--method", "milp"
  with monkeypatch.context() as patch:
    patch.setattr(reports, "draw", lambda *args: None)
    assert main([*SCENES, *options, "--out", str(job)]) == 0
  figures.check_saved(monkeypatch)
  picture.main([str(job), "--out", str(tmp_path)])
  assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_stored_fields_of_view_are_drawn_without_overlaps():
  stored = sorted((ROOT / "benchmarks" / "results").glob("fields-*.json"))
  figures.check_texts(fields.scaling([storage.load_json(path) for path in stored]))


def test_fields_of_view(tmp_path, monkeypatch):
  """The same votes, and never less the more is known of the view; a second run counts nothing."""
  config = images.Config(
    network="patchnet", positions=True, size=(16, 40), width=2, depth=1, std_min=0.1
  )
  rng = np.random.default_rng(0)
  model = images.network(config, Data((), ("x", "y", "z")))
  shown = np.zeros((1, *config.size, 5), np.float32)
  params = folding.fold(jax.jit(model.init)(jax.random.key(0), shown))
  cases = [
    Case(name, rng.random((*config.size, 3), np.float32), rng.integers(0, 3, 640)) for name in "ab"
  ]
  setting = fields.Setting(config, params, Data(cases, ("x", "y", "z")), tmp_path, (20, 100))
  monkeypatch.setattr(fields, "RADII", 12)
  described = fields.describe("toy", config, setting.data)
  found = described | fields.run("toy", setting)
  radius = {name: np.array(of) for name, of in found["radius"].items()}
  assert (radius["view"] > 1.02 * radius["whole image"]).all()
  assert (radius["SegCertify"] >= radius["whole image"]).all()
  assert (radius["view" + fields.LEVERS] > radius["view"]).all()
  files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
  assert len(files) == 2
  again = described | fields.run("toy", setting)
  assert again["radius"] == found["radius"]
  assert {path: path.stat().st_mtime_ns for path in files} == files
  result = {"size": [16, 40], "samples": [20, 100], "runs": [found, again]}
  text = fields.report(result)
  assert "| toy | view | " in text
  assert "| toy | SegCertify |  |  | " in text
  assert "| toy | 2 | " in text
  assert "| 20 pixels high and wide |" in text
  assert np.shape(found["windows"]["view"]) == (5, 2)
  assert found["windows"]["view"][-1] == found["radius"]["view"]
  axes = fields.scaling([result]).axes[0]
  ratio = axes.get_lines()[0].get_ydata()
  assert (ratio >= 1 - 1e-12).all()
  assert ratio[-1] > ratio[0]
  ratio, low, high = fields.interval([2.0, 4.0], [1.0, 2.0])
  assert (ratio, low, high) == (2.0, 2.0, 2.0)


def test_studies_of_validation_images(tmp_path, monkeypatch):
  """From a network that is there to tables, of data in CamVid's layout."""
  for split in ("train", "val", "test"):
    for kind, shape in (("", (16, 40, 3)), ("annot", (16, 40))):
      pixels = np.random.default_rng(0).integers(0, 200 if kind == "" else 11, shape)
      path = tmp_path / "camvid" / f"{split}{kind}" / "a.png"
      path.parent.mkdir(parents=True)
      Image.fromarray(pixels.astype(np.uint8)).save(path)
  monkeypatch.setattr(fields, "TRAINED", (16, 40))
  monkeypatch.setattr(schedules, "CELLS", (8,))
  monkeypatch.setattr(schedules, "PASSES", (400,))
  tiny = {"network": "patchnet", "positions": True, "width": 2, "depth": 1, "steps": 2}
  monkeypatch.setitem(fields.NETWORKS, "patchnet", {**tiny, "batch_size": 2})
  config = fields.config_of("patchnet", str(tmp_path), "16x40", 1, 0.3, 0)
  found = schedules.candidates(config)
  assert [c.drawn[0].num_groups for c in found] == [1] * 5 + [4] * 4
  assert all(c.smoothing.num_groups > 4 for c in found)
  options = "--data-dir", str(tmp_path), "--work", str(tmp_path), "--out", str(tmp_path)
  schedules.main([*options, "--images", "1", "--size", "16x40"])
  text = (tmp_path / "schedules.md").read_text()
  assert "| 2x5 in 4 colors, std 0.2 to 0.3 | 4 | " in text
  assert "| 1x1, std 0.3 | 1 | " in text
  monkeypatch.setattr(forfeits, "RADII", np.array([0, 0.05, 0.1, 0.2]))
  forfeits.main([*options, "--images", "1", "--size", "16x40"])
  rows = (tmp_path / "forfeits.md").read_text().splitlines()
  gain = {row.split("|")[1].strip(): float(row.split("|")[2]) for row in rows[6:] if row}
  assert gain["0.00%"] == 1
  assert gain["4.00%"] < 1  # little is certified of this network, and 25 pixels are given up
  assert gain["the best of these, for every image"] == max(gain.values()) >= 1


def test_models_outside_of_jax(tmp_path):
  toy = ["--sizes", "16x24", "--samples", "16", "--batch-size", "4", "--turns", "1"]
  external.main([*toy, "--out", str(tmp_path)])
  (row,) = json.loads((tmp_path / "external.json").read_text())
  assert row["votes"] == 16 * 16 * 24
  for name, differing in row["differing"].items():  # of what is installed
    assert differing <= 2, name
  assert "JAX, on the device" in (tmp_path / "external.md").read_text()


def test_certificates_of_several_images(tmp_path):
  (row,) = solvers.main(["--toy", "--out", str(tmp_path)])["rows"]
  assert row["alone"] > 0
  assert row["together"] > 0
  assert "| envelope | 15 | 1000 | 2 |" in (tmp_path / "solvers.md").read_text()
