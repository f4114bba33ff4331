import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inkfold.augment.photographs import PHOTOGRAPHS, photograph
from inkfold.augment.rng import Draws
from inkfold.images.blank import is_blank
from inkfold.images.decode import decode_image
from inkfold.images.paper import MOST_SIDE_PX, flatten_paper, is_photographed, measure_grain, page_light
from inkfold.images.preprocess import ImageOptions, on_paper, preprocess

AUTO = ImageOptions(size_px=64, paper="auto")
KEEP = ImageOptions(size_px=64, paper="keep")


def drawing(side=400, pen=5, ink=0):
    """Draw a circle with a cross in it, in the middle half of a white page."""
    page = np.full((side, side), 255, np.uint8)
    middle, radius = side // 2, side // 4
    cv2.circle(page, (middle, middle), radius, ink, pen, cv2.LINE_AA)
    for direction in (-1, 1):
        ends = [
            (middle - radius // 2, middle - direction * radius // 2),
            (middle + radius // 2, middle + direction * radius // 2),
        ]
        cv2.line(page, *ends, ink, pen, cv2.LINE_AA)
    return page


def coloured(page, ink, paper):
    share = page[..., None] / 255
    return np.rint(share * np.array(paper) + (1 - share) * np.array(ink)).astype(np.uint8)


def lit(page, darkest=0.5):
    """Light that falls off towards a corner."""
    ys, xs = np.mgrid[0 : page.shape[0], 0 : page.shape[1]] / max(page.shape)
    light = 1 - (1 - darkest) * (ys + xs) / 2
    return (page * (light if page.ndim == 2 else light[..., None])).astype(np.uint8)


def shadowed(page, level=0.55):
    """A shadow with a soft edge over half of the page."""
    across = 1 / (1 + np.exp((np.arange(page.shape[1]) - 0.5 * page.shape[1]) / (0.02 * page.shape[1])))
    return (page * (1 - (1 - level) * across)).astype(np.uint8)


def grainy(page, sigma, seed=0):
    return np.clip(page + np.random.default_rng(seed).normal(0, sigma, page.shape), 0, 255).astype(np.uint8)


def encoded(page, form, **options):
    data = io.BytesIO()
    Image.fromarray(page).save(data, form, **options)
    return decode_image(data.getvalue())


def ruled(page, step=40, level=205, squared=False):
    lined = page.copy()
    lined[step // 2 :: step] = np.minimum(lined[step // 2 :: step], level)
    if squared:
        lined[:, step // 2 :: step] = np.minimum(lined[:, step // 2 :: step], level)
    return lined


def assert_ink_is_where_it_was_drawn(cleaned, clean, px):
    """Ink within so many px of the drawn one, all of the drawn one within so many px of ink, and white paper elsewhere."""
    dark = (cleaned if cleaned.ndim == 2 else cleaned.min(2)) < 128
    drawn = clean < 128
    reach = np.ones((2 * px + 1, 2 * px + 1), np.uint8)
    around_drawn, around_dark = (cv2.dilate(mask.astype(np.uint8), reach) > 0 for mask in (drawn, dark))
    assert dark[around_drawn].sum() == dark.sum()
    assert (drawn & ~around_dark).sum() == 0
    assert (cleaned[~around_drawn] >= 240).mean() > 0.999


SCREEN = {
    "black": drawing(),
    "grey ink": drawing(ink=100),
    "dark mode": 255 - drawing(),
    "fine": drawing(pen=1),
    "bold": drawing(pen=40),
    "small": drawing(64, 2),
    "icon": drawing(24, 1),
    "1-bit": np.where(drawing() < 128, np.uint8(0), np.uint8(255)),
    "cream paper": coloured(drawing(), (20, 30, 90), (250, 240, 215)),
    "blue paper": coloured(drawing(), (255, 255, 0), (0, 20, 60)),
    "filled emoji": coloured(cv2.circle(drawing(), (200, 200), 150, 90, -1), (230, 120, 0), (255, 255, 255)),
    "blank": np.full((300, 300), 255, np.uint8),
    "blank grey": np.full((300, 300, 3), 200, np.uint8),
}


@pytest.mark.parametrize("name", SCREEN)
def test_drawings_made_on_a_screen_stay_byte_by_byte(name):
    page = SCREEN[name]
    assert on_paper(page, AUTO) is page or np.array_equal(on_paper(page, AUTO), on_paper(page, KEEP))
    np.testing.assert_array_equal(preprocess(page, AUTO), preprocess(page, KEEP))


@pytest.mark.parametrize("quality", [30, 50, 70, 85, 95])
@pytest.mark.parametrize("name", SCREEN)
def test_jpegs_of_drawings_made_on_a_screen_stay_too(name, quality):
    page = encoded(SCREEN[name], "JPEG", quality=quality)
    np.testing.assert_array_equal(preprocess(page, AUTO), preprocess(page, KEEP))


def test_dense_strokes_in_a_small_jpeg_are_no_photograph():
    lines = np.full((64, 64), 255, np.uint8)
    for start in range(2, 64, 8):
        cv2.line(lines, (start, 0), (63 - start, 63), 0, 1, cv2.LINE_AA)
    page = encoded(coloured(lines, (255, 255, 0), (0, 20, 60)), "JPEG", quality=50)
    assert not is_photographed(page)


def test_palettes_of_few_colours_stay():
    image = Image.fromarray(coloured(drawing(), (200, 30, 30), (240, 250, 240))).quantize(16)
    data = io.BytesIO()
    image.save(data, "PNG")
    page = decode_image(data.getvalue())
    np.testing.assert_array_equal(preprocess(page, AUTO), preprocess(page, KEEP))


@pytest.mark.parametrize("kind", sorted(set(PHOTOGRAPHS) - {"clean", "small", "scanned"}))
@pytest.mark.parametrize("size_px", [96, 500])
def test_pictures_of_paper_are_photographs(kind, size_px):
    assert is_photographed(photograph(drawing(200, 4), kind, Draws(kind.encode()), size_px))


ON_PAPER = {
    "uneven light": lit(drawing() * 0.9),
    "a shadow": grainy(shadowed(lit(drawing() * 0.95, 0.8)), 2),
    "grain": grainy(lit(drawing() * 0.9, 0.7), 5),
    "pencil": grainy(lit(drawing(ink=120), 0.7), 2),
    "coloured paper": lit(coloured(drawing(), (30, 30, 30), (235, 215, 160)), 0.7),
    "yellow light": grainy(lit(coloured(drawing(), (20, 20, 15), (250, 230, 190)), 0.6), 2),
    "ruled": grainy(lit(ruled(drawing()), 0.8), 1),
    "squared": grainy(lit(ruled(drawing(), squared=True), 0.8), 1),
    "a board": grainy(lit(90 - (drawing() * 0.25).astype(np.uint8) + (255 - drawing()) // 2, 0.7), 2),
}


@pytest.mark.parametrize("name", ON_PAPER)
def test_paper_becomes_white_and_ink_stays_where_it_was_drawn(name):
    page = ON_PAPER[name]
    assert is_photographed(page)
    cleaned = flatten_paper(page)
    assert cleaned.shape[:2] == page.shape[:2]
    assert_ink_is_where_it_was_drawn(cleaned, drawing(), 3)


def test_coloured_ink_keeps_its_colour():
    page = grainy(lit(coloured(drawing(pen=9), (200, 30, 30), (245, 240, 225)), 0.7), 2)
    cleaned = flatten_paper(page)
    red, green, blue = cleaned[drawing(pen=9) < 20].mean(0)
    assert red > max(green, blue) + 60


def test_ink_that_is_too_weak_to_be_parted_from_the_paper_is_kept_as_it_is():
    for depth in (6, 8, 10, 12):
        for grain in (0, 1, 2):
            page = grainy(lit(235.0 - depth * (drawing() < 128), 0.9), grain)
            cleaned = flatten_paper(page)
            assert is_blank(page) or not is_blank(cleaned)
            assert cleaned.min() < 255 or is_blank(page)


def test_a_blank_photographed_page_becomes_white():
    assert (flatten_paper(grainy(lit(np.full((400, 400), 230, np.uint8)), 3)) == 255).all()


def test_a_picture_that_is_no_ink_on_paper_stays_as_it_is():
    scene = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    assert flatten_paper(scene) is scene


def test_a_photographed_grid_is_no_squared_paper():
    grid = np.full((600, 600), 255, np.uint8)
    for place in range(100, 501, 50):
        cv2.line(grid, (100, place), (500, place), 0, 4)
        cv2.line(grid, (place, 100), (place, 500), 0, 4)
    assert_ink_is_where_it_was_drawn(flatten_paper(grainy(lit(grid, 0.7), 2)), grid, 3)


def test_light_is_what_the_page_would_be_without_ink():
    blank = lit(np.full((400, 400), 240, np.uint8))
    light = page_light(lit((drawing() * (240 / 255)).astype(np.uint8)))
    assert np.abs(light.astype(int) - blank)[40:-40, 40:-40].max() <= 12


def test_light_is_never_zero():
    assert page_light(np.zeros((40, 40, 3), np.uint8)).min() == 1


@pytest.mark.parametrize("sigma", [1.0, 3.0, 8.0, 20.0])
def test_grain_is_measured_beside_strokes(sigma):
    assert measure_grain(grainy((drawing() * 0.7 + 20).astype(np.uint8), sigma)) == pytest.approx(sigma, rel=0.15, abs=0.3)


def test_large_pages_are_reduced():
    page = np.full((2000, 3000), 230, np.uint8)
    page[900:1100, 900:1100] = 20
    cleaned = flatten_paper(page)
    assert cleaned.shape == (853, MOST_SIDE_PX)
    assert cleaned[426, 426] == 0


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (2, 1), (1, 60_000, 3), (60_000, 1), (3, 60_000), (60_000, 7), (64, 3000), (33, 33, 3), (5, 1000)]
)
@pytest.mark.parametrize("content", ["noise", "white", "black", "half"])
def test_pages_of_any_shape_are_read(shape, content):
    page = np.full(shape, {"white": 255}.get(content, 0), np.uint8)
    if content == "noise":
        page = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    if content == "half":
        page[:, shape[1] // 2 :] = 200
    is_photographed(page)
    cleaned = flatten_paper(page)
    assert cleaned.dtype == np.uint8
    assert min(cleaned.shape[:2]) >= 1


@settings(max_examples=40)
@given(st.integers(1, 120), st.integers(1, 120), st.sampled_from([(), (3,)]), st.integers(0, 255), st.integers(0, 60))
def test_flattening_reads_every_page_the_same_way_twice_and_changes_none(height, width, channels, level, spread):
    rng = np.random.default_rng(level)
    page = np.clip(level + rng.integers(-spread, spread + 1, (height, width, *channels)), 0, 255).astype(np.uint8)
    before = page.copy()
    first, second = flatten_paper(page), flatten_paper(page)
    np.testing.assert_array_equal(page, before)
    np.testing.assert_array_equal(first, second)


def test_grain_is_no_ink_where_light_falls_off_to_the_sides():
    y, x = np.mgrid[-1:1:400j, -1:1:400j]
    fading = 200 - 65 * (x**2 + y**2)
    page = grainy(np.where(drawing() < 128, 0.45 * fading, fading).clip(0, 255).astype(np.uint8), 8)
    flat = flatten_paper(page)
    assert (flat[:12] < 200).mean() < 0.01
    assert (flat[:, -12:] < 200).mean() < 0.01
    assert (flat[100:300, 100:300] < 128).any()
