"""The manual's settings for Sphinx; `make docs` builds it. `reference.py` writes the pages of reference anew at each build."""

import hashlib
import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

import reference  # noqa: E402 - beside this file

project = "inkfold"
author = "the authors of inkfold"
release = version = version_of("inkfold")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "pictures", "proxies", "Thumbs.db", ".DS_Store"]
root_doc = "index"
default_role = "code"

html_theme = "furo"
html_title = "inkfold"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_theme_options = {
    "source_repository": "https://github.com/inkfold/inkfold/",
    "source_branch": "main",
    "source_directory": "docs/",
}
html_copy_source = False
html_show_sourcelink = False

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
nb_execution_mode = "cache"
nb_execution_timeout = 240
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True
nb_execution_cache_path = str(DOCS / "_build" / "jupyter-cache")
suppress_warnings = ["misc.highlighting_failure"]

autodoc_typehints = "none"
autodoc_member_order = "bysource"
linkcheck_timeout = 10

REPOSITORY = "https://github.com/inkfold/inkfold/blob/main/"
MERMAID = re.compile(r"^```mermaid\n(.*?)^```\n", re.M | re.S)
OUTSIDE = re.compile(r"\]\(\.\./(?=[^)]+\))")


def diagram_name(source: str) -> str:
    """Return the name of a diagram's picture, which its source decides; `docs/pictures/diagrams.py` draws it."""
    return f"diagram-{hashlib.blake2b(source.encode(), digest_size=6).hexdigest()}.svg"


def _as_the_site_has_it(app: object, page: str, source: list[str]) -> None:
    """Turn what only GitHub shows into what a site shows: diagrams into pictures, and links to code into addresses."""

    def picture(match: re.Match[str]) -> str:
        name = diagram_name(match[1])
        if not (DOCS / "pictures" / name).is_file():
            raise FileNotFoundError(f"{page}: pictures/{name} is missing. Run python docs/pictures/diagrams.py.")
        return f"![diagram](pictures/{name})\n"

    text = MERMAID.sub(picture, source[0])
    source[0] = OUTSIDE.sub(f"]({REPOSITORY}", text)


def setup(app: object) -> None:
    """Register what is done at each build."""
    reference.write(DOCS / "reference")
    app.connect("source-read", _as_the_site_has_it)  # type: ignore[attr-defined]
