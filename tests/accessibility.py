"""What axe-core finds on a page: the rules of WCAG and good practice that a program can check."""

from importlib.resources import files

import pytest


def violations(page):
    """The violated rules, each with the elements; axe runs with the tests only and is no part of the page."""
    pytest.importorskip("axe_playwright_python", reason="pages are checked with axe: pip install axe-playwright-python")
    if not page.evaluate("'axe' in window"):
        page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]
