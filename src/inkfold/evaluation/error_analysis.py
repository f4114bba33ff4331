"""What predictions with known classes show: each class, the pairs that are confused, the failures, the calibration."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from inkfold.evaluation.metrics import ECE_BINS, confidence_bins, wilson_interval
from inkfold.evaluation.predictions import Predictions

PAIRS = 12
FAILURES = 24


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class.

    Attributes:
        index: Of the class.
        name: Of the class.
        n: Drawings of it.
        recall: Share of them that were told; None without any.
        ci95: Its interval; None likewise.
        precision: Share of the drawings said to be of it that are; None if none was.
        taken_for: The class that its drawings were most often taken for instead; None if never.
        taken: How often.
    """

    index: int
    name: str
    n: int
    recall: float | None
    ci95: tuple[float, float] | None
    precision: float | None
    taken_for: str | None
    taken: int


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """Two classes that are taken for each other.

    Attributes:
        first: The class whose drawings are more often taken for the other's.
        second: The other.
        n_first: Drawings of the first.
        n_second: Drawings of the second.
        first_as_second: How many of these were taken for the second.
        second_as_first: The other way round.
        rows: Rows of such drawings, the most confident first.
    """

    first: int
    second: int
    n_first: int
    n_second: int
    first_as_second: int
    second_as_first: int
    rows: tuple[int, ...]

    @property
    def share(self) -> float:
        """Of the drawings of both, those that were taken for the other class."""
        return (self.first_as_second + self.second_as_first) / max(self.n_first + self.n_second, 1)


@dataclass(frozen=True, slots=True)
class Failure:
    """A drawing that was told wrong.

    Attributes:
        row: Of the predictions.
        target: Its class.
        pred: What was said.
        confidence: The probability that was given to what was said.
        probability: The probability that was given to its class.
    """

    row: int
    target: int
    pred: int
    confidence: float
    probability: float


def class_rows(predictions: Predictions) -> list[ClassRow]:
    """Measure each class by itself.

    Args:
        predictions: With their targets.

    Returns:
        The weakest class first; those without drawings last.
    """
    counts, table = _confusion(predictions)
    rows = []
    for i, name in enumerate(predictions.class_names):
        n, hits, said = int(counts[i]), int(table[i, i]), int(table[:, i].sum())
        others = table[i].copy()
        others[i] = 0
        other = int(others.argmax())
        rows.append(
            ClassRow(
                index=i,
                name=name,
                n=n,
                recall=hits / n if n else None,
                ci95=wilson_interval(hits, n) if n else None,
                precision=hits / said if said else None,
                taken_for=predictions.class_names[other] if others[other] else None,
                taken=int(others[other]),
            )
        )
    return sorted(rows, key=lambda row: (row.recall is None, row.recall or 0.0, -row.n, row.index))


def confused_pairs(predictions: Predictions, most: int = PAIRS) -> list[ConfusedPair]:
    """Find the classes that are most often taken for each other.

    Args:
        predictions: With their targets.
        most: How many pairs at most.

    Returns:
        The pair with the most mistakes first; of equal ones that with fewer drawings.
    """
    assert predictions.targets is not None
    targets, preds = predictions.targets, predictions.preds
    counts, table = _confusion(predictions)
    both = np.triu(table + table.T, 1)
    first, second = np.nonzero(both)
    totals = counts[first] + counts[second]
    order = np.lexsort((second, first, totals, -both[first, second]))[:most]
    pairs = []
    for i, j in zip(first[order].tolist(), second[order].tolist(), strict=True):
        i, j = (i, j) if table[i, j] >= table[j, i] else (j, i)  # noqa: PLW2901 - named by who is mistaken more
        mistaken = ((targets == i) & (preds == j)) | ((targets == j) & (preds == i))
        pairs.append(
            ConfusedPair(
                i, j, int(counts[i]), int(counts[j]), int(table[i, j]), int(table[j, i]), most_confident(predictions, mistaken)
            )
        )
    return pairs


def failures(predictions: Predictions, most: int = FAILURES) -> list[Failure]:
    """Choose drawings that were told wrong with the most confidence, a class but once before any class comes twice.

    Args:
        predictions: With their targets.
        most: How many at most.

    Returns:
        The most confident first.
    """
    assert predictions.targets is not None
    preds = predictions.preds
    wrong = most_confident(predictions, preds != predictions.targets)
    turns: dict[int, int] = {}
    keyed = []
    for place, row in enumerate(wrong):
        target = int(predictions.targets[row])
        keyed.append((turns.setdefault(target, 0), place, row))
        turns[target] += 1
    chosen = [row for _, _, row in sorted(keyed)[:most]]
    found = [
        Failure(
            row,
            int(predictions.targets[row]),
            int(preds[row]),
            float(predictions.probs[row].max()),
            float(predictions.probs[row, predictions.targets[row]]),
        )
        for row in chosen
    ]
    return sorted(found, key=lambda one: (-one.confidence, one.row))


def reliability(predictions: Predictions, bins: int = ECE_BINS) -> list[dict[str, Any]]:
    """Compare confidence with accuracy, in the bins of the expected calibration error.

    Args:
        predictions: With their targets.
        bins: How many, of equal width.

    Returns:
        Of each bin that has drawings: n, mean confidence, accuracy and its interval.
    """
    assert predictions.targets is not None
    confidence = predictions.probs.max(1).astype(np.float64)
    right = predictions.preds == predictions.targets
    which = confidence_bins(confidence, bins)
    found = []
    for place in np.unique(which).tolist():
        inside = which == place
        n, hits = int(inside.sum()), int(right[inside].sum())
        found.append(
            {"n": n, "confidence": float(confidence[inside].mean()), "accuracy": hits / n, "ci95": wilson_interval(hits, n)}
        )
    return found


def part_of(predictions: Predictions) -> str:
    """Name the part that they are of: out-of-fold drawings were held out of folds; test drawings of none."""
    return "test" if predictions.folds is None else "train"


def _confusion(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Count the drawings of each class, and how often each class (row) was called each (column)."""
    assert predictions.targets is not None
    k = len(predictions.class_names)
    flat = predictions.targets * k + predictions.preds
    return np.bincount(predictions.targets, minlength=k), np.bincount(flat, minlength=k * k).reshape(k, k)


def most_confident(predictions: Predictions, chosen: Bool[np.ndarray, " n"]) -> tuple[int, ...]:
    """Order drawings by how sure the answer is.

    Args:
        predictions: Of all.
        chosen: Which are wanted.

    Returns:
        Their rows, the surest first.
    """
    rows = np.flatnonzero(chosen)
    order = np.argsort(-predictions.probs[rows].max(1), kind="stable") if len(rows) else rows
    return tuple(rows[order].tolist())
