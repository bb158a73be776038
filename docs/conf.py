"""Sphinx configuration: Markdown pages, and the API pages of the three packages."""

project = "Systolith"
author = "the Systolith developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "Systolith"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
exclude_patterns = ["_build"]
suppress_warnings = ["ref.python"]
