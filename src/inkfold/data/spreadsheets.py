"""Cells of CSV files that people open in spreadsheets: a name that a spreadsheet would compute is written as text.

A cell that starts with `=`, `+`, `-`, `@`, a tab or a line end gets an apostrophe before it, which for spreadsheets means text.
One that has apostrophes before such a start gets one more: then taking one off gives every cell back as it was. A picture
file's plain name, such as `-dash.png`, stays as it is: without brackets, links and calls there is nothing to be run.

Source: OWASP, "CSV Injection", https://owasp.org/www-community/attacks/CSV_Injection.
"""

import re

PREDICTION_COLUMNS = ("image_path", "class_name", "target", "probability", "blank")  # by which a table of `predict` is known
NAME_COLUMNS = ("image_path", "class_name")  # whose cells strangers may have written
FORMULA = re.compile(r"('*)[=+\-@\t\r\n]")
PLAIN_FILE_NAME = re.compile(r"[=+\-@][\w .+\-]*\.(png|jpe?g|gif|bmp|tiff?|webp|avif|hei[cf])", re.IGNORECASE)


def as_text(cell: str, *, raw: bool = False) -> str:
    """Write a cell so that no spreadsheet computes it.

    Args:
        cell: Any text.
        raw: Whether only cells are changed that `from_text` would change; all others then stand as they are.

    Returns:
        The cell, with an apostrophe before it where it needs one.
    """
    start = FORMULA.match(cell)
    if start is None or (raw and not start[1]) or PLAIN_FILE_NAME.fullmatch(cell):
        return cell
    return f"'{cell}"


def from_text(cell: str) -> str:
    """Return what `as_text` was given."""
    start = FORMULA.match(cell)
    return cell[1:] if start is not None and start[1] else cell
