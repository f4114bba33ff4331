"""Measures a run's predictions, and writes its files: heads, predictions, metrics, training curve, submission."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inkfold.augment.curriculum import Curriculum
from inkfold.config.recipe import Recipe
from inkfold.data.types import Dataset
from inkfold.evaluation.metrics import mcnemar, measure, paired_difference, wilson_interval
from inkfold.evaluation.predictions import (
    SUBMISSION_COLUMNS,
    Predictions,
    is_worth_reporting,
    submission_columns,
    write_submission,
)
from inkfold.evaluation.tensorboard import EVENTS, FOLD_EVENTS, write_events
from inkfold.pipeline.prepare import Prepared
from inkfold.pipeline.run import HEADS
from inkfold.pipeline.run_dir import write_heads
from inkfold.pipeline.run_files import CORRECTIONS, CURVE, METRICS, OUT_OF_FOLD, SUBMISSION, SUBMISSION_FORM, TEST
from inkfold.storage.files import write_bytes, write_json

if TYPE_CHECKING:
    from inkfold.finetune.train_folds import FinetunedFolds
    from inkfold.heads.fit import FittedHeads


@dataclass(frozen=True, slots=True)
class Results:
    """The fitted heads of a run, and their predictions.

    Attributes:
        num_folds: How many folds were trained: 1 for a holdout.
        fitted: The heads of all folds, with their training curve.
        out_of_fold: Predictions of each drawing by the fold that held it out.
        test: Predictions of the test drawings; None without a test table.
        without_tta: Out-of-fold predictions without test-time views; None if the recipe has none.
        frozen: Out-of-fold predictions of the heads on the frozen backbone, without test-time views; None if nothing was
            fine-tuned.
        finetuned: The fine-tuned folds; None if nothing was fine-tuned.
        split_apart: Out-of-fold predictions with folds that split copies of a drawing apart; None if they would split none.
        reading: How pages are read, and why, as `Reading.about`; None where the recipe leaves nothing of it open.
    """

    num_folds: int
    fitted: "FittedHeads"
    out_of_fold: Predictions
    test: Predictions | None
    without_tta: Predictions | None
    frozen: Predictions | None = None
    finetuned: "FinetunedFolds | None" = None
    split_apart: Predictions | None = None
    reading: Mapping[str, Any] | None = None


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
    if test is None:
        return files
    test.save(out / TEST)
    return [*files, TEST, *_write_submission(out, recipe, dataset, test)]


def _write_submission(out: Path, recipe: Recipe, dataset: Dataset, test: Predictions) -> list[str]:
    """Write the submission in the form that the data or the recipe ask for; return the files' names."""
    if dataset.submission is not None:
        row_of = {path: row for row, path in enumerate(test.image_paths.tolist())}
        rows = np.array([row_of[path] for path in dataset.submission.image_paths], np.int64)
        dataset.submission.write(out / SUBMISSION, rows, test.probs, test.class_names)
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


def run_metrics(recipe: Recipe, prepared: Prepared, results: Results) -> dict[str, Any]:
    """Measure all predictions of a run.

    Args:
        recipe: Names the split and the test-time views.
        prepared: The drawings that the run was trained and tested on, with those left out as broken.
        results: The fitted heads and their predictions.

    Returns:
        The content of `metrics.json`.
    """
    out_of_fold, test = results.out_of_fold, results.test
    assert out_of_fold.targets is not None
    metrics: dict[str, Any] = {
        "data": {
            "n_train": len(prepared.rows),
            "n_test": 0 if test is None else len(test.probs),
            "num_classes": len(out_of_fold.class_names),
            "skipped": prepared.skipped,
            "blank": {"train": len(prepared.blank.left_out), "test": len(prepared.blank.test)},
            **_corrections(prepared.read.dataset),
        },
        "split": recipe.folds.split,
        "out_of_fold": measure(out_of_fold.probs, out_of_fold.targets, out_of_fold.class_names),
        "folds": _fold_metrics(out_of_fold, results.num_folds, len(prepared.rows)),
    }
    if results.reading is not None:
        metrics["reading"] = dict(results.reading)
    if (selection := results.fitted.selection) is not None:
        metrics["selection"] = {**asdict(selection), "epochs": list(selection.epochs), "optimism": selection.optimism}
    if results.without_tta is not None:
        metrics["tta"] = {"views": list(recipe.tta), **_gain(results.without_tta, out_of_fold)}
    if results.split_apart is not None:
        metrics["duplicates"] = _optimism_of_copies(prepared, out_of_fold, results.split_apart)
    if (seen := measure_seen(out_of_fold)) is not None:
        metrics["learnt_by_backbone"] = seen
    if results.frozen is not None and results.finetuned is not None:
        metrics["finetune"] = _gain_of_finetuning(results.frozen, results.without_tta or out_of_fold, results.finetuned)
    if test is not None and test.targets is not None:
        metrics["test"] = measure(test.probs, test.targets, test.class_names)
    return metrics


def _corrections(dataset: Dataset) -> dict[str, Any]:
    """Say what the user's decisions on labels changed; nothing without any."""
    return {} if dataset.corrected is None else {"corrections": dataset.corrected.as_json()}


def _fold_metrics(out_of_fold: Predictions, num_folds: int, num_drawings: int) -> list[dict[str, Any]]:
    """Measure each fold that held a drawing out."""
    assert out_of_fold.targets is not None
    assert out_of_fold.folds is not None
    metrics = []
    for fold in range(num_folds):
        rows = out_of_fold.folds == fold
        if rows.any():
            figures = measure(out_of_fold.probs[rows], out_of_fold.targets[rows])
            metrics.append({"fold": fold, "n_train": int(num_drawings - rows.sum()), **figures})
    return metrics


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


def _gain_of_finetuning(frozen: Predictions, finetuned: Predictions, folds: "FinetunedFolds") -> dict[str, Any]:
    """Compare the accuracies of the frozen and the fine-tuned backbones, both without test-time views."""
    gain = _gain(frozen, finetuned)
    figures: dict[str, Any] = {
        "frozen_accuracy": gain["accuracy_without"],
        "accuracy": gain["accuracy_with"],
        "p_value": gain["p_value"],
    }
    if (interpolation := folds.interpolation) is not None:
        figures["interpolation"] = {**asdict(interpolation), "optimism": interpolation.optimism}
    return figures


def _optimism_of_copies(prepared: Prepared, grouped: Predictions, split_apart: Predictions) -> dict[str, Any]:
    """Measure how optimistic folds are that split copies apart: over all drawings, and over the copies alone."""
    assert prepared.duplicates is not None
    groups = prepared.duplicates[np.argsort(prepared.rows)]  # in the predictions' order
    copied = np.bincount(groups, minlength=len(groups))[groups] > 1
    figures: dict[str, Any] = {"groups": len(np.unique(groups[copied])), "drawings": int(copied.sum())}
    correct = {"parted": split_apart.preds == grouped.targets, "grouped": grouped.preds == grouped.targets}
    for name, rows in correct.items():
        figures[name] = {
            "accuracy": float(rows.mean()),
            "accuracy_ci95": list(wilson_interval(int(rows.sum()), len(rows))),
            "accuracy_of_copies": float(rows[copied].mean()),
        }
    return {**figures, **paired_difference(correct["parted"], correct["grouped"])}


def measure_seen(out_of_fold: Predictions) -> dict[str, Any] | None:
    """Measure the held-out drawings that the backbone was pretrained on apart from those that are new to it.

    Args:
        out_of_fold: Predictions with true classes, marked where the backbone was pretrained on the drawing.

    Returns:
        JSON values: `drawings`, the number of seen ones; `of`, the number of all; and for `learnt` (seen) and `new`, n and
        accuracy with its 95 % interval, or None if there are no such drawings. None if no drawing is known to have been seen.
    """
    seen = out_of_fold.seen
    if seen is None or not seen.any():
        return None
    correct = out_of_fold.preds == out_of_fold.targets
    figures: dict[str, Any] = {"drawings": int(seen.sum()), "of": len(seen)}
    for name, rows in (("learnt", seen), ("new", ~seen)):
        n, hits = int(rows.sum()), int(correct[rows].sum())
        figures[name] = {"n": n, "accuracy": hits / n, "accuracy_ci95": list(wilson_interval(hits, n))} if n else None
    return figures


def warn_of_seen(out_of_fold: Predictions) -> list[str]:
    """Write a warning if a backbone is evaluated on drawings that it was pretrained on.

    Args:
        out_of_fold: Predictions with true classes, marked where the backbone was pretrained on the drawing.

    Returns:
        One warning; none if so few drawings were seen that they make no difference.
    """
    figures = measure_seen(out_of_fold)
    if figures is None or not is_worth_reporting(figures["drawings"], figures["of"]):
        return []
    advice = "Evaluate it on a test set that its weights were not trained on"
    if (new := figures["new"]) is not None:
        low, high = new["accuracy_ci95"]
        advice = (
            f"On the {new['n']:,} others it is {new['accuracy']:.3f} ({low:.3f}-{high:.3f}); a test set is the best measure"
        )
    return [
        f"the backbone's weights were trained on {figures['drawings']:,} of these {figures['of']:,} held-out drawings, and the "
        f"accuracy of {figures['learnt']['accuracy']:.3f} on them is optimistic. {advice}. backbone.name chooses other weights."
    ]


def warn_of_choices(results: Results) -> list[str]:
    """Write a warning for each choice that was made by the same drawings that the accuracy is measured on.

    Args:
        results: Has the selection of epochs, and of how far fine-tuned weights are interpolated.

    Returns:
        The warnings; none for a choice that isn't optimistic.
    """
    choices = {
        "the epochs that are kept (keep=best)": results.fitted.selection,
        "the shares of the way to the trained weights (finetune.interpolate)": (
            None if results.finetuned is None else results.finetuned.interpolation
        ),
    }
    return [
        f"{name} were chosen by the held-out drawings, whose accuracy is optimistic by {choice.optimism:.4f}: "
        f"on new drawings expect {choice.nested_accuracy:.4f}"
        for name, choice in choices.items()
        if choice is not None and choice.optimism > 0
    ]


def _gain(before: Predictions, after: Predictions) -> dict[str, Any]:
    """Compare two accuracies on the same drawings, and test whether they differ."""
    before_correct = before.preds == before.targets
    after_correct = after.preds == before.targets
    return {
        "accuracy_without": float(before_correct.mean()),
        "accuracy_with": float(after_correct.mean()),
        "p_value": mcnemar(before_correct, after_correct),
    }
