"""How Sphinx makes the documentation site: `make docs`.

Nothing is fetched while it is made, and nothing while it is read; it works from the file system as well.
"""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "benchmarks")]

project = "quantexp"
author = "The quantexp authors"
release = version = installed_version("quantexp")
html_title = f"quantexp {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "making"]
exclude_patterns = ["making"]
highlight_language = "text"  # of indented blocks: what is typed, and what is printed
nitpicky = False

myst_heading_anchors = 4
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["quantexp.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False
