"""Sphinx configuration. Build with ``sphinx-build -W docs build/docs``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import nbdl

project = "nbdl"
author = copyright = "the nbdl authors"
version = release = nbdl.__version__

extensions = [
    "api_pages",  # beside this file: writes api/*.rst
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
if not tags.has("check"):  # noqa: F821  (Sphinx defines it)
    extensions.append("sphinx.ext.viewcode")  # pages of all sources: most of the time, and nothing to check
exclude_patterns = ["build"]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False
nitpicky = False
intersphinx_mapping: dict[str, tuple[str, None]] = {}

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_title = f"nbdl {version}"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5394", "color-brand-content": "#0b5394"},
    "dark_css_variables": {"color-brand-primary": "#7fb4e8", "color-brand-content": "#7fb4e8"},
}
