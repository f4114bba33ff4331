"""Finds a contest's sample submission and reads it: its cells as text, and how its CSV is written.

Contests call it sample_submission.csv, SampleSubmission.csv, submission_format.csv and the like. It may have a byte order mark,
semicolons or tabs, Windows' line ends and quotation marks, and the submission then has them too.
"""

import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from inkfold.data.submission_form import CsvStyle
from inkfold.data.tables import quoted
from inkfold.errors import DataError, Problem

USUAL_NAME = "sample_submission.csv"
SAMPLE_NAME = re.compile(
    r"(sample[_ -]?sub(mission)?s?([_ -].*|[0-9]+)?|sub(mission)?[_ -]?(format|sample|example|template)([_ -].*)?|"
    r"example[_ -]?submission([_ -].*)?)\.(csv|tsv)",
    re.IGNORECASE,
)
PACKED = re.compile(r"(.*)\.(zip|gz|bz2|xz|7z)", re.IGNORECASE)
DELIMITERS = ",;\t|"
NONE = "none"
LARGEST_BYTES = 1 << 30
PROBE_LINES = 50
MANY = 20


@final
@dataclass(frozen=True)
class Sample:
    """A sample submission as it stands in its file.

    Attributes:
        name: The file's name, for messages.
        headings: The columns' headings, without outer blanks; two may be equal.
        columns: The cells of each column, without outer blanks; of many columns that are called after classes, the first cells.
        style: How the file is written.
        rows: Number of rows below the heading.
    """

    name: str
    headings: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    style: CsvStyle
    rows: int = 1


def find_sample(folders: Sequence[Path], named: str | None, problems: list[Problem]) -> Path | None:
    """Find the sample submission.

    Args:
        folders: Where it may be: the data's root first, then the tables' folders.
        named: The setting `submission.sample`: a path relative to the root, `none`, or None to look for a usual name.
        problems: A named file that isn't there, several that may be it, and a packed one are appended.

    Returns:
        Its path; None if there is none, or which one isn't clear.
    """
    if named is not None:
        if named.lower() == NONE:
            return None
        path = folders[0] / named
        if not path.is_file():
            text = f"no such file below {folders[0]}. Correct `submission.sample`, or leave it out."
            problems.append(Problem("missing_sample", named, text))
        return path if path.is_file() else None
    listings = [sorted(folder.iterdir()) for folder in dict.fromkeys(folders) if folder.is_dir()]
    files = list(dict.fromkeys(path for listing in listings for path in listing))
    samples = [path for path in files if SAMPLE_NAME.fullmatch(path.name) and path.is_file()]
    packed = [path for path in files if (name := PACKED.fullmatch(path.name)) and SAMPLE_NAME.fullmatch(name[1])]
    usual = [path for path in samples if path.name.lower() == USUAL_NAME]
    if packed and not samples:
        text = "is packed, so the submission's form isn't read from it. Unpack it beside the data."
        problems.append(Problem("packed_sample", packed[0].name, text, "warning"))
    if len(samples) > 1 and len(usual) != 1:
        text = (
            f"{quoted([path.name for path in samples])} may each be the sample submission. Name one: `submission.sample=NAME`."
        )
        problems.append(Problem("several_samples", folders[0].name, text))
        return None
    return next(iter([*usual, *samples]), None)


def read_sample_file(path: Path, class_texts: Collection[str] = ()) -> Sample:
    """Read a sample submission.

    Args:
        path: Absolute path of the sample submission.
        class_texts: What may stand for a class. Where more than 20 headings are among them, only the first cells of their
            columns are kept, since a row may have hundreds of them.

    Raises:
        DataError: If it is no CSV file in UTF-8 or UTF-16, has no rows, or rows of other lengths than the header.
    """
    text, encoding = _decoded(path)
    newline = next((end for end in ("\r\n", "\n", "\r") if end in text), "\n")
    lines = text.split(newline)
    if not text.strip():
        raise DataError([Problem("empty_table", path.name, "is empty, expected a header line. Write the table anew.")])
    header_line = lines[0]
    delimiter = _delimiter(header_line, path)
    headings, columns, rows = _cells(path, io.StringIO(text, newline=""), delimiter, class_texts)
    marks = _quoted_columns(lines[1:PROBE_LINES], delimiter, len(headings))
    is_one_line = header_line.count('"') % 2 == 0 and not {*header_line} & {*"\r\n"}  # a heading may hold a line break
    style = CsvStyle(delimiter, newline, encoding, header_line if is_one_line else None, marks)
    return Sample(path.name, headings, columns, style, rows)


def _cells(
    path: Path, text: io.StringIO, delimiter: str, class_texts: Collection[str]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], int]:
    """The headings, the cells by column, and the number of rows."""
    count, ragged = 0, list[Problem]()
    try:
        reader = filter(None, csv.reader(text, delimiter=delimiter, strict=True, skipinitialspace=True))
        headings = tuple(cell.strip() for cell in next(reader))
        by_class = [place for place, heading in enumerate(headings) if heading in class_texts]
        skipped = {*by_class} if len(by_class) > MANY else set[int]()
        kept = [place for place in range(len(headings)) if place not in skipped]
        columns: list[list[str]] = [[] for _ in headings]
        for row in reader:
            count += 1
            if len(row) != len(headings):
                ragged.append(_ragged(path.name, count, len(row), len(headings)))
                continue
            for place in kept if count > 1 else range(len(headings)):
                columns[place].append(row[place].strip())
    except (csv.Error, ValueError) as error:
        reason = f"not a readable CSV ({error}). Look for a quotation mark that isn't closed."
        raise DataError([Problem("broken_csv", path.name, reason)]) from None
    if ragged or not count:
        reason = "has no rows, expected one for each test drawing. Take the contest's own file, or set the form: "
        settings = f"submission.sample=none submission.columns={','.join(headings[: MANY // 2])}"
        raise DataError(ragged or [Problem("empty_table", path.name, f"{reason}`{settings}`.")])
    return headings, tuple(map(tuple, columns)), count


def _ragged(name: str, row: int, got: int, expected: int) -> Problem:
    return Problem("ragged_row", f"{name} row {row}", f"got {got} cells, expected {expected}. Take the contest's own file.")


def _decoded(path: Path) -> tuple[str, str]:
    """The file's text without its byte order mark, and the encoding's name."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise DataError([Problem("large_sample", path.name, "is larger than 1 GiB, expected a sample submission.")])
        data = path.read_bytes()
    except OSError as error:
        text = f"can't be opened ({error.strerror}). Make it a readable file."
        raise DataError([Problem("unreadable_table", path.name, text)]) from None
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig" if data[:3] == b"\xef\xbb\xbf" else "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        reason = f"byte {data[error.start]:#04x} isn't UTF-8. Save the table as UTF-8."
        raise DataError([Problem("not_utf8", path.name, reason)]) from None
    if "\0" in text:
        raise DataError([Problem("nul_byte", path.name, "holds a NUL byte, expected text. Take the contest's own file.")])
    return text, encoding


def _delimiter(header_line: str, path: Path) -> str:
    """The delimiter that the header has most of, outside quotation marks."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    bare = re.sub(r'"(?:[^"]|"")*"', "", header_line)
    return max(DELIMITERS, key=bare.count)


def _quoted_columns(lines: Sequence[str], delimiter: str, width: int) -> tuple[bool, ...]:
    """Which columns have all their cells in quotation marks, as far as the first lines show."""
    cell = re.compile(rf'("(?:[^"]|"")*"|[^{re.escape(delimiter)}]*)(?:{re.escape(delimiter)}|$)')
    rows = [
        [match[1].startswith('"') for match in cell.finditer(line.rstrip("\r\n"))][:width] for line in lines if line.strip()
    ]
    whole = [row for row in rows if len(row) == width]
    return tuple(all(column) for column in zip(*whole, strict=True)) if whole else (False,) * width
