import numpy as np
import pytest

from inkfold.audit.label_issues import find_label_issues
from toy_views import classifier, views_of


def noisy(probs, seed):
    """Probabilities of another model that is right as often, by chance elsewhere."""
    logs = np.log(probs) + np.random.default_rng(seed).normal(0, 0.5, probs.shape)
    powers = np.exp(logs)
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def test_planted_wrong_labels_are_listed_with_their_true_class():
    probs, labels, truth, wrong = classifier()
    doubts = find_label_issues(views_of(probs, noisy(probs, 1)), labels)
    found = {issue.row for issue in doubts.issues}
    assert len(found & wrong) >= 10
    assert len(found - wrong) <= len(found) * 0.25
    assert all(issue.label == labels[issue.row] != issue.suggested for issue in doubts.issues)
    assert sum(issue.suggested == truth[issue.row] for issue in doubts.issues if issue.row in wrong) == len(found & wrong)


def test_the_expected_share_of_wrong_labels_holds_and_the_share_of_all_is_close():
    for wrong in (6, 30, 90):
        probs, labels, _, planted = classifier(wrong=wrong)
        doubts = find_label_issues(views_of(probs), labels)
        hits = np.mean([issue.row in planted for issue in doubts.issues])
        low, high = doubts.expected_wrong_ci95
        assert low <= hits <= high
        assert low <= doubts.expected_wrong <= high
        assert doubts.wrong_fraction == pytest.approx(wrong / 600, rel=0.75)


def test_the_most_doubtful_come_first():
    probs, labels, _, _ = classifier()
    doubts = [issue.doubt for issue in find_label_issues(views_of(probs), labels).issues]
    assert doubts == sorted(doubts, reverse=True)


def test_a_label_that_one_model_trusts_is_not_listed():
    probs, labels, _, _ = classifier()
    listed = find_label_issues(views_of(probs), labels).issues
    trusted = listed[0].row
    other = probs.copy()
    other[trusted] = 0.001
    other[trusted, labels[trusted]] = 0.9
    assert trusted not in {issue.row for issue in find_label_issues(views_of(probs, other), labels).issues}


def test_settled_labels_are_not_listed():
    probs, labels, _, _ = classifier()
    listed = [issue.row for issue in find_label_issues(views_of(probs), labels).issues]
    settled = np.isin(np.arange(600), listed[:3])
    assert {issue.row for issue in find_label_issues(views_of(probs), labels, settled).issues}.isdisjoint(listed[:3])


def test_no_label_is_listed_where_nothing_is_wrong_or_the_models_know_nothing():
    probs, labels, _, _ = classifier(wrong=0)
    assert len(find_label_issues(views_of(probs), labels).issues) <= 3
    rng = np.random.default_rng(0)
    guesses, labels = rng.dirichlet(np.ones(10), 500).astype(np.float32), rng.integers(0, 10, 500)
    empty = find_label_issues(views_of(guesses), labels)
    assert len(empty.issues) <= 5
    if not empty.issues:
        assert empty.expected_wrong is None
        assert empty.found_fraction == 0


def test_certainty_in_the_given_labels_leaves_no_doubt():
    labels = np.arange(40) % 4
    assert find_label_issues(views_of(np.eye(4, dtype=np.float32)[labels]), labels).issues == ()


def test_the_same_seed_gives_the_same_list():
    probs, labels, _, _ = classifier()
    assert find_label_issues(views_of(probs), labels) == find_label_issues(views_of(probs), labels)
