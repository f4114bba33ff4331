"""Measures a run's predictions, and writes its files: heads, predictions, metrics, training curve, submission."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int64

from inkfold.augment.curriculum import Curriculum
from inkfold.config.recipe import Recipe
from inkfold.data.splits import Folds
from inkfold.data.types import Dataset
from inkfold.evaluation.decision import DecisionChoice
from inkfold.evaluation.intervals import DIGITS, accuracy_figures, proportion_interval
from inkfold.evaluation.metrics import bootstrap_interval
from inkfold.evaluation.paired import mcnemar, paired_difference
from inkfold.evaluation.predictions import (
    SUBMISSION_COLUMNS,
    Predictions,
    is_worth_reporting,
    submission_columns,
    write_submission,
)
from inkfold.evaluation.score_figures import compare_by, measure_by
from inkfold.evaluation.scores import ACCURACY, Metric
from inkfold.evaluation.tensorboard import EVENTS, FOLD_EVENTS, write_events
from inkfold.pipeline.leaks import Leak, add_leaks
from inkfold.pipeline.prepare import Prepared
from inkfold.pipeline.run import HEADS
from inkfold.pipeline.run_dir import write_heads
from inkfold.pipeline.run_files import CORRECTIONS, CURVE, METRICS, OUT_OF_FOLD, SUBMISSION, SUBMISSION_FORM, TEST
from inkfold.storage.files import write_bytes, write_json

if TYPE_CHECKING:
    from inkfold.finetune.train_folds import FinetunedFolds, Interpolation
    from inkfold.heads.epoch_selection import EpochSelection
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
        split_apart: Out-of-fold predictions with folds that split groups apart, or copies where there are no groups; None if
            they would split none.
        reading: How pages are read, and why, as `Reading.about`; None where the recipe leaves nothing of it open.
        leaks: Copies of drawings trained on, by the evaluated part that they are in: `test` or `out_of_fold`.
        metric: What the run is measured and chosen by.
        decision: The rule that turns probabilities into answers, and what it gains; `out_of_fold` and `test` have its answers.
        folds: What each fold was trained on, and what it held out; None where nothing was left out of training.
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
    leaks: Mapping[str, Leak] = field(default_factory=dict)
    metric: Metric = ACCURACY
    decision: DecisionChoice = field(default_factory=DecisionChoice)
    folds: Folds | None = None


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


def run_metrics(recipe: Recipe, prepared: Prepared, results: Results) -> dict[str, Any]:
    """Measure all predictions of a run.

    Args:
        recipe: Names the split and the test-time views.
        prepared: The drawings that the run was trained and tested on, with those left out as broken.
        results: The fitted heads and their predictions.

    Returns:
        The content of `metrics.json`.
    """
    out_of_fold, test, metric = results.out_of_fold, results.test, results.metric
    assert out_of_fold.targets is not None
    usual = out_of_fold.most_probable  # what other predictions, for which no rule was fitted, are compared with
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
        **metric.as_json(),
        "out_of_fold": measure_by(metric, out_of_fold, per_class=True),
        "folds": _fold_metrics(metric, out_of_fold, results.num_folds, len(prepared.rows)),
    }
    if out_of_fold.answers_nested and out_of_fold.decided is None:
        assert out_of_fold.nested_right is not None
        interval = _interval_of_share(out_of_fold.nested_right, out_of_fold.groups)
        nested = {"accuracy": round(float(out_of_fold.right.mean()), DIGITS), "accuracy_ci95": interval}
        metrics["out_of_fold"]["nested"] = nested
    if results.decision.figures is not None:
        metrics["decision"] = results.decision.figures
    if results.reading is not None:
        metrics["reading"] = dict(results.reading)
    if (selection := results.fitted.selection) is not None:
        metrics["selection"] = _selection_figures(metric, selection, results.without_tta or out_of_fold)
    if results.without_tta is not None:
        metrics["tta"] = {"views": list(recipe.tta), **_gain(metric, results.without_tta, usual)}
    metrics |= _group_figures(metric, prepared, usual, results.split_apart)
    _add_purged(metrics, results.folds)
    if (seen := measure_seen(out_of_fold)) is not None:
        metrics["learnt_by_backbone"] = seen
    if results.frozen is not None and results.finetuned is not None:
        metrics["finetune"] = _gain_of_finetuning(metric, results.frozen, results.without_tta or usual, results.finetuned)
    if test is not None and test.targets is not None:
        metrics["test"] = measure_by(metric, test, per_class=True)
    add_leaks(metrics, results.leaks, {"test": test, "out_of_fold": out_of_fold}, metric)
    return metrics


def _add_purged(metrics: dict[str, Any], folds: Folds | None) -> None:
    """Say how many copies of held-out drawings each fold left out of its training."""
    if folds is not None and folds.purged.any():
        metrics["purged"] = int(folds.purged.sum())
        for figures in metrics["folds"]:
            purged = int(folds.purged[figures["fold"]])
            figures |= {"n_train": figures["n_train"] - purged, "purged": purged}


def _corrections(dataset: Dataset) -> dict[str, Any]:
    """Say what the user's decisions on labels changed; nothing without any."""
    return {} if dataset.corrected is None else {"corrections": dataset.corrected.as_json()}


def _fold_metrics(metric: Metric, out_of_fold: Predictions, num_folds: int, num_drawings: int) -> list[dict[str, Any]]:
    """Measure each fold that held a drawing out."""
    assert out_of_fold.targets is not None
    assert out_of_fold.folds is not None
    metrics = []
    for fold in range(num_folds):
        rows = out_of_fold.folds == fold
        if rows.any():
            figures = measure_by(metric, out_of_fold.select(rows))
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


def _gain_of_finetuning(metric: Metric, frozen: Predictions, finetuned: Predictions, folds: "FinetunedFolds") -> dict[str, Any]:
    """Compare the accuracies of the frozen and the fine-tuned backbones, both without test-time views."""
    gain = _gain(metric, frozen, finetuned)
    figures: dict[str, Any] = {
        "frozen_accuracy": gain.pop("accuracy_without"),
        "frozen_accuracy_ci95": gain.pop("accuracy_without_ci95"),
        "accuracy": gain.pop("accuracy_with"),
        "accuracy_ci95": gain.pop("accuracy_with_ci95"),
        **gain,
    }
    if (interpolation := folds.interpolation) is not None:
        figures["interpolation"] = {
            **{name: getattr(interpolation, name) for name in ("shares", "accuracy", "taken")},
            **_nested_figures(interpolation, finetuned),
        }
    return figures


def _selection_figures(metric: Metric, selection: "EpochSelection", predictions: Predictions) -> dict[str, Any]:
    """Give the epochs that were kept, and what they are worth on the drawings that chose them and on others."""
    kept = {"epochs": list(selection.epochs), "accuracy": selection.accuracy}
    figures: dict[str, Any] = {**kept, **_nested_figures(selection, predictions)}
    if selection.score is not None and selection.nested_score is not None:
        optimism = metric.signed(selection.score) - metric.signed(selection.nested_score)
        scores = {"value": selection.score, "nested": selection.nested_score, "optimism": optimism}
        figures["metric"] = {"name": metric.name, **scores}
    return figures


def _nested_figures(choice: "EpochSelection | Interpolation", predictions: Predictions) -> dict[str, Any]:
    """Give the accuracy to expect on new drawings of what held-out drawings chose, with its interval where it is known.

    The interval is of each drawing's own nested prediction; where several heads answer for a drawing, of the share of them.
    """
    figures = {"nested_accuracy": choice.nested_accuracy, "optimism": choice.optimism}
    right = predictions.nested_right
    return figures if right is None else {**figures, "nested_accuracy_ci95": _interval_of_share(right, predictions.groups)}


def _interval_of_share(right: Float[np.ndarray, " n"], groups: Int64[np.ndarray, " n"] | None) -> list[float]:
    """Give the 95 % interval of the mean of shares of right predictions; that of a proportion where each is right or wrong."""
    if np.isin(right, (0, 1)).all():
        return proportion_interval(right > 0, groups).ci95
    return bootstrap_interval(right, groups=groups)


def _group_figures(
    metric: Metric, prepared: Prepared, grouped: Predictions, split_apart: Predictions | None
) -> dict[str, dict[str, Any]]:
    """Say where groups come from, and how optimistic folds are that split them, or copies where there are none, apart."""
    figures: dict[str, dict[str, Any]] = {}
    if (grouping := prepared.read.dataset.grouping) is not None:
        figures["groups"] = grouping.as_json(prepared.named_groups)
    if split_apart is not None:
        name = "duplicates" if prepared.named_groups is None else "groups"
        figures[name] = {**figures.get(name, {}), **_optimism_of_splitting(metric, prepared, grouped, split_apart)}
    return figures


def _optimism_of_splitting(
    metric: Metric, prepared: Prepared, grouped: Predictions, split_apart: Predictions
) -> dict[str, Any]:
    """Measure how optimistic folds are that split groups, or copies, apart: over all drawings, and over those in groups."""
    assert prepared.groups is not None
    _, groups = np.unique(prepared.groups[np.argsort(prepared.rows)], return_inverse=True)  # in the predictions' order
    copied = np.bincount(groups, minlength=len(groups))[groups] > 1
    figures: dict[str, Any] = {"groups": len(np.unique(groups[copied])), "drawings": int(copied.sum())}
    correct = {"parted": split_apart.preds == grouped.targets, "grouped": grouped.preds == grouped.targets}
    for name, rows in correct.items():
        figures[name] = {**accuracy_figures(rows, grouped.groups), "accuracy_of_copies": float(rows[copied].mean())}
    figures |= paired_difference(correct["parted"], correct["grouped"], grouped.groups)
    return figures if metric.is_accuracy else {**figures, "metric": compare_by(metric, split_apart, grouped)}


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
        groups, n = None if out_of_fold.groups is None else out_of_fold.groups[rows], int(rows.sum())
        figures[name] = {"n": n, **accuracy_figures(correct[rows], groups)} if n else None
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


def warn_of_accuracy(results: Results) -> list[str]:
    """Say which choices of a run accuracy made, where the run is measured by another metric.

    Args:
        results: Has the metric and the choices.

    Returns:
        One warning; none where there was no such choice.
    """
    if results.metric.is_accuracy:
        return []
    finetuned = results.finetuned
    choices = {
        "how pages are read (image.resize=auto, image.paper=auto)": (results.reading or {}).get("compared"),
        "the epochs that fine-tuning keeps (finetune.keep=best)": finetuned and finetuned.fitted.selection,
        "the share of fine-tuned weights (finetune.interpolate)": finetuned and finetuned.interpolation,
    }
    made = [name for name, was_made in choices.items() if was_made]
    return [f"chosen by accuracy, not by {results.metric.title}: {'; '.join(made)}"] if made else []


def _gain(metric: Metric, before: Predictions, after: Predictions) -> dict[str, Any]:
    """Compare two accuracies, and the metric, on the same drawings, and test whether they differ."""
    before_correct = before.preds == before.targets
    after_correct = after.preds == before.targets
    figures = [accuracy_figures(correct, before.groups) for correct in (before_correct, after_correct)]
    return {
        "accuracy_without": figures[0]["accuracy"],
        "accuracy_without_ci95": figures[0]["accuracy_ci95"],
        "accuracy_with": figures[1]["accuracy"],
        "accuracy_with_ci95": figures[1]["accuracy_ci95"],
        "p_value": mcnemar(before_correct, after_correct, before.groups),
        **({} if metric.is_accuracy else {"metric": compare_by(metric, before, after)}),
    }
