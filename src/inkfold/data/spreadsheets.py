"""Cells of CSV files that people open in spreadsheets: a name that a spreadsheet would compute is written as text.

A cell that starts with `=`, `+`, `-`, `@`, a tab or a line end gets an apostrophe before it, which for spreadsheets means text.
One that has apostrophes before such a start gets one more: then taking one off gives every cell back as it was.

Source: OWASP, "CSV Injection", https://owasp.org/www-community/attacks/CSV_Injection.
"""

import re

PREDICTION_COLUMNS = ("image_path", "class_name", "target", "probability", "blank")  # by which a table of `predict` is known
NAME_COLUMNS = ("image_path", "class_name")  # whose cells strangers may have written
FORMULA = re.compile(r"('*)[=+\-@\t\r\n]")


def as_text(cell: str, *, raw: bool = False) -> str:
    """Write a cell so that no spreadsheet computes it.

    Args:
        cell: Any text.
        raw: Whether only cells are changed that `from_text` would change; all others then stand as they are.

    Returns:
        The cell, with an apostrophe before it where it needs one.
    """
    start = FORMULA.match(cell)
    return f"'{cell}" if start is not None and (start[1] or not raw) else cell


def from_text(cell: str) -> str:
    """Return what `as_text` was given."""
    start = FORMULA.match(cell)
    return cell[1:] if start is not None and start[1] else cell
