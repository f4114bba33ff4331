import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, bootstrap
from sklearn.metrics import log_loss, precision_score, recall_score, top_k_accuracy_score

from inkfold.errors import PredictionError
from inkfold.evaluation.intervals import wilson_interval
from inkfold.evaluation.metrics import bootstrap_interval, expected_calibration_error, measure, reliability_table
from inkfold.evaluation.paired import mcnemar, paired_difference


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


def test_the_reliability_table_by_hand():
    probs = np.array([[0.95, 0.05], [0.91, 0.09], [0.65, 0.35], [0.5, 0.5]])
    table = reliability_table(probs, np.array([0, 1, 0, 0]), bins=10)
    assert [(row.low, row.high) for row in table] == [(i / 10, (i + 1) / 10) for i in range(10)]
    assert [row.count for row in table] == [0, 0, 0, 0, 0, 1, 1, 0, 0, 2]
    assert (table[9].confidence, table[9].accuracy) == (pytest.approx(0.93), 0.5)
    assert (table[0].confidence, table[0].accuracy) == (None, None)


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
    assert shuffled.pop("interval") == straight.pop("interval")
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
    assert mcnemar(*answers(10, *discordant, 10)) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_classifiers_that_are_right_on_the_same_questions_do_not_differ():
    right = np.array([True, False, True])
    assert mcnemar(right, right) == mcnemar(right[:0], right[:0]) == 1.0
    assert mcnemar(*answers(5, 4, 4, 0)) == 1.0


def test_a_paired_difference_by_hand():
    # of 100: 12 only the first has right, 30 only the second. The variance of a difference of -1, 0 or 1 is 42 / 100 - 0.18^2
    found = paired_difference(*answers(40, 12, 30, 18))
    half = 1.959964 * math.sqrt((0.42 - 0.18**2) / 100)
    # Clopper and Pearson's interval of 30 of 42 is 0.554161 to 0.842809, by scipy's binomtest
    low = (2 * 0.554161 - 1) * 0.42
    assert found["difference"] == 0.18
    assert low < 0.18 - half
    assert found["difference_ci95"] == pytest.approx([low, 0.18 + half], abs=2e-6)
    assert found["p_value"] == pytest.approx(binomtest(12, 42).pvalue)
    assert found["distinguishable"] is True
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(("only_second", "distinguishable"), [(5, False), (6, True)])
def test_a_difference_is_distinguishable_below_a_twentieth(only_second, distinguishable):
    # by hand: 2 / 2^5 is 0.0625, and 2 / 2^6 0.03125
    found = paired_difference(*answers(10, 0, only_second, 3))
    assert found["p_value"] == pytest.approx(2 / 2**only_second)
    assert found["distinguishable"] is distinguishable


@given(*[st.integers(0, 60)] * 4)
def test_a_paired_difference_is_that_of_the_means_and_changes_its_sign_with_the_order(both, only_first, only_second, neither):
    first, second = answers(both, only_first, only_second, neither + 1)
    found, swapped = paired_difference(first, second), paired_difference(second, first)
    changes, differ = second.astype(float) - first, only_first + only_second
    low, high = found["difference_ci95"]
    assert found["difference"] == pytest.approx(changes.mean(), abs=1e-6)
    normal = changes.mean() + np.array([-1, 1]) * 1.959964 * changes.std() / len(first) ** 0.5
    share = binomtest(only_second, differ).proportion_ci(0.95) if differ else None
    exact = [(2 * bound - 1) * differ / len(first) for bound in share] if share else [0, 0]
    assert low == pytest.approx(max(min(exact[0], normal[0]), -1), abs=2e-6)
    assert high == pytest.approx(min(max(exact[1], normal[1]), 1), abs=2e-6)
    assert swapped["difference"] == -found["difference"]
    assert swapped["difference_ci95"] == pytest.approx([-high, -low])
    assert swapped["p_value"] == found["p_value"]
    assert swapped["distinguishable"] is found["distinguishable"]


def test_who_is_right_on_the_same_questions_has_no_difference():
    right = np.array([True, False, True])
    assert paired_difference(right, right) == {
        "difference": 0,
        "difference_ci95": [0, 0],
        "p_value": 1,
        "distinguishable": False,
    }


@pytest.mark.parametrize("both", [0, 7, 4000])
@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_an_interval_is_without_zero_just_where_there_is_a_difference(both, only_first, only_second):
    if not both + only_first + only_second:
        return
    found = paired_difference(*answers(both, only_first, only_second, 0))
    low, high = found["difference_ci95"]
    assert -1 <= low <= found["difference"] <= high <= 1
    assert (low > 0 or high < 0) == found["distinguishable"]


@pytest.mark.parametrize("differ", [6, 9, 100, 1001, 20_000])
def test_the_interval_and_the_exact_test_agree_at_the_very_edge(differ):
    # the most that one side may have where the other is told to be better, by scipy, and one more
    edge = int(binom.ppf(0.025, differ, 0.5)) - 1
    told = []
    for fewer in (edge, edge + 1):
        found = paired_difference(*answers(50, fewer, differ - fewer, 3))
        assert found["distinguishable"] == (binomtest(fewer, differ).pvalue < 0.05)
        assert found["distinguishable"] == (found["difference_ci95"][0] > 0)
        told.append(found["distinguishable"])
    assert told == [True, False]


def test_a_difference_that_is_told_is_never_rounded_to_none():
    first = np.zeros(20_000_000, bool)
    second = first.copy()
    second[:6] = True  # a share of 3e-7
    found = paired_difference(first, second)
    assert found["distinguishable"] is True
    assert 0 < found["difference_ci95"][0] < found["difference"] < found["difference_ci95"][1]


@pytest.mark.parametrize("favour", [0.5, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("differing", [0.02, 0.2])
def test_nineteen_in_twenty_intervals_of_a_difference_hold_the_truth(differing, favour):
    generator = np.random.default_rng(0)
    held = []
    for _ in range(1000):
        differ = generator.binomial(2000, differing)
        second = generator.binomial(differ, favour)
        low, high = paired_difference(*answers(2000 - differ, differ - second, second, 0))["difference_ci95"]
        held.append(low <= differing * (2 * favour - 1) <= high)
    assert 0.93 <= np.mean(held) <= 0.99


def test_no_questions_have_no_difference_and_no_interval():
    nothing = np.zeros(0, bool)
    with pytest.raises(PredictionError, match=r"^paired difference: got no drawings, expected one at least\. Give"):
        paired_difference(nothing, nothing)
    with pytest.raises(PredictionError, match=r"^interval: got no drawings, expected one at least\. Give"):
        bootstrap_interval(np.zeros(0))


@pytest.mark.parametrize("n", [30, 400])
@pytest.mark.parametrize("shape", ["exponential", "normal", "uniform"])
def test_bootstrap_intervals_are_scipys(shape, n):
    values = getattr(np.random.default_rng(0), shape)(size=n)
    generator = np.random.default_rng(1)
    expected = bootstrap([values], np.mean, n_resamples=9999, method="percentile", rng=generator).confidence_interval
    # a bound of 2,000 resamples has a standard error of 0.06 standard errors of the mean
    tolerance = 0.25 * values.std() / math.sqrt(n)
    assert bootstrap_interval(values) == pytest.approx([expected.low, expected.high], abs=tolerance)


@pytest.mark.parametrize(("right", "n"), [(15, 20), (240, 400), (3, 400), (40_000, 50_000)])
def test_bootstrap_intervals_of_shares_are_binomial_quantiles(right, n):
    values = np.arange(n) < right
    expected = binom.ppf([0.025, 0.975], n, right / n) / n
    tolerance = 1 / n + 0.25 * values.std() / math.sqrt(n)
    assert bootstrap_interval(values.astype(np.float64)) == pytest.approx(expected, abs=tolerance)


def test_the_short_way_for_shares_is_the_long_way():
    values = (np.random.default_rng(0).random(300) < 0.7).astype(np.float64)
    shifted = np.array(bootstrap_interval(values + 1)) - 1  # ones and twos are resampled one by one
    assert bootstrap_interval(values) == pytest.approx(shifted, abs=0.25 * values.std() / math.sqrt(300))


def test_a_bootstrap_interval_is_a_function_of_its_seed():
    values = np.random.default_rng(0).random(50)
    assert bootstrap_interval(values) == bootstrap_interval(values, seed=0) != bootstrap_interval(values, seed=1)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.floats(-10, 10))
def test_bootstrap_intervals_hold_the_mean_and_move_with_the_values(values, shift):
    values = np.array(values)
    low, high = bootstrap_interval(values, 500)
    assert values.min() - 1e-6 <= low <= values.mean() + 1e-6
    assert values.mean() - 1e-6 <= high <= values.max() + 1e-6
    if not {*values, *(values + shift)} & {0.0, 1.0}:  # of rights and wrongs, other random numbers are drawn
        assert bootstrap_interval(values + shift, 500) == pytest.approx([low + shift, high + shift], abs=3e-6)


def test_values_that_are_all_alike_have_no_spread():
    for value in (0.0, 1.0, 0.25):
        assert bootstrap_interval(np.full(7, value)) == [value, value]


def test_nineteen_in_twenty_bootstrap_intervals_hold_the_truth():
    generator = np.random.default_rng(0)
    samples = (generator.random((400, 500)) < 0.7).astype(np.float64)
    bounds = np.array([bootstrap_interval(sample, seed=i) for i, sample in enumerate(samples)])
    assert np.mean((bounds[:, 0] <= 0.7) & (bounds[:, 1] >= 0.7)) == pytest.approx(0.95, abs=0.03)
