"""Analysis of a classifier's errors: the accuracy of each class, confused pairs of classes, and the most confident mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from inkfold.evaluation.intervals import proportion_interval
from inkfold.evaluation.predictions import Predictions

PAIRS = 12
FAILURES = 24


@dataclass(frozen=True, slots=True)
class ClassRow:
    """How well one class is recognised.

    Attributes:
        index: Class id, from 0: the class's column in the probabilities.
        name: Class name, as the data have it.
        n: How many drawings have this true class; 0 if none.
        recall: The share of its drawings that are predicted as this class; None without drawings.
        ci95: 95 % interval of the recall; None without drawings.
        precision: The share of drawings predicted as this class that belong to it; None if none was predicted so.
        taken_for: Name of the class that its drawings are most often mistaken for; None if they never are.
        taken: How many of its drawings are mistaken for that class.
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
    """Two classes whose drawings are mistaken for each other, and how often.

    Attributes:
        first: Id of the class whose drawings are more often mistaken for the other class.
        second: Id of the class that they are mistaken for.
        n_first: Number of drawings of the first class.
        n_second: Number of drawings of the second class.
        first_as_second: How many drawings of the first class are predicted as the second.
        second_as_first: How many drawings of the second class are predicted as the first.
        rows: Rows of all these drawings in the predictions, the most confident mistake first.
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
        """The share of both classes' drawings that is mistaken for the other class, 0 to 1."""
        return (self.first_as_second + self.second_as_first) / max(self.n_first + self.n_second, 1)


@dataclass(frozen=True, slots=True)
class Failure:
    """A drawing whose predicted class is wrong.

    Attributes:
        row: Row of the drawing in the predictions.
        target: Id of its true class, from 0.
        pred: Id of the predicted class, which differs from `target`.
        confidence: Probability of the predicted class.
        probability: Probability of the true class.
    """

    row: int
    target: int
    pred: int
    confidence: float
    probability: float


def class_rows(predictions: Predictions) -> list[ClassRow]:
    """Measure each class of predictions with true classes: the lowest recall first, classes without drawings last."""
    counts, table = _confusion_matrix(predictions)
    right, rows = predictions.preds == predictions.targets, []
    for i, name in enumerate(predictions.class_names):
        n, hits, predicted = int(counts[i]), int(table[i, i]), int(table[:, i].sum())
        mistakes = table[i].copy()
        mistakes[i] = 0
        other = int(mistakes.argmax())
        rows.append(
            ClassRow(
                index=i,
                name=name,
                n=n,
                recall=hits / n if n else None,
                ci95=_recall_interval(predictions, right, i) if n else None,
                precision=hits / predicted if predicted else None,
                taken_for=predictions.class_names[other] if mistakes[other] else None,
                taken=int(mistakes[other]),
            )
        )
    return sorted(rows, key=lambda row: (row.recall is None, row.recall or 0.0, -row.n, row.index))


def confused_pairs(predictions: Predictions, most: int = PAIRS) -> list[ConfusedPair]:
    """Find the pairs of classes that are most often mistaken for each other.

    Args:
        predictions: Predictions with their true classes.
        most: Greatest number of pairs to return.

    Returns:
        The pair with the most mistakes first; of equal ones, the pair with fewer drawings.
    """
    assert predictions.targets is not None
    targets, preds = predictions.targets, predictions.preds
    counts, table = _confusion_matrix(predictions)
    both = np.triu(table + table.T, 1)
    first, second = np.nonzero(both)
    totals = counts[first] + counts[second]
    order = np.lexsort((second, first, totals, -both[first, second]))[:most]
    pairs = []
    for i, j in zip(first[order].tolist(), second[order].tolist(), strict=True):
        i, j = (i, j) if table[i, j] >= table[j, i] else (j, i)  # noqa: PLW2901 - the class with more mistakes comes first
        mistaken = ((targets == i) & (preds == j)) | ((targets == j) & (preds == i))
        rows = most_confident(predictions, mistaken)
        pairs.append(ConfusedPair(i, j, int(counts[i]), int(counts[j]), int(table[i, j]), int(table[j, i]), rows))
    return pairs


def failures(predictions: Predictions, most: int = FAILURES) -> list[Failure]:
    """Choose the most confident mistakes, taking one of every class before a second of any class.

    Args:
        predictions: Predictions with their true classes.
        most: Greatest number of mistakes to return.

    Returns:
        The most confident mistake first.
    """
    assert predictions.targets is not None
    targets, preds, probs = predictions.targets, predictions.preds, predictions.probs
    wrong = most_confident(predictions, preds != targets)
    turns = turns_by_class(targets[list(wrong)].tolist())
    chosen = [row for _, _, row in sorted(zip(turns, range(len(wrong)), wrong, strict=True))[:most]]
    return [
        Failure(row, int(targets[row]), int(preds[row]), float(probs[row].max()), float(probs[row, targets[row]]))
        for row in sorted(chosen, key=lambda row: (-float(probs[row].max()), row))
    ]


def turns_by_class(targets: Sequence[int]) -> list[int]:
    """Count, for each item of a sequence, the items of the same class before it.

    Sorted by these counts, a sequence takes one item of every class before a second of any class.
    """
    seen: dict[int, int] = {}
    turns = []
    for target in targets:
        turns.append(seen.setdefault(target, 0))
        seen[target] += 1
    return turns


def part_of(predictions: Predictions) -> str:
    """Name the part of the data set that predictions are of: `train` where drawings were held out of folds, else `test`."""
    return "test" if predictions.folds is None else "train"


def most_confident(predictions: Predictions, chosen: Bool[np.ndarray, " n"]) -> tuple[int, ...]:
    """Return the rows of the chosen drawings, the most confident prediction first."""
    rows = np.flatnonzero(chosen)
    order = np.argsort(-predictions.probs[rows].max(1), kind="stable") if len(rows) else rows
    return tuple(rows[order].tolist())


def _recall_interval(predictions: Predictions, right: Bool[np.ndarray, " n"], index: int) -> tuple[float, float]:
    """Give the 95 % interval of a class's recall."""
    inside = predictions.targets == index
    return proportion_interval(right[inside], None if predictions.groups is None else predictions.groups[inside]).bounds


def _confusion_matrix(predictions: Predictions) -> tuple[Int64[np.ndarray, " classes"], Int64[np.ndarray, "classes classes"]]:
    """Count the drawings of each class, and how often each class (row) is predicted as each class (column)."""
    assert predictions.targets is not None
    k = len(predictions.class_names)
    flat = predictions.targets * k + predictions.preds
    return np.bincount(predictions.targets, minlength=k), np.bincount(flat, minlength=k * k).reshape(k, k)
