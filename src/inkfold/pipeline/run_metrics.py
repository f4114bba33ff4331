"""Measures all predictions of a run: the content of `metrics.json`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int64

from inkfold.config.recipe import Recipe
from inkfold.data.splits import Folds
from inkfold.data.types import Dataset
from inkfold.evaluation.intervals import DIGITS, accuracy_figures, proportion_interval
from inkfold.evaluation.metrics import bootstrap_interval
from inkfold.evaluation.paired import mcnemar, paired_difference
from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.score_figures import compare_by, measure_by
from inkfold.evaluation.scores import Metric
from inkfold.pipeline.leaks import add_leaks
from inkfold.pipeline.prepare import Prepared
from inkfold.pipeline.results import Results
from inkfold.pipeline.seen import measure_seen

if TYPE_CHECKING:
    from inkfold.finetune.train_folds import FinetunedFolds, Interpolation
    from inkfold.heads.epoch_selection import EpochSelection

AFTER_GROUPS = ("purged", "learnt_by_backbone", "finetune", "test", "leaks")  # the parts of metrics.json after the groups' own


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
    usual = results.by_heads  # what other predictions, for which no rule was fitted, are compared with
    metrics: dict[str, Any] = {
        "data": _data_figures(prepared, results),
        "split": recipe.folds.split,
        **metric.as_json(),
        "out_of_fold": _out_of_fold_figures(metric, out_of_fold),
        "folds": _fold_metrics(metric, out_of_fold, results.num_folds, len(prepared.rows)),
        **_held_out_parts(recipe, out_of_fold),
        **_figures_of_choices(recipe, results),
        **_group_figures(metric, prepared, usual, results.split_apart),
    }
    _add_purged(metrics, results.folds)
    if (seen := measure_seen(out_of_fold)) is not None:
        metrics["learnt_by_backbone"] = seen
    if results.frozen is not None and results.finetuned is not None:
        metrics["finetune"] = _gain_of_finetuning(metric, results.frozen, results.without_tta or usual, results.finetuned)
    if test is not None and test.targets is not None:
        metrics["test"] = measure_by(metric, test, per_class=True)
    add_leaks(metrics, results.leaks, {"test": test, "out_of_fold": out_of_fold}, metric)
    return metrics


def _held_out_parts(recipe: Recipe, out_of_fold: Predictions) -> dict[str, Any]:
    """Say how many of the parts were held out, with how many drawings; nothing where all were, or a holdout was."""
    if not recipe.folds.is_partial:
        return {}
    counts = {"held_out": recipe.folds.held_out_parts, "of": recipe.folds.k, "drawings": len(out_of_fold.image_paths)}
    return {"parts": counts}


def _data_figures(prepared: Prepared, results: Results) -> dict[str, Any]:
    """Count the drawings of each part, those left out, and what the user's decisions on labels changed."""
    return {
        "n_train": len(prepared.rows),
        "n_test": 0 if results.test is None else len(results.test.probs),
        "num_classes": len(results.out_of_fold.class_names),
        "skipped": prepared.skipped,
        "blank": {"train": len(prepared.blank.left_out), "test": len(prepared.blank.test)},
        **_corrections(prepared.read.dataset),
    }


def _out_of_fold_figures(metric: Metric, out_of_fold: Predictions) -> dict[str, Any]:
    """Measure the held-out drawings; beside it, what to expect on others where these drawings made a choice."""
    figures = measure_by(metric, out_of_fold, per_class=True)
    if out_of_fold.answers_nested and out_of_fold.decided is None:
        assert out_of_fold.nested_right is not None
        interval = _interval_of_share(out_of_fold.nested_right, out_of_fold.groups)
        figures["nested"] = {"accuracy": round(float(out_of_fold.right.mean()), DIGITS), "accuracy_ci95": interval}
    return figures


def _figures_of_choices(recipe: Recipe, results: Results) -> dict[str, Any]:
    """Say what was chosen, and what it gains: the rule of answers, how pages are read, epochs kept, test-time views."""
    metric = results.metric
    figures: dict[str, Any] = {}
    if results.decision.figures is not None:
        figures["decision"] = results.decision.figures
    if results.backbone_choice is not None:
        figures["backbone_choice"] = dict(results.backbone_choice)
    if results.reading is not None:
        figures["reading"] = dict(results.reading)
    if (selection := results.fitted.selection) is not None:
        figures["selection"] = _selection_figures(metric, selection, results.without_tta or results.by_heads)
    if results.without_tta is not None:
        figures["tta"] = {"views": list(recipe.tta), **_gain(metric, results.without_tta, results.by_heads)}
    if results.propagation is not None:
        figures["transductive"] = _propagation_figures(metric, results)
    if results.prior is not None:
        figures["prior"] = results.prior.as_json()
    return figures


def _propagation_figures(metric: Metric, results: Results) -> dict[str, Any]:
    """Give the accuracies without and with label propagation beside the comparison that decided."""
    assert results.propagation is not None
    judged, figures = results.propagation.judged, results.propagation.figures
    if judged is None:
        return figures
    gain = _gain(metric, results.by_heads, judged)
    return {**{name: value for name, value in gain.items() if name.startswith("accuracy")}, **figures}


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


def _group_figures(
    metric: Metric, prepared: Prepared, grouped: Predictions, split_apart: Predictions | None
) -> dict[str, dict[str, Any]]:
    """Say where groups come from, and how optimistic folds are that split them, or copies where there are none, apart."""
    figures: dict[str, dict[str, Any]] = {}
    if (grouping := prepared.read.dataset.grouping) is not None:
        figures["groups"] = grouping.as_json(prepared.named_groups)
    if split_apart is not None:
        name = "duplicates" if prepared.named_groups is None else "groups"
        figures[name] = {**figures.get(name, {}), **_optimism_of_splitting(metric, grouped, split_apart)}
    return figures


def with_split_apart(
    metrics: Mapping[str, Any], metric: Metric, prepared: Prepared, out_of_fold: Predictions, split_apart: Predictions
) -> dict[str, Any]:
    """Add to a run's metrics how optimistic folds are that split groups, or copies, apart: where `run_metrics` has it.

    Args:
        metrics: Content of the run's `metrics.json`, measured without it.
        metric: What the run is measured by.
        prepared: The drawings that the run was trained on.
        out_of_fold: The run's predictions of its held-out drawings.
        split_apart: Predictions of the same drawings with folds that split groups or copies.

    Returns:
        The content of `metrics.json` as `run_metrics` returns it.
    """
    added = _group_figures(metric, prepared, out_of_fold.most_probable, split_apart)
    own = {name: value for name, value in metrics.items() if name not in added}
    after = [name for name in own if name in AFTER_GROUPS]
    return {**{name: own[name] for name in own if name not in after}, **added, **{name: own[name] for name in after}}


def _optimism_of_splitting(metric: Metric, grouped: Predictions, split_apart: Predictions) -> dict[str, Any]:
    """Measure how optimistic folds are that split groups, or copies, apart: over all drawings, and over those in groups."""
    groups = grouped.groups
    assert groups is not None
    copied = np.bincount(groups, minlength=len(groups))[groups] > 1
    figures: dict[str, Any] = {"groups": len(np.unique(groups[copied])), "drawings": int(copied.sum())}
    correct = {"parted": split_apart.preds == grouped.targets, "grouped": grouped.preds == grouped.targets}
    for name, rows in correct.items():
        figures[name] = {**accuracy_figures(rows, grouped.groups), "accuracy_of_copies": float(rows[copied].mean())}
    figures |= paired_difference(correct["parted"], correct["grouped"], grouped.groups)
    return figures if metric.is_accuracy else {**figures, "metric": compare_by(metric, split_apart, grouped)}
