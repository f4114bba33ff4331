import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import log_loss, precision_score, recall_score, top_k_accuracy_score

from inkfold.metrics import expected_calibration_error, mcnemar, measure, wilson_interval


def random_case(n=300, classes=8, seed=0):
    generator = np.random.default_rng(seed)
    probs = generator.dirichlet(np.full(classes, 0.5), n).astype(np.float32)
    targets = np.where(generator.random(n) < 0.5, probs.argmax(1), generator.integers(0, classes, n))
    return probs, targets


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # by hand: 0 of n gives (0, z^2 / (n + z^2)), n of n its mirror image
        (0, 10, 0.0, 1.959964**2 / (10 + 1.959964**2)),
        (10, 10, 1 - 1.959964**2 / (10 + 1.959964**2), 1.0),
        # Newcombe, "Two-sided confidence intervals for the single proportion", Stat. Med. 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_the_published_ones(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_intervals_hold_their_share_and_stay_within_zero_and_one(case):
    successes, n = case
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n + 1e-12
    assert successes / n - 1e-12 <= high <= 1


def test_calibration_error_by_hand():
    probs = np.array([[0.95, 0.05], [0.9, 0.1], [0.3, 0.7], [0.45, 0.55]], np.float64)
    targets = np.array([0, 1, 1, 0])
    # ten bins: {0.95, 0.9} one of two right, {0.7} right, {0.55} wrong
    expected = (2 * abs(0.925 - 0.5) + abs(0.7 - 1) + abs(0.55 - 0)) / 4
    assert expected_calibration_error(probs, targets, bins=10) == pytest.approx(expected)


def test_full_confidence_falls_into_the_last_bin():
    assert expected_calibration_error(np.eye(3), np.arange(3)) == 0
    assert expected_calibration_error(np.eye(3), np.array([1, 2, 0])) == 1


def test_figures_agree_with_scikit_learn():
    probs, targets = random_case()
    found = measure(probs, targets)
    labels = range(8)
    assert found["n"] == 300
    assert found["accuracy"] == pytest.approx((probs.argmax(1) == targets).mean(), abs=1e-6)
    assert found["top5_accuracy"] == pytest.approx(top_k_accuracy_score(targets, probs, k=5, labels=labels), abs=1e-6)
    normalised = probs.astype(np.float64) / probs.sum(1, keepdims=True, dtype=np.float64)
    assert found["nll"] == pytest.approx(log_loss(targets, normalised, labels=labels), abs=1e-5)
    assert found["macro_recall"] == pytest.approx(recall_score(targets, probs.argmax(1), average="macro"), abs=1e-6)
    assert found["accuracy_ci95"] == pytest.approx(wilson_interval(round(found["accuracy"] * 300), 300), abs=1e-6)


def test_classes_agree_with_scikit_learn():
    probs, targets = random_case()
    names = [f"class {i}" for i in range(8)]
    rows = measure(probs, targets, names)["per_class"]
    recall = recall_score(targets, probs.argmax(1), average=None, labels=range(8))
    precision = precision_score(targets, probs.argmax(1), average=None, labels=range(8))
    assert [row["class_name"] for row in rows] == names
    assert [row["n"] for row in rows] == np.bincount(targets, minlength=8).tolist()
    assert [row["recall"] for row in rows] == pytest.approx(recall, abs=1e-6)
    assert [row["precision"] for row in rows] == pytest.approx(precision, abs=1e-6)


def test_top5_breaks_ties_by_the_lower_id_as_argmax_does():
    probs = np.full((8, 8), 1 / 8, np.float32)
    assert measure(probs, np.arange(8))["top5_accuracy"] == 5 / 8
    probs = np.array([[0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0]], np.float32)
    assert [measure(probs, np.array([i]))["top5_accuracy"] for i in range(8)] == [1, 1, 1, 1, 1, 0, 0, 0]


def test_top5_of_fewer_than_five_classes_is_one():
    assert measure(np.array([[0.9, 0.1, 0.0]]), np.array([2]))["top5_accuracy"] == 1.0


def test_the_perfect_case():
    found = measure(np.eye(3, dtype=np.float32), np.arange(3), "abc")
    assert (found["accuracy"], found["top5_accuracy"], found["nll"], found["ece"], found["macro_recall"]) == (1, 1, 0, 0, 1)
    assert found["accuracy_ci95"][1] == 1.0


def test_the_worst_case_is_finite():
    found = measure(np.eye(8, dtype=np.float32), np.roll(np.arange(8), 1))
    assert (found["accuracy"], found["ece"], found["macro_recall"]) == (0, 1, 0)
    assert found["nll"] == pytest.approx(-math.log(1e-15), abs=1e-6)
    assert found["accuracy_ci95"][0] == 0.0


def test_absent_classes_are_null_and_never_nan():
    found = measure(np.array([[0.7, 0.3, 0.0], [0.6, 0.4, 0.0]]), np.array([0, 0]), ["a", "b", "c"])
    assert found["macro_recall"] == 1.0
    assert found["per_class"][1] == {"class_name": "b", "n": 0, "recall": None, "precision": None}
    json.dumps(found, allow_nan=False)


def test_a_class_that_is_never_predicted_has_no_precision():
    found = measure(np.array([[0.7, 0.3], [0.6, 0.4]]), np.array([0, 1]), ["a", "b"])
    assert found["per_class"][0] == {"class_name": "a", "n": 1, "recall": 1.0, "precision": 0.5}
    assert found["per_class"][1] == {"class_name": "b", "n": 1, "recall": 0.0, "precision": None}


@given(st.integers(0, 2**32 - 1))
def test_row_order_changes_no_figure(seed):
    probs, targets = random_case(40, 7, seed)
    order = np.random.default_rng(seed).permutation(40)
    shuffled, straight = measure(probs[order], targets[order]), measure(probs, targets)
    assert all(shuffled[name] == pytest.approx(straight[name], abs=2e-6) for name in straight)


def answers(both, only_first, only_second, neither):
    """Which of two classifiers is right, over questions in mixed order."""
    first = np.repeat([True, True, False, False], [both, only_first, only_second, neither])
    second = np.repeat([True, False, True, False], [both, only_first, only_second, neither])
    order = np.random.default_rng(0).permutation(len(first))
    return first[order], second[order]


def test_mcnemars_probability_by_hand():
    # one of four on the one side: 2 (1 + 4) / 16
    assert mcnemar(*answers(7, 1, 3, 2)) == pytest.approx(2 * (1 + 4) / 2**4)
    assert mcnemar(*answers(0, 0, 6, 0)) == pytest.approx(2 / 2**6)


@given(*[st.integers(0, 60)] * 4)
def test_mcnemars_probability_is_the_exact_binomial_test_of_the_questions_on_which_one_is_right(
    both, only_first, only_second, neither
):
    first, second = answers(both, only_first, only_second, neither)
    expected = binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(second, first) == mcnemar(first, second) <= 1


@pytest.mark.parametrize("discordant", [(25_000, 25_600), (30_000, 30_000), (0, 2_000)])
def test_mcnemars_probability_holds_for_as_many_questions_as_imagenet_sketch_has(discordant):
    expected = binomtest(discordant[0], sum(discordant)).pvalue
    assert mcnemar(*answers(10, *discordant, 10)) == pytest.approx(expected, rel=1e-6, abs=1e-300)


def test_classifiers_that_are_right_on_the_same_questions_do_not_differ():
    right = np.array([True, False, True])
    assert mcnemar(right, right) == mcnemar(right[:0], right[:0]) == 1.0
    assert mcnemar(*answers(5, 4, 4, 0)) == 1.0
