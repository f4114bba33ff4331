"""What the manual (`make docs`) needs of the pages, without building it."""

import hashlib
import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
INDEX = (DOCS / "index.md").read_text(encoding="utf-8")


def test_every_diagram_has_a_picture_of_its_present_text():
    for page in DOCS.glob("*.md"):
        for text in re.findall(r"^```mermaid\n(.*?)^```\n", page.read_text(encoding="utf-8"), re.M | re.S):
            name = f"diagram-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}.svg"
            assert (DOCS / "pictures" / name).is_file(), f"{page.name}: run python docs/pictures/diagrams.py MERMAID.JS"


def test_every_page_is_in_the_manuals_contents():
    listed = set(re.findall(r"^([\w-]+)(?:\.md)?$", INDEX, re.M)) | set(re.findall(r"<([\w-]+)(?:\.md)?>$", INDEX, re.M))
    for page in DOCS.glob("*.md"):
        assert page.stem == "index" or page.stem in listed, page.name
