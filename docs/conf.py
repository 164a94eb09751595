"""Build the pages: `make docs`, where each warning is an error."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generate
from vtrain import __version__

project = "playspeed"
author = "The playspeed developers"
copyright = "the playspeed developers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "mathml", "docstrings"]
exclude_patterns = ["_build", "_generated"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"playspeed {version}"
html_copy_source = False
default_role = "code"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
python_maximum_signature_line_length = 100
# Types in signatures are names to read: those of other projects have pages elsewhere, which no build here may fetch,
# and of our own only what api.md lists has an entry.
nitpick_ignore_regex = [("py:.*", ".*")]

generate.write_all(Path(__file__).parent / "_generated")
