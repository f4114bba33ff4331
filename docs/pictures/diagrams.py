"""Draws the diagrams of docs/*.md, which are Mermaid, as SVG files beside this one, so that the manual needs no foreign server.

python docs/pictures/diagrams.py MERMAID.JS: `npm pack mermaid@11` brings it, as dist/mermaid.min.js; Chromium draws.
"""

import re
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent.parent
sys.path.insert(0, str(DOCS))
MERMAID = re.compile(r"^```mermaid\n(.*?)^```\n", re.M | re.S)
OPTIONS = "{startOnLoad: false, htmlLabels: false, flowchart: {htmlLabels: false}, deterministicIds: true}"


def main(script: Path) -> None:
    """Draw all diagrams, and remove pictures of those that are gone."""
    from conf import diagram_name  # type: ignore[import-not-found]

    pages = (page.read_text("utf-8") for page in sorted(DOCS.glob("*.md")))
    sources = {diagram_name(text): text for page in pages for text in MERMAID.findall(page)}
    for old in Path(__file__).parent.glob("diagram-*.svg"):
        if old.name not in sources:
            old.unlink()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content("<body></body>")
        page.add_script_tag(path=script)
        page.evaluate(f"mermaid.initialize({OPTIONS})")
        for name, text in sources.items():
            drawn = page.evaluate("async text => (await mermaid.render('diagram', text)).svg", text)
            (Path(__file__).parent / name).write_text(f"{drawn}\n", encoding="utf-8")
            print(name)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
