import numpy as np
import pytest

from inkfold.audit.label_issues import estimate_wrong_fraction, find_confusions, find_label_issues, lost_to_confusion


def classifier(n=600, classes=12, wrong=30, seed=0, confused=()):
    """Probabilities of a good classifier, of which it knows the true classes; some labels are wrong."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % classes
    logits = rng.normal(0, 1, (n, classes))
    logits[np.arange(n), truth] += 5
    for first, second in confused:
        rows = np.isin(truth, (first, second))
        logits[rows, first] = logits[rows, second] = 6 + rng.normal(0, 1, rows.sum())
        logits[rows, second] += rng.normal(0, 0.5, rows.sum())
    labels = truth.copy()
    rows = rng.choice(n, wrong, replace=False)
    labels[rows] = (truth[rows] + rng.integers(1, classes, wrong)) % classes
    probs = np.exp(logits)
    return (probs / probs.sum(1, keepdims=True)).astype(np.float32), labels, truth, set(rows.tolist())


def test_planted_wrong_labels_are_listed_with_their_true_class():
    probs, labels, truth, wrong = classifier()
    issues = find_label_issues(probs, labels)
    found = {issue.row for issue in issues}
    assert len(found & wrong) >= 27
    assert len(found - wrong) <= 9
    assert all(issue.label == labels[issue.row] for issue in issues)
    assert sum(issue.suggested == truth[issue.row] for issue in issues if issue.row in wrong) >= 25


def test_the_most_doubtful_come_first():
    probs, labels, _, _ = classifier()
    issues = find_label_issues(probs, labels)
    scores = [issue.score for issue in issues]
    assert scores == sorted(scores)
    assert scores == [probs[issue.row, issue.label] for issue in issues]


def test_the_share_of_wrong_labels_is_bounded_closely():
    for wrong in (0, 30, 90):
        probs, labels, _, _ = classifier(wrong=wrong)
        assert wrong / 600 - 0.01 <= estimate_wrong_fraction(probs, labels) <= wrong / 600 + 0.03


def test_labels_of_equal_probability_are_bounded_as_any_others():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 2000)
    named = np.where(rng.random(2000) < 0.7, labels, rng.integers(0, 20, 2000))  # as a vote of one: all others have one value
    probs = np.where(np.arange(20) == named[:, None], 0.81, 0.01).astype(np.float32)
    wrong = float((named != labels).mean())
    assert wrong <= estimate_wrong_fraction(probs, labels) <= wrong + 0.05
    assert {issue.row for issue in find_label_issues(probs, labels)} == {*np.flatnonzero(named != labels).tolist()}


def test_labels_that_are_all_rarer_than_others_may_all_be_wrong():
    probs, labels = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32), np.array([1, 0])
    assert estimate_wrong_fraction(probs, labels) == 1.0
    assert {issue.row for issue in find_label_issues(probs, labels)} == {0, 1}


def test_a_classifier_that_knows_nothing_lists_little_more_than_it_must():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(10), 500).astype(np.float32)
    labels = rng.integers(0, 10, 500)
    assert estimate_wrong_fraction(probs, labels) > 0.8  # any label may be wrong, as far as it can tell
    assert all(issue.suggested != issue.label for issue in find_label_issues(probs, labels))


def test_certainty_in_the_given_labels_leaves_no_doubt():
    labels = np.arange(40) % 4
    probs = np.eye(4, dtype=np.float32)[labels]
    assert find_label_issues(probs, labels) == []


def test_a_pair_that_nothing_tells_apart_is_found_and_no_other():
    probs, labels, _, _ = classifier(confused=[(3, 7)])
    [pair] = find_confusions(probs, labels)
    assert (pair.first, pair.second) == (3, 7)
    assert pair.accuracy_ci95[0] <= 0.5
    wrong = pair.first_as_second + pair.second_as_first
    assert pair.accuracy == pytest.approx(1 - wrong / pair.n)
    names = tuple("abcdefghijkl")
    assert pair.as_json(names)["first"] == "d"


def test_each_class_is_lost_to_one_pair_only():
    probs, labels, _, _ = classifier(wrong=0, confused=[(3, 7)])
    [pair] = find_confusions(probs, labels)
    counts = np.bincount(labels)
    assert lost_to_confusion([pair], labels) == min(counts[3], counts[7])
    assert lost_to_confusion([pair, pair], labels) == min(counts[3], counts[7])
    assert lost_to_confusion([], labels) == 0
