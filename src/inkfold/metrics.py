"""How good predictions are, in figures that carry their uncertainty."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

Z95 = 1.959963984540054
ECE_BINS = 15
DIGITS = 6


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Give the 95 % interval of a proportion.

    Unlike the normal approximation it stays within 0..1 and holds its coverage at small n and extreme proportions.

    Args:
        successes: How many were right.
        n: Of how many, at least 1.

    Returns:
        The lower and upper bound.

    Source: Wilson, "Probable Inference", J. Am. Stat. Assoc. 22 (1927).
    """
    share = successes / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def expected_calibration_error(
    probs: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"], bins: int = ECE_BINS
) -> float:
    """Measure by how much confidence misses accuracy, over bins of equal width.

    Args:
        probs: Class probabilities.
        targets: True class ids.
        bins: Number of bins.

    Returns:
        The mean absolute gap, weighted by the bins' sizes; 0 is calibrated.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    confidence = probs.max(1).astype(np.float64)
    correct = probs.argmax(1) == targets
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(which, confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(targets))


def mcnemar(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> float:
    """Test whether two classifiers that answered the same questions are right equally often.

    Only the questions count on which exactly one is right; if both are as good, each of these is a fair coin. The exact
    two-sided binomial test, at any n.

    Args:
        first: Where the one is right.
        second: Where the other is.

    Returns:
        The probability of a difference at least so large by chance.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12 (1947).
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    n, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(
        math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2)) for i in range(fewer + 1)
    )
    return min(1.0, 2 * tail)


def measure(
    probs: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"], class_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Measure predictions.

    Args:
        probs: Class probabilities; rows sum to 1.
        targets: True class ids.
        class_names: Given, adds a row a class.

    Returns:
        JSON values: n, accuracy, top5_accuracy, both with 95 % intervals, nll (nats), ece, macro_recall (over the classes
        that occur), and per_class.
    """
    targets = targets.astype(np.int64)
    n = len(targets)
    right = probs.argmax(1) == targets
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
        result["per_class"] = _per_class(probs.argmax(1), right, counts, recall, class_names)
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
