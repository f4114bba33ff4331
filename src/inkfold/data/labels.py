"""Turns label columns (class names, target values or both) into class indices.

Names are compared in one form (NFC, stripped). Class names and target values correspond one to one.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Int64

from inkfold.data.tables import Strings, Where, empty_cell
from inkfold.errors import Problem

LARGEST_TARGET = 2**63 - 1


@final
@dataclass(frozen=True, eq=False)
class Classes:
    """The classes, ordered by their index.

    Attributes:
        names: Unicode NFC, without surrounding whitespace.
        values: The target value that stands for each class in the user's tables; ascending.
        numbered: Whether the values are the user's own, from a column of them.
    """

    names: tuple[str, ...]
    values: Int64[np.ndarray, " classes"]
    numbered: bool = False


def factorise(column: Strings) -> tuple[Int64[np.ndarray, " rows"], list[str]]:
    """Number the distinct texts of a column that has few of them, in order of appearance."""
    seen: dict[str, int] = {}
    codes = np.fromiter((seen.setdefault(text, len(seen)) for text in column), np.int64, len(column))
    return codes, list(seen)


def clean_name(text: str) -> str:
    """Bring a class name to the one form in which names are compared: NFC, no surrounding whitespace."""
    return unicodedata.normalize("NFC", text.strip())


def encode_labels(
    names: Strings | None, values: Strings | None, where: Where
) -> tuple[Int64[np.ndarray, " rows"], Bool[np.ndarray, " rows"], Classes, list[Problem]]:
    """Turn class names, target values or both into class indices.

    Classes are ordered by target value where values are given. Else, if every name is a whole number, the names
    are the values. Else they are ordered by the code points of their cleaned names, which no locale changes.

    Args:
        names: A class name for each row, if there is such a column.
        values: A target value for each row as text, if there is such a column; at least one of the two is given.
        where: Returns the name of a row, for messages.

    Returns:
        Class indices, which rows have one (the others hold 0), the classes, and the problems.
    """
    rows = len(names if names is not None else values)  # type: ignore[arg-type]
    known, problems = np.ones(rows, bool), list[Problem]()
    labels: list[str] = []
    codes = numbers = np.zeros(rows, np.int64)
    if names is not None:
        codes, labels = _read_names(names)
        known &= codes < len(labels)
        problems += [empty_cell(where(i), "class name") for i in np.flatnonzero(~known).tolist()]
    if values is not None:
        numbers, valid, faults = _read_values(values, where)
        known &= valid
        problems += faults
    elif labels:
        own = _values_of_names(labels)
        numbers = own[np.minimum(codes, len(own) - 1)]
    if names is None:
        distinct = np.unique(numbers[known])
        codes, labels = np.searchsorted(distinct, numbers), [str(value) for value in distinct]
    known, pairs, faults = _pair_up(codes, numbers, known, labels, where)
    class_values = np.array([value for _, value in pairs], np.int64)
    classes = Classes(tuple(labels[code] for code, _ in pairs), class_values, numbered=values is not None)
    targets = np.where(known, np.searchsorted(classes.values, numbers), 0).astype(np.int64)
    return targets, known, classes, problems + faults


def encode_with(
    classes: Classes, names: Strings | None, values: Strings | None, where: Where
) -> tuple[Int64[np.ndarray, " rows"], Bool[np.ndarray, " rows"], list[Problem]]:
    """Turn target values, or names if there are no values, into the indices of known classes.

    Returns:
        Class indices, which rows have one (the others hold 0), and the problems.
    """
    if values is not None:
        numbers, known, problems = _read_values(values, where)
        index_of = {int(value): index for index, value in enumerate(classes.values)}
        indices = [index_of.get(int(number)) for number in numbers]
    else:
        assert names is not None
        place = {name: index for index, name in enumerate(classes.names)}
        codes, distinct = factorise(names)
        table = [place.get(clean_name(text)) for text in distinct]
        indices, known, problems = [table[code] for code in codes], np.ones(len(names), bool), []
    for i in [i for i, index in enumerate(indices) if index is None and known[i]]:
        got = f"target {numbers[i]}" if names is None or values is not None else f"class {names[i]!r}"
        text = f"{got} isn't one of the {len(classes.names)} training classes. Correct it or remove the row."
        problems.append(Problem("unknown_class", where(i), text))
        known[i] = False
    return np.array([index or 0 for index in indices], np.int64), known, problems


def find_gaps(where: str, classes: Classes) -> list[Problem]:
    """Warn when the classes' target values aren't 0, 1, 2, ...; `where` names the table or folder."""
    count = len(classes.values)
    if not count or classes.values[-1] == count - 1:
        return []
    highest = int(classes.values[-1])
    absent = np.setdiff1d(np.arange(min(highest, 2 * count)), classes.values)[:10].tolist()
    more = " and more" if highest + 1 - count > len(absent) else ""
    text = (
        f"the {count} classes have targets up to {highest}, expected 0 to {count - 1}; absent: "
        f"{', '.join(map(str, absent))}{more}. Check that no class is missing. Submissions get the table's values."
    )
    return [Problem("target_gaps", where, text, "warning")]


def _read_names(column: Strings) -> tuple[Int64[np.ndarray, " rows"], list[str]]:
    """Codes into the distinct cleaned names in code point order; an empty name gets the code after the last."""
    codes, raw = factorise(column)
    clean = [clean_name(text) for text in raw]
    labels = sorted({name for name in clean if name})
    place = {name: index for index, name in enumerate(labels)}
    return np.array([place.get(name, len(labels)) for name in clean], np.int64)[codes], labels


def _values_of_names(labels: Sequence[str]) -> Int64[np.ndarray, " classes"]:
    """The names as numbers where all are whole numbers and none is written in two ways, else their ranks."""
    if all(re.fullmatch("[0-9]{1,18}", label) for label in labels):
        numbers = [int(label) for label in labels]
        if len(set(numbers)) == len(labels):
            return np.array(numbers, np.int64)
    return np.arange(len(labels))


def _read_values(column: Strings, where: Where) -> tuple[Int64[np.ndarray, " rows"], Bool[np.ndarray, " rows"], list[Problem]]:
    """Target values, which rows hold a valid one, and what is wrong with the others."""
    codes, raw = factorise(column)
    numbers = np.zeros(len(raw), np.int64)
    faults: dict[int, tuple[str, str]] = {}
    for code, text in enumerate(raw):
        fault = _target_fault(text.strip())
        if fault is None:
            numbers[code] = int(text.strip().partition(".")[0])
        else:
            faults[code] = fault
    bad = np.flatnonzero(np.isin(codes, list(faults))).tolist()
    problems = [Problem(faults[codes[i]][0], where(i), faults[codes[i]][1]) for i in bad]
    known = np.ones(len(column), bool)
    known[bad] = False
    return numbers[codes], known, problems


def _target_fault(text: str) -> tuple[str, str] | None:
    """What is wrong with a target; `3.0` is taken as 3, since that is how a column with gaps is often saved."""
    remedy = "expected a whole number of at least 0. Correct it or remove the row."
    if not text:
        return "empty_cell", "the target is empty. Fill it in or remove the row."
    if re.fullmatch(r"-[0-9]+(\.0*)?", text) and text.strip("-0."):
        return "negative_target", f"target {text} is negative, {remedy}"
    if not re.fullmatch(r"[0-9]{1,19}(\.0*)?", text) or int(text.partition(".")[0]) > LARGEST_TARGET:
        return "non_integer_target", f"got target {text!r}, {remedy}"
    return None


def _pair_up(
    codes: Int64[np.ndarray, " rows"],
    numbers: Int64[np.ndarray, " rows"],
    known: Bool[np.ndarray, " rows"],
    labels: Sequence[str],
    where: Where,
) -> tuple[Bool[np.ndarray, " rows"], list[tuple[int, int]], list[Problem]]:
    """The one-to-one pairs of name code and target value, by value; rows of any other pair become unknown."""
    rows = np.flatnonzero(known)
    values, ranks = np.unique(numbers[rows], return_inverse=True)
    keys, first, inverse = np.unique(codes[rows] * max(len(values), 1) + ranks, return_index=True, return_inverse=True)
    names_of, ranks_of = np.divmod(keys, max(len(values), 1))
    shared_name = np.bincount(names_of, minlength=1)[names_of] > 1
    shared_value = np.bincount(ranks_of, minlength=1)[ranks_of] > 1
    problems = []
    for code in np.unique(names_of[shared_name]):
        seen = ", ".join(f"{values[ranks_of[j]]} ({where(rows[first[j]])})" for j in np.flatnonzero(names_of == code))
        text = f"has several targets: {seen}, expected one. Correct the target column."
        problems.append(Problem("name_with_two_targets", f"class {labels[code]!r}", text))
    for rank in np.unique(ranks_of[shared_value]):
        seen = ", ".join(f"{labels[names_of[j]]!r} ({where(rows[first[j]])})" for j in np.flatnonzero(ranks_of == rank))
        text = f"stands for several classes: {seen}, expected one. Correct the name or the target."
        problems.append(Problem("target_with_two_names", f"target {values[rank]}", text))
    single = ~(shared_name | shared_value)
    kept = known.copy()
    kept[rows[~single[inverse]]] = False
    pairs = sorted(zip(names_of[single].tolist(), values[ranks_of[single]].tolist(), strict=True), key=lambda p: p[1])
    return kept, pairs, problems
