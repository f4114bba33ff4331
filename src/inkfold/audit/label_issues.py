"""Label errors, and pairs of classes that no model separates, found from several models' out-of-fold probabilities with NumPy.

A label is ranked by a likelihood ratio: how much better the drawing is explained by another class whose drawings are taken for
the label's than by the label itself. Only labels that every model doubts are listed. How pure a list is, is measured on the
user's own data: each drawing gets a wrong label of the kind that real ones are, a similar class, and is scored like the others.
docs/audit.md has the measurements.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.stats import beta, gamma

from inkfold.audit.views import SMALLEST, View, pooled
from inkfold.evaluation.metrics import wilson_interval
from inkfold.evaluation.predictions import softmax

METHOD = (
    "labels that all models doubt, the best explained by a similar class first; the list ends where less than three quarters "
    "of it are estimated to be wrong"
)
LISTED_WRONG = 0.75  # least estimated share of wrong labels in the list
FEW_WRONG = 0.003  # share of wrong labels that carefully labelled data have, for the stricter of two estimates
SIMILAR = 0.9  # share of wrong labels that go to similar classes; the others go anywhere
PLANTED_PER_LABEL = 3  # wrong labels that each drawing gets in turn
FEWEST_FOUND = 0.05  # least share of planted labels that an estimate rests on
SHARES = np.geomspace(1e-3, 0.3, 18)
SHARPNESS = np.geomspace(0.6, 2, 7)
ROWS_TO_FIT = 20_000
ROWS = 4096
NOT_DOUBTED = -np.inf
FEWEST_TO_CONFUSE = 10  # drawings of two classes together: among fewer, half are easily right by chance


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """A label that is probably wrong.

    Attributes:
        row: Row of the drawing in the predictions.
        label: Id of the class that the data give the drawing: its column in the predictions, from 0.
        suggested: Id of the class that explains the drawing best, given its label; it differs from `label`.
        score: The models' pooled probability of the label's class, 0 to 1.
        suggested_probability: The models' pooled probability of the suggested class, 0 to 1.
        doubt: Estimated probability that the label is wrong, 0 to 1, where few labels of the data are.
    """

    row: int
    label: int
    suggested: int
    score: float
    suggested_probability: float
    doubt: float


@dataclass(frozen=True, slots=True)
class LabelDoubts:
    """The labels that are probably wrong, and how sure that is.

    Attributes:
        issues: The most doubtful label first.
        expected_wrong: Estimated share of the listed labels that are wrong, 0 to 1; None for an empty list.
        expected_wrong_ci95: Interval of this share: chance among the listed ones, and how common wrong labels are.
        found_fraction: Share of planted wrong labels, 0 to 1, that this list would have held.
        wrong_fraction: Estimated share of all labels that are wrong, 0 to 1.
    """

    issues: tuple[LabelIssue, ...]
    expected_wrong: float | None
    expected_wrong_ci95: tuple[float, float] | None
    found_fraction: float
    wrong_fraction: float


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


def find_label_issues(
    views: Sequence[View], targets: Int64[np.ndarray, " n"], settled: Bool[np.ndarray, " n"] | None = None, seed: int = 0
) -> LabelDoubts:
    """Find the labels that are probably wrong.

    Two estimates decide where the list ends, the lower one at each place. First, wrong labels are planted, one at a time, and
    the share of them above a score, times the share of all labels that are wrong, is what is expected there; the actual labels
    above it are counted. Second, the mean probability of being wrong, by Bayes' rule with few wrong labels.

    Args:
        views: Out-of-fold probabilities of one or more models: none was trained on the drawing.
        targets: Class id that the data give each drawing, in the order of the probabilities' rows.
        settled: True for labels that aren't listed whatever the models say, as a person has looked at them; None for none.
        seed: Seed of the planted labels.

    Returns:
        The doubtful labels, and how sure they are.

    Source: the share of wrong labels follows Storey, "A direct approach to false discovery rates", J. R. Stat. Soc. B 64
    (2002), with right and wrong exchanged; labels as a mixture of the true and similar classes: Natarajan et al., "Learning
    with Noisy Labels", NeurIPS 2013.
    """
    probs, share = _fit(pooled(views), targets)
    kernel = _mistakes(probs, targets)
    scores, suggested = _scores(probs, views, targets, kernel)
    if settled is not None:
        scores[settled] = NOT_DOUBTED
    planted = np.sort(_planted_scores(probs, views, targets, kernel, np.random.default_rng(seed)))
    order = np.argsort(-scores, kind="stable")[: int((scores > NOT_DOUBTED).sum())]
    found = 1 - np.searchsorted(planted, scores[order], side="left") / len(planted)
    listed = np.arange(1, len(order) + 1) / len(targets)
    enough = found >= FEWEST_FOUND
    fewest = min(share, float((listed / np.maximum(found, FEWEST_FOUND))[enough].min(initial=1.0)))
    at_most = float((_upper_counts(len(order)) / len(targets) / np.maximum(found, FEWEST_FOUND))[enough].min(initial=1.0))
    about = min(share, at_most)
    doubt = _posterior(scores[order], min(fewest, FEW_WRONG))
    counted = np.minimum(fewest * found / listed, 1)
    estimates = np.minimum(counted, np.cumsum(doubt) / np.arange(1, len(order) + 1))
    end = int(np.flatnonzero(estimates >= LISTED_WRONG)[-1]) + 1 if (estimates >= LISTED_WRONG).any() else 0
    issues = tuple(
        LabelIssue(
            int(row),
            int(targets[row]),
            int(suggested[row]),
            float(probs[row, targets[row]]),
            float(probs[row, suggested[row]]),
            float(doubt[place]),
        )
        for place, row in enumerate(order[:end])
    )
    if not end:
        return LabelDoubts((), None, None, 0.0, about)
    estimate, highest = float(estimates[end - 1]), min(max(share, at_most) * found[end - 1] / listed[end - 1], 1)
    interval = (wilson_interval(round(estimate * end), end)[0], wilson_interval(round(highest * end), end)[1])
    return LabelDoubts(issues, estimate, interval, float(found[end - 1]), about)


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


def _fit(probs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit the probabilities' sharpness and the share of wrong labels together, by the labels' likelihood."""
    some = np.arange(0, len(targets), -(-len(targets) // ROWS_TO_FIT))
    logs, labels = np.log(np.maximum(probs[some], SMALLEST)), targets[some]
    kernel, rows = _mistakes(probs[some], labels), np.arange(len(some))
    best = (-np.inf, 1.0, float(SHARES[0]))
    for sharpness in SHARPNESS:
        sharp = softmax(logs * np.float32(sharpness))
        right, wrong = sharp[rows, labels], np.einsum("nc,nc->n", sharp, kernel[:, labels].T)
        for share in SHARES:
            likelihood = float(np.log((1 - share) * right + share * wrong + 1e-30).sum())
            best = max(best, (likelihood, float(sharpness), float(share)))
    return softmax(np.log(np.maximum(probs, SMALLEST)) * np.float32(best[1])), best[2]


def _mistakes(probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Estimate to which class a wrong label of each class (row) goes: mostly to those that its drawings resemble."""
    classes = probs.shape[1]
    similar = np.zeros((classes, classes), np.float32)
    np.add.at(similar, targets, probs)
    np.fill_diagonal(similar, 0)
    similar /= np.maximum(similar.sum(1, keepdims=True), SMALLEST)
    mistakes: np.ndarray = SIMILAR * similar + (1 - SIMILAR) / max(classes - 1, 1)
    np.fill_diagonal(mistakes, 0)
    mistakes /= np.maximum(mistakes.sum(1, keepdims=True), SMALLEST)
    return mistakes


def _scores(
    probs: np.ndarray, views: Sequence[View], labels: np.ndarray, kernel: np.ndarray
) -> tuple[Float[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return each label's log-likelihood ratio of wrong to right, or `NOT_DOUBTED`, and the class to suggest."""
    scores, suggested = np.empty(len(labels)), np.empty(len(labels), np.int64)
    for start in range(0, len(labels), ROWS):
        some = slice(start, start + ROWS)
        own, rows = labels[some], np.arange(len(labels[some]))
        explained = probs[some] * kernel[:, own].T
        suggested[some] = explained.argmax(1)
        doubted = _all_doubt(views, some, own, suggested[some])
        ratio = np.log(explained.sum(1) + 1e-30) - np.log(probs[some][rows, own] + 1e-30)
        scores[some] = np.where(doubted, ratio, NOT_DOUBTED)
    return scores, suggested


def _all_doubt(views: Sequence[View], some: slice, labels: np.ndarray, suggested: np.ndarray) -> Bool[np.ndarray, " rows"]:
    rows = np.arange(len(labels))
    doubts = [view.probs[some][rows, suggested] > view.probs[some][rows, labels] for view in views]
    doubted: np.ndarray = np.logical_and.reduce(doubts)
    return doubted


def _planted_scores(
    probs: np.ndarray, views: Sequence[View], targets: np.ndarray, kernel: np.ndarray, rng: np.random.Generator
) -> Float[np.ndarray, " planted"]:
    """Score wrong labels, each planted alone: a drawing's models were not trained on it, so they stay as they are."""
    bounds = np.cumsum(kernel, axis=1)
    planted = []
    for _ in range(PLANTED_PER_LABEL):
        draws, labels = rng.random(len(targets)), np.empty(len(targets), np.int64)
        for start in range(0, len(targets), ROWS):
            some = slice(start, start + ROWS)
            labels[some] = (draws[some, None] > bounds[targets[some]]).sum(1)
        labels = np.minimum(labels, len(kernel) - 1)
        planted.append(_scores(probs, views, labels, kernel)[0][labels != targets])
    return np.concatenate(planted)


def _upper_counts(n: int) -> Float[np.ndarray, " n"]:
    """Return the mean of a Poisson variable that counts 1 to n, or fewer, with 5 % probability: what chance may have hidden."""
    upper: np.ndarray = gamma.ppf(0.95, np.arange(2, n + 2))
    return upper


def _posterior(scores: np.ndarray, share: float) -> Float[np.ndarray, " n"]:
    odds = np.exp(np.minimum(scores, 50)) * share / (1 - share)
    probability: np.ndarray = odds / (1 + odds)
    return probability


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
    could_be = 1.0 if not wrong else float(beta.ppf(1 - 0.05 / comparisons, n - wrong + 1, wrong))
    own = (int(tables[best][first, second]), int(tables[best][second, first]))
    return Confusion(first, second, n, best, 1 - wrong / n, wilson_interval(n - wrong, n), could_be, *own)
