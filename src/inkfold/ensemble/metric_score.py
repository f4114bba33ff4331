"""What members and votes score by the metric that an ensemble is chosen by, where that isn't accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from inkfold.evaluation.decision import Decision, answer_score, fit_decision, needs_rule, nested_preds, parts_of
from inkfold.evaluation.paired import compare_figures
from inkfold.evaluation.score_figures import statistics_figures
from inkfold.evaluation.scores import Metric

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, slots=True)
class MetricScore:
    """The answers of a member or a vote as a metric sees them.

    Attributes:
        metric: What the answers are scored by, and what the rule was fitted for.
        statistics: Its statistics of each drawing, by answers whose rule was not fitted on the drawing.
        groups: Number of each drawing's group; None where nothing is known of groups.
        rule: The rule that turns probabilities into answers, fitted on all these drawings; None for the most probable class.
    """

    metric: Metric
    statistics: "csr_array"
    groups: Int64[np.ndarray, " n"] | None = None
    rule: Decision | None = None

    @property
    def value(self) -> float:
        """The metric's value, in its own direction."""
        return float(self.metric.value(self.statistics.sum(0)))

    def figures(self) -> dict[str, Any]:
        """Give the value with its interval, as `scores.metric_figures` does."""
        return statistics_figures(self.metric, self.statistics, self.groups)

    def against(self, other: "MetricScore") -> dict[str, Any]:
        """Compare another candidate's score with this one: its value less this one's, by a paired bootstrap."""
        return compare_figures(self.metric, self.statistics, other.statistics, self.groups)

    def select(self, rows: Bool[np.ndarray, " n"]) -> "MetricScore":
        """Keep some of the drawings."""
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, statistics=self.statistics[np.flatnonzero(rows)], groups=groups)


def score_answers(
    metric: Metric,
    probs: Float[np.ndarray, "n classes"],
    targets: Int64[np.ndarray, " n"],
    parts: Int64[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"] | None = None,
) -> tuple[MetricScore, Int64[np.ndarray, " n"]]:
    """Score a candidate, with the rule for its answers where that is better than the most probable class.

    Args:
        metric: What to score by, and to fit the rule for; accuracy, for one, needs no rule.
        probs: Class probabilities, by numbers that were not fitted on the drawing.
        targets: True class id of each drawing.
        parts: The second level's part of each drawing: a part's rule is fitted on the others.
        groups: Number of each drawing's group; None where nothing is known of groups.

    Returns:
        The score, and the class that each drawing is given.
    """
    preds: np.ndarray = probs.argmax(1)
    rule = None
    if needs_rule(metric):
        nested = nested_preds(metric, probs, targets, parts_of(parts, groups, len(targets)))
        if answer_score(metric, targets, nested, probs) > answer_score(metric, targets, preds, probs):
            preds, rule = nested, fit_decision(metric, probs, targets)
    return MetricScore(metric, metric.statistics(probs, targets, preds), groups, rule), preds


def choose_by_metric(scores: Sequence[MetricScore]) -> int:
    """Choose the index of the simplest candidate that is not significantly worse than the best; they come simplest first."""
    best = max(scores, key=lambda score: score.metric.signed(score.value))
    return next(i for i, score in enumerate(scores) if score is best or not best.against(score)["distinguishable"])


def join_chosen(scores: Mapping[int, MetricScore], parts: Int64[np.ndarray, " n"]) -> MetricScore:
    """Put the scores of different candidates, each for one part of the drawings, together.

    Args:
        scores: The candidate's score over all drawings, by the part that it predicts.
        parts: The part of each drawing.
    """
    from scipy.sparse import vstack  # noqa: PLC0415 - 100 ms

    first = next(iter(scores.values()))
    rows = [np.flatnonzero(parts == part) for part in scores]
    stacked = vstack([score.statistics[own] for score, own in zip(scores.values(), rows, strict=True)], format="csr")
    return replace(first, statistics=stacked[np.argsort(np.concatenate(rows))], rule=None)


def metric_pairs(names: Sequence[str], scores: Sequence[MetricScore], taken: str) -> list[dict[str, Any]]:
    """Compare the vote that is taken with every other candidate by the metric; values as of `paired.compare_figures`."""
    place = names.index(taken)
    return [
        {"first": taken, "second": name, **scores[place].against(score)}
        for name, score in zip(names, scores, strict=True)
        if name != taken
    ]
