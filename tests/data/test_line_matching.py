import cv2
import numpy as np
import pytest

from copies import drawing
from inkfold.data.ink_matching import Alignment
from inkfold.data.line_matching import LineMap, align_lines, compare_lines
from inkfold.data.lines import LINES_PX, Drawing, find_lines
from inkfold.images.preprocess import ink_depth, paper_colour


def map_of(pixels):
    pixels = np.ascontiguousarray(pixels)
    return LineMap(find_lines(ink_depth(pixels, paper_colour(pixels))))


def map_of_lines(lines):
    return LineMap(Drawing(lines, 1.0))


def test_the_distance_to_a_line_is_measured_across_it():
    lines = np.zeros((LINES_PX, LINES_PX), bool)
    lines[50, 20:150] = True
    distance, number = map_of_lines(lines).near(np.array([[80.4, 52.5], [80.0, 50.0], [160.0, 50.0]]))
    assert distance == pytest.approx(
        [2.5, 0.0, 11.0 + 1.0], abs=0.51
    )  # the last beyond the line's end, whose points are smoothed
    assert number[:2].tolist() == [60, 60]


@pytest.mark.parametrize(("flip", "degrees"), [(False, 90.0), (False, 5.0), (True, 180.0), (True, -94.0)])
def test_the_alignment_finds_the_turn_from_a_rough_start(flip, degrees):
    page = drawing("bicycle", size_px=200)
    moved = page[:, ::-1] if flip else page  # turned back by the matrix, then mirrored: what the alignment undoes
    side = 300
    canvas = np.full((side, side), 255, np.uint8)
    canvas[50:250, 50:250] = page
    back = cv2.warpAffine(
        canvas, cv2.getRotationMatrix2D((149.5, 149.5), -degrees, 1.0), (side, side), flags=cv2.INTER_CUBIC, borderValue=255
    )
    moved = back[:, ::-1] if flip else back
    aligned = align_lines(map_of(page), map_of(moved), Alignment(1.0, flip, degrees + 3))
    assert aligned is not None
    onto_second, onto_first, turn_deg = aligned
    assert (turn_deg - degrees + 180) % 360 - 180 == pytest.approx(0, abs=0.5)
    assert np.quantile(np.concatenate([onto_second, onto_first]), 0.75) < 0.01


def test_thick_strokes_that_fill_loops_are_still_the_same_drawing():
    page = drawing("bicycle", size_px=256)
    thick = cv2.erode(page, np.ones((6, 6), np.uint8))
    found = compare_lines(map_of(page), map_of(thick), Alignment(1.0, False, 0.0))
    assert found is not None
    alignment, ratio = found
    assert ratio > 1.5
    assert alignment.similarity > 0.9
    assert abs(alignment.turn_deg) < 1


def test_another_hands_drawing_is_another_drawing():
    assert compare_lines(map_of(drawing("house", 0)), map_of(drawing("house", 1)), Alignment(1.0, False, 0.0)) is None


def test_squares_are_all_alike_and_match_nothing():
    page = np.full((200, 200), 255, np.uint8)
    cv2.rectangle(page, (40, 40), (160, 160), 0, 3)
    thick = page.copy()
    cv2.rectangle(thick, (40, 40), (160, 160), 0, 9)
    assert compare_lines(map_of(page), map_of(thick), Alignment(1.0, False, 0.0)) is None


@pytest.mark.parametrize("axes", [(60, 60), (60, 45)])
def test_ellipses_are_all_alike_and_match_nothing(axes):
    pages = [np.full((160, 160), 255, np.uint8) for _ in range(2)]
    cv2.ellipse(pages[0], (80, 80), axes, 0, 0, 360, 0, 5)
    cv2.ellipse(pages[1], (78, 82), (axes[0] - 1, axes[1] + 1), 0, 0, 360, 0, 5)
    first, second = map(map_of, pages)
    assert not first.can_be_told
    assert compare_lines(first, second, Alignment(1.0, flip=False, turn_deg=0.0)) is None
