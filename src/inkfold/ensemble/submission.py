"""The format of an ensemble's submission: the rows, ids and columns of a member's submission, or of the data's sample."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64, Shaped

from inkfold.data.submission_form import SubmissionForm, read_form
from inkfold.data.types import DataOptions, Dataset
from inkfold.ensemble.member_predictions import path_keys
from inkfold.evaluation.predictions import SUBMISSION_COLUMNS, SubmissionPart, submission_columns, write_submission
from inkfold.pipeline.run_files import SUBMISSION_FORM


@dataclass(frozen=True, slots=True)
class SubmissionFormat:
    """The columns, rows and ids of a submission.

    Attributes:
        class_targets: The number that stands for each class in the submission, by class id.
        columns: Name and content of each column, in order.
        paths: The image path of each row; None takes the drawings in the order in which they are predicted.
        ids: The id of each row; None counts from 0.
        form: How the submission is written where it has other columns than an id, image paths and class numbers; `columns`,
            `paths` and `ids` are then without meaning.
    """

    class_targets: Int64[np.ndarray, " classes"]
    columns: Mapping[str, SubmissionPart] = field(default_factory=lambda: dict(SUBMISSION_COLUMNS))
    paths: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None
    form: SubmissionForm | None = None

    def write_probs(
        self,
        path: Path,
        image_paths: Shaped[np.ndarray, " n"],
        probs: Float[np.ndarray, "n classes"],
        class_names: Sequence[str],
        preds: Int64[np.ndarray, " n"] | None = None,
    ) -> None:
        """Write class probabilities as a submission, which may hold them or only what they say.

        Args:
            path: The file; it is replaced when it exists.
            image_paths: Image paths of the same drawings as the submission has, in any order and spelling.
            probs: Class probabilities of each drawing, in the order of the paths.
            class_names: The classes in the order of the columns of `probs`.
            preds: The class that each drawing is given, where the submission names one; None takes the most probable one.
        """
        if self.form is None:
            self.write(path, image_paths, probs.argmax(1) if preds is None else preds)
            return
        row_of = {key: row for row, key in enumerate(path_keys(image_paths.tolist()))}
        rows = np.array([row_of[key] for key in path_keys(self.form.image_paths)], np.int64)
        self.form.write(path, rows, probs, class_names, preds)

    def write(self, path: Path, image_paths: Shaped[np.ndarray, " n"], preds: Int64[np.ndarray, " n"]) -> None:
        """Write predicted classes as a submission with an id, image paths and class numbers.

        Args:
            path: The file; it is replaced when it exists.
            image_paths: Image paths of the same drawings as `paths`, in any order and spelling.
            preds: Predicted class id of each drawing, from 0, in the order of the paths.
        """
        if self.paths is not None:
            row_of = {key: row for row, key in enumerate(path_keys(image_paths.tolist()))}
            preds = preds[[row_of[key] for key in path_keys(self.paths)]]
            image_paths = np.array(self.paths, np.dtypes.StringDType())
        write_submission(path, image_paths, self.class_targets[preds], self.class_targets, self.ids, self.columns)


def format_of_submission(
    submission: Path, path_column: str, target_column: str, class_targets: Int64[np.ndarray, " classes"]
) -> SubmissionFormat:
    """Take the format of a submission that inkfold wrote: the form that lies beside it, else what its columns show.

    Args:
        submission: The file; if neither it nor a form exists, the format is inkfold's own.
        path_column: The data's name for the column of image paths.
        target_column: The data's name for the column of class numbers.
        class_targets: The number that stands for each class, by class id.

    Raises:
        PredictionError: If the form beside it isn't readable.
    """
    form = read_form(submission.with_name(SUBMISSION_FORM))
    if form is not None:
        return SubmissionFormat(class_targets, form=form)
    if not submission.is_file():
        return SubmissionFormat(class_targets)
    with submission.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    # without a sample the columns have inkfold's names, whatever the data's are called
    columns = SUBMISSION_COLUMNS if header == [*SUBMISSION_COLUMNS] else submission_columns(header, path_column, target_column)
    parts = [*columns.values()]
    values = {part: tuple(row[parts.index(part)] for row in rows) for part in parts}
    return SubmissionFormat(class_targets, columns, values["path"], values.get("id"))


def format_of_data(dataset: Dataset, options: DataOptions, class_names: Sequence[str]) -> SubmissionFormat:
    """Take the format of the data's sample submission, or inkfold's own, with the test table's rows.

    Args:
        dataset: The data, with or without a sample submission.
        options: The options that the data were read with; they name the submission's columns.
        class_names: Class names, in the order of the class ids.
    """
    targets = dataset.class_targets[[dataset.class_names.index(name) for name in class_names]]
    if dataset.test is None:
        return SubmissionFormat(targets)
    paths, sample = tuple(dataset.test.image_paths.tolist()), dataset.sample_submission
    if dataset.submission is not None:
        return SubmissionFormat(targets, form=dataset.submission)
    if sample is None:
        return SubmissionFormat(targets, paths=paths)
    columns = submission_columns(sample.columns, options.path_column, options.target_column)
    return SubmissionFormat(targets, columns, paths, tuple(sample.ids.tolist()))
