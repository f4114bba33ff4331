import io
import math

import numpy as np
import pytest
from PIL import Image

from inkfold.images.page import Page
from inkfold.images.statistics import PERCENTILES, STATISTICS, ink_fill, page_statistics


def png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def of(pixels: np.ndarray) -> np.ndarray:
    return page_statistics(Page(png(pixels)))


def test_a_filled_square_on_white_paper_by_hand():
    pixels = np.full((100, 200), 250, np.uint8)
    pixels[10:30, 40:90] = 10
    record = of(pixels)
    assert record.dtype == STATISTICS
    assert (record["height"], record["width"], record["blank"]) == (100, 200, 0)
    box = [float(record[side]) for side in ("top", "left", "bottom", "right")]
    assert box == pytest.approx([0.1, 0.2, 0.3, 0.45], abs=0.021)  # found on a copy of half the size
    assert record["ink_fraction"] == pytest.approx(20 * 50 / 20_000)
    assert [record[f"luma_p{percent}"] for percent in PERCENTILES] == [10, 10, 250, 250, 250, 250, 250]
    assert record["photographed"] == 0


@pytest.mark.parametrize("side_px", [100, 700, 2000])
def test_the_box_of_a_thin_line_is_found_on_pages_of_any_size(side_px):
    pixels = np.full((side_px, side_px), 255, np.uint8)
    pixels[side_px // 2, side_px // 4 : 3 * side_px // 4] = 0
    record = of(pixels)
    box = [float(record[side]) for side in ("top", "left", "bottom", "right")]
    assert box == pytest.approx([0.5, 0.25, 0.5, 0.75], abs=0.011)


def test_colour_alone_is_ink():
    pixels = np.full((60, 60, 3), 255, np.uint8)
    pixels[20:40, 20:40] = (255, 255, 0)
    record = of(pixels)
    assert record["ink_fraction"] == pytest.approx(1 / 9)
    assert record["blank"] == 0


def test_a_blank_page_has_no_box():
    record = of(np.full((60, 80), 128, np.uint8))
    assert record["blank"] == 1
    assert record["ink_fraction"] == 0
    assert all(math.isnan(record[side]) for side in ("top", "left", "bottom", "right"))
    assert {float(record[f"luma_p{percent}"]) for percent in PERCENTILES} == {128.0}


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (2, 2, 3), (1, 1, 3)])
def test_any_shape_has_a_record(shape):
    assert of(np.zeros(shape, np.uint8))["blank"] == 1


def test_a_drawing_fills_its_page_by_its_longer_side_and_a_blank_page_is_filled():
    page = np.full((100, 200), 255, np.uint8)
    page[10:20, 40:140] = 0
    drawn, blank = of(page), np.full((), np.nan, STATISTICS)
    np.testing.assert_allclose(ink_fill(np.array([drawn, blank])), [0.5, 1.0], atol=0.02)
