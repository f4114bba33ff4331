"""Pairs of classes that no model tried separates, found from several models' out-of-fold probabilities with NumPy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64
from scipy.special import betaincinv

from inkfold.audit.views import View, pooled
from inkfold.evaluation.intervals import wilson_interval

FEWEST_TO_CONFUSE = 10  # drawings of two classes together: among fewer, half are easily right by chance
ROWS = 4096


@dataclass(frozen=True, slots=True)
class Confusion:
    """Two classes whose drawings no model separates better than a coin.

    Attributes:
        first: Class id of the first class.
        second: Class id of the second class.
        n: Number of drawings of both classes.
        best_model: Name of the model that separates them best.
        accuracy: The share of the drawings whose own label this model finds more probable than the other one.
        accuracy_ci95: 95 % interval of the accuracy, which contains 0.5.
        could_be: Accuracy that can't be excluded for any of the pairs listed, with 95 % confidence for all of them together.
        first_as_second: Drawings of the first class for which this model finds the second more probable.
        second_as_first: Drawings of the second class for which this model finds the first more probable.
    """

    first: int
    second: int
    n: int
    best_model: str
    accuracy: float
    accuracy_ci95: tuple[float, float]
    could_be: float
    first_as_second: int
    second_as_first: int

    def as_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return the pair as JSON values, with class names instead of ids."""
        names = {"first": class_names[self.first], "second": class_names[self.second]}
        return {**asdict(self), **names, "accuracy_ci95": list(self.accuracy_ci95)}


def find_confusions(views: Sequence[View], targets: Int64[np.ndarray, " n"]) -> list[Confusion]:
    """Find pairs of classes that no model separates, by which of the two is more probable, better than a coin.

    Among hundreds of classes some pairs look so by chance, to one model. So every model, and all of them pooled, must fail, and
    to the pooled ones each class must be the one that most of the other's drawings are mistaken for.

    Args:
        views: Out-of-fold probabilities of one or more models: none was trained on the drawing.
        targets: Class id that the data give each drawing, in the order of the probabilities' rows.

    Returns:
        Pairs for which even the best model's 95 % interval of the accuracy contains 0.5, the least accurate first.
    """
    together = View("all models pooled", pooled(views))
    everyone = [together, *views] if len(views) > 1 else list(views)
    counts = np.bincount(targets, minlength=together.probs.shape[1])
    nearer = _nearer(together, targets)
    candidates = [
        (int(first), int(second))
        for first, second in np.argwhere(np.triu(nearer + nearer.T > 0, 1))
        if counts[first]
        and counts[second]
        and counts[first] + counts[second] >= FEWEST_TO_CONFUSE
        and nearer[first, second] == nearer[first].max()
        and nearer[second, first] == nearer[second].max()
        and _is_a_coin(nearer, first, second, counts)
    ]
    tables = {view.name: _nearer(view, targets) for view in everyone} if candidates else {}
    kept = [pair for pair in candidates if all(_is_a_coin(table, *pair, counts) for table in tables.values())]
    pairs = [_confusion(pair, tables, counts, len(kept) * len(everyone)) for pair in kept]
    return sorted(pairs, key=lambda pair: (pair.accuracy, -pair.n, pair.first, pair.second))


def lost_to_confusion(confusions: Sequence[Confusion], targets: Int64[np.ndarray, " n"]) -> int:
    """Count the drawings that are lost if confused classes can't be separated at all: those of the rarer class of each pair.

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


def _nearer(view: View, targets: np.ndarray) -> Int64[np.ndarray, "classes classes"]:
    """Count, for each class (row), its drawings for which another class (column) is more probable."""
    nearer = np.zeros((view.probs.shape[1],) * 2, np.int64)
    for start in range(0, len(targets), ROWS):
        some = slice(start, start + ROWS)
        probs, labels = view.probs[some], targets[some]
        np.add.at(nearer, labels, probs > probs[np.arange(len(labels)), labels][:, None])
    return nearer


def _is_a_coin(nearer: np.ndarray, first: int, second: int, counts: np.ndarray) -> bool:
    n, wrong = int(counts[first] + counts[second]), int(nearer[first, second] + nearer[second, first])
    return wrong >= n / 4 and wilson_interval(n - wrong, n)[0] <= 0.5


def _confusion(pair: tuple[int, int], tables: dict[str, np.ndarray], counts: np.ndarray, comparisons: int) -> Confusion:
    """Describe a pair by the model that separates it best; `could_be` is Clopper and Pearson's bound after Bonferroni."""
    first, second = pair
    wrongs = {name: int(table[first, second] + table[second, first]) for name, table in tables.items()}
    best = min(wrongs, key=lambda name: wrongs[name])
    n, wrong = int(counts[first] + counts[second]), wrongs[best]
    could_be = 1.0 if not wrong else float(betaincinv(n - wrong + 1, wrong, 1 - 0.05 / comparisons))
    own = (int(tables[best][first, second]), int(tables[best][second, first]))
    return Confusion(first, second, n, best, 1 - wrong / n, wilson_interval(n - wrong, n), could_be, *own)
