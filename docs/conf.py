"""Settings of Sphinx, with which ``make docs`` makes a site of the pages in the repository.

The source directory is the root of the repository, so that a link works in the repository and on
the site. Every warning is an error: a broken link, a missing picture, or a page that ``_toc.yml``
does not list.
"""

import subprocess
import sys
from pathlib import Path

import sentiflow

ROOT = Path(__file__).parent.parent

project = "sentiflow"
release = sentiflow.__version__
extensions = ["myst_parser", "sphinx_external_toc", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
external_toc_path = "docs/_toc.yml"
include_patterns = ["*.md", "docs/*.md", "benchmarks/LOG.md"]

myst_heading_anchors = 4

autodoc_typehints = "description"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = "sentiflow"
html_extra_path = ["site"]
html_copy_source = False
pygments_style = "friendly"

# Typer writes the help of each command into the reference of the command line.
command = [
    sys.executable, "-m", "typer", "sentiflow.cli.app", "utils", "docs", "--name", project,
    "--title", "Command line", "--output", str(ROOT / "docs/command_line.md"),
]  # fmt: skip
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
