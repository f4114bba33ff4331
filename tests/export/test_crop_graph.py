"""Boxes that the graph finds, against those of `images.preprocess.crop_to_ink`."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkfold.export.crop_graph import add_crop
from inkfold.export.graph import Graph
from inkfold.export.preprocess_graph import _page_colour, add_channels, add_fitting
from inkfold.export.verify import open_session
from inkfold.images.preprocess import ImageOptions, crop_to_ink, ink_box, preprocess
from toy_onnx import as_images, as_three


def session_of(build):
    g = Graph()
    g.call(build(g, add_channels(g, "images")), "out")
    return open_session(g.model({"images": (np.uint8, list("nhwc"))}, {"out": None}, {}).SerializeToString(), 1)


@pytest.fixture(scope="module")
def cropping():
    return session_of(lambda g, x: add_crop(g, x, _page_colour(g, x)))


def cropped(session, pixels):
    return session.run(None, {"images": as_images(pixels)})[0].transpose(0, 2, 3, 1)[0]


def assert_same_crop(session, pixels):
    np.testing.assert_array_equal(cropped(session, pixels), as_three(crop_to_ink(pixels)))


def random_page(height, width, blocks, seed):
    """Blocks of many sizes, on pages with borders, in colour, or light on dark."""
    rng, page = np.random.default_rng(seed), np.full((height, width), 255, np.uint8)
    for _ in range(blocks):
        y, x, part = rng.integers(0, height), rng.integers(0, width), rng.integers(2, 40)
        high, wide = (rng.integers(1, max(2, side // part + 1)) for side in (height, width))
        page[y : y + high, x : x + wide] = rng.integers(0, 255)
    if seed % 5 == 0:
        page = 255 - page
    for side in np.flatnonzero(rng.random(4) < 0.25):
        band = np.rot90(page, side)
        band[: max(1, height // 40)] = 0
    return np.stack([page, np.roll(page, 3, 0), page], axis=2) if seed % 3 == 0 else page


@settings(max_examples=250)
@given(st.integers(1, 220), st.integers(1, 220), st.integers(0, 25), st.integers(0, 10_000))
def test_random_pages_are_cropped_to_the_same_box(cropping, height, width, blocks, seed):
    assert_same_crop(cropping, random_page(height, width, blocks, seed))


def dots(rows, side=320, radius=5, start=None):
    page = np.full((side, side), 255, np.uint8) if start is None else start
    for y, x in rows:
        cv2.circle(page, (x, y), radius, 0, -1)
    return page


def with_drawing(side=320):
    return cv2.circle(np.full((side, side), 255, np.uint8), (side // 2, side // 2), side // 4, 0, 3)


def with_stamp(page):
    return cv2.circle(cv2.circle(page, (295, 25), 17, 90, 1), (295, 25), 12, 90, 1)


def with_strips(page, *sides):
    for side in sides:
        np.rot90(page, side)[:8] = 30
    return page


def spiral():
    """One component that winds through all cells of a page of 64 x 64."""
    page = np.full((64, 64), 255, np.uint8)
    y = x = 0
    page[0, 0] = 0
    down, across, length, turns = 0, 1, 63, 0
    while length > 0:
        for _ in range(length):
            y, x = y + down, x + across
            page[y, x] = 0
        down, across, turns = across, -down, turns + 1
        if turns > 2 and turns % 2:
            length -= 2
    return page


RULES = {
    "holes": dots([(90, 20), (230, 22)], start=with_drawing()),
    "holes of equal area": dots([(40, 20), (110, 26), (180, 32), (250, 20)], start=with_drawing()),
    "holes along two sides": dots([(90, 20), (230, 22), (20, 100), (20, 220)], start=with_drawing()),
    "a single hole": dots([(90, 20)], start=with_drawing()),
    "many dots": dots([(y, x) for y in (20, 100, 300) for x in range(20, 320, 40)], start=with_drawing()),
    "dots alone": dots([(20, 20), (160, 160), (300, 20)]),
    "specks": dots([(10, 300), (310, 5), (300, 310)], radius=1, start=with_drawing()),
    "a stamp": with_stamp(with_drawing()),
    "a stamp and holes": dots([(90, 20), (230, 22)], start=with_stamp(with_drawing())),
    "a strip": with_strips(with_drawing(), 0),
    "two strips": with_strips(with_drawing(), 1, 2),
    "three strips": with_strips(with_drawing(), 0, 1, 2),
    "a border": with_strips(with_drawing(), 0, 1, 2, 3),
    "a spiral": spiral(),
    "grain": np.random.default_rng(0).integers(235, 256, (90, 70), np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8),
    "a line of pixels": np.pad(np.zeros((1, 500), np.uint8), ((0, 0), (2000, 3000)), constant_values=255),
    "a column": np.pad(np.zeros((9, 1), np.uint8), ((200, 100), (0, 0)), constant_values=255),
    "a pixel": np.zeros((1, 1), np.uint8),
    "tall": np.pad(with_drawing(65), ((500, 900), (0, 0)), constant_values=255),
}


@pytest.mark.parametrize("name", RULES)
def test_each_rule_of_the_box_holds_in_the_graph(cropping, name):
    assert_same_crop(cropping, RULES[name])


@pytest.mark.parametrize("name", ["holes", "a stamp", "a strip", "two strips", "a border", "specks"])
def test_the_rules_pages_are_ones_that_the_rules_crop(name):
    assert ink_box(RULES[name]) == ink_box(with_drawing())


@pytest.mark.parametrize("level", [0, 90, 255])
@pytest.mark.parametrize("shape", [(40, 60), (1, 300), (300, 1), (65, 64, 3)])
def test_blank_pages_stay_whole(cropping, shape, level):
    page = np.full(shape, level, np.uint8)
    np.testing.assert_array_equal(cropped(cropping, page), as_three(page))


def test_each_drawing_of_a_batch_is_cropped_by_itself():
    options = ImageOptions(size_px=32, resize="crop_to_ink")
    fitting = session_of(lambda g, x: add_fitting(g, x, options))
    batch = np.stack([RULES[name] for name in ("holes", "a stamp", "a border", "dots alone", "three strips")])
    batch = np.concatenate([batch, np.full((1, 320, 320), 255, np.uint8)])
    squares = fitting.run(None, {"images": batch[..., None]})[0].transpose(0, 2, 3, 1)
    for page, square in zip(batch, squares, strict=True):
        assert np.abs(square - as_three(preprocess(page, options))).max() <= 1
