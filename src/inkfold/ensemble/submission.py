"""What an ensemble's submission looks like: the rows, ids and columns of a member's own, or of the data's sample."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Shaped

from inkfold.data.types import DataOptions, Dataset
from inkfold.ensemble.answers import path_keys
from inkfold.evaluation.predictions import SUBMISSION_COLUMNS, SubmissionPart, submission_columns, write_submission


@dataclass(frozen=True, slots=True)
class SubmissionFormat:
    """What a submission looks like.

    Attributes:
        class_targets: The number of each class.
        columns: Name and content of each, in order.
        paths: The drawing of each row; None takes the drawings as they come.
        ids: The id of each row; None counts from 0.
    """

    class_targets: Int64[np.ndarray, " classes"]
    columns: Mapping[str, SubmissionPart] = field(default_factory=lambda: dict(SUBMISSION_COLUMNS))
    paths: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None

    def write(self, path: Path, image_paths: Shaped[np.ndarray, " n"], preds: Int64[np.ndarray, " n"]) -> None:
        """Write a submission.

        Args:
            path: Replaced when it exists.
            image_paths: The same drawings as the form's, in any order and spelling.
            preds: Each drawing's class id.
        """
        if self.paths is not None:
            row_of = {key: row for row, key in enumerate(path_keys(image_paths.tolist()))}
            preds = preds[[row_of[key] for key in path_keys(self.paths)]]
            image_paths = np.array(self.paths, np.dtypes.StringDType())
        write_submission(path, image_paths, self.class_targets[preds], self.class_targets, self.ids, self.columns)


def form_of_submission(
    submission: Path, path_column: str, target_column: str, class_targets: Int64[np.ndarray, " classes"]
) -> SubmissionFormat:
    """Take the form of a submission that inkfold wrote.

    Args:
        submission: The file; without it the form is the usual one.
        path_column: Its name in the data.
        target_column: Its name in the data.
        class_targets: The number of each class.

    Returns:
        Its columns, and each row's drawing and id.
    """
    if not submission.is_file():
        return SubmissionFormat(class_targets)
    with submission.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    # without a sample the columns have inkfold's names, whatever the data's are called
    columns = SUBMISSION_COLUMNS if header == [*SUBMISSION_COLUMNS] else submission_columns(header, path_column, target_column)
    parts = [*columns.values()]
    found = {part: tuple(row[parts.index(part)] for row in rows) for part in parts}
    return SubmissionFormat(class_targets, columns, found["path"], found.get("id"))


def form_of_data(dataset: Dataset, options: DataOptions, class_names: Sequence[str]) -> SubmissionFormat:
    """Take the form that data ask for.

    Args:
        dataset: With the sample submission, if there is one.
        options: The columns' names.
        class_names: In the order of the class ids.

    Returns:
        The sample's columns and ids, and the test table's rows.
    """
    targets = dataset.class_targets[[dataset.class_names.index(name) for name in class_names]]
    if dataset.test is None:
        return SubmissionFormat(targets)
    paths, sample = tuple(dataset.test.image_paths.tolist()), dataset.sample_submission
    if sample is None:
        return SubmissionFormat(targets, paths=paths)
    columns = submission_columns(sample.columns, options.path_column, options.target_column)
    return SubmissionFormat(targets, columns, paths, tuple(sample.ids.tolist()))
