import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, permutation_test

from inkfold.errors import PredictionError
from inkfold.evaluation import paired
from inkfold.evaluation.intervals import Mean, mean_statistics
from inkfold.evaluation.paired import compare_figures, mcnemar, paired_difference, swap_test


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


def test_no_questions_have_no_difference():
    nothing = np.zeros(0, bool)
    with pytest.raises(PredictionError, match=r"^paired difference: got no drawings, expected one at least\. Give"):
        paired_difference(nothing, nothing)
    with pytest.raises(PredictionError, match=r"^paired difference: got no drawings"):
        compare_figures(Mean(), mean_statistics(nothing), mean_statistics(nothing))


def all_swaps(differences):
    """Try every combination of signs."""
    signs = np.array([*itertools.product((1, -1), repeat=len(differences))])
    return np.mean(np.abs(signs @ np.abs(differences)) >= abs(np.sum(differences)))


@given(st.lists(st.integers(-7, 7), max_size=10))
def test_the_probability_over_all_swaps_is_that_of_trying_them(differences):
    assert swap_test(np.array(differences, np.int64)) == pytest.approx(all_swaps(differences), rel=1e-9)


def test_the_probability_over_all_swaps_is_scipys():
    differences = np.array([3, -1, 2, 5, 1, -2, 4, 1, 1, 2])
    options = {"permutation_type": "samples", "n_resamples": math.inf}
    expected = permutation_test([differences], np.sum, **options).pvalue
    assert swap_test(differences) == pytest.approx(expected)


@pytest.mark.parametrize(("second", "first"), [(60, 20), (300, 100), (1, 70), (2500, 2400)])
def test_swaps_of_single_drawings_are_mcnemars_test_however_far_the_tail(second, first):
    expected = binomtest(first, first + second).pvalue
    assert swap_test(np.repeat([1, -1], [second, first])) == pytest.approx(expected, rel=1e-8)


def test_a_distribution_that_is_too_large_is_taken_as_normal(monkeypatch):
    differences = np.random.default_rng(0).integers(-4, 6, 400)
    exact = swap_test(differences)
    monkeypatch.setattr(paired, "MAX_CELLS", 1)
    assert exact < 1e-6
    assert exact <= swap_test(differences) <= 1.3 * exact


def test_groups_of_one_drawing_change_nothing():
    first, second = answers(40, 12, 30, 18)
    groups = np.random.default_rng(0).permutation(100)
    assert paired_difference(first, second, groups) == paired_difference(first, second)
    assert mcnemar(first, second, groups) == mcnemar(first, second)


def grouped(differences, size=5):
    """Rights of two classifiers in groups of a size, in which the second one has so many more right."""
    first, second = np.zeros((2, len(differences), size), bool)
    for row, difference in enumerate(differences):
        (second if difference > 0 else first)[row, : abs(difference)] = True
    return first.ravel(), second.ravel(), np.repeat(np.arange(len(differences)), size)


def test_copies_of_every_drawing_add_no_evidence():
    first, second = answers(40, 12, 30, 18)
    copied = paired_difference(np.repeat(first, 9), np.repeat(second, 9), np.repeat(np.arange(100), 9))
    single = paired_difference(first, second)
    assert copied["difference"] == single["difference"]
    assert single["p_value"] <= copied["p_value"] <= 1.5 * single["p_value"]
    assert copied["difference_ci95"] == pytest.approx(single["difference_ci95"], abs=0.02)
    assert copied["groups_resampled"] == 100
    assert paired_difference(np.repeat(first, 9), np.repeat(second, 9))["p_value"] < 1e-9


@pytest.mark.parametrize(("count", "distinguishable"), [(1, False), (5, False), (6, True)])
def test_few_groups_are_no_evidence_though_they_have_many_drawings(count, distinguishable):
    # by hand: 2 / 2^5 is 0.0625, and 2 / 2^6 0.03125
    found = paired_difference(*grouped([4] * count + [0] * 30))
    assert found["p_value"] == pytest.approx(2 / 2**count)
    assert found["distinguishable"] is distinguishable
    assert (found["difference_ci95"][0] > 0) is distinguishable


def test_a_difference_that_one_large_group_makes_is_not_told_from_chance():
    first, second, groups = grouped([1] * 6)
    more = [np.concatenate([own, np.full(60, own is second)]) for own in (first, second)]
    found = paired_difference(*more, np.concatenate([groups, np.full(60, 6)]))
    assert swap_test(np.array([1] * 6 + [60])) == 2 / 2**7
    assert found["p_value"] > 0.05
    assert found["difference_ci95"][0] < 0


def test_a_large_difference_has_as_small_a_probability_as_it_has():
    differences = np.repeat([2, -1, 0], [120, 20, 60])
    found = paired_difference(*grouped(differences))
    assert 0 < found["p_value"] < 1e-9
    assert found["p_value"] >= swap_test(differences)
    by_hand = differences.mean() / 5 + np.array([-1.972, 1.972]) * differences.std() / 5 / math.sqrt(199)  # t of 199 degrees
    assert found["difference_ci95"] == pytest.approx(by_hand, abs=0.005)


@settings(deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=25))
def test_an_interval_under_groups_is_without_zero_just_where_there_is_a_difference(differences):
    first, second, groups = grouped(differences)
    found, swapped = paired_difference(first, second, groups), paired_difference(second, first, groups)
    low, high = found["difference_ci95"]
    assert -1 <= low <= found["difference"] <= high <= 1
    assert (low > 0 or high < 0) == found["distinguishable"] == (found["p_value"] < 0.05)
    assert found["p_value"] == mcnemar(first, second, groups) == pytest.approx(swapped["p_value"])
    assert swapped["difference_ci95"] == pytest.approx([-high, -low], abs=2e-6 if found["difference"] else 0.05 * (high - low))
    order = np.random.default_rng(0).permutation(len(first))
    assert paired_difference(first[order], second[order], 7 - groups[order]) == found
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("size", [5, 25])
def test_nineteen_in_twenty_tests_under_groups_find_no_difference_where_there_is_none(size):
    generator, found, held = np.random.default_rng(0), [], []
    groups = np.repeat(np.arange(50), size)
    for _ in range(200):
        skills = 0.8 * generator.normal(size=(1, 50)) + 0.6 * generator.normal(size=(2, 50))
        first, second = skills[:, groups] + generator.normal(size=(2, len(groups))) > -0.7
        compared = paired_difference(first, second, groups)
        found.append(compared["distinguishable"])
        held.append(compared["difference_ci95"][0] <= 0 <= compared["difference_ci95"][1])
    assert np.mean(found) <= 0.08
    assert np.mean(held) == 1 - np.mean(found) < 1


def test_any_figure_is_compared_as_accuracy_is():
    first, second, groups = grouped(np.random.default_rng(0).integers(-2, 4, 80))
    statistics = [mean_statistics(right) for right in (first, second)]
    general, exact = compare_figures(Mean(), *statistics, groups), paired_difference(first, second, groups)
    assert general["difference"] == exact["difference"]
    assert general["difference_ci95"] == pytest.approx(exact["difference_ci95"], abs=0.01)
    assert general["groups_resampled"] == 80
    swapped = compare_figures(Mean(), *statistics[::-1], groups)
    assert (swapped["difference"], swapped["p_value"]) == (-general["difference"], general["p_value"])
    assert swapped["difference_ci95"] == [-bound for bound in reversed(general["difference_ci95"])]
    assert "groups_resampled" not in compare_figures(Mean(), *statistics)


@pytest.mark.parametrize(("count", "distinguishable"), [(5, False), (6, True)])
def test_a_figure_that_differs_in_few_drawings_is_not_told_from_chance(count, distinguishable):
    first, second = answers(300, 0, count, 20)
    found = compare_figures(Mean(), mean_statistics(first), mean_statistics(second))
    assert found["p_value"] == pytest.approx(2 / 2**count)
    assert found["distinguishable"] is distinguishable
    assert (found["difference_ci95"][0] > 0) is distinguishable


def test_a_figure_without_limits_can_differ_by_more_than_one():
    losses = np.random.default_rng(0).exponential(3.0, size=(2, 200))
    found = compare_figures(Mean(None), mean_statistics(losses[0]), mean_statistics(losses[1] + 5))
    assert found["difference"] > 1
    assert found["difference_ci95"][0] > 1


def test_equal_statistics_have_no_difference():
    values = mean_statistics(np.random.default_rng(0).random(30))
    assert compare_figures(Mean(), values, values) == {
        "difference": 0,
        "difference_ci95": [0, 0],
        "p_value": 1,
        "distinguishable": False,
    }
