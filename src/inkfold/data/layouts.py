"""Reads each layout that people store drawings in (a competition's tables, any table, class folders) into the same parts."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, final

import numpy as np
from jaxtyping import Bool

from inkfold.data.labels import Classes, clean_name, encode_labels, encode_with, factorise, find_gaps
from inkfold.data.paths import FileFinder, choose_base, find_files, list_images
from inkfold.data.tables import STRING, Strings, Table, Where, empty_cell, find_repeats, missing_column, quoted, try_table
from inkfold.data.types import DataOptions, Drawings
from inkfold.errors import DataError, Problem

VAL_NAMES = ("val", "valid", "validation")

Layout: TypeAlias = Literal["competition", "folder", "table"]


@final
@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of a dataset, which every layout is read into.

    Attributes:
        train: The labelled drawings, including the data's own validation part.
        classes: The classes of the training drawings.
        test: The drawings to predict; None if there are none.
    """

    train: Drawings
    classes: Classes
    test: Drawings | None = None


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
        train, classes, test = read_folders(place, options, problems)
        return Parts(train, classes, test)
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
    train, classes = _train_of_table(tables, finder, options, problems)
    test = None
    if tables.test is not None:
        test = _test_of_table(tables, finder, classes, options, problems)
    elif tables.test_folder is not None:
        test = list_drawings(tables.test_folder, tables.root, problems)
    return Parts(train, classes, test)


def _train_of_table(
    tables: _Tables, finder: FileFinder, options: DataOptions, problems: list[Problem]
) -> tuple[Drawings, Classes]:
    required = {options.path_column: "data.path_column"}
    if options.group_column is not None:
        required[options.group_column] = "folds.group_column"
    label_columns = (options.label_column, options.target_column)
    table = try_table(tables.train, required, label_columns, problems)
    if table is not None and not any(column in table.columns for column in label_columns):
        remedy = "One of them is needed; name it: `data.label_column=NAME` or `data.target_column=NAME`."
        wanted = f"{label_columns[0]!r} or {label_columns[1]!r}"
        problems.append(missing_column(table.name, table.available, wanted, remedy))
        table = None
    if table is None:
        no_ids, no_names = np.empty(0, np.int64), np.empty(0, STRING)
        return Drawings(no_names, no_names, no_ids), Classes((), no_ids)
    paths = table.columns[options.path_column]
    base = choose_base(finder, tables.train_bases, paths)
    files, faulty = find_files(paths, finder, base, table.where, options.missing)
    names, values = (table.columns.get(column) for column in label_columns)
    targets, good, classes, label_faults = encode_labels(names, values, table.where)
    groups = None if options.group_column is None else table.columns[options.group_column]
    problems += [*_empty_cells(paths, "image path", table.where), *faulty, *label_faults]
    problems += [] if label_faults else find_gaps(table.name, classes)
    good &= files != ""
    if groups is not None:
        problems += _empty_cells(groups, "group", table.where)
        good &= np.fromiter((bool(group.strip()) for group in groups), bool, len(groups))
    train = Drawings(paths, files, targets, groups)
    return train.select(_without_duplicates(train, good, table, problems)), classes


def _test_of_table(
    tables: _Tables, finder: FileFinder, classes: Classes, options: DataOptions, problems: list[Problem]
) -> Drawings | None:
    assert tables.test is not None
    table = try_table(tables.test, {options.path_column: "data.path_column"}, tables.test_labels, problems)
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
        targets, labelled, faults = encode_with(classes, names, values, table.where)
        problems += faults
        good &= labelled
    return Drawings(paths, files, targets).select(good)


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


SPLIT_NAMES = frozenset({*VAL_NAMES, "test"})


def read_folders(root: Path, options: DataOptions, problems: list[Problem]) -> tuple[Drawings, Classes, Drawings | None]:
    """Read class folders, in the root or in its parts `train` and `val`, and a `test` part.

    Returns the labelled drawings, their classes, and the drawings to predict.
    """
    if options.group_column is not None:
        text = "class folders have no group column. Write a table, or leave `folds.group_column` out."
        problems.append(Problem("missing_column", root.name, text))
    train = root / "train" if (root / "train").is_dir() else root
    val = next((root / name for name in VAL_NAMES if (root / name).is_dir()), None)
    skip = SPLIT_NAMES if train == root else frozenset[str]()
    parts = [_class_folders(part, root, skip, problems) for part in (train, val) if part is not None]
    paths, files, names = parts[0] if val is None else (np.concatenate(columns) for columns in zip(*parts, strict=True))
    owners = [root.name if part == root else f"{root.name}/{part.name}" for part in (train, val) if part is not None]
    first_val = len(parts[0][0])
    targets, good, classes, faults = encode_labels(names, None, lambda i: f"{owners[int(i >= first_val)]}/{paths[i]}")
    problems += [*faults, *find_gaps(root.name, classes), *_merged_folders(root.name, names)]
    given_val = None if val is None else np.arange(len(paths)) >= first_val
    if val is not None:
        paths = _with_part_names(paths, first_val, val.name)
    test = _test_folder(root, classes, problems) if (root / "test").is_dir() else None
    return Drawings(paths, files, targets, None, given_val).select(good), classes, test


def list_drawings(part: Path, root: Path, problems: list[Problem]) -> Drawings:
    """List the drawings of a part whose folders aren't classes, without targets; links may not lead out of the root."""
    paths, faulty = list_images(part, root)
    problems += faulty
    return Drawings(paths, _files_below(part, paths))


def _files_below(folder: Path, paths: Strings) -> Strings:
    return np.strings.add(np.array(f"{folder.as_posix()}/", STRING), paths)


def _class_folders(part: Path, root: Path, skip: frozenset[str], problems: list[Problem]) -> tuple[Strings, Strings, Strings]:
    """Return relative paths, files and class folders' names of a part's drawings."""
    paths, faulty = list_images(part, root, skip)
    problems += faulty
    inside = np.strings.find(paths, "/") >= 0
    loose = paths[~inside]
    if len(loose):
        text = f"left out {len(loose)} image(s) in no class folder, such as {loose[0]!r}. Move them into one."
        problems.append(Problem("image_without_class", part.name, text, "warning"))
        paths = paths[inside]
    return paths, _files_below(part, paths), _first_folders(paths)


def _with_part_names(paths: Strings, first_val: int, part: str) -> Strings:
    """Prefix the validation drawings' paths with the part if a training drawing has an equal path."""
    train, val = paths[:first_val], paths[first_val:]
    if {*train.tolist()}.isdisjoint(val.tolist()):
        return paths
    return np.concatenate([train, np.strings.add(np.array(f"{part}/", STRING), val)])


def _first_folders(paths: Strings) -> Strings:
    """Return the first folder of each relative path; "" if it has none."""
    names = np.empty(len(paths), STRING)
    for i, path in enumerate(paths):
        names[i] = path.rpartition("/")[0].partition("/")[0]
    return names


def _merged_folders(where: str, names: Strings) -> list[Problem]:
    """Warn of folders whose names differ only in Unicode form or outer spaces."""
    forms: dict[str, list[str]] = {}
    for raw in sorted(factorise(names)[1]):
        forms.setdefault(clean_name(raw), []).append(raw)
    text = "{} folders have this name in different Unicode forms or with outer spaces; they are taken as one class."
    return [
        Problem("merged_folders", f"{where}/{name}", text.format(len(raws)), "warning")
        for name, raws in forms.items()
        if len(raws) > 1
    ]


def _test_folder(root: Path, classes: Classes, problems: list[Problem]) -> Drawings:
    """Read the test part's drawings, with targets if all lie in folders named as classes."""
    test = list_drawings(root / "test", root, problems)
    names = _first_folders(test.image_paths)
    targets, known, _ = encode_with(classes, names, None, lambda i: test.image_paths[i])
    if known.any() and not known.all():
        strange = sorted(set(names[~known]))
        text = (
            f"{(~known).sum()} image(s) lie in no training class's folder ({quoted(strange, 5)}), so targets are taken "
            "as unknown. Rename the folders if they are meant as classes."
        )
        problems.append(Problem("test_classes", "test", text, "warning"))
    return replace(test, targets=targets) if len(test) and known.all() else test
