import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from inkfold.images import page as page_module
from inkfold.images.decode import BrokenImage, decode_image
from inkfold.images.page import Page
from inkfold.images.preprocess import (
    ImageOptions,
    crop_to_ink,
    inverted,
    is_light_on_dark,
    paper_colour,
    preprocess,
    read_drawing,
    square_of,
)

sides = st.integers(1, 150)
interpolations = st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"])
options_of_all_kinds = st.builds(
    ImageOptions,
    size_px=st.integers(1, 64),
    resize=st.sampled_from(["pad", "squash", "crop_to_ink"]),
    colour=st.sampled_from(["auto", "grey", "rgb"]),
    invert=st.sampled_from(["auto", "never"]),
    interpolation=interpolations,
)


def page(height: int, width: int, paper: int = 255) -> np.ndarray:
    return np.full((height, width), paper, np.uint8)


def with_line(width: int, side: int = 800) -> np.ndarray:
    picture = Image.new("L", (side, side), 255)
    ImageDraw.Draw(picture).line((30, 60, side - 40, side - 90), fill=0, width=width)
    return np.asarray(picture)


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


@settings(max_examples=100, deadline=None)
@given(sides, sides, st.sampled_from([(), (3,)]), options_of_all_kinds, st.integers(0, 99))
def test_whatever_goes_in_a_square_of_bytes_comes_out(height, width, channels, options, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8)
    out = preprocess(pixels, options)
    assert out.dtype == np.uint8
    assert out.shape[:2] == (options.size_px, options.size_px)
    assert out.shape[2:] == {"grey": (), "rgb": (3,)}.get(options.colour, channels)


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 200), st.integers(20, 200), st.integers(16, 96))
def test_padding_keeps_ink_that_touches_every_edge(height, width, size_px):
    pixels = page(height, width)
    for edge in (np.s_[0, ::3], np.s_[-1, ::3], np.s_[::3, 0], np.s_[::3, -1]):
        pixels[edge] = 0
    out = preprocess(pixels, ImageOptions(size_px=size_px, invert="never"))
    scale = size_px / max(height, width)
    ink_rows, ink_columns = np.flatnonzero((out < 250).any(axis=1)), np.flatnonzero((out < 250).any(axis=0))
    assert abs(np.ptp(ink_rows) + 1 - round(height * scale)) <= 1
    assert abs(np.ptp(ink_columns) + 1 - round(width * scale)) <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 64), st.integers(0, 99), st.sampled_from(["pad", "squash"]), interpolations)
def test_fitting_a_fitted_grey_square_changes_nothing(size_px, seed, fit, interpolation):
    options = ImageOptions(size_px=size_px, resize=fit, interpolation=interpolation)
    pixels = np.random.default_rng(seed).integers(0, 256, (size_px, size_px), np.uint8)
    once = preprocess(pixels, options)
    np.testing.assert_array_equal(preprocess(once, options), once)


def test_padding_centres_the_picture_on_its_own_paper():
    pixels = np.full((50, 100, 3), (240, 230, 200), np.uint8)
    pixels[20:30, 40:60] = (0, 0, 200)
    out = preprocess(pixels, ImageOptions(size_px=100))
    assert (out[:25] == (240, 230, 200)).all()
    assert (out[75:] == (240, 230, 200)).all()
    np.testing.assert_array_equal(out[25:75], pixels)


def test_squashing_fills_the_square():
    pixels = page(50, 100)
    pixels[:, :50] = 0
    out = preprocess(pixels, ImageOptions(size_px=20, resize="squash", invert="never", interpolation="nearest"))
    assert (out[:, :10] == 0).all()
    assert (out[:, 10:] == 255).all()


def test_paper_is_the_median_of_the_border_in_each_channel():
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:] = [(250, 240, 230)] * 4
    pixels[0, :30] = 0
    assert tuple(paper_colour(pixels)) == (250, 240, 230)
    assert paper_colour(pixels[..., 0]) == 250


def test_light_on_dark_is_turned_to_dark_on_light():
    out = preprocess(255 - with_line(6), ImageOptions(size_px=224))
    np.testing.assert_array_equal(out, preprocess(with_line(6), ImageOptions(size_px=224)))


def test_a_heavily_filled_drawing_with_a_light_border_stays():
    pixels = page(100, 100)
    pixels[10:90, 10:90] = 0
    assert not is_light_on_dark(pixels)
    np.testing.assert_array_equal(preprocess(pixels, ImageOptions(size_px=100)), pixels)


def test_a_dark_frame_around_light_paper_stays():
    pixels = page(100, 100)
    pixels[:5], pixels[-5:], pixels[:, :5], pixels[:, -5:] = [0] * 4
    assert not is_light_on_dark(pixels)


def test_invert_never_leaves_light_on_dark():
    pixels = 255 - with_line(6)
    assert np.median(preprocess(pixels, ImageOptions(size_px=64, invert="never"))) == 0


def test_all_black_becomes_a_blank_page_and_all_white_stays_one():
    for level in (0, 255):
        assert (preprocess(page(30, 40, level), ImageOptions(size_px=32)) == 255).all()


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_inversion_mirrors_lightness_keeps_hue_and_is_its_own_inverse(colour):
    import colorsys

    pixels = np.array([[colour]], np.uint8)
    turned = inverted(pixels)
    hue, lightness, _ = colorsys.rgb_to_hls(*(channel / 255 for channel in colour))
    turned_hue, turned_lightness, _ = colorsys.rgb_to_hls(*(int(channel) / 255 for channel in turned[0, 0]))
    assert turned_hue == pytest.approx(hue)
    assert turned_lightness == pytest.approx(1 - lightness)
    np.testing.assert_array_equal(inverted(turned), pixels)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("source", ["pixels", "grey_jpeg", "rgb_jpeg"])
def test_a_one_pixel_line_survives_an_eightfold_reduction(interpolation, source):
    pixels, options = with_line(1), ImageOptions(size_px=100, interpolation=interpolation)
    if source == "pixels":
        out = preprocess(pixels, options)
    else:
        out = read_drawing(jpeg(pixels if source == "grey_jpeg" else np.stack([pixels] * 3, axis=2)), options)
    assert out.shape == (100, 100)
    assert (out[:, 8:90].min(axis=0) < 247).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_a_reduced_decode_gives_the_picture_of_the_full_decode(interpolation):
    data = jpeg(with_line(8, side=1600))
    options = ImageOptions(size_px=224, interpolation=interpolation)
    full = preprocess(decode_image(data), options).astype(float)
    difference = read_drawing(data, options) - full
    assert 10 * np.log10(255**2 / np.mean(difference**2)) > 38


def test_resizing_is_pillows_own():
    pixels = with_line(3)
    expected = np.asarray(Image.fromarray(pixels).resize((224, 224), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(preprocess(pixels, ImageOptions(size_px=224, interpolation="lanczos")), expected)


@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1), (1, 1)])
@pytest.mark.parametrize("fit", ["pad", "squash", "crop_to_ink"])
def test_absurd_aspects_keep_at_least_a_pixel(shape, fit):
    assert preprocess(page(*shape), ImageOptions(size_px=32, resize=fit)).shape == (32, 32)


def test_cropping_finds_a_small_drawing_despite_specks_of_dust():
    pixels = page(1000, 1000)
    pixels[400:500, 600:700] = 0
    pixels[5, 5] = pixels[990, 20] = pixels[3, 990] = 0
    cropped = crop_to_ink(pixels)
    assert cropped.shape == (110, 110)  # 5 % of 100 on each side
    np.testing.assert_array_equal(cropped, pixels[395:505, 595:705])


def test_cropping_keeps_every_part_of_the_drawing():
    pixels = page(400, 400)
    pixels[50:60, 50:60] = pixels[300:310, 350:360] = 0
    assert crop_to_ink(pixels).shape == (260 + 2 * 16, 310 + 2 * 16)


def test_cropping_finds_ink_that_only_colour_tells_from_paper():
    pixels = np.full((200, 200, 3), 255, np.uint8)
    pixels[50:70, 80:100] = (255, 255, 0)
    assert crop_to_ink(pixels).shape == (22, 22, 3)


def test_a_margin_ends_at_the_pages_edge():
    pixels = page(100, 100)
    pixels[0:40, 0:40] = 0
    assert crop_to_ink(np.pad(pixels, ((0, 100), (0, 100)), constant_values=255)).shape == (42, 42)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_page_stays_whole(level):
    assert crop_to_ink(page(60, 80, level)).shape == (60, 80)


def test_large_pages_are_searched_on_a_reduced_copy_without_losing_thin_lines():
    pixels = page(5000, 3000)
    pixels[1000:2000, 700] = 0
    cropped = crop_to_ink(pixels)
    assert np.count_nonzero(cropped == 0) == 1000
    assert 1100 <= cropped.shape[0] <= 1110


def test_several_squares_of_one_page_are_those_of_the_file(monkeypatch):
    data = jpeg(with_line(8, side=1700))
    wanted = [
        ImageOptions(size_px=64),
        ImageOptions(size_px=96, resize="crop_to_ink"),
        ImageOptions(size_px=700, colour="rgb"),
        ImageOptions(size_px=64, colour="grey"),
    ]
    alone = [read_drawing(data, options) for options in wanted]
    decodes = []
    monkeypatch.setattr(page_module, "decode_image", lambda *args, **more: decodes.append(more) or decode_image(*args, **more))
    for order in (wanted, wanted[::-1]):
        page = Page(data)
        page.ink()
        squares = {options: square_of(page, options) for options in order}
        for options, square in zip(wanted, alone, strict=True):
            np.testing.assert_array_equal(squares[options], square)
    assert [more["min_side_px"] for more in decodes] == [768, 1050, 768, 1050]


def test_crop_decodes_in_full_because_little_may_remain():
    pixels = page(1600, 1600)
    pixels[800:850, 800:850] = 0
    pixels[824:826] = np.where(pixels[824:826] == 0, 255, pixels[824:826])  # a gap that a reduced decode would blur
    out = read_drawing(jpeg(pixels), ImageOptions(size_px=55, resize="crop_to_ink", interpolation="nearest"))
    assert np.ptp(out[:, 27]) > 240
    assert (out[25:30, 27] > 200).any()


@pytest.mark.parametrize("colour", ["auto", "grey", "rgb"])
def test_colour_options_decide_the_channels_of_a_coloured_jpeg(colour):
    pixels = np.full((100, 100, 3), 255, np.uint8)
    pixels[40:60, 40:60] = (220, 0, 0)
    out = read_drawing(jpeg(pixels), ImageOptions(size_px=50, colour=colour))
    assert out.shape == ((50, 50) if colour == "grey" else (50, 50, 3))


def test_a_grey_jpeg_gets_three_channels_where_rgb_is_asked():
    out = read_drawing(jpeg(with_line(5)), ImageOptions(size_px=50, colour="rgb"))
    assert out.shape == (50, 50, 3)
    assert (out == out[..., :1]).all()


def test_reading_passes_the_pixel_limit_on():
    with pytest.raises(BrokenImage, match=r"expected at most 1,?000"):
        read_drawing(jpeg(with_line(5)), ImageOptions(size_px=50, pixel_limit=1000))


def test_reading_doesnt_import_cv2_unless_it_crops():
    import subprocess
    import sys

    program = (
        "import sys, numpy as np; from inkfold.images.preprocess import ImageOptions, preprocess;"
        "preprocess(np.zeros((9, 9), np.uint8), ImageOptions(size_px=5)); assert not {'cv2', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
