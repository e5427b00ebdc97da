"""A job's page: what it says is what the records prove, also once its slider is moved."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from lrs_jax import cli
from lrs_jax.jobs import records
from lrs_jax.tasks import common

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
  """What was certified of two small images of one's own, one of a name that is no HTML."""
  folder = tmp_path_factory.mktemp("page")
  rng = np.random.default_rng(0)
  (folder / "photos").mkdir()
  for name in ("one", "two <b> & '"):
    pixels = rng.integers(0, 256, (12, 20, 1)) * np.ones(3, int)
    Image.fromarray(pixels.astype(np.uint8)).save(folder / "photos" / f"{name}.png")
  path = folder / "mine.py"
  assert cli.main(["init", str(path)]) == 0
  options = ["--samples", "100", "--selection-samples", "20", "--std", "0.2", "--alpha", "0.1"]
  arguments = [f"{path}:TASK", "--images", str(folder / "photos"), *options]
  assert cli.main(["certify", *arguments, "--out", str(folder / "out")]) == 0
  return folder


def content(path):
  text = path.read_text()
  (found,) = re.findall(
    r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL
  )
  return json.loads(found)


def record_of(folder, name):
  return records.load(folder / "out" / name / "certificate.npz")


def expected(folder, name):
  """What is certified of an input at every radius, together and of every pixel on its own."""
  record = record_of(folder, name)
  lone = common.lone_budgets(record.base)
  alone = [int((lone > budget).sum()) for budget in record.budgets[:, 0]]
  return record.certified["all/envelope"].certified.tolist(), alone


def test_it_says_what_the_records_prove(job):
  page = content(job / "out" / "report.html")
  assert [one["name"] for one in page["inputs"]] == ["one", "two <b> & '"]
  for one in page["inputs"]:
    certified, _ = expected(job, one["name"])
    assert one["certified"] == certified
    assert 0 < certified[10] < certified[0]
    most = (
      len(record_of(job, one["name"]).groups) - certified[one["radii"].index(one["splitradius"])]
    )
    assert 0 < one["fallen"] <= one["atmost"] == most
    assert one["card"] == (job / "out" / one["name"] / "card.md").read_text()
  summary = json.loads((job / "out" / "summary.json").read_text())
  curve = summary["smoothings"]["certificate"]["certified"]["envelope"]["epsilon"]
  (first, *_) = page["curves"]["kinds"][0]["series"]
  assert first["curve"] == curve["curve"]
  assert page["claim"].startswith(
    "With probability at least 1 - 0.1 for each input, a perturbation"
  )
  text = (job / "out" / "report.html").read_text()
  assert "<b> &" not in text.replace("&lt;b&gt;", "")  # names cannot be mistaken for elements
  assert not re.search(r"(src|href)=", text)  # nothing is fetched


def test_it_is_made_anew_by_the_command(job, capsys):
  path = job / "out" / "report.html"
  before = path.read_text()
  path.unlink()
  assert cli.main(["report", str(job / "out"), "--task", f"{job / 'mine.py'}:TASK"]) == 0
  assert capsys.readouterr().out.strip() == str(path)
  assert content(path)["inputs"] == json.loads(json.dumps(content_of(before)))["inputs"]
  assert cli.main(["report", str(job / "out")]) == 1
  assert "say where it is by --task" in capsys.readouterr().err
  assert cli.main(["report", str(job)]) == 1


def content_of(text):
  return json.loads(re.findall(r'application/json">(.*?)</script>', text, re.DOTALL)[0])


def test_an_input_that_changed_is_refused(job, tmp_path, capsys):
  shutil.copytree(job / "out", tmp_path / "out")
  shutil.copytree(job / "photos", tmp_path / "kept")
  Image.new("RGB", (20, 12)).save(job / "photos" / "one.png")
  try:
    task = f"{job / 'mine.py'}:TASK"
    assert cli.main(["report", str(tmp_path / "out"), "--task", task]) == 1
    assert "the input one is not the one that was certified" in capsys.readouterr().err
  finally:
    shutil.copy(tmp_path / "kept" / "one.png", job / "photos" / "one.png")


MOVE = """
<script>
async function collect() {
  while (!document.body.dataset.ready) await new Promise((done) => setTimeout(done, 20));
  const found = {};
  for (let i = 0; i < shown.length; i++) {
    document.body.dataset.ready = "";
    $("input").value = i;
    $("input").dispatchEvent(new Event("change"));
    while (!document.body.dataset.ready) await new Promise((done) => setTimeout(done, 20));
    found[shown[i].name] = shown[i].radii.map((radius, k) => {
      $("slider").value = k;
      $("slider").dispatchEvent(new Event("input"));
      return $("counts").textContent;
    });
  }
  document.body.innerHTML = "";
  make("pre", JSON.stringify(found), document.body).id = "found";
}
collect();
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's Chromium")
def test_the_slider_shows_what_the_records_prove(job, tmp_path):
  """Every place of it, for every input, in a browser."""
  path = tmp_path / "moved.html"
  path.write_text((job / "out" / "report.html").read_text().replace("</body>", f"{MOVE}</body>"))
  asked = "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"
  profile = f"--user-data-dir={tmp_path / 'profile'}"
  done = subprocess.run(
    [CHROMIUM, *asked, profile, path.as_uri()], capture_output=True, text=True, timeout=120
  )
  (text,) = re.findall(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
  found = json.loads(html.unescape(text))
  assert list(found) == ["one", "two <b> & '"]
  for name, texts in found.items():
    certified, alone = expected(job, name)
    for told, count, single in zip(texts, certified, alone, strict=True):
      assert f"at least {count} of 240 pixels keep their prediction at once" in told
      assert f" {single} are proven each on its own" in told
