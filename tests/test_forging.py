"""The table of forged certificates, of a made-up record."""

from benchmarks import forging
from lrs_jax.jobs import records
from tests.making import image_record


def test_no_lone_change_claims_more(tmp_path, capsys):
  folder = tmp_path / "job" / "image"
  records.save(folder / "certificate.npz", image_record(options={"envelope": {}}))
  forging.main([str(folder / "certificate.npz"), "--out", str(tmp_path)])
  table = (tmp_path / "forging.md").read_text()
  assert table.strip().endswith(capsys.readouterr().out.strip())
  assert "records, 0 claim more than they did." in table
  assert "| base/eta | 10 of 10 | `eta` does not follow from the sums, the noise and alpha" in table
  assert (
    "| 100 % of the votes against a label are for it | images | passes, and it claims " in table
  )
  assert not (folder / "forged.npz").exists()
