"""Which labels are doubtful, which classes the labels don't tell apart, and what accuracy that leaves: pure numpy.

All from out-of-fold probabilities. Labels are ranked by the probability of the given class, cleanlab's `self_confidence`, which
found planted wrong labels best; its normalised margin did far worse, as a classifier of hundreds of classes is often sure of a
wrong one. Its cuts flag 37 to 60 % of Quick, Draw!'s drawings, whose classifiers are right on 0.38 and 0.46; the cut here
estimates how much of a list is wrong. docs/audit.md has the figures.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from inkfold.evaluation.metrics import wilson_interval

METHOD = (
    "the least probable given label first (self-confidence), as far down as at least half of the list are estimated to be "
    "wrong; the most probable class is suggested"
)
LISTED_WRONG = 0.5  # at least, of a list: planted wrong labels were found to 0.83 so, with Quick, Draw!'s best frozen recipe
FEWEST_BY_CHANCE = 0.2  # of labels by chance: fewer say too little
SHIFTS = 64
FEWEST_TO_CONFUSE = 10  # drawings of two classes together: of fewer, chance alone makes half right


@dataclass(frozen=True, slots=True)
class LabelDoubt:
    """A label that is probably wrong.

    Attributes:
        row: The drawing's.
        given: Its class id.
        suggested: The class id that it rather is.
        score: Quality of the label, 0 to 1: the probability of the given class.
        suggested_probability: Of the suggested class.
    """

    row: int
    given: int
    suggested: int
    score: float
    suggested_probability: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """Two classes that can't be told apart.

    Attributes:
        first: A class id.
        second: Another.
        n: Drawings of both.
        accuracy: Share of these that are nearer their own label of the two.
        accuracy_ci95: Its interval, which holds 0.5.
        first_as_second: Drawings of the first that are nearer the second.
        second_as_first: The other way.
    """

    first: int
    second: int
    n: int
    accuracy: float
    accuracy_ci95: tuple[float, float]
    first_as_second: int
    second_as_first: int

    def as_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Give the pair as JSON values with names."""
        names = {"first": class_names[self.first], "second": class_names[self.second]}
        return {**asdict(self), **names, "accuracy_ci95": list(self.accuracy_ci95)}


def find_doubts(probs: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"]) -> list[LabelDoubt]:
    """List the labels that are probably wrong.

    Args:
        probs: Of drawings that their classifier hasn't seen.
        targets: The given labels.

    Returns:
        The most doubtful first.
    """
    rows, suggested = np.arange(len(targets)), probs.argmax(1)
    given = probs[rows, targets]
    listed = np.flatnonzero((suggested != targets) & (given <= _cut(probs, targets)[0]))
    listed = listed[np.argsort(given[listed], kind="stable")]
    return [
        LabelDoubt(int(row), int(targets[row]), int(suggested[row]), float(given[row]), float(probs[row, suggested[row]]))
        for row in listed
    ]


def estimate_wrong_fraction(probs: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"]) -> float:
    """Bound the share of labels that have nothing to do with their drawings from above.

    Args:
        probs: Of drawings that their classifier hasn't seen.
        targets: The given labels.

    Returns:
        A share, 0 to 1.
    """
    return _cut(probs, targets)[1]


def find_confusions(probs: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"]) -> list[Confusion]:
    """List pairs of classes that can't be told apart: by which of the two is more probable, a coin does as well.

    Of hundreds of classes some pairs look so by chance: each must be the one to which most of the other's drawings are nearer.

    Args:
        probs: Of drawings that their classifier hasn't seen.
        targets: The given labels.

    Returns:
        Pairs whose 95 % interval holds one half, the least accurate first.
    """
    counts = np.bincount(targets, minlength=probs.shape[1])
    own = probs[np.arange(len(targets)), targets][:, None]
    nearer = np.zeros((probs.shape[1],) * 2, np.int64)  # drawings of the row's class that are nearer the column's
    np.add.at(nearer, targets, probs > own)
    found = []
    for first, second in zip(*np.triu_indices(len(counts), 1), strict=True):
        n, wrong = int(counts[first] + counts[second]), int(nearer[first, second] + nearer[second, first])
        if n < FEWEST_TO_CONFUSE or not counts[first] or not counts[second] or wrong < n / 4:
            continue
        low, high = wilson_interval(n - wrong, n)
        mutual = nearer[first, second] == nearer[first].max() and nearer[second, first] == nearer[second].max()
        if low <= 0.5 and mutual:
            ways = int(nearer[first, second]), int(nearer[second, first])
            found.append(Confusion(int(first), int(second), n, 1 - wrong / n, (low, high), *ways))
    return sorted(found, key=lambda one: (one.accuracy, -one.n, one.first, one.second))


def lost_to_confusion(confusions: Sequence[Confusion], targets: Int64[np.ndarray, " n"]) -> int:
    """Count the drawings that must go wrong if confused classes are one: the rarer class of each pair, each class once.

    Args:
        confusions: The worst first.
        targets: The given labels.

    Returns:
        A number of drawings.
    """
    counts = np.bincount(targets)
    taken: set[int] = set()
    lost = 0
    for one in confusions:
        if not {one.first, one.second} & taken:
            taken |= {one.first, one.second}
            lost += int(min(counts[one.first], counts[one.second]))
    return lost


def _cut(probs: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Find the probability below which given labels are listed, and an upper bound on the share of wrong ones.

    A wrong label that has nothing to do with its drawing is as probable as another drawing's label. Below any probability lie a
    known share of such labels and a known share of the given ones: if all of these were wrong, the ratio would be the share of
    wrong labels. The lowest ratio bounds that share, and with it goes the share of wrong ones in any list.

    Source: Storey, "A direct approach to false discovery rates", J. R. Stat. Soc. B 64 (2002), with right and wrong exchanged.
    """
    n = len(targets)
    rows = np.arange(n)
    shifts = np.unique(np.linspace(1, max(n - 1, 1), SHIFTS).astype(np.int64))
    by_chance = np.sort(np.concatenate([probs[rows, targets[(rows + shift) % n]] for shift in shifts]))
    given = np.sort(probs[rows, targets])
    below = np.searchsorted(given, given, side="right") / n  # equal ones are below together, as those by chance are
    below_by_chance = np.searchsorted(by_chance, given, side="right") / len(by_chance)
    fit = np.flatnonzero(below_by_chance >= FEWEST_BY_CHANCE)
    if not len(fit):  # all given labels are rarer than most of those by chance
        return float(given[-1]), 1.0
    ratios = below[fit] / below_by_chance[fit]
    wrong = float(ratios.min())
    return float(given[fit[np.flatnonzero(wrong / ratios >= LISTED_WRONG)[-1]]]), min(wrong, 1.0)
