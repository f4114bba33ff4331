import io

import numpy as np
import pytest
from PIL import Image

from inkfold.images.decode import BrokenImage, decode_image, settle_colour
from inkfold.images.page import Page
from inkfold.images.preprocess import ink_depth, paper_colour


def encoded(side_px: int, name: str, ink: tuple[int, int, int] = (0, 0, 0)) -> bytes:
    pixels = np.full((side_px, side_px, 3), 255, np.uint8)
    pixels[side_px // 4 : side_px // 2, side_px // 4 : side_px // 2] = ink
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, name)
    return data.getvalue()


@pytest.mark.parametrize(("side_px", "expected"), [(1535, 1535), (1536, 768), (3072, 768), (200, 200)])
def test_a_jpeg_keeps_768_pixels_on_both_sides(side_px, expected):
    assert Page(encoded(side_px, "JPEG")).pixels().shape == (expected, expected)


def test_other_formats_and_a_demand_for_every_pixel_are_not_reduced():
    assert Page(encoded(1600, "PNG")).pixels().shape == (1600, 1600)
    page = Page(encoded(1600, "JPEG"))
    assert (page.pixels(min_side_px=0).shape, page.pixels().shape) == ((1600, 1600), (800, 800))


@pytest.mark.parametrize("name", ["PNG", "JPEG"])
@pytest.mark.parametrize("ink", [(0, 0, 0), (200, 20, 20)])
def test_colours_are_settled_as_the_decoder_settles_them(name, ink):
    data = encoded(100, name, ink)
    for order in (("auto", "grey", "rgb"), ("rgb", "grey", "auto"), ("grey", "auto", "rgb")):
        page = Page(data)
        for colour in order:
            # the luma of the colours that are seen: a JPEG's own differs where its colours leave the screen's
            expected = settle_colour(decode_image(data, colour="rgb"), colour)
            np.testing.assert_array_equal(page.pixels(colour), expected)


def test_ink_is_that_of_the_page_as_it_is():
    page = Page(encoded(100, "PNG", (255, 255, 0)))
    np.testing.assert_array_equal(page.ink(), ink_depth(page.pixels(), paper_colour(page.pixels())))
    assert (page.ink() > 0).sum() == 25 * 25


def test_a_broken_file_is_broken_each_time():
    page = Page(b"no image")
    for ask in (page.pixels, page.ink, page.pixels):
        with pytest.raises(BrokenImage):
            ask()


def test_the_pixel_limit_is_kept():
    with pytest.raises(BrokenImage, match="expected at most 9999"):
        Page(encoded(100, "PNG"), pixel_limit=9999).pixels()
