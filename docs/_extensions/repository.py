"""Files of the repository on the site: notebooks and measurements as pages, links that hold.

The Markdown of the repository links to files beside it, as GitHub shows them. Here a link to a file
that has a page becomes a link to that page, and one to any other file a download. A link to a file
that is not there is a warning.
"""

import json
import os
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

DOCS = Path(__file__).parent.parent
ROOT = DOCS.parent
WRITTEN = ("tutorials", "measurements", "project")  # folders of `docs` that are made here
PAGES = {ROOT / "README.md": DOCS / "index.md"}
PAGES |= {path: path for path in DOCS.glob("*.md")}
PAGES |= {path: DOCS / "tutorials" / f"{path.stem}.md" for path in ROOT.glob("colab/*.ipynb")}
PAGES |= {
  path: DOCS / "measurements" / path.relative_to(ROOT / "benchmarks/results")
  for path in ROOT.glob("benchmarks/results/**/*.md")
}
PAGES |= {
  ROOT / name: DOCS / "project" / name.lower() for name in ("CONTRIBUTING.md", "CHANGELOG.md")
}
"""The page of a file, both as paths."""

LINK = re.compile(r"(\]\()([^()\s]+)(\))")
BADGE = re.compile(r"^\[!\[Open in Colab\].*\n+")
CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", flags=re.DOTALL | re.MULTILINE)

logger = logging.getLogger(__name__)


def relinked(text: str, source: Path, page: Path) -> str:
  """The Markdown of a file, with links as they have to be on its page."""

  def change(match: re.Match[str]) -> str:
    before, link, after = match.groups()
    path, hash_sign, anchor = link.partition("#")
    if not path or re.match(r"[a-z]+:", path):
      return match.group()
    file = Path(os.path.normpath(source.parent / path))
    if not file.exists():
      logger.warning("%s links to %s, which is not there", source.relative_to(ROOT), path)
    target = os.path.relpath(PAGES.get(file, file), page.parent)
    return f"{before}{target}{hash_sign}{anchor}{after}"

  parts = CODE.split(text)  # code at odd places: it has no links
  return "".join(part if i % 2 else LINK.sub(change, part) for i, part in enumerate(parts))


def of_notebook(path: Path, page: Path) -> str:
  """A notebook's cells as Markdown, without outputs: notebooks are stored without any."""
  blocks = []
  for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
    text = "".join(cell["source"]).strip()
    if cell["cell_type"] == "markdown":
      blocks.append(relinked(BADGE.sub("", text), path, page))
    else:
      text = text.removeprefix("%matplotlib inline\n")
      shell = re.search(r"^ *[%!]", text, flags=re.MULTILINE)
      blocks.append(f"```{'text' if shell else 'python'}\n{text}\n```")
  title, _, rest = blocks[0].partition("\n")
  file = os.path.relpath(path, page.parent)
  note = f"A notebook to run, [{path.name}]({file}); what it prints and draws is not shown here."
  return "\n\n".join([title, note, rest.strip(), *blocks[1:]]) + "\n"


def of_markdown(path: Path, page: Path) -> str:
  """A Markdown file; one without a title gets that of its name."""
  text = relinked(path.read_text(encoding="utf-8"), path, page)
  if "\n## " not in text:
    text = text.replace("\n### ", "\n## ")
  if text.startswith("# "):
    return text
  return f"# {path.stem.replace('-', ' ').capitalize()}\n\n{text}"


def write(app: Sphinx) -> None:
  """Writes the pages of files outside of `docs`, those that changed, and leaves no other."""
  pages = {page: file for file, page in PAGES.items() if page.parent != DOCS and file.exists()}
  for folder in WRITTEN:
    for page in (DOCS / folder).glob("**/*.md"):
      if page not in pages:
        page.unlink()
  for page, file in pages.items():
    text = (of_notebook if file.suffix == ".ipynb" else of_markdown)(file, page)
    page.parent.mkdir(parents=True, exist_ok=True)
    if not page.exists() or page.read_text(encoding="utf-8") != text:
      page.write_text(text, encoding="utf-8")


def read(app: Sphinx, docname: str, content: list[str]) -> None:
  """Links of the pages that lie in `docs`; the front page starts with the README."""
  page = DOCS / f"{docname}.md"
  if page not in PAGES.values() or page.parent != DOCS:
    return
  content[0] = relinked(content[0], page, page)
  if docname == "index":
    readme = ROOT / "README.md"
    app.env.note_dependency(str(readme))
    content[0] = content[0].replace(
      "<!-- README -->", relinked(readme.read_text(encoding="utf-8"), readme, page)
    )


def setup(app: Sphinx) -> dict[str, bool]:
  """Connects both to Sphinx."""
  app.connect("builder-inited", write)
  app.connect("source-read", read)
  return {"parallel_read_safe": True, "parallel_write_safe": True}
