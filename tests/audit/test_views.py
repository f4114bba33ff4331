import numpy as np
import pytest

from inkfold.audit.views import View, calibrated, computed_views, hold_out, pooled


def clusters(n=240, classes=6, d=20, spread=0.6, seed=0):
    """Points around a centre of each class."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % classes
    return (rng.normal(0, 2, (classes, d))[targets] + rng.normal(0, spread, (n, d))).astype(np.float32), targets


def everything_in(folds):
    return hold_out(folds, np.ones(len(folds), bool))


def test_each_kind_of_head_recognises_held_out_drawings_and_its_rows_are_probabilities():
    features, targets = clusters()
    views = computed_views("net", features, targets, everything_in(np.arange(240) // 6 % 5), 6)
    assert [view.name for view in views] == ["linear discriminant on net", "ridge regression on net", "nearest drawings on net"]
    for view in views:
        assert view.probs.shape == (240, 6)
        np.testing.assert_allclose(view.probs.sum(1), 1, atol=1e-5)
        assert (view.probs.argmax(1) == targets).mean() > 0.95


def test_each_kind_of_head_recognises_few_drawings_with_many_features():
    features, targets = clusters(n=80, classes=4, d=600, spread=6.0)
    for view in computed_views("net", features, targets, everything_in(np.arange(80) // 4 % 5), 4):
        assert (view.probs.argmax(1) == targets).mean() > 0.9, view.name


def test_heads_never_see_the_drawings_that_they_predict():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(0, 1, (300, 30)).astype(np.float32), rng.integers(0, 5, 300)
    for view in computed_views("net", features, targets, everything_in(np.arange(300) % 5), 5):
        assert (view.probs.argmax(1) == targets).mean() < 0.35  # labels drawn at random: chance is 0.2


def test_copies_of_held_out_drawings_are_not_trained_on():
    folds, copies = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 2, 3])
    held_out = hold_out(folds, np.ones(5, bool), copies)
    np.testing.assert_array_equal(held_out.trained_on[0], [False, False, False, True, True])
    np.testing.assert_array_equal(held_out.trained_on[1], [False, True, False, False, True])
    np.testing.assert_array_equal(held_out.predicted.sum(0), np.ones(5))


def test_drawings_that_no_fold_held_out_are_trained_on_only():
    held_out = hold_out(np.array([0, 7, 7]), np.array([True, False, False]))
    np.testing.assert_array_equal(held_out.trained_on, [[False, True, True]])
    np.testing.assert_array_equal(held_out.predicted, [[True, False, False]])


def test_a_class_without_training_drawings_is_never_sure():
    features, targets = clusters()
    alone = np.where(targets == 5, 0, 1 + np.arange(240) % 2)  # one fold holds out all of class 5
    for view in computed_views("net", features, targets, everything_in(alone), 6):
        assert view.probs[targets == 5, 5].max() < 0.2


def test_the_temperature_makes_overconfident_scores_less_sure():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 2000)
    scores = np.where(np.arange(2) == np.where(rng.random(2000) < 0.8, targets, 1 - targets)[:, None], 30.0, 0.0)
    assert calibrated(scores, targets).max(1).mean() == pytest.approx(0.8, abs=0.05)


def test_pooled_views_are_the_geometric_mean():
    views = [View("a", np.array([[0.8, 0.2]])), View("b", np.array([[0.2, 0.8]]))]
    np.testing.assert_allclose(pooled(views), [[0.5, 0.5]])
