import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from inkfold.ensemble.methods import MethodScore, choose, score_choice
from inkfold.ensemble.metric_score import metric_pairs, score_answers
from inkfold.evaluation.scores import ACCURACY, Metric

BALANCED = Metric("balanced_accuracy")
TARGETS = np.array([0] * 80 + [1] * 20)
PARTS = np.arange(100) % 5
MAJORITY = np.tile([0.9, 0.1], (100, 1))  # right on 80 of 100, and on none of the small class


def probs_of(preds):
    return np.where(np.eye(2)[preds] > 0, 0.8, 0.2)


def fair():
    """Right on 60 of the 80 and on 15 of the 20: less accurate, and better balanced."""
    wrong = np.concatenate([np.arange(20), np.arange(80, 85)])
    preds = TARGETS.copy()
    preds[wrong] = 1 - preds[wrong]
    return probs_of(preds)


def scored(name, probs, metric=BALANCED):
    return MethodScore(name, probs, probs.argmax(1) == TARGETS).measured_by(metric, TARGETS, PARTS)


def test_a_metric_chooses_another_candidate_than_accuracy():
    probs = {"majority": MAJORITY, "fair": fair()}
    assert choose([scored(name, own, ACCURACY) for name, own in probs.items()]) == 0
    assert choose([scored(name, own) for name, own in probs.items()]) == 1


def test_the_simplest_of_candidates_that_are_not_distinguishable_is_chosen():
    other = fair()
    other[0] = [0.8, 0.2]
    assert choose([scored("simple", fair()), scored("one more right", other)]) == 0


def test_figures_have_the_metric_beside_accuracy():
    figures = scored("fair", fair()).figures(TARGETS)
    assert figures["metric"]["value"] == pytest.approx(balanced_accuracy_score(TARGETS, fair().argmax(1)))
    assert figures["accuracy"] == 0.75
    assert "metric" not in scored("fair", fair(), ACCURACY).figures(TARGETS)


def test_answers_are_by_the_candidates_own_rule_where_that_is_better():
    leaning = np.stack([np.where(TARGETS == 0, 0.9, 0.6), np.where(TARGETS == 0, 0.1, 0.4)], axis=1)
    score, preds = score_answers(BALANCED, leaning, TARGETS, PARTS)
    assert (preds == TARGETS).all()
    assert score.value == 1
    assert score.rule.kind == "weighted"
    assert (score.rule.preds(leaning) == TARGETS).all()
    assert scored("leaning", leaning).right.all(), "accuracy is of the answers that are given"


def test_the_choice_is_scored_on_parts_that_had_no_part_in_it():
    candidates = [scored("majority", MAJORITY), scored("fair", fair())]
    choice = score_choice(candidates, PARTS)
    assert choice.by_metric.value == pytest.approx(candidates[1].by_metric.value), "each part chooses the second"
    rows = np.flatnonzero(PARTS == 3)
    expected = candidates[1].by_metric.statistics[rows].toarray()
    assert (choice.by_metric.statistics[rows].toarray() == expected).all(), "rows stay in their order"


def test_pairs_are_of_the_vote_that_is_taken_with_each_other_candidate():
    candidates = [scored("majority", MAJORITY), scored("fair", fair()), scored("again", fair())]
    pairs = metric_pairs([one.name for one in candidates], [one.by_metric for one in candidates], "fair")
    assert [(pair["first"], pair["second"]) for pair in pairs] == [("fair", "majority"), ("fair", "again")]
    assert pairs[0]["difference"] == pytest.approx(0.5 - 0.75)
    assert [pair["distinguishable"] for pair in pairs] == [True, False]
