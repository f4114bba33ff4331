import math

import numpy as np

from inkfold.explain.occlusion import effects, erased, erased_one_by_one, labels_on
from inkfold.explain.strokes import split_ink


def two_bars(size, left):
    square = np.full((size, size), 250, np.uint8)
    unit = size // 32
    square[8 * unit : 24 * unit, left * unit : (left + 2) * unit] = 0
    square[8 * unit : 24 * unit, (left + 12) * unit : (left + 14) * unit] = 0
    return square


def test_an_erased_stroke_leaves_paper_and_the_others_alone():
    square = two_bars(32, 8)
    labels = split_ink(square, 2)
    whole, *variants = erased_one_by_one(square, labels, 2)
    assert np.array_equal(whole, square)
    assert (variants[0][:, :15] == 250).all()
    assert np.array_equal(variants[0][:, 16:], square[:, 16:])
    assert (erased(square, labels > 0) == 250).all()


def test_effects_are_by_how_much_the_logarithm_falls_without_the_stroke():
    probs = np.array([[0.8, 0.2, 0.0], [0.4, 0.4, 0.2], [0.8, 0.1, 0.1]])
    np.testing.assert_allclose(effects(probs, 0), [math.log(2), 0], atol=1e-12)
    np.testing.assert_allclose(effects(probs, 0, 1), [math.log(4), -math.log(2)])
    assert np.isfinite(effects(probs, 2)).all()


def test_strokes_are_found_on_a_square_of_another_size_and_margin():
    square, other = two_bars(32, 8), two_bars(64, 4)
    labels = split_ink(square, 2)
    moved = labels_on(other, square, labels)
    assert (moved[other == 0] > 0).all()
    assert set(np.unique(moved[:, :24])) == {0, 1}
    assert labels_on(square, square, labels) is labels


def test_nothing_is_found_on_a_blank_square():
    square = two_bars(32, 8)
    assert not labels_on(np.full((48, 48), 255, np.uint8), square, split_ink(square)).any()
