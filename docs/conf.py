"""The documentation's site: `sphinx-build -W --keep-going docs OUT` (Sphinx, MyST, Furo)."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))
sys.path.insert(0, str(Path(__file__).parent.parent))  # the package beside these pages

project = "lrs_jax"
author = copyright = "The lrs_jax authors"
release = version = metadata.version("lrs_jax").partition("+")[0]  # no commit

extensions = [
  "myst_parser",
  "sphinx.ext.autodoc",
  "sphinx.ext.mathjax",
  "sphinx.ext.napoleon",
  "repository",  # links to files of the repository; notebooks and measurements as pages
  "reference",  # pages of the public names
]
exclude_patterns = ["_*"]

# Markdown: formulas in dollars, and links to headings, `page.md#heading`, as on GitHub.
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 4

# Docstrings: Google's style; text in single backticks is code, and a link where it can be.
default_role = "py:obj"
autodoc_default_options = {"members": True, "member-order": "bysource"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
python_display_short_literal_types = True

html_theme = "furo"
html_title = f"lrs_jax {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
pygments_style = "default"
pygments_dark_style = "github-dark"
