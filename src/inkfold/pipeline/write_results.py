"""Writes the files of a run: heads, predictions, metrics, training curve, submission."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inkfold.augment.curriculum import Curriculum
from inkfold.config.recipe import Recipe
from inkfold.data.types import Dataset
from inkfold.evaluation.predictions import SUBMISSION_COLUMNS, Predictions, submission_columns, write_submission
from inkfold.evaluation.tensorboard import EVENTS, FOLD_EVENTS, write_events
from inkfold.pipeline.prepare import Prepared
from inkfold.pipeline.results import Results
from inkfold.pipeline.run import HEADS
from inkfold.pipeline.run_dir import write_heads
from inkfold.pipeline.run_files import BY_HEADS, CORRECTIONS, CURVE, METRICS, OUT_OF_FOLD, SUBMISSION, SUBMISSION_FORM, TEST
from inkfold.pipeline.run_metrics import run_metrics
from inkfold.storage.files import write_bytes, write_json

if TYPE_CHECKING:
    from inkfold.heads.fit import FittedHeads


def write_results(out: Path, recipe: Recipe, curriculum: Curriculum, prepared: Prepared, results: Results) -> list[str]:
    """Write all files of a run but the cost and the manifest.

    Args:
        out: The run's directory, which exists; files of an interrupted call are replaced.
        recipe: The recipe that the run was trained by, with nothing left open.
        curriculum: The curriculum of the training whose curve is written.
        prepared: The drawings that the run was trained and tested on.
        results: The fitted heads and their predictions.

    Returns:
        Names of the files, relative to the directory.
    """
    assert results.fitted.heads is not None
    dataset, test = prepared.read.dataset, results.test
    write_heads(out, results.fitted.heads, dataset.class_names)
    results.out_of_fold.save(out / OUT_OF_FOLD)
    write_json(out / METRICS, run_metrics(recipe, prepared, results))
    curve = curve_json(curriculum, results.fitted)
    write_json(out / CURVE, curve)
    write_events(out / EVENTS, curve)
    files = [HEADS, OUT_OF_FOLD, METRICS, CURVE, EVENTS]
    if dataset.corrected is not None:
        write_bytes(out / CORRECTIONS, dataset.corrected.content)
        files.append(CORRECTIONS)
    if results.finetuned is not None:
        files += [FOLD_EVENTS.format(fold) for fold in range(results.num_folds)]
    if results.propagation is not None and results.propagation.by_heads is not None:
        results.propagation.by_heads.save(out / BY_HEADS)
        files.append(BY_HEADS)
    if test is None:
        return files
    test.save(out / TEST)
    return [*files, TEST, *_write_submission(out, recipe, dataset, test)]


def _write_submission(out: Path, recipe: Recipe, dataset: Dataset, test: Predictions) -> list[str]:
    """Write the submission in the form that the data or the recipe ask for; return the files' names."""
    if dataset.submission is not None:
        row_of = {path: row for row, path in enumerate(test.image_paths.tolist())}
        rows = np.array([row_of[path] for path in dataset.submission.image_paths], np.int64)
        dataset.submission.write(out / SUBMISSION, rows, test.probs, test.class_names, test.preds)
        write_json(out / SUBMISSION_FORM, dataset.submission.as_json())
        return [SUBMISSION, SUBMISSION_FORM]
    sample = dataset.sample_submission
    ids, columns = None, SUBMISSION_COLUMNS
    if sample is not None:
        ids = sample.ids.tolist()
        columns = submission_columns(sample.columns, recipe.data.path_column, recipe.data.target_column)
    values = dataset.class_targets[test.preds]
    write_submission(out / SUBMISSION, test.image_paths, values, dataset.class_targets, ids, columns)
    return [SUBMISSION]


def curve_json(curriculum: Curriculum, fitted: "FittedHeads") -> dict[str, Any]:
    """Return the training curve with the curriculum's stages as JSON values."""
    stages = [
        {
            "stage": number,
            "epochs": stage.epochs,
            "augment": [str(operation) for operation in stage.operations],
            "views": stage.views or "per_epoch",
            "lr_factor": stage.lr_factor,
        }
        for number, stage in enumerate(curriculum.stages)
    ]
    points = [
        {"epoch": epoch, "stage": curriculum.stage(epoch), "view": str(curriculum.view(epoch)), **asdict(point)}
        for epoch, point in enumerate(fitted.curve)
    ]
    return {"stages": stages, "epochs": points}
