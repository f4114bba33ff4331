import numpy as np
import pytest

from inkfold.images.line_style import UNKNOWN, line_width_px, measure_line_style
from inkfold.images.preprocess import ImageOptions


def ruled(width, side=200, paper=255, ink=0):
    """A frame of lines of one width, a tenth of the side from the edges."""
    page = np.full((side, side), paper, np.uint8)
    margin = side // 10
    page[margin : side - margin, margin : side - margin] = ink
    page[margin + width : side - margin - width, margin + width : side - margin - width] = paper
    return page


@pytest.mark.parametrize("width", [1, 3, 5, 9])
def test_the_width_of_straight_lines_is_found(width):
    assert line_width_px(ruled(width) == 0) == pytest.approx(width, rel=0.1)


@pytest.mark.parametrize(("paper", "ink"), [(255, 0), (240, 30), (0, 255)])
def test_a_page_is_measured_as_the_network_sees_it(paper, ink):
    look = measure_line_style([ruled(5, paper=paper, ink=ink)], ImageOptions(size_px=64))
    light, dark = (paper, ink) if paper > ink else (ink, paper)
    assert (look["paper"], look["ink"]) == (light, dark)
    assert look["line_width_fraction"] == pytest.approx(5 / 200, rel=0.1)
    assert look["margin_fraction"] == pytest.approx(0.1, abs=0.005)


def test_a_crop_leaves_its_own_margin():
    look = measure_line_style([ruled(5)], ImageOptions(size_px=64, resize="crop_to_ink"))
    assert look["margin_fraction"] == pytest.approx(0.05 / 1.1, abs=0.01)


def test_a_long_page_is_measured_by_its_longer_side():
    page = np.full((100, 300), 255, np.uint8)
    page[48:53, 30:270] = 0
    look = measure_line_style([page], ImageOptions(size_px=64))
    assert look["line_width_fraction"] == pytest.approx(5 / 300, rel=0.15)
    assert look["margin_fraction"] == pytest.approx(0.1, abs=0.005)


def test_blank_pages_say_nothing():
    assert measure_line_style([np.full((9, 9), 255, np.uint8)], ImageOptions(size_px=64)) == UNKNOWN
    assert measure_line_style([], ImageOptions(size_px=64)) == UNKNOWN
