"""Every benchmark runs at toy size, so that none can rot."""

import json

from benchmarks import methods, picture
from lrs_jax.cli import main
from lrs_jax.jobs import records
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
