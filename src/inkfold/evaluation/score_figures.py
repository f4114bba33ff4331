"""Figures of predictions by a recipe's metric, beside the usual ones: values with intervals, and paired comparisons."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int64

from inkfold.evaluation.intervals import DIGITS, figure_interval
from inkfold.evaluation.metrics import measure
from inkfold.evaluation.paired import compare_figures
from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.scores import Metric

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def metric_figures(
    metric: Metric,
    probs: Float[np.ndarray, "n classes"],
    targets: Int64[np.ndarray, " n"],
    preds: Int64[np.ndarray, " n"] | None = None,
    groups: Int64[np.ndarray, " n"] | None = None,
) -> dict[str, Any]:
    """Measure predictions by a metric, with its 95 % interval.

    Args:
        metric: What to measure by; one of single answers counts `preds`, one of probabilities `probs`.
        probs: Class probabilities; rows sum to 1.
        targets: True class id of each drawing.
        preds: The class that each drawing is given; None takes the most probable one.
        groups: Number of each drawing's group; None takes each drawing by itself.

    Returns:
        JSON values: `name`, `value`, `ci95`, `greater_is_better`, and `interval`, how it was made.
    """
    return statistics_figures(metric, metric.statistics(probs, targets, preds), groups)


def statistics_figures(
    metric: Metric, statistics: "csr_array", groups: Int64[np.ndarray, " n"] | None = None
) -> dict[str, Any]:
    """Give a metric's value and interval from its statistics; see `metric_figures`."""
    interval = figure_interval(metric, statistics, groups)
    return {
        "name": metric.name,
        "value": _rounded(float(metric.value(statistics.sum(0)))),
        "ci95": interval.ci95,
        "greater_is_better": metric.greater_is_better,
        "interval": interval.about(),
    }


def measure_by(metric: Metric, predictions: Predictions, *, per_class: bool = False) -> dict[str, Any]:
    """Measure predictions by the usual figures, and by a metric.

    Args:
        metric: The metric; accuracy adds nothing to the usual figures.
        predictions: Predictions with true classes.
        per_class: Whether recall and precision of each class are given.

    Returns:
        JSON values as `metrics.measure` returns them, with `metric` as `metric_figures` returns it.
    """
    probs, targets = predictions.probs, predictions.targets
    assert targets is not None
    figures = measure(probs, targets, predictions.class_names if per_class else None, predictions.groups, predictions.preds)
    if metric.is_accuracy:
        return figures
    return {"metric": metric_figures(metric, probs, targets, predictions.preds, predictions.groups), **figures}


def compare_by(metric: Metric, first: Predictions, second: Predictions) -> dict[str, Any]:
    """Compare two classifiers by a metric.

    Args:
        metric: What to compare by; where it is better to have less of it, a difference below 0 is the second's lead.
        first: Predictions with true classes, by the first classifier; its groups are resampled.
        second: Predictions of the same drawings in the same order.

    Returns:
        JSON values: the metric's `name`, `first_value`, `second_value`, and those of `compare_figures`.
    """
    assert first.targets is not None
    statistics = [metric.statistics(one.probs, first.targets, one.preds) for one in (first, second)]
    scores = [_rounded(float(metric.value(own.sum(0)))) for own in statistics]
    comparison = compare_figures(metric, statistics[0], statistics[1], first.groups)
    return {"name": metric.name, "first_value": scores[0], "second_value": scores[1], **comparison}


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)
