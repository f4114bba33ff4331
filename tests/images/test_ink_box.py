import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkfold.data.synthetic import CLASS_NAMES, draw_strokes, render_strokes
from inkfold.images.ink_box import find_ink_box

SIDE = 640  # cells of ten pixels


def blank(height=SIDE, width=SIDE):
    return np.zeros((height, width), np.uint8)


def ring(depth, centre=(320, 320), radius=150, thick=6):
    return cv2.circle(depth, centre, radius, 255, thick)


def extent(depth):
    """The box around all ink, by definition."""
    rows, columns = np.nonzero(depth)
    return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1


def page(*parts):
    depth = ring(blank())
    for draw in parts:
        draw(depth)
    return depth


def disc(x, y, radius=10):
    return lambda depth: cv2.circle(depth, (x, y), radius, 255, -1)


def block(top, left, bottom, right):
    def draw(depth):
        depth[top:bottom, left:right] = 255

    return draw


def stamp(x, y):
    return lambda depth: cv2.circle(cv2.circle(depth, (x, y), 35, 255, 1), (x, y), 25, 255, 1)


def dust(depth):
    rng = np.random.default_rng(0)
    for y, x in rng.integers(0, SIDE - 2, (30, 2)):
        if max(abs(y - 320), abs(x - 320)) > 153 + 50:  # what is near may be a dot of the drawing
            depth[y : y + 2, x : x + 2] = 255


NO_PART_OF_IT = {
    "specks": page(dust),
    "a scanner's strip on one side": page(block(0, 0, SIDE, 15)),
    "a ragged strip": page(block(0, 0, 500, 12), block(480, 0, SIDE, 8)),
    "strips on two sides": page(block(0, 0, SIDE, 15), block(625, 0, SIDE, SIDE)),
    "strips on three sides": page(block(0, 0, SIDE, 15), block(0, 0, 12, SIDE), block(625, 0, SIDE, SIDE)),
    "strips on facing sides": page(block(0, 0, 12, SIDE), block(625, 0, SIDE, SIDE)),
    "a border on four sides": page(
        block(0, 0, 12, SIDE), block(625, 0, SIDE, SIDE), block(0, 0, SIDE, 9), block(0, 631, SIDE, SIDE)
    ),
    "two punched holes": page(disc(40, 200), disc(40, 440)),
    "four punched holes, the page turned": page(disc(30, 100), disc(35, 245), disc(40, 390), disc(45, 535)),
    "holes along the top": page(disc(200, 40), disc(440, 40)),
    "a stamp": page(stamp(590, 50)),
    "a page number": page(lambda depth: cv2.putText(depth, "17", (585, 615), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 1)),
    "all of them": page(dust, block(0, 0, 12, SIDE), disc(40, 200), disc(40, 440), stamp(590, 590)),
}


@pytest.mark.parametrize("name", NO_PART_OF_IT)
def test_what_is_no_part_of_the_drawing_is_left_out(name):
    assert find_ink_box(NO_PART_OF_IT[name]) == extent(ring(blank()))


def scattered(count, height, width, seed=0, start=None):
    depth = blank() if start is None else start
    for y, x in np.random.default_rng(seed).integers(0, SIDE - 20, (count, 2)):
        depth[y : y + height, x : x + width] = 255
    return depth


def frame(inset, thick=4):
    return lambda depth: cv2.rectangle(depth, (inset, inset), (SIDE - 1 - inset, SIDE - 1 - inset), 255, thick)


WHOLE = {
    "rain": scattered(40, 14, 5),
    "stars": scattered(30, 9, 9, 1),
    "snow on a man": scattered(60, 8, 8, 2, ring(blank())),
    "a ground line": page(block(600, 40, 604, 600)),
    "a ground line from side to side": page(block(600, 0, 604, SIDE)),
    "filled ground": page(block(520, 0, SIDE, SIDE)),
    "a frame drawn by hand": page(frame(12)),
    "axes": page(block(0, 30, SIDE, 34), block(600, 0, 604, SIDE)),
    "an eye": cv2.circle(cv2.ellipse(blank(), (320, 320), (300, 140), 0, 0, 360, 255, 6), (320, 320), 40, 255, -1),
    "a face with its eyes in a band along the side": page(disc(250, 40, 8), disc(390, 90, 8)),
    "a hat along the side": page(block(30, 280, 60, 360)),
    "two dots": cv2.circle(cv2.circle(blank(), (320, 320), 10, 255, -1), (40, 40), 10, 255, -1),
    "nine dots": [cv2.circle(d, (x, y), 10, 255, -1) for d in [blank()] for x in (40, 320, 600) for y in (40, 320, 600)][-1],
    "a large part far away": page(disc(570, 570, 50)),
    "one line": cv2.line(blank(), (0, 320), (639, 320), 255, 3),
    "a pixel": np.full((1, 1), 255, np.uint8),
    "all ink": np.full((70, 50), 255, np.uint8),
    "faint ink": page() // 16,
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_may_be_drawn_is_never_cut(name):
    assert find_ink_box(WHOLE[name]) == extent(WHOLE[name])


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("name", ["a stamp", "two punched holes", "a scanner's strip on one side", "specks"])
def test_a_turned_page_has_the_turned_box(name, turn):
    depth = np.ascontiguousarray(np.rot90(NO_PART_OF_IT[name], turn))
    assert find_ink_box(depth) == extent(np.rot90(ring(blank()), turn))


@pytest.mark.parametrize("shape", [(1, 1), (1, 60_000), (60_000, 1), (63, 65), (300, 2)])
def test_a_page_without_ink_has_no_box(shape):
    assert find_ink_box(np.zeros(shape, np.uint8)) is None
    assert find_ink_box(np.full(shape, 11, np.uint8)) is None  # the grain of paper


def test_a_long_line_of_pixels_is_searched_cell_by_cell():
    depth = np.zeros((1, 60_000), np.uint8)
    depth[0, 20_000:40_001] = 200
    assert find_ink_box(depth) == (0, 20_000, 1, 40_001)


def test_strokes_that_fill_their_pages_are_not_cut():
    for index, name in enumerate(CLASS_NAMES):
        strokes = draw_strokes(name, np.random.default_rng(index))
        points = np.concatenate(strokes)
        low, size = points.min(0), np.ptp(points, axis=0).max()
        depth = 255 - render_strokes([0.04 + 0.92 * (stroke - low) / size for stroke in strokes], 256, 4)
        depth[depth < 32] = 0
        assert find_ink_box(depth) == extent(depth), name


@settings(max_examples=100)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_a_box_is_tight_lies_in_the_page_and_holds_the_largest_component(height, width, count, seed):
    rng, depth = np.random.default_rng(seed), np.zeros((height, width), np.uint8)
    for _ in range(count):
        y, x, high, wide = rng.integers(0, height), rng.integers(0, width), *rng.integers(1, 60, 2)
        depth[y : y + high, x : x + wide] = 255
    box = find_ink_box(depth)
    assert (box is None) == (not depth.any())
    if box is not None:
        top, left, bottom, right = box
        inside = depth[top:bottom, left:right]
        assert 0 <= top < bottom <= height
        assert 0 <= left < right <= width
        for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
            assert edge.any()


def test_a_strip_goes_also_where_a_stamp_beside_it_is_too_large_to_be_left_out():
    _, _, bottom, right = extent(page())
    stamped = page(block(0, 0, SIDE, 15), lambda depth: cv2.circle(depth, (80, 60), 20, 255, 16))
    assert find_ink_box(stamped) == (32, 52, bottom, right)  # the stamp stays, the strip at its left doesn't
