"""The documentation's site: sphinx-build -W -b html docs build/docs (extra docs)."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import lrc  # noqa: E402

project = "lrc"
author = "the authors of lrc"
version = release = lrc.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3


default_role = "code"
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings have shapes and dtypes, which annotations lack
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = "lrc"
html_copy_source = False
html_show_sphinx = False
