"""Reads datasets: drawings with their classes and groups, from the layouts that people store them in.

One rule orders the classes, in every layout: by target value where the table gives one; else, where all class names
are whole numbers, by number; else by the code points of the names (NFC, stripped). Neither the order of rows or
folders nor the locale changes it. Rows are named by their number in the table, from 1, the header not counted.
No drawing is decoded here.

    dataset          read_dataset, and checks of the whole
    layouts          competition | table | folder -> parts
    class_folders    the layout folder: class folders, or labels in file names
    folder_parts     which folders are parts (train, val, test)
    folder_levels    which level of folders names the classes
    label_patterns   labels, groups and ids by the user's regular expression
    grouping         which drawings stay in one fold; proposed by group_proposals, with group_words
    proposals        how else a folder may be read; from name_patterns and table_proposals
    spellings        class names that are probably one class in two spellings
    name_kinds       words, numbers, people, names of parts
    submission       a sample submission of the usual form, the test rows' true targets
    submission_choice  another form: by the sample (submission_sample), its ids (_ids) and answers (_labels), or by settings
    corrections      a user's decisions on labels, applied and written
    types            Drawings, Dataset, DataOptions
    labels           label columns -> class indices
    paths            the files that tables and folders name
    tables           CSV or Parquet -> columns of text
"""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from inkfold.data.corrections import apply_corrections
from inkfold.data.grouping import settle_groups
from inkfold.data.layouts import detect_layout, find_tables, read_parts
from inkfold.data.paths import IMAGE_SUFFIXES, list_images
from inkfold.data.proposals import propose_reading
from inkfold.data.spellings import similar_classes
from inkfold.data.submission import read_test_targets
from inkfold.data.submission_choice import decide_submission
from inkfold.data.types import DataOptions, Dataset, Drawings, Parts, SampleSubmission
from inkfold.errors import DataError, Problem

log = logging.getLogger("inkfold.data")

__all__ = [
    "IMAGE_SUFFIXES",
    "DataOptions",
    "Dataset",
    "Drawings",
    "SampleSubmission",
    "few_drawings",
    "list_images",
    "read_dataset",
    "read_test_targets",
]


def read_dataset(root: str | Path, options: DataOptions | None = None, *, strict: bool = True) -> Dataset:
    """Read a dataset of drawings: a competition's tables, class folders, or any CSV or Parquet table.

    Args:
        root: Path of the directory that holds the tables or class folders, or of one table.
        options: How to read it; None takes the defaults.
        strict: Whether errors are raised; otherwise they are collected in `Dataset.problems` and bad rows are left out.

    Returns:
        The dataset.

    Raises:
        DataError: If the root doesn't exist or doesn't fit the layout; if strict, also if there is any error in the data.
            All problems are reported together.
    """
    options = options or DataOptions()
    place = Path(root)
    # The paths of a linked table start at the link.
    place = place.parent.resolve() / place.name if place.is_file() else place.resolve()
    base = place.parent if place.is_file() else place
    layout = detect_layout(place, options)
    problems: list[Problem] = []
    parts = read_parts(place, layout, options, problems)
    tables = find_tables(place, layout, options)
    sample, form = decide_submission(base, tables, parts.test, parts.classes, options, problems)
    parts = _add_test_targets(base, parts, options, problems)
    grouping = corrected = None
    if not any(problem.severity == "error" for problem in problems):
        parts, grouping = settle_groups(base, parts, layout, options, problems)
    if options.corrections is not None and parts.train.targets is not None:
        parts, corrected = apply_corrections(base / options.corrections, parts, problems)
    if not any(problem.severity == "error" for problem in problems):
        problems += _class_problems(base, parts)
    problems += _similar_classes(parts, layout)
    if layout == "folder":
        unreadable = {"no_images", "single_class"} & {problem.kind for problem in problems}
        problems += propose_reading(base, parts, options, readable=not unreadable)
    if strict and any(problem.severity == "error" for problem in problems):
        raise DataError(problems)
    names, values = parts.classes.names, parts.classes.values
    counts = (len(parts.train), len(names), 0 if parts.test is None else len(parts.test))
    log.info("%s: read as %s, %d training drawings of %d classes, %d test drawings", place, layout, *counts)
    sample = sample or parts.sample
    extra = (form, parts.classes.numbered, grouping, corrected, options, place)
    return Dataset(base, layout, parts.train, parts.test, names, values, sample, tuple(problems), *extra)


def few_drawings(dataset: Dataset, k: int) -> list[Problem]:
    """Warn of classes that have fewer training drawings than there are folds.

    Args:
        dataset: The dataset; drawings of its own validation part aren't counted.
        k: Number of folds, at least 2; with fewer drawings of a class, some fold holds none of it out.

    Returns:
        A warning for every class with fewer than `k` drawings, another kind for those with none.
    """
    train = dataset.train
    assert train.targets is not None
    targets = train.targets if train.given_val is None else train.targets[~train.given_val]
    counts = np.bincount(targets, minlength=len(dataset.class_names))
    problems = []
    for name, count in zip(dataset.class_names, counts, strict=True):
        if count == 0:
            text = "has no usable training drawing, so it can't be trained. Add some or remove the class."
            problems.append(Problem("class_without_drawings", f"class {name!r}", text, "warning"))
        elif count < k:
            text = f"has {count} usable training drawing(s), fewer than the {k} folds. Add some or take fewer folds."
            problems.append(Problem("few_drawings", f"class {name!r}", text, "warning"))
    return problems


def _add_test_targets(base: Path, parts: Parts, options: DataOptions, problems: list[Problem]) -> Parts:
    if options.test_targets is None:
        return parts
    if parts.test is None:
        text = "there are test targets but no test drawings. Name the test table: `data.test_table=FILE`, or leave them out."
        problems.append(Problem("missing_test", options.test_targets, text))
        return parts
    path, columns = base / options.test_targets, (options.path_column, options.target_column)
    try:
        targets = read_test_targets(path, parts.test, parts.classes.values, *columns)
    except DataError as error:
        problems += error.problems
        return parts
    return replace(parts, test=replace(parts.test, targets=targets))


def _class_problems(root: Path, parts: Parts) -> list[Problem]:
    """Report an error if there are fewer than two classes."""
    if not len(parts.train):
        text = (
            "no labelled drawing found, expected a folder for each class, `train.csv`, or a table named by "
            "`data.table=FILE`. Correct the path of the data, or bring them into one of these layouts."
        )
        return [Problem("no_images", str(root), text)]
    present = np.unique(parts.train.targets if parts.train.targets is not None else [])
    if len(present) == 1:
        only = parts.classes.names[int(present[0])]
        text = f"all drawings are of one class, {only!r}, expected two classes at least. Add drawings of another."
        return [Problem("single_class", str(root), text)]
    return []


def _similar_classes(parts: Parts, layout: str) -> list[Problem]:
    if parts.train.targets is None:
        return []
    counts = np.bincount(parts.train.targets, minlength=len(parts.classes.names)).tolist()
    remedy = "rename or merge the folders" if layout == "folder" else "write them alike in the table"
    return similar_classes(parts.classes.names, counts, remedy)
