"""Label errors and classes that can't be told apart, found from out-of-fold probabilities with numpy alone.

Labels are ranked by the probability of the label's class, cleanlab's `self_confidence`, which found planted wrong labels best;
its normalised margin did far worse, as a classifier of hundreds of classes is often sure of a wrong one. cleanlab's cuts flag
37 to 60 % of Quick, Draw!'s drawings, whose classifiers are right on 0.38 and 0.46; the cut here estimates how much of a list
is wrong. docs/audit.md has the measurements.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from inkfold.evaluation.intervals import wilson_interval

METHOD = (
    "labels with the lowest probability first (self-confidence); the list ends where less than half of it is estimated to be "
    "wrong; the most probable class is suggested"
)
LISTED_WRONG = 0.5  # least share of wrong labels in the list; on Quick, Draw! the best frozen recipe finds 0.83 of planted ones
FEWEST_BY_CHANCE = 0.2  # least share of random labels that an estimate rests on
SHIFTS = 64
FEWEST_TO_CONFUSE = 10  # drawings of two classes together: among fewer, half are easily right by chance


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """A label that is probably wrong.

    Attributes:
        row: Row of the drawing in the predictions.
        label: Id of the class that the data give the drawing: its column in the predictions, from 0.
        suggested: Id of the class that the predictions find most probable; it differs from `label`.
        score: Quality of the label, 0 to 1: the predicted probability of its class.
        suggested_probability: Predicted probability of the suggested class.
    """

    row: int
    label: int
    suggested: int
    score: float
    suggested_probability: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """Two classes whose drawings the classifier tells apart no better than a coin.

    Attributes:
        first: Class id of the first class.
        second: Class id of the second class.
        n: Number of drawings of both classes.
        accuracy: The share of these whose own label is the more probable of the two classes.
        accuracy_ci95: 95 % interval of the accuracy, which contains 0.5.
        first_as_second: Drawings of the first class for which the second is more probable.
        second_as_first: Drawings of the second class for which the first is more probable.
    """

    first: int
    second: int
    n: int
    accuracy: float
    accuracy_ci95: tuple[float, float]
    first_as_second: int
    second_as_first: int

    def as_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return the pair as JSON values, with class names instead of ids."""
        names = {"first": class_names[self.first], "second": class_names[self.second]}
        return {**asdict(self), **names, "accuracy_ci95": list(self.accuracy_ci95)}


def find_label_issues(probs: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"]) -> list[LabelIssue]:
    """Find the labels that are probably wrong.

    Args:
        probs: Out-of-fold class probabilities: the classifier was not trained on the drawing.
        targets: Class id that the data give each drawing, in the order of the probabilities' rows.

    Returns:
        The most doubtful label first.
    """
    rows, suggested = np.arange(len(targets)), probs.argmax(1)
    scores = probs[rows, targets]
    listed = np.flatnonzero((suggested != targets) & (scores <= _cut(probs, targets)[0]))
    listed = listed[np.argsort(scores[listed], kind="stable")]
    return [
        LabelIssue(int(row), int(targets[row]), int(suggested[row]), float(scores[row]), float(probs[row, suggested[row]]))
        for row in listed
    ]


def estimate_wrong_fraction(probs: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"]) -> float:
    """Compute an upper bound, 0 to 1, on the share of labels that have nothing to do with their drawings."""
    return _cut(probs, targets)[1]


def find_confusions(probs: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"]) -> list[Confusion]:
    """Find pairs of classes that the classifier tells apart, by which of the two is more probable, no better than a coin.

    Among hundreds of classes some pairs look so by chance. So each class must be the one that most of the other's drawings are
    mistaken for.

    Args:
        probs: Out-of-fold class probabilities: the classifier was not trained on the drawing.
        targets: Class id that the data give each drawing, in the order of the probabilities' rows.

    Returns:
        Pairs whose 95 % interval of the accuracy contains 0.5, the least accurate first.
    """
    counts = np.bincount(targets, minlength=probs.shape[1])
    own = probs[np.arange(len(targets)), targets][:, None]
    nearer = np.zeros((probs.shape[1],) * 2, np.int64)  # drawings of the row's class for which the column's is more probable
    np.add.at(nearer, targets, probs > own)
    pairs = []
    for first, second in zip(*np.triu_indices(len(counts), 1), strict=True):
        n, wrong = int(counts[first] + counts[second]), int(nearer[first, second] + nearer[second, first])
        if n < FEWEST_TO_CONFUSE or not counts[first] or not counts[second] or wrong < n / 4:
            continue
        low, high = wilson_interval(n - wrong, n)
        mutual = nearer[first, second] == nearer[first].max() and nearer[second, first] == nearer[second].max()
        if low <= 0.5 and mutual:
            counts_each = int(nearer[first, second]), int(nearer[second, first])
            pairs.append(Confusion(int(first), int(second), n, 1 - wrong / n, (low, high), *counts_each))
    return sorted(pairs, key=lambda pair: (pair.accuracy, -pair.n, pair.first, pair.second))


def lost_to_confusion(confusions: Sequence[Confusion], targets: Int64[np.ndarray, " n"]) -> int:
    """Count the drawings that are lost if nothing tells confused classes apart: those of the rarer class of each pair.

    Args:
        confusions: Confused pairs, the least accurate first; a class counts in the first of its pairs only.
        targets: Class id that the data give each drawing, from 0.
    """
    counts = np.bincount(targets)
    counted: set[int] = set()
    lost = 0
    for pair in confusions:
        if not {pair.first, pair.second} & counted:
            counted |= {pair.first, pair.second}
            lost += int(min(counts[pair.first], counts[pair.second]))
    return lost


def _cut(probs: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Find the probability up to which labels are listed, and an upper bound on the share of wrong labels.

    A wrong label that has nothing to do with its drawing is as probable as the label of another drawing. Below any probability
    lie a known share of such random labels and a known share of the actual labels: if all of the latter were wrong, the ratio
    would be the share of wrong labels. The lowest ratio bounds that share; from it follows the share of wrong ones in any list.

    Source: Storey, "A direct approach to false discovery rates", J. R. Stat. Soc. B 64 (2002), with right and wrong exchanged.
    """
    n = len(targets)
    rows = np.arange(n)
    shifts = np.unique(np.linspace(1, max(n - 1, 1), SHIFTS).astype(np.int64))
    by_chance = np.sort(np.concatenate([probs[rows, targets[(rows + shift) % n]] for shift in shifts]))
    scores = np.sort(probs[rows, targets])
    below = np.searchsorted(scores, scores, side="right") / n  # equal scores count together, as those by chance do
    below_by_chance = np.searchsorted(by_chance, scores, side="right") / len(by_chance)
    enough = np.flatnonzero(below_by_chance >= FEWEST_BY_CHANCE)
    if not len(enough):  # every label is less probable than most random ones
        return float(scores[-1]), 1.0
    ratios = below[enough] / below_by_chance[enough]
    wrong = float(ratios.min())
    return float(scores[enough[np.flatnonzero(wrong / ratios >= LISTED_WRONG)[-1]]]), min(wrong, 1.0)
