import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from inkfold.errors import PredictionError
from inkfold.evaluation.decision import Decision, choose_decision, fit_decision, nested_preds, parts_of
from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.scores import Metric

BALANCED = Metric("balanced_accuracy")
KAPPA = Metric("quadratic_kappa", (0, 1, 2, 3))


def imbalanced_case(n=600, seed=0):
    """Exact probabilities of four classes, of which the first has three of five drawings, seen through noise."""
    generator = np.random.default_rng(seed)
    shares = np.array([0.6, 0.2, 0.15, 0.05])
    targets = generator.choice(4, n, p=shares)
    seen = generator.normal(np.eye(4)[targets] * 1.5, 1.0)
    scores = 1.5 * seen + np.log(shares)
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True), targets


def graded_case(n=600, seed=1):
    """Probabilities of four grades, whose noise is twice as wide as the model believes."""
    generator = np.random.default_rng(seed)
    targets = generator.choice(4, n, p=[0.5, 0.25, 0.15, 0.1])
    seen = generator.normal(targets, 1.0)
    powers = np.exp(-((seen[:, None] - np.arange(4)) ** 2) / 2) * np.array([0.5, 0.25, 0.15, 0.1])
    return powers / powers.sum(1, keepdims=True), targets


def predictions_of(probs, targets, folds=None, groups=None):
    paths = np.array([f"{i}.png" for i in range(len(targets))], np.dtypes.StringDType())
    names = tuple("abcdefgh"[: probs.shape[1]])
    return Predictions(paths, probs.astype(np.float32), names, targets, folds, groups=groups)


def test_a_weighted_rule_multiplies_before_it_compares():
    rule = Decision("weighted", (1.0, 2.0, 1.0))
    assert rule.preds(np.array([[0.5, 0.3, 0.2], [0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])).tolist() == [1, 0, 1]


def test_an_expected_place_is_rounded_to_the_class_there():
    rule = Decision("expected_place", (2.0, 0.0, 1.0))  # the first class is the last in the order
    probs = np.array([[1.0, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0.2, 0.8, 0]])
    assert rule.preds(probs).tolist() == [0, 1, 2, 1]
    assert Decision("expected_place", (2.0, 0.0, 1.0), scale=3.0, offset=-9.0).preds(probs).tolist() == [1, 1, 1, 1]
    assert Decision("expected_place", (2.0, 0.0, 1.0), scale=1.0, offset=9.0).preds(probs).tolist() == [0, 0, 0, 0]


def test_rows_without_numbers_get_some_class():
    for rule in (Decision("weighted", (1.0, 2.0)), Decision("expected_place", (0.0, 1.0))):
        assert rule.preds(np.full((1, 2), np.nan, np.float32))[0] in (0, 1)


def test_balanced_accuracy_is_fitted_near_the_classes_shares():
    probs, targets = imbalanced_case(4000)
    rule = fit_decision(BALANCED, probs, targets)
    shares = np.bincount(targets) / len(targets)
    powers = np.log(rule.numbers) / np.log(shares / shares.max() + (shares == shares.max()) * 1e-12)
    exponent = -powers[shares < shares.max()].mean()
    assert 0.5 <= exponent <= 1.5, "the best rule for exact probabilities divides by the shares: exponent 1"
    best = balanced_accuracy_score(targets, (probs / shares).argmax(1))
    assert balanced_accuracy_score(targets, rule.preds(probs)) >= best


@pytest.mark.parametrize("metric", [BALANCED, Metric("macro_f1")])
def test_a_rule_is_taken_where_it_is_better_nested_and_what_it_gains_is_said(metric):
    probs, targets = imbalanced_case()
    predictions = predictions_of(probs, targets, np.arange(600) % 5)
    choice = choose_decision(metric, predictions)
    nested = nested_preds(metric, predictions.probs.astype(np.float64), targets, predictions.folds)
    gain = metric.score(probs, targets, nested) - metric.score(probs, targets)
    assert gain > 0
    assert choice.figures["used"]
    assert choice.preds.tolist() == nested.tolist()
    assert choice.figures["difference"] == pytest.approx(gain, abs=1e-6)
    low, high = choice.figures["difference_ci95"]
    assert low < choice.figures["difference"] < high


def test_a_held_out_fold_has_no_part_in_its_own_rule():
    probs, targets = imbalanced_case()
    folds = np.arange(600) % 5
    before = nested_preds(BALANCED, probs, targets, folds)
    shuffled = np.where(folds == 0, 3, targets)
    after = nested_preds(BALANCED, probs, shuffled, folds)
    assert (before[folds == 0] == after[folds == 0]).all()
    assert (before[folds != 0] != after[folds != 0]).any()


def test_the_most_probable_class_stays_where_a_rule_gains_nothing():
    targets = np.arange(40) % 4
    probs = np.full((40, 4), 0.1) + 0.6 * np.eye(4)[targets]
    choice = choose_decision(BALANCED, predictions_of(probs, targets, np.arange(40) // 8))
    assert (choice.decision, choice.preds) == (None, None)
    assert not choice.figures["used"]
    assert choice.figures["difference"] == 0


def test_grades_are_decided_by_the_expected_place():
    probs, targets = graded_case()
    choice = choose_decision(KAPPA, predictions_of(probs, targets, np.arange(600) % 5))
    assert choice.decision.kind == "expected_place"
    assert choice.figures["nested"]["value"] > choice.figures["most_probable"]["value"]


def test_metrics_of_ranks_and_probabilities_need_no_rule():
    probs, targets = imbalanced_case(50)
    for name in ("accuracy", "top_2", "map_at_3", "log_loss"):
        choice = choose_decision(Metric(name), predictions_of(probs, targets))
        assert (choice.decision, choice.preds, choice.figures) == (None, None, None)


def test_a_single_fold_is_divided_and_groups_stay_whole():
    groups = np.repeat(np.arange(30), 4)
    parts = parts_of(np.zeros(120, np.int64), groups, 120)
    assert len(np.unique(parts)) == 5
    assert all(len(np.unique(parts[groups == group])) == 1 for group in range(30))
    assert parts_of(np.arange(120) % 3, groups, 120).tolist() == (np.arange(120) % 3).tolist()


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=9), st.floats(-5, 5), st.floats(-5, 5))
def test_a_rule_survives_json(weights, scale, offset):
    rule = Decision("weighted", tuple(weights), scale, offset)
    assert Decision.from_json(rule.as_json(), len(weights), "manifest.json") == rule


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "guess"},
        {"numbers": [1.0]},
        {"numbers": ["a", 1.0]},
        {"numbers": [float("nan"), 1.0]},
        {"numbers": [True, 1.0]},
        {"scale": None},
        {"kind": "expected_place", "numbers": [0.0, 0.0]},
        {"kind": "expected_place", "numbers": [1.0, 2.0]},
    ],
)
def test_values_that_are_no_rule_are_refused(change):
    raw = {**Decision("weighted", (1.0, 2.0)).as_json(), **change}
    with pytest.raises(PredictionError, match=r"manifest.json: decision is not a rule for 2 classes"):
        Decision.from_json(raw, 2, "manifest.json")


@pytest.mark.parametrize("raw", [None, 3, "weighted", [], {}])
def test_other_json_is_refused(raw):
    with pytest.raises(PredictionError):
        Decision.from_json(raw, 2, "manifest.json")
