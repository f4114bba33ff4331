"""Reads each layout that people store drawings in (a competition's tables, any table, class folders) into the same parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, final

import numpy as np
from jaxtyping import Bool

from inkfold.config.sections import AUTO_GROUPS
from inkfold.data.class_folders import list_drawings, read_folders
from inkfold.data.group_words import role_of_column
from inkfold.data.labels import Classes, encode_labels, encode_with, find_gaps
from inkfold.data.paths import FileFinder, choose_base, find_files
from inkfold.data.spellings import merged_labels, whole_numbers
from inkfold.data.table_proposals import propose_columns, propose_image_root
from inkfold.data.tables import (
    STRING,
    Strings,
    Table,
    Where,
    empty_cell,
    find_repeats,
    has_other_separator,
    missing_column,
    read_header,
    try_table,
)
from inkfold.data.types import DataOptions, Drawings, Parts
from inkfold.errors import DataError, Problem

Layout: TypeAlias = Literal["competition", "folder", "table"]


def detect_layout(place: Path, options: DataOptions) -> Layout:
    """Detect the layout of the data.

    Args:
        place: Absolute path of a directory or a table.
        options: The user's options, which may name the layout or the table.

    Raises:
        DataError: If the path doesn't exist or can't have the layout that the options name.
    """
    if not place.exists():
        raise DataError([Problem("missing_root", str(place), "no such file or directory. Correct the path of the data.")])
    if place.is_file() and options.layout in ("competition", "folder"):
        text = f"is a file, expected a directory for the layout {options.layout!r}. Name its directory."
        raise DataError([Problem("layout", str(place), text)])
    if place.is_dir() and options.layout == "table" and options.table is None:
        text = "is a directory: which table? Name it: `data.table=FILE`, or give the table's path as the root."
        raise DataError([Problem("layout", str(place), text)])
    if options.layout != "auto":
        return options.layout
    if (place / "train.csv").is_file():
        return "competition"
    return "table" if place.is_file() or options.table is not None else "folder"


def read_parts(place: Path, layout: Layout, options: DataOptions, problems: list[Problem]) -> Parts:
    """Read a dataset's tables or folders.

    Args:
        place: Absolute path of a directory or a table.
        layout: How the drawings are stored, as `detect_layout` found it.
        options: Names of tables and columns, what to do with broken rows, and which table has the labels.
        problems: Problems of the data are appended; bad rows are left out.
    """
    if layout == "folder":
        return read_folders(place, options, problems)
    return _read_tables(_locate_tables(place, layout, options), options, problems)


@final
@dataclass(frozen=True)
class _Tables:
    """Paths of the tables, and the folders that their image paths may start from."""

    root: Path
    train: Path
    test: Path | None
    test_folder: Path | None
    train_bases: tuple[Path, ...]
    test_bases: tuple[Path, ...]
    boundary: Path
    test_labels: tuple[str, ...]


def find_tables(place: Path, layout: str, options: DataOptions) -> dict[str, Path | None]:
    """Return the paths of the tables `train` and `test`; None where folders list the drawings."""
    if layout == "folder":
        return {"train": None, "test": None}
    tables = _locate_tables(place, layout, options)
    return {"train": tables.train, "test": tables.test}


def _locate_tables(place: Path, layout: str, options: DataOptions) -> _Tables:
    root = place.parent if place.is_file() else place
    train = place if place.is_file() else root / (options.table or "train.csv")
    test = root / options.test_table if options.test_table else None
    boundary = root if train.is_relative_to(root) else train.parent
    bases: tuple[Path, ...] = tuple(dict.fromkeys([train.parent, boundary]))
    first_train, first_test = bases, bases
    if layout == "competition":
        test = test or (root / "test.csv" if (root / "test.csv").exists() else None)
        first_train, first_test = (root / "train", *bases), (root / "test", *bases)
    if options.image_root is not None:
        boundary = root / options.image_root
        first_train = first_test = (boundary,)
    folder = root / "test"
    competition = layout == "competition"
    return _Tables(
        root,
        train,
        test,
        folder if competition and test is None and folder.is_dir() else None,
        first_train,
        first_test,
        boundary,
        () if competition else (options.label_column, options.target_column),
    )


def _read_tables(tables: _Tables, options: DataOptions, problems: list[Problem]) -> Parts:
    """Read the layouts `competition` and `table`."""
    finder = FileFinder(tables.boundary)
    train, classes, columns = _train_of_table(tables, finder, options, problems)
    test = None
    if tables.test is not None:
        test = _test_of_table(tables, finder, classes, options, problems)
    elif tables.test_folder is not None:
        test, faulty = list_drawings(tables.test_folder, tables.root)
        problems += faulty
    return Parts(train, classes, test, columns=columns)


def _columns_of_groups(table: Path, used: set[str], options: DataOptions) -> list[str]:
    """Return the columns that may name groups, where the user leaves it open."""
    if options.group_column is not None or options.group_pattern != AUTO_GROUPS:
        return []
    try:
        header = read_header(table)
    except DataError:
        return []
    return [name for name in header if name not in used and header.count(name) == 1 and role_of_column(name) is not None]


def _train_of_table(
    tables: _Tables, finder: FileFinder, options: DataOptions, problems: list[Problem]
) -> tuple[Drawings, Classes, dict[str, Strings]]:
    required = {options.path_column: "data.path_column"}
    if options.group_column is not None:
        required[options.group_column] = "folds.group_column"
    label_columns = (options.label_column, options.target_column)
    also = _columns_of_groups(tables.train, {*required, *label_columns}, options)
    table = _open_table(tables.train, required, label_columns, tables.train_bases, tables.boundary, problems, also=also)
    if table is None:
        no_ids, no_names = np.empty(0, np.int64), np.empty(0, STRING)
        return Drawings(no_names, no_names, no_ids), Classes((), no_ids), {}
    paths = table.columns[options.path_column]
    base = choose_base(finder, tables.train_bases, paths)
    files, faulty = find_files(paths, finder, base, table.where, options.missing)
    names, values = (table.columns.get(column) for column in label_columns)
    if names is not None:
        names, notes = whole_numbers(names, table.name)
        problems += [*notes, *merged_labels(names, table.name)]
    targets, good, classes, label_faults = encode_labels(names, values, table.where)
    if not (files != "").any() and options.image_root is None:
        problems += propose_image_root(table.name, paths.tolist(), tables.boundary)
    groups = None if options.group_column is None else table.columns[options.group_column]
    problems += [*_empty_cells(paths, "image path", table.where), *faulty, *label_faults]
    problems += [] if label_faults else find_gaps(table.name, classes)
    good &= files != ""
    if groups is not None:
        problems += _empty_cells(groups, "group", table.where)
        good &= np.fromiter((bool(group.strip()) for group in groups), bool, len(groups))
    train = Drawings(paths, files, targets, groups)
    kept = _without_duplicates(train, good, table, problems)
    return train.select(kept), classes, {name: table.columns[name][kept] for name in also}


def _test_of_table(
    tables: _Tables, finder: FileFinder, classes: Classes, options: DataOptions, problems: list[Problem]
) -> Drawings | None:
    assert tables.test is not None
    required = {options.path_column: "data.path_column"}
    table = _open_table(tables.test, required, tables.test_labels, tables.test_bases, tables.boundary, problems)
    if table is None:
        return None
    paths = table.columns[options.path_column]
    base = choose_base(finder, tables.test_bases, paths)
    files, faulty = find_files(paths, finder, base, table.where, options.missing)
    problems += [*_empty_cells(paths, "image path", table.where), *faulty]
    for later, first in find_repeats(paths):
        if paths[later]:
            text = f"{paths[later]!r} is also in row {table.rows[first]}; both are kept, since a submission needs each."
            problems.append(Problem("duplicate_test_row", table.where(later), text, "warning"))
    good = paths != ""  # a row without a file stays: the submission and its sample speak of it
    targets = None
    names, values = (table.columns.get(column) for column in (options.label_column, options.target_column))
    if names is not None or values is not None:
        names = None if names is None else whole_numbers(names, table.name)[0]
        targets, labelled, faults = encode_with(classes, names, values, table.where)
        problems += faults
        good &= labelled
    return Drawings(paths, files, targets).select(good)


def _open_table(
    path: Path,
    required: Mapping[str, str],
    labels: Sequence[str],
    bases: Sequence[Path],
    boundary: Path,
    problems: list[Problem],
    *,
    also: Sequence[str] | None = None,
) -> Table | None:
    """Read the columns of a table; report all that it lacks together, each with the column that may be meant.

    The training table, for which `also` names further columns, needs one of the columns of labels.
    """
    try:
        available = read_header(path)
    except DataError as error:
        problems += error.problems
        return None
    missing = {column: setting for column, setting in required.items() if column not in available}
    if also is not None and not any(column in available for column in labels):
        missing[labels[0]] = "data.label_column"
    if not missing:
        return try_table(path, required, (*labels, *(also or ())), problems)
    if has_other_separator(available):  # one problem then, whatever else is missing
        missing = {column: missing[column] for column in list(missing)[:1]}
    proposals = propose_columns(path, bases, boundary, missing)
    for column, setting in missing.items():
        wanted, remedy = repr(column), "Name the right one: "
        option = f"`{setting}=NAME`."
        if setting == "data.label_column":
            wanted, remedy = f"{labels[0]!r} or {labels[1]!r}", "One of them is needed; name it: "
            option = "`data.label_column=NAME` or `data.target_column=NAME`."
        problems.append(missing_column(path.name, available, wanted, remedy + proposals.get(column, option)))
    return None


def _empty_cells(column: Strings, what: str, where: Where) -> list[Problem]:
    return [empty_cell(where(i), what) for i, cell in enumerate(column) if not cell.strip()]


def _without_duplicates(
    train: Drawings, good: Bool[np.ndarray, " drawings"], table: Table, problems: list[Problem]
) -> Bool[np.ndarray, " drawings"]:
    """Mark the good rows without repeated ones; a file with two labels loses all its rows."""
    assert train.targets is not None
    kept = good.copy()
    rows = np.flatnonzero(good)
    files = train.files if good.all() else train.files[rows]
    for later, first in ((rows[a], rows[b]) for a, b in find_repeats(files)):
        place, path = table.where(later), train.image_paths[later]
        kept[later] = False
        if train.targets[later] == train.targets[first]:
            text = f"{path!r} repeats row {table.rows[first]} with the same label, so it is read once. Nothing to do."
            problems.append(Problem("duplicate_row", place, text, "warning"))
        else:
            text = f"{path!r} has another label than in row {table.rows[first]}, expected one. Remove the wrong row."
            problems.append(Problem("conflicting_labels", place, text))
            kept[first] = False
    return kept
