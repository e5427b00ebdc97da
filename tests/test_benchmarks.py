"""Every benchmark runs at toy size, so that none can rot."""

import json

import jax
import numpy as np

from benchmarks import fields, methods, picture
from benchmarks.image_study.configurations import Sizes
from lrs_jax.cli import main
from lrs_jax.jobs import records
from lrs_jax.tasks.data.images import LabelledImages
from lrs_jax.tasks.models import folding, unet
from tests.making import image_record as make
from tests.test_cli import SCENES


def test_methods(tmp_path, capsys):
  records.save(tmp_path / "certificate.npz", make())
  methods.main([str(tmp_path / "certificate.npz"), "--out", str(tmp_path), "--budgets", "3"])
  results = json.loads((tmp_path / "methods.json").read_text())
  counts = {name: found["certified"] for name, found in results["methods"].items()}
  for weaker, stronger in (("naive", "envelope"), ("lp", "envelope"), ("envelope", "milp")):
    assert all(a <= b for a, b in zip(counts[weaker], counts[stronger], strict=True))
  assert "| exact (to the gap) |" in capsys.readouterr().out
  assert (tmp_path / "methods.png").read_bytes().startswith(b"\x89PNG")


def test_picture(tmp_path):
  job = tmp_path / "job"
  options = "--images", "1", "--budgets", "0,0.05,0.1", "--method", "milp"
  assert main([*SCENES, *options, "--out", str(job)]) == 0
  picture.main([str(job), "--out", str(tmp_path)])
  assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_fields_of_view(tmp_path):
  """The same votes, and never less the more is known of the view; a second run counts nothing."""
  shape, rng = (16, 40), np.random.default_rng(0)
  model = unet.UNet(num_classes=3, width=2, depth=1)
  variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, *shape, 3), np.float32))
  images = rng.random((2, *shape, 3), np.float32)
  labels = rng.integers(0, 3, (2, *shape))
  data = LabelledImages(images=images, labels=labels, names=("a", "b"), classes=("x", "y", "z"))
  setting = fields.Setting(
    Sizes(size=shape, depth=1), "toy", folding.fold(variables), data, tmp_path, (20, 100)
  )
  result = fields.run(setting, [0.1])
  radius = {name: np.array(of) for name, of in result["levels"]["0.1"]["radius"].items()}
  assert (radius["view"] > 1.02 * radius["whole image"]).all()
  assert (radius["view"] >= radius["view, blocks of 32"] - 1e-12).all()
  assert (radius["SegCertify"] >= radius["whole image"]).all()
  files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
  assert len(files) == 2
  again = fields.run(setting, [0.1])
  assert again["levels"]["0.1"]["radius"] == result["levels"]["0.1"]["radius"]
  assert {path: path.stat().st_mtime_ns for path in files} == files
  text = fields.report(result)
  assert "| 0.1 | view | " in text
  assert "| 0.1 | SegCertify |  |  | " in text
  ratio, low, high = fields.interval([2.0, 4.0], [1.0, 2.0])
  assert (ratio, low, high) == (2.0, 2.0, 2.0)
