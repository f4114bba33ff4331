"""Metrics of predictions, each with its uncertainty: accuracy, calibration, and paired tests of two classifiers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from inkfold.errors import PredictionError

Z95 = 1.959963984540054
ECE_BINS = 15
DIGITS = 6
SIGNIFICANT = 0.05


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Compute the 95 % confidence interval of a proportion by Wilson's method.

    Unlike the normal approximation it stays within 0..1 and holds its coverage at small n and extreme proportions.

    Args:
        successes: Number of successes, 0 to `n`.
        n: Number of trials, at least 1.

    Returns:
        The lower and upper bound.

    Source: Wilson, "Probable Inference", J. Am. Stat. Assoc. 22 (1927).
    """
    share = successes / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True)
class ConfidenceBin:
    """Predictions whose confidence, the probability of the predicted class, lies between two bounds.

    Attributes:
        low: Lower bound of the confidence, 0 to 1, inclusive.
        high: Upper bound, exclusive but for the last bin.
        count: How many predictions have a confidence in this bin; 0 for an empty one.
        confidence: Their mean confidence; None for an empty bin.
        accuracy: The share of them that is right; None for an empty bin.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def reliability_table(
    probs: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"], bins: int = ECE_BINS
) -> list[ConfidenceBin]:
    """Compare confidence with accuracy in bins of equal width. It is the one such table: reports, exports and the ECE use it.

    Args:
        probs: Class probabilities; rows sum to 1.
        targets: True class id of each drawing, in the order of the probabilities' rows.
        bins: Number of bins between 0 and 1.

    Returns:
        All bins in ascending order, empty ones included.
    """
    confidence, right = probs.max(1).astype(np.float64), probs.argmax(1) == targets
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    table = []
    for i in range(bins):
        inside = bin_of == i
        confidence_mean, accuracy = (float(values[inside].mean()) if inside.any() else None for values in (confidence, right))
        table.append(ConfidenceBin(i / bins, (i + 1) / bins, int(inside.sum()), confidence_mean, accuracy))
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


def mcnemar(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> float:
    """Test whether two classifiers have the same accuracy, from their predictions of the same drawings (McNemar's test).

    Only the drawings count on which exactly one classifier is right; if both are equally good, each of these is a fair coin.
    The test is the exact two-sided binomial one at any n.

    Args:
        first: For each drawing, whether the first classifier is right.
        second: Whether each prediction of the second classifier is right, in the same order of drawings.

    Returns:
        The p-value: the probability of a difference at least this large by chance.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12 (1947).
    """
    from scipy.special import betainc  # noqa: PLC0415 - 200 ms

    differ, fewer = int((first != second).sum()), int(min((first & ~second).sum(), (second & ~first).sum()))
    if differ == 0:
        return 1.0
    # the probability of at most so few heads, by the incomplete beta function: Abramowitz and Stegun, 26.5.24
    return min(1.0, 2 * float(betainc(differ - fewer, fewer + 1, 0.5)))


def paired_difference(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> dict[str, Any]:
    """Compare the accuracy of two classifiers on the same drawings, with a 95 % interval of the difference.

    The interval is the union of two: the exact one (Clopper and Pearson's, of the share of drawings that the second classifier
    has right among those that exactly one has right) and the normal one. The exact one alone takes the number of such drawings
    as known, and is too short where nearly all favour one side; the normal one alone disagrees with the exact test where there
    are few. Where the test finds a difference, the normal one excludes 0 too (by 0.2 % at the least, tried up to 60,000 such
    drawings), so that the interval contains 0 exactly where the test finds no difference.

    Args:
        first: For each drawing, whether the first classifier is right.
        second: Whether each prediction of the second classifier is right, in the same order of drawings.

    Returns:
        JSON values: `difference` (accuracy of the second minus that of the first), `difference_ci95`, `p_value` of McNemar's
        exact test, and `distinguishable`, whether the p-value is below 0.05.

    Raises:
        PredictionError: If there are no drawings.

    Source: Clopper and Pearson, Biometrika 26 (1934); the normal one: Agresti, "Categorical Data Analysis" (2013), chapter 11.
    """
    n = len(first)
    if n == 0:
        raise PredictionError("paired difference: got no drawings, expected one at least. Give drawings whose class is known.")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    difference = (only_second - only_first) / n
    half = Z95 * math.sqrt(max(only_first + only_second - (only_second - only_first) ** 2 / n, 0.0)) / n
    low, high = _exact_bounds(only_first, only_second, n)
    p_value = mcnemar(first, second)
    return {
        "difference": _rounded_off_zero(difference),
        "difference_ci95": [
            _rounded_off_zero(max(min(low, difference - half), -1.0)),
            _rounded_off_zero(min(max(high, difference + half), 1.0)),
        ],
        "p_value": p_value,
        "distinguishable": p_value < SIGNIFICANT,
    }


def bootstrap_interval(values: Float[np.ndarray, " n"], resamples: int = 2000, seed: int = 0) -> list[float]:
    """Compute the 95 % interval of a mean by the percentile bootstrap.

    Args:
        values: One finite number per drawing, such as its loss, or 1 for a right and 0 for a wrong prediction.
        resamples: Number of bootstrap samples, each of as many drawings as there are values.
        seed: Seed of the random draws.

    Returns:
        The lower and upper bound.

    Raises:
        PredictionError: If there are no values.

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", Ann. Stat. 7 (1979).
    """
    n = len(values)
    if n == 0:
        raise PredictionError("interval: got no drawings, expected one at least. Give drawings whose class is known.")
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 6])))
    if set(np.unique(values)) <= {0.0, 1.0}:  # resampling rights and wrongs is a binomial draw
        means = rng.binomial(n, values.mean(), resamples) / n
    else:
        means = np.array([values[rng.integers(0, n, n)].mean() for _ in range(resamples)])
    return [_rounded(bound) for bound in np.percentile(means, (2.5, 97.5))]


def measure(
    probs: Float[np.ndarray, "n classes"],
    targets: Int64[np.ndarray, " n"],
    class_names: Sequence[str] | None = None,
    preds: Int64[np.ndarray, " n"] | None = None,
) -> dict[str, Any]:
    """Measure predictions against the true classes.

    Args:
        probs: Class probabilities; rows sum to 1.
        targets: True class id of each drawing, in the order of the probabilities' rows.
        class_names: Names of the classes by id; None leaves `per_class` out.
        preds: The class that each drawing is given, which accuracy, macro_recall and per_class are of; None takes the most
            probable one.

    Returns:
        JSON values: n, accuracy, top5_accuracy, both with 95 % intervals, nll (nats), ece, macro_recall (mean over the classes
        that occur), and per_class (n, recall and precision of each class).
    """
    targets = targets.astype(np.int64)
    n = len(targets)
    preds = probs.argmax(1) if preds is None else preds
    right = preds == targets
    of_true = probs[np.arange(n), targets].astype(np.float64)
    # rank by strictly higher probabilities, then by lower id, as argmax breaks ties
    higher = (probs > of_true[:, None].astype(probs.dtype)).sum(1)
    tied_before = ((probs == of_true[:, None].astype(probs.dtype)) & (np.arange(probs.shape[1]) < targets[:, None])).sum(1)
    in_top5 = higher + tied_before < 5
    counts = np.bincount(targets, minlength=probs.shape[1])
    recall = np.bincount(targets, right, minlength=probs.shape[1]) / np.maximum(counts, 1)
    result: dict[str, Any] = {"n": n}
    for name, hits in (("accuracy", right), ("top5_accuracy", in_top5)):
        result[name] = _rounded(hits.mean())
        result[f"{name}_ci95"] = [_rounded(bound) for bound in wilson_interval(int(hits.sum()), n)]
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


def _exact_bounds(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """Bound the difference by Clopper and Pearson's interval of the share that the second has right where just one is right."""
    from scipy.special import betaincinv  # noqa: PLC0415 - 200 ms

    low = betaincinv(only_second, only_first + 1, SIGNIFICANT / 2) if only_second else 0.0
    high = 1 - betaincinv(only_first, only_second + 1, SIGNIFICANT / 2) if only_first else 1.0
    scale = (only_first + only_second) / n
    return float((2 * low - 1) * scale), float((2 * high - 1) * scale)


def _rounded_off_zero(value: float) -> float:
    """Round a value, but never to 0 unless it is 0."""
    return _rounded(value) or value


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)
