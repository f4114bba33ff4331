"""Metrics of predictions, each with its uncertainty: accuracy, log loss, calibration, recall."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from inkfold.errors import PredictionError
from inkfold.evaluation.intervals import (
    DIGITS,
    Mean,
    describe_interval,
    figure_interval,
    has_groups,
    mean_statistics,
    proportion_interval,
    wilson_interval,
)
from inkfold.evaluation.scores import true_ranks

ECE_BINS = 15
BLOCK = 1 << 18  # values that are drawn at once


@dataclass(frozen=True, slots=True)
class ConfidenceBin:
    """Predictions whose confidence, the probability of the predicted class, lies between two bounds.

    Attributes:
        low: Lower bound of the confidence, 0 to 1, inclusive.
        high: Upper bound, exclusive but for the last bin.
        count: How many predictions have a confidence in this bin; 0 for an empty one.
        confidence: Their mean confidence; None for an empty bin.
        accuracy: The share of them that is right; None for an empty bin.
        independent: How many independent drawings they are worth for the accuracy's interval, by their groups; 0 for an empty
            bin.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None
    independent: float = 0.0

    @property
    def ci95(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy; 0 to 1 for an empty bin."""
        return wilson_interval((self.accuracy or 0.0) * self.independent, self.independent) if self.independent else (0.0, 1.0)


def reliability_table(
    probs: Float[np.ndarray, "n classes"],
    targets: Int64[np.ndarray, " n"],
    bins: int = ECE_BINS,
    groups: Int64[np.ndarray, " n"] | None = None,
) -> list[ConfidenceBin]:
    """Compare confidence with accuracy in bins of equal width. It is the one such table: reports, exports and the ECE use it.

    Args:
        probs: Class probabilities; rows sum to 1.
        targets: True class id of each drawing, in the order of the probabilities' rows.
        bins: Number of bins between 0 and 1.
        groups: Number of each drawing's group; None where nothing is known of groups.

    Returns:
        All bins in ascending order, empty ones included.
    """
    confidence, right = probs.max(1).astype(np.float64), probs.argmax(1) == targets
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    table = []
    for i in range(bins):
        inside = bin_of == i
        confidence_mean, accuracy = (float(values[inside].mean()) if inside.any() else None for values in (confidence, right))
        interval = proportion_interval(right[inside], None if groups is None else groups[inside]) if inside.any() else None
        independent = 0.0 if interval is None or interval.independent is None else float(interval.independent)
        table.append(ConfidenceBin(i / bins, (i + 1) / bins, int(inside.sum()), confidence_mean, accuracy, independent))
    return table


def expected_calibration_error(
    probs: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"], bins: int = ECE_BINS
) -> float:
    """Compute the expected calibration error (ECE): the mean gap between confidence and accuracy over bins of confidence.

    Args:
        probs: Class probabilities; rows sum to 1.
        targets: True class id of each drawing, in the order of the probabilities' rows.
        bins: Number of bins of equal width.

    Returns:
        The mean absolute gap, weighted by the number of predictions in each bin, 0 to 1; 0 is perfectly calibrated.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    table = reliability_table(probs, targets, bins)
    return sum(one.count * abs((one.confidence or 0.0) - (one.accuracy or 0.0)) for one in table) / len(targets)


def bootstrap_interval(
    values: Float[np.ndarray, " n"], resamples: int = 2000, seed: int = 0, groups: Int64[np.ndarray, " n"] | None = None
) -> list[float]:
    """Compute the 95 % interval of a mean by the percentile bootstrap.

    Args:
        values: One finite number per drawing, such as its loss, or 1 for a right and 0 for a wrong prediction.
        resamples: Number of bootstrap samples, each of as many drawings as there are values.
        seed: Seed of the random draws.
        groups: Number of each drawing's group, where whole groups are to be resampled; None where nothing is known of groups.

    Returns:
        The lower and upper bound.

    Raises:
        PredictionError: If there are no values.

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", Ann. Stat. 7 (1979).
    """
    n = len(values)
    if n == 0:
        raise PredictionError("interval: got no drawings, expected one at least. Give drawings whose class is known.")
    if has_groups(groups):
        return figure_interval(Mean(limits=None), mean_statistics(values), groups, seed).ci95
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 6])))
    if set(np.unique(values)) <= {0.0, 1.0}:  # resampling rights and wrongs is a binomial draw
        means = rng.binomial(n, values.mean(), resamples) / n
    else:
        rows = max(1, BLOCK // n)  # many samples at once, drawn as one after the other would be
        sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
        means = np.concatenate([values[rng.integers(0, n, (size, n))].mean(1) for size in sizes])
    return [_rounded(bound) for bound in np.percentile(means, (2.5, 97.5))]


def measure(
    probs: Float[np.ndarray, "n classes"],
    targets: Int64[np.ndarray, " n"],
    class_names: Sequence[str] | None = None,
    groups: Int64[np.ndarray, " n"] | None = None,
    preds: Int64[np.ndarray, " n"] | None = None,
) -> dict[str, Any]:
    """Measure predictions against the true classes.

    Args:
        probs: Class probabilities; rows sum to 1.
        targets: True class id of each drawing, in the order of the probabilities' rows.
        class_names: Names of the classes by id; None leaves `per_class` out.
        groups: Number of each drawing's group, equal where drawings belong together; None where nothing is known of groups.
        preds: The class that each drawing is given, which accuracy, macro_recall and per_class are of; None takes the most
            probable one.

    Returns:
        JSON values: n, accuracy, top5_accuracy, both with 95 % intervals, interval (how these were made: method, source, number
        of groups, and Wilson's interval of the accuracy, which takes drawings as independent), nll (nats), ece, macro_recall
        (mean over the classes that occur), and per_class (n, recall and precision of each class).
    """
    targets = targets.astype(np.int64)
    n = len(targets)
    preds = probs.argmax(1) if preds is None else preds
    right = preds == targets
    of_true = probs[np.arange(n), targets].astype(np.float64)
    in_top5 = true_ranks(probs, targets) < 5
    counts = np.bincount(targets, minlength=probs.shape[1])
    recall = np.bincount(targets, right, minlength=probs.shape[1]) / np.maximum(counts, 1)
    result: dict[str, Any] = {"n": n}
    intervals = {"accuracy": proportion_interval(right, groups), "top5_accuracy": proportion_interval(in_top5, groups)}
    for name, hits in (("accuracy", right), ("top5_accuracy", in_top5)):
        result[name] = _rounded(hits.mean())
        result[f"{name}_ci95"] = intervals[name].ci95
    result["interval"] = describe_interval(intervals["accuracy"], right)
    result["nll"] = _rounded(-np.log(np.maximum(of_true, 1e-15)).mean())
    result["ece"] = _rounded(expected_calibration_error(probs, targets))
    result["macro_recall"] = _rounded(recall[counts > 0].mean())
    if class_names is not None:
        result["per_class"] = _per_class(preds, right, counts, recall, class_names)
    return result


def _per_class(
    preds: np.ndarray, right: np.ndarray, counts: np.ndarray, recall: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    predicted = np.bincount(preds, minlength=len(counts))
    hits = np.bincount(preds, right, minlength=len(counts))
    return [
        {
            "class_name": name,
            "n": int(counts[i]),
            "recall": _rounded(recall[i]) if counts[i] else None,
            "precision": _rounded(hits[i] / predicted[i]) if predicted[i] else None,
        }
        for i, name in enumerate(class_names)
    ]


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)
