"""Reads tables about the test rows: the sample submission and the true targets, matched by image path, never by position."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from inkfold.data.labels import Classes, encode_with
from inkfold.data.tables import STRING, Strings, find_repeats, quoted, read_header, read_table, try_table
from inkfold.data.types import DataOptions, Drawings, SampleSubmission
from inkfold.errors import DataError, Problem


def read_sample(path: Path, test: Drawings, options: DataOptions, problems: list[Problem]) -> SampleSubmission | None:
    """Read the sample submission, with its ids brought into the test rows' order.

    Args:
        path: The table, CSV or Parquet: a column of ids, one of image paths and one of targets.
        test: The test drawings, in whose order the ids are brought; each needs exactly one row of the table.
        options: Names of the columns with image paths and with targets; the remaining column has the ids.
        problems: Problems of the table are appended.

    Returns:
        The sample submission, or None if it can't be filled in.
    """
    try:
        columns = read_header(path)
    except DataError as error:
        problems += error.problems
        return None
    others = [name for name in columns if name not in (options.path_column, options.target_column)]
    if len(columns) != 3 or len(others) != 1:
        problems.append(_odd_columns(path.name, columns, options))
    if len(columns) != len(others) + 2 or len(others) > 1:
        return None
    table = try_table(path, dict.fromkeys([options.path_column, *others], ""), (), problems)
    if table is None:
        return None
    paths = table.columns[options.path_column]
    differences = _set_difference(table.name, paths, test.image_paths, same_counts=True)
    if differences:
        problems += differences
        return None
    if not np.array_equal(paths, test.image_paths):
        text = "its rows are in another order than the test table's; ids are matched by image path."
        problems.append(Problem("sample_order", table.name, text, "warning"))
    ids = np.empty(len(test), STRING)
    if others:
        # Stable sorts pair a repeated path's rows in their order on both sides.
        order = np.argsort(test.image_paths, kind="stable")
        ids[order] = table.columns[others[0]][np.argsort(paths, kind="stable")]
    return SampleSubmission(columns, ids)


def read_test_targets(
    path: str | Path,
    test: Drawings,
    class_targets: Int64[np.ndarray, " classes"],
    path_column: str = "image_path",
    target_column: str = "target",
) -> Int64[np.ndarray, " drawings"]:
    """Read the true targets of the test drawings, matched by image path and never by position.

    Args:
        path: A CSV or Parquet table with one row for each test drawing, in any order.
        test: The test drawings, whose order the result has.
        class_targets: The target value of each class index.
        path_column: Heading of the column with the image paths.
        target_column: Name of the column of target values.

    Returns:
        The class index of every test row.

    Raises:
        DataError: If a test row has no target or two, or the table has other rows or values; all are reported together.
    """
    table = read_table(Path(path), {path_column: "data.path_column", target_column: "data.target_column"})
    paths = table.columns[path_column]
    classes = Classes(tuple(str(value) for value in class_targets), class_targets)
    targets, known, problems = encode_with(classes, None, table.columns[target_column], table.where)
    problems = [*table.problems, *problems]
    for later, first in find_repeats(paths):
        if targets[later] != targets[first] and known[later] and known[first]:
            text = f"{paths[later]!r} has another target than in row {table.rows[first]}, expected one. Remove one row."
            problems.append(Problem("conflicting_targets", table.where(later), text))
    problems += _set_difference(table.name, paths, test.image_paths)
    if problems:
        raise DataError(problems)
    order = np.argsort(paths, kind="stable")
    return targets[order[np.searchsorted(paths[order], test.image_paths)]]


def _odd_columns(name: str, columns: Sequence[str], options: DataOptions) -> Problem:
    text = (
        f"got the columns {quoted(columns)}, expected an id, {options.path_column!r} and {options.target_column!r}. "
        "It is used if it has these two and at most one more column, and ignored otherwise: check the submission."
    )
    return Problem("sample_columns", name, text, "warning")


def _set_difference(name: str, got: Strings, expected: Strings, *, same_counts: bool = False) -> list[Problem]:
    """Report an error if two columns don't hold the same paths."""
    got_sorted, expected_sorted = np.sort(got), np.sort(expected)
    problems = []
    absent = _not_in(expected_sorted, got_sorted)
    if absent:
        text = f"has no row for {len(absent)} of the test images: {quoted(absent, 5)}. Add them."
        problems.append(Problem("test_rows_differ", name, text))
    unknown = _not_in(got_sorted, expected_sorted)
    if unknown:
        text = f"has {len(unknown)} image(s) that aren't in the test part: {quoted(unknown, 5)}. Remove them."
        problems.append(Problem("test_rows_differ", name, text))
    if same_counts and not problems and not np.array_equal(got_sorted, expected_sorted):
        text = f"has {len(got)} rows for {len(expected)} test rows. Repeat each image as often as in the test part."
        problems.append(Problem("test_rows_differ", name, text))
    return problems


def _not_in(some: Strings, others: Strings) -> list[str]:
    """Return the distinct texts of one sorted column that another sorted column lacks."""
    if not len(others):
        return sorted(set(some))
    place = np.minimum(np.searchsorted(others, some), len(others) - 1)
    return sorted(set(some[others[place] != some]))
