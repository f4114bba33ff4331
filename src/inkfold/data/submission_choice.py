"""Decides how the submission is written, from a sample submission or, where there is none, from the settings.

A sample's header and cells are compared with the test drawings and the classes. What they leave open is an error that names the
candidates and the setting that decides; nothing is guessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from inkfold.data.labels import Classes
from inkfold.data.submission import read_sample
from inkfold.data.submission_form import CsvStyle, FormColumn, SubmissionForm
from inkfold.data.submission_headings import match_headings, ranked_places
from inkfold.data.submission_ids import ANSWER_HEADINGS, IdColumn, find_ids, id_kinds
from inkfold.data.submission_labels import (
    ClassTexts,
    Reading,
    answer_words,
    choose_reading,
    read_cells,
)
from inkfold.data.submission_sample import Sample, find_sample, read_sample_file
from inkfold.data.submission_settings import PROBABILITIES, Source, form_of_settings, probability_words
from inkfold.data.tables import quoted
from inkfold.data.types import DataOptions, Drawings, SampleSubmission
from inkfold.errors import DataError, Problem

SHOWN_COLUMNS = 6


def decide_submission(
    root: Path,
    tables: Mapping[str, Path | None],
    test: Drawings | None,
    classes: Classes,
    options: DataOptions,
    problems: list[Problem],
) -> tuple[SampleSubmission | None, SubmissionForm | None]:
    """Decide how the submission is written.

    Args:
        root: Absolute path of the folder of drawings.
        tables: Paths of the tables `train` and `test`; None where folders list the drawings.
        test: The test drawings; None if there are none.
        classes: The classes of the training drawings.
        options: How the data are read; its `submission` has the settings.
        problems: What is wrong or not clear is appended.

    Returns:
        The sample's columns where it has inkfold's own form (an id, image paths and class numbers), and the form where it has
        another; both None for the usual columns ID, image_path and target.
    """
    settings, folders = options.submission, [root, *(table.parent for table in tables.values() if table is not None)]
    path = find_sample(folders, settings.sample, problems)
    if test is None or not len(test) or not classes.names:
        if test is None and (path is not None or settings.columns is not None):
            problems.append(_no_test(root, "submission" if path is None else path.name))
        return None, None
    source = Source(root, tables["train"], tables["test"], test, classes)
    if settings.columns is not None:
        if path is not None:
            text = "isn't used, since `submission.columns` says the form. Leave that out to take the sample's."
            problems.append(Problem("unused_sample", path.name, text, "warning"))
        return None, form_of_settings(source, options, problems)
    if path is None:
        if settings.labels is not None or settings.id is not None:
            text = "there is no sample submission, so the header must be given too: `submission.columns=id,label`."
            problems.append(Problem("missing_columns", "submission", text))
        return None, None
    try:
        sample = read_sample_file(path, source.texts(options).all_texts)
    except DataError as error:
        problems += error.problems
        return None, None
    if _is_usual(sample, options):
        return read_sample(path, test, options, problems), None
    return None, form_of_sample(sample, source, options, problems)


def _no_test(root: Path, where: str) -> Problem:
    text = "there are no test drawings, so no submission is written. Name them: `data.test_table=FILE`"
    if (root / "test").is_dir():
        text += ", or `data.layout=competition` for those in test/"
    return Problem("no_test_drawings", where, f"{text}.", "warning")


def _has_usual_columns(sample: Sample, options: DataOptions) -> bool:
    own = {options.path_column, options.target_column}
    return own <= {*sample.headings} and len({*sample.headings}) == len(sample.headings) <= 3


def _is_usual(sample: Sample, options: DataOptions) -> bool:
    """Whether it has image paths, class numbers and maybe an id, in a file as inkfold writes it."""
    settings = options.submission
    if not _has_usual_columns(sample, options) or settings.labels is not None or settings.id is not None:
        return False
    targets = sample.columns[sample.headings.index(options.target_column)]
    plain = replace(CsvStyle(), header_line=",".join(sample.headings), quoted=(False,) * len(sample.headings))
    return sample.style == plain and all(not cell or cell.isdecimal() for cell in {*targets})


def form_of_sample(sample: Sample, source: Source, options: DataOptions, problems: list[Problem]) -> SubmissionForm | None:
    """Decide the form by a sample submission.

    Args:
        sample: The sample submission, as read.
        source: The test drawings, classes and tables.
        options: How the data are read; `submission.labels` and `submission.id` decide what the sample leaves open.
        problems: What is wrong or not clear is appended.

    Returns:
        The form; None if there is an error.
    """
    own, texts, settings = list[Problem](), source.texts(options), options.submission
    wants_text = settings.labels not in (None, PROBABILITIES)
    by_class = None if wants_text else match_headings(sample, texts, own)
    if by_class is None and settings.labels == PROBABILITIES:
        text = f"has no columns called after the classes, such as {quoted(source.classes.names, 3)}. Its columns are "
        own.append(Problem("sample_classes", sample.name, f"{text}{quoted(sample.headings, SHOWN_COLUMNS)}. Correct them."))
    places = [place for place in range(len(sample.headings)) if not by_class or place not in by_class]
    kinds = id_kinds(source.test, source.root, source.id_columns(options))
    ids = find_ids(sample, places, kinds, settings.id, has_order=source.test_table is not None, problems=own)
    ranks: dict[int, tuple[int, ...]] = {}
    reading = Reading("name")
    if by_class is None and settings.labels != PROBABILITIES:
        answers = _answers(sample, places, ids, texts, options, own)
        ranks, reading = answers if answers is not None else (ranks, reading)
    elif by_class and ids is not None:
        own += _extra_columns(sample, places, ids)
    problems += own
    if ids is None or any(problem.severity == "error" for problem in own):
        return None
    return _filled(sample, source, ids, by_class or {}, ranks, reading, options)


def _extra_columns(sample: Sample, places: Sequence[int], ids: IdColumn) -> list[Problem]:
    extra = [sample.headings[place] for place in places if place not in {*ids.candidates, *ids.row_numbers}]
    if not extra:
        return []
    text = f"has {len(extra)} column(s) that are neither ids nor classes: {quoted(extra, 5)}. Remove them, or train on them."
    return [Problem("sample_classes", sample.name, text)]


def _answers(
    sample: Sample,
    places: Sequence[int],
    ids: IdColumn | None,
    texts: ClassTexts,
    options: DataOptions,
    problems: list[Problem],
) -> tuple[dict[int, tuple[int, ...]], Reading] | None:
    """Find the columns that name classes, and how: their ranks by place; None if that isn't clear."""
    names = () if ids is None else ids.candidates
    left = [place for place in places if place not in names] if ids is not None else [*places][1:]
    if ids is not None and len(left) > 1:
        left = [place for place in left if place not in ids.row_numbers] or left
    if not left or (ids is None and len(left) > 1):
        if ids is not None:
            text = f"has no column for the answer beside its ids; its columns are {quoted(sample.headings, SHOWN_COLUMNS)}."
            problems.append(Problem("sample_columns", sample.name, f"{text} Write the header: `submission.columns=id,label`."))
        return None
    columns, settings = (options.label_column, options.target_column), options.submission
    if len(left) > 1 and ranked_places(sample, left):
        cells = tuple(cell for place in left for cell in sample.columns[place])
        whole = replace(sample, headings=(sample.headings[left[0]],), columns=(cells,))
        single = settings.labels if settings.labels in ("name", "number") else None
        reading = choose_reading(whole, 0, texts, single, columns, problems)
        return None if reading is None else ({place: (rank,) for rank, place in enumerate(left)}, reading)
    chosen = left[0] if len(left) == 1 else _answer_column(sample, left, texts, columns, problems)
    if chosen is None:
        return None
    reading = choose_reading(sample, chosen, texts, settings.labels, columns, problems)
    return None if reading is None else ({chosen: tuple(range(reading.depth))}, reading)


def _answer_column(
    sample: Sample, places: Sequence[int], texts: ClassTexts, columns: tuple[str, str], problems: list[Problem]
) -> int | None:
    """Choose the column with the answer of several: by the training table's headings, by cells that are classes, by its own."""
    headed = [place for place in places if sample.headings[place] in columns]
    readable = [place for place in places if read_cells(sample.columns[place], texts)]
    called = [place for place in places if sample.headings[place].casefold() in ANSWER_HEADINGS]
    chosen = next((some[0] for some in (headed, readable, called) if len(some) == 1), None)
    which = quoted([sample.headings[place] for place in places if place != chosen], SHOWN_COLUMNS)
    if chosen is None:
        text = f"which of the columns {which} has the answer isn't clear. Write the header: `submission.columns=id,label`."
        problems.append(Problem("sample_columns", sample.name, text))
        return None
    text = f"the column(s) {which} are neither ids nor answers; their cells are copied from the sample. Check them."
    problems.append(Problem("sample_columns", sample.name, text, "warning"))
    return chosen


def _filled(
    sample: Sample,
    source: Source,
    ids: IdColumn,
    by_class: Mapping[int, str],
    ranks: Mapping[int, tuple[int, ...]],
    reading: Reading,
    options: DataOptions,
) -> SubmissionForm:
    """Put the form together; rows are in the sample's order, or the test table's where the columns are the usual ones."""
    order = np.arange(sample.rows)
    if _has_usual_columns(sample, options):
        order = np.argsort(ids.rows, kind="stable")
    columns = []
    for place, (heading, cells) in enumerate(zip(sample.headings, sample.columns, strict=True)):
        fixed = None if place in by_class or place in ranks else tuple(cells[row] for row in order.tolist())
        columns.append(FormColumn(heading, fixed, ranks.get(place, ()), by_class.get(place)))
    words = [f"{sample.headings[ids.place]} = {ids.kind.words}"]
    words += [f"{sample.headings[place]} = {answer_words(reading.kind, own)}" for place, own in ranks.items()]
    return SubmissionForm(
        tuple(columns),
        tuple(source.test.image_paths[ids.rows[order]].tolist()),
        dict(zip(source.classes.names, source.texts(options).texts(reading.kind), strict=True)),
        reading.separator,
        sample.style,
        f"as {sample.name}: {', '.join([*words, *probability_words(by_class)])}",
        from_sample=True,
    )
