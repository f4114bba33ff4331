import numpy as np
import pytest

from inkfold.audit.label_issues import find_confusions, find_label_issues, lost_to_confusion
from inkfold.audit.views import View


def classifier(n=600, classes=12, wrong=30, seed=0, confused=()):
    """Probabilities of a good classifier, of which it knows the true classes; some labels are wrong."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % classes
    logits = rng.normal(0, 1, (n, classes))
    logits[np.arange(n), truth] += 5
    logits[np.arange(n), (truth + 1) % classes] += 1
    for first, second in confused:
        rows = np.isin(truth, (first, second))
        logits[rows, first] = logits[rows, second] = 6 + rng.normal(0, 1, rows.sum())
        logits[rows, second] += rng.normal(0, 0.5, rows.sum())
    labels = truth.copy()
    rows = rng.choice(n, wrong, replace=False)
    labels[rows] = (truth[rows] + 1) % classes  # which the logits find a little more probable than others
    probs = np.exp(logits)
    return (probs / probs.sum(1, keepdims=True)).astype(np.float32), labels, truth, set(rows.tolist())


def views_of(*probs):
    return [View(f"model {number}", one) for number, one in enumerate(probs)]


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


def test_a_pair_that_no_model_separates_is_found_and_no_other():
    probs, labels, _, _ = classifier(confused=[(3, 7)], wrong=0)
    [pair] = find_confusions(views_of(probs), labels)
    assert (pair.first, pair.second) == (3, 7)
    assert pair.accuracy_ci95[0] <= 0.5
    wrong = pair.first_as_second + pair.second_as_first
    assert pair.accuracy == pytest.approx(1 - wrong / pair.n)
    assert pair.accuracy < pair.could_be < 1
    names = tuple("abcdefghijkl")
    assert pair.as_json(names)["first"] == "d"


def test_a_pair_that_one_model_separates_is_not_reported():
    confused, labels, _, _ = classifier(confused=[(3, 7)], wrong=0)
    other, same, _, _ = classifier(wrong=0)
    np.testing.assert_array_equal(labels, same)
    assert find_confusions(views_of(confused, other), labels) == []


def test_each_class_is_lost_to_one_pair_only():
    probs, labels, _, _ = classifier(wrong=0, confused=[(3, 7)])
    [pair] = find_confusions(views_of(probs), labels)
    counts = np.bincount(labels)
    assert lost_to_confusion([pair], labels) == min(counts[3], counts[7])
    assert lost_to_confusion([pair, pair], labels) == min(counts[3], counts[7])
    assert lost_to_confusion([], labels) == 0
