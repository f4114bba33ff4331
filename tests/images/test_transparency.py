import numpy as np
import pytest

from inkfold.images.transparency import contrast, flatten

INK = np.array([[0, 255, 255], [255, 0, 255], [255, 255, 0]], np.uint8)


def rgba(grey: np.ndarray, alpha: np.ndarray | int) -> np.ndarray:
    return np.dstack([grey, grey, grey, np.broadcast_to(np.uint8(alpha) if isinstance(alpha, int) else alpha, grey.shape)])


@pytest.mark.parametrize("alpha", [0, 1, 20, 100, 127])
def test_a_low_alpha_that_is_the_same_everywhere_is_ignored(alpha):
    np.testing.assert_array_equal(flatten(rgba(INK, alpha))[..., 0], INK)


def test_a_low_alpha_that_is_nearly_the_same_everywhere_is_ignored():
    alpha = np.arange(9, dtype=np.uint8).reshape(3, 3)
    np.testing.assert_array_equal(flatten(rgba(INK, alpha))[..., 0], INK)


def test_a_half_opaque_page_is_laid_on_white():
    np.testing.assert_array_equal(flatten(rgba(INK, 128))[..., 0], np.where(INK == 0, 127, 255))


def test_an_opaque_page_is_itself():
    np.testing.assert_array_equal(flatten(rgba(INK, 255))[..., 0], INK)


def test_an_invisible_page_without_a_drawing_is_white():
    for level in (0, 120, 255):
        assert (flatten(rgba(np.full((3, 3), level, np.uint8), 0)) == 255).all()


def test_a_faint_stroke_in_the_alpha_is_kept():
    alpha = np.where(INK == 0, 40, 0).astype(np.uint8)
    np.testing.assert_array_equal(flatten(rgba(np.zeros_like(INK), alpha))[..., 0], 255 - alpha)


def test_colours_under_a_transparent_part_do_not_show_where_the_rest_holds_the_drawing():
    hidden, alpha = INK.copy(), np.full((3, 3), 255, np.uint8)
    hidden[0], alpha[0] = 77, 0
    np.testing.assert_array_equal(flatten(rgba(hidden, alpha))[..., 0], [[255, 255, 255], [255, 0, 255], [255, 255, 0]])


def test_contrast_is_that_of_the_channel_with_the_widest_range():
    assert contrast(np.array([[3, 10]], np.uint8)) == 7
    assert contrast(np.array([[(3, 0, 9), (10, 0, 200)]], np.uint8)) == 191
