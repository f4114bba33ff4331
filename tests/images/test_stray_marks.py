import numpy as np
import pytest

from inkfold.images.stray_marks import belongs

HOUSE = [[100, 100, 200, 200], [100, 60, 200, 100], [130, 150, 150, 200]]


def dot(x, y, side=0):
    return [x, y, x + side, y + side]


def kept(*parts):
    return belongs(np.array(parts, float)).tolist()


@pytest.mark.parametrize("mark", [dot(900, 900), dot(150, 700), dot(0, 1000, 8), dot(-500, 150)])
def test_a_small_mark_far_off_a_drawing_is_left_out(mark):
    assert kept(*HOUSE, mark) == [True, True, True, False]
    assert kept(mark, *HOUSE) == [False, True, True, True]


def test_up_to_three_marks_are_left_out_and_more_are_drawn_on_purpose():
    marks = [dot(900, 900), dot(10, 900), dot(900, 10), dot(500, 950)]
    assert kept(*HOUSE, *marks[:3]) == [True] * 3 + [False] * 3
    assert all(kept(*HOUSE, *marks))


@pytest.mark.parametrize(
    "parts",
    [
        [*HOUSE, dot(140, 130), dot(170, 130)],  # windows
        [*HOUSE, dot(150, 255)],  # a stone before the door, within half of the house's height
        [[100, 100, 110, 200], dot(105, 240)],  # an exclamation mark
        [*HOUSE, dot(400, 60, 40)],  # a sun
        [dot(0, 0), dot(500, 500), dot(1000, 10)],  # dots only
        [dot(0, 0, 3), dot(500, 500, 3), dot(1000, 10, 3), dot(30, 900, 2)],
        [*HOUSE, dot(150, 260), dot(150, 330), dot(150, 400)],  # a path of stones, each near the one before
        [dot(7, 7)],
    ],
)
def test_in_doubt_marks_are_kept(parts):
    assert all(kept(*parts))
