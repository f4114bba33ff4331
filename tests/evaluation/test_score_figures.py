import numpy as np
import pytest
from sklearn import metrics as sk

from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.score_figures import compare_by, measure_by, metric_figures
from inkfold.evaluation.scores import ACCURACY, Metric

CLASSES = 6


def random_case(seed, n=80):
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, CLASSES, n)
    probs = generator.dirichlet(np.full(CLASSES, 0.5), n) + 0.3 * np.eye(CLASSES)[targets]
    return (probs / probs.sum(1, keepdims=True)).astype(np.float32), targets


def test_an_interval_holds_the_value_and_is_wider_under_groups():
    probs, targets = random_case(4, n=60)
    alone = metric_figures(Metric("macro_f1"), probs, targets)
    twelve = [np.tile(part, (12, 1)[: part.ndim]) for part in (probs, targets)]
    groups = np.tile(np.arange(60), 12)
    grouped = metric_figures(Metric("macro_f1"), *twelve, groups=groups)
    ungrouped = metric_figures(Metric("macro_f1"), *twelve)
    assert alone["ci95"][0] < alone["value"] < alone["ci95"][1]
    assert grouped["value"] == alone["value"]
    assert np.ptp(grouped["ci95"]) > 2 * np.ptp(ungrouped["ci95"])
    assert grouped["interval"]["groups"] == 60


def test_measures_have_the_metric_beside_accuracy_and_accuracy_adds_nothing():
    probs, targets = random_case(5)
    predictions = Predictions(np.array(["a"] * 80), probs, tuple("abcdef"), targets, decided=np.zeros(80, np.int64))
    figures = measure_by(Metric("macro_f1"), predictions, per_class=True)
    assert figures["metric"]["value"] == pytest.approx(sk.f1_score(targets, np.zeros(80), average="macro"), abs=1e-6)
    assert figures["accuracy"] == round((targets == 0).mean(), 6)
    assert figures["per_class"][0]["recall"] == 1
    assert "metric" not in measure_by(ACCURACY, predictions)


def test_a_comparison_is_second_less_first_and_finds_what_is_there():
    probs, targets = random_case(6, n=200)
    first = Predictions(np.array(["a"] * 200), probs, tuple("abcdef"), targets)
    better = Predictions(first.image_paths, np.eye(CLASSES)[targets], first.class_names, targets)
    compared = compare_by(Metric("log_loss"), first, better)
    assert compared["difference"] == pytest.approx(compared["second_value"] - compared["first_value"], abs=1e-5)
    assert compared["difference"] < 0
    assert compared["distinguishable"]
    assert not compare_by(Metric("log_loss"), first, first)["distinguishable"]
