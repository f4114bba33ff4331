"""Decides how the submission is written by the settings `submission.columns`, `submission.labels` and `submission.id`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from inkfold.data.labels import Classes
from inkfold.data.submission_form import CsvStyle, FormColumn, SubmissionForm
from inkfold.data.submission_headings import match_headings, ranked_places
from inkfold.data.submission_ids import IdKind, id_kinds, unknown_kind
from inkfold.data.submission_labels import (
    ClassTexts,
    Reading,
    answer_words,
    named_reading,
)
from inkfold.data.submission_sample import Sample
from inkfold.data.tables import read_header, try_table
from inkfold.data.types import DataOptions, Drawings
from inkfold.errors import DataError, Problem

PROBABILITIES = "probabilities"


@final
@dataclass(frozen=True)
class Source:
    """What a submission is decided from, besides the sample and the settings.

    Attributes:
        root: Absolute path of the folder of drawings.
        train_table: The table of the training drawings; None for class folders.
        test_table: The table of the test drawings; None where a folder lists them.
        test: The drawings that the submission answers, in the table's order.
        classes: Names and numbers of the training classes.
    """

    root: Path
    train_table: Path | None
    test_table: Path | None
    test: Drawings
    classes: Classes

    def texts(self, options: DataOptions) -> ClassTexts:
        """What may stand for each class, and whether the numbers are the data's own."""
        names, values = self.classes.names, self.classes.values.tolist()
        if all(name.isdecimal() and int(name) == value for name, value in zip(names, values, strict=True)):
            return ClassTexts(self.classes, has_numbers=True)
        table = self.train_table
        return ClassTexts(self.classes, has_numbers=table is not None and options.target_column in header_of(table))

    def id_columns(self, options: DataOptions) -> dict[str, list[str]]:
        """The further columns of the test table, in the drawings' order."""
        if self.test_table is None:
            return {}
        header = header_of(self.test_table)
        known = (options.path_column, options.label_column, options.target_column)
        names = [name for name in header if name and header.count(name) == 1 and name not in known]
        if not names or options.path_column not in header:
            return {}
        table = try_table(self.test_table, {options.path_column: ""}, names, [])  # its problems are known
        if table is None:
            return {}
        kept, place = [], 0
        for row, path in enumerate(table.columns[options.path_column].tolist()):  # rows without a drawing were left out
            if place < len(self.test) and path == self.test.image_paths[place]:
                kept.append(row)
                place += 1
        return {name: table.columns[name][kept].tolist() for name in names} if place == len(self.test) else {}


def header_of(table: Path) -> tuple[str, ...]:
    """The headings of a table; none if it can't be read."""
    try:
        return read_header(table)
    except DataError:
        return ()  # which reading the drawings reports


def form_of_settings(source: Source, options: DataOptions, problems: list[Problem]) -> SubmissionForm | None:
    """Decide the form by `submission.columns`, `submission.labels` and `submission.id`.

    Args:
        source: The test drawings, classes and tables; rows are in the drawings' order.
        options: How the data are read; its `submission` has the settings.
        problems: What is wrong is appended.

    Returns:
        The form; None if there is an error.
    """
    own, texts, ranks = list[Problem](), source.texts(options), dict[int, tuple[int, ...]]()
    headings, by_class = _class_columns(source, options, own)
    reading = None if by_class else _named_reading(texts, options, own)
    if not by_class:
        ranks = _last_columns(headings, 1 if reading is None else reading.depth)
    if reading is not None and reading.kind == "underscored" and len(ranks) > 1:
        reading = replace(reading, kind="name")  # a cell of its own needs no underscores
    firsts = [place for place in range(len(headings)) if place not in by_class and place not in ranks]
    ids = _made_ids(headings, firsts, source, options, own)
    problems += own
    if any(problem.severity == "error" for problem in own):
        return None
    reading = reading or Reading("name")
    columns = [
        FormColumn(heading, ids[place].names, id_setting=ids[place].setting)
        if place in ids
        else FormColumn(heading, None, ranks.get(place, ()), by_class.get(place))
        for place, heading in enumerate(headings)
    ]
    words = [f"{headings[place]} = {kind.words}" for place, kind in ids.items()]
    words += [f"{headings[place]} = {answer_words(reading.kind, own_ranks)}" for place, own_ranks in ranks.items()]
    return SubmissionForm(
        tuple(columns),
        tuple(source.test.image_paths.tolist()),
        dict(zip(source.classes.names, texts.texts(reading.kind), strict=True)),
        reading.separator,
        summary=f"as the settings say: {', '.join([*words, *probability_words(by_class)])}",
    )


def _class_columns(source: Source, options: DataOptions, problems: list[Problem]) -> tuple[tuple[str, ...], dict[int, str]]:
    """The whole header, and the class of each column of probabilities by its place."""
    headings, names = options.submission.columns or (), source.classes.names
    if options.submission.labels != PROBABILITIES:
        return headings, {}
    stub = Sample("submission.columns", headings, (("",),) * len(headings), CsvStyle())
    matched = match_headings(stub, source.texts(options), problems)
    if matched is not None:
        return headings, matched
    return (*headings, *names), {len(headings) + place: name for place, name in enumerate(names)}


def _named_reading(texts: ClassTexts, options: DataOptions, problems: list[Problem]) -> Reading | None:
    """How classes stand in the last columns."""
    settings = options.submission
    if settings.labels == PROBABILITIES:
        return None
    is_number = settings.columns is not None and settings.columns[-1] == options.target_column
    labels = settings.labels or ("number" if is_number else "name")
    return named_reading(labels, is_number, (), texts, "submission.labels", problems)


def _last_columns(headings: Sequence[str], depth: int) -> dict[int, tuple[int, ...]]:
    """The columns that name classes: the last one, or as many as there are ranks if their headings count them."""
    last = range(len(headings) - depth, len(headings))
    stub = Sample("", tuple(headings), (), CsvStyle())
    if depth > 1 and last[0] > 0 and ranked_places(stub, last):
        return {place: (rank,) for rank, place in enumerate(last)}
    return {len(headings) - 1: tuple(range(depth))}


def _made_ids(
    headings: Sequence[str], places: Sequence[int], source: Source, options: DataOptions, problems: list[Problem]
) -> dict[int, IdKind]:
    """Choose how each column before the answers names the drawings."""
    columns, named = source.id_columns(options), options.submission.id
    kinds = {kind.setting: kind for kind in id_kinds(source.test, source.root, columns)}
    has_path = any(headings[place] == options.path_column for place in places)
    ids: dict[int, IdKind] = {}
    for place in places:
        heading = headings[place]
        is_first = place == next((other for other in places if headings[other] != options.path_column), None)
        setting = named if is_first and named is not None else heading if heading in columns else None
        if setting is None and heading == options.path_column:
            setting = "path"
        if setting is None and is_first:
            setting = "row" if has_path else "name"
        if setting is None:
            text = f"column {heading!r} is no id, nor {options.path_column!r}, nor a column of the test table. Leave it out."
            problems.append(Problem("submission_columns", "submission.columns", text))
        elif setting in kinds:
            ids[place] = kinds[setting]
        else:
            problems.append(unknown_kind(setting, [*kinds.values()]))
    if not places:
        text = f"got {','.join(headings)}, which has no column that names the drawings. Put one first: `id,label`."
        problems.append(Problem("submission_columns", "submission.columns", text))
    return ids


def propose_settings(options: DataOptions, train_table: Path | None) -> str:
    """Say how another form of submission is had where the data have no sample.

    Args:
        options: The user's options, with the section `submission`.
        train_table: The table of the training drawings, whose headings contests often use again; None for class folders.
    """
    header = () if train_table is None else header_of(train_table)
    label = options.label_column if options.label_column in header else "label"
    name = options.path_column if options.path_column in header else "id"
    return (
        "ID,image_path,target; there is no sample submission, so another form is set like this: "
        f"submission.columns={name},{label} submission.labels=name (or number, probabilities, top3)"
    )


def probability_words(by_class: Mapping[int, str]) -> list[str]:
    """Say in words that columns hold probabilities; nothing where none do."""
    return [f"{len(by_class)} columns = the probability of each class"] if by_class else []
