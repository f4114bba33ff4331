"""Finds class names that are probably one class in several spellings, and labels that were merged or are numbers as text."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from inkfold.data.labels import clean_name, factorise
from inkfold.data.tables import STRING, Strings
from inkfold.errors import Problem

VARIATION_SELECTORS = re.compile("[\ufe00-\ufe0f]")
WHOLE = re.compile(r"-?[0-9]{1,18}(\.0+)?")


def _without_invisible(name: str) -> str:
    return VARIATION_SELECTORS.sub("", "".join(letter for letter in name if unicodedata.category(letter) != "Cf"))


def _one_width(name: str) -> str:
    return unicodedata.normalize("NFKC", name)


def _one_blank(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip()


def _without_zeros(name: str) -> str:
    return re.sub(r"([0-9])\.0+(?![0-9])", r"\1", re.sub(r"(?<![0-9.])0+(?=[0-9])", "", name))


# What two spellings may differ in; the order is that in which they are compared.
DIFFERENCES: Final[dict[str, Callable[[str], str]]] = {
    "invisible characters": _without_invisible,
    "the characters' width or form": _one_width,
    "case": str.casefold,
    "blanks, hyphens or underscores": _one_blank,
    "zeros": _without_zeros,
}


def similar_classes(names: Sequence[str], counts: Sequence[int], remedy: str) -> list[Problem]:
    """Warn of classes whose names differ only in case, width, invisible characters, blanks or zeros; they stay apart.

    Args:
        names: Names of all classes, each once.
        counts: Number of drawings of each.
        remedy: How names are changed where these come from.
    """
    spellings: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        spellings.setdefault(_key(name) or name, []).append(index)
    problems = []
    for indices in spellings.values():
        if len(indices) > 1 and not _letters_of_two_cases([names[index] for index in indices]):
            several = ", ".join(f"{names[index]!r} ({counts[index]})" for index in indices)
            text = (
                f"the classes {several} differ only in {_difference([names[index] for index in indices])}: one class or "
                f"{len(indices)}? They are kept apart. If they are one, {remedy}."
            )
            problems.append(Problem("similar_classes", f"class {names[indices[0]]!r}", text, "warning"))
    return problems


def _letters_of_two_cases(names: Sequence[str]) -> bool:
    """Return whether these are letters as such, `A` and `a`, which are two classes of handwriting."""
    return all(len(name) == 1 for name in names) and len(set(map(_one_width, names))) == len(names)


def _key(name: str, but: str = "") -> str:
    """Even out all differences, but one."""
    for word, change in DIFFERENCES.items():
        name = name if word == but else change(name)
    return name


def _difference(names: Sequence[str]) -> str:
    """Name the differences that keep the spellings apart where they aren't evened out."""
    needed = [word for word in DIFFERENCES if len({_key(name, but=word) for name in names}) > 1]
    return " and ".join(needed or list(DIFFERENCES)[:2])


def merged_labels(column: Strings, where: str) -> list[Problem]:
    """Warn of labels that are taken as one class though they are written in several ways: with outer blanks, NFC and NFD."""
    forms: dict[str, list[str]] = {}
    for raw in factorise(column)[1]:
        forms.setdefault(clean_name(raw), []).append(raw)
    return [
        Problem(
            "merged_labels",
            f"{where} class {name!r}",
            f"written in {len(raws)} ways, with outer blanks or in different Unicode forms ({', '.join(map(ascii, raws))}); "
            "they are taken as one class. Write them differently if they are two.",
            "warning",
        )
        for name, raws in sorted(forms.items())
        if name and len(raws) > 1
    ]


def whole_numbers(column: Strings, where: str) -> tuple[Strings, list[Problem]]:
    """Write the labels of a column of whole numbers without `.0`, which pandas adds where a column once had gaps.

    Args:
        column: Label of each row, as the table has it.
        where: The table's name, for messages.

    Returns:
        The labels, unchanged unless all are whole numbers and some end in `.0`, and a warning that says so.
    """
    codes, raw = factorise(column)
    texts = [text.strip() for text in raw]
    if not any("." in text for text in texts) or not all(WHOLE.fullmatch(text) for text in texts if text):
        return column, []
    example = next(text for text in texts if "." in text)
    short = np.array([text.partition(".")[0] for text in texts], dtype=STRING)
    text = f"the labels are whole numbers, some written as {example!r}; they are read as {example.partition('.')[0]!r}."
    return short[codes], [Problem("numbers_as_labels", where, text, "warning")]
