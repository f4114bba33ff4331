import cv2
import numpy as np
import pytest

from inkfold.images.page_edge import cut_out_sheet


def sheet(height=300, width=400, level=235):
    """A sheet with a disc in its upper left quarter."""
    page = np.full((height, width), level, np.uint8)
    cv2.circle(page, (width // 4, height // 4), 30, 20, -1)
    return page


def on_table(corners, table=80, size=(500, 600), level=235):
    """Lay the sheet with its corners, clockwise from its upper left, on a table."""
    page = sheet(level=level)
    height, width = page.shape
    mapping = cv2.getPerspectiveTransform(
        np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32), np.array(corners, np.float32)
    )
    return cv2.warpPerspective(page, mapping, size[::-1], borderValue=table)


def turned(degrees, scale=1.0):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.array([[-200, -150], [200, -150], [200, 150], [-200, 150]]) * scale @ turn.T + [300, 250]


@pytest.mark.parametrize("degrees", [0, 3, -7, 15])
@pytest.mark.parametrize("table", [60, 120, 180])
def test_a_sheet_is_cut_out_and_straightened(degrees, table):
    cut = cut_out_sheet(on_table(turned(degrees), table))
    assert cut.shape == pytest.approx((300, 400), abs=12)
    assert (cut > 200).mean() > 0.97
    ys, xs = np.nonzero(cut < 50)
    assert (ys.mean() / cut.shape[0], xs.mean() / cut.shape[1]) == pytest.approx((0.25, 0.25), abs=0.02)
    assert np.ptp(ys) == pytest.approx(np.ptp(xs), abs=4)


def test_a_sheet_seen_from_the_side_becomes_a_rectangle():
    cut = cut_out_sheet(on_table([[130, 80], [470, 80], [560, 430], [40, 430]]))
    assert (cut > 200).mean() > 0.96
    ys, xs = np.nonzero(cut < 50)
    assert (ys.mean() / cut.shape[0], xs.mean() / cut.shape[1]) == pytest.approx((0.25, 0.25), abs=0.04)


def test_a_coloured_table_is_told_apart_by_its_darkest_channel():
    page = on_table(turned(4), 0)
    wood = np.stack([np.where(page == 0, level, page).astype(np.uint8) for level in (220, 170, 110)], axis=2)
    cut = cut_out_sheet(wood)
    assert cut.shape == pytest.approx((300, 400, 3), abs=12)
    assert (cut.min(2) > 200).mean() > 0.96


def test_what_lies_beside_a_sheet_of_which_one_edge_is_seen_gets_its_colour():
    page = np.full((400, 500), 235, np.uint8)
    page[:, :80] = 60
    cv2.circle(page, (300, 200), 40, 20, 4)
    before = page.copy()
    filled = cut_out_sheet(page)
    np.testing.assert_array_equal(page, before)
    assert filled.shape == page.shape
    assert (filled[:, :60] == 235).all()
    np.testing.assert_array_equal(filled[:, 120:], page[:, 120:])


def soft_shadow():
    across = np.clip((np.arange(500) - 150) / 200, 0, 1)
    return np.tile((120 + 115 * across).astype(np.uint8), (400, 1))


NO_SHEET = {
    "one colour": np.full((300, 400), 235, np.uint8),
    "a drawing": np.pad(sheet(level=255), 50, constant_values=255),
    "a frame that is drawn": cv2.rectangle(np.full((400, 400), 255, np.uint8), (40, 40), (360, 360), 0, 4),
    "a filled circle": cv2.circle(np.full((400, 400), 255, np.uint8), (200, 200), 150, 0, -1),
    "a soft shadow": soft_shadow(),
    "a small sticker": cv2.rectangle(np.full((400, 400), 60, np.uint8), (180, 180), (240, 240), 240, -1),
    "a star": cv2.fillPoly(
        np.full((400, 400), 60, np.uint8),
        [np.array([[200, 20], [240, 150], [380, 160], [260, 230], [320, 370], [200, 280], [80, 370], [140, 230], [20, 160]])],
        240,
    ),
    "a pixel": np.zeros((1, 1), np.uint8),
    "a line": np.zeros((1, 60_000, 3), np.uint8),
}


@pytest.mark.parametrize("name", NO_SHEET)
def test_pictures_without_a_sheet_stay(name):
    assert cut_out_sheet(NO_SHEET[name]) is NO_SHEET[name]


@pytest.mark.parametrize("shape", [(2, 3), (5, 1000), (1000, 3, 3), (64, 64)])
def test_any_half_dark_picture_is_taken(shape):
    page = np.full(shape, 30, np.uint8)
    page[:, shape[1] // 3 :] = 230
    assert cut_out_sheet(page).dtype == np.uint8


def test_no_line_of_the_sheets_colour_is_left_outside_of_a_dark_strip_that_is_not_painted_over():
    picture = np.full((539, 500), 250, np.uint8)
    picture[:20] = 5
    picture[:, 490:] = 5
    cut = cut_out_sheet(picture)
    right = cut[270, 480:]
    assert right[-1] == right[12], "all of the strip, or none of it"
