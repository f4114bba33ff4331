import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm, t

from inkfold.errors import PredictionError
from inkfold.evaluation.intervals import (
    Mean,
    accuracy_figures,
    coarsest_groups,
    figure_interval,
    interval_in_words,
    mean_statistics,
    proportion_interval,
    wilson_interval,
)


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


def grouped_answers(groups=300, accuracy=0.7, seed=0):
    """Which drawings are right, in groups of 1 to 12 whose accuracies differ."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 13, groups)
    chance = generator.beta(accuracy, 1 - accuracy, groups)
    names = np.repeat(np.arange(groups), sizes)
    return generator.random(len(names)) < chance[names], names


def naive_cluster_bootstrap(values, groups, resamples=2000):
    """Resample groups by copying their rows."""
    generator = np.random.default_rng(1)
    rows = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    picks = generator.integers(0, len(rows), (resamples, len(rows)))
    return np.array([values[np.concatenate([rows[i] for i in pick])].mean() for pick in picks])


def test_drawings_without_groups_have_wilsons_interval():
    right, _ = grouped_answers()
    expected = wilson_interval(int(right.sum()), len(right))
    for groups in (None, np.random.default_rng(0).permutation(len(right))):
        interval = proportion_interval(right, groups)
        assert interval.bounds == expected
        assert (interval.method, interval.groups, interval.independent) == ("wilson", None, len(right))


def test_an_interval_under_groups_is_that_of_a_naive_bootstrap_of_groups():
    right, groups = grouped_answers()
    resampled = naive_cluster_bootstrap(right, groups)
    interval = proportion_interval(right, groups)
    assert (interval.method, interval.groups) == ("cluster bootstrap", 300)
    assert interval.bounds == pytest.approx(np.quantile(resampled, (0.025, 0.975)), abs=0.1 * 2 * 1.96 * resampled.std())


def test_groups_of_equal_drawings_count_as_one_drawing_each():
    hits = np.arange(400) < 280
    interval = proportion_interval(np.repeat(hits, 5), np.repeat(np.arange(400), 5))
    assert interval.independent == pytest.approx(400, rel=0.07)  # the resamples' standard error is known to 1.6 %
    assert interval.bounds == pytest.approx(wilson_interval(280, 400), abs=0.003)


@pytest.mark.parametrize("right", [True, False])
def test_where_all_is_right_or_wrong_each_group_counts_as_one_drawing(right):
    # by hand: Wilson's with Student's t of 19 degrees of freedom in the place of z, for 20 drawings
    interval = proportion_interval(np.full(500, right), np.repeat(np.arange(20), 25))
    width = t.ppf(0.975, 19) ** 2 / (20 + t.ppf(0.975, 19) ** 2)
    assert interval.bounds == pytest.approx((1 - width, 1) if right else (0, width))


def test_one_group_says_next_to_nothing():
    interval = proportion_interval(np.arange(50) < 45, np.zeros(50, int))
    assert interval.low < 0.05
    assert interval.high > 0.95


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_no_interval_depends_on_the_order_of_rows_or_the_numbers_of_groups(seed):
    right, groups = grouped_answers(30, seed=seed)
    generator = np.random.default_rng(seed)
    order, names = generator.permutation(len(right)), generator.permutation(1000)
    assert proportion_interval(right, groups) == proportion_interval(right[order], names[groups][order])
    values = generator.random(len(right))
    first = figure_interval(Mean(None), mean_statistics(values), groups)
    assert first == figure_interval(Mean(None), mean_statistics(values[order]), names[groups][order])
    low, high = proportion_interval(right, groups).bounds
    assert 0 <= low <= right.mean() <= high <= 1


def test_an_interval_is_a_function_of_its_seed():
    right, groups = grouped_answers()
    assert proportion_interval(right, groups) == proportion_interval(right, groups, seed=0)
    assert proportion_interval(right, groups) != proportion_interval(right, groups, seed=1)


def test_a_mean_without_limits_has_scipys_percentiles_further_out():
    groups, values = np.repeat(np.arange(25), 4), np.random.default_rng(0).exponential(size=25)
    interval = figure_interval(Mean(limits=None), mean_statistics(np.repeat(values, 4)), groups)
    tail = norm.cdf(-math.sqrt(25 / 24) * t.ppf(0.975, 24))  # Hesterberg (2015): 0.0174 instead of 0.025
    level = {"confidence_level": 1 - 2 * tail, "n_resamples": 20_000, "method": "percentile", "rng": np.random.default_rng(0)}
    expected = bootstrap([values], np.mean, **level).confidence_interval
    assert interval.bounds == pytest.approx((expected.low, expected.high), abs=0.25 * values.std() / 5)
    assert interval.independent is None


def test_an_interval_of_a_figure_with_other_limits_is_that_of_the_figure_scaled():
    right, groups = grouped_answers()
    expected = figure_interval(Mean(), mean_statistics(right), groups)
    scaled = figure_interval(Mean(limits=(-1.0, 1.0)), mean_statistics(2.0 * right - 1), groups)
    assert scaled.bounds == pytest.approx([2 * bound - 1 for bound in expected.bounds], abs=0.01)


def test_a_figure_without_groups_resamples_drawings():
    values = np.random.default_rng(0).random(400)  # neither right nor wrong, but between
    interval = figure_interval(Mean(), mean_statistics(values))
    assert (interval.method, interval.groups) == ("bootstrap", None)
    half = 1.96 * values.std() / 20
    assert interval.bounds == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(value):
    with pytest.raises(PredictionError, match=r"^interval: got NaN or infinity, expected finite numbers\. Give"):
        figure_interval(Mean(), mean_statistics(np.array([0.5, value])))


@pytest.mark.parametrize(("size", "correlated"), [(5, True), (25, True), (25, False)])
def test_nineteen_in_twenty_intervals_under_groups_hold_the_truth(size, correlated):
    generator, held, narrow = np.random.default_rng(0), [], []
    groups = np.repeat(np.arange(60), size)
    for _ in range(200):
        chance = generator.beta(1.4, 0.6, 60) if correlated else np.full(60, 0.7)
        right = generator.random(len(groups)) < chance[groups]
        low, high = proportion_interval(right, groups).bounds
        held.append(low <= 0.7 <= high)
        low, high = wilson_interval(int(right.sum()), len(right))
        narrow.append(low <= 0.7 <= high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.035)
    assert not correlated or np.mean(narrow) < 0.85


def test_the_figures_of_an_accuracy_say_how_they_were_made():
    right, groups = grouped_answers()
    figures = accuracy_figures(right, groups)
    interval = proportion_interval(right, groups)
    assert (figures["accuracy"], figures["accuracy_ci95"]) == (right.mean(), list(interval.bounds))
    about = figures["interval"]
    assert (about["method"], about["groups"]) == ("cluster bootstrap", 300)
    assert about["independent"] == pytest.approx(interval.independent, abs=0.06)
    low, high = wilson_interval(int(right.sum()), len(right))
    assert interval_in_words(figures) == (
        "95 %, 300 groups resampled (cluster bootstrap); "
        f"Wilson's, which takes drawings as independent, would be {low:.3f}-{high:.3f}"
    )
    assert interval_in_words(accuracy_figures(right)) == interval_in_words({}) == ""


def test_of_several_groupings_the_coarsest_counts():
    fine, coarse = np.arange(6), np.repeat([0, 1], 3)
    assert coarsest_groups([None, fine, coarse]) is coarse
    assert coarsest_groups([None, None]) is None
