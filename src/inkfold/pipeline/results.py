"""What a run found, as files: heads, predictions, metrics, the training curve, the submission."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inkfold.augment.curriculum import Curriculum
from inkfold.config.recipe import Recipe
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
from inkfold.pipeline.run_files import CURVE, METRICS, OUT_OF_FOLD, SUBMISSION, TEST
from inkfold.storage.files import write_json

if TYPE_CHECKING:
    from inkfold.finetune.train_folds import FinetunedFolds
    from inkfold.heads.fit import FittedHeads


@dataclass(frozen=True, slots=True)
class Results:
    """What was fitted and predicted.

    Attributes:
        folds: How many.
        fitted: The heads of all folds.
        out_of_fold: What they say of drawings that they have not seen.
        test: What they say of the test drawings; None without any.
        plain: Out of fold without test-time views; None where there are none.
        before: Out of fold by heads on the frozen backbone, drawings as they are; None where nothing was fine-tuned.
        tuned: What became of the fine-tuning.
        parted: Out of fold with folds that part copies of one drawing; None where none are parted.
    """

    folds: int
    fitted: "FittedHeads"
    out_of_fold: Predictions
    test: Predictions | None
    plain: Predictions | None
    before: Predictions | None = None
    tuned: "FinetunedFolds | None" = None
    parted: Predictions | None = None


def write_results(out: Path, recipe: Recipe, curriculum: Curriculum, prepared: Prepared, results: Results) -> list[str]:
    """Write all files but the cost and the manifest.

    Args:
        out: The run's directory.
        recipe: Its recipe.
        curriculum: Its epochs.
        prepared: Its drawings.
        results: What was found.

    Returns:
        The files' names below the directory.
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
    if results.tuned is not None:
        files += [FOLD_EVENTS.format(fold) for fold in range(results.folds)]
    if test is None:
        return files
    test.save(out / TEST)
    sample = dataset.sample_submission
    ids = None if sample is None else sample.ids.tolist()
    columns = SUBMISSION_COLUMNS
    if sample is not None:
        columns = submission_columns(sample.columns, recipe.data.path_column, recipe.data.target_column)
    values = dataset.class_targets[test.preds]
    write_submission(out / SUBMISSION, test.image_paths, values, dataset.class_targets, ids, columns)
    return [*files, TEST, SUBMISSION]


def run_metrics(recipe: Recipe, prepared: Prepared, results: Results) -> dict[str, Any]:
    """Measure everything.

    Args:
        recipe: Its split and test-time views.
        prepared: The drawings.
        results: What was predicted of them.

    Returns:
        JSON values.
    """
    out_of_fold, test = results.out_of_fold, results.test
    assert out_of_fold.targets is not None
    assert out_of_fold.folds is not None
    folds = []
    for fold in range(results.folds):
        rows = out_of_fold.folds == fold
        if rows.any():
            figures = measure(out_of_fold.probs[rows], out_of_fold.targets[rows])
            held_out = len(rows) if recipe.folds.split == "kfold" else len(prepared.rows)
            folds.append({"fold": fold, "n_train": int(held_out - rows.sum()), **figures})
    metrics = {
        "data": {
            "n_train": len(prepared.rows),
            "n_test": 0 if test is None else len(test.probs),
            "num_classes": len(out_of_fold.class_names),
            "skipped": prepared.skipped,
        },
        "split": recipe.folds.split,
        "out_of_fold": measure(out_of_fold.probs, out_of_fold.targets, out_of_fold.class_names),
        "folds": folds,
    }
    if (selection := results.fitted.selection) is not None:
        metrics["selection"] = {**asdict(selection), "epochs": list(selection.epochs), "optimism": selection.optimism}
    if results.plain is not None:
        metrics["tta"] = {"views": list(recipe.tta), **_gain(results.plain, out_of_fold)}
    if results.parted is not None and prepared.duplicates is not None:
        metrics["duplicates"] = _flattery(prepared, out_of_fold, results.parted)
    if (told := measure_seen(out_of_fold)) is not None:
        metrics["learnt_by_backbone"] = told
    if results.before is not None and results.tuned is not None:
        metrics["finetune"] = _finetune(results.before, results.plain or out_of_fold, results.tuned)
    if test is not None and test.targets is not None:
        metrics["test"] = measure(test.probs, test.targets, test.class_names)
    return metrics


def curve_json(curriculum: Curriculum, fitted: "FittedHeads") -> dict[str, Any]:
    """Give the training curve with its stages as JSON values."""
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


def _finetune(before: Predictions, after: Predictions, tuned: "FinetunedFolds") -> dict[str, Any]:
    """Say what fine-tuning gave, drawings as they are."""
    gain = _gain(before, after)
    told = {"frozen_accuracy": gain["accuracy_without"], "accuracy": gain["accuracy_with"], "p_value": gain["p_value"]}
    if (way := tuned.interpolation) is not None:
        told["interpolation"] = {**asdict(way), "optimism": way.optimism}
    return told


def _flattery(prepared: Prepared, grouped: Predictions, parted: Predictions) -> dict[str, Any]:
    """Say by how much folds that part copies flatter: over all drawings, and over the copies alone."""
    assert prepared.duplicates is not None
    assert grouped.targets is not None
    groups = prepared.duplicates[np.argsort(prepared.rows)]  # in the predictions' order
    copied = np.bincount(groups, minlength=len(groups))[groups] > 1
    told: dict[str, Any] = {"groups": len(np.unique(groups[copied])), "drawings": int(copied.sum())}
    right = {name: one.preds == grouped.targets for name, one in (("parted", parted), ("grouped", grouped))}
    for name, rows in right.items():
        interval = list(wilson_interval(int(rows.sum()), len(rows)))
        of_copies = float(rows[copied].mean())
        told[name] = {"accuracy": float(rows.mean()), "accuracy_ci95": interval, "accuracy_of_copies": of_copies}
    return {**told, **paired_difference(right["parted"], right["grouped"])}


def measure_seen(out_of_fold: Predictions) -> dict[str, Any] | None:
    """Measure the held-out drawings that the backbone's weights learnt from apart from those that are new to it.

    Args:
        out_of_fold: With true classes, and which drawings the weights learnt from.

    Returns:
        JSON values: drawings, of, and for `learnt` and `new` n and accuracy with its 95 % interval, None without any; None
        where the weights learnt from none of them, or nobody says.
    """
    if out_of_fold.seen is None or not out_of_fold.seen.any():
        return None
    right, learnt = out_of_fold.preds == out_of_fold.targets, out_of_fold.seen
    told: dict[str, Any] = {"drawings": int(learnt.sum()), "of": len(learnt)}
    for name, rows in (("learnt", learnt), ("new", ~learnt)):
        n, hits = int(rows.sum()), int(right[rows].sum())
        told[name] = {"n": n, "accuracy": hits / n, "accuracy_ci95": list(wilson_interval(hits, n))} if n else None
    return told


def warn_of_seen(out_of_fold: Predictions) -> list[str]:
    """Say in words that a backbone knows the drawings that it is judged by.

    Args:
        out_of_fold: As above.

    Returns:
        A sentence or two; nothing where too few drawings are known to make a difference.
    """
    told = measure_seen(out_of_fold)
    if told is None or not is_worth_reporting(told["drawings"], told["of"]):
        return []
    honest = "Judge it by a test set that its weights didn't learn from"
    if (new := told["new"]) is not None:
        low, high = new["accuracy_ci95"]
        honest = f"On the {new['n']:,} others it is {new['accuracy']:.3f} ({low:.3f}-{high:.3f}); a test set tells most"
    return [
        f"the backbone's weights learnt from {told['drawings']:,} of these {told['of']:,} held-out drawings, and the "
        f"accuracy of {told['learnt']['accuracy']:.3f} on them flatters. {honest}. backbone.name chooses other weights."
    ]


def warn_of_choices(results: Results) -> list[str]:
    """Say in words that something was chosen by the very drawings that the accuracy is measured on.

    Args:
        results: With the choice of epochs, and of how far fine-tuned weights go.

    Returns:
        A sentence each; nothing where a choice flatters by nothing.
    """
    tuned = results.tuned
    chosen = {
        "the epochs that are kept (keep=best)": results.fitted.selection,
        "the shares of the way to the trained weights (finetune.interpolate)": None if tuned is None else tuned.interpolation,
    }
    return [
        f"{what} were chosen by the held-out drawings, whose accuracy flatters by {one.optimism:.4f}: "
        f"on new drawings expect {one.nested_accuracy:.4f}"
        for what, one in chosen.items()
        if one is not None and one.optimism > 0
    ]


def _gain(before: Predictions, after: Predictions) -> dict[str, Any]:
    """Say what a change did to the accuracy out of fold, and whether it could be chance."""
    assert before.targets is not None
    right: Sequence[np.ndarray] = [predictions.preds == before.targets for predictions in (before, after)]
    return {
        "accuracy_without": float(right[0].mean()),
        "accuracy_with": float(right[1].mean()),
        "p_value": mcnemar(right[0], right[1]),
    }
