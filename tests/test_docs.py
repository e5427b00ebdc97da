"""The documentation's pages: numbers are what they should be, headings and pages are there."""

import re
import shlex
from math import sqrt

import numpy as np
import pytest

from lrs_jax import cli, collective, noise
from lrs_jax.confidence import certificates
from lrs_jax.jobs import cards, processes
from tests.test_readme import PAGES, ROOT, blocks

DOCS = ROOT / "docs"


def said(page):
  return " ".join((DOCS / page).read_text().split())


def test_units_are_right():
  text = said("units.md")
  numbers = 180 * 240 * 3
  told = [
    f"has {numbers:,} numbers",
    f"| {1 / sqrt(numbers):.5f} (1/√{numbers:,}) | {255 / sqrt(numbers):.2f} |",
    f"costs √3 = {sqrt(3):.2f}, and ten of them √30 = {sqrt(30):.2f}",
    f"a radius of 1 is {1 / sqrt(360 * 480 * 3):.5f} everywhere, {255 / sqrt(360 * 480 * 3):.2f}",
    f"0.3·√{numbers:,} = {0.3 * sqrt(numbers):.0f}",
    f"One of 16×24×24 voxels has {16 * 24 * 24:,} numbers, so that a radius of 1 is "
    f"{1 / sqrt(16 * 24 * 24):.4f} everywhere",
    f"With {180 * 240:,} pixels (180×240) every pixel has α/{180 * 240:,} = "
    f"{0.01 / (180 * 240) * 1e7:.1f}·10⁻⁷",
    f"1 − 24·0.01 = {1 - 24 * 0.01:.2f}",
    f"take α = 0.01/24 = {0.01 / 24:.5f}",
    f"of {180 * 240:,} pixels 0.5 % are {180 * 240 * 0.005:.0f}",
  ]
  for part in told:
    assert part in text, part
  for side, digits in ((1, 3), (3, 3), (10, 3), (30, 4), (100, 4)):
    each = 1 / (side * sqrt(3))
    assert f"| {each:.{digits}f} | {255 * each:.1f} |" in text, side


def test_examples_of_units_print_what_they_say(capsys):
  norms, budgets = blocks(DOCS / "units.md")
  exec(norms, {})
  printed = [float(line) for line in capsys.readouterr().out.split()]
  assert [f"{x:.2f}" for x in printed] == re.search(r"# (.*): the radius", norms)[1].split(", ")
  exec(budgets, {})
  assert np.fromstring(capsys.readouterr().out.strip("[]\n "), sep=" ").tolist() == [0.25, 1, 4]


def test_the_budget_of_every_noise_is_the_power_that_is_told():
  rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (\d) \|", (DOCS / "units.md").read_text(), re.M)
  told = {name.strip("`"): int(p) for names, p in rows for name in names.split(", ")}
  arguments = {"flips": ([[0.1]], [[0.1]]), "ablation": ([[0.5]],)}
  made = {
    name: make(*arguments.get(name, ([[0.5]],)), np.zeros(1, int))
    for name, make in noise.FAMILIES.items()
  }
  assert told == {name: distribution.p for name, distribution in made.items()}


def slug(heading):
  """A heading's anchor, as GitHub makes it."""
  text = re.sub(r"[`*_]|\[|\]\([^)]*\)", "", heading.strip().lower())
  return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_anchors_are_headings(path):
  for link, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text()):
    page = (path.parent / link) if link else path
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    assert anchor in [slug(heading) for heading in headings], f"{link}#{anchor}"


def test_every_page_is_in_the_table_of_contents():
  listed = re.findall(r"^([\w/*.]+)$", (DOCS / "index.md").read_text(), flags=re.MULTILINE)
  missing = {path.stem for path in DOCS.glob("*.md")} - set(listed) - {"index"}
  assert missing == set()


def commands():
  """What pages tell to type, as arguments of `lrs-jax`; placeholders stay as they are."""
  for path in PAGES:
    for block in re.findall(r"```sh\n(.*?)```", path.read_text(), flags=re.DOTALL):
      for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line.replace("$((first + 2500))", "2500").replace("$first", "0"), True)
        if "lrs-jax" in words:
          yield path.name, words[words.index("lrs-jax") + 1 :]


def test_commands_that_are_told_are_understood(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert cli.main(["init", "my_task.py"]) == 0
  asked = []
  for name in (
    "_certify",
    "_certify_counts",
    "_train",
    "_init",
    "_merge",
    "_verify",
    "_report",
    "_card",
  ):
    monkeypatch.setattr(cli, name, lambda given: asked.append(given.command) or 0)
  monkeypatch.setattr(processes, "start", lambda *given: None)
  told = list(commands())
  for page, words in told:
    assert cli.main(words) == 0, f"{page}: {words}"
  assert len(asked) == len(told) > 20


def words_of(text):
  """Text without its numbers, which differ a little from machine to machine."""
  return re.sub(r"[\d.,%]+", "", text).split()


def test_the_table_of_a_call_is_as_its_page_shows_it(capsys):
  exec(blocks(ROOT / "README.md")[0], {})
  printed = capsys.readouterr().out
  shown = re.search(r"```text\n(\d+ outputs.*?)```", (DOCS / "cards.md").read_text(), re.DOTALL)
  assert words_of(shown[1]) == words_of(printed)


def test_a_card_has_the_parts_that_its_page_explains():
  votes, gaussian = [[990, 10], [700, 300]], noise.gaussian([[0.5]], cells=[0])
  base = certificates.from_votes(gaussian, [0, 0], votes, votes, alpha=0.01)
  certificate = collective.certify(base.weights, base.groups, base.eta, [0.0, 0.25])
  given = {"alpha": 0.01, "num_samples": 1000, "selection_samples": 1000}
  card = cards.of_certificate(gaussian, base, certificate, **given, context={"model": "mine"})
  text, page = cards.markdown({**card, "trusted": ["a"]}), (DOCS / "cards.md").read_text()
  parts = [*re.findall(r"^#+ .*$", text, re.M), *re.findall(r"^\*\*\w+\.\*\*|^- \w+:", text, re.M)]
  assert len(parts) == 12
  for part in parts:
    assert f"\n{part}" in page, part
  for word in card["confidence"].split():  # whose numbers are of another certificate
    assert word in page or word[0].isdigit(), word
