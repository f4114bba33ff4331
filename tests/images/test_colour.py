import numpy as np
import pytest

from inkfold.images.colour import is_grey, settle_colour, to_grey


def test_a_picture_is_grey_unless_a_thousandth_of_it_is_coloured():
    pixels = np.full((100, 100, 3), 255, np.uint8)
    pixels[0, :9, 2] = 0
    assert is_grey(pixels)
    assert settle_colour(pixels, "auto").shape == (100, 100)
    pixels[0, 9, 2] = 0
    assert not is_grey(pixels)
    assert settle_colour(pixels, "auto").shape == (100, 100, 3)
    assert settle_colour(pixels, "grey").shape == (100, 100)


@pytest.mark.parametrize(("red", "green", "blue"), [(0, 0, 17), (0, 17, 0), (17, 0, 0), (17, 17, 0), (0, 17, 17)])
def test_the_spread_is_over_all_three_channels(red, green, blue):
    assert not is_grey(np.full((1, 1, 3), (red, green, blue), np.uint8))
    assert is_grey(np.full((1, 1, 3), (red, green, blue), np.uint8) // 17 * 16)


def test_neighbouring_pixels_may_differ_in_a_grey_picture():
    assert is_grey(np.repeat(np.array([[0, 255], [255, 0]], np.uint8)[..., None], 3, axis=2))


def test_luma_is_that_of_itu_r_601():
    pixels = np.array([[(255, 0, 0), (0, 255, 0), (0, 0, 255)]], np.uint8)
    np.testing.assert_array_equal(to_grey(pixels), [[76, 150, 29]])  # 0.299, 0.587, 0.114
