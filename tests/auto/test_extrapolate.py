import numpy as np
import pytest

from inkfold.auto.extrapolate import with_more_classes, with_more_drawings


def test_one_more_doubling_gains_a_bit_less_than_the_last_one():
    assert with_more_drawings(0.60, 0.55, 2) == pytest.approx(0.64)  # 0.05 * 0.8
    assert with_more_drawings(0.60, 0.55, 4) == pytest.approx(0.672)  # and 0.05 * 0.8 * 0.8


def test_no_more_drawings_gain_nothing():
    assert with_more_drawings(0.6, 0.5, 1) == pytest.approx(0.6)


def test_a_curve_that_falls_by_chance_is_taken_as_flat_and_a_steep_one_is_limited():
    assert with_more_drawings(0.5, 0.6, 8) == pytest.approx(0.5)
    assert with_more_drawings(0.6, 0.1, 2) == pytest.approx(0.6 + 0.8 * 0.12)
    assert with_more_drawings(0.99, 0.9, 1000) == 1.0


def test_as_many_classes_change_nothing():
    probs = np.array([[0.6, 0.4], [0.7, 0.3]])
    assert with_more_classes(probs, np.array([0, 1]), 2) == 1


def test_twice_as_many_classes_lose_as_much_as_the_last_doubling():
    probs = np.array([[0.5, 0.3, 0.1, 0.1], [0.5, 0.3, 0.1, 0.1]])
    # drawing 0 is right, and among any half; drawing 1 has one class before its own, absent from half of all halves: 0.5 / 0.75
    assert with_more_classes(probs, np.array([0, 1]), 8) == pytest.approx(2 / 3)


def test_perfect_predictions_stay_perfect():
    assert with_more_classes(np.eye(3), np.arange(3), 300) == 1
