"""How values show themselves in notebooks: which function makes HTML or a figure of each, loaded by its name when it is used.

Values live in low packages, and what draws them in `report`, which stands above them. So a value asks by its name, and nothing
below imports `report`.
"""

from importlib import import_module
from typing import Any

DISPLAYS = {
    "dataset": "inkfold.report.notebook:dataset_html",
    "run": "inkfold.report.notebook:run_html",
    "answers": "inkfold.report.notebook:answers_html",
    "mistakes": "inkfold.report.figures:mistakes_figure",
    "confusion": "inkfold.report.figures:confusion_figure",
    "map": "inkfold.report.figures:map_figure",
}


def show(what: str, *values: Any, **options: Any) -> Any:
    """Call the function that shows a value.

    Args:
        what: Its name in `DISPLAYS`.
        values: The value and what belongs to it.
        options: Keywords of that function.

    Returns:
        What it returns: HTML as text, or a figure.
    """
    module, _, function = DISPLAYS[what].partition(":")
    return getattr(import_module(module), function)(*values, **options)


def fit_line(text: str, most: int = 120) -> str:
    """Shorten a text to one line of at most `most` characters for a `repr`, leaving out its middle."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - most // 3 - 1]}…{line[-(most // 3) :]}"
