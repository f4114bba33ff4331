import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, bootstrap
from sklearn.metrics import log_loss, precision_score, recall_score, top_k_accuracy_score

from inkfold.errors import PredictionError
from inkfold.evaluation import metrics
from inkfold.evaluation.intervals import proportion_interval, wilson_interval
from inkfold.evaluation.metrics import bootstrap_interval, expected_calibration_error, measure, reliability_table


def random_case(n=300, classes=8, seed=0):
    generator = np.random.default_rng(seed)
    probs = generator.dirichlet(np.full(classes, 0.5), n).astype(np.float32)
    targets = np.where(generator.random(n) < 0.5, probs.argmax(1), generator.integers(0, classes, n))
    return probs, targets


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


@pytest.mark.parametrize("n", [1, 7, 18, 129, 1000])
@pytest.mark.parametrize("block", [1, 5_000, 1 << 18])
def test_samples_that_are_drawn_at_once_are_those_of_a_loop(monkeypatch, n, block):
    monkeypatch.setattr(metrics, "BLOCK", block)
    values = np.random.default_rng(n).normal(size=n)
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([3, 6])))
    means = [values[generator.integers(0, n, n)].mean() for _ in range(200)]
    assert bootstrap_interval(values, 200, seed=3) == [round(bound, 6) for bound in np.percentile(means, (2.5, 97.5)).tolist()]


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


def test_no_questions_have_no_interval():
    with pytest.raises(PredictionError, match=r"^interval: got no drawings, expected one at least\. Give"):
        bootstrap_interval(np.zeros(0))


def test_figures_of_grouped_drawings_say_how_their_intervals_were_made():
    probs, targets = random_case(240)
    groups = np.repeat(np.arange(60), 4)
    found = measure(probs, targets, groups=groups)
    right = probs.argmax(1) == targets
    assert found["accuracy_ci95"] == proportion_interval(right, groups).ci95
    about = found["interval"]
    assert (about["method"], about["groups"]) == ("cluster bootstrap", 60)
    assert about["wilson_ci95"] == pytest.approx(wilson_interval(int(right.sum()), 240), abs=1e-6)
    alone = measure(probs, targets, groups=np.arange(240))
    assert alone == measure(probs, targets)
    assert (alone["interval"]["method"], alone["interval"]["groups"]) == ("wilson", None)


def test_bins_of_confidence_have_the_intervals_of_their_own_groups():
    probs = np.array([[0.95, 0.05]] * 40)
    targets, groups = np.repeat([0, 0, 0, 1], 10), np.repeat(np.arange(4), 10)
    [row] = [row for row in reliability_table(probs, targets, groups=groups) if row.count]
    assert row.ci95 == pytest.approx(proportion_interval(targets == 0, groups).bounds)
    [alone] = [row for row in reliability_table(probs, targets) if row.count]
    assert (alone.ci95, alone.independent) == (wilson_interval(30, 40), 40)


def test_the_interval_of_a_mean_loss_resamples_groups():
    values = np.repeat(np.random.default_rng(0).exponential(size=80), 9)
    low, high = bootstrap_interval(values, groups=np.repeat(np.arange(80), 9))
    narrow = bootstrap_interval(values)
    assert (high - low) / (narrow[1] - narrow[0]) == pytest.approx(3, rel=0.15)  # as if there were a ninth of the values
