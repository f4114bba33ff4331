"""Label errors, found from several models' out-of-fold probabilities with NumPy.

A label is ranked by a likelihood ratio: how much better the drawing is explained by another class whose drawings are taken for
the label's than by the label itself. Only labels that every model doubts are listed. How pure a list is, is measured on the
user's own data: each drawing gets a wrong label of the kind that real ones are, a similar class, and is scored like the others.
docs/audit.md has the measurements.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.special import gammaincinv

from inkfold.audit.views import SMALLEST, View, pooled
from inkfold.evaluation.intervals import wilson_interval
from inkfold.evaluation.predictions import softmax, softmax_in_parts

METHOD = (
    "labels that all models doubt, the best explained by a similar class first; the list ends where the share of it that "
    "is estimated to be wrong falls below 63 % to 75 %, the more the better the models are"
)
LEAST_WRONG = (0.63, 0.75)  # least estimated share of wrong labels in the list, without and with full trust in the models
DISCOUNT = 0.3  # of the estimate without trust: on Quick, Draw!'s 274 classes at an accuracy of 0.55, 0.9 were 0.56 to 0.75
FEWEST_LISTED = 5  # without trust: the purest two or three of many labels look so by chance
NO_TRUST, FULL_TRUST = 0.6, 0.95  # accuracies of the pooled models between which trust in their probabilities rises
FEW_WRONG = 0.003  # share of wrong labels that carefully labelled data have, for the stricter of two estimates
SIMILAR = (0.9, 0.5, 0.1)  # of wrong labels go to similar classes, the others anywhere; the likeliest of these is taken
PLANTED_PER_LABEL = 3  # wrong labels that each drawing gets in turn
FEWEST_FOUND = 0.05  # least share of planted labels that an estimate rests on
SHARES = np.geomspace(1e-3, 0.3, 18)
SHARPNESS = np.geomspace(0.6, 2, 7)
ROWS_TO_FIT = 20_000
ROWS = 4096
NOT_DOUBTED = -np.inf


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
    ranked = _rank(views, targets, settled, seed)
    shares = _share_of_wrong(ranked)
    accuracy = float((ranked.probs.argmax(1) == targets).mean())
    trust = float(np.clip((accuracy - NO_TRUST) / (FULL_TRUST - NO_TRUST), 0, 1))
    careful = shares.fewest ** (1 - trust) * shares.likely**trust
    doubt = _posterior(ranked.scores, min(careful, FEW_WRONG))
    counted = np.minimum(careful * ranked.found / ranked.listed, 1)
    estimates = np.minimum(counted, np.cumsum(doubt) / np.arange(1, len(doubt) + 1)) * (1 - DISCOUNT * (1 - trust))
    places = np.flatnonzero(estimates >= LEAST_WRONG[0] + (LEAST_WRONG[1] - LEAST_WRONG[0]) * trust)
    if not len(places) or places[-1] + 1 < FEWEST_LISTED * (1 - trust):
        return LabelDoubts((), None, None, 0.0, shares.likely)
    end = int(places[-1]) + 1
    estimate, found = float(estimates[end - 1]), float(ranked.found[end - 1])
    highest = min(shares.most * found / float(ranked.listed[end - 1]), 1)
    interval = (wilson_interval(round(estimate * end), end)[0], wilson_interval(round(highest * end), end)[1])
    issues = tuple(ranked.issue(place, targets, float(doubt[place])) for place in range(end))
    return LabelDoubts(issues, estimate, interval, found, shares.likely)


@dataclass(frozen=True, slots=True)
class _Ranked:
    """The labels that all models doubt, the most doubtful first.

    Attributes:
        rows: Their rows in the predictions.
        scores: Log-likelihood ratio of wrong to right of each.
        suggested: The class to suggest for each.
        found: Share of planted wrong labels that score as high, or higher.
        listed: Share of all labels that do.
        probs: Fitted class probabilities of all drawings.
        share: Likeliest share of wrong labels.
    """

    rows: Int64[np.ndarray, " m"]
    scores: Float[np.ndarray, " m"]
    suggested: Int64[np.ndarray, " m"]
    found: Float[np.ndarray, " m"]
    listed: Float[np.ndarray, " m"]
    probs: Float[np.ndarray, "n classes"]
    share: float

    def issue(self, place: int, targets: Int64[np.ndarray, " n"], doubt: float) -> LabelIssue:
        """Describe one of the labels."""
        row, suggested = int(self.rows[place]), int(self.suggested[place])
        label, probs = int(targets[row]), self.probs[row]
        return LabelIssue(row, label, suggested, float(probs[label]), float(probs[suggested]), doubt)


@dataclass(frozen=True, slots=True)
class _Shares:
    """Estimates of the share of wrong labels: the lowest, the likely one, and the highest."""

    fewest: float
    likely: float
    most: float


def _rank(views: Sequence[View], targets: np.ndarray, settled: np.ndarray | None, seed: int) -> _Ranked:
    probs, kernel, share = _fit(pooled(views), targets)
    scores, suggested = _scores(probs, views, targets, kernel)
    if settled is not None:
        scores[settled] = NOT_DOUBTED
    planted = np.sort(_planted_scores(probs, views, targets, kernel, np.random.default_rng(seed)))
    rows = np.argsort(-scores, kind="stable")[: int((scores > NOT_DOUBTED).sum())]
    found = 1 - np.searchsorted(planted, scores[rows], side="left") / max(len(planted), 1)
    listed = np.arange(1, len(rows) + 1) / len(targets)
    return _Ranked(rows, scores[rows], suggested[rows], found, listed, probs, share)


def _share_of_wrong(ranked: _Ranked) -> _Shares:
    """Bound the share by counts: of wrong labels, a known share scores this high, and no more labels than these do."""
    enough = ranked.found >= FEWEST_FOUND
    counts, found = np.arange(1, len(enough) + 1)[enough], ranked.found[enough]
    n = len(ranked.probs)
    observed = float((counts / n / found).min(initial=1.0))
    # 5 % of Poisson variables of this mean would count so few: what chance may have hidden
    possible = float((gammaincinv(counts + 1, 0.95) / n / found).min(initial=1.0))
    return _Shares(min(ranked.share, observed), min(ranked.share, possible), max(ranked.share, possible))


def _fit(probs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Fit the probabilities' sharpness, the kind of wrong labels and their share together, by the labels' likelihood.

    Returns:
        The probabilities with that sharpness, the kernel of mistakes, and the share of wrong labels.
    """
    some = np.arange(0, len(targets), -(-len(targets) // ROWS_TO_FIT))
    logs, labels, rows = np.log(np.maximum(probs[some], SMALLEST)), targets[some], np.arange(len(some))
    kernels = {similar: _mistakes(probs[some], labels, similar) for similar in SIMILAR}
    best = (-np.inf, 1.0, SIMILAR[0], float(SHARES[0]))
    for sharpness in SHARPNESS:
        sharp = softmax(logs * np.float32(sharpness))
        right = sharp[rows, labels]
        for similar, kernel in kernels.items():
            wrong = np.einsum("nc,nc->n", sharp, kernel[:, labels].T)
            for share in SHARES:
                likelihood = float(np.log((1 - share) * right + share * wrong + 1e-30).sum())
                best = max(best, (likelihood, float(sharpness), similar, float(share)))
    _, sharpness, similar, share = best
    factor = np.float32(sharpness)
    fitted = softmax_in_parts(lambda part: np.log(np.maximum(probs[part], SMALLEST)) * factor, probs.shape)
    return fitted, _mistakes(fitted, targets, similar), share


def _mistakes(probs: np.ndarray, targets: np.ndarray, similar: float) -> np.ndarray:
    """Estimate to which class a wrong label of each class (row) goes: to those that its drawings resemble, or anywhere."""
    classes = probs.shape[1]
    resembled = np.zeros((classes, classes), np.float32)
    np.add.at(resembled, targets, probs)
    np.fill_diagonal(resembled, 0)
    resembled /= np.maximum(resembled.sum(1, keepdims=True), SMALLEST)
    mistakes: np.ndarray = similar * resembled + (1 - similar) / max(classes - 1, 1)
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


def _posterior(scores: np.ndarray, share: float) -> Float[np.ndarray, " n"]:
    odds = np.exp(np.minimum(scores, 50)) * share / (1 - share)
    probability: np.ndarray = odds / (1 + odds)
    return probability
