"""Pictures of drawings on paper: what each kind promises, by measuring its pictures."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from inkfold.augment.camera import SceneSettings, light_scene
from inkfold.augment.photographs import PHOTOGRAPHS, photograph
from inkfold.augment.rng import Draws


def drawing(side=200):
    """Draw a circle of radius 60 and a cross within it, away from the middle."""
    page = np.full((side, side), 255, np.uint8)
    cv2.circle(page, (80, 90), 60, 0, 3, cv2.LINE_AA)
    cv2.line(page, (50, 60), (110, 120), 0, 3, cv2.LINE_AA)
    cv2.line(page, (110, 60), (50, 120), 0, 3, cv2.LINE_AA)
    return page


def pictures(kind, count=6, size_px=400):
    return [photograph(drawing(), kind, Draws(f"{kind} {i}".encode()), size_px) for i in range(count)]


@pytest.mark.parametrize("kind", PHOTOGRAPHS)
def test_a_picture_depends_on_the_drawing_the_kind_and_the_stream_alone(kind):
    first, again = (photograph(drawing(), kind, Draws(b"1"), 200) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.dtype == np.uint8
    assert first.shape[2] == 3
    assert max(first.shape) == 200, "the longer side is as wanted, and the drawing's own side where it stays as it is"
    assert (kind == "clean") == np.array_equal(first, photograph(drawing(), kind, Draws(b"2"), 200))


def test_clean_is_the_drawing_itself():
    assert (photograph(drawing(), "clean", Draws(b"1")) == drawing()[..., None]).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3), (64, 64, 3)])
@pytest.mark.parametrize("kind", ["photographed", "small", "page_on_table", "holes"])
def test_any_shape_and_a_blank_page_are_photographed(shape, kind):
    for value in (0, 255):
        assert photograph(np.full(shape, value, np.uint8), kind, Draws(b"1"), 100).size


def test_a_small_drawing_takes_a_fifth_to_half_of_a_white_page():
    for picture in pictures("small"):
        rows, columns = np.nonzero(picture.min(2) < 128)
        longer = max(np.ptp(rows), np.ptp(columns)) + 1
        assert 0.19 * 400 <= longer <= 0.51 * 400
        assert (picture[[0, -1]] == 255).all()


def test_a_photographed_page_is_lighter_on_one_side_than_on_the_other():
    for picture in pictures("photographed"):
        light = cv2.resize(
            cv2.morphologyEx(picture.min(2), cv2.MORPH_CLOSE, np.ones((25, 25))), (4, 4), interpolation=cv2.INTER_AREA
        )
        assert light.min() < 0.9 * light.max()


def test_a_shadow_darkens_a_part_of_the_page_with_a_soft_edge():
    for number in range(6):
        scene = SceneSettings(shadow=(0.5, 0.5), shadow_edge=(0.02, 0.02))
        page = light_scene(np.full((300, 300, 3), 200, np.float32), scene, Draws(b"%d" % number))[..., 0]
        assert page.max() == pytest.approx(200)
        assert 95 < page.min() < 130
        assert 0.02 < (page < 150).mean() < 0.75
        # The steepest step of an edge of height 100 blurred by sigma 6 is 100 / (6 sqrt(2 pi)) = 6.6 a pixel.
        assert np.abs(np.diff(page, axis=1)).max() < 7


def test_grain_has_the_deviation_of_its_kind():
    for picture in pictures("grainy"):
        corner = picture[:20, :20].astype(float)
        # Half of the noise is cut off at 255, which leaves 0.58 of its deviation about white paper.
        assert 0.4 * 20 < corner.std() < 1.1 * 32


@pytest.mark.parametrize(("kind", "step_mm", "both"), [("ruled", 8, False), ("squared", 5, True)])
def test_lines_are_as_far_apart_as_on_paper(kind, step_mm, both):
    plain = PHOTOGRAPHS[kind]
    scan = replace(
        plain,
        page=replace(plain.page, texture=(0, 0), ruling_strength=(0.7, 0.7)),
        scene=type(plain.scene)(),
        camera=type(plain.camera)(),
        aspect=(1, 1),
        view_mm=(100, 100),
    )
    picture = photograph(np.full((8, 8), 255, np.uint8), scan, Draws(b"3"), 1000)
    rows = picture.mean((1, 2))
    lines = np.flatnonzero((rows < rows.max() - 5) & (np.roll(rows, 1) >= rows.max() - 5))
    assert np.allclose(np.diff(lines), step_mm * 10, atol=1)
    columns = picture.mean((0, 2))
    assert (np.count_nonzero(columns < columns.max() - 5) > 10) == both


def test_pencil_is_grey():
    for picture in pictures("pencil"):
        assert 60 < np.percentile(picture, 0.2) < 185


def test_coloured_paper_is_not_white():
    saturated = [np.ptp(np.median(picture.reshape(-1, 3), 0)) > 25 for picture in pictures("coloured_paper", 12)]
    assert sum(saturated) >= 6


def test_a_page_on_a_table_shows_its_edges():
    for picture in pictures("page_on_table"):
        border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        middle = picture[180:220, 180:220]
        assert abs(np.median(border.mean(1)) - np.percentile(middle, 80)) > 20


def test_four_holes_are_punched_along_a_side():
    for picture in pictures("holes", size_px=600):
        dark = (cv2.medianBlur(picture, 5).max(2) < 130).astype(np.uint8)
        _, _, boxes, _ = cv2.connectedComponentsWithStats(dark)
        round_ones = [box for box in boxes[1:] if 0.6 * box[2] <= box[3] <= 1.6 * box[2] and box[4] > 0.6 * box[2] * box[3]]
        assert len(round_ones) >= 4


def test_an_unknown_kind_is_named():
    with pytest.raises(KeyError, match="oil"):
        photograph(drawing(), "oil", Draws(b"1"))
