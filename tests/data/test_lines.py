import numpy as np
import pytest

from copies import drawing
from inkfold.data.lines import LINES_PX, Drawing, find_lines, line_points, pack, sign_lines, thicken, thin, unpack
from inkfold.images.preprocess import ink_depth, paper_colour


def lines_of(pixels):
    return find_lines(ink_depth(pixels, paper_colour(pixels)))


def empty():
    return np.zeros((LINES_PX, LINES_PX), bool)


def test_a_bar_thins_to_its_middle():
    bar = np.zeros((9, 30), np.uint8)
    bar[2:7, 3:27] = 1
    lines = thin(bar)
    ys, xs = np.nonzero(lines)
    assert set(ys.tolist()) == {4}
    assert (xs.min() <= 6, xs.max() >= 23) == (True, True)


def test_thinning_keeps_a_ring_closed_and_its_hole():
    y, x = np.mgrid[:41, :41] - 20
    ring = (abs(np.hypot(y, x) - 14) <= 4).astype(np.uint8)
    lines = thin(ring)
    assert lines.sum() < ring.sum() / 4
    assert thin(lines).sum() == lines.sum()  # nothing is left to take off
    assert not lines[15:26, 15:26].any()
    assert all(lines[20, :20].any() and lines[20, 21:].any() for lines in (lines, lines.T))


@pytest.mark.parametrize(
    ("places", "length"),
    [
        ([(5, x) for x in range(5, 10)], 4),
        ([(1, 1), (2, 2), (3, 3)], 2 * np.sqrt(2)),
        ([(1, 1), (1, 2), (1, 3), (2, 3), (3, 3)], 4),  # a corner, which no diagonal cuts
        ([(7, 7)], 0),
    ],
)
def test_the_length_of_lines_by_hand(places, length):
    lines = empty()
    lines[tuple(zip(*places, strict=True))] = True
    points = line_points(lines)
    assert points.lengths.sum() == pytest.approx(length)
    assert len(points.xy) == len(places)


def test_centre_spread_and_complexity_of_a_straight_line():
    lines = empty()
    lines[40, 20:121] = True
    points = line_points(lines)
    assert points.centre.tolist() == [70, 40]
    assert points.spread == pytest.approx(100 / np.sqrt(12), rel=0.01)  # of an even distribution
    assert points.complexity == pytest.approx(np.sqrt(12), rel=0.01)


def test_width_is_measured_and_lines_hardly_depend_on_it():
    thin_page = np.full((256, 256), 255, np.uint8)
    thin_page[60:64, 40:216] = thin_page[60:200, 100:104] = 0
    thick_page = thin_page.copy()
    thick_page[58:66, 38:218] = thick_page[58:202, 98:106] = 0
    one, other = lines_of(thin_page), lines_of(thick_page)
    assert 1.4 < other.width_px / one.width_px < 2.2
    first, second = (sign_lines(drawing).astype(float).ravel() for drawing in (one, other))
    assert first @ second / np.sqrt((first @ first) * (second @ second)) > 0.98


def test_thickened_lines_lose_the_loops_that_such_strokes_fill():
    lines = empty()
    lines[40:48, 40] = lines[40:48, 47] = lines[40, 40:48] = lines[47, 40:48] = True
    lines[80, 20:150] = True
    thickened = thicken(Drawing(lines, 1.0), 9.0)
    assert thickened.lines[35:53, 35:53].sum() < lines[35:53, 35:53].sum() / 2
    assert thickened.lines[76:85, 40:130].any(axis=0).all()


def test_lines_come_back_from_the_bytes_of_the_store():
    one = lines_of(drawing())
    back = unpack(pack(one))
    assert np.array_equal(back.lines, one.lines)
    assert back.width_px == pytest.approx(one.width_px)


@pytest.mark.parametrize("pixels", [np.full((30, 30), 255, np.uint8), np.full((1, 1), 255, np.uint8)])
def test_a_blank_page_has_no_lines(pixels):
    found = lines_of(pixels)
    assert not found.lines.any()
    assert found.width_px == 0
    assert not sign_lines(found).any()
    assert not unpack(pack(found)).lines.any()
