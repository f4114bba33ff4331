"""A user's decisions on labels: a table that `inkfold audit RUN --fix` writes and the setting `data.corrections` applies.

A row is a training drawing. Its cell `decision` is empty or `keep` (nothing changes), `drop` (it is not trained on), `relabel`
(it gets the class in the cell `suggested`), or the name of a class (it gets that one). Only what a person has decided is
applied. Tables come back from spreadsheets: separated by semicolons or tabs, with a byte order mark, in capital letters.
"""

import csv
import difflib
import io
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from inkfold.data.labels import clean_name
from inkfold.data.spreadsheets import as_text, from_text
from inkfold.data.tables import quoted
from inkfold.data.types import Corrected, Drawings, Parts
from inkfold.errors import DataError, Problem
from inkfold.storage.hashing import digest, digest_file
from inkfold.storage.outputs import write_output

COLUMNS = ("image_path", "class_name", "suggested", "doubt", "proposal", "reason", "decision", "note", "digest")
NEEDED = ("image_path", "decision")
DIGEST_MARK = "b2:"  # a spreadsheet takes some digests for numbers
LARGEST_BYTES = 1 << 26
INSTRUCTIONS = (
    "fill the column decision: keep or empty changes nothing, drop leaves the drawing out, relabel takes the suggested class, "
    "and the name of a class takes that one"
)

WORDS = ("keep", "drop", "relabel")

Row = dict[str, str]
Action = Literal["keep", "drop", "relabel"]


@dataclass(frozen=True, slots=True)
class CorrectionTable:
    """A table of decisions as it was read.

    Attributes:
        rows: Cells by column, in the table's order; rows without any text are left out.
        numbers: Number of each row in the file, from 1, the header not counted.
        columns: Headings, the user's own among them.
        separator: Character between cells.
        content: The file's bytes as they were read, of which the digest is taken and a run keeps a copy.
    """

    rows: list[Row]
    numbers: list[int]
    columns: tuple[str, ...]
    separator: str
    content: bytes


@dataclass(frozen=True, slots=True)
class _Decision:
    """What a row asks for: the row of the drawing in the data, the action, and the class id for `relabel`."""

    drawing: int
    action: Action
    target: int = 0


def read_corrections(path: Path) -> CorrectionTable:
    """Read a table of decisions, as a spreadsheet may have saved it.

    Args:
        path: A CSV file, separated by commas, semicolons or tabs; UTF-8, UTF-16 with a byte order mark, or Windows-1252.

    Returns:
        The table; its decisions are not checked yet.

    Raises:
        DataError: If it can't be read, or isn't a table of decisions.
    """
    content = _read_bytes(path)
    text = _decoded(content)
    header = text.lstrip("\r\n").splitlines()[0] if text.strip() else ""
    separator = max(",;\t", key=header.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise DataError([Problem("broken_csv", path.name, f"not a readable CSV: {error}. Save it as CSV again.")]) from None
    lines = [line for line in lines if line]
    columns = tuple(_heading(cell) for cell in lines[0]) if lines else ()
    missing = [name for name in NEEDED if columns.count(name) != 1]
    if missing:
        got = f"the columns {quoted(columns)}" if columns else "an empty file"
        text = (
            f"got {got}, expected one {' and one '.join(map(repr, missing))}. "
            "`inkfold audit RUN --fix FILE.csv` writes such a table."
        )
        raise DataError([Problem("no_corrections", path.name, text)])
    numbered = [(number, line) for number, line in enumerate(lines[1:], start=1) if any(cell.strip() for cell in line)]
    ragged = [
        Problem("ragged_row", f"{path.name} row {number}", f"got {len(line)} cells, expected {len(columns)}. Correct the row.")
        for number, line in numbered
        if any(cell.strip() for cell in line[len(columns) :])
    ]
    if ragged:
        raise DataError(ragged)
    rows = [dict(zip(columns, map(from_text, [*line, *[""] * len(columns)]), strict=False)) for _, line in numbered]
    return CorrectionTable(rows, [number for number, _ in numbered], columns, separator, content)


def apply_corrections(path: Path, parts: Parts, problems: list[Problem]) -> tuple[Parts, Corrected | None]:
    """Drop and relabel training drawings as a table of decisions says.

    Args:
        path: CSV file of decisions, one row per drawing, with what the user decided on it.
        parts: The data as their own tables or folders have them.
        problems: What is wrong with the table is appended, all of it; then nothing is applied. Decisions on drawings that have
            changed since are appended as warnings, and are not applied.

    Returns:
        The corrected parts, and what was done; None where the table can't be applied.
    """
    try:
        table = read_corrections(path)
    except DataError as error:
        problems += error.problems
        return parts, None
    found: list[Problem] = []
    decisions = _decide(path.name, table, parts, found)
    problems += found
    if any(problem.severity == "error" for problem in found):
        return parts, None
    train = parts.train
    assert train.targets is not None
    targets, kept = train.targets.copy(), np.ones(len(train), bool)
    for decision in decisions:
        if decision.action == "drop":
            kept[decision.drawing] = False
        elif decision.action == "relabel":
            targets[decision.drawing] = decision.target
    done = Corrected(
        file=str(path),
        digest=digest(table.content),
        dropped=int((~kept).sum()),
        relabelled=int((targets != train.targets).sum()),
        kept=sum(decision.action == "keep" for decision in decisions),
        settled=frozenset(str(train.image_paths[decision.drawing]) for decision in decisions),
        content=table.content,
    )
    return replace(parts, train=replace(train, targets=targets).select(kept)), done


def merge_corrections(
    path: Path, proposals: Sequence[Mapping[str, str]], earlier: CorrectionTable | None = None, *, raw: bool = False
) -> dict[str, int]:
    """Write a table of decisions to fill in. What has been decided in the file, or noted, stays as it is.

    Args:
        path: The CSV file; one that exists must be a table of decisions, and keeps its separator and the user's own columns.
        proposals: Cells of `COLUMNS` for each drawing to look at, without `decision` and `note`.
        earlier: Decisions that the run was trained with; what the file doesn't decide itself is taken from them.
        raw: Whether cells that a spreadsheet would compute are written as they are.

    Returns:
        `decided`: rows that keep a decision; `open`: rows to decide on; `new`: those of them that the file didn't have.

    Raises:
        DataError: If the file exists and isn't a table of decisions.
    """
    table = read_corrections(path) if path.exists() else earlier
    old = _together([] if table is None else table.rows, [] if earlier is None else earlier.rows)
    extra = () if table is None else tuple(name for name in table.columns if name and name not in COLUMNS)
    fresh = {str(proposal["image_path"]): proposal for proposal in proposals}
    rows: list[Mapping[str, str]] = []
    known = set()
    for row in old:
        name = row["image_path"]
        known.add(name)
        if row["decision"].strip():
            rows.append(row)
        elif name in fresh or row.get("note", "").strip():
            rows.append({**row, **fresh.get(name, {})})
    decided = sum(bool(row["decision"].strip()) for row in rows)
    added = [proposal for name, proposal in fresh.items() if name not in known]
    text = io.StringIO()
    writer = csv.writer(text, delimiter="," if table is None else table.separator, lineterminator="\r\n")
    writer.writerow([*COLUMNS, *(as_text(name, raw=raw) for name in extra)])
    writer.writerows([as_text(row.get(name, ""), raw=raw) for name in (*COLUMNS, *extra)] for row in [*rows, *added])
    write_output(path, text.getvalue().encode("utf-8-sig"))
    return {"decided": decided, "open": len(rows) + len(added) - decided, "new": len(added)}


def _together(rows: Sequence[Row], earlier: Sequence[Row]) -> list[Row]:
    """Add earlier decisions to a table's rows, where the table itself decides nothing on the drawing."""
    decided = {row["image_path"] for row in rows if row["decision"].strip()}
    added = {row["image_path"]: row for row in earlier if row["decision"].strip() and row["image_path"] not in decided}
    merged = [added.pop(row["image_path"], row) for row in rows]
    return [*merged, *added.values()]


def _decide(name: str, table: CorrectionTable, parts: Parts, problems: list[Problem]) -> list[_Decision]:
    """Turn rows into decisions on drawings; report everything that is wrong."""
    train, tests = parts.train, set() if parts.test is None else {*parts.test.image_paths.tolist()}
    places = {path: place for place, path in enumerate(train.image_paths.tolist())}
    classes = _ClassNames(parts.classes.names)
    first: dict[int, int] = {}
    decisions = []
    for index, (number, row) in enumerate(zip(table.numbers, table.rows, strict=True)):
        where, word = f"{name} row {number}", row["decision"].strip()
        place = _find_path(row["image_path"], places)
        if place is None:
            if word and word.casefold() != "keep":
                problems.append(_unknown_path(where, row["image_path"], tests))
            continue
        if place in first:
            other = first[place]
            if table.rows[other]["decision"].strip().casefold() != word.casefold():
                text = f"{row['image_path']!r} is in row {table.numbers[other]} with another decision, expected one."
                problems.append(Problem("path_twice", where, f"{text} Remove a row."))
            continue
        first[place] = index
        decision = _decision(where, row, place, train, classes, problems)
        if decision is not None:
            decisions.append(decision)
    return decisions


def _decision(
    where: str, row: Row, place: int, train: Drawings, classes: "_ClassNames", problems: list[Problem]
) -> _Decision | None:
    """Read a row's decision; None for an open one, a faulty one, or one on a drawing that has changed since."""
    word = row["decision"].strip()
    action = word.casefold()
    if not word:
        return None
    target = None
    if action not in ("keep", "drop"):
        wanted = row.get("suggested", "").strip() if action == "relabel" else word
        target = classes.find(wanted)
        if target is None:
            problems.append(classes.unknown(where, wanted, relabel=action == "relabel"))
            return None
    assert train.targets is not None
    current = classes.names[int(train.targets[place])]
    own, kept_as = row.get("class_name", "").strip(), row.get("digest", "").strip().removeprefix(DIGEST_MARK)
    if own and classes.find(own) not in (None, int(train.targets[place])):
        text = f"the decision was made when the label was {own!r}, and the data now have {current!r}, so it is not applied."
        problems.append(Problem("stale_correction", where, f"{text} Decide again, or empty the cell class_name.", "warning"))
        return None
    if kept_as and train.files[place] and _digest_of(str(train.files[place])) != kept_as:
        text = "the drawing's file has changed since the decision, so it is not applied."
        problems.append(Problem("stale_correction", where, f"{text} Decide again, or empty the cell digest.", "warning"))
        return None
    if target is None:
        return _Decision(place, "drop" if action == "drop" else "keep")
    return _Decision(place, "relabel", target)


class _ClassNames:
    """Finds class names as a spreadsheet may have written them: in other letter case, or without leading zeros."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._exact = {name: number for number, name in enumerate(names)}
        self._loose: dict[str, list[int]] = {}
        for number, name in enumerate(names):
            self._loose.setdefault(_loosely(name), []).append(number)

    def find(self, text: str) -> int | None:
        """Return the id of the class of this name; None where there is none, or several are meant."""
        name = clean_name(text)
        if name in self._exact:
            return self._exact[name]
        alike = self._loose.get(_loosely(name), [])
        return alike[0] if len(alike) == 1 else None

    def unknown(self, where: str, text: str, *, relabel: bool) -> Problem:
        """Report a decision that names no class."""
        if relabel and not text:
            message = "the decision is relabel, and the cell suggested is empty. Write the class's name as the decision."
            return Problem("unknown_decision", where, message)
        near = difflib.get_close_matches(text.casefold(), [*WORDS, *self.names], 3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        expected = f"keep, drop, relabel or the name of one of the {len(self.names)} classes"
        message = f"got the decision {text!r}, expected {expected}.{hint}"
        return Problem("unknown_decision", where, message)


def _find_path(cell: str, places: Mapping[str, int]) -> int | None:
    """Find a drawing by its path: to the letter, else without spaces around it, with slashes, or composed accents."""
    tries = (cell, cell.strip(), cell.strip().replace("\\", "/"), unicodedata.normalize("NFC", cell.strip()))
    return next((places[text] for text in (*tries, unicodedata.normalize("NFD", cell.strip())) if text in places), None)


def _unknown_path(where: str, path: str, tests: set[str]) -> Problem:
    if path in tests:
        text = f"{path!r} is a test drawing, expected a training drawing. Remove the row, or empty its decision."
    else:
        text = f"no training drawing has the path {path!r}. Correct it, or remove the row."
    return Problem("unknown_path", where, text)


def _loosely(name: str) -> str:
    text = name.casefold()
    whole = text.removesuffix(".0")
    return str(int(whole)) if whole.isascii() and whole.isdigit() and len(whole) < 19 else text


def _heading(cell: str) -> str:
    cell = from_text(cell)
    text = cell.strip().lower()
    return text.replace(" ", "_") if text.replace(" ", "_") in COLUMNS else cell.strip()


def _digest_of(file: str) -> str | None:
    try:
        return digest_file(Path(file))
    except OSError:
        return None  # reading the data reports it


def _read_bytes(path: Path) -> bytes:
    if path.suffix.lower() in (".xlsx", ".xls", ".ods", ".numbers"):
        text = f"got a {path.suffix} file, expected a CSV. Save the table as CSV, from the spreadsheet's menu."
        raise DataError([Problem("unknown_table_format", path.name, text)])
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise DataError(
                [Problem("large_table", path.name, f"is larger than {LARGEST_BYTES >> 20} MiB. Is it the right file?")]
            )
        return path.read_bytes()
    except FileNotFoundError:
        text = "no such file, expected a table of decisions. Correct its path, or write one: inkfold audit RUN --fix FILE.csv."
        raise DataError([Problem("missing_table", str(path), text)]) from None
    except OSError as error:
        raise DataError([Problem("unreadable_table", str(path), f"can't be read: {error.strerror}.")]) from None


def _decoded(content: bytes) -> str:
    """Decode what spreadsheets write; a path or class that Windows-1252 garbles is reported as unknown, not applied."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def as_cells(**values: Any) -> Row:
    """Write a proposal's values as cells; None becomes an empty one."""
    return {name: "" if value is None else str(value) for name, value in values.items()}


def corrections_in_words(counts: Mapping[str, Any]) -> str:
    """Write what a table of decisions changed: `3 dropped, 12 relabelled, 5 kept`.

    Args:
        counts: Numbers of drawings, as `Corrected.as_json` gives them.
    """
    return ", ".join(f"{counts[name]} {name}" for name in ("dropped", "relabelled", "kept"))
