import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inkfold.data.synthetic import CLASS_NAMES, draw_sketch
from inkfold.images.blank import is_blank
from inkfold.images.page import Page


def page(side_px=160, level=255):
    return np.full((side_px, side_px), level, np.uint8)


def with_stroke(side_px, length_px, level=0, paper=255):
    pixels = page(side_px, paper)
    start = side_px // 2 - length_px // 2
    pixels[side_px // 2, start : start + length_px] = level
    return pixels


def grainy(pixels, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def lit(pixels, darkest=0.4):
    """Light that falls off towards a corner, as on a photograph."""
    ys, xs = np.mgrid[0 : pixels.shape[0], 0 : pixels.shape[1]] / max(pixels.shape)
    return (pixels * (1 - (1 - darkest) * (ys + xs) / 2)).astype(np.uint8)


def jpeg(pixels, quality=60):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return Page(data.getvalue()).pixels()


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
@pytest.mark.parametrize("side_px", [1, 28, 160, 1000])
def test_one_colour_is_blank(side_px, level):
    assert is_blank(page(side_px, level))
    assert is_blank(np.stack([page(side_px, level)] * 2 + [page(side_px, 100)], axis=2))


BLANK = {
    "scanned": grainy(page(600, 245), 3),
    "grain": grainy(page(600, 200), 7),
    "photographed": grainy(lit(page(600, 230)), 4),
    "compressed": jpeg(grainy(lit(page(600, 230)), 2)),
    "compressed colour": jpeg(np.stack([page(200, level) for level in (240, 230, 180)], axis=2)),
}


@pytest.mark.parametrize("name", BLANK)
def test_grain_and_uneven_light_alone_are_blank(name):
    assert is_blank(BLANK[name])


def test_a_few_specks_of_dust_are_blank():
    for side_px in (160, 400, 2000):
        pixels = page(side_px)
        for y, x in np.random.default_rng(side_px).integers(side_px - 2, size=(3, 2)):
            pixels[y : y + 2, x : x + 2] = 0
        assert is_blank(pixels)
    one = page(28)
    one[5, 5] = 0
    assert is_blank(one)


@pytest.mark.parametrize("paper", [255, 0, 128])
@pytest.mark.parametrize(("side_px", "length_px"), [(28, 2), (64, 3), (160, 4), (400, 5), (1000, 8), (3500, 20)])
def test_one_short_stroke_a_pixel_wide_is_no_blank_page(side_px, length_px, paper):
    assert not is_blank(with_stroke(side_px, length_px, 255 if paper == 0 else 0, paper))


@pytest.mark.parametrize("contrast", [16, 40, 90])
def test_a_faint_stroke_is_no_blank_page(contrast):
    for side_px in (64, 300, 1200):
        assert not is_blank(with_stroke(side_px, side_px // 4, 255 - contrast))
        assert not is_blank(
            np.stack([page(side_px), with_stroke(side_px, side_px // 4, 255 - contrast), page(side_px)], axis=2)
        )


@pytest.mark.parametrize("sigma", [4, 10])
def test_pencil_under_grain_and_uneven_light_is_no_blank_page(sigma):
    pixels = page(600, 230)
    cv2.line(pixels, (100, 200), (300, 420), 170, 3)
    assert not is_blank(grainy(lit(pixels), sigma))
    assert not is_blank(jpeg(grainy(lit(pixels), sigma), 80))


def test_dots_are_a_drawing_when_there_are_many():
    pixels = page(400)
    pixels[100:300:10, 200:202] = 0
    pixels[101:301:10, 200:202] = 0
    assert not is_blank(np.maximum(pixels, pixels.T) if (pixels == 255).all() else np.minimum(pixels, pixels.T))


@pytest.mark.parametrize("contrast", [90, 200])
def test_a_page_shaded_from_edge_to_edge_is_no_blank_page(contrast):
    for side_px in (64, 600):
        ys, xs = np.mgrid[0:side_px, 0:side_px]
        for period in (4, 10, 20):
            assert not is_blank(grainy(np.where((ys + xs) % period < period // 2, 230 - contrast, 230).astype(np.uint8), 1))


def test_a_faint_dense_sketch_is_no_blank_page():
    for name in CLASS_NAMES[:12]:
        sketch = draw_sketch(name, 3, 1).astype(int)
        assert not is_blank((255 - (255 - sketch) * 18 // 255).astype(np.uint8))


def test_dense_shading_is_no_blank_page():
    for side_px in (28, 160, 700):
        ys, xs = np.mgrid[0:side_px, 0:side_px]
        assert not is_blank(np.where((ys + xs) % 6 < 3, 30, 220).astype(np.uint8))
        assert not is_blank(np.where(xs < side_px // 2, 0, 255).astype(np.uint8))


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(CLASS_NAMES),
    index=st.integers(0, 99),
    side_px=st.sampled_from([28, 64, 256, 900]),
    part=st.floats(0.1, 1),
    dark=st.booleans(),
)
def test_no_sketch_is_blank_small_on_its_page_or_not(name, index, side_px, part, dark):
    size_px = max(8, round(part * side_px))
    sketch = cv2.resize(draw_sketch(name, 3, index), (size_px, size_px), interpolation=cv2.INTER_AREA)
    pixels = page(side_px)
    pixels[-size_px:, :size_px] = sketch
    assert not is_blank(255 - pixels if dark else pixels)
