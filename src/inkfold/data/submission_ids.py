"""Finds out how a submission names the test drawings: by row number, file name, path, or a column of the test table.

A column of a sample names the drawings in some way if its cells are, in any order, exactly the names that this way gives. Where
two ways fit and would give the drawings other rows, nothing is chosen.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Int64

from inkfold.data.submission_sample import Sample
from inkfold.data.tables import quoted
from inkfold.data.types import Drawings
from inkfold.errors import Problem

ID_WORDS = {
    "name": "the file's name",
    "stem": "the file's name without its ending",
    "path": "the image path",
    "root_path": "the path from the data's root",
    "number": "the number in the file's name",
    "row": "the row number from 0",
    "row1": "the row number from 1",
}
ROWS = ("row", "row1")
NUMBERS = ("number", *ROWS)
MOST_SHOWN = 4  # headings that a message writes out
ANSWER_HEADINGS = {"label", "labels", "class", "target", "category", "prediction", "predicted", "word", "answer"}


@final
@dataclass(frozen=True)
class IdKind:
    """One way to name the test drawings.

    Attributes:
        setting: The value of `submission.id` that chooses it.
        names: The name of each test drawing, in the order of the test table or, without one, of the paths.
        is_column: Whether the names are a column of the test table.
    """

    setting: str
    names: tuple[str, ...]
    is_column: bool = False

    @property
    def words(self) -> str:
        """The way in words."""
        return f"column {self.setting!r} of the test table" if self.is_column else ID_WORDS[self.setting]

    @property
    def counts_rows(self) -> bool:
        """Whether the names are row numbers."""
        return self.setting in ROWS and not self.is_column

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The names in the form in which they are compared."""
        return tuple(map(self.key, self.names))

    def key(self, text: str) -> str:
        """Bring a name into the form in which names are compared."""
        text = unicodedata.normalize("NFC", text.strip())
        if self.is_column:
            return text
        if self.setting in NUMBERS:
            return str(int(text)) if re.fullmatch(r"[0-9]{1,18}", text) else text
        return re.sub(r"^(\./)+", "", text.replace("\\", "/"))


def id_kinds(test: Drawings, root: Path, columns: Mapping[str, Sequence[str]]) -> list[IdKind]:
    """List the ways to name the test drawings, the clearest first; ways that give two drawings one name are left out.

    Args:
        test: The drawings that the submission answers, in the table's order.
        root: The data's root, for paths from there.
        columns: Further columns of the test table, by name, in the drawings' order.
    """
    paths = [str(path).replace("\\", "/") for path in test.image_paths]
    names = [path.rpartition("/")[2] for path in paths]
    stems = [name.rpartition(".")[0] or name for name in names]
    numbers = [(re.findall(r"[0-9]{1,18}", stem) or [""])[-1] for stem in stems]
    prefix = f"{root.as_posix().rstrip('/')}/"
    from_root = [str(file).removeprefix(prefix) for file in test.files]
    made = {
        "name": names,
        "stem": stems,
        "path": paths,
        "root_path": from_root,
        "number": [str(int(number)) if number else "" for number in numbers],
        "row": [str(i) for i in range(len(paths))],
        "row1": [str(i + 1) for i in range(len(paths))],
    }
    kinds = [IdKind(name, tuple(map(str, cells)), is_column=True) for name, cells in columns.items()]
    kinds += [IdKind(name, tuple(cells)) for name, cells in made.items()]
    return [kind for kind in kinds if _is_unique(kind, paths)]


def _is_unique(kind: IdKind, paths: Sequence[str]) -> bool:
    """Whether no name is empty, and only rows of one drawing share a name."""
    owner: dict[str, str] = {}
    pairs = zip(kind.keys, paths, strict=True)
    return all(key and (kind.counts_rows or owner.setdefault(key, path) == path) for key, path in pairs)


@final
@dataclass(frozen=True)
class IdColumn:
    """A column of a sample that names the test drawings.

    Attributes:
        place: The column's place, from 0.
        kind: The way in which it names them.
        rows: For each row of the sample, the test drawing's place.
        candidates: Places of all columns that name the drawings by more than their row, and this one.
        row_numbers: Places of all columns that hold row numbers, which may also be other numbers.
    """

    place: int
    kind: IdKind
    rows: Int64[np.ndarray, " rows"]
    candidates: tuple[int, ...]
    row_numbers: tuple[int, ...] = ()


def find_ids(
    sample: Sample,
    places: Sequence[int],
    kinds: Sequence[IdKind],
    named: str | None,
    *,
    has_order: bool,
    problems: list[Problem],
) -> IdColumn | None:
    """Find the column of a sample that names the test drawings.

    Args:
        sample: The sample submission, as read.
        places: Places of the columns that may name them; the others hold probabilities.
        kinds: The ways to name the drawings.
        named: The setting `submission.id`; None tries all ways.
        has_order: Whether the drawings' order is a test table's; otherwise a row number says nothing by itself.
        problems: What isn't clear, and rows and drawings that lack each other, are appended.

    Returns:
        The column; None if there is none. Where the way isn't clear, it is the likeliest one, and a problem says so.
    """
    tried = [kind for kind in kinds if named in (None, kind.setting)]
    if not tried:
        problems.append(unknown_kind(named, kinds))
        return None
    fits = [
        _Fit(place, kind, rows)
        for kind in tried
        for place in places
        if (rows := _rows(kind, sample.columns[place])) is not None
    ]
    candidates = tuple(dict.fromkeys(fit.place for fit in fits if not fit.kind.counts_rows))
    row_numbers = tuple(dict.fromkeys(fit.place for fit in fits if fit.kind.counts_rows))
    fits = _likeliest(sample, fits, has_order=has_order)
    if not fits:
        problems += _differences(sample, places, tried)
        return None
    paths = next((kind.names for kind in kinds if kind.setting == "path" and not kind.is_column), kinds[0].names)
    first_row = {path: row for row, path in reversed([*enumerate(paths)])}  # a drawing that is there twice is one drawing
    canonical = np.array([first_row[path] for path in paths], np.int64)
    orders = {canonical[fit.rows].tobytes(): fit.kind for fit in reversed(fits)}
    if len(orders) > 1 or (fits[0].kind.counts_rows and not has_order and named is None):
        problems.append(_unclear(sample, [*orders.values()][::-1]))
    return IdColumn(fits[0].place, fits[0].kind, fits[0].rows, tuple(dict.fromkeys((fits[0].place, *candidates))), row_numbers)


@final
@dataclass(frozen=True, eq=False)
class _Fit:
    """A column that names all drawings in some way, and the drawing of each of its cells."""

    place: int
    kind: IdKind
    rows: Int64[np.ndarray, " rows"]


def _rows(kind: IdKind, cells: Sequence[str]) -> Int64[np.ndarray, " rows"] | None:
    """Find the drawing of each cell; None if the cells aren't exactly the drawings' names."""
    if len(cells) != len(kind.names):
        return None
    waiting: dict[str, list[int]] = {}
    for row in reversed(range(len(kind.keys))):
        waiting.setdefault(kind.keys[row], []).append(row)  # a drawing that is there twice has two rows, in their order
    rows = []
    for cell in cells:
        places = waiting.get(kind.key(cell))
        if not places:
            return None
        rows.append(places.pop())
    return np.array(rows, np.int64)


def _likeliest(sample: Sample, fits: Sequence[_Fit], *, has_order: bool) -> list[_Fit]:
    """Leave out the fits that others make unlikely: a name is worth more than a number that could be any row's."""
    if same := [fit for fit in fits if fit.kind.is_column and fit.kind.setting == sample.headings[fit.place]]:
        return same
    named = {fit.place for fit in fits if not fit.kind.counts_rows}
    if named:
        contested = named if has_order and len(named) == 1 else set[int]()
        return [fit for fit in fits if not fit.kind.counts_rows or fit.place in contested]
    others = [fit for fit in fits if sample.headings[fit.place].casefold() not in ANSWER_HEADINGS] or fits
    return [fit for fit in others if fit.place == min(other.place for other in others)]


def _differences(sample: Sample, places: Sequence[int], kinds: Sequence[IdKind]) -> list[Problem]:
    """Report which rows have no drawing and which drawings no row, for the column and the way that fit best."""
    best: tuple[float, int, IdKind] | None = None
    for kind in kinds:
        keys = {*kind.keys}
        for place in places:
            wanted = {kind.key(cell) for cell in sample.columns[place]}
            share = len(keys & wanted) / max(len(keys), len(wanted)) - (1 if kind.counts_rows else 0)
            if keys & wanted and (best is None or share > best[0]):
                best = share, place, kind
    if best is None:
        got = quoted([sample.columns[place][0] for place in places], 4)
        expected = quoted([*dict.fromkeys(kind.names[0] for kind in kinds)], 8)
        text = (
            f"no column names the test drawings: its first row has {got}, the first drawing could be called {expected}. Take "
            "the sample that belongs to these drawings, or leave it out: `submission.sample=none`."
        )
        return [Problem("sample_ids", sample.name, text)]
    _, place, kind = best
    return _row_problems(sample, place, kind)


def _row_problems(sample: Sample, place: int, kind: IdKind) -> list[Problem]:
    heading, problems = sample.headings[place], list[Problem]()
    cells = {kind.key(cell): cell for cell in sample.columns[place]}
    names = {kind.key(name): name for name in kind.names}
    absent = [name for key, name in names.items() if key not in cells]
    unknown = [cell for key, cell in cells.items() if key not in names]
    header = f"submission.columns={','.join(sample.headings)} " if len(sample.headings) <= MOST_SHOWN else ""
    remedy = f"or leave the sample out and set the form: `submission.sample=none {header}submission.id={kind.setting}`"
    column = f"column {heading!r}, read as {kind.words},"
    if absent:
        text = f"{column} has no row for {len(absent)} of the test drawings: {quoted(absent, 5)}. Add them, {remedy}."
        problems.append(Problem("test_rows_differ", sample.name, text))
    if unknown:
        text = f"{column} has {len(unknown)} row(s) without a test drawing: {quoted(unknown, 5)}. Remove them, {remedy}."
        problems.append(Problem("test_rows_differ", sample.name, text))
    counts, expected = Counter(map(kind.key, sample.columns[place])), Counter(kind.keys)
    twice = [cells[key] for key, count in counts.items() if key in expected and count > expected[key]]
    if twice:
        text = f"{column} names {len(twice)} drawing(s) more often than the test part: {quoted(twice, 5)}. Remove the others."
        problems.append(Problem("test_rows_differ", sample.name, text))
    elif not problems:
        text = f"{column} has {sample.rows} rows for {len(kind.names)} test drawings. Repeat each as often as the test table."
        problems.append(Problem("test_rows_differ", sample.name, text))
    return problems


def _unclear(sample: Sample, kinds: Sequence[IdKind]) -> Problem:
    ways = "; ".join(f"`submission.id={kind.setting}` ({kind.words})" for kind in kinds)
    fact = "its ids are row numbers, and a folder has no order but that of its names"
    if len(kinds) > 1:
        fact = "its ids fit the test drawings in several ways, each of which would give them other rows"
    return Problem("unclear_ids", sample.name, f"{fact}. Say which is meant: {ways}.")


def unknown_kind(named: str | None, kinds: Sequence[IdKind]) -> Problem:
    """Report a `submission.id` that can't name the drawings, with those that can."""
    known = ", ".join(kind.setting for kind in kinds)
    reason = "gives several test drawings one name, or a drawing none"
    if named not in ID_WORDS:
        reason = "is no way to name drawings, nor a column of the test table that names each"
    return Problem("unknown_id", f"submission.id={named}", f"{reason}. These name the test drawings: {known}.")
