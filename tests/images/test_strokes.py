import numpy as np
import pytest

from inkfold.images.strokes import PAGE_PX, Sketch, Stroke, draw_page, frame_of

LOOK = {"line_width_fraction": 0.02, "margin_fraction": 0.1, "ink": 10, "paper": 250}


def drawn(*strokes, look=LOOK, **more):
    given = [one if isinstance(one, Stroke) else Stroke(np.array(one, float)) for one in strokes]
    return draw_page(Sketch(tuple(given), **{"width": 100, "height": 100, **more}), look)


def box(page):
    """Left, top, right, bottom of the ink as fractions of the side."""
    rows, columns = np.nonzero(page < 130)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / PAGE_PX


SQUARE = [[10, 20], [40, 20], [40, 50], [10, 50], [10, 20]]


def test_the_ink_is_centred_with_the_margin_of_training_drawings():
    np.testing.assert_allclose(box(drawn(SQUARE)), [0.1, 0.1, 0.9, 0.9], atol=2 / PAGE_PX)


def test_where_and_how_large_it_was_drawn_makes_no_difference():
    far = [[x / 3 + 50, y / 3 + 7] for x, y in SQUARE]
    assert np.abs(drawn(SQUARE).astype(int) - drawn(far, width=150, height=80).astype(int)).mean() < 1


def test_a_wide_drawing_keeps_its_aspect():
    left, top, right, bottom = box(drawn([[0, 0], [80, 0], [80, 20]]))
    assert (left, right) == pytest.approx((0.1, 0.9), abs=2 / PAGE_PX)
    assert bottom - top == pytest.approx((0.8 - 0.02) / 4 + 0.02, abs=2 / PAGE_PX)


@pytest.mark.parametrize("fraction", [0.005, 0.02, 0.05])
def test_lines_are_as_wide_as_those_of_training_drawings(fraction):
    page = drawn(SQUARE, look={**LOOK, "line_width_fraction": fraction})
    row = page[PAGE_PX // 2].astype(float)
    width = ((250 - row[: PAGE_PX // 2]) / 240).sum()
    assert width == pytest.approx(fraction * PAGE_PX, abs=1)


def test_ink_and_paper_are_as_in_training_drawings():
    page = drawn(SQUARE)
    assert (page.min(), page.max()) == (10, 250)
    light = drawn(SQUARE, look={**LOOK, "ink": 255, "paper": 0})
    assert light[0, 0] == 0
    assert light.max() == 255


def test_the_pens_width_counts_only_against_the_usual_one():
    thick = drawn(Stroke(np.array(SQUARE, float), pen=8), pen=8)
    np.testing.assert_array_equal(thick, drawn(SQUARE))
    double = drawn(Stroke(np.array(SQUARE, float), pen=8), pen=4)
    assert (double < 130).sum() == pytest.approx(2 * (thick < 130).sum(), rel=0.05)
    without_saying = drawn(Stroke(np.array(SQUARE, float), pen=8))
    np.testing.assert_array_equal(without_saying, thick)


def test_an_eraser_takes_away_what_it_covers():
    whole = drawn([[0, 50], [100, 50]], [[50, 0], [50, 100]])
    erased = drawn([[0, 50], [100, 50]], [[50, 0], [50, 100]], Stroke(np.array([[50.0, 20], [50, 30]]), pen=8, erase=True))
    assert (erased < 130).sum() < (whole < 130).sum()
    np.testing.assert_allclose(box(erased), box(whole), atol=3 / PAGE_PX)


def test_erased_ink_no_longer_decides_where_the_drawing_lies():
    small = drawn(SQUARE, look=LOOK)
    with_slip = drawn([[90, 90], [95, 95]], SQUARE, Stroke(np.array([[88.0, 88], [97, 97]]), pen=12, erase=True))
    assert np.abs(small.astype(int) - with_slip.astype(int)).mean() < 3


def test_ink_drawn_over_an_eraser_stays():
    page = drawn(SQUARE, Stroke(np.array([[0.0, 0], [60, 60]]), pen=100, erase=True), SQUARE)
    np.testing.assert_allclose(box(page), [0.1, 0.1, 0.9, 0.9], atol=3 / PAGE_PX)


@pytest.mark.parametrize(
    "strokes",
    [[], [Stroke(np.array([[1.0, 1]]), erase=True)], [SQUARE, Stroke(np.array([[0.0, 0], [60, 60]]), pen=200, erase=True)]],
    ids=["nothing", "eraser-only", "all-erased"],
)
def test_a_page_without_ink_is_blank(strokes):
    assert np.ptp(drawn(*strokes)) == 0


def test_a_dot_stays_a_dot_in_the_middle():
    left, top, right, bottom = box(drawn([[3, 4]]))
    assert (left + right) / 2 == pytest.approx(0.5, abs=2 / PAGE_PX)
    assert right - left == pytest.approx(0.02, abs=0.01)
    assert bottom - top == pytest.approx(0.02, abs=0.01)


@pytest.mark.parametrize("points", [[[-1e6, -1e6], [1e6, 1e6]], [[1e-9, 0], [0, 1e-9]], [[5, 5]] * 3])
def test_extreme_coordinates_give_a_page(points):
    page = drawn(points, width=1e-6 if points[0][0] == 1e-9 else 1e6, height=1e6)
    assert page.shape == (PAGE_PX, PAGE_PX)
    assert np.ptp(page) > 100


FAR_DOT = [[95, 95]]
OFF = Stroke(np.array([[70.0, 5], [71, 6]]), pen=2, erase=True)


def sketch(*strokes, **more):
    made = tuple(one if isinstance(one, Stroke) else Stroke(np.array(one, float)) for one in strokes)
    return Sketch(made, **{"width": 100, "height": 100, **more})


@pytest.mark.parametrize("more", [(), (OFF,)], ids=["strokes", "with-an-eraser"])
def test_a_dot_far_off_changes_nothing(more):
    small = [[x / 3, y / 3] for x, y in SQUARE]
    alone, beside = drawn(small, *more), drawn(small, FAR_DOT, *more)
    assert np.abs(alone.astype(int) - beside.astype(int)).mean() < (1 if more else 1e-9)
    assert frame_of(sketch(small, FAR_DOT)) == frame_of(sketch(small))


def test_the_frame_is_the_box_around_the_ink_with_half_a_pen():
    assert frame_of(sketch(SQUARE, pen=4)) == (8, 18, 42, 52)
    assert frame_of(sketch(SQUARE)) == (9.5, 19.5, 40.5, 50.5)
    assert frame_of(sketch(FAR_DOT)) == (94.5, 94.5, 95.5, 95.5)
    assert frame_of(sketch()) is None


def test_the_frame_that_was_found_shows_the_same_again():
    for strokes in ([SQUARE, FAR_DOT], [SQUARE, [[10, 35], [40, 35]], FAR_DOT]):
        frame = frame_of(sketch(*strokes, pen=3))
        assert frame_of(sketch(*strokes, pen=3, frame=frame)) == pytest.approx(frame)
        np.testing.assert_array_equal(drawn(*strokes, pen=3), drawn(*strokes, pen=3, frame=frame))


def test_in_a_chosen_frame_all_ink_counts_and_nothing_outside():
    whole = drawn(SQUARE, FAR_DOT, frame=(0, 0, 100, 100))
    assert box(whole)[2] == pytest.approx(0.9, abs=0.02)
    assert np.abs(whole.astype(int) - drawn(SQUARE).astype(int)).mean() > 5
    corner = sketch(SQUARE, frame=(0, 0, 25, 35))  # a corner of the square: 15 x 15, cut where the frame ends
    assert frame_of(corner) == pytest.approx((9.5, 19.5, 25.5, 35.5))
    assert (draw_page(sketch(SQUARE, frame=(60, 60, 99, 99)), LOOK) == 250).all()
    assert frame_of(sketch(SQUARE, frame=(60, 60, 99, 99))) is None


def test_a_line_that_crosses_a_frame_without_a_point_in_it_counts():
    assert frame_of(sketch([[0, 50], [100, 50]], frame=(20, 0, 40, 100))) == pytest.approx((19.5, 49.5, 40.5, 50.5))
