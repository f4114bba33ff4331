import cv2
import numpy as np
import pytest

from inkfold.images.ruled_lines import without_ruled_lines


def drawing(height=600, width=800):
    page = np.full((height, width), 255, np.uint8)
    cv2.circle(page, (width // 2, height // 2), 150, 0, 6)
    return page


def ruled(page, level=200, step=45, thick=2, rise=0.0):
    """Rules across the whole page, which rise by a part of its width."""
    lined = page.copy()
    width = page.shape[1]
    for y in range(step // 2, page.shape[0] + round(abs(rise) * width), step):
        rule = np.full_like(page, 255)
        cv2.line(rule, (0, y), (width - 1, round(y - rise * width)), level, thick)
        lined = np.minimum(lined, rule)
    return lined


@pytest.mark.parametrize("level", [230, 200, 160, 120])
@pytest.mark.parametrize("rise", [0.0, 0.03, -0.05])
def test_rules_go_and_the_drawing_stays_whole(level, rise):
    cleaned = without_ruled_lines(ruled(drawing(), level, rise=rise))
    drawn = drawing() == 0
    np.testing.assert_array_equal(cleaned[drawn], 0)
    assert (cleaned[~drawn] == 255).mean() > 0.995


def test_upright_rules_and_squares_go_too():
    upright = without_ruled_lines(np.ascontiguousarray(ruled(drawing(800, 600)).T))
    np.testing.assert_array_equal(upright, without_ruled_lines(ruled(drawing(800, 600))).T)
    squares = np.minimum(ruled(drawing(), 210), np.ascontiguousarray(ruled(drawing(800, 600), 210).T))
    cleaned = without_ruled_lines(squares)
    np.testing.assert_array_equal(cleaned[drawing() == 0], 0)
    assert (cleaned[drawing() == 255] == 255).mean() > 0.995


def test_coloured_ink_keeps_its_colour_where_rules_go():
    page = np.stack([ruled(drawing(), 210), ruled(drawing(), 220), np.full((600, 800), 255, np.uint8)], axis=2)
    cleaned = without_ruled_lines(page)
    np.testing.assert_array_equal(cleaned[drawing() == 0], np.broadcast_to([0, 0, 255], (np.sum(drawing() == 0), 3)))


DRAWN = {
    "a drawing": drawing(),
    "three level lines": ruled(drawing(), step=210),
    "rules as black as ink": ruled(drawing(), 40),
    "a fence with a margin": np.pad(ruled(drawing(400, 560)), ((100, 100), (120, 120)), constant_values=255),
    "nothing but rules": ruled(np.full((600, 800), 255, np.uint8)),
    "short lines": np.pad(ruled(drawing(600, 320)), ((0, 0), (0, 480)), constant_values=255),
    "narrow": ruled(np.full((400, 100), 255, np.uint8)),
    "a pixel": np.zeros((1, 1), np.uint8),
    "black": np.zeros((300, 300), np.uint8),
    "white": np.full((300, 300), 255, np.uint8),
}


@pytest.mark.parametrize("name", DRAWN)
def test_what_may_be_drawn_stays(name):
    assert without_ruled_lines(DRAWN[name]) is DRAWN[name]


def test_the_page_itself_is_never_changed():
    page = ruled(drawing())
    before = page.copy()
    without_ruled_lines(page)
    np.testing.assert_array_equal(page, before)
