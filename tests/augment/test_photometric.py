import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy import ndimage

from inkfold.augment.photometric import apply_ink
from inkfold.augment.rng import Draws
from inkfold.config.operations import KINDS
from inkfold.images.preprocess import INK_CONTRAST

WHITE = np.uint8(255)
CREAM = np.array([250, 240, 200], np.uint8)
AMOUNTS = {
    "thin": 3.3,
    "thicken": 3.3,
    "stroke_dropout": 0.4,
    "erase": 0.2,
    "blur": 1.7,
    "sharpen": 1.2,
    "contrast": 0.6,
    "invert": 0,
    "noise": 20,
    "jpeg": 30,
}


def changed(name: str, pixels: np.ndarray, amount: float = 0, paper: np.ndarray = WHITE, seed: int = 0) -> np.ndarray:
    return apply_ink(name, pixels, amount, paper, Draws(b"%d" % seed))


def noise(side: int, *channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, *channels), np.uint8)


def with_line(width: int, side: int = 40) -> np.ndarray:
    """An upright black line on white paper."""
    pixels = np.full((side, side), 255, np.uint8)
    pixels[:, 15 : 15 + width] = 0
    return pixels


def width_of_line(pixels: np.ndarray) -> float:
    """Ink across the line, in px of black."""
    across = (255 - pixels[len(pixels) // 2].astype(float)).sum() / 255
    return float(across)


def drawn(side: int = 224, *, width: int = 4) -> np.ndarray:
    picture = Image.new("L", (side, side), 255)
    pen, places = ImageDraw.Draw(picture), np.random.default_rng(0)
    for _ in range(12):
        pen.line(tuple(places.integers(10, side - 10, 4).tolist()), fill=0, width=width)
    return np.asarray(picture)


def ink_of(pixels: np.ndarray) -> float:
    return float((255.0 - pixels).sum())


def test_every_operation_that_moves_no_pixels_is_covered_here():
    assert set(AMOUNTS) == {name for name, kind in KINDS.items() if not kind.geometric}


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("side", [17, 64])
@pytest.mark.parametrize("name", AMOUNTS)
def test_operations_keep_shape_and_type_and_leave_what_they_are_given(name, side, channels):
    pixels, paper = noise(side, *channels), CREAM if channels else WHITE
    before, paper_before = pixels.copy(), paper.copy()
    out = changed(name, pixels, AMOUNTS[name], paper)
    assert out.dtype == np.uint8
    assert out.shape == pixels.shape
    assert not np.array_equal(out, pixels)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(paper, paper_before)


@pytest.mark.parametrize("name", AMOUNTS)
def test_the_same_generator_gives_the_same_bytes(name):
    pixels = drawn(64)
    np.testing.assert_array_equal(changed(name, pixels, AMOUNTS[name]), changed(name, pixels, AMOUNTS[name]))
    if KINDS[name].drawn:
        assert not np.array_equal(changed(name, pixels, AMOUNTS[name]), changed(name, pixels, AMOUNTS[name], seed=1))


@pytest.mark.parametrize("name", ["thin", "thicken", "stroke_dropout", "erase", "blur", "sharpen", "contrast"])
@pytest.mark.parametrize("paper", [WHITE, np.uint8(190), CREAM])
def test_blank_paper_stays_blank(name, paper):
    page = np.full((40, 40, *paper.shape), paper, np.uint8)
    np.testing.assert_array_equal(changed(name, page, AMOUNTS[name], paper), page)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.geometric and kind.range == "amount"])
def test_an_amount_of_nothing_changes_nothing(name):
    pixels = drawn(64)
    np.testing.assert_array_equal(changed(name, pixels, 0), pixels)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("name", "amount", "before", "after"),
    [
        ("thicken", 2, 4, 6),
        ("thicken", 6, 1, 7),
        ("thicken", 1, 4, 5),
        ("thicken", 0.5, 4, 4.5),
        ("thicken", 3.5, 3, 6.5),
        ("thin", 2, 6, 4),
        ("thin", 1, 6, 5),
        ("thin", 4.5, 9, 4.5),
        ("thin", 2, 2, 0),
        ("thin", 4, 3, 0),
    ],
)
def test_lines_get_thinner_and_thicker_by_the_stated_px(name, amount, before, after, turned):
    line = with_line(before)
    out = changed(name, line.T if turned else line, amount)
    assert width_of_line(out.T if turned else out) == pytest.approx(after, abs=2 / 255)  # two edges, each to a grey level


def test_part_of_a_pixel_is_a_shade_on_both_edges():
    out = changed("thicken", with_line(2, 40), 0.5)  # a quarter of a pixel on each side: 255 * 3 / 4
    np.testing.assert_array_equal(out[20, 13:19], [255, 191, 0, 0, 191, 255])


def test_thickening_is_nearly_round():
    dot = np.full((61, 61), 255, np.uint8)
    dot[30, 30] = 0
    grown = changed("thicken", dot, 24) < 128  # 12 px on each side
    rows, columns = np.nonzero(grown)
    assert np.ptp(rows) == np.ptp(columns) == 24
    assert grown.sum() == pytest.approx(math.pi * 12.5**2, rel=0.15)  # a square would have 625, a diamond 313
    np.testing.assert_array_equal(grown, grown[::-1])
    np.testing.assert_array_equal(grown, grown.T)


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 16), st.floats(0, 16), st.integers(0, 9), st.sampled_from([(), (3,)]))
def test_more_thinning_is_nowhere_darker_and_more_thickening_nowhere_lighter(one, other, seed, channels):
    pixels, (less, more) = noise(20, *channels, seed=seed), sorted((one, other))
    assert (changed("thin", pixels, more) >= changed("thin", pixels, less)).all()
    assert (changed("thicken", pixels, more) <= changed("thicken", pixels, less)).all()


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 8), st.integers(0, 9))
def test_thinning_is_thickening_of_the_negative(amount, seed):
    pixels = noise(20, seed=seed)
    difference = changed("thin", pixels, amount).astype(int) - (255 - changed("thicken", 255 - pixels, amount))
    assert np.abs(difference).max() <= 1  # halves are rounded up in both


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_dropout_loses_about_the_stated_share_of_the_ink(share):
    pixels = drawn()
    lost = np.array([1 - ink_of(changed("stroke_dropout", pixels, share, seed=seed)) / ink_of(pixels) for seed in range(60)])
    assert lost.mean() == pytest.approx(share, abs=0.005)
    assert np.abs(lost - share).max() < 0.03


def test_a_single_blot_is_not_lost_as_a_whole_for_a_small_share():
    blot = np.full((64, 64), 255, np.uint8)
    blot[30:33, 30:33] = 0
    for seed in range(20):
        assert ink_of(changed("stroke_dropout", blot, 0.2, seed=seed)) >= (1 - 2 * 0.2) * ink_of(blot) - 255


@pytest.mark.parametrize("paper", [WHITE, np.uint8(200), CREAM])
def test_dropout_only_adds_paper(paper):
    ink = (255 - drawn(128, width=3))[(...,) + (None,) * paper.ndim] > 0
    pixels = np.where(ink, np.uint8(20), paper)
    for seed in range(10):
        out = changed("stroke_dropout", pixels, 0.4, paper, seed)
        differs = (out != pixels).reshape(128, 128, -1).any(axis=2)
        assert differs.any()
        assert (out[differs] == paper).all()


def test_dropout_takes_pieces_and_leaves_the_rest_whole():
    pixels = drawn()
    out = changed("stroke_dropout", pixels, 0.3)
    gone = (out != pixels).astype(np.uint8)
    _, pieces = ndimage.label(gone, np.ones((3, 3)))
    assert 3 <= pieces <= 60  # of 2,000 lost pixels
    assert gone.sum() / pieces > 30


def test_what_is_nearly_paper_is_no_ink_to_lose():
    faint = np.full((64, 64), 255, np.uint8)
    faint[20:30] = 255 - INK_CONTRAST + 1
    np.testing.assert_array_equal(changed("stroke_dropout", faint, 0.5), faint)
    faint[20:30] = 255 - INK_CONTRAST
    assert not np.array_equal(changed("stroke_dropout", faint, 0.5), faint)


@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_large_shares_are_blanked_by_what_fits(share):
    for seed in range(50):
        blank = changed("erase", np.zeros((200, 200), np.uint8), share, seed=seed) == 255
        assert blank.mean() == pytest.approx(share, abs=0.006)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_erasing_blanks_a_rectangle_of_the_stated_share(share):
    side, centres, aspects = 200, [], []
    for seed in range(100):
        blank = changed("erase", np.zeros((side, side), np.uint8), share, seed=seed) == 255
        rows, columns = np.flatnonzero(blank.any(axis=1)), np.flatnonzero(blank.any(axis=0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert blank.sum() == height * width
        # Each side is rounded to a pixel.
        assert height * width == pytest.approx(share * side**2, abs=(height + width) / 2 + 1)
        assert 1 / 3.2 < height / width < 3.2
        centres.append((rows.mean() / side, columns.mean() / side))
        aspects.append(math.log(height / width, 3))
    assert np.abs(np.mean(centres, axis=0) - 0.5).max() < 0.1  # anywhere on the page
    assert abs(np.mean(aspects)) < 0.2  # tall as often as wide
    assert np.std(aspects) == pytest.approx(2 / math.sqrt(12), abs=0.12)


def test_erasing_leaves_the_papers_own_colour():
    out = changed("erase", np.zeros((50, 50, 3), np.uint8), 0.2, CREAM)
    assert {tuple(colour) for colour in out.reshape(-1, 3).tolist()} == {(0, 0, 0), tuple(CREAM.tolist())}


@pytest.mark.parametrize("sigma", [0.5, 1, 2.5, 6])
def test_blur_keeps_the_mean_and_is_scipys_gaussian(sigma):
    pixels = np.pad(drawn(128, width=5), 30, constant_values=255)
    out = changed("blur", pixels, sigma)
    assert out.mean() == pytest.approx(pixels.mean(), abs=0.3)
    expected = ndimage.gaussian_filter(pixels.astype(float), sigma, truncate=3, mode="nearest")
    assert np.abs(out - expected).max() <= 2


def test_sharpening_steepens_an_edge_as_calculated_by_hand():
    # A Gaussian of sigma 1 has 0.3004 of its weight beyond half a pixel, 0.0584 beyond one and a half, 0.0044 beyond two
    # and a half. At a step of 100 levels, the difference to it is added.
    page = np.full((20, 20), 50, np.uint8)
    page[:, 10:] = 150
    for weight in (0.5, 1):
        expected = np.array([50, 50 - 5.84 * weight, 50 - 30.04 * weight, 150 + 30.04 * weight, 150 + 5.84 * weight, 150])
        np.testing.assert_allclose(changed("sharpen", page, weight)[10, 7:13], expected, atol=1)


def test_sharpening_stops_at_black_and_white():
    page = np.full((20, 20), 2, np.uint8)
    page[:, 10:] = 250
    out = changed("sharpen", page, 3)
    assert out[10, 9] == 0
    assert out[10, 10] == 255


def test_contrast_scales_the_distance_to_the_paper():
    pixels = np.array([[255, 155, 55], [254, 0, 200], [255, 255, 255]], np.uint8)
    # Halves go to the darker side.
    np.testing.assert_array_equal(changed("contrast", pixels, 0.5), [[255, 205, 155], [254, 127, 227], [255] * 3])
    np.testing.assert_array_equal(changed("contrast", pixels, 2), [[255, 55, 0], [253, 0, 145], [255] * 3])
    np.testing.assert_array_equal(changed("contrast", pixels, 1), pixels)
    np.testing.assert_array_equal(changed("contrast", pixels, 0), np.full((3, 3), 255))


def test_contrast_is_about_each_channels_own_paper():
    pixels = np.array([[(200, 100, 50), (100, 100, 100)]], np.uint8)
    paper = np.array([200, 100, 50], np.uint8)
    np.testing.assert_array_equal(changed("contrast", pixels, 2, paper), [[(200, 100, 50), (0, 100, 150)]])
    np.testing.assert_array_equal(changed("contrast", pixels, 5, paper), [[(200, 100, 50), (0, 100, 255)]])


@pytest.mark.parametrize("channels", [(), (3,)])
def test_inverting_twice_is_nothing(channels):
    pixels = noise(9, *channels)
    out = changed("invert", pixels)
    np.testing.assert_array_equal(out, 255 - pixels)
    np.testing.assert_array_equal(changed("invert", out), pixels)


@pytest.mark.parametrize("deviation", [2, 10, 25])
@pytest.mark.parametrize("side", [96, 224])
def test_noise_has_the_stated_deviation_and_moves_no_mean(side, deviation):
    grey = np.full((side, side), 128, np.uint8)
    grain = np.stack([changed("noise", grey, deviation, seed=seed) for seed in range(12)]) - 128.0
    assert grain.std() == pytest.approx(deviation, rel=0.05)
    assert abs(grain.mean()) < 0.5 + 0.05 * deviation  # values are rounded down
    assert np.abs(grain).max() < 6 * deviation


def test_half_of_the_noises_variance_is_in_soft_spots():
    grain = np.stack([changed("noise", np.full((224, 224), 128, np.uint8), 20, seed=seed) for seed in range(12)]) - 128.0
    alone, together, apart = (np.corrcoef(grain[..., :-gap].ravel(), grain[..., gap:].ravel())[0, 1] for gap in (1, 2, 40))
    # Spots of 7.5 px widened linearly: neighbours share nearly all of the soft half, those 40 px apart none of it.
    assert alone == pytest.approx(0.5, abs=0.05)
    assert 0.4 < together < alone
    assert abs(apart) < 0.05


def test_noise_is_the_same_in_every_channel_and_in_grey():
    pixels = np.full((64, 64, 3), (100, 128, 150), np.uint8)
    grain = changed("noise", pixels, 15).astype(int) - pixels
    np.testing.assert_array_equal(grain, grain[..., :1].repeat(3, axis=2))
    grey = np.full((64, 64), 128, np.uint8)
    np.testing.assert_array_equal(changed("noise", grey, 15).astype(int) - 128, grain[..., 0])


def test_jpeg_gives_grey_for_grey():
    pixels = drawn(96)
    assert changed("jpeg", pixels, 20).shape == (96, 96)
    coloured = changed("jpeg", np.repeat(pixels[..., None], 3, axis=2), 20)
    assert np.ptp(coloured.astype(int), axis=2).max() == 0


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_lower_jpeg_quality_makes_a_larger_difference(channels):
    pixels = np.broadcast_to(drawn(96)[(...,) + (None,) * len(channels)], (96, 96, *channels)).copy()
    pixels[20:40, 20:40, ...] = CREAM if channels else 200
    errors = [np.abs(changed("jpeg", pixels, quality).astype(int) - pixels).mean() for quality in (95, 60, 20, 5)]
    assert errors == sorted(errors)
    assert 0 < 2 * errors[0] < errors[-1]


def test_jpeg_quality_is_rounded_to_a_whole_one():
    pixels = drawn(64)
    np.testing.assert_array_equal(changed("jpeg", pixels, 29.6), changed("jpeg", pixels, 30))


@pytest.mark.parametrize(("name", "width"), [("thin", 4), ("thicken", 8)])
def test_light_lines_on_dark_paper_get_thin_and_thick_too(name, width):
    out = changed(name, 255 - with_line(6), 2, np.uint8(0))
    assert (out[20] == 255).sum() == width
