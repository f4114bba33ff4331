"""Finds out how a submission's columns answer: by class names, class numbers, the most probable classes, or probabilities."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from inkfold.data.labels import Classes, clean_name
from inkfold.data.submission_sample import Sample
from inkfold.data.tables import quoted
from inkfold.errors import Problem

SEPARATORS = (" ", ", ", ",", ";", "|")
TextKind = Literal["name", "underscored", "number"]
TEXT_WORDS = {"name": "name", "underscored": "name, with underscores", "number": "number"}
LIST = re.compile(r"top([1-9][0-9]*)")


@final
@dataclass(frozen=True)
class ClassTexts:
    """What may stand for each class.

    Attributes:
        classes: The classes' names and numbers.
        has_numbers: Whether the numbers are the data's own, not just the places of the names in their order.
    """

    classes: Classes
    has_numbers: bool

    def texts(self, kind: TextKind) -> tuple[str, ...]:
        """What stands for each class, by class index."""
        if kind == "number":
            return tuple(str(value) for value in self.classes.values.tolist())
        names = self.classes.names
        return names if kind == "name" else tuple(re.sub(r"\s+", "_", name) for name in names)

    @property
    def all_texts(self) -> frozenset[str]:
        """Everything that may stand for a class."""
        return frozenset(text for kind in self.kinds() for text in self.texts(kind))

    def kinds(self) -> tuple[TextKind, ...]:
        """The kinds that give each class another text than the kinds before them do, and no two classes one text."""
        kinds: list[TextKind] = []
        if self.texts("name") == self.texts("number"):
            return ("number",)
        for kind in ("name", "underscored", "number"):
            own = self.texts(kind)
            if len({*own}) == len(own) and own not in [self.texts(other) for other in kinds]:
                kinds.append(kind)
        return tuple(kinds)


@final
@dataclass(frozen=True)
class Reading:
    """One way to read a column's cells as classes: what stands for a class, how many, and what is between them."""

    kind: TextKind
    depth: int = 1
    separator: str = " "

    @property
    def words(self) -> str:
        """The way in words."""
        return answer_words(self.kind, tuple(range(self.depth)))

    @property
    def setting(self) -> str:
        """The value of `submission.labels` that chooses it."""
        return f"top{self.depth}" if self.depth > 1 else "number" if self.kind == "number" else "name"


def answer_words(kind: TextKind, ranks: Sequence[int]) -> str:
    """Say in words what a column of classes holds."""
    if len(ranks) > 1:
        return f"{len(ranks)} most probable classes by {TEXT_WORDS[kind]}"
    place = "" if tuple(ranks) == (0,) else f" of rank {ranks[0] + 1} by probability"
    return f"class {TEXT_WORDS[kind]}{place}"


def read_cells(cells: Sequence[str], texts: ClassTexts) -> list[Reading]:
    """List the ways in which all cells of a column can be read as classes.

    Args:
        cells: The column's cells, one for each row of the sample.
        texts: What may stand for each class.

    Returns:
        The ways, single classes before lists; empty if some cell is no class.
    """
    distinct = {clean_name(cell) for cell in cells}
    readings: list[Reading] = []
    for kind in texts.kinds():
        known = {*texts.texts(kind)}
        if distinct <= known:
            readings.append(Reading(kind))
            continue
        for separator in SEPARATORS:
            lists = [cell.split() if separator == " " else cell.split(separator) for cell in distinct]
            depth = max(map(len, lists))
            if depth > 1 and all(token in known for tokens in lists for token in tokens):
                readings.append(Reading(kind, depth, separator))
                break
    return _without_plain_doubles(readings, texts)


def _without_plain_doubles(readings: Sequence[Reading], texts: ClassTexts) -> list[Reading]:
    """Leave out names with underscores where names without them fit; in lists between blanks only those can be read back."""
    kinds = {reading.kind for reading in readings}
    blanks = any(re.search(r"\s", name) for name in texts.classes.names)
    kept = []
    for reading in readings:
        if reading.kind == "name" and reading.depth > 1 and reading.separator == " " and blanks and "underscored" in kinds:
            continue
        if reading.kind == "underscored" and "name" in kinds and not (reading.depth > 1 and reading.separator == " "):
            continue
        kept.append(reading)
    return kept


def choose_reading(
    sample: Sample, place: int, texts: ClassTexts, setting: str | None, columns: tuple[str, str], problems: list[Problem]
) -> Reading | None:
    """Decide how a column names classes.

    Args:
        sample: The sample submission, as read.
        place: Number of the column in the sample, from 0.
        texts: What may stand for each class.
        setting: The setting `submission.labels`; None takes what the cells show.
        columns: Headings of the training table's columns with class names and with class numbers.
        problems: What isn't clear is appended, as an error or, where a heading decides, as a warning.

    Returns:
        The way; None if it isn't clear.
    """
    heading, cells = sample.headings[place], sample.columns[place]
    readings = read_cells(cells, texts)
    where = f"{sample.name}, column {heading!r}"
    if setting is not None:
        return named_reading(setting, heading == columns[1], readings, texts, where, problems)
    is_constant = len({*cells}) == 1
    if not readings and is_constant and not texts.has_numbers and not re.search(r"[\d\s,;|]", cells[0]):
        text = (
            f"holds {cells[0]!r} everywhere, which is taken as a placeholder: it gets the class name, since the data have no "
            "class numbers. `submission.labels` says otherwise."
        )
        problems.append(Problem("sample_placeholder", where, text, "warning"))
        return Reading("name")
    by_heading: TextKind | None = "name" if heading == columns[0] else "number" if heading == columns[1] else None
    plain_numbers = all(reading.kind == "number" and reading.depth == 1 for reading in readings)
    if by_heading is not None and is_constant and plain_numbers and not any(one.kind == by_heading for one in readings):
        text = (
            f"holds {cells[0]!r} everywhere, which is taken as a placeholder: it gets the class {by_heading}, as the training "
            "table's column of this name has it. `submission.labels` says otherwise."
        )
        problems.append(Problem("sample_placeholder", where, text, "warning"))
        return Reading(by_heading)
    sure = [reading for reading in readings if reading.kind != "number" or texts.has_numbers or by_heading == "number"]
    if len(readings) == 1 and sure:
        return _if_separable(sure[0], texts, where, problems)
    if len(readings) == 1 and (not is_constant or readings[0].depth > 1):
        problems.append(numbered_by_order(where, texts))
        return readings[0]  # numbers, which no separator is part of
    problems.append(_unclear(where, cells, readings, texts, is_constant=is_constant))
    return None


def named_reading(
    setting: str,
    is_number_column: bool,
    readings: Sequence[Reading],
    texts: ClassTexts,
    where: str,
    problems: list[Problem],
) -> Reading | None:
    """Turn the setting `submission.labels` into a way to write classes.

    Args:
        setting: `name`, `number` or `topK`.
        is_number_column: Whether the column is called as the training table's column of class numbers.
        readings: Ways in which the sample's cells can be read, which show underscores, numbers and separators.
        texts: What may stand for each class.
        where: The column, for messages.
        problems: A list of names that couldn't be told apart is appended.

    Returns:
        The way; None if it is impossible.
    """
    if setting in ("name", "number"):
        shown = next((reading.kind for reading in readings if reading.setting == setting), None)
        return Reading(shown or ("number" if setting == "number" else "name"))
    depth = int(setting.removeprefix("top"))
    shown_list = next((reading for reading in readings if reading.depth > 1), None)
    if shown_list is not None:
        return _if_separable(Reading(shown_list.kind, depth, shown_list.separator), texts, where, problems)
    if is_number_column:
        return Reading("number", depth)
    blanks = any(re.search(r"\s", name) for name in texts.classes.names)
    kind: TextKind = "underscored" if blanks and "underscored" in texts.kinds() else "name"
    return _if_separable(Reading(kind, depth), texts, where, problems)


def _if_separable(reading: Reading, texts: ClassTexts, where: str, problems: list[Problem]) -> Reading | None:
    """Refuse a list whose separator is part of a class's text, or in which underscores would make two names one."""
    mark = reading.separator.strip() or r"\s"
    own = [text for text in texts.texts(reading.kind) if re.search(mark if mark == r"\s" else re.escape(mark), text)]
    if reading.depth == 1 or not own:
        return reading
    text = f"a list of classes can't be read back: {quoted(own, 3)} holds what stands between two of them. Rename the class."
    problems.append(Problem("submission_labels", where, text))
    return None


def _unclear(where: str, cells: Sequence[str], readings: Sequence[Reading], texts: ClassTexts, *, is_constant: bool) -> Problem:
    """Report cells that are no classes, or that could be several things."""
    names, shown = texts.classes.names, quoted([*dict.fromkeys(cells)], 3)
    settings = (
        f"`submission.labels=name` ({names[0]!r}), `submission.labels=number` ({texts.texts('number')[0]!r}) or `topK` such as "
        "`submission.labels=top3`"
    )
    if readings:
        found = " or ".join(reading.words for reading in readings)
        reason = "" if len(readings) > 1 else ", but the data have no numbers of their own, and it may be a placeholder"
        return Problem(
            "unclear_labels", where, f"holds {shown}, which may mean the {found}{reason}. Say what it wants: {settings}."
        )
    if is_constant:
        text = f"holds {shown} everywhere, so what it wants isn't clear. Say it: {settings}."
        return Problem("unclear_labels", where, text)
    strange = [cell for cell in dict.fromkeys(cells) if cell not in texts.all_texts]
    text = (
        f"holds {quoted(strange, 5)}, which is no class: the classes are {quoted(names, 5)}, numbered "
        f"{texts.texts('number')[0]} to {texts.texts('number')[-1]}. Correct it, or say what the column wants: {settings}."
    )
    return Problem("unclear_labels", where, text)


def numbered_by_order(where: str, texts: ClassTexts) -> Problem:
    """Warn that the contest's numbers may be others, since the data have none."""
    names = texts.classes.names
    some = ", ".join(f"{number} is {name!r}" for number, name in [*enumerate(names)][:3])
    text = (
        f"numbers the classes, and the data don't: they are taken as numbered in their names' order, {some}"
        f"{' and so on' * (len(names) > 3)}. Check this; a training table with `data.target_column` gives other numbers."
    )
    return Problem("numbered_by_order", where, text, "warning")
